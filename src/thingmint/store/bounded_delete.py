"""Deleting many rows, a bounded number of them in each transaction."""

# ruff: noqa: S608 - statements are made of the code's own constants
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.store.engine import Store, Transaction, Value

STEP = 500
"""Rows that one transaction deletes, which takes some milliseconds. Twice as many is what any may touch."""


class BoundedDelete:
    """Deletes the rows of ``table`` that satisfy ``condition``. ``key`` are the columns that tell them apart."""

    def __init__(self, table: str, key: Sequence[str], condition: str) -> None:
        columns = ", ".join(key)
        self._is_there = f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1"
        self._delete = (
            f"DELETE FROM {table} WHERE ({columns}) IN (SELECT {columns} FROM {table} WHERE {condition} LIMIT {STEP})"
        )

    async def step(self, tx: Transaction, *parameters: Value) -> bool:
        """Deletes up to STEP of them. Whether any may be left."""
        return await tx.execute(self._delete, *parameters) == STEP

    async def run(self, store: Store, *parameters: Value) -> None:
        """Deletes all of them, in as many transactions as that takes."""
        # A write costs a sync of the disk: none is made where there is nothing to delete.
        while await store.read(lambda tx: tx.fetch_one(self._is_there, *parameters)):
            await store.write(lambda tx: self.step(tx, *parameters))
