"""A store with two accounts, all registries of things, and an eye on what their changes leave besides."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from tests.unit import vectors
from thingmint.domain.certificates import parse_certificate
from thingmint.domain.keys import OWN_KEYS
from thingmint.domain.quotas import NO_QUOTAS
from thingmint.domain.registration import Scope
from thingmint.domain.status import Status
from thingmint.services.certificates import Registration, register
from thingmint.services.markers import Markers
from thingmint.services.memberships import MembershipRegistry
from thingmint.services.pages import PageRequest
from thingmint.services.principals import PrincipalRegistry
from thingmint.services.tags import TagRegistry
from thingmint.services.thing_groups import ThingGroupRegistry
from thingmint.services.thing_types import ThingTypeRegistry
from thingmint.services.things import ThingRegistry
from thingmint.store import access
from thingmint.store.outbox import notices_since
from thingmint.store.sqlite import SQLiteStore
from thingmint.store.times import from_micros

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from thingmint.domain.things import Thing, ThingGroup
    from thingmint.services.pages import Page
    from thingmint.store.engine import Body, Transaction

__all__ = ["ABROAD", "OURS", "THEIRS", "House", "everything", "refused", "with_house"]

T = TypeVar("T")

OURS = Scope("111111111111", "us-east-1")
ABROAD = Scope("111111111111", "eu-central-1")
THEIRS = Scope("222222222222", "us-east-1")


class WatchedStore(SQLiteStore):
    """Keeps the subjects of every change that was kept."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.subjects: list[str] = []

    async def write(self, body: Body[T]) -> T:
        named: list[str] = []

        async def watched(tx: Transaction) -> T:
            result = await body(tx)
            named[:] = tx.audit_resources
            return result

        result = await super().write(watched)
        self.subjects += named
        return result


@dataclass
class House:
    store: WatchedStore
    clock: vectors.FakeClock
    things: ThingRegistry
    types: ThingTypeRegistry
    groups: ThingGroupRegistry
    memberships: MembershipRegistry
    principals: PrincipalRegistry
    tags: TagRegistry
    told: set[str] = field(default_factory=set)

    async def thing(self, name: str, type: str | None = None, scope: Scope = OURS, **attributes: str) -> Thing:
        return await self.things.create(scope, name, type, attributes)

    async def type(self, name: str, scope: Scope = OURS) -> None:
        await self.types.create(scope, name, None, (), {})

    async def group(self, name: str, parent: str | None = None, scope: Scope = OURS) -> ThingGroup:
        return await self.groups.create(scope, name, parent, None, {}, {})

    async def join(self, thing: str, *groups: str, scope: Scope = OURS) -> None:
        await self.memberships.update(scope, thing, add=groups, remove=())

    async def certificate(self, scope: Scope = OURS, pem: str | None = None) -> str:
        """The fingerprint of one that is registered."""
        made = parse_certificate(pem or vectors.certificate_pem(), "pem", OWN_KEYS)

        async def body(tx: Transaction) -> None:
            now = self.clock()
            registration = Registration(scope, made.fingerprint, Status.ACTIVE, "DEFAULT", "csr", now, now, "g")
            await register(tx, registration, made, NO_QUOTAS)

        await self.store.write(body)
        return made.fingerprint

    async def news(self) -> list[tuple[str, str]]:
        """Kind and name of what was announced since this was asked last."""

        async def body(tx: Transaction) -> Any:
            return await notices_since(tx, from_micros(0))

        notices = [notice for notice in await self.store.read(body) if notice.id not in self.told]
        self.told |= {notice.id for notice in notices}
        return sorted((notice.kind, notice.name) for notice in notices if (notice.account, notice.region) == OURS)

    def changed(self) -> list[str]:
        """The subjects of the changes since this was asked last, less what all ARNs of ours begin with."""
        prefix = f"arn:aws:iot:{OURS.region}:{OURS.account}:"
        subjects, self.store.subjects = self.store.subjects, []
        return [subject.removeprefix(prefix) for subject in subjects if subject.startswith(prefix)]

    async def count(self, table: str) -> int:
        async def body(tx: Transaction) -> int:
            row = await tx.fetch_one(f"SELECT count(*) FROM {table}")
            return int(row[0]) if row else 0

        return await self.store.read(body)


@asynccontextmanager
async def _house(path: Path) -> AsyncIterator[House]:
    database = path / "thingmint.db"
    database.touch()
    store, clock, markers = WatchedStore(database), vectors.FakeClock(), Markers(b"k" * 32)

    async def accounts(tx: Transaction) -> None:
        for account in (OURS.account, THEIRS.account):
            await access.insert_account(tx, account, "", 0)

    await store.write(accounts)
    try:
        yield House(
            store,
            clock,
            ThingRegistry(store, markers, clock),
            ThingTypeRegistry(store, markers, clock),
            ThingGroupRegistry(store, markers, clock),
            MembershipRegistry(store, markers, clock),
            PrincipalRegistry(store, markers, clock),
            TagRegistry(store),
        )
    finally:
        await store.close()


def with_house(path: Path, scenario: Callable[[House], Awaitable[None]]) -> None:
    async def main() -> None:
        async with _house(path) as house:
            await scenario(house)

    asyncio.run(main())


async def refused(error: type[Exception], attempt: Awaitable[Any], words: str = "") -> None:
    """``words`` are somewhere in its text."""
    with pytest.raises(error) as caught:
        await attempt
    assert words in str(caught.value)


async def everything(list_page: Callable[[PageRequest], Awaitable[Page[T]]], limit: int) -> list[T]:
    """All pages to the end. Every page but the last is full, and none is empty unless it is the only one."""
    found: list[T] = []
    token = None
    while True:
        page = await list_page(PageRequest(limit, token))
        assert len(page.items) == limit or page.next_token is None
        assert page.items or not found
        found += page.items
        token = page.next_token
        if token is None:
            return found
