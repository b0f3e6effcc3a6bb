"""Life cycle events wait in a queue: nothing that is slow reaches the sessions."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
from structlog.testing import capture_logs

from tests.unit.mqtt.test_sessions import World, settle
from tests.unit.vectors import NOW
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Unavailable
from thingmint.mqtt import lifecycle_events as module
from thingmint.mqtt import presence as presence_module
from thingmint.mqtt.lifecycle_events import LifecycleEvents
from thingmint.mqtt.presence import Presence
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.services.client_ids import Claim, Vanished
from thingmint.services.presence import ConnectionRecord
from thingmint.services.presence_hook import PresenceHook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from thingmint.domain.messages import Message
    from thingmint.services.client_ids import Wanted

SCOPES = [Scope(f"{number:012}", "us-east-1") for number in range(3)]


class ClientIds:
    def __init__(self) -> None:
        self.is_shared = False
        self.away = False
        self.transactions: list[int] = []
        self.versions: dict[tuple[Scope, str], int] = {}
        self.released: list[tuple[str, float]] = []
        self.taken: list[Claim] = []
        self.before = ""

    async def claim_all(self, wanted: Sequence[Wanted]) -> list[Claim]:
        if self.away:
            raise Unavailable("away")
        self.transactions.append(len(wanted))
        claims = []
        for scope, client_id, about in wanted:
            version = self.versions[scope, client_id] = self.versions.get((scope, client_id), -1) + 1
            claims.append(Claim(scope, client_id, version, version, about, self.before and "former", self.before))
        return claims

    async def lost(self, claims: Sequence[Claim]) -> list[Claim]:
        return [claim for claim in claims if claim in self.taken]

    def release(self, claim: Claim, kept: float = 0) -> None:
        self.released.append((claim.client_id, kept))


class Broker:
    """``held`` are messages that it has neither accepted nor refused."""

    def __init__(self) -> None:
        self.accepts = True
        self.answers: list[Reason] = []
        self.messages: list[Message] = []
        self.held: list[tuple[Scope, Callable[[Reason], None]]] = []

    def publish(self, scope: Scope, message: Message, done: Callable[[Reason], None]) -> None:
        self.messages.append(message)
        if not self.accepts:
            self.held.append((scope, done))
        else:
            done(self.answers.pop(0) if self.answers else Reason.SUCCESS)

    @property
    def sent(self) -> list[str]:
        return [message.topic.removeprefix("$aws/events/") for message in self.messages]


class Setting:
    def __init__(self) -> None:
        self.client_ids, self.broker, self.enabled = ClientIds(), Broker(), True
        self.events = LifecycleEvents(
            cast("Any", self.broker), cast("Any", self.client_ids), lambda: NOW, self._is_enabled
        )

    def presence(self) -> Presence:
        return Presence(self.events, cast("Any", self.client_ids), PresenceHook(None, lambda: NOW))

    async def _is_enabled(self, scope: Scope) -> bool:
        return self.enabled

    def record(self, client_id: str = "c", scope: Scope = SCOPES[0], **facts: Any) -> ConnectionRecord:
        return ConnectionRecord(scope, client_id, "id", "3f" * 32, "192.0.2.1", **facts)


@pytest.fixture
async def setting() -> AsyncIterator[Setting]:
    made = Setting()
    task = asyncio.create_task(made.events.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_many_connections_get_their_versions_in_few_transactions(setting: Setting) -> None:
    for number in range(150):
        setting.events.put("connected", setting.record(f"c{number}"))
    await settle(60)
    assert setting.client_ids.transactions == [100, 50]
    assert len(setting.broker.messages) == setting.events.published == 150


async def test_no_event_waits_for_an_account_whose_messages_do_not_leave(setting: Setting) -> None:
    setting.broker.accepts = False
    for number in range(300):
        setting.events.put("connected", setting.record(f"c{number}"))
    await settle(60)
    assert len(setting.broker.held) <= 120
    setting.broker.accepts = True
    setting.events.put("connected", setting.record("theirs", SCOPES[1]))
    await settle(60)
    assert setting.broker.sent[-1] == "presence/connected/theirs"
    for _, done in setting.broker.held:
        done(Reason.SUCCESS)
    await settle(60)
    assert setting.events.published == 301


async def test_a_client_has_at_most_a_hundred_events_waiting(setting: Setting) -> None:
    setting.broker.accepts = False
    for _ in range(300):
        setting.events.put("connected", setting.record("flapping"))
    setting.events.put("connected", setting.record("calm"))
    await settle(60)
    assert (setting.events.waiting, setting.events.dropped) == (101, 200)


async def test_subscriptions_of_a_client_leave_room_for_its_end(setting: Setting) -> None:
    setting.broker.accepts = False
    record = setting.record()
    for _ in range(200):
        setting.events.put("subscribed", record, topics=["a"])
    setting.events.put("disconnected", record, reason="CONNECTION_LOST")
    assert (setting.events.waiting, setting.events.dropped) == (51, 150)


async def test_events_wait_for_the_store(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_AFTER", 0)
    setting.client_ids.away = True
    record = setting.record()
    setting.events.put("connected", record)
    setting.events.put("disconnected", record, reason="CONNECTION_LOST", kept=7)
    await settle(20)
    assert setting.broker.sent == []
    setting.client_ids.away = False
    await settle(20)
    assert setting.broker.sent == ["presence/connected/c", "presence/disconnected/c"]
    assert setting.client_ids.released == [("c", 7)]


async def test_a_refused_event_is_sent_again(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0)
    setting.broker.answers = [Reason.QUOTA_EXCEEDED] * 2
    setting.events.put("connected", setting.record())
    await settle(20)
    assert (len(setting.broker.messages), setting.events.published, setting.events.waiting) == (3, 1, 0)
    setting.broker.answers = [Reason.QUOTA_EXCEEDED] * 10
    with capture_logs() as logs:
        record = setting.record("unlucky")
        setting.events.put("disconnected", record, reason="CONNECTION_LOST")
        await settle(40)
    assert (setting.events.failed, setting.events.dropped, setting.events.waiting) == (1, 1, 0)
    assert [line["event"] for line in logs] == ["lifecycle_event_refused_by_broker"]
    assert [name for name, _ in setting.client_ids.released] == ["unlucky"]


async def test_a_disabled_type_costs_no_version(setting: Setting) -> None:
    setting.enabled = False
    record = setting.record()
    setting.events.put("connected", record)
    setting.events.put("disconnected", record, reason="CONNECTION_LOST")
    await settle()
    assert (setting.broker.sent, setting.client_ids.transactions, setting.events.waiting) == ([], [], 0)


async def test_ends_that_are_not_published_when_the_server_stops_stay_in_the_store(setting: Setting) -> None:
    setting.broker.accepts = False
    setting.events.put("disconnected", setting.record(), reason="SERVER_INITIATED_DISCONNECT")
    draining = asyncio.create_task(setting.events.drain())
    await settle()
    assert not draining.done()
    draining.cancel()
    for _, done in setting.broker.held:
        done(Reason.SERVER_SHUTTING_DOWN)
    assert setting.client_ids.released == []


async def test_the_end_of_a_connection_of_an_earlier_process_is_reported_once_its_client_returns(
    setting: Setting,
) -> None:
    setting.client_ids.before = setting.record().about()
    setting.client_ids.versions[SCOPES[0], "c"] = 4
    setting.events.put("connected", setting.record())
    await settle(20)
    found = {message.topic: orjson.loads(message.payload) for message in setting.broker.messages}
    gone = found["$aws/events/presence/disconnected/c"]
    assert (gone["versionNumber"], gone["disconnectReason"]) == (4, "SERVER_ERROR")
    assert found["$aws/events/presence/connected/c"]["versionNumber"] == 5


@pytest.mark.parametrize("taken", [False, True])
async def test_a_connection_that_the_broker_ended_may_have_been_taken_over(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, *, taken: bool
) -> None:
    monkeypatch.setattr(module, "_TAKEOVER_SEEN_AFTER", 0)
    setting.client_ids.is_shared = True
    claim = Claim(SCOPES[0], "c", 1, 3)
    setting.client_ids.taken = [claim] if taken else []
    setting.events.put("disconnected", setting.record(claim=claim), reason="SERVER_ERROR")
    await settle(20)
    (message,) = setting.broker.messages
    assert orjson.loads(message.payload)["disconnectReason"] == ("DUPLICATE_CLIENTID" if taken else "SERVER_ERROR")


class Leases:
    def __init__(self) -> None:
        self.answers: dict[str, bool | None] = {}

    def runs(self, name: str, since: float) -> bool | None:
        return self.answers.get(name)


async def test_a_connection_is_reported_by_the_process_that_took_it_over_if_its_own_has_ended(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "_CHECK_EVERY", 0)
    presence, leases = setting.presence(), Leases()
    about = setting.record().about()
    for process in ("ended", "runs", "unknown"):
        presence.took_over(Claim(SCOPES[0], f"of {process}", 2, 2, "", process, about))
    leases.answers = {"process:ended": False, "process:runs": True}
    task = asyncio.create_task(presence.report_taken_over(cast("Any", leases)))
    await settle(40)
    assert setting.broker.sent == ["presence/disconnected/of ended"]
    leases.answers = {"process:unknown": False}
    await settle(40)
    assert setting.broker.sent[1:] == ["presence/disconnected/of unknown"]
    task.cancel()


async def test_a_session_tells_of_its_life(setting: Setting) -> None:
    world = World()
    presence = setting.presence()
    object.__setattr__(world.session._services, "presence", presence)
    await world.connect()
    world.session.disconnect(Reason.KEEP_ALIVE_TIMEOUT, "no packet came in time", with_will=True)
    await settle(20)
    connected, gone = (orjson.loads(message.payload) for message in setting.broker.messages)
    assert connected["eventType"] == "connected"
    assert gone["disconnectReason"] == "MQTT_KEEP_ALIVE_TIMEOUT"
    assert connected["sessionIdentifier"] == gone["sessionIdentifier"]


async def test_reports_return_when_the_events_are_published(setting: Setting) -> None:
    setting.broker.accepts = False
    ends = [Vanished(SCOPES[0], f"c{number}", 1, setting.record().about()) for number in range(3)]
    reporting = asyncio.create_task(setting.events.report(ends))
    await settle()
    assert not reporting.done()
    for _, done in setting.broker.held:
        done(Reason.SUCCESS)
    await settle()
    assert reporting.done()
    assert len(setting.client_ids.released) == 3
