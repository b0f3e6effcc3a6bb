"""Small transactions for the tests of engines. They write accounts, which refer to no other rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from thingmint.store.engine import Store

if TYPE_CHECKING:
    from thingmint.store.engine import Body, Transaction

OpenStore = Callable[[], AbstractAsyncContextManager[Store]]


class Refused(Exception):
    """Stands for an error of the services."""


def insert(id: str, *, name: str = "", error: Exception | None = None) -> Body[str]:
    """A body that adds an account, and then raises ``error`` if it is given."""

    async def body(tx: Transaction) -> str:
        await tx.execute("INSERT INTO accounts (id, name, created_at) VALUES ($1, $2, $3)", id, name, 0)
        if error is not None:
            raise error
        return id

    return body


async def ids(tx: Transaction) -> list[str]:
    return [row[0] for row in await tx.fetch_all("SELECT id FROM accounts ORDER BY id")]
