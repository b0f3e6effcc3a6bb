"""The interface that both database engines implement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

from thingmint.domain.errors import DomainError, Invalid

if TYPE_CHECKING:
    from thingmint.domain.arns import Scope

T = TypeVar("T")

Value = str | int | float | bytes | None
Row = tuple[Any, ...]


class ConstraintViolated(Exception):
    """An existing or a missing row does not allow the change. The body's changes are rolled back."""


class UniqueViolated(ConstraintViolated): ...


class KeyTaken(UniqueViolated):
    """A row with the same primary key exists, which the statement did not expect. With new ids the change works."""


class ForeignKeyViolated(ConstraintViolated): ...


class AlreadyKept(Exception):
    """A body found that its earlier run was committed."""


class UnstorableText(Invalid):
    """PostgreSQL cannot store text with U+0000 or half of a surrogate pair, so SQLite refuses it too."""

    def __init__(self) -> None:
        super().__init__("text", "has a character that cannot be stored, U+0000 or a lone surrogate")


def storable(parameters: Sequence[Value]) -> Sequence[Value]:
    """The parameters unchanged. Raises UnstorableText for U+0000: an error of the engine could end the transaction."""
    for parameter in parameters:
        if isinstance(parameter, str) and "\0" in parameter:
            raise UnstorableText
    return parameters


Kind = Literal[
    "certificate",
    "policy",
    "thing",
    "thinggroup",
    "thingtype",
    "ca",
    "template",
    "account",
    "access",
    "client",
    "close",
    "sessions",
    "live",
    "registry",
    "owner",
    "aliases",
    "export",
    "event configuration",
    "event",
]


class PublishedChange(NamedTuple):
    """The resource ``name`` changed. ``region`` is empty if the change is about the whole account."""

    id: str
    created_at: int  # microseconds since 1970
    account: str
    region: str
    kind: Kind
    name: str


class Notes:
    """The attributes of a Transaction, apart from its statements."""

    __slots__ = ("audit_copies", "audit_details", "audit_resources", "lane", "noted", "perhaps_kept", "published")

    def __init__(self, lane: int = 1, *, perhaps_kept: bool = False) -> None:
        self.lane = lane
        self.perhaps_kept = perhaps_kept
        self.audit_resources: list[str] = []
        self.audit_details: dict[str, Any] = {}
        self.audit_copies: dict[str, list[str]] = {}
        self.published: list[PublishedChange] = []
        self.noted: set[tuple[Scope, str]] = set()


class Transaction(Protocol):
    """An open transaction. Parameters are written $1, $2, … in the SQL.

    Bodies add to ``audit_resources`` (the ARNs, or other names, of what they change) and ``audit_details``, both for
    the audit record, and to ``published``: the changes that every process must learn of. ``audit_copies`` are other
    accounts whose audit logs get a record too, each with the ARNs of its own resources. ``noted`` are the scopes of
    changes that only open pages follow, each with the name of an event: nothing is stored for them.

    ``lane`` is a number above 0. Transactions of one process that run at the same time have different lanes, and do not
    conflict if each writes only to the rows of its lane. ``perhaps_kept``: an earlier run of the body may have been
    committed, because its COMMIT was not answered.
    """

    audit_resources: list[str]
    audit_details: dict[str, Any]
    audit_copies: dict[str, list[str]]
    published: list[PublishedChange]
    noted: set[tuple[Scope, str]]
    lane: int
    perhaps_kept: bool

    async def execute(self, sql: str, *parameters: Value) -> int:
        """Runs a statement, and returns the number of rows that it changed."""
        ...

    async def execute_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """Runs a statement once for each row of parameters."""
        ...

    async def fetch_one(self, sql: str, *parameters: Value) -> Row | None: ...

    async def fetch_all(self, sql: str, *parameters: Value) -> list[Row]: ...


# A body can be run more than once, so ids, keys and times are made before it. It awaits only its transaction.
Body = Callable[[Transaction], Awaitable[T]]


async def run_part(tx: Transaction, body: Body[T]) -> T:
    """Runs a part of a body. After a DomainError, its changes are rolled back, and the rest of the body can go on."""
    lists: list[list[Any]] = [tx.audit_resources, tx.published]
    lengths, details = [len(each) for each in lists], dict(tx.audit_details)
    copies = {account: list(resources) for account, resources in tx.audit_copies.items()}
    await tx.execute("SAVEPOINT part")
    try:
        result = await body(tx)
    except DomainError:
        await tx.execute("ROLLBACK TO SAVEPOINT part")
        await tx.execute("RELEASE SAVEPOINT part")
        for each, length in zip(lists, lengths, strict=True):
            del each[length:]
        for known, before in ((tx.audit_details, details), (tx.audit_copies, copies)):
            known.clear()
            known.update(before)
        raise
    await tx.execute("RELEASE SAVEPOINT part")
    return result


class Fetcher(Protocol):
    """A transaction or a store, for callers that read with single statements."""

    async def fetch_all(self, sql: str, *parameters: Value) -> list[Row]: ...


class Reader(Protocol):
    async def read(self, body: Body[T]) -> T:
        """The result of ``body``, which reads one consistent state with every write that was answered before."""
        ...


class Store(Reader, Protocol):
    @property
    def is_shared(self) -> bool:
        """True if other processes can use the same records at the same time."""
        ...

    @property
    def ready(self) -> bool:
        """True if the store accepts all changes at the moment."""
        ...

    @property
    def trouble(self) -> str | None:
        """The reason, for operators, why changes are refused at the moment; None if they are accepted."""
        ...

    @property
    def retries(self) -> int:
        """How often a body was run again because its transaction conflicted with another one."""
        ...

    @property
    def spreads_keys(self) -> bool:
        """True if writers of consecutive keys conflict, so that keys should be spread over several lanes."""
        ...

    async def fetch_all(self, sql: str, *parameters: Value) -> list[Row]:
        """The rows of one statement in its own transaction: on PostgreSQL one round trip instead of three."""
        ...

    async def write(self, body: Body[T], *, urgent: bool = False, once: bool = False) -> T:
        """Runs ``body`` in a transaction; returns or raises what it does, after the transaction is durable.

        ``urgent`` changes are accepted on a full disk too, as long as the disk reserve lasts. ``once``: the body raises
        AlreadyKept if it finds that its earlier run was committed, so it can be run again after a COMMIT without an
        answer. Raises Unavailable if the engine failed; the change may have been made or not.
        """
        ...

    async def close(self) -> None: ...


class StoreWrapper:
    """A Store that passes all calls to another one. Base class of stores that add something."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def is_shared(self) -> bool:
        return self._store.is_shared

    @property
    def ready(self) -> bool:
        return self._store.ready

    @property
    def trouble(self) -> str | None:
        return self._store.trouble

    @property
    def retries(self) -> int:
        return self._store.retries

    @property
    def spreads_keys(self) -> bool:
        return self._store.spreads_keys

    async def read(self, body: Body[T]) -> T:
        return await self._store.read(body)

    async def fetch_all(self, sql: str, *parameters: Value) -> list[Row]:
        return await self._store.fetch_all(sql, *parameters)

    async def write(self, body: Body[T], *, urgent: bool = False, once: bool = False) -> T:
        return await self._store.write(body, urgent=urgent, once=once)

    async def close(self) -> None:
        await self._store.close()


class _Done(Exception):
    """Rolls a transaction back."""

    def __init__(self, result: object) -> None:
        super().__init__()
        self.result = result


async def rolled_back(store: Store, body: Body[T]) -> T:
    """The result of ``body``, whose changes are not kept."""

    async def run(tx: Transaction) -> T:
        raise _Done(await body(tx))

    try:
        return await store.write(run)
    except _Done as done:
        return done.result  # type: ignore[return-value]
