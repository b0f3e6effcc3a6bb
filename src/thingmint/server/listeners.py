"""Makes the listeners, and what answers behind them: the APIs, the console and the MQTT gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.http.listener import HttpListener
from thingmint.server.apis import front, grpc_listener, http_apis, invoker_of, metadata_listeners, yandex_api
from thingmint.server.console import console_of
from thingmint.server.device_credentials import credentials_listener, device_credentials
from thingmint.server.gateways import gateway_of
from thingmint.server.sockets import mqtt_ports

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.mqtt.gateway import Gateway
    from thingmint.mqtt.listener import MqttListener
    from thingmint.server.console import ConsoleParts
    from thingmint.server.core import Core
    from thingmint.server.sockets import Sockets
    from thingmint.yandex.grpc_listener import GrpcListener


@dataclass(frozen=True, slots=True)
class Listeners:
    """The listeners of the APIs, and those of ``gateway`` (``mqtt``), by name. ``console`` is None if it is off."""

    apis: Mapping[str, HttpListener | GrpcListener]
    mqtt: Mapping[str, MqttListener]
    gateway: Gateway
    console: ConsoleParts | None

    @classmethod
    async def of(cls, core: Core, sockets: Sockets) -> Listeners:
        """Raises ConfigError."""
        access, limits, refusals = core.access, core.limits, core.reports.connections.refusals
        yandex = yandex_api(core)
        apis = http_apis(core, yandex)
        ports = sockets.ports()
        console = console_of(core, ports, invoker_of(core, apis, ports["api"]))
        app = front(core, apis, console.api if console is not None else None)
        issuer = device_credentials(core)
        grpc = grpc_listener(core, yandex, sockets.grpc)
        tls = core.certificates.tls.context
        listeners: dict[str, HttpListener | GrpcListener] = {
            "api": HttpListener(app, sockets.api, limits["api"], refusals, access.memory, tls, grpc.take),
            "http": HttpListener(app, sockets.http, limits["http"], refusals, access.memory),
            "grpc": grpc,
        }
        listeners |= await metadata_listeners(core)
        gateway = gateway_of(core)
        if core.settings.credentials_port is not None:
            listeners["credentials"] = credentials_listener(core, issuer, gateway.contexts)
        return cls(listeners, sockets.mqtt, gateway, console)

    def ports(self) -> dict[str, int]:
        """The ports by listener, as in listeners.json."""
        return {name: listener.port for name, listener in self.apis.items()} | mqtt_ports(self.mqtt)
