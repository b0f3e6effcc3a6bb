"""The sender of data stream exports: batches, repeated attempts, order, and the lease."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.unit.services.test_export_queue import HOOK, Feed
from tests.unit.services.test_exports import added, delete
from thingmint.services.export_hooks import HookClients, NotAccepted, as_record
from thingmint.services.export_queue import ExportMessage
from thingmint.services.export_sender import EXPORTS_LEASE, ExportSender
from thingmint.services.leases import LeasedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.world import World
    from thingmint.services.export_hooks import ExportHook
    from thingmint.services.export_queue import NumberedMessage
    from thingmint.services.exports import DataStreamExport
    from thingmint.store.engine import Transaction


class Clients(HookClients):
    """Accepts batches once it is ``released``, or fails with ``failures``. ``calls`` has the payloads of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[str] = []
        self.calls: list[list[str]] = []
        self.accepted: list[str] = []
        self.cancelled = 0
        self.released = asyncio.Event()
        self.released.set()

    async def post(self, hook: ExportHook, export: DataStreamExport, messages: Sequence[NumberedMessage]) -> None:
        payloads = [each.message.payload.decode() for each in messages]
        self.calls.append(payloads)
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failures:
            raise NotAccepted(self.failures.pop(0))
        self.accepted += payloads


class Holder:
    held = True

    def holds(self, name: str) -> bool:
        assert name == EXPORTS_LEASE
        return self.held

    async def still_holds(self, tx: Transaction, name: str) -> bool:
        return self.held


class Sending:
    """A sender for a world with one export."""

    def __init__(self, world: World, registry: str, hook: ExportHook) -> None:
        self.world = world
        self.registry = registry
        self.clients = Clients()
        self.holder = Holder()
        self.feed = Feed(world, {(hook.database, hook.stream): hook})
        store = LeasedStore(world.store, self.holder, EXPORTS_LEASE)
        self.sender = ExportSender(store, self.feed.exports, self.clients, pauses=(0.001, 0.002))

    async def publish(self, *payloads: str) -> None:
        for payload in payloads:
            queued = self.feed.exports.keep(self.registry, "", f"$registries/{self.registry}/events", payload.encode())
            assert queued is not None
            await queued

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)

    async def until_empty(self) -> None:
        deadline = time.monotonic() + 30
        while await self.world.count("export_messages"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)


@pytest.fixture
async def sending(world: World) -> AsyncIterator[Sending]:
    registry = await world.registry()
    await added(world, registry)
    made = Sending(world, registry, HOOK)
    await made.sender.look()
    yield made
    made.holder.held = False
    await made.sender.look()


async def test_messages_are_sent_when_they_are_queued(sending: Sending) -> None:
    await sending.publish("1", "2", "3")
    await sending.until_empty()
    assert sending.clients.calls == [["1"], ["2"], ["3"]]
    assert (sending.sender.sent, sending.sender.failures) == (3, 0)
    await sending.publish("4")
    await sending.until_empty()
    assert sending.clients.accepted == ["1", "2", "3", "4"]


async def test_messages_that_waited_at_start_are_sent(world: World) -> None:
    registry = await world.registry()
    await added(world, registry)
    first = Sending(world, registry, HOOK)
    await first.publish("1", "2")  # its sender has not looked yet
    second = Sending(world, registry, HOOK)
    await second.sender.look()
    await second.until_empty()
    assert (first.clients.accepted, second.clients.accepted) == ([], ["1", "2"])


async def test_a_batch_is_repeated_until_it_is_accepted_and_no_later_one_is_sent_before(sending: Sending) -> None:
    sending.clients.failures = ["it answered with status 500"] * 5
    with capture_logs() as logged:
        await sending.publish("1", "2")
        await sending.until_empty()
    assert sending.clients.calls == [["1"]] * 6 + [["2"]]
    assert (sending.sender.sent, sending.sender.failures, sending.sender.failing) == (2, 5, 0)
    assert [each["event"] for each in logged] == ["data_stream_export_failing", "data_stream_export_works_again"]
    assert (logged[0]["why"], logged[1]["failures"]) == ("it answered with status 500", 5)


def test_pauses_grow_up_to_a_minute_and_differ() -> None:
    class Nothing:
        def follow(self, _: object) -> None: ...

    nothing: Any = Nothing()
    jitter = 0.0
    sender = ExportSender(nothing, nothing, jitter=lambda: jitter)
    assert [sender.pause(failures) for failures in (1, 2, 3, 8, 9, 10_000)] == [0.25, 0.5, 1.0, 30.0, 30.0, 30.0]
    jitter = 1.0
    assert [sender.pause(failures) for failures in (1, 2, 3, 8, 9, 10_000)] == [0.5, 1.0, 2.0, 60.0, 60.0, 60.0]


async def test_full_batches_are_sent_at_once_and_others_after_the_cutoff(world: World) -> None:
    registry = await world.registry()
    await added(world, registry)
    sending = Sending(world, registry, replace(HOOK, batch=3, cutoff=0.2))
    await sending.publish(*map(str, range(7)))
    await sending.sender.look()
    await sending.until_empty()
    assert sending.clients.calls == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    patient = Sending(world, registry, replace(HOOK, batch=3, cutoff=60.0))
    await patient.publish("a", "b")
    await patient.sender.look()
    await asyncio.sleep(0.05)
    assert patient.clients.calls == []
    await patient.publish("c")
    await patient.until_empty()
    assert patient.clients.calls == [["a", "b", "c"]]


async def test_nothing_is_sent_without_the_lease(sending: Sending) -> None:
    sending.holder.held = False
    await sending.publish("1")
    await sending.sender.look()
    await asyncio.sleep(0.02)
    assert sending.clients.calls == []
    sending.holder.held = True
    await sending.sender.look()
    await sending.until_empty()
    assert sending.clients.accepted == ["1"]


async def test_a_call_ends_when_the_lease_is_lost(sending: Sending) -> None:
    sending.clients.released.clear()
    await sending.publish("1")
    await sending.until(lambda: bool(sending.clients.calls))
    sending.holder.held = False
    await sending.sender.look()
    assert sending.clients.accepted == []
    sending.clients.released.set()
    sending.holder.held = True
    await sending.sender.look()
    await sending.until_empty()
    assert sending.clients.accepted == ["1"]


async def test_a_call_ends_soon_after_the_lease_is_lost_without_a_look(sending: Sending) -> None:
    sending.clients.released.clear()
    await sending.publish("1")
    await sending.until(lambda: bool(sending.clients.calls))
    sending.holder.held = False
    await sending.until(lambda: sending.clients.cancelled == 1)


async def test_an_accepted_batch_of_a_process_that_lost_the_lease_is_sent_again(sending: Sending) -> None:
    """The other process does not know of it. At least once, not once."""
    sending.clients.released.clear()
    await sending.publish("1")
    await sending.until(lambda: bool(sending.clients.calls))
    sending.holder.held = False
    sending.clients.released.set()
    await sending.until(lambda: bool(sending.clients.accepted))
    sending.holder.held = True
    await sending.sender.look()
    await sending.until_empty()
    assert sending.clients.accepted == ["1", "1"]


async def test_deleted_exports_and_replaced_hooks_are_followed(sending: Sending) -> None:
    sending.clients.released.clear()
    await sending.publish("1")
    await sending.until(lambda: bool(sending.clients.calls))
    sending.feed.exports.replace_hooks({(HOOK.database, HOOK.stream): replace(HOOK, batch=2)})
    await sending.publish("2")
    await sending.sender.look()
    await sending.until(lambda: sending.clients.calls == [["1"], ["1", "2"]])
    sending.clients.released.set()
    await sending.until_empty()
    assert sending.clients.accepted == ["1", "2"]
    sending.clients.released.clear()
    await sending.publish("never accepted")
    [export] = sending.feed.exports.with_hooks()
    await delete(sending.world, sending.registry, export)
    await sending.sender.look()
    sending.clients.released.set()
    await sending.sender.look()
    assert "never accepted" not in sending.clients.accepted
    assert sending.sender.waiting == {}


async def test_without_exports_a_look_reads_nothing(world: World) -> None:
    await world.registry()
    sending = Sending(world, "", HOOK)
    await sending.sender.look()
    world.store.statements.clear()
    await sending.sender.look()
    assert not world.store.statements


async def test_unexpected_errors_are_logged_and_tried_again(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wrong(*_: Any) -> None:
        raise KeyError("defect")

    with monkeypatch.context() as patched, capture_logs() as logged:
        patched.setattr(sending.clients, "post", wrong)
        await sending.publish("1")
        await sending.until(lambda: any(each["event"] == "export_not_sent" for each in logged))
    await sending.sender.look()
    await sending.until_empty()
    assert sending.clients.accepted == ["1"]


@pytest.mark.parametrize(
    ("payload", "shown", "is_base64"),
    [
        (b"", "", False),
        (b"{}", "{}", False),
        ("é\0😀".encode(), "é\0😀", False),
        (b"\xff", "/w==", True),
        (b"\xed\xa0\x80", "7aCA", True),  # half of a surrogate pair
        (b"\xc0\x80", "wIA=", True),
    ],
)
def test_records(payload: bytes, shown: str, is_base64: bool) -> None:
    assert as_record(ExportMessage("are1", "$devices/are1/events", payload)) == {
        "device_id": "are1",
        "mqtt_topic": "$devices/are1/events",
        "payload": shown,
        "is_base64": is_base64,
    }
