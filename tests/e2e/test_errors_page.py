"""What docs/errors.md says of a code is what a server answers: a sample of each API's, and of the commands'."""

from __future__ import annotations

import secrets
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.documents import names_in, page, sections, tables
from tests.e2e.commands import in_process
from tests.e2e.signing import Signer
from tests.e2e.wire import answers

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.testing import RunningServer

SECTIONS = sections(page("errors"))


def documented(section: str, code: str, column: str = "HTTP") -> int:
    [row] = [row for row in tables(SECTIONS[section])[0] if code in names_in(row["code"])]
    return int(row[column])


AWS: dict[str, tuple[str, str, bytes]] = {
    "CertificateStateException": ("DELETE", "/certificates/{active}", b""),
    "CertificateValidationException": ("POST", "/certificate/register-no-ca", b'{"certificatePem": "x"}'),
    "InvalidRequestException": ("GET", "/certificates?pageSize=0", b""),
    "MalformedPolicyException": ("POST", "/policies/{new}", b'{"policyDocument": "{}"}'),
    "NotImplementedException": ("GET", "/jobs", b""),
    "ResourceAlreadyExistsException": ("POST", "/policies/{policy}", b'{"policyDocument": "%s"}'),
    "ResourceNotFoundException": ("GET", f"/certificates/{'0' * 64}", b""),
    "UnknownOperationException": ("GET", "/nothing/of/this/kind", b""),
    "DeleteConflictException": ("DELETE", "/policies/{attached}", b""),
    "VersionConflictException": ("PATCH", "/things/{thing}", b'{"expectedVersion": 9}'),
    "VersionsLimitExceededException": ("POST", "/policies/{full}/version", b'{"policyDocument": "%s"}'),
}

POLICY = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'


@pytest.fixture(scope="module")
def names(iot: Any) -> dict[str, str]:
    """Resources in the states that the requests above need."""
    made = {name: f"{name}-{secrets.token_hex(4)}" for name in ("new", "policy", "attached", "full", "thing")}
    for name in ("policy", "attached", "full"):
        iot.create_policy(policyName=made[name], policyDocument=POLICY)
    for _ in range(4):
        iot.create_policy_version(policyName=made["full"], policyDocument=POLICY)
    created = iot.create_keys_and_certificate(setAsActive=True)
    iot.attach_policy(policyName=made["attached"], target=created["certificateArn"])
    iot.create_thing(thingName=made["thing"])
    return made | {"active": created["certificateId"]}


@pytest.mark.parametrize("code", AWS)
def test_codes_of_the_aws_api(signer: Signer, names: dict[str, str], code: str) -> None:
    method, target, body = AWS[code]
    body = body.replace(b"%s", POLICY.replace('"', '\\"').encode())
    answer = signer.send(method, target.format(**names), body=body)
    assert (answer.aws_code, answer.status) == (code, documented("AWS API", code))


def test_codes_of_the_aws_api_for_credentials(server: RunningServer, signer: Signer) -> None:
    late = datetime.now(UTC) - timedelta(minutes=16)
    head = b"GET /certificates HTTP/1.1\r\nhost: localhost\r\n"
    unknown = Signer(server, "AKIAAAAAAAAAAAAAAAAA", "x" * 40, signer.region)
    found = {
        answer.aws_code: answer.status
        for answer in (
            signer.send("GET", "/certificates", at=late),
            unknown.send("GET", "/certificates"),
            *answers(
                server, b"GET /certificates HTTP/1.1\r\nhost: localhost\r\nauthorization: AWS4-HMAC-SHA256 x\r\n\r\n"
            ),
            *answers(server, head + b"\r\n"),
        )
    }
    expected = (
        "InvalidSignatureException",
        "UnrecognizedClientException",
        "IncompleteSignatureException",
        "MissingAuthenticationTokenException",
    )
    assert found == {code: documented("AWS API", code) for code in expected}


@pytest.mark.parametrize(
    ("code", "method", "path", "body", "token"),
    [
        ("VALIDATION_ERROR", "POST", "/v1/certificates", "{", True),
        ("UNAUTHENTICATED", "GET", "/v1/certificates", None, False),
        ("NOT_FOUND", "GET", f"/v1/certificates/{'0' * 64}", None, True),
        ("METHOD_NOT_ALLOWED", "DELETE", "/v1/certificates", None, True),
    ],
)
def test_codes_of_the_native_api(
    server: RunningServer, code: str, method: str, path: str, body: str | None, token: bool
) -> None:
    headers = {"authorization": f"Bearer {server.token}"} if token else {"authorization": "Bearer nonsense"}
    answer = httpx.request(method, f"{server.http_url}{path}", content=body, headers=headers)
    assert (answer.json()["error"]["code"], answer.status_code) == (code, documented("Native API", code))


@pytest.mark.parametrize(
    ("code", "path", "token"),
    [
        ("UNAUTHENTICATED", "/iot-devices/v1/devices/x", None),
        ("UNAUTHENTICATED", "/iot-devices/v1/devices/x", "t1.nonsense"),
        ("NOT_FOUND", "/iot-devices/v1/nothing", "own"),
        ("NOT_FOUND", "/iot-devices/v1/devices/are00000000000000000", "own"),
        ("INVALID_ARGUMENT", "/iot-devices/v1/registries?folderId=x&pageSize=-1", "own"),
    ],
)
def test_codes_of_the_yandex_api(server: RunningServer, code: str, path: str, token: str | None) -> None:
    if token == "own":
        body = {"yandexPassportOauthToken": server.token}
        token = httpx.post(f"{server.http_url}/iam/v1/tokens", json=body).json()["iamToken"]
    headers = {"authorization": f"Bearer {token}"} if token else {}
    answer = httpx.get(f"{server.http_url}{path}", headers=headers)
    assert answer.json()["code"] == documented("Yandex API", code, "number")
    assert answer.status_code == documented("Yandex API", code)


@pytest.mark.parametrize(
    ("raw", "status"), [(b"nonsense\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nx: " + b"y" * 66_000 + b"\r\n\r\n", 431)]
)
def test_answers_before_an_api(server: RunningServer, raw: bytes, status: int) -> None:
    [answer] = answers(server, raw)
    codes = [names_in(row["code"])[0] for row in tables(SECTIONS["Before an API"])[0] if row["HTTP"] == str(status)]
    assert (answer.status, [answer.json()["error"]["code"]]) == (status, codes)


def test_messages_of_a_server_that_does_not_start(server: RunningServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        others = ("--http-port", "0", "--grpc-port", "0", "--mqtt-port", "0")
        used = in_process("serve", "--data-dir", tmp_path / "data", "--api-port", port, *others)
    held = in_process("serve", "--data-dir", server.data_dir, "--api-port", "0", *others)
    strange = in_process("serve", "--data-dir", tmp_path)
    for done, message in (
        (used, f"api-port: 127.0.0.1:{port} cannot be listened on (Address already in use)"),
        (held, f"data-dir: {server.data_dir} is in use by another thingmint process"),
        (strange, f"data-dir: {tmp_path} is not empty (data) and holds no Thingmint instance"),
    ):
        assert (done.returncode, done.stderr.startswith(f"thingmint: {message}")) == (2, True), done.stderr
