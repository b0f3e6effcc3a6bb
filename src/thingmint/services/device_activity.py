"""What devices of Yandex IoT Core did last over MQTT: the values of DeviceMonitoringData."""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from thingmint.store.key_lists import KeyList

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.store.engine import Fetcher, Transaction

_COLUMNS = ("auth_at", "pub_at", "sub_at", "online_at", "disconnected_at")
_NEWEST = ", ".join(
    f"{name} = CASE WHEN excluded.{name} > device_activity.{name} THEN excluded.{name} ELSE device_activity.{name} END"
    for name in _COLUMNS
)
_ADDRESS = (
    "CASE WHEN excluded.auth_at >= device_activity.auth_at THEN excluded.auth_address "
    "ELSE device_activity.auth_address END"
)
_STORE = (
    f"INSERT INTO device_activity (device, auth_address, {', '.join(_COLUMNS)}) "
    "SELECT d.id, CAST($2 AS TEXT), CAST($3 AS BIGINT), CAST($4 AS BIGINT), CAST($5 AS BIGINT), CAST($6 AS BIGINT), "
    "CAST($7 AS BIGINT) FROM devices AS d WHERE d.id = $1 "
    f"ON CONFLICT (device) DO UPDATE SET auth_address = {_ADDRESS}, {_NEWEST}"
)
_READ = KeyList(f"SELECT device, auth_address, {', '.join(_COLUMNS)} FROM device_activity WHERE device IN ({{keys}})")
_DELETE = "DELETE FROM device_activity WHERE device = $1"


class Activity(NamedTuple):
    """Times are microseconds since 1970; 0 if there was none. ``auth_address`` is where it last connected from."""

    auth_address: str = ""
    auth_at: int = 0
    pub_at: int = 0
    sub_at: int = 0
    online_at: int = 0
    disconnected_at: int = 0

    def merged(self, other: Activity) -> Activity:
        """The newer of each value."""
        address = self.auth_address if self.auth_at >= other.auth_at else other.auth_address
        return Activity(address, *map(max, self[1:], other[1:]))


NO_ACTIVITY = Activity()


async def store_activity(tx: Transaction, activities: Mapping[str, Activity]) -> None:
    """Store what is newer than the stored values, by the devices' ids. Devices that are deleted are left out."""
    await tx.execute_many(_STORE, [(device, *activities[device]) for device in sorted(activities)])


async def read_activity(fetcher: Fetcher, devices: Sequence[str]) -> dict[str, Activity]:
    """What is stored, by the devices' ids."""
    return {device: Activity(*values) for device, *values in await _READ.fetch(fetcher, devices)}


async def delete_activity(tx: Transaction, device: str) -> None:
    await tx.execute(_DELETE, device)
