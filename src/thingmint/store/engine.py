"""What the registry asks of an engine, whichever it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from thingmint.domain.errors import Invalid

T = TypeVar("T")

Value = str | int | float | bytes | None
Row = tuple[Any, ...]


class ConstraintViolated(Exception):
    """A row that is there, or one that is missing, does not allow the change; the body's changes are taken back."""


class UniqueViolated(ConstraintViolated): ...


class KeyTaken(UniqueViolated):
    """There is a row of that primary key, which the statement did not expect: with fresh ids the change can be made."""


class ForeignKeyViolated(ConstraintViolated): ...


class AlreadyKept(Exception):
    """A body finds that an earlier run of its own was kept."""


class UnstorableText(Invalid):
    """Not every engine can keep text with U+0000 or half of a surrogate pair in it, so none does."""

    def __init__(self) -> None:
        super().__init__("text", "has a character that cannot be stored, U+0000 or a lone surrogate")


def storable(parameters: Sequence[Value]) -> Sequence[Value]:
    """Before they are sent, as an error may end the transaction. Raises UnstorableText for U+0000."""
    for parameter in parameters:
        if isinstance(parameter, str) and "\0" in parameter:
            raise UnstorableText
    return parameters


Kind = Literal["certificate", "policy", "thing", "thinggroup", "ca", "template", "account", "access", "client"]


class PublishedChange(NamedTuple):
    """Something about ``name`` changed. ``region`` is empty if it is about the whole account."""

    id: str
    created_at: int  # microseconds since 1970
    account: str
    region: str
    kind: Kind
    name: str


class Notes:
    """What bodies leave with their transaction, besides their statements."""

    __slots__ = ("audit_details", "audit_resources", "lane", "perhaps_kept", "published")

    def __init__(self, lane: int = 1, *, perhaps_kept: bool = False) -> None:
        self.lane = lane
        self.perhaps_kept = perhaps_kept
        self.audit_resources: list[str] = []
        self.audit_details: dict[str, Any] = {}
        self.published: list[PublishedChange] = []


class Transaction(Protocol):
    """A transaction that is open. Parameters are written $1, $2, … in the SQL.

    Bodies add to these: ``audit_resources`` name what it changes (ARNs and the like) in the audit record, which has the
    ``audit_details`` besides; ``published`` are the changes that every process has to learn of. No two that run at the
    same time are of one ``lane``, a number above 0: where each changes the rows of its own, they do not meet.
    ``perhaps_kept`` tells a body that its earlier run may have been kept, as its COMMIT was not answered.
    """

    audit_resources: list[str]
    audit_details: dict[str, Any]
    published: list[PublishedChange]
    lane: int
    perhaps_kept: bool

    async def execute(self, sql: str, *parameters: Value) -> int:
        """The number of rows that changed."""
        ...

    async def execute_many(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """The same statement for each row of parameters."""
        ...

    async def fetch_one(self, sql: str, *parameters: Value) -> Row | None: ...

    async def fetch_all(self, sql: str, *parameters: Value) -> list[Row]: ...


# A body may be run more than once, and only awaits its transaction: ids, keys and times are made before it.
Body = Callable[[Transaction], Awaitable[T]]


class Fetcher(Protocol):
    """A transaction, or a store, for what is read by one statement at a time."""

    async def fetch_all(self, sql: str, *parameters: Value) -> list[Row]: ...


class Reader(Protocol):
    async def read(self, body: Body[T]) -> T:
        """What ``body`` returns, from one consistent state that holds every write answered before."""
        ...


class Store(Reader, Protocol):
    @property
    def is_shared(self) -> bool:
        """Whether other processes may use the same records at the same time."""
        ...

    @property
    def ready(self) -> bool:
        """Whether all changes can be kept at the moment."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why changes are refused at the moment, for operators; None if they are kept. Reads go on meanwhile."""
        ...

    @property
    def retries(self) -> int:
        """How often a body was run again since its transaction met another one."""
        ...

    @property
    def spreads_keys(self) -> bool:
        """Whether keys that follow one another make writers meet, so that they are to be made in several lanes."""
        ...

    async def fetch_all(self, sql: str, *parameters: Value) -> list[Row]:
        """What one statement reads, in a transaction of its own: on PostgreSQL one round trip instead of three."""
        ...

    async def write(self, body: Body[T], *, urgent: bool = False, once: bool = False) -> T:
        """What ``body`` returns or raises, told only after its transaction is durable.

        ``urgent`` changes are taken on a full disk too, as long as its reserve lasts. With ``once`` the body raises
        AlreadyKept where an earlier run was kept that perhaps was, so that it can be run again after a COMMIT without
        an answer.
        Raises Unavailable when the engine failed; the change may then have been kept or not.
        """
        ...

    async def close(self) -> None: ...


class StoreWrapper:
    """A Store that is another one in all that is not said otherwise: the base of those that add something."""

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
