"""How many of a kind there may be.

There are two ways to find out, as counting rows costs more the more there are. Whether a small quota is used up is
found by stepping over as many entries of an index. For what there may be millions of, a row keeps the count: it is made
by ``begin_counting`` or when it is first asked for, and kept up by every insert and delete from then on.
"""

# ruff: noqa: S608 - statements are made of the code's own constants
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from thingmint.domain.errors import LimitExceeded

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

_HOLDERS = {"registries": "folder", "devices": "registry"}
"""What the quota is for each of, where that is not the account."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """None is no quota. The defaults only keep a runaway script from filling the disk with principals.

    Devices and certificates have none by default: a fleet's size is what the operator has the machine for, and
    counting them would be a write to one row for each, where many processes would wait for one another.
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
    """Takes as long as a scan of an index when such a quota is set for the first time, and nothing later.

    Without it, a change that is refused would take back the count that it made.
    """
    wanted = [kind for kind in _COUNTED if getattr(quotas, kind) is not None]

    async def body(tx: Transaction) -> None:
        for kind in wanted:
            owners, owned = _COUNTED[kind]
            await tx.execute(
                f"INSERT INTO usage (kind, owner, used) SELECT $1, o.id, (SELECT count(*) FROM {owned} = o.id) "
                f"FROM {owners} AS o WHERE NOT EXISTS (SELECT 1 FROM usage WHERE kind = $1 AND owner = o.id)",
                kind,
            )

    if wanted:
        await store.write(body)


async def check_quota(tx: Transaction, quotas: Quotas, kind: Probed | Counted, owner: str) -> None:
    """Once ``owner`` has another one. Raises LimitExceeded."""
    quota: int | None = getattr(quotas, kind)
    if quota is None:
        return
    probe = _PROBES.get(kind)
    if probe is None:
        exceeded = await _count(tx, kind, owner) > quota
    else:
        exceeded = await tx.fetch_one(probe, owner, quota) is not None
    if exceeded:
        holder, things = _HOLDERS.get(kind, "account"), kind.replace("_", " ")
        raise LimitExceeded(holder, owner, f"The quota of {quota} {things} for each {holder} is used up")


async def adjust_count(tx: Transaction, kind: Counted, owner: str, by: int) -> None:
    """After every insert and delete. Where there is no count, there is nothing to adjust."""
    await tx.execute("UPDATE usage SET used = used + $3 WHERE kind = $1 AND owner = $2", kind, owner, by)


async def drop_count(tx: Transaction, kind: Counted, owner: str) -> None:
    """Once the owner is deleted."""
    await tx.execute("DELETE FROM usage WHERE kind = $1 AND owner = $2", kind, owner)


async def _count(tx: Transaction, kind: str, owner: str) -> int:
    row = await tx.fetch_one("SELECT used FROM usage WHERE kind = $1 AND owner = $2", kind, owner)
    if row is None:
        row = await tx.fetch_one(f"SELECT count(*) FROM {_COUNTED[kind][1]} = $1", owner)
        assert row is not None, "a count is a row"
        await tx.execute("INSERT INTO usage (kind, owner, used) VALUES ($1, $2, $3)", kind, owner, row[0])
    return int(row[0])
