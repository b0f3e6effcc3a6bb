"""Owners of Yandex IoT Core with their credentials, and their connections, packet by packet."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from yandex.cloud.iot.broker.v1 import broker_pb2, broker_service_pb2

from tests.e2e.mqtt.devices import Closed, Device, credential
from tests.e2e.yandex.clients import PASSWORD, done

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.mqtt.devices import Credential
    from tests.e2e.yandex.clients import Cloud
    from thingmint.mqtt.protocol.packets import Version
    from thingmint.mqtt.protocol.reasons import Reason

WRONG = "Wrong-password-000"
NAMES = ("registry", "device", "other", "broker")


class Owners:
    """A registry with the devices "device" and "other", and a broker. Each has a certificate and PASSWORD."""

    def __init__(self, cloud: Cloud, folder: Path, **device_fields: Any) -> None:
        self.cloud = cloud
        self.folder = folder
        self.credentials = {name: credential(folder, name="localhost") for name in NAMES}
        self.ids: dict[str, str] = {}
        self.ids["registry"] = cloud.registry(**self._fields("registry"))
        self.ids["device"] = cloud.device(self.registry, **self._fields("device"), **device_fields)
        self.ids["other"] = cloud.device(self.registry, **self._fields("other"))
        request = broker_service_pb2.CreateBrokerRequest(folder_id=cloud.folder, **self._fields("broker"))
        self.ids["broker"] = done(cloud.grpc.call("BrokerService/Create", request), broker_pb2.Broker).id

    def _fields(self, name: str) -> dict[str, Any]:
        return {"certificates": [{"certificate_data": self.credentials[name].pem}], "password": PASSWORD}

    @property
    def registry(self) -> str:
        return self.ids["registry"]

    @property
    def device(self) -> str:
        return self.ids["device"]

    @contextlib.contextmanager
    def connected(
        self, name: str, client_id: str = "Test_Device_Client", version: Version = 4, **fields: Any
    ) -> Iterator[Device]:
        """A connection by the certificate of that owner."""
        with Device(self.cloud.server, self.credentials[name], version) as device:
            device.connect(client_id, **fields)
            yield device

    def log_in(
        self,
        user_name: str | None,
        password: str | bytes | None = PASSWORD,
        certificate: Credential | None = None,
        version: Version = 5,
        **options: Any,
    ) -> Reason | None:
        """The answer to CONNECT; None if the connection was closed without one."""
        given = password.encode() if isinstance(password, str) else password
        with Device(self.cloud.server, certificate, version, **options) as device:
            try:
                return device.connect("client", username=user_name, password=given).reason
            except Closed as closed:
                return closed.reason
