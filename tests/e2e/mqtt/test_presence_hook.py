"""The presence hook: a real HTTP server hears of the connections of devices of both clouds."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.e2e.conftest import iot_client
from tests.e2e.databases import device, metric
from tests.e2e.mqtt.conftest import new_name
from tests.e2e.mqtt.devices import Closed, Device, credential
from tests.e2e.wire import until
from tests.e2e.yandex.clients import PASSWORD, Cloud
from tests.e2e.yandex.owners import Owners
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.mqtt.devices import Credential
    from thingmint.testing import RunningServer

SECRET = "a secret of the hook"


@dataclass
class Receiver:
    """``events`` are those of requests that it accepted; it has checked their signatures."""

    url: str = ""
    mode: Literal["accept", "fail", "redirect", "hang"] = "accept"
    events: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def take(self, header: str, body: bytes) -> int:
        """Returns the status of the answer."""
        self.bodies.append(body)
        parts = dict(part.split("=", 1) for part in header.split(","))
        mac = hmac.new(SECRET.encode(), f"{parts['t']}.".encode() + body, hashlib.sha256).hexdigest()
        if parts["v1"] != mac or abs(time.time() - int(parts["t"])) > 60:
            self.wrong.append(header)
        mode = self.mode
        if mode == "hang":
            self.released.wait(60)
        if mode == "accept":
            self.events += json.loads(body)["events"]
        return {"accept": 200, "fail": 500, "redirect": 307, "hang": 500}[mode]

    def of(self, client_id: str, count: int) -> list[dict[str, Any]]:
        """Waits for that number of events of a client, and returns them."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.events if event["client_id"] == client_id]

        until(lambda: len(found()) >= count, seconds=30, what=f"{count} events of {client_id}")
        return found()


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.take(self.headers["thingmint-signature"], body)
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("location", f"{receiver.url}/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/events"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def hook() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver
    assert receiver.wrong == []


@pytest.fixture(scope="module")
def hooked(hook: Receiver) -> Iterator[RunningServer]:
    setting = json.dumps({"url": hook.url, "secret": SECRET})
    with running_server(arguments=["--log-format=json"], environment={"THINGMINT_PRESENCE": setting}) as server:
        yield server


@pytest.fixture
def made(hooked: RunningServer, tmp_path: Path) -> Credential:
    return device(tmp_path, iot_client(hooked))


def account_of(made: Credential) -> str:
    return made.arn.split(":")[4]


def taken(event: dict[str, Any], *names: str) -> list[str]:
    return [event.pop(name) for name in names]


def test_the_life_of_a_connection(hooked: RunningServer, hook: Receiver, made: Credential) -> None:
    name = new_name()
    iot = iot_client(hooked)
    iot.create_thing(thingName=name)
    iot.attach_thing_principal(thingName=name, principal=made.arn)
    with Device(hooked, made) as opened:
        opened.connect(name)
        opened.disconnect()
    connected, gone = hook.of(name, 2)
    first, second = (taken(event, "id", "time", "connection_id") for event in (connected, gone))
    assert first[0] != second[0]
    assert first[1] < second[1]
    assert first[2] == second[2]
    common = {
        "account": account_of(made),
        "region": "us-east-1",
        "cloud": "aws",
        "client_id": name,
        "certificate": made.fingerprint,
        "thing": name,
        "address": "127.0.0.1",
    }
    assert connected == {**common, "event": "connected"}
    assert gone == {
        **common,
        "event": "disconnected",
        "reason": "CLIENT_INITIATED_DISCONNECT",
        "why": "the device disconnected",
    }


def test_refusals_of_known_devices(hooked: RunningServer, hook: Receiver, tmp_path: Path) -> None:
    iot = iot_client(hooked)
    inactive, forbidden, unknown = new_name("inactive"), new_name("forbidden"), new_name("unknown")
    silent, denied = credential(tmp_path), credential(tmp_path)
    iot.register_certificate_without_ca(certificatePem=silent.pem, status="INACTIVE")
    iot.register_certificate_without_ca(certificatePem=denied.pem, status="ACTIVE")
    for made, name in ((credential(tmp_path), unknown), (silent, inactive), (denied, forbidden)):
        with Device(hooked, made) as opened, pytest.raises(Closed):
            opened.connect(name)
    (first,) = hook.of(inactive, 1)
    (second,) = hook.of(forbidden, 1)
    for event, made in ((first, silent), (second, denied)):
        assert (event["event"], event["reason"], event["certificate"]) == (
            "refused",
            "NOT_AUTHORIZED",
            made.fingerprint,
        )
        assert event["account"]
    assert first["why"] == "the certificate is INACTIVE, not ACTIVE"
    assert not [event for event in hook.events if event["client_id"] == unknown]


def test_devices_of_yandex(hooked: RunningServer, hook: Receiver, tmp_path: Path) -> None:
    cloud = Cloud(hooked)
    with contextlib.closing(cloud):
        owners = Owners(cloud, tmp_path)
        names = {kind: new_name(kind) for kind in ("device", "registry", "broker")}
        for kind, name in names.items():
            with owners.connected(kind, name) as opened:
                opened.disconnect()
        by_password = new_name("password")
        with Device(hooked, None, 5) as opened:
            opened.connect(by_password, username=owners.device, password=PASSWORD.encode())
            opened.disconnect()
    for kind, name in names.items():
        for event in hook.of(name, 2):
            assert (event["cloud"], event[kind]) == ("yandex", owners.ids[kind])
            assert event["certificate"] == owners.credentials[kind].fingerprint
            assert event.get("registry") == (None if kind == "broker" else owners.registry)
    event = hook.of(by_password, 2)[1]
    assert (event["device"], event["reason"]) == (owners.device, "CLIENT_INITIATED_DISCONNECT")
    assert "certificate" not in event


@pytest.mark.parametrize("mode", ["fail", "redirect", "hang"])
def test_a_hook_that_fails_delays_no_device_and_gets_everything_later(
    hooked: RunningServer, hook: Receiver, made: Credential, mode: Any
) -> None:
    failures, before = metric(hooked, "presence_hook_failures_total"), len(hook.bodies)
    hook.released.clear()
    hook.mode = mode
    name = new_name()
    with Device(hooked, made) as first:
        first.connect(name)
        until(lambda: len(hook.bodies) > before, seconds=20, what="a call that fails")
    for _ in range(20):
        with Device(hooked, made) as opened:
            opened.connect(name)
            assert opened.is_open
            opened.disconnect()
    assert metric(hooked, "presence_events_waiting") >= 42
    hook.mode = "accept"
    hook.released.set()
    events = hook.of(name, 42)
    assert len({event["id"] for event in events}) == 42
    assert [event["event"] for event in events] == ["connected", "disconnected"] * 21
    until(lambda: metric(hooked, "presence_events_waiting") == 0, seconds=20, what="nothing waits")
    assert metric(hooked, "presence_hook_failures_total") > failures
    assert metric(hooked, "presence_events_dropped_total") == 0
    log = hooked.output.read_text()
    assert "presence_hook_failing" in log
    assert "presence_hook_works_again" in log


def test_a_hundred_events_of_a_client_wait_for_a_dead_hook(tmp_path: Path) -> None:
    with receiving() as receiver:
        url = receiver.url  # nothing listens there afterwards
    setting = json.dumps({"url": url, "secret": SECRET})
    with running_server(arguments=["--log-format=json"], environment={"THINGMINT_PRESENCE": setting}) as server:
        made, other = device(tmp_path, iot_client(server)), device(tmp_path, iot_client(server))
        for _ in range(60):
            with Device(server, made) as opened:
                opened.connect("flapping")
        with Device(server, other) as opened:
            opened.connect("calm")
        until(lambda: metric(server, "presence_events_dropped_total") == 20, seconds=20, what="20 events are dropped")
        until(lambda: metric(server, "presence_events_waiting") == 102, seconds=20, what="those of the other wait")
        assert server.stop() == 0
        assert '"presence_events_not_sent"' in server.output.read_text()
