"""The names that clients reach this instance by, and the regions of its accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.store import access as access_sql
from thingmint.store import names as sql

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.domain.registration import Scope
    from thingmint.store.engine import Store, Transaction

__all__ = ["NameRegistry"]


class NameRegistry:
    """``endpoints`` are host names by which AWS's devices name an account and region."""

    def __init__(self, store: Store, endpoints: Mapping[str, Scope] | None = None) -> None:
        self._store = store
        self._endpoints = {scope: name for name, scope in reversed(list((endpoints or {}).items()))}

    async def endpoint(self, scope: Scope) -> str:
        """Where the devices of ``scope`` connect: the first endpoint of its own, else what everybody is told."""
        return self._endpoints.get(scope) or (await self.hostnames())[0]

    async def hostnames(self) -> list[str]:
        """The first is the one that clients are told."""
        return await self._store.read(sql.list_hostnames)

    async def add_hostnames(self, names: Sequence[str]) -> list[str]:
        """Those of ``names`` that were new."""

        async def body(tx: Transaction) -> list[str]:
            return await sql.add_hostnames(tx, names)

        return await self._store.write(body)

    async def add_regions(self, regions: Sequence[str]) -> list[str]:
        """Gives the first account further regions; those of ``regions`` that were new."""

        async def body(tx: Transaction) -> list[str]:
            principal = await access_sql.first_principal(tx)
            assert principal is not None, "an instance is made with an account"
            return await access_sql.add_regions(tx, principal.account, regions)

        return await self._store.write(body)
