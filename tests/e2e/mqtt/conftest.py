"""One server for all MQTT gateway tests of a worker, with three accounts. Each account has an endpoint name."""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import allow, database, document, keys_of
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.logs import check_log
from tests.e2e.mqtt.devices import Credential, Device, credential
from thingmint.testing import RunningServer, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


ALLOW_ALL = allow("iot:*")


@dataclass(frozen=True)
class Devices:
    """The devices of one account. They send its ``endpoint`` as server name (SNI)."""

    server: RunningServer
    iot: Any
    account: str
    endpoint: str
    keys: dict[str, Any]
    folder: Path

    def arn(self, resource: str) -> str:
        return f"arn:aws:iot:us-east-1:{self.account}:{resource}"

    def register(self, made: Credential, *statements: Any, status: str = "ACTIVE") -> Credential:
        """Registers a certificate, with a policy if there are ``statements``."""
        answer = self.iot.register_certificate_without_ca(certificatePem=made.pem, status=status)
        assert answer["certificateId"] == made.fingerprint
        registered = replace(made, arn=answer["certificateArn"])
        if statements:
            self.attach(registered, *statements)
        return registered

    def credential(self, *statements: Any, status: str = "ACTIVE", **facts: Any) -> Credential:
        """Returns a registered credential. Without ``statements`` it may do everything."""
        return self.register(credential(self.folder, **facts), *(statements or [ALLOW_ALL]), status=status)

    def attach(self, target: Credential | str, *statements: Any) -> str:
        """Attaches a new policy to a certificate, or to the group with that ARN. Returns the policy's name."""
        name = self.policy(*statements)
        self.iot.attach_policy(policyName=name, target=target if isinstance(target, str) else target.arn)
        return name

    def policy(self, *statements: Any) -> str:
        name = f"p-{secrets.token_hex(6)}"
        self.iot.create_policy(policyName=name, policyDocument=document(*statements))
        return name

    def set_status(self, made: Credential, status: str) -> None:
        self.iot.update_certificate(certificateId=made.fingerprint, newStatus=status)

    def dial(self, made: Credential | None, version: Any = 5, **options: Any) -> Device:
        """Returns a connection after the TLS handshake, before CONNECT."""
        return Device(self.server, made, version, **{"endpoint": self.endpoint, **options})

    def connected(
        self, made: Credential | None = None, client_id: str = "", *, version: Any = 5, **fields: Any
    ) -> Device:
        """Returns a connected device; by default a new one that may do everything."""
        device = self.dial(made or self.credential(), version)
        try:
            device.connect(client_id or new_name(), **fields)
        except BaseException:
            device.drop()
            raise
        return device

    def log(self, made: Credential, event: str) -> list[dict[str, Any]]:
        """Returns the server's log lines of an event about a certificate."""
        lines = self.server.output.read_text(errors="replace").splitlines()
        found = [json.loads(line) for line in lines if made.fingerprint in line]
        return [line for line in found if line["event"] == event]


def new_name(what: str = "device") -> str:
    return f"{what}-{secrets.token_hex(6)}"


@dataclass(frozen=True)
class Gateway:
    """``mine`` (the default account) and ``other`` have default settings; ``lax`` has the opposite settings.

    A TLS proxy may connect at ``proxy_socket``, or at the port "mqtt-proxy" with the certificate ``proxy``.
    """

    server: RunningServer
    proxy_socket: Path
    proxy: Credential
    mine: Devices
    other: Devices
    lax: Devices


LAX = {"check_validity": "false", "weak_keys": "true", "suback_refusals": "true", "retained_on_wildcards": "true"}


def _made(*command: str | Path) -> Any:
    done = in_process(*command, "--output", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextlib.contextmanager
def opened_gateway(folder: Path, **environment: str) -> Iterator[Gateway]:
    data, proxy_socket, proxy = folder / "data", folder / "proxy.sock", credential(folder)
    _made("init", "--data-dir", data)
    accounts: dict[str, dict[str, Any]] = {
        name: _made("access", "account", "create", name, "--data-dir", data) for name in ("mine", "other", "lax")
    }
    with database(data) as db:
        rows = [(accounts["lax"]["account"], name, value) for name, value in LAX.items()]
        db.executemany("INSERT INTO account_settings (account, name, value) VALUES (?, ?, ?)", rows)
    endpoints = {
        f"{name}.iot.example.org": {"account": made["account"], "region": "us-east-1"}
        for name, made in accounts.items()
    }
    variables = {
        "THINGMINT_ENDPOINTS": json.dumps(endpoints),
        "THINGMINT_DEFAULT_ACCOUNT": accounts["mine"]["account"],
        "THINGMINT_MQTT_ALPN_PORT": "0",
        "THINGMINT_MQTT_PROXY_SOCKET": str(proxy_socket),
        "THINGMINT_MQTT_PROXY_PORT": "0",
        "THINGMINT_MQTT_PROXY_FINGERPRINTS": json.dumps([proxy.fingerprint]),
        "THINGMINT_MQTT_RATES": json.dumps({"publishes": 0, "subscribes": 0, "received": 0}),  # so that tests can flood
        **environment,
    }
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running_server(data, arguments=["--log-format=json"], environment=variables))
        fleets = {}
        for name, made in accounts.items():
            iot = stack.enter_context(contextlib.closing(iot_client(server, **keys_of(made))))
            fleets[name] = Devices(server, iot, made["account"], f"{name}.iot.example.org", made, folder)
        yield Gateway(server, proxy_socket, proxy, **fleets)


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with opened_gateway(tmp_path_factory.mktemp("gateway")) as opened:
        yield opened
        # No test of this worker caused an unexpected error.
        log = opened.server.output.read_text(errors="replace")
        check_log(log)


@pytest.fixture
def mine(gateway: Gateway) -> Devices:
    return gateway.mine
