"""A server with two accounts that have assigned host names."""

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
from tests.e2e.logs import check_log
from tests.e2e.material import new_issuer
from tests.issuers import Issuer, pem
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Owner:
    """An account that registers its CAs. Its devices send the host name ``endpoint``."""

    iot: Any
    number: str
    endpoint: str
    devices: Devices
    local_admin: LocalAdmin
    token: str

    def native(self, path: str) -> Any:
        """Return the data of a GET of the native API."""
        url = f"http://127.0.0.1:{self.local_admin.server.ports['http']}{path}"
        answer = httpx.get(url, headers={"authorization": f"Bearer {self.token}"}).json()
        assert answer["success"], answer
        return answer["data"]

    def prove(self, issuer: Issuer, **further: Any) -> str:
        """Register a CA as DEFAULT and ACTIVE, with automatic registration, and return its id."""
        code = self.iot.get_registration_code()["registrationCode"]
        given = {"setAsActive": True, "allowAutoRegistration": True, **further}
        answer = self.iot.register_ca_certificate(
            caCertificate=issuer.pem, verificationCertificate=pem(issuer.sign(code)), **given
        )
        assert answer["certificateId"] == issuer.fingerprint
        return issuer.fingerprint

    def issuer(self, **further: Any) -> Issuer:
        """Return a new, registered CA."""
        issuer = new_issuer()
        self.prove(issuer, **further)
        return issuer

    def audit(self, word: str) -> list[dict[str, Any]]:
        """Return the audit records that contain ``word``."""
        done = in_process("audit", "export", "--data-dir", self.local_admin.data)
        assert done.returncode == 0, done.stderr
        return [json.loads(line)["record"] for line in done.stdout.splitlines() if word in line]

    def log(self, fingerprint: str, event: str) -> list[dict[str, Any]]:
        """Return the server's log lines with that event about a certificate."""
        lines = self.local_admin.server.output.read_text(errors="replace").splitlines()
        return [entry for line in lines if fingerprint in line and (entry := json.loads(line))["event"] == event]

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
        check_log(log)


@pytest.fixture
def owner(owners: tuple[Owner, Owner]) -> Owner:
    return owners[0]


@pytest.fixture
def other(owners: tuple[Owner, Owner]) -> Owner:
    return owners[1]
