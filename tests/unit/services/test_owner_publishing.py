"""Publish of the three data services: whose topics, what is refused, and what is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.unit.mqtt.broker.upstream.fake_upstream import Collector
from tests.world import OURS, THEIRS, unpacked
from thingmint.domain.errors import Denied, DomainError, Invalid, InvalidState, NotFound, TopicDenied, Unavailable
from thingmint.mqtt.broker.interface import Opening, Subscription
from thingmint.yandex.contract.validation import InvalidRequest

if TYPE_CHECKING:
    from tests.world import World


class Fleet:
    """Two registries, the first with a device that has an alias; a broker; and a subscriber to all of it."""

    def __init__(self, world: World, registry: str, device: str, other: str, foreign: str, broker: str) -> None:
        self.world = world
        self.registry, self.device, self.other, self.foreign, self.broker = registry, device, other, foreign, broker
        self.collector = Collector()

    async def publish(self, owner: str, topic: str, data: bytes = b"x", scope: Any = OURS) -> list[str]:
        """The topics at the broker where messages came in."""
        service, field = {
            self.registry: ("RegistryDataService", "registry_id"),
            self.broker: ("BrokerDataService", "broker_id"),
        }.get(owner, ("DeviceDataService", "device_id"))
        before = len(self.collector.received)
        await self.world.yandex(f"{service}.Publish", scope, **{field: owner}, topic=topic, data=data)
        new = [message for message, _, _ in self.collector.received[before:]]
        assert all((message.payload, message.qos) == (data, 1) for message in new)
        return [message.topic for message in new]


@pytest.fixture
async def fleet(world: World) -> Fleet:
    registry, second = await world.registry(), await world.registry()
    device = await world.device(registry, topic_aliases={"my/": "$devices/{id}/"})
    other, foreign = await world.device(registry), await world.device(second)
    made = await world.yandex("BrokerService.Create", folder_id=world.ours.folder)
    fleet = Fleet(world, registry, device, other, foreign, unpacked(made.metadata).broker_id)
    link = await world.broker.open(Opening(OURS, "all", 5, True, 0, 100), fleet.collector)
    link.resume()
    link.subscribe([Subscription(f"$yandex/{id}/#", 1) for id in (registry, second, fleet.broker)], lambda _: None)
    world.asked.clear()
    return fleet


async def test_messages_reach_the_topics_that_the_owner_may_publish_to(fleet: Fleet) -> None:
    registry, device, other, broker = fleet.registry, fleet.device, fleet.other, fleet.broker
    for owner, name, topic in (
        (device, f"$devices/{device}/events", f"{registry}/devices/{device}/events"),
        (device, "$me/device/state/a", f"{registry}/devices/{device}/state/a"),
        (device, "$me/registry/events", f"{registry}/registries/{registry}/events"),
        (device, f"devices/{device}/events", f"{registry}/devices/{device}/events"),
        (device, "my/events/b", f"{registry}/devices/{device}/events/b"),
        (registry, f"$devices/{other}/commands", f"{registry}/devices/{other}/commands"),
        (registry, "my/config", f"{registry}/devices/{device}/config"),
        (registry, "$me/registry/config", f"{registry}/registries/{registry}/config"),
        (broker, "any/topic", f"{broker}/any/topic"),
    ):
        assert await fleet.publish(owner, name, name.encode()) == [f"$yandex/{topic}/."]


async def test_permanent_topics_keep_the_message(fleet: Fleet) -> None:
    last = fleet.world.environment.last_messages
    await fleet.publish(fleet.device, "$me/device/state", b"1")
    await fleet.publish(fleet.device, "$me/device/events", b"2")
    await fleet.publish(fleet.registry, f"$devices/{fleet.other}/config", b"3")
    await fleet.publish(fleet.broker, "devices/x/state", b"4")
    found: dict[str, bytes] = {}
    for kind in ("state", "config", "events"):
        found |= {topic: payload async for topic, payload in last.matching(fleet.registry, f"$devices/+/{kind}/#")}
    assert found == {f"$devices/{fleet.device}/state": b"1", f"$devices/{fleet.other}/config": b"3"}
    assert await fleet.world.count("last_messages") == 2


async def test_events_and_commands_are_exported(fleet: Fleet) -> None:
    exported: list[tuple[str, ...]] = []

    class Exports:
        def keep(self, registry: str, device: str, topic: str, payload: bytes) -> None:
            exported.append((registry, device, topic))

    fleet.world.environment = replace(fleet.world.environment, exports=cast("Any", Exports()))
    for owner, name in (
        (fleet.device, "$me/device/events"),
        (fleet.device, "$me/device/state"),
        (fleet.registry, "$me/registry/commands"),
        (fleet.broker, "devices/x/events"),
    ):
        await fleet.publish(owner, name)
    registry, device = fleet.registry, fleet.device
    assert exported == [
        (registry, device, f"$devices/{device}/events"),
        (registry, "", f"$registries/{registry}/commands"),
    ]


async def test_other_topics_are_denied(fleet: Fleet) -> None:
    for owner, name in (
        (fleet.device, "$me/device/commands"),
        (fleet.device, f"$devices/{fleet.other}/events"),
        (fleet.device, f"$monitoring/{fleet.device}/json"),
        (fleet.device, "other/events"),
        (fleet.registry, f"$devices/{fleet.device}/events"),
        (fleet.registry, f"$devices/{fleet.foreign}/commands"),
        (fleet.registry, "$devices/none/commands"),
        (fleet.broker, "$devices/x/events"),
        (fleet.broker, "$aws/things"),
    ):
        with pytest.raises(TopicDenied, match="may not publish to the topic: ") as denied:
            await fleet.publish(owner, name)
        assert name not in str(denied.value)
    assert fleet.collector.received == []
    assert await fleet.world.count("last_messages") == 0


@pytest.mark.parametrize(
    ("topic", "data", "error"),
    [
        ("", b"x", InvalidRequest),
        ("$me/device/events/" + "x" * 1007, b"x", InvalidRequest),
        ("$me/device/events/" + "я" * 504, b"x", Invalid),
        ("$me/device/events/+", b"x", Invalid),
        ("$me/device/events/#", b"x", Invalid),
        ("$me/device/events/\0", b"x", Invalid),
        ("$me/device/events", b"x" * (256 * 1024 + 1), InvalidRequest),
    ],
)
async def test_topics_and_data_have_limits(fleet: Fleet, topic: str, data: bytes, error: type[DomainError]) -> None:
    with pytest.raises(error):
        await fleet.publish(fleet.device, topic, data)
    assert fleet.collector.received == []


async def test_the_largest_message_is_published(fleet: Fleet) -> None:
    topic = "$me/device/events/" + "я" * 503
    assert len(await fleet.publish(fleet.device, topic, b"x" * 256 * 1024)) == 1
    assert len(await fleet.publish(fleet.device, topic, b"")) == 1


async def test_unknown_owners_and_those_of_other_accounts_are_not_found(fleet: Fleet) -> None:
    for owner, scope in (("none", OURS), (fleet.device, THEIRS), (fleet.registry, THEIRS), (fleet.broker, THEIRS)):
        with pytest.raises(NotFound):
            await fleet.publish(owner, "$me/device/events", scope=scope)
    with pytest.raises(NotFound):
        await fleet.world.yandex("DeviceDataService.Publish", device_id=fleet.registry, topic="$me/registry/config")


async def test_a_disabled_registry_and_its_devices_cannot_publish(fleet: Fleet) -> None:
    world = fleet.world
    await world.yandex("RegistryService.Disable", registry_id=fleet.registry)
    for owner in (fleet.registry, fleet.device):
        with pytest.raises(InvalidState, match="is disabled"):
            await fleet.publish(owner, "$me/registry/config")
    assert fleet.collector.received == []
    await world.yandex("RegistryService.Enable", registry_id=fleet.registry)
    assert len(await fleet.publish(fleet.device, "$me/device/events")) == 1


async def test_callers_are_authorized_on_the_owner_before_anything_else(fleet: Fleet) -> None:
    world = fleet.world
    await fleet.publish(fleet.device, "$me/device/events")
    assert world.asked == [("yandex:DeviceDataService.Publish", f"yandex:device/{fleet.device}")]
    assert world.containers[-1][1:3] == (f"yandex:registry/{fleet.registry}", f"yandex:folder/{world.ours.folder}")
    world.denied |= {f"yandex:{kind}DataService.Publish" for kind in ("Device", "Registry", "Broker")}
    for owner in (fleet.device, fleet.registry, fleet.broker, "none"):
        with pytest.raises(Denied) as denied:
            await fleet.publish(owner, "$me/device/commands/#")
        assert not isinstance(denied.value, TopicDenied)


async def test_a_broker_that_is_away_is_unavailable(fleet: Fleet) -> None:
    world, messages = fleet.world, fleet.world.environment.messages

    class Away:
        async def publish_of_owner(self, *_: object) -> None:
            raise Unavailable("away")

    world.environment = replace(world.environment, messages=cast("Any", Away()))
    with pytest.raises(Unavailable):
        await fleet.publish(fleet.device, "$me/device/state")
    assert await world.count("last_messages") == 1, "the client publishes again"
    world.environment = replace(world.environment, messages=messages)
