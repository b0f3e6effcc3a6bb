"""Monitoring of Yandex IoT Core: the messages of $monitoring/ID/json, and the values of DeviceMonitoringData.

Source: Yandex's page "Device topics". Each access of a device over MQTT is noted in memory. Every second, each device
with news is reported to its registry once, and its values are stored, the oldest news first.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from thingmint.domain.errors import Unavailable
from thingmint.domain.messages import Message
from thingmint.domain.yandex_topics import broker_topic
from thingmint.services.device_activity import NO_ACTIVITY, Activity, read_activity, store_activity
from thingmint.store.table import from_micros, to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.mqtt.protocol.reasons import Reason
    from thingmint.store.engine import Store

_EVERY = 1.0  # seconds
_ROWS_AT_ONCE = 200
_ROWS_EACH_TIME = 1_000  # more would leave too little of the store for others
_MESSAGES_AT_ONCE = 50  # then other tasks have their turn
_MAX_UNDER_WAY = 200  # messages at the broker: others of the account need room there
_MAX_UNSAVED = 200_000  # devices that wait for the store

_log = structlog.get_logger("thingmint.gateway")


@dataclass(slots=True, eq=False)
class MonitoredDevice:
    """A device that is connected, or whose values are not stored yet."""

    scope: Scope
    registry: str
    id: str
    activity: Activity = NO_ACTIVITY
    connections: int = 0
    is_read: bool = False


class DeviceMonitor:
    def __init__(self, store: Store, broker: Broker, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._broker = broker
        self._clock = clock
        self._devices: dict[str, MonitoredDevice] = {}
        self._news: dict[MonitoredDevice, None] = {}
        self._unsaved: dict[MonitoredDevice, None] = {}
        self._failing = False
        self._under_way = 0
        self._room: asyncio.Future[None] | None = None

    def connected(self, scope: Scope, registry: str, id: str, address: str) -> None:
        device = self._devices.get(id)
        if device is None:
            device = self._devices[id] = MonitoredDevice(scope, registry, id)
        device.connections += 1
        now = self._now()
        self._note(device, device.activity._replace(auth_address=address, auth_at=now, online_at=now))

    def published(self, id: str) -> None:
        if (device := self._devices.get(id)) is not None:
            now = self._now()
            self._note(device, device.activity._replace(pub_at=now, online_at=now))

    def subscribed(self, id: str) -> None:
        if (device := self._devices.get(id)) is not None:
            now = self._now()
            self._note(device, device.activity._replace(sub_at=now, online_at=now))

    def disconnected(self, id: str) -> None:
        if (device := self._devices.get(id)) is not None:
            device.connections -= 1
            now = self._now()
            self._note(device, device.activity._replace(disconnected_at=now, online_at=now))

    async def run(self) -> None:
        """Report and store until cancelled. The one does not wait for the other."""
        await asyncio.gather(_repeat(self.report), _repeat(partial(self.save, _ROWS_EACH_TIME)))

    async def report(self) -> None:
        """Publish the values of each device with news."""
        news, self._news = list(self._news), {}
        await self._read([device for device in news if not device.is_read])
        for number, device in enumerate(news, 1):
            topic = broker_topic(device.registry, f"$monitoring/{device.id}/json")
            self._under_way += 1
            self._broker.publish(device.scope, Message(topic, _json(device)), self._sent)
            if number % _MESSAGES_AT_ONCE == 0:
                await asyncio.sleep(0)
            if self._under_way >= _MAX_UNDER_WAY:
                self._room = asyncio.get_running_loop().create_future()
                await self._room
        self._forget(news)

    async def save(self, limit: int | None = None) -> None:
        """Store the values of the devices that wait for it, at most ``limit``."""
        waiting = list(self._unsaved)[:limit]
        for first in range(0, len(waiting), _ROWS_AT_ONCE):
            some = waiting[first : first + _ROWS_AT_ONCE]
            for device in some:
                self._unsaved.pop(device, None)
            try:
                activities = {device.id: device.activity for device in some}
                await self._store.write(partial(store_activity, activities=activities))
            except Unavailable as error:
                if not self._failing:
                    _log.warning("device_activity_not_stored", error=str(error), devices=len(waiting))
                self._failing = True
                self._unsaved = dict.fromkeys(some) | self._unsaved
                return
            self._failing = False
            self._forget(some)

    def _sent(self, _: Reason) -> None:
        self._under_way -= 1  # at QoS 0 a message may be lost
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _note(self, device: MonitoredDevice, activity: Activity) -> None:
        device.activity = activity
        self._news[device] = None
        if len(self._unsaved) < _MAX_UNSAVED:
            self._unsaved[device] = None

    async def _read(self, devices: list[MonitoredDevice]) -> None:
        """Take over what was stored of them before they connected here."""
        try:
            stored = await read_activity(self._store, [device.id for device in devices])
        except Unavailable:
            return
        for device in devices:
            device.activity = device.activity.merged(stored.get(device.id, NO_ACTIVITY))
            device.is_read = True

    def _forget(self, devices: Iterable[MonitoredDevice]) -> None:
        for device in devices:
            if device.connections == 0 and device not in self._news and device not in self._unsaved:
                self._devices.pop(device.id, None)

    def _now(self) -> int:
        return to_micros(self._clock())


def _json(device: MonitoredDevice) -> bytes:
    activity = device.activity
    values: dict[str, Any] = {
        "device_id": device.id,
        "registry_id": device.registry,
        "last_auth_ip": activity.auth_address,
        "last_auth_time": _text(activity.auth_at),
        "last_pub_activity_time": _text(activity.pub_at),
        "last_sub_activity_time": _text(activity.sub_at),
        "last_online_time": _text(activity.online_at),
    }
    return orjson.dumps({name: value for name, value in values.items() if value})


def _text(micros: int) -> str | None:
    return f"{from_micros(micros):%Y-%m-%dT%H:%M:%S.%f}Z" if micros else None


async def _repeat(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    while True:
        await asyncio.sleep(_EVERY)
        try:
            await work()
        except Exception:  # noqa: BLE001 - the next time it may succeed
            _log.exception("device_activity_not_stored")
