"""Silent and slow clients on each port are disconnected, and other clients are served meanwhile.

The time-outs of this server are shorter than the defaults, so that the tests are faster.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.conftest import iot_client, registered
from tests.e2e.logs import check_log
from tests.e2e.mqtt.conftest import new_name, opened_gateway
from tests.e2e.wire import check_common_refusal, connected, one_request, read_answer, until
from thingmint.http import messages, protocol
from thingmint.mqtt.protocol.connection import ServerConnection
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import Connect, Publish, Subscribe, SubscriptionRequest
from thingmint.mqtt.tls.listener import TlsListener
from thingmint.yandex import relay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.mqtt.conftest import Gateway

_RATES = {"publishes": 50, "subscribes": 20, "received": 100_000}
_HEAD, _BODY, _HANDSHAKE, _CONNECT = 2.0, 5.0, 3.0, 3.0  # seconds


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    path = [str(Path(__file__).parents[1] / "impatient"), *filter(None, [os.environ.get("PYTHONPATH")])]
    limits = f"{_HEAD} {_BODY} {_HANDSHAKE} {_CONNECT}"
    variables = {"PYTHONPATH": os.pathsep.join(path), "IMPATIENT": limits, "THINGMINT_MQTT_RATES": json.dumps(_RATES)}
    with opened_gateway(tmp_path_factory.mktemp("gateway"), **variables) as opened:
        yield opened
        log = opened.server.output.read_text(errors="replace")
        check_log(log)


def test_default_timeouts() -> None:
    assert (protocol.HEAD_TIMEOUT, messages._BODY_TIMEOUT, relay.HANDSHAKE_TIMEOUT) == (10, 30, 10)
    assert inspect.signature(TlsListener).parameters["handshake_timeout"].default == 10
    assert inspect.signature(ServerConnection).parameters["connect_timeout"].default == 10


def test_slow_http_requests_time_out(impatient: Gateway) -> None:
    """Connections without data, with an unfinished head and with an unfinished body, at the same time."""
    server = impatient.server
    with contextlib.ExitStack() as stack:
        iot = stack.enter_context(contextlib.closing(iot_client(server)))
        before = registered(iot)
        silent = stack.enter_context(connected(server))
        silent_tls = stack.enter_context(socket.create_connection(("127.0.0.1", server.ports["api"]), timeout=20))
        heads = [stack.enter_context(connected(server, tls=tls)) for tls in (False, True)]
        bodies = [stack.enter_context(connected(server, tls=tls)) for tls in (False, True)]
        kept = stack.enter_context(connected(server))
        kept.sendall(one_request("GET", "/healthz", {"host": "localhost"}))
        rest_of_kept = bytearray()
        assert read_answer(kept, rest_of_kept).status == 200
        started = time.monotonic()
        for sock in heads:
            sock.sendall(b"POST /keys-and-certificate HTTP/1.1\r\nx-pad: ")
        head = f"POST /keys-and-certificate HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {server.token}\r\n"
        for sock in bodies:
            sock.sendall(f"{head}content-length: 1000\r\n\r\n".encode())

        def drip(sockets: list[socket.socket], seconds: float) -> None:
            while time.monotonic() < started + seconds:
                for sock in sockets:
                    sock.sendall(b" ")
                time.sleep(0.1)

        drip(heads + bodies, 0.8 * _HEAD)
        for sock in heads:
            check_common_refusal(read_answer(sock, bytearray()), 408)
        assert time.monotonic() - started > 0.95 * _HEAD
        for sock in (silent, silent_tls):
            with contextlib.suppress(ConnectionError):
                assert sock.recv(10) == b""
        drip(bodies, 0.9 * _BODY)
        for sock in bodies:
            answer = read_answer(sock, bytearray())
            assert (answer.status, answer.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
            assert answer.json()["error"]["message"] == f"body did not arrive within {_BODY:.0f} seconds"
        assert 0.95 * _BODY < time.monotonic() - started < 2 * _BODY
        # A client that got its answer may send another request on the same connection, after all these time-outs.
        kept.sendall(one_request("GET", "/healthz", {"host": "localhost"}))
        assert read_answer(kept, rest_of_kept).status == 200
        assert registered(iot) == before


def test_silent_grpc_connections_time_out(impatient: Gateway) -> None:
    address = ("127.0.0.1", impatient.server.ports["grpc"])
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        silent = [stack.enter_context(socket.create_connection(address, timeout=15)) for _ in range(20)]
        for sock in silent[:10]:
            sock.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
        for sock in silent:
            with contextlib.suppress(ConnectionError):
                assert sock.recv(1) == b""
        assert 0.9 * _HANDSHAKE < time.monotonic() - began < 2 * _HANDSHAKE


def test_half_open_handshakes_and_missing_connects_time_out(impatient: Gateway) -> None:
    """The number of half-open connections from one address is limited, and their time; also without a CONNECT."""
    mine = impatient.mine
    made, address = mine.credential(), ("127.0.0.1", mine.server.ports["mqtt"])
    with contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(mine.dial(made, source="127.0.0.3")),
            stack.enter_context(mine.dial(None, source="127.0.0.3")),
        ]
        slow = stack.enter_context(mine.dial(made, source="127.0.0.3"))
        began = time.monotonic()
        sockets = [
            stack.enter_context(socket.create_connection(address, timeout=15, source_address=("127.0.0.4", 0)))
            for _ in range(300)
        ]
        time.sleep(0.3)
        closed = [sock for sock in sockets if at_end(sock)]
        assert len(closed) == 100
        # Connections from other addresses are accepted meanwhile; from this address they are not.
        mine.connected(made, client_id="elsewhere").drop()
        with pytest.raises(OSError):  # noqa: PT011 - any, as it depends on the progress of TLS
            mine.dial(made, source="127.0.0.4")
        for byte in encode(Connect(5, "slow"), 5)[:4]:  # single bytes do not restart the time-out
            slow.send_bytes(bytes([byte]))
            time.sleep(0.05)
        for each in [*silent, slow]:
            each.until_closed()
        assert 0.9 * _CONNECT < time.monotonic() - began < 2 * _CONNECT
        until(lambda: all(at_end(sock) for sock in sockets), seconds=5, what="all silent sockets are closed")
    with mine.dial(made, source="127.0.0.4") as device:
        device.connect(new_name())


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("what", ["publishes", "subscribes", "received"])
def test_a_device_above_its_rates_waits_without_loss(impatient: Gateway, version: Any, what: str) -> None:
    """The data of one second is accepted at once, more takes another second. Other devices do not wait for it."""
    floods: dict[str, list[Any]] = {
        "publishes": [Publish("a", b"x", 1, packet_id=number) for number in range(1, 100)],
        "subscribes": [Subscribe(number, (SubscriptionRequest("a", 1),)) for number in range(1, 40)],
        "received": [Publish("a", b"x" * 50_000, 1, packet_id=number) for number in range(1, 5)],
    }
    packets, mine = floods[what], impatient.mine
    made = mine.credential()
    with mine.connected(made, version=version) as device, mine.connected(made) as other:
        started = time.monotonic()
        device.send(*packets)
        other.publish("b", b"at once")
        assert time.monotonic() - started < 0.8
        answers: list[int] = []
        while len(answers) < len(packets):
            if not isinstance(packet := device.read(), Publish):
                answers.append(packet.packet_id)  # type: ignore[union-attr]
        assert answers == [packet.packet_id for packet in packets]
        assert time.monotonic() - started > 0.8
        assert device.is_open
    metrics = httpx.get(f"{mine.server.http_url}/metrics").text
    assert "thingmint_device_connections_throttled_total 0.0" not in metrics


def at_end(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
