"""A store with two accounts in it, and what makes templates and claims."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.unit import vectors
from thingmint.domain.registration import Scope
from thingmint.domain.template import CERTIFICATE_ID, Kind
from thingmint.services.keypool import KeyPool
from thingmint.services.templates import ProvisioningTemplate, create_template
from thingmint.store import access
from thingmint.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from thingmint.store.engine import Row, Transaction

OURS = Scope("111111111111", "us-east-1")
ABROAD = Scope("111111111111", "eu-central-1")
THEIRS = Scope("222222222222", "us-east-1")
ROLE = "arn:aws:iam::111111111111:role/provisioning"
LAMBDA = "arn:aws:lambda:us-east-1:111111111111:function:ask"


def body(**device_configuration: str) -> str:
    certificate = {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": CERTIFICATE_ID}}}
    return json.dumps({"Resources": {"certificate": certificate}, "DeviceConfiguration": device_configuration})


def new_template(name: str = "lamps", **fields: Any) -> dict[str, Any]:
    return {"name": name, **fields}


class Templates:
    def __init__(self, store: SQLiteStore, clock: vectors.FakeClock) -> None:
        self._store = store
        self._clock = clock

    async def create(self, scope: Scope, fields: dict[str, Any]) -> None:
        hook, now = fields.get("hook"), self._clock()
        arn, version = (hook.target_arn, hook.payload_version) if hook else (None, None)
        kind, enabled = fields.get("kind", Kind.FLEET), fields.get("enabled", True)
        new = ProvisioningTemplate(scope, fields["name"], kind, None, enabled, ROLE, arn, version, 1, 1, now, now)
        await self._store.write(lambda tx: create_template(tx, new, fields.get("body", body()), {}))


@dataclass
class Workshop:
    store: SQLiteStore
    clock: vectors.FakeClock
    keys: KeyPool
    templates: Templates

    async def rows(self, sql: str, *parameters: str) -> list[Row]:
        async def fetch(tx: Transaction) -> list[Row]:
            return await tx.fetch_all(sql, *parameters)

        return await self.store.read(fetch)

    async def execute(self, sql: str, *parameters: str | int | bytes) -> None:
        async def change(tx: Transaction) -> None:
            await tx.execute(sql, *parameters)

        await self.store.write(change)


@contextlib.asynccontextmanager
async def open_workshop(path: Path) -> AsyncIterator[Workshop]:
    database = path / "thingmint.db"
    database.touch()
    store, clock = SQLiteStore(database), vectors.FakeClock()

    async def accounts(tx: Transaction) -> None:
        for account in (OURS.account, THEIRS.account):
            await access.insert_account(tx, account, "", 0)

    await store.write(accounts)
    keys = KeyPool(0, threads=1, generate=vectors.cheap_key_pair)
    keys.start()
    try:
        yield Workshop(
            store,
            clock,
            keys,
            Templates(store, clock),
        )
    finally:
        await keys.close()
        await store.close()


def with_workshop(path: Path, test: Callable[[Workshop], Awaitable[None]]) -> None:
    async def run() -> None:
        async with open_workshop(path) as workshop:
            await test(workshop)

    asyncio.run(run())
