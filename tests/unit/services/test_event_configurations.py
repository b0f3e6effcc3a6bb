"""DescribeEventConfigurations and UpdateEventConfigurations, and the cache of what is enabled."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.world import ABROAD, OURS, THEIRS, NoInterruptions
from thingmint.services import event_configurations
from thingmint.services.event_configurations import DEFAULTS, EVENT_TYPES, EventSwitches

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.store.engine import Transaction


async def described(world: World, scope: Scope = OURS) -> dict[str, bool]:
    found = (await world.aws("DescribeEventConfigurations", scope))["eventConfigurations"]
    return {type: each["Enabled"] for type, each in found.items()}


async def switch(world: World, scope: Scope = OURS, /, **types: bool) -> None:
    given = {type: {"Enabled": enabled} for type, enabled in types.items()}
    await world.aws("UpdateEventConfigurations", scope, eventConfigurations=given)


async def test_only_the_two_certificate_types_are_enabled_by_default(world: World) -> None:
    found: dict[str, Any] = await world.aws("DescribeEventConfigurations")
    assert (found["creationDate"], found["lastModifiedDate"]) == (None, None)
    assert await described(world) == {type: type in ("CERTIFICATE", "CA_CERTIFICATE") for type in EVENT_TYPES}


async def test_an_update_switches_only_the_given_types(world: World) -> None:
    before, created_at = await described(world), world.clock.now
    await switch(world, THING=True, CERTIFICATE=False)
    world.clock.now += timedelta(hours=1)
    await switch(world, JOB=True)
    assert await described(world) == before | {"THING": True, "CERTIFICATE": False, "JOB": True}
    found = await world.aws("DescribeEventConfigurations")
    assert (found["creationDate"], found["lastModifiedDate"]) == (created_at, world.clock.now)


async def test_a_configuration_without_a_value_disables_the_type(world: World) -> None:
    await world.aws("UpdateEventConfigurations", eventConfigurations={"CERTIFICATE": {}})
    assert not (await described(world))["CERTIFICATE"]


@pytest.mark.parametrize("given", [{}, {"eventConfigurations": {}}])
async def test_an_update_of_nothing_changes_nothing(world: World, given: dict[str, Any]) -> None:
    await world.aws("UpdateEventConfigurations", **given)
    assert (await world.aws("DescribeEventConfigurations"))["creationDate"] is None
    assert await world.unchanged()


async def test_other_accounts_and_regions_keep_their_own(world: World) -> None:
    await switch(world, THING=True)
    for other in (ABROAD, THEIRS):
        assert not (await described(world, other))["THING"]
        assert "THING" not in await world.environment.events.enabled(other)
    assert "THING" in await world.environment.events.enabled(OURS)


class Cache:
    """EventSwitches with a clock and a change feed of the test's own, and a count of what it read."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = 1000.0
        self.feed = NoInterruptions()
        self.switches = EventSwitches(world.store, self.feed, lambda: self.now)

    async def reads(self, scope: Scope = OURS) -> int:
        """How many statements a look-up within a transaction takes."""
        self.world.store.statements.clear()

        async def body(tx: Transaction) -> None:
            await self.switches.within(tx, scope)

        await self.world.read(body)
        return len(self.world.store.statements)


@pytest.fixture
def cache(world: World) -> Cache:
    return Cache(world)


async def test_what_was_read_once_costs_no_statement(cache: Cache) -> None:
    assert cache.switches.known(OURS) is None
    assert await cache.switches.enabled(OURS) == DEFAULTS
    assert cache.switches.known(OURS) == DEFAULTS
    assert await cache.reads() == 0
    assert await cache.reads(THEIRS) == 1


async def test_a_change_of_another_process_applies_when_the_feed_brings_it(world: World, cache: Cache) -> None:
    await cache.switches.enabled(OURS)
    await cache.switches.enabled(THEIRS)
    world.store.followers.append(cache.switches.changed)
    await switch(world, THING=True)
    assert cache.switches.known(OURS) is None
    assert "THING" in await cache.switches.enabled(OURS)
    assert cache.switches.known(THEIRS) == DEFAULTS


async def test_what_an_old_transaction_reads_is_not_kept(world: World, cache: Cache) -> None:
    world.store.followers.append(cache.switches.changed)
    await switch(world, THING=True)
    cache.now += 59
    await cache.switches.enabled(OURS)
    assert cache.switches.known(OURS) is None, "a transaction may have begun before the change"
    cache.now += 2
    await cache.switches.enabled(OURS)
    assert "THING" in (cache.switches.known(OURS) or ())


async def test_nothing_is_taken_from_memory_while_changes_may_be_missed(world: World, cache: Cache) -> None:
    await cache.switches.enabled(OURS)
    cache.feed.stale = True
    await switch(world, THING=True)  # which the cache does not learn of
    assert cache.switches.known(OURS) is None
    assert "THING" in await cache.switches.enabled(OURS)
    cache.feed.stale, cache.feed.interruptions = False, 1
    assert cache.switches.known(OURS) is None
    assert "THING" in await cache.switches.enabled(OURS)


async def test_the_memory_is_bounded(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_configurations, "_MAX_CACHED", 1)
    for scope in (OURS, THEIRS):
        await cache.switches.enabled(scope)
    assert (cache.switches.known(OURS), cache.switches.known(THEIRS)) == (None, DEFAULTS)
