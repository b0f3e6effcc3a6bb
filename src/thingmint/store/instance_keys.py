"""Which keys a store's records were made with, by their fingerprints: another directory's do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.store.engine import Transaction


async def list_instance_keys(tx: Transaction) -> dict[str, str]:
    """Name and SHA-256, in hexadecimal digits."""
    return dict(await tx.fetch_all("SELECT name, sha256 FROM instance_keys"))


async def keep_instance_keys(tx: Transaction, keys: Mapping[str, str]) -> None:
    rows = list(keys.items())
    await tx.execute_many(
        "INSERT INTO instance_keys (name, sha256) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", rows
    )
