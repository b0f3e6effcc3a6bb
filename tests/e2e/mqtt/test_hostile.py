"""Hostile devices and unauthenticated callers: each is refused as the protocol says, and others are still served."""

from __future__ import annotations

import contextlib
import re
import resource
import secrets
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.mqtt.conftest import new_name
from tests.e2e.mqtt.devices import Closed, Device
from tests.e2e.wire import until
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import ConnAck, Connect, PingReq, Publish, SubAck, Subscribe, SubscriptionRequest
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.mqtt.conftest import Devices
    from tests.e2e.mqtt.devices import Credential

VERSIONS: list[Any] = [4, 5]
MIB = 2**20


@pytest.fixture(scope="module")
def made(gateway: Any) -> Credential:
    credential: Credential = gateway.mine.credential()
    return credential


@pytest.fixture(autouse=True)
def others_are_served(mine: Devices, made: Credential) -> Iterator[None]:
    """Checks that an older connection and a new one work after each test, and that the log stays short."""
    before = mine.server.output.stat().st_size
    topic = new_name("t")
    with mine.connected(made) as old:
        old.subscribe(topic)
        yield
        with until(lambda: new_connection(mine, made), seconds=20, what="a new device connects") as new:
            assert new.publish(topic, b"still here") is Reason.SUCCESS
            assert old.receive().payload == b"still here"
    assert mine.server.process.poll() is None
    assert mine.server.output.stat().st_size - before < 200_000
    log = mine.server.output.read_text(errors="replace")[before:]
    assert "Traceback" not in log


def new_connection(fleet: Devices, made: Credential) -> Device | None:
    try:
        return fleet.connected(made)
    except (OSError, Closed):
        return None


def rss(fleet: Devices) -> int:
    """Returns the server's resident memory in bytes."""
    pages = int(Path(f"/proc/{fleet.server.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + varint(len(body)) + body


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def publish(topic: bytes, version: int) -> bytes:
    return packet(0x30, text(topic) + (b"\0" if version == 5 else b"") + b"x")


def subscribe(filter: bytes, version: int) -> bytes:
    return packet(0x82, b"\0\1" + (b"\0" if version == 5 else b"") + text(filter) + b"\1")


CONNECT = encode(Connect(5, "c"), 5)


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 64,
        b"\xff" * 64,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        encode(PingReq(), 4),
        encode(Publish("a", b"x"), 4),
        encode(Subscribe(1, (SubscriptionRequest("a", 1),)), 4),
        b"\x10\xff\xff\xff\xff\x01",  # a remaining length of five bytes
        b"\x10\xff\xff\xff\x7f",  # of 256 MiB
        b"\x11" + CONNECT[1:],  # reserved flags
        packet(0x10, text(b"MQTT") + b"\x03\x02\0\x3c" + text(b"c")),
        packet(0x10, text(b"MQIsdp") + b"\x03\x02\0\x3c" + text(b"c")),
        packet(0x10, text(b"MQTT") + b"\x04\x03\0\x3c" + text(b"c")),  # the reserved flag
        packet(0x10, text(b"MQTT") + b"\x04\x02\0\x3c" + text(b"c\0")),
        packet(0x10, text(b"MQTT") + b"\x04\x02\0\x3c" + text(b"\xed\xa0\x80")),
        packet(0x10, text(b"MQTT") + b"\x04\x02\0\x3c" + text(b"c") + b"more"),
        packet(0x10, text(b"MQTT") + b"\x04\x02\0\x3c\xff\xff"),
        encode(Connect(5, "x" * 129), 5),
        encode(Connect(5, "$aws/x"), 5),
        encode(Connect(4, "", clean_start=False), 4),
        encode(Connect(5, "c", authentication_method="SCRAM-SHA-1"), 5),
    ],
    ids=repr,
)
def test_a_malformed_connect_is_refused(mine: Devices, made: Credential, data: bytes) -> None:
    with mine.dial(made) as device:
        device.send_bytes(data)
        assert end_of(device)


def end_of(device: Device) -> bool:
    """True if the server closes. Its last packets are not decoded: their version may differ from the device's."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while device.sock.recv(65536):
            pass
    return True


MALFORMED: dict[str, bytes] = {
    "an unknown type": b"\x00\x00",
    "reserved flags": b"\xc1\x00",
    "a remaining length of five bytes": b"\x30\xff\xff\xff\xff\x01",
    "too long": b"\x30" + varint(149_505),
    "cut short": packet(0x30, b"\0\x10abc"),
    "empty": packet(0x30, b""),
    "both QoS bits": packet(0x36, text(b"a") + b"\0\1\0x"),
    "packet id 0": packet(0x32, text(b"a") + b"\0\0\0x"),
    "DUP at QoS 0": packet(0x38, text(b"a") + b"\0x"),
    "CONNECT again": CONNECT,
    "CONNACK": b"\x20\x02\0\0",
    "SUBACK": packet(0x90, b"\0\1\0"),
    "PINGRESP": b"\xd0\0",
    "SUBSCRIBE to nothing": packet(0x82, b"\0\1\0"),
    "SUBSCRIBE with packet id 0": packet(0x82, b"\0\0\0" + text(b"a") + b"\1"),
    "UNSUBSCRIBE from nothing": packet(0xA2, b"\0\1\0"),
    "PUBREL": packet(0x62, b"\0\1"),
    "QoS 3 in SUBSCRIBE": packet(0x82, b"\0\1\0" + text(b"a") + b"\3"),
    "an empty topic": publish(b"", 5),
    "garbage": bytes(range(255, -1, -1)) * 16,
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_packets_end_the_connection(mine: Devices, made: Credential, case: str) -> None:
    with mine.connected(made) as device:
        device.send_bytes(MALFORMED[case])
        closed = device.until_closed()
    assert closed.reason is not None
    assert closed.reason.failed


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "topic", [b"a\0b", b"\0", b"\xed\xa0\x80", b"a\xff", b"\xc0\x80", b"a/+", b"#", b"a/b/c/d/e/f/g/h/i", b"x" * 257]
)
def test_malformed_topics_are_refused(mine: Devices, made: Credential, version: Any, topic: bytes) -> None:
    with mine.connected(made, version=version) as device:
        device.send_bytes(publish(topic, version))
        closed = device.until_closed()
        assert (closed.reason is not None) == (version == 5)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "filter",
    [
        *(b"a\0b", b"\xed\xa0\x80", b"\xff"),
        *(b"", b"a/#/b", b"a+", b"$share", b"$share/", b"$share/g", b"$share/g/", b"$share/+/a", b"$share//a"),
        *(b"$share/g/$share/g/a", b"$", b"$aw", b"x" * 257, b"/" * 8),
    ],
)
def test_malformed_filters_are_refused(mine: Devices, made: Credential, version: Any, filter: bytes) -> None:
    with mine.connected(made, version=version) as device:
        device.send_bytes(subscribe(filter, version))
        if version == 5 and b"\0" not in filter and filter.isascii():
            (answer,) = device.expect(SubAck).reasons
            assert answer.failed
            assert device.is_open
        else:
            assert (device.until_closed().reason is not None) == (version == 5)


def test_the_largest_message_is_accepted(mine: Devices, made: Credential) -> None:
    topic = new_name("t")
    with mine.connected(made) as device:
        device.subscribe(topic)
        device.publish(topic, b"x" * 128 * 1024)
        assert len(device.receive().payload) == 128 * 1024
        device.send(Publish(topic, b"x" * (128 * 1024 + 1), 1, packet_id=9))
        assert device.until_closed().reason is Reason.PACKET_TOO_LARGE


def test_exceeding_the_receive_maximum_ends_the_connection(mine: Devices, made: Credential) -> None:
    with mine.connected(made) as device:
        device.send(*(Publish("a", b"x", 1, packet_id=number) for number in range(1, 102)))
        assert device.until_closed().reason is Reason.RECEIVE_MAXIMUM_EXCEEDED


# -- floods ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_the_51st_subscription_is_refused(mine: Devices, made: Credential, version: Any) -> None:
    with mine.connected(made, version=version) as device:
        for number in range(50):
            assert device.subscribe(f"a/{number}") == [Reason.GRANTED_QOS_1]
        assert device.subscribe("a/7") == [Reason.GRANTED_QOS_1]  # subscribed already
        if version == 5:
            assert device.subscribe("a/50") == [Reason.QUOTA_EXCEEDED]
            device.unsubscribe("a/0")
            assert device.subscribe("a/50") == [Reason.GRANTED_QOS_1]
        else:
            device.send(Subscribe(99, (SubscriptionRequest("a/50", 1),)))
            assert device.until_closed().packets == []


def test_a_subscribe_beyond_the_quota_is_partly_refused(mine: Devices, made: Credential) -> None:
    with mine.connected(made) as device:
        for start in range(0, 48, 8):
            device.subscribe(*(f"a/{number}" for number in range(start, start + 8)))
        answers = device.subscribe(*(f"b/{number}" for number in range(8)))
        assert answers == [Reason.GRANTED_QOS_1] * 2 + [Reason.QUOTA_EXCEEDED] * 6
        assert device.subscribe(*(f"c/{number}" for number in range(9))) == [Reason.QUOTA_EXCEEDED] * 9


def test_a_subscribe_flood_takes_little_memory(mine: Devices, made: Credential) -> None:
    before = rss(mine)
    with mine.connected(made) as device:
        filters = [f"flood/{number}/" + "x" * 200 for number in range(4000)]
        for number in range(1000):
            four = filters[4 * number : 4 * number + 4]
            device.send(Subscribe(number + 1, tuple(SubscriptionRequest(filter, 1) for filter in four)))
        granted = 0
        with contextlib.suppress(Closed):
            for _ in range(1000):
                granted += sum(not reason.failed for reason in device.read().reasons)  # type: ignore[union-attr]
        assert granted == 50
    assert rss(mine) - before < 20 * MIB


def test_garbage_takes_little_memory_and_few_log_lines(mine: Devices, made: Credential) -> None:
    before, size = rss(mine), mine.server.output.stat().st_size
    for number in range(300):
        with socket.create_connection(("127.0.0.1", mine.server.ports["mqtt"]), timeout=15) as sock:
            sock.sendall(secrets.token_bytes(300) if number % 2 else b"\x16\x03\x01\x40\x00" + secrets.token_bytes(99))
    for _ in range(50):
        with mine.dial(None) as device:
            device.send_bytes(b"\0" + secrets.token_bytes(1000))
            device.until_closed()
    assert rss(mine) - before < 20 * MIB
    assert mine.server.output.stat().st_size - size < 10_000


def test_many_connections_take_little_memory(mine: Devices, made: Credential) -> None:
    before = rss(mine)
    with contextlib.ExitStack() as stack:
        devices = [stack.enter_context(mine.connected(made)) for _ in range(200)]
        assert rss(mine) - before < 200 * 100 * 1024
        assert devices[0].is_open
        assert devices[-1].is_open


def small_buffers(fleet: Devices, made: Credential, version: Any = 5) -> Device:
    device = fleet.connected(made, version=version)
    device.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return device


@pytest.mark.parametrize("qos", [0, 1])
def test_messages_for_a_device_that_never_reads_are_limited(mine: Devices, made: Credential, qos: int) -> None:
    """At QoS 0 messages are dropped. At QoS 1 a limited number waits, and then the sender gets QUOTA_EXCEEDED."""
    topic = new_name("t")
    payload = bytes(100 * 1024)
    with small_buffers(mine, made) as reader, mine.connected(made) as sender:
        reader.subscribe(topic, qos=qos)
        sender.publish(topic, payload, qos=qos)
        before = rss(mine)
        answers = set()
        for _ in range(500):
            answers.add(sender.publish(topic, payload, qos=qos))
        assert sender.is_open
        assert rss(mine) - before < 40 * MIB
        if qos:
            assert answers == {Reason.SUCCESS, Reason.QUOTA_EXCEEDED}


@pytest.mark.parametrize("what", ["ping", "publish", "subscribe"])
def test_answers_to_a_device_that_never_reads_are_limited(mine: Devices, made: Credential, what: str) -> None:
    """The answers take little memory, and other devices are still served."""
    flood, enough = {
        "ping": (encode(PingReq(), 4) * 30_000, 12 * MIB),
        "publish": (encode(Publish("a", b"", 1, packet_id=1), 4) * 8_000, 8 * MIB),
        "subscribe": (encode(Subscribe(1, (SubscriptionRequest("a", 1),)), 4) * 6_000, 2 * MIB),
    }[what]
    with small_buffers(mine, made, version=4) as device:
        before = rss(mine)
        device.sock.settimeout(1.0)
        sent = 0
        with contextlib.suppress(TimeoutError, ConnectionError, ssl.SSLError):
            while sent < enough:
                device.sock.sendall(flood)
                sent += len(flood)
        assert rss(mine) - before < 5 * MIB


def test_a_connect_flood_leaves_one_connection(mine: Devices, made: Credential) -> None:
    """Each connection takes the client id over from the one before."""
    name = new_name()
    with contextlib.ExitStack() as stack:
        devices = [stack.enter_context(mine.dial(made)) for _ in range(60)]
        for device in devices:
            device.send(Connect(5, name))
        answered = [device for device in devices if survives(device)]  # at the time of this check
        assert len([device for device in answered if device.is_open]) == 1


def survives(device: Device) -> bool:
    try:
        device.expect(ConnAck)
        return device.nothing_comes()
    except Closed:
        return False


def test_log_lines_contain_no_line_breaks(mine: Devices, made: Credential) -> None:
    """A device cannot forge a log line."""
    with mine.connected(made) as device:
        device.publish('$aws/x\n{"event":"forged"}')
    lines = mine.server.output.read_text().splitlines()
    assert not [line for line in lines if re.match(r'^\{"event":"forged"', line)]
