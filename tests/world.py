"""The world: the environment for tests of the store, the services and the APIs' operations.

It has a store of either engine, two accounts, a clock that does not advance by itself, and the parts of a server with
real keys. Tests call operations by their names in the contract, with the input that the APIs decode from a request.
"""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast
from unittest import mock

from tests.administrator import administer, open_account
from tests.unit import vectors
from thingmint.access.administration import COMMANDS
from thingmint.access.authorization import Roles
from thingmint.access.directory import Directory
from thingmint.access.operations import run
from thingmint.access.vault import Vault
from thingmint.aws.operations import OPERATIONS as AWS_OPERATIONS
from thingmint.domain.arns import Scope
from thingmint.domain.certificate_profiles import CLAIM, DEVICE
from thingmint.domain.certificates import parse_certificate
from thingmint.domain.errors import Denied
from thingmint.domain.ids import TimeOrderedIds
from thingmint.domain.issuing_ca import OwnAuthorities
from thingmint.domain.keys import OWN_KEYS
from thingmint.domain.status import Status
from thingmint.mqtt.broker.embedded import EmbeddedBroker
from thingmint.mqtt.connected_clients import ConnectedClients
from thingmint.mqtt.connection_index import ConnectionIndex
from thingmint.mqtt.messages import GatewayMessages
from thingmint.services.bulk_buckets import Buckets
from thingmint.services.certificates import Registration, register
from thingmint.services.change import Change, Environment, Query
from thingmint.services.event_configurations import EventSwitches
from thingmint.services.exported_messages import Exports
from thingmint.services.functions import Functions, FunctionTable
from thingmint.services.keypool import KeyPool
from thingmint.services.last_messages import LastMessages
from thingmint.services.page_tokens import PageTokens
from thingmint.services.password_hashing import PasswordHasher
from thingmint.services.quotas import NO_QUOTAS, Quotas
from thingmint.services.report_links import ReportLinks
from thingmint.store.engine import StoreWrapper
from thingmint.store.outbox import published_since
from thingmint.store.postgres import PostgresStore
from thingmint.store.sqlite import SQLiteStore
from thingmint.store.table import fingerprint_of, from_micros, id_of
from thingmint.yandex.contract import load
from thingmint.yandex.operations import OPERATIONS as YANDEX_OPERATIONS
from thingmint.yandex.operations.answering import answer
from thingmint.yandex.operations.declaring import YandexCall, YandexParts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from google.protobuf.any_pb2 import Any as AnyMessage

    from tests.administrator import NewAccount
    from tests.postgres import PostgresDatabase
    from thingmint.access.operations import Operation
    from thingmint.domain.policies import ContextValue
    from thingmint.store.engine import Body, PublishedChange, Row, Store, Transaction, Value

__all__ = ["ABROAD", "FINGERPRINT", "OURS", "THEIRS", "THIS_CERTIFICATE", "World", "new_world", "pages", "unpacked"]

T = TypeVar("T")

OURS = Scope("111111111111", "us-east-1")
ABROAD = Scope("111111111111", "eu-central-1")  # the same account's other region
THEIRS = Scope("222222222222", "us-east-1")

FINGERPRINT = fingerprint_of("certificate")  # SQL, for tables that refer to a certificate
THIS_CERTIFICATE = f"certificate = {id_of('$1')}"

_YANDEX = load()
_METHODS = {method.label: method for method in _YANDEX.methods.values()}


class _RecordingTransaction:
    """Records each statement with its last parameters."""

    def __init__(self, tx: Transaction, statements: dict[str, Sequence[Value]]) -> None:
        self._tx = tx
        self._statements = statements
        self.audit_resources, self.audit_details = tx.audit_resources, tx.audit_details
        self.audit_copies, self.noted = tx.audit_copies, tx.noted
        self.published, self.lane, self.perhaps_kept = tx.published, tx.lane, tx.perhaps_kept
        self.execute_many = tx.execute_many

    # Plain functions, not coroutines, so that tests/plans.py finds the statement's caller on the stack.
    def execute(self, sql: str, *parameters: Value) -> Coroutine[Any, Any, int]:
        self._statements[sql] = parameters
        return self._tx.execute(sql, *parameters)

    def fetch_one(self, sql: str, *parameters: Value) -> Coroutine[Any, Any, Row | None]:
        self._statements[sql] = parameters
        return self._tx.fetch_one(sql, *parameters)

    def fetch_all(self, sql: str, *parameters: Value) -> Coroutine[Any, Any, list[Row]]:
        self._statements[sql] = parameters
        return self._tx.fetch_all(sql, *parameters)


class RecordingStore(StoreWrapper):
    """A Store that records the audit resources of committed changes, and the statements that ran."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.audit_resources: list[str] = []
        self.statements: dict[str, Sequence[Value]] = {}
        self.followers: list[Callable[[Sequence[PublishedChange]], None]] = []
        self.listeners: list[Callable[[str, Scope], None]] = []
        self.writes = 0

    async def read(self, body: Body[T]) -> T:
        return await self._store.read(lambda tx: body(_RecordingTransaction(tx, self.statements)))

    async def fetch_all(self, sql: str, *parameters: Value) -> list[Row]:
        self.statements[sql] = parameters
        return await self._store.fetch_all(sql, *parameters)

    async def write(self, body: Body[T], *, urgent: bool = False, once: bool = False) -> T:
        named: list[str] = []
        changes: list[PublishedChange] = []
        noted: set[tuple[Scope, str]] = set()

        async def recorded(tx: Transaction) -> T:
            result = await body(_RecordingTransaction(tx, self.statements))
            named[:] = tx.audit_resources
            changes[:] = tx.published
            noted.update(tx.noted)
            return result

        result = await self._store.write(recorded, urgent=urgent, once=once)
        self.audit_resources += named
        self.writes += 1
        for follower in self.followers:
            follower(changes)
        for scope, name in noted:
            for listener in self.listeners:
                listener(name, scope)
        return result


@dataclass
class NoInterruptions:
    """A change feed that missed nothing, unless a test says so."""

    stale: bool = False
    interruptions: int = 0


@dataclass
class World:
    """``ours`` and ``theirs`` are the credentials of the two accounts' administrators.

    ``asked`` has the action and resource of each authorization, ``containers`` each such resource with its parents.
    Actions in ``denied`` are refused. ``pending`` is how long Yandex's Operations stay unfinished.
    """

    folder: Path
    store: RecordingStore
    clock: vectors.FakeClock
    environment: Environment
    vault: Vault
    ours: NewAccount
    theirs: NewAccount
    directory: Directory
    broker: EmbeddedBroker
    clients: ConnectedClients
    asked: list[tuple[str, str]] = field(default_factory=list)
    containers: list[tuple[str, ...]] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)
    pending: timedelta = timedelta()
    sha1_fingerprints: bool = False
    _published: set[str] = field(default_factory=set)

    async def aws(self, name: str, scope: Scope = OURS, /, **members: Any) -> dict[str, Any]:
        """The output of an operation of AWS IoT. The caller is allowed everything except what is in ``denied``."""
        answer: dict[str, Any] = await self.run(AWS_OPERATIONS[name], members, scope)
        return answer

    async def admin(self, name: str, scope: Scope = OURS, /, **given: Any) -> Any:
        """The answer of a command such as user.create, for the account of ``scope`` unless it is for the instance."""
        account = {} if COMMANDS[name].instance_wide else {"account": scope.account}
        quotas = self.environment.quotas
        return await administer(self.store, self.vault, self.clock, name, quotas=quotas, **account, **given)

    async def yandex(
        self, label: str, scope: Scope = OURS, /, *, key: str | None = None, principal: str = "aje1", **fields: Any
    ) -> Any:
        """The answer of a method such as DeviceService.Get; for a change, its Operation. ``key`` is for idempotency."""
        method = _METHODS[label]
        parts = YandexParts(
            contract=_YANDEX,
            tokens=cast("Any", None),
            hostnames=cast("Any", None),
            pending=self.pending,
            sha1_fingerprints=self.sha1_fingerprints,
        )
        request = method.request_class(**fields)
        method.validate(request)
        call = YandexCall(parts=parts, method=method, request=request, principal=principal, port=443, request_id="r")
        operation, change = YANDEX_OPERATIONS[method.path], self.change(scope)
        return await answer(operation, self.store, change, call, key, lambda _: None)

    async def registry(self, scope: Scope = OURS, /, **fields: Any) -> str:
        """The id of a new registry of Yandex IoT Core. Advances the clock by a second first."""
        self.clock.advance(seconds=1)
        folder = (self.theirs if scope == THEIRS else self.ours).folder
        made = await self.yandex("RegistryService.Create", scope, folder_id=folder, **fields)
        return str(unpacked(made.metadata).registry_id)

    async def device(self, registry: str, scope: Scope = OURS, /, **fields: Any) -> str:
        """The id of a new device. Advances the clock by a second first."""
        self.clock.advance(seconds=1)
        made = await self.yandex("DeviceService.Create", scope, registry_id=registry, **fields)
        return str(unpacked(made.metadata).device_id)

    async def run(self, operation: Operation, given: Any, scope: Scope = OURS) -> Any:
        return await run(operation, self.store, self.change(scope), given)

    def change(self, scope: Scope = OURS) -> Change:
        """A Change for services that are called without an operation."""
        return Change(scope, self.clock(), self.environment, self._authorize)

    def query(self, scope: Scope = OURS) -> Query:
        return Query(scope, self.clock(), self.environment, self._authorize)

    async def read(self, body: Body[T]) -> T:
        return await self.store.read(body)

    async def write(self, body: Body[T]) -> T:
        return await self.store.write(body)

    async def rows(self, sql: str, *parameters: Any) -> list[Row]:
        return await self.store.read(lambda tx: tx.fetch_all(sql, *parameters))

    async def shown(self, sql: str, *parameters: Any) -> list[Row]:
        """The rows, with bytes in hex."""
        rows = await self.rows(sql, *parameters)
        return [tuple(value.hex() if isinstance(value, bytes) else value for value in row) for row in rows]

    async def execute(self, sql: str, *parameters: Any) -> None:
        await self.store.write(lambda tx: tx.execute(sql, *parameters))

    async def query_plans(self) -> dict[str, list[str]]:
        """SQLite's query plan for each statement that ran since ``store.statements`` was cleared."""
        return {
            sql: [row[3] for row in await self.rows(f"EXPLAIN QUERY PLAN {sql}", *parameters)]
            for sql, parameters in list(self.store.statements.items())
        }

    async def count(self, table: str) -> int:
        ((count,),) = await self.rows(f"SELECT count(*) FROM {table}")
        return int(count)

    def dump(self) -> list[str]:
        """The contents of the store, as SQL statements."""
        with closing(sqlite3.connect(self.folder / "thingmint.db")) as connection:
            return list(connection.iterdump())

    async def certificate(self, scope: Scope = OURS, pem: str | None = None) -> str:
        """Registers an ACTIVE certificate and returns its fingerprint."""
        made, now = parse_certificate(pem or vectors.certificate_pem(), "pem", OWN_KEYS)[0], self.clock()
        change = replace(self.change(scope), environment=replace(self.environment, quotas=NO_QUOTAS))
        id, generation = change.new_certificate_id(), change.new_id()
        registration = Registration(scope, id, made.fingerprint, Status.ACTIVE, "DEFAULT", "csr", now, now, generation)
        await self.write(lambda tx: register(tx, change, registration, made))
        return made.fingerprint

    def audit_resources(self, scope: Scope = OURS) -> list[str]:
        """The audit resources of changes since the last call, without the common beginning of ARNs of ``scope``."""
        prefix = f"arn:aws:iot:{scope.region}:{scope.account}:"
        named, self.store.audit_resources = self.store.audit_resources, []
        return [name.removeprefix(prefix) for name in named if name.startswith((prefix, "yandex:"))]

    async def published(self, scope: Scope = OURS) -> list[tuple[str, str]]:
        """The kind and name of the changes of ``scope`` that were published since the last call."""
        changes = [
            n for n in await self.read(lambda tx: published_since(tx, from_micros(0))) if n.id not in self._published
        ]
        self._published |= {change.id for change in changes}
        return sorted((n.kind, n.name) for n in changes if (n.account, n.region) == scope)

    async def unchanged(self) -> bool:
        """True if there were no changes with audit resources and none were published since the last calls."""
        return not self.audit_resources() and not await self.published()

    def _authorize(self, action: str, resources: Sequence[str], context: Mapping[str, ContextValue]) -> None:
        self.asked.append((action, resources[0]))
        self.containers.append(tuple(resources))
        if action in self.denied:
            raise Denied("arn:aws:iam::111111111111:user/test", action, resources[0], explicit=False)


@asynccontextmanager
async def new_world(
    path: Path, *, postgres: PostgresDatabase | None = None, quotas: Quotas = NO_QUOTAS, reinstate_revoked: bool = False
) -> AsyncIterator[World]:
    """A world on SQLite, unless ``postgres`` is given."""
    clock, vault = vectors.FakeClock(), Vault(b"m" * 32)
    if postgres is None:
        opened, ours, theirs = await _open_sqlite(path, vault)
    else:
        opened, ours, theirs = await _open_postgres(postgres, vault)
    store = RecordingStore(opened)
    device_ca, claim_ca = (vectors.authority(vectors.ca_key(), profile, clock()) for profile in (DEVICE, CLAIM))
    broker, clients = EmbeddedBroker(), ConnectedClients(clock)
    exports, events = Exports(store, {}, lambda: 0), EventSwitches(store, NoInterruptions())
    environment = Environment(
        device_ca=device_ca,
        claim_ca=claim_ca,
        own_authorities=OwnAuthorities([device_ca.certificate]),
        keys=KeyPool(0, generate=vectors.cheap_key_pair),
        page_tokens=PageTokens(b"k" * 32),
        endpoints={},
        functions=FunctionTable(Functions()),
        messages=GatewayMessages(broker, ConnectionIndex(), clients, clock),
        exports=exports,
        last_messages=LastMessages(store),
        events=events,
        passwords=PasswordHasher(),
        certificate_ids=TimeOrderedIds(lanes=store.spreads_keys),
        quotas=quotas,
        buckets=Buckets(),
        report_links=ReportLinks(b"r" * 32),
        try_role=Roles(Directory(store, vault, clock)).try_role,
        reinstate_revoked=reinstate_revoked,
    )
    directory = Directory(store, vault, clock, lambda: False)
    store.followers.append(directory.changed)
    store.followers.append(exports.changed)
    store.followers.append(events.changed)
    environment.keys.start()
    try:
        yield World(path, store, clock, environment, vault, ours, theirs, directory, broker, clients)
    finally:
        await environment.keys.close()
        environment.passwords.close()
        await store.close()


_template: list[tuple[bytes, NewAccount, NewAccount]] = []


async def _two_accounts(store: Store, vault: Vault) -> tuple[NewAccount, NewAccount]:
    ours = await _new_account(store, vault, "ours", OURS.account, [OURS.region, ABROAD.region], vectors.NOW)
    a_second_later = vectors.NOW + timedelta(seconds=1)  # the first account is the older one
    return ours, await _new_account(store, vault, "theirs", THEIRS.account, [THEIRS.region], a_second_later)


async def _open_sqlite(path: Path, vault: Vault) -> tuple[Store, NewAccount, NewAccount]:
    """A store with the two accounts, copied from a template: migrating a new one takes longer than most tests."""
    database = path / "thingmint.db"
    if not _template:
        database.touch(mode=0o600)
        first = SQLiteStore(database)
        ours, theirs = await _two_accounts(first, vault)
        await first.close()
        _template.append((database.read_bytes(), ours, theirs))
    content, ours, theirs = _template[0]
    database.write_bytes(content)
    return SQLiteStore(database), ours, theirs


async def _open_postgres(database: PostgresDatabase, vault: Vault) -> tuple[Store, NewAccount, NewAccount]:
    if database.kept is None:
        first = await PostgresStore.open(await database.emptied())
        await database.keep(await _two_accounts(first, vault))
        await first.close()
    opened = await PostgresStore.open(await database.emptied(kept=True), connections=4)
    return (opened, *database.kept)


async def _new_account(
    store: Store, vault: Vault, name: str, id: str, regions: Sequence[str], now: datetime
) -> NewAccount:
    """A new account with the given id."""
    with mock.patch("secrets.randbelow", return_value=int(id) - 10**11):
        return await open_account(store, vault, now, name, regions)


def unpacked(packed: AnyMessage) -> Any:
    """The metadata or response of an Operation."""
    message = _YANDEX.messages[packed.type_url.rpartition("/")[2]]()
    assert packed.Unpack(message)
    return message


async def pages(
    list_page: Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]],
    items: str,
    limit: int,
    *,
    size: str = "maxResults",
    token: str = "nextToken",
    next_token: str = "nextToken",
) -> list[Any]:
    """The items of all pages of a list. Asserts that only the last is not full, and only a single one empty."""
    found: list[Any] = []
    members: dict[str, Any] = {size: limit}
    while True:
        page = await list_page(members)
        assert len(page[items]) == limit or page[next_token] is None
        assert page[items] or not found
        found += page[items]
        if page[next_token] is None:
            return found
        members[token] = page[next_token]
