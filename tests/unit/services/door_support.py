"""A store with two accounts, and things and groups in it as another part of the house makes them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tests.unit import vectors
from thingmint.domain.registration import Scope
from thingmint.domain.status import Status
from thingmint.services.certificates import CertificateRegistry
from thingmint.services.device_policies import DevicePolicyRegistry
from thingmint.services.doorkeeping import Doorkeeping
from thingmint.services.keypool import KeyPool
from thingmint.services.markers import Markers
from thingmint.store import access
from thingmint.store.outbox import notices_since
from thingmint.store.sqlite import SQLiteStore
from thingmint.store.times import from_micros

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from thingmint.store.engine import Body, Row, Transaction, Value

T = TypeVar("T")

OURS = Scope("111111111111", "us-east-1")
ABROAD = Scope("111111111111", "eu-central-1")
THEIRS = Scope("222222222222", "us-east-1")
UNKNOWN = "0" * 64


def document(topic: str = "*") -> str:
    statement = {"Effect": "Allow", "Action": "iot:Publish", "Resource": f"arn:aws:iot:us-east-1:1:topic/{topic}"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@dataclass
class Recording:
    """A store that keeps what the bodies called their subjects."""

    store: SQLiteStore
    subjects: list[list[str]] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        return self.store.ready

    @property
    def changes(self) -> int | None:
        return self.store.changes

    @property
    def access_changes(self) -> int | None:
        return self.store.access_changes

    async def read(self, body: Body[T]) -> T:
        return await self.store.read(body)

    async def write(self, body: Body[T]) -> T:
        async def recorded(tx: Transaction) -> T:
            result = await body(tx)
            self.subjects.append(list(tx.audit_resources))
            return result

        return await self.store.write(recorded)

    async def close(self) -> None:
        await self.store.close()


@dataclass
class House:
    store: Recording
    clock: vectors.FakeClock
    certificates: CertificateRegistry
    policies: DevicePolicyRegistry
    door: Doorkeeping

    async def run(self, sql: str, *parameters: Value) -> None:
        async def body(tx: Transaction) -> None:
            await tx.execute(sql, *parameters)

        await self.store.store.write(body)

    async def rows(self, sql: str, *parameters: Value) -> list[Row]:
        async def body(tx: Transaction) -> list[Row]:
            return await tx.fetch_all(sql, *parameters)

        return await self.store.read(body)

    async def certificate(self, scope: Scope = OURS, status: Status = Status.INACTIVE, pem: str | None = None) -> str:
        """The fingerprint of one that is registered."""
        pem = pem or vectors.certificate_pem()
        registered = await self.certificates.register(scope, pem, status=status, field="f")
        return registered.registration.fingerprint

    async def policy(self, name: str, scope: Scope = OURS, text: str | None = None) -> None:
        self.clock.advance(seconds=1)
        await self.policies.create(scope, name, text or document(name), tags={})

    async def group(self, name: str, parent: str | None = None, scope: Scope = OURS) -> None:
        await self.run(
            "INSERT INTO thing_groups (account, region, name, id, parent, path, attributes, version, created_at) "
            "VALUES ($1, $2, $3, $3, $4, COALESCE((SELECT path || '/' FROM thing_groups "
            "WHERE account = $1 AND region = $2 AND name = $4), '') || $3, '{}', 1, 0)",
            *scope,
            name,
            parent,
        )

    async def thing(self, name: str, *groups: str, scope: Scope = OURS, attributes: str = "{}") -> None:
        await self.run(
            "INSERT INTO things (account, region, name, id, attributes, version, created_at) "
            "VALUES ($1, $2, $3, $3, $4, 1, 0)",
            *scope,
            name,
            attributes,
        )
        for group in groups:
            await self.run(
                "INSERT INTO thing_group_members (account, region, thing_group, thing, added_at) "
                "VALUES ($1, $2, $3, $4, 0)",
                *scope,
                group,
                name,
            )

    async def principal(self, thing: str, fingerprint: str, *, exclusive: bool = False, scope: Scope = OURS) -> None:
        await self.run(
            "INSERT INTO thing_principals (account, region, thing, fingerprint, exclusive, attached_at) "
            "VALUES ($1, $2, $3, $4, $5, 0)",
            *scope,
            thing,
            fingerprint,
            int(exclusive),
        )

    async def notices(self) -> list[tuple[Any, ...]]:
        """All that were announced since the last time this was asked: scope, kind and name."""

        async def body(tx: Transaction) -> list[tuple[Any, ...]]:
            found = await notices_since(tx, from_micros(0))
            assert all(notice.id for notice in found)
            await tx.execute("DELETE FROM outbox")
            return [(Scope(notice.account, notice.region), notice.kind, notice.name) for notice in found]

        return await self.store.store.write(body)


@contextlib.asynccontextmanager
async def open_house(path: Path) -> AsyncIterator[House]:
    database = path / "thingmint.db"
    database.touch()
    store, clock = Recording(SQLiteStore(database)), vectors.FakeClock()

    async def accounts(tx: Transaction) -> None:
        for account in (OURS.account, THEIRS.account):
            await access.insert_account(tx, account, "", 0)

    await store.store.write(accounts)
    keys, markers = KeyPool(0, threads=1, generate=vectors.cheap_key_pair), Markers(b"k" * 32)
    certificates = CertificateRegistry(store, vectors.authority(), keys, markers, clock=clock)
    try:
        yield House(store, clock, certificates, DevicePolicyRegistry(store, markers, clock=clock), Doorkeeping(store))
    finally:
        await store.close()


def in_house(path: Path, test: Callable[[House], Awaitable[None]]) -> None:
    async def run() -> None:
        async with open_house(path) as house:
            await test(house)

    asyncio.run(run())
