"""Many devices in one process: their TLS connections, and the loop that resumes their conversations.

The behaviour of a device is a generator ("conversation"): it sends packets, and is resumed with the answers.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.mqtt_packets import DISCONNECT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_RECEIVE_BYTES = 64 * 1024
_SILENCE = 30.0  # seconds without any event, after which the load fails
_SOURCES = 16  # source addresses of the devices, because servers limit the connections from one address

# A conversation is resumed with a packet, or with one of these: the handshake is done; the server has closed; another
# device has received the message.
READY = b"\0"
CLOSED = b""
HEARD = b"\1"


class LoadFailed(Exception):
    """A server did not do what a device requested."""


class Identity(NamedTuple):
    """A file with a certificate and its key; or a user name and a password."""

    certificate: str | None
    user_name: str | None = None
    password: str | None = None


class Device:
    """A device: its connection, and the conversation that uses it."""

    def __init__(self, swarm: Swarm, number: int, identity: Identity) -> None:
        self.swarm = swarm
        self.number = number
        self.identity = identity
        self.client_id = f"bench-{number}"
        self.conversation: Generator[None, bytes, None] | None = None
        self.is_open = False

    def open(self) -> None:
        """Opens the connection. The conversation is resumed with READY after the handshake."""
        swarm = self.swarm
        self._socket = socket.socket()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.bind((f"127.0.0.{2 + self.number % _SOURCES}", 0))
        self._socket.settimeout(_SILENCE)
        self._socket.connect(("127.0.0.1", swarm.port))
        self._socket.setblocking(False)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = swarm.context_for(self.identity)
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
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
        self._tls.write(DISCONNECT)
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
            self.swarm.resume(self, CLOSED)
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
        self.swarm.resume(self, READY)
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
        self._contexts = [ssl.create_default_context(cafile=first["ca"]) for _ in range(2)]
        for context in self._contexts:
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.devices: list[Device] = []  # devices that stay connected
        self.serials = itertools.count()
        self._identities = itertools.cycle([Identity(*fields) for fields in first["identities"]])
        self._numbers = itertools.count()
        self._poll = select.epoll()
        self._by_descriptor: dict[int, Device] = {}
        self._running = 0
        self._events: deque[tuple[Device, bytes]] = deque()
        self.latencies: list[float] = []
        self.deadline = 0.0
        self.left = 0

    def context_for(self, identity: Identity) -> ssl.SSLContext:
        with_certificate, without = self._contexts
        if identity.certificate is None:
            return without
        with_certificate.load_cert_chain(identity.certificate)  # a connection keeps the one that it was made with
        return with_certificate

    def register(self, descriptor: int, device: Device) -> None:
        self._by_descriptor[descriptor] = device
        self._poll.register(descriptor, select.EPOLLIN)

    def unregister(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        del self._by_descriptor[descriptor]

    def resume(self, device: Device, event: bytes) -> None:
        """Resumes the conversation later, because it can open the device's connection again."""
        self._events.append((device, event))

    def next_identity(self) -> Identity:
        return next(self._identities)

    def new_device(self) -> Device:
        return Device(self, next(self._numbers), self.next_identity())

    def goes_on(self) -> bool:
        """True if there is time for one more, and not all have begun."""
        self.left -= 1
        return self.left >= 0 and time.perf_counter() < self.deadline

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
            if event == CLOSED:
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
