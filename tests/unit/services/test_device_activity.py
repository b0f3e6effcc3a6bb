"""What devices did last over MQTT: $monitoring messages, what is stored, and the views of a device."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from structlog.testing import capture_logs

from tests.unit.mqtt.broker.upstream.fake_upstream import Collector
from tests.world import OURS
from thingmint.domain.errors import Unavailable
from thingmint.mqtt.broker.interface import Opening, Subscription
from thingmint.mqtt.device_monitor import DeviceMonitor
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.services.device_activity import Activity, read_activity, store_activity
from thingmint.store.engine import StoreWrapper
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.world import World
    from thingmint.domain.messages import Message

NAMES = (
    "last_auth_time",
    "last_pub_activity_time",
    "last_sub_activity_time",
    "last_online_time",
    "last_disconnect_time",
)


async def viewed(world: World, device: str) -> dict[str, str]:
    """The monitoring data of the view FULL, in JSON's form."""
    data = (await world.yandex("DeviceService.Get", device_id=device, device_view="FULL")).monitoring_data
    times = {name: getattr(data, name).ToJsonString() for name in NAMES if data.HasField(name)}
    return {"last_auth_ip": data.last_auth_ip, **times} if data.last_auth_ip else times


async def subscriber(world: World, registry: str) -> Collector:
    collector = Collector()
    link = await world.broker.open(Opening(OURS, "all", 5, True, 0, 100), collector)
    link.resume()
    link.subscribe([Subscription(f"$yandex/{registry}/#", 1)], lambda _: None)
    return collector


async def test_each_access_is_reported_and_stored(world: World) -> None:
    registry = await world.registry()
    device, other = await world.device(registry), await world.device(registry)
    collector = await subscriber(world, registry)
    monitor = DeviceMonitor(world.store, world.broker, world.clock)
    expected: dict[str, str] = {"device_id": device, "registry_id": registry}

    async def happens(what: Callable[[], None], *names: str) -> None:
        world.clock.advance(seconds=5)
        what()
        expected.update(dict.fromkeys([*names, "last_online_time"], f"{world.clock():%Y-%m-%dT%H:%M:%S.%f}Z"))
        await monitor.report()
        message, _, _ = collector.received[-1]
        assert (message.topic, message.qos) == (f"$yandex/{registry}/monitoring/{device}/json/.", 0)
        assert json.loads(message.payload) == expected
        await monitor.save()
        stored = {name: value.replace("250000Z", "250Z") for name, value in expected.items() if name.startswith("last")}
        found = await viewed(world, device)
        found.pop("last_disconnect_time", None)
        assert found == stored

    expected["last_auth_ip"] = "192.0.2.7"
    await happens(lambda: monitor.connected(OURS, registry, device, "192.0.2.7"), "last_auth_time")
    await happens(lambda: monitor.published(device), "last_pub_activity_time")
    await happens(lambda: monitor.subscribed(device), "last_sub_activity_time")
    await happens(lambda: monitor.disconnected(device))
    disconnected = expected["last_online_time"]
    assert (await viewed(world, device))["last_disconnect_time"] == disconnected.replace("250000Z", "250Z")
    assert len(collector.received) == 4
    assert not monitor._devices
    monitor = DeviceMonitor(world.store, world.broker, world.clock)  # the next process continues with what is stored
    expected["last_auth_ip"] = "2001:db8::1"
    await happens(lambda: monitor.connected(OURS, registry, device, "2001:db8::1"), "last_auth_time")
    assert await viewed(world, other) == {}


async def test_views(world: World) -> None:
    registry = await world.registry()
    devices = [await world.device(registry, name=f"d{number}") for number in range(3)]
    await world.write(lambda tx: store_activity(tx, {devices[1]: Activity("192.0.2.1", 1, 2, 3, 4, 5)}))
    calls: list[tuple[str, dict[str, Any]]] = [
        ("Get", {"device_id": devices[1]}),
        ("GetByName", {"registry_id": registry, "device_name": "d1"}),
        ("List", {"registry_id": registry}),
        ("List", {"folder_id": world.ours.folder}),
    ]
    for method, fields in calls:
        for view in ("BASIC", "FULL", None):
            answer = await world.yandex(f"DeviceService.{method}", **fields, **({"device_view": view} if view else {}))
            found = answer.devices if method == "List" else [answer]
            assert [each.HasField("monitoring_data") for each in found] == [view == "FULL"] * len(found)
            (one,) = [each for each in found if each.id == devices[1]]
            assert one.monitoring_data.last_auth_ip == ("192.0.2.1" if view == "FULL" else "")
            assert one.monitoring_data.last_disconnect_time.nanos == (5000 if view == "FULL" else 0)
    assert not (await world.yandex("DeviceService.Create", registry_id=registry)).response.value.count(b"192.0.2")


async def test_the_newest_of_each_value_stays_whichever_process_stores_it(world: World) -> None:
    device = await world.device(await world.registry())
    one, two = Activity("192.0.2.1", 10, 30, 0, 30, 5), Activity("192.0.2.2", 20, 0, 7, 25, 0)
    for order in ((one, two), (two, one)):
        await world.execute("DELETE FROM device_activity")
        for each in order:
            await world.write(partial(store_activity, activities={device: each, "deleted": each}))
        expected = Activity("192.0.2.2", 20, 30, 7, 30, 5)
        assert await read_activity(world.store, [device, "deleted"]) == {device: expected}
        assert order[0].merged(order[1]) == expected
    await world.yandex("DeviceService.Delete", device_id=device)
    assert await world.count("device_activity") == 0


async def test_many_devices_are_read_and_stored_in_bounded_steps(world: World) -> None:
    registry = await world.registry()
    devices = [await world.device(registry) for _ in range(230)]
    monitor = DeviceMonitor(world.store, world.broker, world.clock)
    for device in devices:
        monitor.connected(OURS, registry, device, "192.0.2.1")
        monitor.published(device)
    before = world.store.writes
    await monitor.save(220)
    assert await world.count("device_activity") == 220
    await monitor.save()
    assert await world.count("device_activity") == 230
    assert world.store.writes - before == 3
    await monitor.save()
    assert world.store.writes - before == 3
    found = await read_activity(world.store, devices)
    assert {each.pub_at for each in found.values()} == {to_micros(world.clock())}
    assert len(found) == 230


async def test_a_device_is_reported_once_for_any_number_of_accesses(world: World) -> None:
    registry = await world.registry()
    device = await world.device(registry)
    collector = await subscriber(world, registry)
    monitor = DeviceMonitor(world.store, world.broker, world.clock)
    for _ in range(2):
        monitor.connected(OURS, registry, device, "192.0.2.1")
    for _ in range(100):
        monitor.published(device)
        monitor.disconnected("of another process")
    await monitor.report()
    await monitor.report()
    assert len(collector.received) == 1
    monitor.disconnected(device)
    await monitor.save()
    await monitor.report()
    assert monitor._devices.keys() == {device}, "its other connection is open"


async def test_a_broker_that_takes_no_more_holds_the_reports_back(world: World) -> None:
    registry = await world.registry()
    waiting: list[Callable[[Reason], None]] = []

    class Slow:
        def publish(self, _: object, message: Message, done: Callable[[Reason], None]) -> None:
            waiting.append(done)

    broker: Any = Slow()
    monitor = DeviceMonitor(world.store, broker, world.clock)
    for number in range(450):
        monitor.connected(OURS, registry, f"d{number}", "192.0.2.1")
    reporting = asyncio.create_task(monitor.report())
    counts = set()
    while not reporting.done():
        await asyncio.sleep(0)
        counts.add(len(waiting))
        if len(waiting) in (200, 400):
            for done in waiting[-200:]:
                done(Reason.QUOTA_EXCEEDED)
    assert len(waiting) == 450
    await reporting


class Away(StoreWrapper):
    is_away = True

    async def write(self, body: Any, **options: Any) -> Any:
        if self.is_away:
            raise Unavailable("away")
        return await super().write(body, **options)

    async def fetch_all(self, sql: str, *parameters: Any) -> Any:
        if self.is_away:
            raise Unavailable("away")
        return await super().fetch_all(sql, *parameters)


async def test_values_wait_for_a_store_that_is_away(world: World) -> None:
    registry = await world.registry()
    device = await world.device(registry)
    store = Away(world.store)
    monitor = DeviceMonitor(store, world.broker, world.clock)
    monitor.connected(OURS, registry, device, "192.0.2.1")
    with capture_logs() as logs:
        for _ in range(3):
            await monitor.report()
            await monitor.save()
    assert [log["event"] for log in logs] == ["device_activity_not_stored"]
    store.is_away = False
    await monitor.save()
    assert (await read_activity(world.store, [device]))[device].auth_address == "192.0.2.1"


@pytest.mark.sqlite
async def test_it_goes_on_after_an_unexpected_error(world: World) -> None:
    monitor = DeviceMonitor(world.store, world.broker, world.clock)
    registry = await world.registry()
    device = await world.device(registry)
    monitor.connected(OURS, registry, device, "192.0.2.1")
    with (
        mock.patch("thingmint.mqtt.device_monitor._EVERY", 0.001),
        mock.patch.object(monitor, "report", side_effect=RuntimeError),
        capture_logs() as logs,
    ):
        task = asyncio.create_task(monitor.run())
        while await world.count("device_activity") == 0 or len(logs) < 2:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.001)
        task.cancel()
    assert {log["event"] for log in logs} == {"device_activity_not_stored"}
