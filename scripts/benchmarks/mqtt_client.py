"""The load on the MQTT gateway: one process that acts as many devices, over mutual TLS 1.3 and MQTT 3.1.1.

Run as a program, it reads one order from each line of standard input and writes one result in a line, as ``load.py``
does. The behaviour of a device is a generator ("conversation"): it sends packets, and is resumed with the answers.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import resource
import select
import socket
import ssl
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

__all__: list[str] = []

_RECEIVE_BYTES = 64 * 1024
_SILENCE = 30.0  # seconds without any event, after which the load fails
_SOURCES = 16  # source addresses of the devices, because servers limit the connections from one address
_KEEP_ALIVE = 1200  # seconds, so that idle devices send no PINGREQ

# A conversation is resumed with a packet, or with one of these: the handshake is done; the server has closed.
_READY = b"\0"
_CLOSED = b""

_DISCONNECT = b"\xe0\x00"


class LoadFailed(Exception):
    """A server did not do what a device requested."""


def packet(first: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    length, size = bytearray(), len(body)
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes((first, *length)) + body


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def connect_packet(client_id: str) -> bytes:
    return packet(0x10, text("MQTT"), b"\x04\x02", _KEEP_ALIVE.to_bytes(2, "big"), text(client_id))


def publish_packet(topic: str, payload: bytes, id: int) -> bytes:
    return packet(0x32, text(topic), id.to_bytes(2, "big"), payload)


def subscribe_packet(id: int, *filters: str) -> bytes:
    return packet(0x82, id.to_bytes(2, "big"), *(text(filter) + b"\x01" for filter in filters))


def puback_for(publish: bytes) -> bytes:
    """The answer to a PUBLISH of QoS 1."""
    position = body_of(publish)
    position += 2 + int.from_bytes(publish[position : position + 2], "big")
    return b"\x40\x02" + publish[position : position + 2]


def topic_and_payload(publish: bytes) -> tuple[str, bytes]:
    start = body_of(publish) + 2
    end = start + int.from_bytes(publish[start - 2 : start], "big")
    return publish[start:end].decode(), publish[end + 2 * bool(publish[0] & 0x06) :]


def body_of(whole: bytes) -> int:
    position = 1
    while whole[position] & 0x80:
        position += 1
    return position + 1


class Device:
    """A device: its connection, and the conversation that uses it."""

    def __init__(self, swarm: Swarm, number: int, identity: Path) -> None:
        self.swarm = swarm
        self.number = number
        self.identity = identity  # certificate and key
        self.client_id = f"bench-{number}"
        self.conversation: Generator[None, bytes, None] | None = None
        self.is_open = False

    def open(self) -> None:
        """Opens the connection. The conversation is resumed with _READY after the handshake."""
        swarm = self.swarm
        self._socket = socket.socket()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.bind((f"127.0.0.{2 + self.number % _SOURCES}", 0))
        self._socket.settimeout(_SILENCE)
        self._socket.connect(("127.0.0.1", swarm.port))
        self._socket.setblocking(False)
        swarm.context.load_cert_chain(self.identity)  # a connection keeps the certificate that it was made with
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = swarm.context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._shaken = False
        self._buffer = b""
        self.is_open = True
        swarm.register(self._socket.fileno(), self)
        self._shake()

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def end(self) -> None:
        """Sends DISCONNECT and close_notify together; the server then closes the connection."""
        self._tls.write(_DISCONNECT)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.swarm.unregister(self._socket.fileno())
            self._socket.close()

    def readable(self) -> None:
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            self.close()
            self.swarm.resume(self, _CLOSED)
            return
        self._incoming.write(data)
        if not self._shaken and not self._shake():
            return
        while self.is_open:
            try:
                received = self._tls.read(_RECEIVE_BYTES)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLError as error:
                if not isinstance(error, ssl.SSLZeroReturnError):
                    raise LoadFailed(f"device {self.number}: {error}") from error
                return
            if not received:
                return
            self._take(received)

    def _take(self, data: bytes) -> None:
        data = self._buffer + data
        while len(data) >= 2:
            length = shift = 0
            for position in range(1, min(len(data), 5)):
                length |= (data[position] & 0x7F) << shift
                shift += 7
                if data[position] < 0x80:
                    break
            else:
                break
            end = position + 1 + length
            if len(data) < end:
                break
            whole, data = data[:end], data[end:]
            self.swarm.resume(self, whole)
        self._buffer = data

    def _shake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        self._flush()
        self._shaken = True
        self.swarm.resume(self, _READY)
        return True

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            # The server may have closed: what it sent before is still read.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._socket.sendall(data)


class Swarm:
    def __init__(self, first: dict[str, Any]) -> None:
        self.port: int = first["port"]
        self.context = ssl.create_default_context(cafile=first["ca"])
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.devices: list[Device] = []  # devices that stay connected
        self.serials = itertools.count()
        self._identities = itertools.cycle([Path(path) for path in first["identities"]])
        self._numbers = itertools.count()
        self._poll = select.epoll()
        self._by_descriptor: dict[int, Device] = {}
        self._running = 0
        self._events: deque[tuple[Device, bytes]] = deque()
        self.latencies: list[float] = []
        self.deadline = 0.0

    def register(self, descriptor: int, device: Device) -> None:
        self._by_descriptor[descriptor] = device
        self._poll.register(descriptor, select.EPOLLIN)

    def unregister(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        del self._by_descriptor[descriptor]

    def resume(self, device: Device, event: bytes) -> None:
        """Resumes the conversation later, because it can open the device's connection again."""
        self._events.append((device, event))

    def next_identity(self) -> Path:
        return next(self._identities)

    def new_device(self) -> Device:
        return Device(self, next(self._numbers), self.next_identity())

    def goes_on(self) -> bool:
        return time.perf_counter() < self.deadline

    def done(self, began: float) -> float:
        now = time.perf_counter()
        self.latencies.append(now - began)
        return now

    def start(self, device: Device, conversation: Generator[None, bytes, None]) -> None:
        self._running += 1
        device.conversation = conversation
        self._step(device, None)

    def run(self, more: Callable[[], bool] = lambda: False, at_once: int = 0) -> None:
        """Runs until all conversations have ended. ``more`` starts another one, or returns False."""
        while True:
            while self._running < at_once and more():
                pass
            while self._events:
                device, event = self._events.popleft()
                self._step(device, event)
            if not self._running:
                if not at_once or not more():
                    return
                continue
            ready = self._poll.poll(_SILENCE, 256)
            if not ready:
                raise LoadFailed(f"{self._running} devices have heard nothing for {_SILENCE:.0f} seconds")
            for descriptor, _ in ready:
                self._by_descriptor[descriptor].readable()

    def _step(self, device: Device, event: bytes | None) -> None:
        if device.conversation is None:
            if event == _CLOSED:
                raise LoadFailed(f"device {device.number} was thrown out")
            return
        try:
            if event is None:
                next(device.conversation)
            else:
                device.conversation.send(event)
        except StopIteration:
            device.conversation = None
            self._running -= 1


def letting_in(device: Device) -> Generator[None, bytes, None]:
    """Connects over TCP and TLS, sends CONNECT and waits for CONNACK."""
    device.open()
    if (yield) != _READY:
        raise LoadFailed(f"device {device.number}: no handshake")
    device.send(connect_packet(device.client_id))
    answer = yield
    if answer[:1] != b"\x20" or answer[3]:
        raise LoadFailed(f"device {device.number}: CONNECT was answered with {answer!r}")


def leaving(device: Device) -> Generator[None, bytes, None]:
    device.end()
    while (yield) != _CLOSED:
        pass


def visiting(device: Device) -> Generator[None, bytes, None]:
    while device.swarm.goes_on():
        began = time.perf_counter()
        yield from letting_in(device)
        device.swarm.done(began)
        yield from leaving(device)
        device.identity = device.swarm.next_identity()


def staying(device: Device) -> Generator[None, bytes, None]:
    yield from letting_in(device)


def subscribing(device: Device) -> Generator[None, bytes, None]:
    device.send(subscribe_packet(1, f"bench/{device.client_id}/echo"))
    answer = yield
    if answer[:1] != b"\x90" or answer[-1] != 1:
        raise LoadFailed(f"SUBSCRIBE was answered with {answer!r}")


def publishing(device: Device, topic: str, payload: bytes, *, echo: bool) -> Generator[None, bytes, None]:
    """Publishes one message at a time: waits for its PUBACK and, with ``echo``, until it is delivered back."""
    swarm, id = device.swarm, 0
    while swarm.goes_on():
        id = id % 65_535 + 1
        acknowledged, delivered = False, not echo
        began = time.perf_counter()
        device.send(publish_packet(topic, payload, id))
        while not (acknowledged and delivered):
            answer = yield
            if answer[:1] == b"\x40" and int.from_bytes(answer[2:4], "big") == id:
                acknowledged = True
            elif echo and answer[:1] == b"\x32":
                device.send(puback_for(answer))
                delivered = True
            else:
                raise LoadFailed(f"PUBLISH was answered with {answer!r}")
        swarm.done(began)


def waiting(device: Device, moments: dict[int, float]) -> Generator[None, bytes, None]:
    """Waits until the server closes the connection."""
    while (yield) != _CLOSED:
        pass
    moments[device.number] = time.perf_counter()


def provisioning(device: Device, order: dict[str, Any], folder: Path) -> Generator[None, bytes, None]:
    """Fleet provisioning: connects with the claim certificate, gets its own certificate, and connects with that."""
    swarm, claim = device.swarm, device.identity
    own = folder / f"{device.number}.pem"
    create = f"$aws/certificates/create{'' if order['csr'] is None else '-from-csr'}/json"
    register = f"$aws/provisioning-templates/{order['template']}/provision/json"
    request = {} if order["csr"] is None else {"certificateSigningRequest": order["csr"]}
    while swarm.goes_on():
        began = time.perf_counter()
        device.identity = claim
        device.client_id = f"claim-{device.number}"
        yield from letting_in(device)
        device.send(subscribe_packet(1, *(f"{topic}/{end}" for topic in (create, register) for end in _ENDS)))
        if (yield)[:1] != b"\x90":
            raise LoadFailed("SUBSCRIBE was refused")
        made = yield from _asking(device, create, request)
        serial = f"{order['prefix']}-{next(swarm.serials)}"
        asked = {
            "certificateOwnershipToken": made["certificateOwnershipToken"],
            "parameters": {"SerialNumber": serial},
        }
        device.client_id = (yield from _asking(device, register, asked))["thingName"]
        yield from leaving(device)
        own.write_text(made["certificatePem"] + made.get("privateKey", order["key"]))
        device.identity = own
        yield from letting_in(device)
        swarm.done(began)
        yield from leaving(device)
    own.unlink(missing_ok=True)


_ENDS = ("accepted", "rejected")


def _asking(device: Device, topic: str, request: Any) -> Generator[None, bytes, dict[str, Any]]:
    device.send(publish_packet(topic, json.dumps(request).encode(), 7))
    acknowledged = False
    reply: tuple[str, bytes] | None = None
    while reply is None or not acknowledged:
        answer = yield
        if answer[:1] == b"\x40":
            acknowledged = True
        elif answer and answer[0] & 0xF0 == 0x30:
            if answer[0] & 0x06:
                device.send(puback_for(answer))
            reply = topic_and_payload(answer)
        else:
            raise LoadFailed(f"{topic} was answered with {answer!r}")
    if not reply[0].endswith("/accepted"):
        raise LoadFailed(f"{reply[0]}: {reply[1].decode(errors='replace')}")
    result: dict[str, Any] = json.loads(reply[1])
    return result


def _serve(swarm: Swarm, order: dict[str, Any]) -> dict[str, Any]:
    cpu, start = time.process_time(), time.perf_counter()
    swarm.latencies = []
    swarm.deadline = start + order.get("seconds", 0.0)
    devices: Sequence[Device] = swarm.devices
    further: dict[str, Any] = {}
    kind = order["order"]
    if kind == "visit":
        for _ in range(order["devices"]):
            device = swarm.new_device()
            swarm.start(device, visiting(device))
        swarm.run()
    elif kind == "stay":
        wanted = iter(range(order["devices"]))
        fresh: list[Device] = []

        def more() -> bool:
            if next(wanted, None) is None:
                return False
            fresh.append(swarm.new_device())
            swarm.start(fresh[-1], staying(fresh[-1]))
            return True

        swarm.run(more, at_once=64)
        swarm.devices += fresh
        further = {"identities": [str(device.identity) for device in fresh]}
    elif kind == "publish":
        payload = b"x" * order["bytes"]
        if order["echo"]:
            for device in devices:
                swarm.start(device, subscribing(device))
            swarm.run()
        for device in devices:
            topic = f"bench/{device.client_id}/{'echo' if order['echo'] else 'data'}"
            swarm.start(device, publishing(device, topic, payload, echo=order["echo"]))
        swarm.run()
    elif kind == "wait":
        moments: dict[int, float] = {}
        for device in devices:
            swarm.start(device, waiting(device, moments))
        print(json.dumps({"waiting": len(devices)}), flush=True)
        swarm.run()
        further = {"moments": [moments[device.number] for device in devices]}
        swarm.devices = []
    elif kind == "provision":
        for _ in range(order["devices"]):
            device = swarm.new_device()
            swarm.start(device, provisioning(device, order, Path(order["folder"])))
        swarm.run()
    else:
        raise ValueError(kind)
    swarm.latencies.sort()
    return {
        "answered": len(swarm.latencies),
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "latencies": swarm.latencies,
        **further,
    }


def _main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    swarm = Swarm(json.loads(sys.stdin.readline()))
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(_serve(swarm, json.loads(line))), flush=True)


if __name__ == "__main__":
    try:
        _main()
    except (LoadFailed, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
