"""Malformed REST requests are refused in the API's form and store nothing."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest
from google.protobuf import json_format
from google.rpc import status_pb2  # type: ignore[import-untyped]

from tests.e2e.yandex.certificates import certificate
from tests.e2e.yandex.clients import Cloud, Refused, nothing_stored, refused_over_rest
from thingmint.testing import running_server

if TYPE_CHECKING:
    import httpx


PEM = certificate()
GOOD = {"certificateData": PEM}


@pytest.fixture(scope="module")
def device(cloud: Cloud) -> str:
    return cloud.device()


def send(cloud: Cloud, kind: str, path: str, content: bytes | None = None, **headers: str) -> httpx.Response:
    all_headers = {"authorization": f"Bearer {cloud.token}", **{n.replace("_", "-"): v for n, v in headers.items()}}
    return cloud.http.request(kind, path, content=content, headers=all_headers)


BODIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "body"),
    "a list": (b"[]", "body"),
    "a list with the object": (json.dumps([GOOD]).encode(), "body"),
    "a string": (b'"x"', "body"),
    "null": (b"null", "body"),
    "a number": (b"1", "body"),
    "an incomplete object": (json.dumps(GOOD).encode()[:-1], "body"),
    "two objects": (json.dumps(GOOD).encode() * 2, "body"),
    "a form": (b"certificateData=x", "body"),
    "not UTF-8": (b'{"certificateData": "\xff"}', "body"),
    "UTF-16": (json.dumps(GOOD).encode("utf-16"), "body"),
    "NaN": (b'{"certificateData": NaN}', "body"),
    "nested deeply": (b'{"certificateData":' + b"[" * 100_000, "body"),
    "a number of many digits": (b'{"certificateData":' + b"1" * 10_000 + b"}", "body"),
    "a key twice": (b'{"certificateData": "x", "certificateData": "y"}', "body"),
    "a field in both spellings": (json.dumps(GOOD | {"certificate_data": PEM}).encode(), "certificate_data"),
    "an unknown field": (json.dumps(GOOD | {"status": "ACTIVE"}).encode(), "body"),
    "an unknown field that is null": (json.dumps(GOOD | {"status": None}).encode(), "body"),
    "@type": (json.dumps(GOOD | {"@type": "x"}).encode(), "body"),
    "a field of the path": (json.dumps(GOOD | {"deviceId": "x"}).encode(), "device_id"),
    "a field of the path by its proto name": (json.dumps(GOOD | {"device_id": "x"}).encode(), "device_id"),
    "a number for text": (b'{"certificateData": 1}', "certificate_data"),
    "a list for text": (b'{"certificateData": ["x"]}', "certificate_data"),
    "null for text": (b'{"certificateData": null}', "certificate_data"),
    "half a surrogate pair": (b'{"certificateData": "\\ud800"}', "certificate_data"),
    "over a mebibyte": (b" " * (1024 * 1024 + 1), "body"),
}


@pytest.mark.parametrize("case", BODIES)
def test_malformed_bodies_are_refused(cloud: Cloud, device: str, case: str) -> None:
    content, field = BODIES[case]
    with nothing_stored(cloud.server):
        answer = send(
            cloud, "POST", f"/iot-devices/v1/devices/{device}/certificates", content, content_type="application/json"
        )
    refused = refused_over_rest(answer)
    assert (refused.http_status, refused.code) == (400, "INVALID_ARGUMENT")
    assert list(refused.violations) == [field]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        None,
        "application/x-www-form-urlencoded",
        "text/plain; charset=utf-8",
        "multipart/form-data; boundary=x",
        "application/grpc",
        ";",
    ],
)
def test_a_body_is_json_whatever_its_content_type(cloud: Cloud, content_type: str | None) -> None:
    headers = {"content_type": content_type} if content_type else {}
    path = f"/iot-devices/v1/devices/{cloud.device()}/certificates"
    content = json.dumps({"certificateData": certificate()}).encode()
    assert send(cloud, "POST", path, content, **headers).status_code == 200


QUERIES: dict[str, tuple[str, str, str]] = {
    "an unknown parameter of a POST": ("POST", "certificates?x=1", "query"),
    "a field as parameter of a POST": ("POST", "certificates?certificateData=x", "query"),
    "an unknown parameter of a GET": ("GET", "certificates?x=1", "query"),
    "an unknown parameter of a DELETE": ("DELETE", "?force=true", "query"),
    "a field of the path": ("GET", "certificates?deviceId=x", "device_id"),
    "a field of the path by its proto name": ("GET", "certificates?device_id=x", "device_id"),
    "a malformed escape": ("GET", "certificates?x=%zz", "query"),
    "not UTF-8": ("GET", "certificates?%ff=1", "query"),
}


@pytest.mark.parametrize("case", QUERIES)
def test_malformed_queries_are_refused(cloud: Cloud, device: str, case: str) -> None:
    kind, rest, field = QUERIES[case]
    path = f"/iot-devices/v1/devices/{device}{rest if rest.startswith('?') else f'/{rest}'}"
    with nothing_stored(cloud.server):
        answer = raw(cloud, kind, path.encode("latin-1"), json.dumps(GOOD).encode() if kind == "POST" else b"")
    refused = Refused(json_format.Parse(answer.partition(b"\r\n\r\n")[2], status_pb2.Status()))
    assert (refused.code, list(refused.violations)) == ("INVALID_ARGUMENT", [field])


LIST_QUERIES: dict[str, tuple[str, str]] = {
    "not a number": ("pageSize=ten", "page_size"),
    "a fraction": ("pageSize=1.5", "page_size"),
    "underscores": ("pageSize=1_0", "page_size"),
    "too large for its type": (f"pageSize={2**63}", "page_size"),
    "twice": ("pageSize=1&pageSize=1", "page_size"),
    "twice in two spellings": ("pageSize=1&page_size=1", "page_size"),
    "two fields of a oneof": ("registryId=x&folderId=y", "folder_id"),
    "an unknown view": ("registryId=x&deviceView=HALF", "device_view"),
}


@pytest.mark.parametrize("case", LIST_QUERIES)
def test_malformed_queries_of_lists_are_refused(cloud: Cloud, case: str) -> None:
    query, field = LIST_QUERIES[case]
    refused = refused_over_rest(send(cloud, "GET", f"/iot-devices/v1/devices?{query}"))
    assert (refused.code, list(refused.violations)) == ("INVALID_ARGUMENT", [field])


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("GET", "/iot-devices/v1/devices/{device}"),
        ("DELETE", "/iot-devices/v1/devices/{device}"),
        ("GET", "/endpoints"),
        ("POST", "/operations/x:cancel"),
    ],
)
def test_a_body_for_a_method_without_one_is_refused(cloud: Cloud, device: str, kind: str, path: str) -> None:
    with nothing_stored(cloud.server):
        answer = send(cloud, kind, path.format(device=device), b'{"x": 1}', content_type="application/json")
    assert list(refused_over_rest(answer).violations) == ["body"]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("PUT", "/iot-devices/v1/devices/{device}"),
        ("HEAD", "/iot-devices/v1/devices/{device}"),
        ("OPTIONS", "/iot-devices/v1/devices"),
        ("GET", "/iot-devices"),
        ("GET", "/iot-devices/v2/devices"),
        ("GET", "/iot-devices/v1/devices/{device}/"),
        ("GET", "/iot-devices/v1//devices/{device}"),
        ("GET", "/iot-devices/v1/devices/../devices/{device}"),
        ("GET", "/iot-devices/v1/devices/%2e%2e"),
        ("GET", "/iot-devices/v1/devices/{device}:"),
        ("GET", "/iot-devices/v1/devices/{device}:getByName"),
        ("GET", "/iot-devices/v1/%64evices/{device}"),
        ("GET", "/IOT-DEVICES/v1/devices/{device}"),
        ("POST", "/operations/{device}"),
        ("GET", "/iam/v1/tokens"),
    ],
)
@pytest.mark.parametrize("authorized", [True, False])
def test_unknown_paths_are_not_found(cloud: Cloud, device: str, kind: str, path: str, authorized: bool) -> None:
    token = f"authorization: Bearer {cloud.token}\r\n".encode() if authorized else b""
    with nothing_stored(cloud.server):
        answer = raw(cloud, kind, path.format(device=device).encode(), headers=token)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] in ((b"404", b"401") if path.startswith("/IOT") else (b"404",))
    if kind != "HEAD" and not path.startswith("/IOT"):
        assert json.loads(body)["code"] == 5


def test_a_target_without_a_path_is_refused() -> None:
    """On a separate server, because tests with the shared server must not cause a traceback in its log."""
    with running_server() as server:
        cloud = Cloud(server)
        answer = raw(cloud, "OPTIONS", b"*")
        cloud.close()
    assert b"500" not in answer.partition(b"\r\n")[0]


def test_a_colon_or_slash_in_an_id_is_part_of_the_id(cloud: Cloud) -> None:
    for id in ("a%2Fb", "a%3Aenable", "..%2F..", "%00"):
        refused = refused_over_rest(send(cloud, "GET", f"/iot-devices/v1/devices/{id}"))
        assert refused.code == "NOT_FOUND"


def test_clients_that_disconnect_during_a_request_do_no_harm(cloud: Cloud, device: str) -> None:
    head = f"POST /iot-devices/v1/devices/{device}/certificates HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n"
    with nothing_stored(cloud.server):
        with connect(cloud) as connection:
            head += f"authorization: Bearer {cloud.token}\r\n\r\n"
            connection.sendall(head.encode() + json.dumps(GOOD).encode())
        assert send(cloud, "GET", f"/iot-devices/v1/devices/{device}").status_code == 200


def test_plain_http_serves_the_same_api(cloud: Cloud, device: str) -> None:
    """On the loopback address."""
    answer = cloud.http.get(
        f"{cloud.server.http_url}/iot-devices/v1/devices/{device}", headers={"authorization": f"Bearer {cloud.token}"}
    )
    assert answer.json()["id"] == device


def test_requests_without_credentials_are_unauthenticated(cloud: Cloud, device: str) -> None:
    path = f"/iot-devices/v1/devices/{device}/certificates"
    with nothing_stored(cloud.server):
        answer = cloud.http.post(path, json=GOOD)
    refused = refused_over_rest(answer)
    assert (refused.http_status, refused.code) == (401, "UNAUTHENTICATED")


def connect(cloud: Cloud) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", cloud.server.ports["api"]), timeout=10)
    return cloud.tls.wrap_socket(plain, server_hostname="localhost")


def raw(cloud: Cloud, kind: str, target: bytes, body: bytes = b"", headers: bytes | None = None) -> bytes:
    """The complete answer to a request that is sent without a client library."""
    if headers is None:
        headers = f"authorization: Bearer {cloud.token}\r\n".encode()
    if body:
        headers += b"content-length: %d\r\n" % len(body)
    answer = b""
    with connect(cloud) as connection:
        start = b"%b %b HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n" % (kind.encode(), target)
        connection.sendall(start + headers + b"\r\n" + body)
        while piece := connection.recv(65536):
            answer += piece
    return answer
