"""Malformed gRPC requests are refused, store nothing and do not harm the server."""

from __future__ import annotations

import contextlib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from yandex.cloud.iot.devices.v1 import device_service_pb2

from tests.e2e.yandex import http2
from tests.e2e.yandex.certificates import certificate, sha256_of
from tests.e2e.yandex.clients import METHODS, Cloud, nothing_stored, open_channel, path_of, refused_over_grpc
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1024 * 1024
ADD = path_of("DeviceService/AddCertificate")
GET = path_of("DeviceService/Get")


@pytest.fixture(scope="module")
def device(cloud: Cloud) -> str:
    return cloud.device()


def authorization(cloud: Cloud) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {cloud.token}")]


def refused_code(call: Callable[[], Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    code: grpc.StatusCode = refused.value.code()
    return code


MALFORMED = {
    "no field number": b"\0",
    "cut off": b"\x0a\xff",
    "a length without end": b"\x0a" + b"\xff" * 20,
    "text that is not UTF-8": b"\x0a\x02\xff\xfe",
    "a group that does not end": b"\x0b",
    "only bytes 0xff": b"\xff" * 100,
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_messages_are_invalid_arguments(cloud: Cloud, case: str) -> None:
    for method in ("DeviceService/AddCertificate", "DeviceService/Get", "RegistryService/Create"):
        with nothing_stored(cloud.server), pytest.raises(grpc.RpcError) as caught:
            cloud.grpc.call_bytes(path_of(method), MALFORMED[case], authorization(cloud))
        refused = refused_over_grpc(caught.value)
        assert refused.code == "INVALID_ARGUMENT"
        assert list(refused.violations) == ["request"]
        assert refused.text.endswith(METHODS[method].input_type.full_name)


def test_a_malformed_message_without_credentials_is_unauthenticated(cloud: Cloud) -> None:
    code = refused_code(lambda: cloud.grpc.call_bytes(ADD, b"\xff", []))
    assert code is grpc.StatusCode.UNAUTHENTICATED


def test_messages_over_a_mebibyte_are_refused(cloud: Cloud, device: str) -> None:
    request = device_service_pb2.AddDeviceCertificateRequest(device_id=device, certificate_data=certificate())
    request.certificate_data += "\n" * MIB
    with nothing_stored(cloud.server):
        code = refused_code(lambda: cloud.grpc.call_bytes(ADD, request.SerializeToString(), authorization(cloud)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    request.certificate_data = request.certificate_data[: MIB - 1000]
    with pytest.raises(grpc.RpcError) as caught:
        cloud.grpc.call_bytes(ADD, request.SerializeToString(), authorization(cloud))
    assert list(refused_over_grpc(caught.value).violations) == ["certificate_data"]


def test_a_device_can_be_created_with_50_certificates(cloud: Cloud) -> None:
    device = cloud.device(certificates=[{"certificate_data": certificate()} for _ in range(50)])
    assert len(cloud.certificates(device)) == 50


def test_compressed_messages_are_not_inflated_beyond_the_limit(cloud: Cloud) -> None:
    """300 MB, compressed to 300 KB, are not expanded in memory."""
    before = resident_megabytes(cloud)
    call: Any = cloud.channel.unary_unary(path_of("IamTokenService/Create"))
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\0" * 300_000_000, compression=grpc.Compression.Gzip, timeout=20)
    code: Any = caught.value
    assert code.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert resident_megabytes(cloud) < before + 30


@pytest.mark.parametrize(
    "path",
    [
        "/yandex.cloud.iot.devices.v1.DeviceService/Nothing",
        "/yandex.cloud.iot.devices.v1.DeviceService/get",
        "/yandex.cloud.iot.devices.v1.DeviceService/Get/",
        "/yandex.cloud.iot.devices.v1.DeviceService//Get",
        "/yandex.cloud.iot.devices.v2.DeviceService/Get",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/x",
        "/",
        "/../" + "x" * 4000,
    ],
)
@pytest.mark.parametrize("authorized", [True, False])
def test_unknown_methods_are_unimplemented(cloud: Cloud, path: str, authorized: bool) -> None:
    metadata = authorization(cloud) if authorized else []
    code = refused_code(lambda: cloud.grpc.call_bytes(path, b"", metadata))
    assert code is grpc.StatusCode.UNIMPLEMENTED


def test_a_call_without_a_message_is_refused(cloud: Cloud) -> None:
    call: Any = cloud.channel.stream_unary(ADD)
    with nothing_stored(cloud.server), pytest.raises(grpc.RpcError) as caught:
        call(iter(()), metadata=authorization(cloud), timeout=5)
    assert refused_over_grpc(caught.value).code == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "metadata",
    [
        [("x", "y" * 20_000)],
        [(f"x-{number}", "y" * 20) for number in range(1000)],
        [("x", "") for _ in range(2000)],
        [("idempotency-key", "k" * 15_000), ("x", "y" * 3000)],
        [("x-bin", b"\0" * 20_000)],
    ],
    ids=["one large value", "many values", "many empty values", "a large key and value", "one large binary value"],
)
def test_too_much_metadata_is_refused(cloud: Cloud, device: str, metadata: list[tuple[str, str]]) -> None:
    request = device_service_pb2.AddDeviceCertificateRequest(device_id=device, certificate_data=certificate())
    with nothing_stored(cloud.server):
        code = refused_code(
            lambda: cloud.grpc.call_bytes(ADD, request.SerializeToString(), [*authorization(cloud), *metadata])
        )
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_header_blocks_of_300_megabytes_are_not_kept_in_memory(cloud: Cloud) -> None:
    """The server can read all CONTINUATION frames, but its memory must not grow with them."""
    kept = []
    with nothing_stored(cloud.server), http2.Connection(cloud.server) as connection:
        connection.send(http2.HEADERS, http2.END_STREAM, 1, http2.hpack(request_headers(cloud, ADD, "60S")))
        block = http2.frame(http2.CONTINUATION, 0, 1, http2.hpack([("x", "y" * 10_000)]))
        with contextlib.suppress(OSError):  # the server is allowed to close the connection
            for _ in range(3):
                for _ in range(10_000):
                    connection.socket.sendall(block)
                kept.append(resident_megabytes(cloud))
            connection.send(http2.CONTINUATION, http2.END_HEADERS, 1, b"")
            connection.wait_for(http2.HEADERS, 1, http2.END_STREAM)
    assert not kept or kept[-1] < kept[0] + 60
    assert cloud.operation_is_unknown()


def resident_megabytes(cloud: Cloud) -> int:
    status = Path(f"/proc/{cloud.server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


def request_headers(cloud: Cloud, path: str, timeout: str) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", timeout),
        ("authorization", f"Bearer {cloud.token}"),
    ]


@pytest.fixture(scope="module")
def impatient() -> Iterator[Cloud]:
    """A separate server for calls whose deadlines pass."""
    with running_server(arguments=["--log-format=json"]) as server:
        cloud = Cloud(server)
        yield cloud
        cloud.close()


@pytest.mark.parametrize("timeout", ["0n", "0S", "00000000H"])
def test_calls_with_a_past_deadline_change_nothing(impatient: Cloud, timeout: str) -> None:
    """The same frames add a certificate if the deadline has not passed."""
    late, in_time, device = [certificate(), certificate()], certificate(), impatient.device()
    with http2.Connection(impatient.server) as connection:
        for stream, pem, allowed in ((1, late[0], timeout), (3, late[1], timeout), (5, in_time, "10S")):
            request = device_service_pb2.AddDeviceCertificateRequest(device_id=device, certificate_data=pem)
            headers = http2.hpack(request_headers(impatient, ADD, allowed))
            connection.send(http2.HEADERS, http2.END_HEADERS, stream, headers)
            connection.send(http2.DATA, http2.END_STREAM, stream, http2.message(request.SerializeToString()))
        # Calls are started in order, so the answer to the last one comes after the effects of all others.
        connection.wait_for(http2.HEADERS, 5, http2.END_STREAM)
    added = {each.fingerprint for each in impatient.certificates(device)}
    assert sha256_of(in_time) in added
    assert added.isdisjoint(map(sha256_of, late))


def test_a_deadline_that_passes_during_a_call_is_not_logged_as_a_failure(impatient: Cloud) -> None:
    message = http2.message(device_service_pb2.GetDeviceRequest(device_id="x").SerializeToString())
    allowed = ("0n", "1n", "1m", "2m", "3m")
    for _ in range(60):
        with http2.Connection(impatient.server) as connection:
            for number in range(30):
                headers = http2.hpack(request_headers(impatient, GET, allowed[number % len(allowed)]))
                connection.send(http2.HEADERS, http2.END_HEADERS, 2 * number + 1, headers)
                connection.send(http2.DATA, http2.END_STREAM, 2 * number + 1, message)
            for number in range(30):
                connection.wait_for_the_end_of(2 * number + 1)
        assert "Traceback" not in impatient.server.output.read_text()


def test_the_server_survives_a_thousand_streams_that_are_reset(cloud: Cloud) -> None:
    """As in CVE-2023-44487: incomplete requests, then RST_STREAM with CANCEL, all sent together."""
    headers = http2.hpack(request_headers(cloud, ADD, "10S"))
    with nothing_stored(cloud.server):
        with http2.Connection(cloud.server) as connection:
            with contextlib.suppress(OSError):  # the server is allowed to close the connection
                for stream in range(1, 2001, 2):
                    connection.socket.sendall(
                        http2.frame(http2.HEADERS, http2.END_HEADERS, stream, headers)
                        + http2.frame(http2.RST_STREAM, 0, stream, b"\0\0\0\x08")
                    )
            assert cloud.operation_is_unknown()
        assert cloud.operation_is_unknown()


def test_the_server_survives_a_thousand_unfinished_streams(cloud: Cloud, device: str) -> None:
    """On several connections, which are then closed without GOAWAY. Other clients are served meanwhile."""
    headers = http2.hpack(request_headers(cloud, ADD, "60S"))
    with nothing_stored(cloud.server), contextlib.ExitStack() as connections:
        for _ in range(10):
            connection = connections.enter_context(http2.Connection(cloud.server))
            for stream in range(1, 201, 2):
                connection.send(http2.HEADERS, http2.END_HEADERS, stream, headers)
            connection.send(http2.PING, 0, 0, b"\0" * 8)
            connection.wait_for(http2.PING, flag=http2.ACK)
        assert cloud.certificates(device) is not None
    assert cloud.operation_is_unknown()


def test_the_server_survives_a_thousand_cancelled_calls(cloud: Cloud, device: str) -> None:
    """The client library cancels them; the server still works."""
    channel = open_channel(cloud.server.ca, cloud.server.ports["grpc"])
    call: Any = channel.unary_unary(GET)
    request = device_service_pb2.GetDeviceRequest(device_id=device).SerializeToString()
    futures = [call.future(request, metadata=authorization(cloud), timeout=20) for _ in range(1000)]
    for future in futures:
        future.cancel()
    codes = {future.code() for future in futures}
    # The server is allowed to close the connection of a client that resets so many calls.
    assert codes <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    channel.close()
    assert cloud.operation_is_unknown()


NOT_GRPC: dict[str, bytes] = {
    "HTTP/1.1": b"POST /x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n",
    "only bytes 0xff": b"\xff" * 4096,
    "a frame without preface": http2.frame(http2.PING, 0, 0, b"\0" * 8) * 10,
    "a frame over the limit": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 70_000,
    "headers of stream 0": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + http2.frame(http2.HEADERS, 4, 0, b"\x82"),
    "broken HPACK": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + http2.frame(http2.SETTINGS, 0, 0)
    + http2.frame(http2.HEADERS, 5, 1, b"\xff" * 50),
}


@pytest.mark.parametrize("case", NOT_GRPC)
@pytest.mark.parametrize("encrypted", [True, False])
def test_the_server_survives_bytes_that_are_not_grpc(cloud: Cloud, case: str, encrypted: bool) -> None:
    tls = ssl.create_default_context(cafile=cloud.server.ca)
    tls.set_alpn_protocols(["h2"])
    with nothing_stored(cloud.server), contextlib.ExitStack() as stack:
        plain = stack.enter_context(socket.create_connection(("127.0.0.1", cloud.server.ports["grpc"]), timeout=20))
        connection = tls.wrap_socket(plain, server_hostname="localhost") if encrypted else plain
        stack.callback(connection.close)
        with contextlib.suppress(OSError):
            connection.sendall(NOT_GRPC[case])
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    assert cloud.operation_is_unknown()


def test_many_clients_at_the_same_time_are_served(cloud: Cloud, device: str) -> None:
    channels = [open_channel(cloud.server.ca, cloud.server.ports["grpc"]) for _ in range(16)]
    request = device_service_pb2.GetDeviceRequest(device_id=device).SerializeToString()

    def ask(number: int) -> bytes:
        call: Any = channels[number % 16].unary_unary(GET)
        reply: bytes = call(request, metadata=authorization(cloud), timeout=20)
        return reply

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(ask, range(320)))) == 1
    for channel in channels:
        channel.close()


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer  ")],
        [("authorization", "Basic x")],
        [("authorization", "Bearer x"), ("authorization", "Bearer x")],
        [("authorization-bin", b"Bearer x")],
        [("authorization", "AWS4-HMAC-SHA256 Credential=x")],
    ],
)
def test_malformed_credentials_are_refused(cloud: Cloud, device: str, metadata: list[tuple[str, str]]) -> None:
    request = device_service_pb2.AddDeviceCertificateRequest(device_id=device, certificate_data=certificate())
    with nothing_stored(cloud.server), pytest.raises(grpc.RpcError) as caught:
        cloud.grpc.call_bytes(ADD, request.SerializeToString(), metadata)
    assert refused_over_grpc(caught.value).code == "UNAUTHENTICATED"


def test_a_valid_token_given_twice_is_refused(cloud: Cloud, device: str) -> None:
    request = device_service_pb2.GetDeviceRequest(device_id=device).SerializeToString()
    assert cloud.grpc.call_bytes(GET, request, authorization(cloud))
    code = refused_code(lambda: cloud.grpc.call_bytes(GET, request, authorization(cloud) * 2))
    assert code is grpc.StatusCode.UNAUTHENTICATED
