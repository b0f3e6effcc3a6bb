"""Refusals of devices, in groups."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.world import OURS, THEIRS
from thingmint.services import refusals as module
from thingmint.services.pages import Cursor
from thingmint.services.refusals import (
    NO_ACCOUNT,
    Refusals,
    count_refusals,
    delete_old_refusals,
    find_refusal,
    general,
    list_refusals,
)

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.services.refusals import RefusalGroup

ID = "ab" * 32
WHY = "no policy allows it"


def refuse(refusals: Refusals, *, scope: Scope | None = OURS, **more: Any) -> None:
    given = {"certificate": ID, "client_id": "lamp", "action": "iot:Publish", "resource": "topic/a", "reason": WHY}
    refusals.note(scope, **{**given, **more})


async def groups(world: World, scope: Scope = OURS, limit: int = 2, **wanted: Any) -> list[RefusalGroup]:
    found: list[RefusalGroup] = []
    cursor = Cursor(limit)
    query = world.query()
    while True:
        read = partial(list_refusals, query=query, cursor=cursor, scope=scope, **wanted)
        page = await world.read(read)
        found += page.items
        if page.next_token is None:
            return found
        cursor = Cursor(limit, page.next_token)


async def test_refusals_with_one_cause_are_one_group(world: World) -> None:
    refusals = Refusals(world.store, world.clock)
    begun = world.clock()
    refuse(refusals, address="192.0.2.1", explain=lambda: ["statement 1 of p"])
    refuse(refusals, client_id="lamp-2")
    await refusals.flush()
    world.clock.advance(seconds=30)
    refuse(refusals, client_id="lamp-3", address="192.0.2.9")
    refuse(refusals, action="iot:Subscribe")
    refuse(refusals, scope=THEIRS)
    await refusals.flush()
    first, second = sorted(await groups(world), key=lambda each: each.action)
    assert (first.count, first.client_id, first.certificate) == (3, "lamp-3", ID)
    assert (first.first_at, first.last_at) == (begun, begun + timedelta(seconds=30))
    assert (first.action, first.resource, first.reason) == ("iot:Publish", "topic/a", WHY)
    assert second.action == "iot:Subscribe"
    assert [each.count for each in await groups(world, THEIRS)] == [1]
    assert await world.read(lambda tx: find_refusal(tx, OURS, first.id)) == first
    assert await world.read(lambda tx: find_refusal(tx, THEIRS, first.id)) is None


async def test_the_statements_that_came_closest_are_explained_once(world: World) -> None:
    refusals, explained = Refusals(world.store, world.clock), []

    def explain() -> list[str]:
        explained.append(1)
        return ["statement 1 of p"]

    for _ in range(3):
        refuse(refusals, explain=explain, address="192.0.2.1")
        await refusals.flush()
    (group,) = await groups(world)
    assert (group.count, group.closest, len(explained)) == (3, ("statement 1 of p",), 1)


async def test_filters_and_the_order(world: World) -> None:
    refusals = Refusals(world.store, world.clock)
    for number in range(5):
        world.clock.advance(seconds=1)
        refuse(refusals, certificate=f"{number:064x}", client_id=f"lamp-{number % 2}")
    await refusals.flush()
    assert [each.certificate[-1] for each in await groups(world)] == ["4", "3", "2", "1", "0"]
    assert [each.certificate[-1] for each in await groups(world, client_id="lamp-1")] == ["3", "1"]
    assert [each.certificate[-1] for each in await groups(world, certificate=f"{2:064x}")] == ["2"]
    recent = await groups(world, since=world.clock() - timedelta(seconds=1))
    assert [each.certificate[-1] for each in recent] == ["4", "3"]


async def test_a_device_that_tries_ever_new_topics_has_few_groups(world: World) -> None:
    refusals = Refusals(world.store, world.clock)
    for number in range(1000):
        refuse(refusals, resource=f"topic/{number}")
        if not number % 300:
            await refusals.flush()
    await refusals.flush()
    found = await groups(world, limit=50)
    assert len(found) == module._RESOURCES + 1
    assert sum(each.count for each in found) == 1000
    assert max(found, key=lambda each: each.count).resource == "*"


async def test_a_flood_of_client_ids_fills_a_few_rows(world: World) -> None:
    refusals = Refusals(world.store, world.clock)
    for number in range(5000):
        refuse(refusals, scope=None, certificate=None, client_id=f"invented-{number}", action="iot:Connect")
    await refusals.flush()
    found = await groups(world, NO_ACCOUNT, limit=100)
    assert len(found) == module._NEW_AT_ONCE + 1
    assert sum(each.count for each in found) == 5000
    (rest,) = (each for each in found if each.count > 1)
    assert (rest.client_id, rest.resource, rest.reason) == ("", "", WHY)
    assert await groups(world) == []


async def test_an_account_keeps_a_bounded_number_of_groups(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BEYOND", module._BEYOND.replace(str(module.MAX_GROUPS), "3"))
    refusals = Refusals(world.store, world.clock)
    for scope in (OURS, THEIRS):
        for number in range(6 if scope == OURS else 2):
            world.clock.advance(seconds=1)
            refuse(refusals, scope=scope, certificate=f"{number:064x}")
    await refusals.flush()
    await delete_old_refusals(world.store, world.clock())
    assert [each.certificate[-1] for each in await groups(world)] == ["5", "4", "3"]
    assert len(await groups(world, THEIRS)) == 2


async def test_refusals_are_kept_for_a_week(world: World) -> None:
    refusals = Refusals(world.store, world.clock)
    refuse(refusals)
    world.clock.advance(seconds=3600)
    refuse(refusals, certificate="cd" * 32)
    await refusals.flush()
    world.clock.advance(seconds=7 * 86_400 - 1800)
    await delete_old_refusals(world.store, world.clock())
    assert [each.certificate[:2] for each in await groups(world)] == ["cd"]
    assert await world.count("refusal_counts") == 1


async def test_refusals_of_the_last_hour_are_counted_by_reason(world: World) -> None:
    refusals = Refusals(world.store, world.clock)
    refuse(refusals, reason="long ago")
    world.clock.advance(seconds=3601)
    for n in range(3):
        refuse(refusals, reason=f"no certificate {n:064x} is registered")
    refuse(refusals)
    await refusals.flush()
    world.clock.advance(seconds=1200)
    refuse(refusals, scope=THEIRS)
    refuse(refusals)
    await refusals.flush()
    found = await world.read(lambda tx: count_refusals(tx, OURS, world.clock()))
    assert list(found.items()) == [("no certificate ... is registered", 3), (WHY, 2)]
    assert await world.read(lambda tx: count_refusals(tx, THEIRS, world.clock())) == {WHY: 1}


async def test_many_different_reasons_are_counted_together(world: World) -> None:
    refusals = Refusals(world.store, world.clock)
    for n in range(200):
        refuse(refusals, certificate=f"{n:064x}", reason=f"reason number {n}")
    await refusals.flush()
    found = await world.read(lambda tx: count_refusals(tx, OURS, world.clock()))
    assert sum(found.values()) == 200
    assert len(found) == module._REASONS + 1


async def test_hostile_texts_are_stored(world: World) -> None:
    refusals = Refusals(world.store, world.clock)
    refuse(refusals, client_id="\0\ud800", resource="x" * 100_000, reason="\0" * 3)
    await refusals.flush()
    (group,) = await groups(world)
    assert (group.client_id, len(group.resource)) == ("\ufffd?", 512)


async def test_refusals_wait_for_the_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from thingmint.domain.errors import Unavailable

    refusals = Refusals(world.store, world.clock)
    refuse(refusals)
    with monkeypatch.context() as patch:

        async def away(*_: Any, **__: Any) -> None:
            raise Unavailable("away")

        patch.setattr(world.store, "write", away)
        await refusals.flush()
        refuse(refusals)
    await refusals.flush()
    assert [each.count for each in await groups(world)] == [2]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (f"no certificate {ID} is registered", "no certificate ... is registered"),
        ("registry are1234567890abcdefg is disabled", "registry ... is disabled"),
        ("the certificate ended on 2026-01-01T00:00:00+00:00", "the certificate ended on ..."),
        ("a policy cannot be read: it has no Version", "a policy cannot be read"),
    ],
)
def test_reasons_are_counted_without_ids_and_times(reason: str, kind: str) -> None:
    assert general(reason) == kind
