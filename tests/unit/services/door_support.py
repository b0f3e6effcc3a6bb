"""A store with two accounts, and things and groups in it as another part of the house makes them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tests.unit import vectors
from thingmint.domain.certificates import parse_certificate
from thingmint.domain.keys import OWN_KEYS
from thingmint.domain.registration import Scope
from thingmint.domain.status import Status
from thingmint.services import certificates
from thingmint.services.certificates import RegisteredCertificate, Registration
from thingmint.services.change import Change, Environment
from thingmint.services.device_policies import (
    attach_policy,
    create_policy,
    create_version,
    delete_policy,
    detach_policy,
)
from thingmint.services.doorkeeping import Doorkeeping
from thingmint.services.hooks import HookTable
from thingmint.services.keypool import KeyPool
from thingmint.services.markers import Markers
from thingmint.services.quotas import NO_QUOTAS
from thingmint.store import access
from thingmint.store.outbox import notices_since
from thingmint.store.sqlite import SQLiteStore
from thingmint.store.times import from_micros

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from thingmint.services.device_policies import Target
    from thingmint.store.engine import Body, Row, Store, Transaction, Value

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


class Certificates:
    """The services, each call in a transaction of its own."""

    def __init__(self, store: Recording, clock: vectors.FakeClock) -> None:
        self._store = store
        self._clock = clock

    def change(self, scope: Scope) -> Change:
        environment = Environment(
            device_ca=vectors.authority(),
            claim_ca=vectors.authority(),
            keys=KeyPool(0, threads=1, generate=vectors.cheap_key_pair),
            page_tokens=Markers(b"k" * 32),
            endpoints={},
            hooks=HookTable({}),
            quotas=NO_QUOTAS,
        )
        return Change(scope, self._clock(), environment, lambda *_: None)

    async def register(self, scope: Scope, pem: str, status: Status) -> str:
        made, now = parse_certificate(pem, "pem", OWN_KEYS), self._clock()
        registration = Registration(scope, made.fingerprint, status, "SNI_ONLY", "registered", now, now, "g")
        await self._store.write(lambda tx: certificates.register(tx, registration, made, NO_QUOTAS))
        return made.fingerprint

    async def describe(self, scope: Scope, fingerprint: str) -> RegisteredCertificate:
        return await self._store.read(lambda tx: certificates.get_registered(tx, scope, fingerprint))

    async def set_status(self, scope: Scope, fingerprint: str, status: Status) -> Registration:
        return await self._store.write(
            lambda tx: certificates.update_status(tx, self.change(scope), fingerprint, status)
        )

    async def delete(self, scope: Scope, fingerprint: str, *, force: bool = False) -> None:
        await self._store.write(
            lambda tx: certificates.delete_certificate(tx, self.change(scope), fingerprint, force=force)
        )


@dataclass
class Policies:
    """The services, each call in a transaction of its own."""

    store: Store
    clock: vectors.FakeClock

    def _change(self, scope: Scope) -> Change:
        environment: Any = None  # that of no call here
        return Change(scope, self.clock(), environment, lambda *_: None)

    async def create(self, scope: Scope, name: str, text: str) -> None:
        await self.store.write(lambda tx: create_policy(tx, self._change(scope), name, text, {}))

    async def create_version(self, scope: Scope, name: str, text: str, *, default: bool) -> None:
        await self.store.write(lambda tx: create_version(tx, self._change(scope), name, text, default=default))

    async def attach(self, scope: Scope, name: str, target: Target) -> None:
        await self.store.write(lambda tx: attach_policy(tx, scope, name, target, self.clock()))

    async def detach(self, scope: Scope, name: str, target: Target) -> None:
        await self.store.write(lambda tx: detach_policy(tx, self._change(scope), name, target))

    async def delete(self, scope: Scope, name: str) -> None:
        await self.store.write(lambda tx: delete_policy(tx, self._change(scope), name))


@dataclass
class House:
    store: Recording
    clock: vectors.FakeClock
    certificates: Certificates
    policies: Policies
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
        return await self.certificates.register(scope, pem or vectors.certificate_pem(), status)

    async def policy(self, name: str, scope: Scope = OURS, text: str | None = None) -> None:
        self.clock.advance(seconds=1)
        await self.policies.create(scope, name, text or document(name))

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
    try:
        yield House(store, clock, Certificates(store, clock), Policies(store, clock), Doorkeeping(store))
    finally:
        await store.close()


def in_house(path: Path, test: Callable[[House], Awaitable[None]]) -> None:
    async def run() -> None:
        async with open_house(path) as house:
            await test(house)

    asyncio.run(run())
