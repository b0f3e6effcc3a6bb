"""Quotas: limits on the number of resources of a kind.

Counting rows takes longer the more there are, so there are two ways to check a quota. For a small quota, a query steps
over as many entries of an index. For kinds with millions of resources, rows have what is left of the quota: one row of
the owner, and further rows for lanes, which take shares from it. Concurrent transactions use different lanes, so they
change different rows, and conflict only when a lane takes another share. When the owner's row is used up, lanes take
from each other, so the quota is exact.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from thingmint.domain.errors import LimitExceeded
from thingmint.store.table import BoundedDelete

if TYPE_CHECKING:
    from thingmint.store.engine import Store, Transaction

MAX_PROBED = 100_000
"""The largest quota for which stepping through an index takes only milliseconds."""

Probed = Literal[
    "users",
    "roles",
    "service_accounts",
    "policies",
    "role_aliases",
    "billing_groups",
    "folders",
    "registries",
    "brokers",
]
Counted = Literal["certificates", "devices"]

_PROBES: dict[str, str] = {
    "users": "principals WHERE account = $2 AND kind = 'user'",
    "roles": "principals WHERE account = $2 AND kind = 'role'",
    "service_accounts": "principals WHERE account = $2 AND kind = 'service-account'",
    "policies": "policies WHERE account = $2",
    "role_aliases": "role_aliases WHERE account = $2 AND region = $3",
    "billing_groups": "billing_groups WHERE account = $2 AND region = $3",
    "folders": "folders WHERE account = $2",
    "registries": "registries WHERE folder = $2",
    "brokers": "brokers WHERE folder = $2",
}
_PROBES = {kind: f"SELECT 1 FROM {owned} LIMIT 1 OFFSET $1" for kind, owned in _PROBES.items()}
_COUNTED: dict[str, tuple[str, str]] = {
    "certificates": ("accounts", "registrations WHERE account"),
    "devices": ("registries", "devices WHERE registry"),
}
"""The table of owners, and the table and column by which their resources are counted."""

_SHARE = "kind = $1 AND owner = $2 AND lane"
# INSERT ... ON CONFLICT changes a row without reading before. An UPDATE reads the index, which conflicts with every
# insert next to the row, so concurrent transactions would conflict.
_GIVEN = "INSERT INTO quota_shares (kind, owner, lane, room, quota) VALUES"
_IF_LEFT = "ON CONFLICT (kind, owner, lane) DO UPDATE SET room = quota_shares.room"
_TAKE = f"{_GIVEN} ($1, $2, $3, -1, $4) {_IF_LEFT} - 1 WHERE quota_shares.room > 0 RETURNING room"
_HAND_OUT = f"{_GIVEN} ($1, $2, 0, -1, $4) {_IF_LEFT} - $3 WHERE quota_shares.room >= $3 RETURNING room"
_FILL = f"{_GIVEN} ($1, $2, $3, $4, $5) {_IF_LEFT} + excluded.room"
_COUNT_ON = f"UPDATE quota_shares SET room = room - 1 WHERE {_SHARE} = 0"
# If more is used than a lowered quota allows, to the owner's row; else to the lane, if it has a share.
_GIVE_BACK = (
    f"UPDATE quota_shares SET room = room + 1 WHERE {_SHARE} = coalesce("
    f"(SELECT 0 FROM quota_shares WHERE {_SHARE} = 0 AND room < 0), "
    f"(SELECT max(lane) FROM quota_shares WHERE {_SHARE} IN (0, $3)))"
)
# The same for an amount. A lane without a row gets one that lacks the amount.
_TAKE_AMOUNT = (
    f"{_GIVEN} ($1, $2, $3, -CAST($4 AS BIGINT), $5) {_IF_LEFT} - $4 WHERE quota_shares.room >= $4 RETURNING room"
)
_GIVE_BACK_AMOUNT = (
    f"UPDATE quota_shares SET room = room + $4 "
    f"WHERE {_SHARE} = (SELECT max(lane) FROM quota_shares WHERE {_SHARE} IN (0, $3))"
)
_LANES_WITH_ROOM = f"SELECT lane, room FROM quota_shares WHERE {_SHARE} >= 0 AND room > 0"
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
"""A share is at most the quota divided by this number."""
_MOST_AT_ONCE = 64
_AMOUNT_PARTS = 1024
"""The same for an amount."""

_HOLDERS = {
    "registries": "folder",
    "brokers": "folder",
    "devices": "registry",
    "role_aliases": "region of an account",
    "billing_groups": "region of an account",
}
"""The kind of owner that has the quota, if it is not the account."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """The quotas of each owner; None means no quota.

    The defaults only keep a faulty script from filling the disk. Devices and certificates have no quota by default,
    because the operator chooses the machine for the size of the fleet.
    """

    users: int | None = 10_000
    roles: int | None = 10_000
    service_accounts: int | None = 10_000
    policies: int | None = 10_000
    role_aliases: int | None = 100  # in a region of an account; this and the next are AWS's
    billing_groups: int | None = 20_000
    folders: int | None = 1_000
    registries: int | None = 10_000  # in a folder
    brokers: int | None = 10_000  # in a folder
    devices: int | None = None  # in a registry
    certificates: int | None = None  # in all regions of an account together


AWS_QUOTAS = Quotas(users=5000, roles=1000, policies=1500)
"""IAM's published quotas of users, roles and customer managed policies in an account."""
NO_QUOTAS = Quotas(**dict.fromkeys(Quotas.__dataclass_fields__))


async def begin_counting(store: Store, quotas: Quotas) -> None:
    """Call at start. Scans an index when such a quota is set for the first time; later calls are fast."""
    for kind, (owners, owned) in _COUNTED.items():
        quota: int | None = getattr(quotas, kind)
        if quota is None:
            await _FORGET.run(store, kind)  # if a quota is set again, resources are counted again
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
    for (owner,) in await tx.fetch_all(_EXCEEDED, kind):  # remove the shares of their lanes
        await tx.execute(_FOLD, kind, owner)
        await tx.execute(f"DELETE FROM quota_shares WHERE {_SHARE} > 0", kind, owner)


async def check_quota(tx: Transaction, quotas: Quotas, kind: Probed, *owner: str) -> None:
    """Call after adding a resource of ``owner``: an id, or an account and region. Raises LimitExceeded."""
    quota: int | None = getattr(quotas, kind)
    if quota is not None and await tx.fetch_one(_PROBES[kind], quota, *owner) is not None:
        raise _exceeded(quota, kind, owner[0])


async def take(tx: Transaction, quotas: Quotas, kind: Counted, owner: str) -> None:
    """Call after adding a resource of ``owner``. Raises LimitExceeded."""
    quota: int | None = getattr(quotas, kind)
    if quota is None:
        await tx.execute(_COUNT_ON, kind, owner)
        return
    left = await tx.fetch_one(_TAKE, kind, owner, tx.lane, quota)
    if left is None or left[0] < 0:  # nothing is left in the lane, or it is new
        await _refill(tx, kind, owner, quota, missing=1 if left is None else 0)


async def give_back(tx: Transaction, kind: Counted, owner: str) -> None:
    """Call after deleting a resource of ``owner``."""
    await tx.execute(_GIVE_BACK, kind, owner, tx.lane)


async def drop_count(tx: Transaction, kind: str, owner: str) -> None:
    """Call after deleting the owner."""
    await tx.execute("DELETE FROM quota_shares WHERE kind = $1 AND owner = $2", kind, owner)


async def take_amount(tx: Transaction, kind: str, owner: str, amount: int, quota: int) -> bool:
    """Take ``amount`` of an owner's quota, of which nothing was taken before its first call. False if less is left."""
    left = await tx.fetch_one(_TAKE_AMOUNT, kind, owner, tx.lane, amount, quota)
    if left is not None and left[0] >= 0:
        return True
    missing = amount if left is None else 0  # a new lane's row lacks the amount already
    for share in dict.fromkeys((max(quota // _AMOUNT_PARTS, amount), amount)):
        handed_out = await tx.fetch_one(_HAND_OUT, kind, owner, share, quota)
        if handed_out is not None:
            if handed_out[0] < 0:  # the owner's first row
                await tx.execute(_FILL, kind, owner, 0, quota - share + 1, quota)
            await tx.execute(_FILL, kind, owner, tx.lane, share - missing, quota)
            return True
    await tx.execute(_FILL, kind, owner, tx.lane, amount - missing, quota)
    lanes = await tx.fetch_all(_LANES_WITH_ROOM, kind, owner)
    if sum(room for _, room in lanes) < amount:
        return False
    for lane, room in lanes:
        taken = min(room, amount)
        await tx.execute(_FILL, kind, owner, lane, -taken, quota)
        amount -= taken
    return True


async def give_amount_back(tx: Transaction, kind: str, owner: str, amount: int) -> None:
    await tx.execute(_GIVE_BACK_AMOUNT, kind, owner, tx.lane, amount)


async def _refill(tx: Transaction, kind: str, owner: str, quota: int, *, missing: int) -> None:
    """Take another share for the lane. ``missing`` is 1 if the lane's row has not counted the new resource, else 0."""
    for amount in dict.fromkeys((max(1, min(quota // _PARTS, _MOST_AT_ONCE)), 1)):
        left = await tx.fetch_one(_HAND_OUT, kind, owner, amount, quota)
        if left is not None:
            is_new = left[0] < 0  # an owner that was created after the server started
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
    """Count the owner's resources, including the new one of this transaction. Raises LimitExceeded."""
    row = await tx.fetch_one(f"SELECT count(*) FROM {_COUNTED[kind][1]} = $1", owner)
    assert row is not None, "a count returns a row"
    if row[0] > quota:
        raise _exceeded(quota, kind, owner)
    await tx.execute(_FILL, kind, owner, 0, quota - row[0] + 1, quota)


def _exceeded(quota: int, kind: str, owner: str) -> LimitExceeded:
    holder, things = _HOLDERS.get(kind, "account"), kind.replace("_", " ")
    return LimitExceeded(holder, owner, f"The quota of {quota} {things} for each {holder} is used up")
