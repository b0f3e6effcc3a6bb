"""The names that clients reach this instance by, in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.store.engine import Transaction

__all__ = ["add_hostnames", "list_hostnames"]


async def list_hostnames(tx: Transaction) -> list[str]:
    rows = await tx.fetch_all("SELECT name FROM hostnames ORDER BY position")
    return [row[0] for row in rows]


async def add_hostnames(tx: Transaction, names: Sequence[str]) -> list[str]:
    """Those of ``names`` that were new."""
    known = await list_hostnames(tx)
    new = [name for name in dict.fromkeys(names) if name not in known]
    for position, name in enumerate(new, start=len(known)):
        await tx.execute("INSERT INTO hostnames (name, position) VALUES ($1, $2)", name, position)
    return new
