"""Topic aliases of Yandex devices: valid ones, and those that older versions stored unchecked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from thingmint.domain.errors import AlreadyExists, Invalid
from thingmint.services.topic_aliases import check_old_aliases, parse_aliases

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.world import World

OWN = "$devices/{id}/"


async def aliases_of(world: World, device: str) -> Mapping[str, str]:
    return dict((await world.yandex("DeviceService.Get", device_id=device)).topic_aliases)


async def test_aliases_are_stored_with_the_devices_id(world: World) -> None:
    given = {"lamps/1/": OWN + "events", "b/": OWN, "c": "$devices/{id}", "d e": OWN + "state/x", "ü": OWN + "config"}
    device = await world.device(await world.registry(), topic_aliases=given)
    assert await aliases_of(world, device) == {alias: to.replace("{id}", device) for alias, to in given.items()}


@pytest.mark.parametrize(
    ("aliases", "reason"),
    [
        ({f"a{n}": OWN for n in range(6)}, "must have at most 5 entries"),
        ({"a\0": OWN}, "must not contain NUL"),
        ({"a": OWN + "\0"}, "must not contain NUL"),
        ({"a": (OWN + "t").ljust(1025, "t")}, "must be of at most 1024 characters each"),
        ({"a" * 1025: OWN}, "must be of at most 1024 characters each"),
        ({"": OWN}, "must not have an empty alias"),
        ({"x/#": OWN}, "must not have wildcards"),
        ({"x/+/y": OWN}, "must not have wildcards"),
        ({"a": OWN + "+"}, "must not have wildcards"),
        ({"$me": OWN}, "must not have aliases that begin with $"),
        ({"$monitoring/x": OWN}, "must not have aliases that begin with $"),
        ({"$devices/are0": OWN}, "must not have aliases that begin with $"),
        ({"a": "foo"}, "must have topics of the device itself as targets"),
        ({"a": ""}, "must have topics of the device itself as targets"),
        ({"a": "$monitoring/{id}/json"}, "must have topics of the device itself as targets"),
        ({"a": "$me/device/events"}, "must have topics of the device itself as targets"),
        ({"a": "$devices/are0/events"}, "must have topics of the device itself as targets"),
        ({"a": "$devices/{id}2/events"}, "must have topics of the device itself as targets"),
        ({"a": "$registries/{id}/events"}, "must have topics of the device itself as targets"),
        ({"d": OWN, "d/e": OWN}, "must not have an alias that is the beginning of another"),
        ({"d/e": OWN, "c": OWN, "d/": OWN}, "must not have an alias that is the beginning of another"),
    ],
)
async def test_invalid_aliases_are_refused(world: World, aliases: dict[str, str], reason: str) -> None:
    registry = await world.registry()
    with pytest.raises(Invalid) as refused:
        await world.device(registry, topic_aliases=aliases)
    assert refused.value.field == "topic_aliases"
    assert refused.value.reason.startswith(reason)
    assert await world.count("devices") == 0


async def test_no_alias_is_the_beginning_of_another_in_the_registry(world: World) -> None:
    registry = await world.registry()
    first = await world.device(registry, topic_aliases={"lamps/1/": OWN, "m": OWN})
    for alias in ("lamps/1/", "lamps/", "l", "lamps/1/x", "m", "m/x", "mm"):
        with pytest.raises(AlreadyExists, match=f"begins like one of device {first}"):
            await world.device(registry, topic_aliases={"a": OWN, alias: OWN})
    await world.device(registry, topic_aliases={"lamps/2": OWN, "k": OWN, "n": OWN, "lamps/1.": OWN})
    await world.device(await world.registry(), topic_aliases={"lamps/1/": OWN})
    await world.yandex("DeviceService.Delete", device_id=first)
    await world.device(registry, topic_aliases={"lamps/1/": OWN, "m/": OWN})


def test_collisions_are_found_wherever_an_alias_sorts() -> None:
    """Two aliases collide exactly if one is the beginning of the other."""
    for one, other in (("a", "a "), ("a", "a\U0010ffff"), ("a/", "a/b"), ("é", "éa")):
        with pytest.raises(Invalid):
            parse_aliases({one: OWN, other: OWN}, "are0")
    for one, other in (("a", "b"), ("a/", "a"[:0] + "b/a/"), ("ab", "ac"), ("A", "a")):
        parse_aliases({one: OWN, other: OWN}, "are0")


async def as_before(world: World, device: str, aliases: dict[str, str]) -> None:
    """Store aliases unchecked, as older versions did."""
    await world.execute("DELETE FROM device_aliases WHERE device = $1", device)
    await world.execute("UPDATE devices SET topic_aliases = $2 WHERE id = $1", device, json.dumps(aliases))
    await world.execute("INSERT INTO unchecked_aliases (device, flaw) VALUES ($1, '')", device)


async def start(world: World) -> list[dict[str, Any]]:
    """Run the checks at start, and return the logged warnings."""
    with capture_logs() as logs:
        await check_old_aliases(world.store)
    return [
        {name: line[name] for name in ("device", "flaw")} for line in logs if line["event"] == "topic_aliases_invalid"
    ]


async def test_unchecked_aliases_are_checked_at_start_and_faulty_ones_are_logged(world: World) -> None:
    registry = await world.registry()
    good, bad, colliding = sorted([await world.device(registry) for _ in range(3)])
    await as_before(world, good, {"lamps/": f"$devices/{good}/events"})
    await as_before(world, bad, {"up": "$me/monitoring/up"})
    await as_before(world, colliding, {"z": f"$devices/{colliding}", "lamps/2": f"$devices/{colliding}/events"})
    foreign = "must have topics of the device itself as targets: $devices/{id}/..."
    collides = "A topic alias begins like one of device"
    for _ in range(2):
        assert await start(world) == [
            {"device": bad, "flaw": f"{foreign}, which is $devices/{bad}/..."},
            {"device": colliding, "flaw": f"{collides} {good}: none may be the beginning of another"},
        ]
    assert await aliases_of(world, bad) == {"up": "$me/monitoring/up"}
    with pytest.raises(AlreadyExists):
        await world.device(registry, topic_aliases={"lamps/3": OWN})
    await world.device(registry, topic_aliases={"z": OWN})
    for device in (bad, colliding):
        await world.yandex("DeviceService.Delete", device_id=device)
    assert await start(world) == []
    assert await world.count("unchecked_aliases") == 0
