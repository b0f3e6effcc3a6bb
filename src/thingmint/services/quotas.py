"""How many of a kind there may be.

There are two ways to find out, as counting rows costs more the more there are. Whether a small quota is used up is
found by stepping over as many entries of an index. For what there may be millions of, rows keep what is left of the
quota: one of the owner's, and further ones of lanes, to which it is handed out by the dozen. Transactions that run at
the same time are of different lanes, so they change different rows, and meet only where a lane asks for more. What is
left in one lane is taken by others when there is no more, so that the quota is exact.
"""

# ruff: noqa: S608 - statements are made of the code's own constants
from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from thingmint.domain.errors import LimitExceeded
from thingmint.store.table import BoundedDelete

if TYPE_CHECKING:
    from thingmint.store.engine import Store, Transaction

MAX_PROBED = 100_000
"""Above this, stepping through an index takes more than milliseconds."""

Probed = Literal["users", "roles", "service_accounts", "policies", "folders", "registries"]
Counted = Literal["certificates", "devices"]

_PROBES: dict[str, str] = {
    "users": "SELECT 1 FROM principals WHERE account = $1 AND kind = 'user' LIMIT 1 OFFSET $2",
    "roles": "SELECT 1 FROM principals WHERE account = $1 AND kind = 'role' LIMIT 1 OFFSET $2",
    "service_accounts": "SELECT 1 FROM principals WHERE account = $1 AND kind = 'service-account' LIMIT 1 OFFSET $2",
    "policies": "SELECT 1 FROM policies WHERE account = $1 LIMIT 1 OFFSET $2",
    "folders": "SELECT 1 FROM folders WHERE account = $1 LIMIT 1 OFFSET $2",
    "registries": "SELECT 1 FROM registries WHERE folder = $1 LIMIT 1 OFFSET $2",
}
_COUNTED: dict[str, tuple[str, str]] = {
    "certificates": ("accounts", "registrations WHERE account"),
    "devices": ("registries", "devices WHERE registry"),
}
"""The table of those that have some, and what they have."""

_SHARE = "kind = $1 AND owner = $2 AND lane"
# What is changed by these alone, INSERT and ON CONFLICT, is not read before: as reading an index conflicts with every
# insert beside it, an UPDATE would make transactions meet.
_GIVEN = "INSERT INTO quota_shares (kind, owner, lane, room, quota) VALUES"
_IF_LEFT = "ON CONFLICT (kind, owner, lane) DO UPDATE SET room = quota_shares.room"
_TAKE = f"{_GIVEN} ($1, $2, $3, -1, $4) {_IF_LEFT} - 1 WHERE quota_shares.room > 0 RETURNING room"
_HAND_OUT = f"{_GIVEN} ($1, $2, 0, -1, $4) {_IF_LEFT} - $3 WHERE quota_shares.room >= $3 RETURNING room"
_FILL = f"{_GIVEN} ($1, $2, $3, $4, $5) {_IF_LEFT} + excluded.room"
_COUNT_ON = f"UPDATE quota_shares SET room = room - 1 WHERE {_SHARE} = 0"
# First what there is too much, since the quota was lowered; else to the lane, if it has a share.
_GIVE_BACK = (
    f"UPDATE quota_shares SET room = room + 1 WHERE {_SHARE} = coalesce("
    f"(SELECT 0 FROM quota_shares WHERE {_SHARE} = 0 AND room < 0), "
    f"(SELECT max(lane) FROM quota_shares WHERE {_SHARE} IN (0, $3)))"
)
_OTHER_LANE = f"SELECT lane FROM quota_shares WHERE {_SHARE} > 0 AND room > 0 LIMIT 1"
_CHANGE_QUOTA = (
    "UPDATE quota_shares SET room = room + $2 - quota, quota = $2 WHERE kind = $1 AND lane = 0 AND quota <> $2"
)
_EXCEEDED = "SELECT owner FROM quota_shares WHERE kind = $1 AND lane = 0 AND room < 0"
_FOLD = (
    f"UPDATE quota_shares SET room = room + (SELECT CAST(coalesce(sum(l.room), 0) AS BIGINT) FROM quota_shares AS l "
    f"WHERE l.kind = $1 AND l.owner = $2 AND l.lane > 0) WHERE {_SHARE} = 0"
)
_FORGET = BoundedDelete("quota_shares", ("kind", "owner", "lane"), "kind = $1")
_PARTS = 32
"""Of a quota, at most one of these is handed out at once."""
_MOST_AT_ONCE = 64

_HOLDERS = {"registries": "folder", "devices": "registry"}
"""What the quota is for each of, where that is not the account."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """None is no quota. The defaults only keep a runaway script from filling the disk with principals.

    Devices and certificates have none by default: a fleet's size is what the operator has the machine for.
    """

    users: int | None = 10_000
    roles: int | None = 10_000
    service_accounts: int | None = 10_000
    policies: int | None = 10_000
    folders: int | None = 1_000
    registries: int | None = 10_000  # in a folder
    devices: int | None = None  # in a registry
    certificates: int | None = None  # in all regions of an account together


NO_QUOTAS = Quotas(None, None, None, None, None, None, None, None)


async def begin_counting(store: Store, quotas: Quotas) -> None:
    """At start. Takes as long as a scan of an index when such a quota is set for the first time, and nothing later."""
    for kind, (owners, owned) in _COUNTED.items():
        quota: int | None = getattr(quotas, kind)
        if quota is None:
            await _FORGET.run(store, kind)  # counted anew should there be a quota again
        else:
            await store.write(partial(_settle, kind=kind, quota=quota, owners=owners, owned=owned))


async def _settle(tx: Transaction, *, kind: str, quota: int, owners: str, owned: str) -> None:
    await tx.execute(
        f"INSERT INTO quota_shares (kind, owner, lane, room, quota) "
        f"SELECT $1, o.id, 0, $2 - (SELECT count(*) FROM {owned} = o.id), $2 FROM {owners} AS o "
        "WHERE NOT EXISTS (SELECT 1 FROM quota_shares WHERE kind = $1 AND owner = o.id AND lane = 0)",
        kind,
        quota,
    )
    await tx.execute(_CHANGE_QUOTA, kind, quota)
    for (owner,) in await tx.fetch_all(_EXCEEDED, kind):  # whose lanes must not let in any more
        await tx.execute(_FOLD, kind, owner)
        await tx.execute(f"DELETE FROM quota_shares WHERE {_SHARE} > 0", kind, owner)


async def check_quota(tx: Transaction, quotas: Quotas, kind: Probed, owner: str) -> None:
    """Once ``owner`` has another one. Raises LimitExceeded."""
    quota: int | None = getattr(quotas, kind)
    if quota is not None and await tx.fetch_one(_PROBES[kind], owner, quota) is not None:
        raise _exceeded(quota, kind, owner)


async def take(tx: Transaction, quotas: Quotas, kind: Counted, owner: str) -> None:
    """Once ``owner`` has another one. Raises LimitExceeded."""
    quota: int | None = getattr(quotas, kind)
    if quota is None:
        await tx.execute(_COUNT_ON, kind, owner)
        return
    left = await tx.fetch_one(_TAKE, kind, owner, tx.lane, quota)
    if left is None or left[0] < 0:  # nothing is left in the lane, or it is new
        await _refill(tx, kind, owner, quota, missing=1 if left is None else 0)


async def give_back(tx: Transaction, kind: Counted, owner: str) -> None:
    """After every delete."""
    await tx.execute(_GIVE_BACK, kind, owner, tx.lane)


async def drop_count(tx: Transaction, kind: Counted, owner: str) -> None:
    """Once the owner is deleted."""
    await tx.execute("DELETE FROM quota_shares WHERE kind = $1 AND owner = $2", kind, owner)


async def _refill(tx: Transaction, kind: str, owner: str, quota: int, *, missing: int) -> None:
    """``missing`` is what the lane lacks yet besides what it owes."""
    for amount in dict.fromkeys((max(1, min(quota // _PARTS, _MOST_AT_ONCE)), 1)):
        left = await tx.fetch_one(_HAND_OUT, kind, owner, amount, quota)
        if left is not None:
            is_new = left[0] < 0  # an owner who was not there when the server started
            if is_new:
                await _count(tx, kind, owner, quota)
            await tx.execute(_FILL, kind, owner, tx.lane, (1 if is_new else amount) - missing, quota)
            return
    other = await tx.fetch_one(_OTHER_LANE, kind, owner)
    if other is None:
        raise _exceeded(quota, kind, owner)
    await tx.execute(_FILL, kind, owner, other[0], -1, quota)
    await tx.execute(_FILL, kind, owner, tx.lane, 1 - missing, quota)


async def _count(tx: Transaction, kind: str, owner: str, quota: int) -> None:
    """What there is already, with what this transaction adds. Raises LimitExceeded."""
    row = await tx.fetch_one(f"SELECT count(*) FROM {_COUNTED[kind][1]} = $1", owner)
    assert row is not None, "a count is a row"
    if row[0] > quota:
        raise _exceeded(quota, kind, owner)
    await tx.execute(_FILL, kind, owner, 0, quota - row[0] + 1, quota)


def _exceeded(quota: int, kind: str, owner: str) -> LimitExceeded:
    holder, things = _HOLDERS.get(kind, "account"), kind.replace("_", " ")
    return LimitExceeded(holder, owner, f"The quota of {quota} {things} for each {holder} is used up")
