"""Listing the sessions of all processes on one database."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.world import ABROAD, OURS, THEIRS
from thingmint.domain.errors import Unavailable
from thingmint.mqtt.connected_clients import ConnectedClients, ConnectionUsage
from thingmint.mqtt.session_list import LocalSessionList
from thingmint.services.authentication_decisions import session_name
from thingmint.services.live_sessions import (
    LiveSession,
    SessionFilter,
    SessionPage,
    SessionQuestion,
    SharedSessions,
    delete_old_answers,
    only_here,
)
from thingmint.services.messages import ConnectionFacts

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.services.page_tokens import Position

ANY = SessionFilter()


@dataclass
class Device:
    certificate_id: str = "c" * 64
    thing: str | None = None
    address: str = "192.0.2.1"
    received: int = 0
    filters: tuple[str, ...] = ()
    version: int = 5
    claim: None = None

    @property
    def facts(self) -> ConnectionFacts:
        return ConnectionFacts(self.thing, 60, 0, self.address, 1, "", 0)

    @property
    def usage(self) -> ConnectionUsage:
        return ConnectionUsage(1.0, self.received, 2, self.filters)


@dataclass
class Leases:
    names: list[str] = field(default_factory=list)

    def others(self, prefix: str) -> list[str]:
        assert prefix == "process:"
        return self.names


class Process:
    """A process with its sessions. ``knows`` are the processes that it finds in the leases."""

    def __init__(self, world: World, name: str, *knows: str) -> None:
        self.clients = ConnectedClients(world.clock)
        self.local = LocalSessionList(world.broker, self.clients, name)
        leases = cast("Any", Leases([*knows]))
        self.shared = SharedSessions(world.store, name, leases, self.local, world.clock, patience=0.2)
        world.store.followers.append(self.shared.changed)

    def connect(self, client_id: str, scope: Scope = OURS, owner: str | None = None, **facts: Any) -> None:
        self.clients.add(scope, session_name(client_id, owner), cast("Any", Device(**facts)))

    async def all(
        self, wanted: SessionFilter = ANY, scope: Scope = OURS, *, limit: int = 3, ascending: bool = True
    ) -> list[LiveSession]:
        """The sessions of all pages."""
        found: list[LiveSession] = []
        after: Position | None = None
        while True:
            page = await self.shared(scope, SessionQuestion(wanted, after, limit, ascending))
            assert len(page.sessions) <= limit
            assert not page.missing
            found += page.sessions
            if len(page.sessions) < limit:
                return found
            after = found[-1].position


async def ids(process: Process, scope: Scope = OURS, **wanted: Any) -> list[str]:
    return [each.client_id for each in await process.all(SessionFilter(**wanted), scope)]


async def test_pages_have_the_sessions_of_all_processes_in_order(world: World) -> None:
    rng = random.Random(1)
    first, second = Process(world, "first", "second"), Process(world, "second", "first")
    for number in range(20):
        world.clock.advance(seconds=rng.choice((0, 1)))
        rng.choice((first, second)).connect(f"lamp-{number}")
        rng.choice((first, second)).connect("other", rng.choice((THEIRS, ABROAD)))
    expected = sorted((place[0], place[1]) for process in (first, second) for place in process.clients.places(OURS))
    assert len(expected) == 20
    for process in (first, second):
        assert [each.position for each in await process.all()] == expected
        assert [each.position for each in await process.all(ascending=False, limit=7)] == expected[::-1]
    assert {each.process for each in await first.all()} == {"first", "second"}
    assert await world.count("session_answers") == 0, "they are deleted"


async def test_sessions_are_found_by_each_filter(world: World) -> None:
    first, second = Process(world, "first", "second"), Process(world, "second", "first")
    second.connect("lamp-1", thing="lamp", certificate_id="ab" * 32)
    second.connect("client", owner="are1", address="192.0.2.9", certificate_id="")
    second.connect("client", owner="are2")
    first.connect("pump")
    assert await ids(first, text="lam") == ["lamp-1"]
    assert await ids(first, text="ABAB") == ["lamp-1"]
    assert await ids(first, text="2.0.2.9") == ["client"]
    assert await ids(first, thing="lamp") == ["lamp-1"]
    assert await ids(first, owner="are2") == ["client"]
    assert await ids(first, client_id="client", owner="are1") == ["client"]
    assert await ids(first, client_id="client") == [], "an owner's client needs the owner"
    assert await ids(first, certificate="ab" * 32) == ["lamp-1"]
    assert await ids(first, address="192.0.2.9") == ["client"]
    assert await ids(first, THEIRS) == []
    assert len(await ids(first)) == 4


async def test_a_session_has_what_an_operator_asks_for(world: World) -> None:
    first, second = Process(world, "first", "second"), Process(world, "second", "first")
    second.connect("client", owner="are1", received=5, filters=("b", "a"), version=4)
    (told,) = await first.all(SessionFilter(owner="are1", client_id="client", details=True))
    assert (told.client_id, told.owner, told.protocol, told.address, told.port) == (
        "client",
        "are1",
        "MQTT 3.1.1",
        "192.0.2.1",
        1,
    )
    assert (told.received, told.sent, told.idle, told.queued, told.subscriptions) == (5, 2, 1.0, 0, 2)
    assert list(told.filters) == ["a", "b"]
    (listed,) = await first.all()
    assert list(listed.filters) == []


async def test_a_process_that_does_not_answer_is_named(world: World) -> None:
    first = Process(world, "first", "second", "gone")
    Process(world, "second", "first").connect("lamp")
    page = await first.shared(OURS, SessionQuestion(ANY, None, 5, True))
    assert ([each.client_id for each in page.sessions], page.missing) == (["lamp"], ["gone"])


async def test_the_only_process_asks_no_other(world: World) -> None:
    alone = Process(world, "alone")
    alone.connect("lamp")
    before = world.store.writes
    assert await ids(alone) == ["lamp"]
    assert await only_here(alone.local)(OURS, SessionQuestion(ANY, None, 1, True)) == SessionPage(await alone.all())
    assert world.store.writes == before


async def test_late_answers_are_deleted(world: World) -> None:
    row = ("r", "p", "[]", 0)
    await world.execute(
        "INSERT INTO session_answers (request, process, answer, created_at) VALUES ($1, $2, $3, $4)", *row
    )
    await delete_old_answers(world.store, world.clock())
    assert await world.count("session_answers") == 0


async def test_without_the_store_the_question_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Process(world, "first", "second")

    async def away(*_: Any, **__: Any) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(world.store, "write", away)
    with pytest.raises(Unavailable):
        await first.all()
