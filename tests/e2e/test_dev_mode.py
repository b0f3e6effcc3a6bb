"""`serve --dev`: programs on this machine need no credentials, web pages do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.e2e.commands import in_process
from tests.e2e.material import csr_pem
from tests.e2e.signing import Signer
from tests.e2e.wire import exchange
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thingmint.testing import RunningServer

_MINT = "/keys-and-certificate"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    data = tmp_path_factory.mktemp("dev") / "data"
    made = in_process("init", "--data-dir", data, "--hostname=iot.example.org")
    assert made.returncode == 0, made.stderr
    with running_server(data, arguments=["--dev"]) as running:
        yield running


def count(server: RunningServer) -> int:
    answer = exchange(server, "GET", "/v1/certificates?page_size=250", {"authorization": f"Bearer {server.token}"})
    return len(answer.json()["data"]["certificates"])


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "LocalHost",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:8443",
        "iot.example.org",
        "iot.us-east-1.amazonaws.com",
        "iot.us-east-1.amazonaws.com:80",
    ],
)
def test_programs_are_authenticated_as_the_developer(dev: RunningServer, developer: str, host: str, tls: bool) -> None:
    body = json.dumps({"csr": csr_pem()}).encode()  # with a CSR, so that the server makes no key
    answer = exchange(dev, "POST", "/v1/certificates", {"host": host}, body, tls=tls)
    assert answer.status == 200
    assert answer.json()["data"]["arn"].split(":")[4] == developer


@pytest.fixture(scope="module")
def developer(dev: RunningServer) -> str:
    """The account of the token. Checks that a request without the token issues a certificate in this account."""
    token = exchange(dev, "POST", _MINT, {"authorization": f"Bearer {dev.token}"}).json()["data"]
    minted = exchange(dev, "POST", _MINT, {"host": "localhost"}).json()["data"]
    [account] = {str(made["arn"]).split(":")[4] for made in (token, minted)}
    return account


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example.com"},
        {"host": "evil.example.com:8080"},
        {"host": "localhost.evil.example.com"},
        {"host": "iot.us-east-1.amazonaws.com.evil.example.com"},
        {"host": "iot.eu-west-1.amazonaws.com"},
        {"host": "localhost@evil.example.com"},
        {"host": "127.0.0.2"},
        {"host": ""},
        {"origin": "https://evil.example.com"},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "Cross-Site"},
        {"sec-fetch-site": ""},
        {"sec-fetch-site": "none", "origin": "http://localhost"},
    ],
)
@pytest.mark.parametrize(("method", "target"), [("POST", _MINT), ("GET", "/v1/certificates")])
def test_web_pages_are_refused(dev: RunningServer, headers: dict[str, str], method: str, target: str) -> None:
    before = count(dev)
    answer = exchange(dev, method, target, {"host": "localhost", **headers})
    assert (answer.status, answer.json()["error"]["code"]) == (401, "UNAUTHENTICATED")
    assert "evil" not in answer.json()["error"]["message"]
    assert "access-control-allow-origin" not in answer.headers
    assert count(dev) == before


def test_a_preflight_allows_nothing(dev: RunningServer) -> None:
    headers = {"host": "localhost", "origin": "https://evil.example.com", "access-control-request-method": "POST"}
    answer = exchange(dev, "OPTIONS", _MINT, headers)
    assert answer.status == 401
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("authorization", ["Bearer wrong", "Basic dXNlcjpwYXNz"])
def test_wrong_credentials_are_refused(dev: RunningServer, authorization: str) -> None:
    before = count(dev)
    assert exchange(dev, "POST", _MINT, {"host": "localhost", "authorization": authorization}).status == 401
    assert count(dev) == before


def test_the_aws_api_still_needs_signatures(dev: RunningServer) -> None:
    unsigned = exchange(dev, "GET", "/certificates", {"host": "localhost"})
    assert (unsigned.status, unsigned.aws_code) == (403, "MissingAuthenticationTokenException")
    signer = Signer.of(dev)
    assert signer.send("GET", "/certificates").status == 200


def test_a_valid_token_is_enough_from_any_origin(dev: RunningServer) -> None:
    headers = {"authorization": f"Bearer {dev.token}", "origin": "https://console.example.org", "host": "elsewhere"}
    assert exchange(dev, "GET", "/v1/certificates", headers).status == 200


@pytest.mark.parametrize("host", ["localhost", "127.0.0.9"])
def test_dev_mode_accepts_loopback_names(tmp_path: Path, host: str) -> None:
    variables = {"THINGMINT_DEV": "true"}
    with running_server(tmp_path / "data", arguments=[f"--host={host}"], environment=variables) as server:
        assert exchange(server, "GET", "/v1/certificates", {"host": "localhost"}).status == 200


def test_without_dev_credentials_are_needed(server: RunningServer) -> None:
    for headers in ({"host": "localhost"}, {"host": "iot.us-east-1.amazonaws.com"}):
        assert exchange(server, "POST", _MINT, headers).status == 401
