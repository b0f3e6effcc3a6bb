"""A server with two accounts whose endpoints have names."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.access.local_admin import LocalAdmin, keys_of
from tests.e2e.ca_certificates.devices import Devices
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.material import new_issuer
from tests.issuers import Issuer, pem
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Owner:
    """An account that brings authorities along; its devices name ``endpoint``."""

    iot: Any
    number: str
    endpoint: str
    devices: Devices
    local_admin: LocalAdmin
    token: str

    def native(self, path: str) -> Any:
        """What the native API's GET answers."""
        url = f"http://127.0.0.1:{self.local_admin.server.ports['http']}{path}"
        answer = httpx.get(url, headers={"authorization": f"Bearer {self.token}"}).json()
        assert answer["success"], answer
        return answer["data"]

    def prove(self, issuer: Issuer, **further: Any) -> str:
        """Registers it as DEFAULT, ACTIVE and registering devices by itself; the id."""
        code = self.iot.get_registration_code()["registrationCode"]
        given = {"setAsActive": True, "allowAutoRegistration": True, **further}
        answer = self.iot.register_ca_certificate(
            caCertificate=issuer.pem, verificationCertificate=pem(issuer.sign(code)), **given
        )
        assert answer["certificateId"] == issuer.fingerprint
        return issuer.fingerprint

    def issuer(self, **further: Any) -> Issuer:
        """A new one that is registered."""
        issuer = new_issuer()
        self.prove(issuer, **further)
        return issuer

    def audit(self, word: str) -> list[dict[str, Any]]:
        """The records that have it in them."""
        done = in_process("audit", "export", "--data-dir", self.local_admin.data)
        assert done.returncode == 0, done.stderr
        return [json.loads(line)["record"] for line in done.stdout.splitlines() if word in line]

    def log(self, fingerprint: str, event: str) -> list[dict[str, Any]]:
        """The server's lines of that kind about a certificate."""
        lines = self.local_admin.server.output.read_text(errors="replace").splitlines()
        return [told for line in lines if fingerprint in line and (told := json.loads(line))["event"] == event]

    def status(self, fingerprint: str) -> str:
        status: str = self.iot.describe_certificate(certificateId=fingerprint)["certificateDescription"]["status"]
        return status


@pytest.fixture(scope="session")
def owners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Owner, Owner]]:
    folder = tmp_path_factory.mktemp("authorities")
    data = folder / "data"

    def made(*command: str) -> Any:
        done = in_process(*command, "--data-dir", data, "--output", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    made("init")
    accounts = [made("access", "account", "create", name) for name in ("one", "two")]
    endpoints = {
        f"{new['account']}.iot.example.org": {"account": new["account"], "region": "us-east-1"} for new in accounts
    }
    environment = {"THINGMINT_ENDPOINTS": json.dumps(endpoints)}
    with (
        running_server(data, arguments=["--log-format=json", "--key-pool=0"], environment=environment) as server,
        contextlib.ExitStack() as stack,
    ):
        found = []
        for new in accounts:
            iot = stack.enter_context(contextlib.closing(iot_client(server, **keys_of(new))))
            number = new["account"]
            endpoint = f"{number}.iot.example.org"
            found.append(
                Owner(
                    iot, number, endpoint, Devices(server, endpoint, folder), LocalAdmin(server, number), new["token"]
                )
            )
        yield found[0], found[1]
        log = server.output.read_text(errors="replace")
        assert "Traceback" not in log
        assert '"level":"error"' not in log


@pytest.fixture
def owner(owners: tuple[Owner, Owner]) -> Owner:
    return owners[0]


@pytest.fixture
def other(owners: tuple[Owner, Owner]) -> Owner:
    return owners[1]
