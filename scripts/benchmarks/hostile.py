"""The effect of hostile clients: how long another client waits during an attack, and how much memory the server uses.

An attack takes a few seconds, and comes from another address than the client whose wait is measured.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import socket
import ssl
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.figures import Budget, Figure
from benchmarks.fleet import csr_pem, key_pem
from benchmarks.machine import peak_resident_bytes
from benchmarks.measuring import SERVE
from benchmarks.observer import Observer
from thingmint import admin
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import Connect, Publish, Subscribe, SubscriptionRequest, Will
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from benchmarks.bench import Bench
    from thingmint.mqtt.protocol.packets import Packet
    from thingmint.testing import RunningServer

__all__ = ["HOSTILE_STEPS", "hostile"]

_BUDGET = Budget(50, at_most=True)
_LASTS = 4.0  # seconds
_SOURCE = "127.0.0.2"
_POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}
_RETAINED, _SUBSCRIPTIONS, _SUBSCRIBERS = 3_000, 200, 400
_POLICIES, _PATTERNS = 20, 150  # close to the limits of what a user can have
_STALL = re.compile(r"^thingmint_event_loop_longest_stall_seconds (\S+)$", re.MULTILINE)


class Attacker:
    """Makes connections to a server, as a device or without credentials; they are closed with ``stack``.

    ``until`` is the time at which the attack must end (time.monotonic()).
    """

    def __init__(self, server: RunningServer, identity: Path, stack: contextlib.ExitStack, until: float) -> None:
        self.server = server
        self.until = until
        self._stack = stack
        self._anonymous = ssl.create_default_context(cafile=str(server.ca))
        self._device = ssl.create_default_context(cafile=str(server.ca))
        self._device.load_cert_chain(identity)

    def rounds(self, most: int) -> Iterator[int]:
        return itertools.takewhile(lambda _: time.monotonic() < self.until, range(most))

    def https(self) -> ssl.SSLSocket:
        """A connection without credentials."""
        return self._connected("api", self._anonymous)

    def device(self, connect: Connect) -> ssl.SSLSocket:
        """A connection of a device, after its CONNACK."""
        connection = self._connected("mqtt", self._device)
        connection.sendall(encode(connect, connect.version))
        connection.recv(64)
        return connection

    def swallow(self, connection: ssl.SSLSocket) -> None:
        """Reads and discards everything, in a thread."""

        def read() -> None:
            with contextlib.suppress(OSError):
                while connection.recv(65_536):
                    pass

        threading.Thread(target=read, daemon=True).start()

    def _connected(self, listener: str, context: ssl.SSLContext) -> ssl.SSLSocket:
        address = ("127.0.0.1", self.server.ports[listener])
        plain = self._stack.enter_context(socket.create_connection(address, _LASTS, (_SOURCE, 0)))
        return self._stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))


def pipelined_requests(attacker: Attacker) -> None:
    connection = attacker.https()
    for _ in attacker.rounds(1_000):
        connection.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n" * 400)


def many_connections(attacker: Attacker) -> None:
    for _ in attacker.rounds(2_000):
        attacker.https().sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")


def bodies_before_authentication(attacker: Attacker) -> None:
    head = b"POST /certificates HTTP/1.1\r\nhost: localhost\r\nauthorization: AWS4-HMAC-SHA256 x\r\n"
    for _ in attacker.rounds(300):
        with contextlib.suppress(OSError):  # the server refuses the request, or stops reading
            connection = attacker.https()
            connection.settimeout(0.2)
            connection.sendall(head + b"content-length: 1048575\r\n\r\n" + b"a" * 1_048_000)


def retained_messages(attacker: Attacker) -> None:
    filling, asking = (attacker.device(Connect(4, f"retained-{number}")) for number in (1, 2))
    attacker.swallow(filling)
    attacker.swallow(asking)
    filling.sendall(_encoded(Publish(f"r/{number}", b"x", retain=True) for number in range(_RETAINED)))
    requests = tuple(SubscriptionRequest(filter) for filter in ("#", "r/+"))
    asking.sendall(_encoded(Subscribe(number, requests) for number in range(1, _SUBSCRIPTIONS + 1)))
    time.sleep(max(0.0, attacker.until - time.monotonic()))


def many_subscribers(attacker: Attacker) -> None:
    subscribe = Subscribe(1, (SubscriptionRequest("fan/#"),))
    for number in range(_SUBSCRIBERS):
        connection = attacker.device(Connect(4, f"subscriber-{number}"))
        connection.sendall(_encoded([subscribe]))
        attacker.swallow(connection)
    publisher = attacker.device(Connect(4, "publisher"))
    attacker.until = time.monotonic() + _LASTS
    for _ in attacker.rounds(100):
        publisher.sendall(_encoded(Publish(f"fan/{number}", b"x" * 100) for number in range(10)))
        time.sleep(0.05)


def delayed_wills(attacker: Attacker) -> None:
    for number in attacker.rounds(600):
        will = Will("wills/x", b"x" * 65_000, delay=3600)
        with contextlib.suppress(OSError):
            attacker.device(Connect(5, f"will-{number}", will=will, session_expiry=3600)).close()


def refused_calls(attacker: Attacker) -> None:
    """Makes calls that are refused, as a user with the largest policies."""
    server = attacker.server
    _operate(server, "user.create", name="noisy")
    for number in range(_POLICIES):
        patterns = [f"arn:aws:iot:*:*:*{number}*{index}?*a?z" for index in range(_PATTERNS)]
        statement = {"Effect": "Allow", "Action": ["iot:CreatePolicy"], "Resource": patterns}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]}, separators=(",", ":"))
        _operate(server, "policy.put", name=f"noisy-{number}", document=document)
        _operate(server, "policy.attach", principal="user/noisy", policy=f"noisy-{number}")
    made = _operate(server, "key.create", principal="user/noisy")
    keys = {f"aws_{name}": made[name] for name in ("access_key_id", "secret_access_key")}
    noisy = _client(server, **keys)
    for number in attacker.rounds(2_000):
        with contextlib.suppress(ClientError):
            noisy.create_policy(policyName=f"{'a' * 100}{number}", policyDocument=json.dumps(_POLICY))
    noisy.close()


_ATTACKS: Mapping[str, Callable[[Attacker], None]] = {
    "pipelined requests whose answers are not read": pipelined_requests,
    "connections from one address": many_connections,
    "bodies of 1 MB before authentication": bodies_before_authentication,
    f"{_SUBSCRIPTIONS} SUBSCRIBEs to {_RETAINED:,} retained messages": retained_messages,
    f"messages to {_SUBSCRIBERS} subscribers": many_subscribers,
    "delayed wills of 65 KB": delayed_wills,
    "refused calls of a user with 20 large policies": refused_calls,
}
HOSTILE_STEPS = len(_ATTACKS)


def hostile(bench: Bench) -> list[Figure]:
    """Measures each attack on a new server, so that the peak of memory comes from this attack."""
    figures = []
    for name, attack in _ATTACKS.items():
        bench.step(f"hostile: {name}")
        folder = Path(tempfile.mkdtemp(prefix="hostile-", dir=bench.server.data_dir.parent))
        try:
            with running_server(folder / "data", arguments=SERVE) as server:
                figures += _attacked(server, name, attack, _new_device(server, folder), bench.seconds(_LASTS))
        finally:
            shutil.rmtree(folder)
    return figures


def _attacked(
    server: RunningServer, name: str, attack: Callable[[Attacker], None], identity: Path, seconds: float
) -> list[Figure]:
    _longest_stall(server)  # resets the metric, which covers the time since the last request for it
    with Observer(server.ports["http"]) as observer, contextlib.ExitStack() as stack:
        attacker = Attacker(server, identity, stack, time.monotonic() + seconds)
        with contextlib.suppress(OSError):  # the server closes the connection, or stops reading
            attack(attacker)
        own = _longest_stall(server)
    peak = peak_resident_bytes(server.process.pid)
    return [
        Figure("hostile", f"{name}: longest wait of another client", observer.longest * 1000, "ms", _BUDGET),
        Figure("hostile", f"{name}: longest stall that the server counted", own * 1000, "ms", _BUDGET),
        Figure("hostile", f"{name}: peak RSS", peak / 1e6, "MB"),
    ]


def _longest_stall(server: RunningServer) -> float:
    """The longest stall of the event loop since the last call, in seconds."""
    with urllib.request.urlopen(f"{server.http_url}/metrics") as answer:
        found = _STALL.search(answer.read().decode())
    if found is None:
        raise ValueError("/metrics has no longest stall of the event loop")
    return float(found[1])


def _new_device(server: RunningServer, folder: Path) -> Path:
    """A file with the certificate and key of a new device, which is allowed to do everything."""
    iot, key = _client(server), ec.generate_private_key(ec.SECP256R1())
    made = iot.create_certificate_from_csr(certificateSigningRequest=csr_pem(key), setAsActive=True)
    iot.create_policy(policyName="hostile", policyDocument=json.dumps(_POLICY))
    iot.attach_policy(policyName="hostile", target=made["certificateArn"])
    iot.close()
    identity = folder / "device.pem"
    identity.write_text(made["certificatePem"] + key_pem(key))
    return identity


def _client(server: RunningServer, **keys: str) -> Any:
    return boto3.session.Session().client("iot", **server.boto3_arguments() | keys)


def _operate(server: RunningServer, command: str, **given: str) -> Any:
    return admin.call(server.data_dir / "admin.sock", "access", name=command, given=given)


def _encoded(packets: Iterable[Packet]) -> bytes:
    return b"".join(encode(packet, 4) for packet in packets)
