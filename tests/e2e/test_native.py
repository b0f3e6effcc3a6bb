"""The native API, with curl, httpx and raw requests."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from tests.e2e.commands import bare_environment, in_process
from tests.e2e.conftest import iot_client
from tests.e2e.material import csr_pem, fingerprint, self_signed_pem
from tests.e2e.wire import Answer, answers, exchange
from tests.odd_certificates import certificate, without_seconds
from tests.unit.vectors import to_pem
from thingmint.access.administration import COMMANDS
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from thingmint.testing import RunningServer

_UNKNOWN_ID = "0" * 64
_FLEET = {
    "/v1/certificate-counts",
    "/v1/certificate-find",
    "/v1/certificate-search",
    "/v1/health",
    "/v1/import-findings",
    "/v1/imports",
    "/v1/provisioning/claims",
    "/v1/provisioning/dry-run",
    "/v1/refusal-counts",
    "/v1/refusals",
    "/v1/session",
    "/v1/session/end",
    "/v1/sessions",
}
"""Requests with one method each, which tests/e2e/test_fleet_facts.py and provisioning/test_dry_run.py test."""


@pytest.fixture(scope="session")
def native(server: RunningServer) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {server.token}"}
    with httpx.Client(base_url=server.http_url, headers=headers, timeout=20) as client:
        yield client


def data_of(answer: httpx.Response | Answer) -> Any:
    """The data in the envelope of a success."""
    status = answer.status_code if isinstance(answer, httpx.Response) else answer.status
    assert status == 200, answer
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert set(document) == {"success", "data"}
    assert document["success"] is True
    return document["data"]


def problem_of(answer: httpx.Response | Answer) -> tuple[int, str, str]:
    """Status, code and message of a refusal's envelope."""
    status = answer.status_code if isinstance(answer, httpx.Response) else answer.status
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert set(document) == {"success", "error"}
    assert document["success"] is False
    assert set(document["error"]) == {"code", "message"}
    return status, document["error"]["code"], document["error"]["message"]


def check_issued(data: dict[str, str], region: str = "us-east-1") -> None:
    assert set(data) == {"id", "created_at", "arn", "status", "certificate_pem", "public_key", "private_key"}
    assert data["id"] == fingerprint(data["certificate_pem"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", data["created_at"])
    assert abs(datetime.now(UTC) - datetime.fromisoformat(data["created_at"])) < timedelta(seconds=30)
    assert re.fullmatch(rf"arn:aws:iot:{region}:\d{{12}}:cert/{data['id']}", data["arn"])
    key = load_pem_private_key(data["private_key"].encode(), None)
    certificate = x509.load_pem_x509_certificate(data["certificate_pem"].encode())
    assert key.public_key() == certificate.public_key()
    public = certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert data["public_key"] == public.decode()


# -- the published example ----------------------------------------------------------------------------------------


def test_the_published_curl_example(server: RunningServer) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    script = (
        "curl --noproxy '*' --connect-to iot.us-east-1.amazonaws.com:80:127.0.0.1:8080 --request POST "
        "--url http://iot.us-east-1.amazonaws.com/keys-and-certificate --header 'accept: application/json' "
        "--header 'content-type: application/json' --header \"authorization: Bearer $TOKEN\""
    ).replace("8080", str(server.ports["http"]))
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        env=bare_environment(TOKEN=server.token),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    data = data_of(httpx.Response(200, text=done.stdout, headers={"content-type": "application/json"}))
    check_issued(data)
    assert data["status"] == "INACTIVE"


# -- POST /keys-and-certificate -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n",
        b"content-length: 0\r\n\r\n",
        b"content-length: 2\r\n\r\n{}",
        b"content-type: application/json\r\ncontent-length: 4\r\n\r\n{ }\n",
        b"content-type: text/plain\r\ncontent-length: 2\r\n\r\n{}",
        b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
def test_no_body_and_an_empty_object_are_equivalent(server: RunningServer, raw: bytes) -> None:
    head = f"POST /keys-and-certificate HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {server.token}\r\n"
    (answer,) = answers(server, head.encode() + raw)
    check_issued(data_of(answer))


@pytest.mark.parametrize(
    ("query", "status"), [("", "INACTIVE"), ("?setAsActive=false", "INACTIVE"), ("?setAsActive=true", "ACTIVE")]
)
def test_set_as_active_decides_the_status(native: httpx.Client, iot: Any, query: str, status: str) -> None:
    data = data_of(native.post(f"/keys-and-certificate{query}"))
    check_issued(data)
    assert data["status"] == status
    # The AWS API shows the same registration immediately.
    shown = iot.describe_certificate(certificateId=data["id"])["certificateDescription"]
    assert (shown["status"], shown["certificateArn"]) == (status, data["arn"])
    assert shown["certificatePem"] == data["certificate_pem"]


def test_http_1_1_is_negotiated_over_tls(server: RunningServer) -> None:
    with httpx.Client(verify=_trusting(server), timeout=20) as client:
        answer = client.post(f"{server.api_url}/keys-and-certificate", headers=_token(server))
        check_issued(data_of(answer))
        assert answer.http_version == "HTTP/1.1"


def _trusting(server: RunningServer) -> Any:
    import ssl

    return ssl.create_default_context(cafile=str(server.ca))


def _token(server: RunningServer) -> dict[str, str]:
    return {"authorization": f"Bearer {server.token}"}


# -- regions ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_regions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    data = tmp_path_factory.mktemp("regions") / "data"
    made = in_process("init", "--data-dir", data, "--region=eu-central-1", "--region=us-east-1")
    assert made.returncode == 0, made.stderr
    with running_server(data) as running:
        yield running


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("localhost", "eu-central-1"),
        ("anything.example.org", "eu-central-1"),
        ("iot.us-east-1.amazonaws.com", "us-east-1"),
        ("iot.us-east-1.amazonaws.com:8080", "us-east-1"),
        ("IOT.US-EAST-1.AMAZONAWS.COM", "us-east-1"),
        ("iot.eu-central-1.amazonaws.com", "eu-central-1"),
    ],
)
def test_the_host_selects_the_region(two_regions: RunningServer, host: str, region: str) -> None:
    answer = exchange(two_regions, "POST", "/keys-and-certificate", {**_token(two_regions), "host": host})
    check_issued(data_of(answer), region)
    data = answer.json()["data"]
    with_region = {"host": f"iot.{region}.amazonaws.com", **_token(two_regions)}
    assert data_of(exchange(two_regions, "GET", f"/v1/certificates/{data['id']}", with_region))["arn"] == data["arn"]
    other = {"us-east-1": "eu-central-1", "eu-central-1": "us-east-1"}[region]
    without = {"host": f"iot.{other}.amazonaws.com", **_token(two_regions)}
    assert problem_of(exchange(two_regions, "GET", f"/v1/certificates/{data['id']}", without))[0] == 404


def test_regions_are_separate_for_aws_too(two_regions: RunningServer) -> None:
    home, other = iot_client(two_regions), iot_client(two_regions, region_name="us-east-1")
    cert_id = home.create_keys_and_certificate()["certificateId"]
    assert cert_id in {c["certificateId"] for c in home.list_certificates()["certificates"]}
    assert cert_id not in {c["certificateId"] for c in other.list_certificates()["certificates"]}
    with pytest.raises(other.exceptions.ResourceNotFoundException):
        other.describe_certificate(certificateId=cert_id)
    marker = home.list_certificates(pageSize=1).get("nextMarker")
    if marker is not None:
        with pytest.raises(other.exceptions.InvalidRequestException):
            other.list_certificates(marker=marker)
    pem = self_signed_pem()
    ids = {client.register_certificate_without_ca(certificatePem=pem)["certificateId"] for client in (home, other)}
    assert len(ids) == 1
    for client in (home, other):
        client.close()


def test_a_region_that_the_account_lacks_is_refused(server: RunningServer, unchanged: Callable[[], None]) -> None:
    headers = {**_token(server), "host": "iot.mars-north-1.amazonaws.com"}
    assert problem_of(exchange(server, "POST", "/keys-and-certificate", headers)) == (
        400,
        "VALIDATION_ERROR",
        "region must be one that this account has: us-east-1",
    )


# -- /v1/certificates ---------------------------------------------------------------------------------------------


def test_a_certificate_is_issued_changed_and_deleted(native: httpx.Client) -> None:
    csr = csr_pem("secp384r1", "native sensor")
    made = data_of(native.post("/v1/certificates", json={"csr": csr, "status": "ACTIVE"}))
    assert set(made) == {
        "id",
        "arn",
        "status",
        "created_at",
        "modified_at",
        "certificate_pem",
        "not_before",
        "not_after",
        "mode",
        "cannot_connect",
        "ca",
    }
    assert (made["mode"], made["ca"]) == ("DEFAULT", None)
    assert made["id"] == fingerprint(made["certificate_pem"])
    assert made["not_after"] == "2049-12-31T23:59:59Z"
    path = f"/v1/certificates/{made['id']}"
    assert data_of(native.get(path)) == made
    assert data_of(native.get(f"/v1/certificates/0x{made['id'].upper()}")) == made
    conflict = problem_of(native.delete(path))
    assert conflict == (
        409,
        "CONFLICT",
        f"Certificate must be deactivated (not ACTIVE) before deletion. Id: {made['id']}",
    )
    changed = data_of(native.patch(path, json={"status": "REVOKED"}))
    assert (changed["status"], changed["id"]) == ("REVOKED", made["id"])
    assert problem_of(native.patch(path, json={"status": "ACTIVE"}))[:2] == (409, "CONFLICT")
    assert data_of(native.delete(path)) is None
    assert problem_of(native.get(path)) == (404, "NOT_FOUND", f"certificate {made['id']} does not exist")


def test_registering_an_existing_certificate(native: httpx.Client) -> None:
    pem = self_signed_pem()
    made = data_of(native.post("/v1/certificates", json={"certificate_pem": pem}))
    assert (made["id"], made["status"], made["certificate_pem"]) == (fingerprint(pem), "INACTIVE", pem)
    again = problem_of(native.post("/v1/certificates", json={"certificate_pem": pem}))
    assert again == (409, "CONFLICT", f"certificate {made['id']} already exists")


def test_the_reason_why_a_certificate_cannot_connect_is_shown(native: httpx.Client) -> None:
    [usual, odd] = [certificate(), without_seconds()["no time zone"]]
    why = "this server's TLS library cannot read it; a TLS proxy in front of the server may"
    for der, expected in ((usual, None), (odd, why)):
        made = data_of(native.post("/v1/certificates", json={"certificate_pem": to_pem(der, "CERTIFICATE")}))
        assert made["cannot_connect"] == expected
        assert data_of(native.get(f"/v1/certificates/{made['id']}"))["cannot_connect"] == expected


def test_pages_have_each_certificate_once(native: httpx.Client, iot: Any) -> None:
    for _ in range(4):
        iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())
    for order in ("ascending", "descending"):
        found, marker = [], None
        while True:
            query: dict[str, str] = {"page_size": "3", "order": order}
            if marker is not None:
                query["marker"] = marker
            page = data_of(native.get("/v1/certificates", params=query))
            assert set(page) == {"certificates", "next_marker"}
            found += page["certificates"]
            marker = page["next_marker"]
            assert len(page["certificates"]) == 3 or marker is None
            if marker is None:
                break
        pages = iot.get_paginator("list_certificates").paginate(ascendingOrder=order == "ascending")
        expected = [(c["certificateId"], c["status"]) for page in pages for c in page["certificates"]]
        assert [(c["id"], c["status"]) for c in found] == expected


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_unknown_certificates_are_not_found(native: httpx.Client, method: str) -> None:
    body = {"json": {"status": "ACTIVE"}} if method == "PATCH" else {}
    answer = native.request(method, f"/v1/certificates/{_UNKNOWN_ID}", **body)  # type: ignore[arg-type]
    assert problem_of(answer) == (404, "NOT_FOUND", f"certificate {_UNKNOWN_ID} does not exist")


# -- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("GET", "/", 404, "NOT_FOUND"),
        ("GET", "/v1", 404, "NOT_FOUND"),
        ("GET", "/v1/certificates/", 404, "NOT_FOUND"),
        ("GET", f"/v1/certificates/{_UNKNOWN_ID}/keys", 404, "NOT_FOUND"),
        ("GET", "/certificates", 404, "NOT_FOUND"),
        ("GET", "/keys-and-certificate", 405, "METHOD_NOT_ALLOWED"),
        ("PUT", "/v1/certificates", 405, "METHOD_NOT_ALLOWED"),
        ("POST", f"/v1/certificates/{_UNKNOWN_ID}", 405, "METHOD_NOT_ALLOWED"),
    ],
)
def test_unknown_paths_and_methods_are_refused(
    native: httpx.Client, unchanged: Callable[[], None], method: str, target: str, status: int, code: str
) -> None:
    assert problem_of(native.request(method, target))[:2] == (status, code)


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer ",
        "Bearer nonsense",
        "Bearer tma_0000000000000000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "Bearer tma_' OR 1=1 --_x",
        "Basic dXNlcjpwYXNz",
        "tma_0000000000000000_A",
        "\xff\xfe",
    ],
)
@pytest.mark.parametrize("target", ["/v1/certificates", "/v1/nothing", "/"])
def test_malformed_and_unknown_tokens_are_refused(
    server: RunningServer, unchanged: Callable[[], None], authorization: str, target: str
) -> None:
    status, code, message = problem_of(exchange(server, "GET", target, {"authorization": authorization}))
    assert (status, code) == (401, "UNAUTHENTICATED")
    assert authorization.removeprefix("Bearer").strip() not in message or len(authorization) < 8


def test_a_token_of_another_instance_is_refused(
    server: RunningServer, two_regions: RunningServer, unchanged: Callable[[], None]
) -> None:
    answer = exchange(server, "GET", "/v1/certificates", _token(two_regions))
    assert problem_of(answer) == (
        401,
        "UNAUTHENTICATED",
        "The token is not one of this server, or is no longer valid",
    )
    half = server.token[:-4] + "AAAA"
    assert problem_of(exchange(server, "GET", "/v1/certificates", {"authorization": f"Bearer {half}"}))[0] == 401


def test_the_refusal_to_issue_is_readable_by_every_client(server: RunningServer, unchanged: Callable[[], None]) -> None:
    for headers in ({}, {"authorization": "Bearer tma_x_y"}):
        answer = exchange(server, "POST", "/keys-and-certificate", headers)
        assert answer.status == 401
        document = answer.json()
        assert set(document) == {"success", "error", "message"}
        assert document["error"] == {"code": "UNAUTHENTICATED", "message": document["message"]}
        assert answer.aws_code == "MissingAuthenticationTokenException"
    config = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1})
    iot = iot_client(server, config=config)
    with pytest.raises(ClientError) as caught:
        iot.create_keys_and_certificate()
    iot.close()
    assert caught.value.response["Error"]["Code"] == "MissingAuthenticationTokenException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 401
    assert caught.value.response["Error"]["Message"].startswith("An API token is needed")


# -- OpenAPI ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def document(server: RunningServer) -> Any:
    answer = httpx.get(f"{server.http_url}/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def test_the_openapi_document_is_valid(document: Any) -> None:
    validate(document)
    access = {f"/v1/access/{each.noun}/{each.verb}" for each in COMMANDS.values() if not each.instance_wide}
    certificates = {"/keys-and-certificate", "/v1/certificates", "/v1/certificates/{id}"}
    assert set(document["paths"]) == certificates | access | _FLEET | {"/v1/audit"}


@pytest.mark.parametrize(
    ("path", "count", "described"),
    [("/openapi/aws.json", 272, "/things/{thingName}"), ("/openapi/yandex.json", 52, "/iot-devices/v1/registries")],
)
def test_the_other_apis_have_documents_too(server: RunningServer, path: str, count: int, described: str) -> None:
    with httpx.Client(base_url=server.http_url) as anonymous:
        answer = anonymous.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        paths = answer.json()["paths"]
        assert sum(map(len, paths.values())) == count
        assert all(operation["x-thingmint-served"] for operation in paths[described].values())
        head = anonymous.head(path)
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(answer.content)))
        assert head.content == b""
        assert anonymous.post(path).status_code == 401
    headers = {"authorization": f"Bearer {server.token}"}
    refused = httpx.request("PUT", f"{server.http_url}{path}", headers=headers)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_everything_in_the_openapi_document_is_served(native: httpx.Client, document: Any) -> None:
    served = 0
    for path, operations in document["paths"].items():
        for method in operations:
            answer = native.request(method, path.replace("{id}", "not-an-id"), json={"unknown": 1})
            status, code, _ = problem_of(answer)
            assert (status, code) == (400, "VALIDATION_ERROR"), (method, path)
            served += 1
    assert served == 7 + len(_FLEET) + sum(not command.instance_wide for command in COMMANDS.values())


def test_answers_match_the_openapi_document(native: httpx.Client, document: Any) -> None:
    def check(method: str, path: str, answer: httpx.Response) -> Any:
        described = document["paths"][path][method]["responses"][str(answer.status_code)]
        if reference := described.get("$ref"):
            described = document["components"]["responses"][reference.rpartition("/")[2]]
        schema = {**described["content"]["application/json"]["schema"], "components": document["components"]}
        OAS31Validator(schema).validate(answer.json())
        return answer.json().get("data")

    check("post", "/keys-and-certificate", native.post("/keys-and-certificate"))
    made = check("post", "/v1/certificates", native.post("/v1/certificates", json={"csr": csr_pem()}))
    check("get", "/v1/certificates", native.get("/v1/certificates"))
    one = "/v1/certificates/{id}"
    check("get", one, native.get(f"/v1/certificates/{made['id']}"))
    check("patch", one, native.patch(f"/v1/certificates/{made['id']}", json={"status": "ACTIVE"}))
    check("delete", one, native.delete(f"/v1/certificates/{made['id']}"))
    check("patch", one, native.patch(f"/v1/certificates/{made['id']}", json={"status": "INACTIVE"}))
    check("delete", one, native.delete(f"/v1/certificates/{made['id']}"))
    check("get", one, native.get(f"/v1/certificates/{made['id']}"))
    check("get", one, native.get(f"/v1/certificates/{made['id']}", headers={"authorization": "Bearer x"}))


def test_the_message_names_the_file_of_the_token(server: RunningServer, tmp_path: Path) -> None:
    message = exchange(server, "GET", "/v1/certificates").json()["error"]["message"]
    assert "clients/token" in message
    token = (server.data_dir / "clients" / "token").read_text()
    assert json.loads(httpx.get(f"{server.http_url}/v1/certificates", headers=_token(server)).text)["success"]
    assert re.fullmatch(r"tma_[0-9a-f]{16}_[\w-]{43}\n", token)
