"""A store with one account in it, and what the tests of the fleet need to make changes."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from tests.administrator import Administrator
from thingmint.access.vault import Vault
from thingmint.domain.fleet import Device, DeviceRegistry
from thingmint.domain.ids import FOLDER, IOT, new_id
from thingmint.domain.registration import Scope
from thingmint.services.bindings import BindingRegistry, submitted
from thingmint.services.certificates import REGISTRATIONS
from thingmint.services.fleet import FleetRegistry
from thingmint.services.markers import Markers
from thingmint.services.operations import IdempotencyKey, OperationRegistry, Receipt
from thingmint.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from thingmint.services.bindings import SubmittedCertificate
    from thingmint.services.certificates import Registration
    from thingmint.store.engine import Transaction

T = TypeVar("T")

START = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)


class Clock:
    """Stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = START

    def advance(self, time: timedelta = timedelta(seconds=1)) -> datetime:
        self.now += time
        return self.now


@dataclass
class Fleet:
    """Everything of one store; ``results`` are what the changes gave to be encoded."""

    store: SQLiteStore
    administration: Administrator
    clock: Clock
    scope: Scope
    folder: str
    operations: OperationRegistry
    fleet: FleetRegistry
    bindings: BindingRegistry
    results: list[Any]

    def receipt(self, key: IdempotencyKey | None = None) -> Receipt[Any]:
        def encode(result: Any) -> bytes:
            self.results.append(result)
            return repr(result).encode()

        now = self.clock.advance()
        return Receipt(new_id(IOT), self.scope.account, now, now, encode, key)

    def new_registry(self, **fields: Any) -> DeviceRegistry:
        defaults: dict[str, Any] = {
            "id": new_id(IOT),
            "account": self.scope.account,
            "folder": self.folder,
            "name": "",
            "description": "",
            "labels": {},
            "log_options": {},
            "created_at": self.clock.advance(),
        }
        return DeviceRegistry(**defaults | fields)

    def new_device(self, registry: DeviceRegistry, **fields: Any) -> Device:
        defaults: dict[str, Any] = {
            "id": new_id(IOT),
            "account": self.scope.account,
            "folder": registry.folder,
            "registry": registry.id,
            "name": "",
            "description": "",
            "labels": {},
            "topic_aliases": {},
            "created_at": self.clock.advance(),
        }
        return Device(**defaults | fields)

    async def registry(self, *certificates: SubmittedCertificate, **fields: Any) -> DeviceRegistry:
        """One that is stored."""
        registry = self.new_registry(**fields)
        await self.fleet.create_registry(self.scope, registry, certificates, self.receipt())
        return registry

    async def device(
        self, *certificates: SubmittedCertificate, registry: DeviceRegistry | None = None, **fields: Any
    ) -> Device:
        device = self.new_device(registry or await self.registry(), **fields)
        await self.fleet.create_device(self.scope, device, certificates, self.receipt())
        return device

    async def registration(self, certificate: SubmittedCertificate) -> Registration | None:
        async def body(tx: Transaction) -> Registration | None:
            return await REGISTRATIONS.find(tx, *self.scope, certificate.certificate.fingerprint)

        return await self.store.read(body)

    async def second(self) -> Fleet:
        """The same store in the hands of another account."""
        new = await self.administration.create_account("second", ["eu-west-1"])
        return Fleet(
            self.store,
            self.administration,
            self.clock,
            Scope(new.account, "eu-west-1"),
            new.folder,
            self.operations,
            self.fleet,
            self.bindings,
            self.results,
        )


@asynccontextmanager
async def open_fleet(path: Path) -> AsyncIterator[Fleet]:
    database = path / "thingmint.db"
    database.touch()
    store = SQLiteStore(database)
    try:
        clock = Clock()
        administration = Administrator(store, Vault(secrets.token_bytes(32)), lambda: clock.now)
        new = await administration.create_account("first", ["us-east-1", "eu-west-1"])
        assert new.folder.startswith(FOLDER)
        operations = OperationRegistry(store)
        fleet = FleetRegistry(store, operations, Markers(secrets.token_bytes(32)))
        bindings = BindingRegistry(store, operations)
        scope = Scope(new.account, "us-east-1")
        yield Fleet(store, administration, clock, scope, new.folder, operations, fleet, bindings, [])
    finally:
        await store.close()


def with_fleet(path: Path, test: Callable[[Fleet], Awaitable[None]]) -> None:
    async def run() -> None:
        async with open_fleet(path) as fleet:
            await test(fleet)

    asyncio.run(run())


def certificate() -> SubmittedCertificate:
    return submitted(certificate_pem(), "certificate_data")


def certificate_pem() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(START + timedelta(days=365))
    )
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


def key(name: str = "k", **fields: Any) -> IdempotencyKey:
    defaults: dict[str, Any] = {
        "caller": "aje1",
        "folder": "b1g1",
        "method": "/Service/Method",
        "request_sha256": b"\1" * 32,
    }
    return IdempotencyKey(key=name, **defaults | fields)
