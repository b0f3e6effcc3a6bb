"""How many things of a kind an owner has, in SQL.

There are two ways, as counting rows costs more the more there are. Whether small quotas are used up is found by
stepping over as many entries of an index. For what there may be millions of, a row keeps the count: it is made by
``begin`` or when it is first asked for, and kept up by every insert and delete from then on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from thingmint.store.engine import Transaction

__all__ = ["Counted", "Probed", "begin", "forget", "has_more_than", "note", "used"]

Probed = Literal["users", "roles", "service_accounts", "policies", "folders", "registries"]
Counted = Literal["certificates", "devices"]

_PROBES: dict[Probed, str] = {
    "users": "SELECT 1 FROM principals WHERE account = $1 AND kind = 'user' LIMIT 1 OFFSET $2",
    "roles": "SELECT 1 FROM principals WHERE account = $1 AND kind = 'role' LIMIT 1 OFFSET $2",
    "service_accounts": "SELECT 1 FROM principals WHERE account = $1 AND kind = 'service-account' LIMIT 1 OFFSET $2",
    "policies": "SELECT 1 FROM policies WHERE account = $1 LIMIT 1 OFFSET $2",
    "folders": "SELECT 1 FROM folders WHERE account = $1 LIMIT 1 OFFSET $2",
    "registries": "SELECT 1 FROM registries WHERE folder = $1 LIMIT 1 OFFSET $2",
}
_COUNTS: dict[Counted, str] = {
    "certificates": "SELECT count(*) FROM registrations WHERE account = $1",
    "devices": "SELECT count(*) FROM devices WHERE registry = $1",
}


_BEGIN: dict[Counted, str] = {
    "certificates": (
        "INSERT INTO usage (kind, owner, used) SELECT 'certificates', o.id, "
        "(SELECT count(*) FROM registrations AS r WHERE r.account = o.id) FROM accounts AS o "
        "WHERE NOT EXISTS (SELECT 1 FROM usage AS u WHERE u.kind = 'certificates' AND u.owner = o.id)"
    ),
    "devices": (
        "INSERT INTO usage (kind, owner, used) SELECT 'devices', o.id, "
        "(SELECT count(*) FROM devices AS d WHERE d.registry = o.id) FROM registries AS o "
        "WHERE NOT EXISTS (SELECT 1 FROM usage AS u WHERE u.kind = 'devices' AND u.owner = o.id)"
    ),
}


async def begin(tx: Transaction, kind: Counted) -> None:
    """Counts for every owner that has no row yet. A change that is refused would take back the row that it made."""
    await tx.execute(_BEGIN[kind])


async def has_more_than(tx: Transaction, kind: Probed, owner: str, quota: int) -> bool:
    return await tx.fetch_one(_PROBES[kind], owner, quota) is not None


async def used(tx: Transaction, kind: Counted, owner: str) -> int:
    """Of a transaction that may write."""
    row = await tx.fetch_one("SELECT used FROM usage WHERE kind = $1 AND owner = $2", kind, owner)
    if row is None:
        row = await tx.fetch_one(_COUNTS[kind], owner)
        assert row is not None, "a count is a row"
        await tx.execute("INSERT INTO usage (kind, owner, used) VALUES ($1, $2, $3)", kind, owner, row[0])
    return int(row[0])


async def note(tx: Transaction, kind: Counted, owner: str, difference: int) -> None:
    """Keeps the count up, where there is one."""
    await tx.execute("UPDATE usage SET used = used + $3 WHERE kind = $1 AND owner = $2", kind, owner, difference)


async def forget(tx: Transaction, kind: Counted, owner: str) -> None:
    """Once the owner is gone."""
    await tx.execute("DELETE FROM usage WHERE kind = $1 AND owner = $2", kind, owner)
