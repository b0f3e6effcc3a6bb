"""Tags of whatever can have some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.arns import arn
from thingmint.domain.errors import LimitExceeded, NotFound
from thingmint.domain.tags import MAX_TAGS
from thingmint.store import tags as sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from thingmint.domain.registration import Scope
    from thingmint.store.engine import Store, Transaction

__all__ = ["TagRegistry"]


class TagRegistry:
    """Every method is one transaction. A resource is its kind, one of TAGGABLE, and its name."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def put(self, scope: Scope, kind: str, name: str, tags: Mapping[str, str]) -> None:
        """Adds tags that were checked, or gives them new values. Raises NotFound and LimitExceeded."""
        resource = f"{kind}/{name}"

        async def body(tx: Transaction) -> None:
            await _check_existing(tx, scope, kind, name)
            known = await sql.get_tags(tx, scope, resource)
            if len({**known, **tags}) > MAX_TAGS:
                raise LimitExceeded(kind, name, f"A resource can have at most {MAX_TAGS} tags")
            await sql.put_tags(tx, scope, resource, tags)
            tx.audit_resources.append(arn(scope, resource))

        await self._store.write(body)

    async def remove(self, scope: Scope, kind: str, name: str, keys: Iterable[str]) -> None:
        """Removing one that is not there is no change. Raises NotFound."""
        resource, unwanted = f"{kind}/{name}", set(keys)

        async def body(tx: Transaction) -> None:
            await _check_existing(tx, scope, kind, name)
            known = await sql.get_tags(tx, scope, resource)
            if there := unwanted & known.keys():
                await sql.delete_tags(tx, scope, resource, there)
                tx.audit_resources.append(arn(scope, resource))

        await self._store.write(body)

    async def list(self, scope: Scope, kind: str, name: str) -> dict[str, str]:
        """In order of their keys. Raises NotFound."""

        async def body(tx: Transaction) -> dict[str, str]:
            await _check_existing(tx, scope, kind, name)
            return await sql.get_tags(tx, scope, f"{kind}/{name}")

        return await self._store.read(body)


async def _check_existing(tx: Transaction, scope: Scope, kind: str, name: str) -> None:
    if not await sql.has_resource(tx, scope, kind, name):
        raise NotFound(kind, name)
