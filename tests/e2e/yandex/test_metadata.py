"""The metadata service: programs of this machine get IAM tokens of one service account, and no others do."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import pytest
from yandex.cloud.iot.devices.v1 import registry_service_pb2, registry_service_pb2_grpc
from yandexcloud import SDK  # type: ignore[attr-defined]  # re-exported without saying so

from tests.e2e.access.local_admin import LocalAdmin
from tests.e2e.commands import thingmint
from tests.e2e.test_reload import until
from tests.e2e.yandex.clients import Cloud, Refused
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thingmint.testing import RunningServer

PATH = "/computeMetadata/v1/instance/service-accounts/default/token"
FLAVOR = {"metadata-flavor": "Google"}


class Machine(NamedTuple):
    server: RunningServer
    cloud: Cloud
    service_account: str
    name: str
    port: int

    def ask(self, method: str = "GET", path: str = PATH, **options: Any) -> httpx.Response:
        options.setdefault("headers", FLAVOR)
        return httpx.request(method, f"http://127.0.0.1:{self.port}{path}", trust_env=False, **options)

    def token(self) -> str:
        token: str = self.ask().json()["access_token"]
        return token


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    data = tmp_path_factory.mktemp("metadata") / "data"
    with running_server(data) as server:
        admin = LocalAdmin(server)
        principal = admin.principal("service-account")
        folder = server.environment("yandex")["THINGMINT_YC_FOLDER_ID"]
        admin.attach(principal, "yandex/iot.editor", f"yandex:folder/{folder}")
        id = admin.key(principal)["service_account_id"]
    settings = {"THINGMINT_YANDEX_METADATA_PORT": "0", "THINGMINT_YANDEX_METADATA_SERVICE_ACCOUNT": id}
    with running_server(data, environment=settings) as server:
        cloud = Cloud(server)
        yield Machine(server, cloud, id, principal, server.ports["yandex-metadata"])
        cloud.close()


def create(cloud: Cloud, token: str) -> Any:
    request = registry_service_pb2.CreateRegistryRequest(folder_id=cloud.folder)
    return cloud.grpc.call("RegistryService/Create", request, token=token)


def test_the_answer_is_what_the_sdks_read(machine: Machine) -> None:
    answer = machine.ask()
    assert answer.status_code == 200
    assert answer.headers["metadata-flavor"] == "Google"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body.keys() == {"access_token", "expires_in", "token_type"}
    assert body["token_type"] == "Bearer"
    assert 3590 <= body["expires_in"] <= 3600
    assert create(machine.cloud, body["access_token"]).created_by == machine.service_account


def test_the_sdk_without_credentials_uses_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YC_METADATA_ADDR", f"127.0.0.1:{machine.port}")
    environment = machine.server.environment("yandex")
    sdk = SDK(endpoint=environment["THINGMINT_YC_ENDPOINT"], root_certificates=machine.server.ca.read_bytes())
    registries = sdk.client(registry_service_pb2_grpc.RegistryServiceStub)
    request = registry_service_pb2.CreateRegistryRequest(folder_id=environment["THINGMINT_YC_FOLDER_ID"])
    assert registries.Create(request).created_by == machine.service_account


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"metadata-flavor": "google"},
        {"metadata-flavor": "Google, Google"},
        {**FLAVOR, "host": "attacker.example"},
        {**FLAVOR, "host": "127.0.0.1.attacker.example:8081"},
        {**FLAVOR, "host": "192.0.2.1"},
        {**FLAVOR, "host": ""},
        {**FLAVOR, "origin": "http://attacker.example"},
        {**FLAVOR, "sec-fetch-site": "cross-site"},
        {**FLAVOR, "x-forwarded-for": "192.0.2.1"},
        {**FLAVOR, "forwarded": "for=192.0.2.1"},
    ],
)
def test_requests_made_for_others_are_refused(machine: Machine, headers: dict[str, str]) -> None:
    answer = machine.ask(headers=headers)
    assert answer.status_code == 403
    assert "access_token" not in answer.text


def test_a_header_must_be_there_once(machine: Machine) -> None:
    for doubled in ("Metadata-Flavor: Google", "Host: localhost"):
        head = "\r\n".join(["Host: localhost", "Metadata-Flavor: Google", doubled, "Connection: close"])
        with socket.create_connection(("127.0.0.1", machine.port), timeout=20) as connection:
            connection.sendall(f"GET {PATH} HTTP/1.1\r\n{head}\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.split()[1] in (b"400", b"403"), answer
        assert b"access_token" not in answer


@pytest.mark.parametrize("host", ["localhost", "localhost:8081", "127.0.0.1", "[::1]:80", "169.254.169.254"])
def test_names_of_this_machine_are_served(machine: Machine, host: str) -> None:
    assert machine.ask(headers={**FLAVOR, "host": host}).status_code == 200


def test_nothing_else_is_served(machine: Machine) -> None:
    for path in ("/", "/computeMetadata/v1/instance/id", f"{PATH}/", "/v1/audit", "/iam/v1/tokens", "/healthz"):
        answer = machine.ask(path=path)
        assert (answer.status_code, answer.has_redirect_location) == (404, False)
    for method in ("POST", "PUT", "HEAD", "DELETE", "OPTIONS"):
        assert machine.ask(method).status_code == 404
    assert machine.ask("GET", content=b"x").status_code == 400


def test_tokens_are_audited_and_end_with_the_service_account(machine: Machine) -> None:
    token = machine.token()
    headers = {"authorization": f"Bearer {machine.server.token}"}

    def record() -> Any:
        parameters = {"event": "MetadataService.GetToken", "outcome": "success"}
        answer = httpx.get(f"{machine.server.http_url}/v1/audit", params=parameters, headers=headers)
        return next(iter(answer.json()["data"]["records"]), None)

    made = until(record, "the token is not recorded")
    assert made["principal"].endswith(f"/{machine.name.partition('/')[2]}")
    assert made["address"] == "127.0.0.1"
    admin, name = LocalAdmin(machine.server), machine.name.partition("/")[2]
    admin.ask("service-account.disable", name=name)
    with pytest.raises(Refused, match="UNAUTHENTICATED"):
        create(machine.cloud, token)
    assert machine.ask().status_code == 404
    admin.ask("service-account.enable", name=name)
    assert create(machine.cloud, token).done


def test_it_is_off_by_default(server: RunningServer) -> None:
    assert "yandex-metadata" not in server.ports
    assert httpx.get(f"{server.http_url}{PATH}", headers=FLAVOR).status_code == 401


@pytest.mark.parametrize("account", [None, "aje00000000000000000"])
def test_the_service_account_must_exist(tmp_path: Path, account: str | None) -> None:
    settings = {"THINGMINT_YANDEX_METADATA_PORT": "0"}
    if account is not None:
        settings["THINGMINT_YANDEX_METADATA_SERVICE_ACCOUNT"] = account
    ports = [f"--{name}-port=0" for name in ("api", "http", "grpc", "mqtt")]
    done = thingmint("serve", "--data-dir", tmp_path / "data", *ports, env=settings)
    assert done.returncode != 0
    assert "yandex-metadata-service-account" in done.stderr
