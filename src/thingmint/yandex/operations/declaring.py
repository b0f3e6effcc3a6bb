"""How a method of Yandex Cloud is declared: by its full name, as a small function with the transaction.

``async def get(tx, query, call, named)`` returns the response's fields by their names in the contract. ``named`` is
what ``find`` found; with ``prepare``, what that returned is the last argument.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from thingmint.access.operations import Operation
from thingmint.domain.errors import DomainError
from thingmint.services.owners import InFolder, Named
from thingmint.services.pages import Cursor
from thingmint.yandex.contract.answers import Fields

if TYPE_CHECKING:
    from datetime import timedelta

    from thingmint.access.context import Outcome, RequestContext
    from thingmint.access.iam import IamTokens
    from thingmint.services.change import Change, Query
    from thingmint.services.hostnames import ListHostnames
    from thingmint.store.engine import Transaction
    from thingmint.store.table import Table
    from thingmint.yandex.contract import Contract, Method

R = TypeVar("R", bound=InFolder)

_PAGE_SIZE = 100
_MAX_PAGE_SIZE = 1000  # rows that are read and written at once; where more are asked for, the next page has them

Find = Callable[..., Awaitable[Any]]
Prepare = Callable[..., Awaitable[Any]]
_Apply = Callable[..., Awaitable[Any]]
_Open = Callable[["YandexCall", "RequestContext", "Outcome"], Awaitable[Fields]]

OPERATIONS: dict[str, Operation] = {}
"""The served methods, by gRPC path."""

OPEN: dict[str, _Open] = {}
"""Those that need no caller, and no transaction of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class YandexParts:
    """``pending`` keeps operations unfinished for that long, for tests of clients."""

    contract: Contract
    tokens: IamTokens
    hostnames: ListHostnames
    pending: timedelta
    sha1_fingerprints: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class YandexCall:
    """The input of an operation. ``request`` keeps the contract's rules.

    ``principal`` is the caller's id; empty where the method is open to all. ``port`` is the listener's. ``allowed`` are
    the resources on which the caller was found to be allowed, so that a second read of the same rows costs little.
    """

    parts: YandexParts
    method: Method
    request: Any
    principal: str
    port: int
    request_id: str
    allowed: set[tuple[str, ...]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Result:
    """What an Operation tells of a change that was made, or of one that was refused."""

    description: str
    metadata: Fields
    response: Fields | None
    refusal: DomainError | None = None


class Refusal(Exception):
    """Ends the transaction of a change whose refusal is told by an Operation later."""

    def __init__(self, result: Result) -> None:
        super().__init__(str(result.refusal))
        self.result = result


def authorize(query: Query, call: YandexCall, *resources: str) -> None:
    """``resources`` are one thing and all that contain it but the cloud, the narrowest first. Raises Denied."""
    if resources not in call.allowed:
        query.may(f"yandex:{call.method.label}", *resources, f"yandex:cloud/{query.account}")
        call.allowed.add(resources)


def by_id(table: Table[R]) -> Find:
    """Finds what the request's device_id, registry_id or the like names, and authorizes on it.

    It is authorized alike whether it exists or not, so that who may not see it does not learn that.
    """
    noun = table.noun
    id_field = f"{noun}_id"

    async def find(tx: Transaction, query: Query, call: YandexCall) -> Named[R]:
        id = getattr(call.request, id_field)
        found = await table.find(tx, query.account, id)
        authorize(query, call, *(found.resources if found is not None else (f"yandex:{noun}/{id}",)))
        return Named(noun, id, found)

    return find


def cursor(request: Any) -> Cursor:
    return Cursor(min(request.page_size or _PAGE_SIZE, _MAX_PAGE_SIZE), request.page_token or None, "page_token")


def open_to_all(name: str) -> Callable[[_Open], _Open]:
    """For what clients need before they have a token."""

    def declare(answer: _Open) -> _Open:
        OPEN[f"/{name}"] = answer
        return answer

    return declare


def reads(name: str, *, find: Find) -> Callable[[_Apply], _Apply]:
    def declare(apply: _Apply) -> _Apply:
        OPERATIONS[f"/{name}"] = Operation(name=name, apply=apply, writes=False, find=find)
        return apply

    return declare


def id_of(call: YandexCall, named: Named[Any]) -> Fields:
    return {f"{named.noun}_id": named.id}


def writes(
    name: str,
    description: str,
    *,
    find: Find,
    prepare: Prepare | None = None,
    metadata: Callable[..., Fields] = id_of,
) -> Callable[[_Apply], _Apply]:
    """``metadata(call, named, *prepared)`` is that of the Operation, also if the change is refused.

    ``prepare`` refuses what is wrong with the request itself, which is told at once.
    """

    def declare(function: _Apply) -> _Apply:
        async def apply(tx: Transaction, change: Change, call: YandexCall, named: Any, *prepared: Any) -> Result:
            try:
                response = await function(tx, change, call, named, *prepared)
            except DomainError as refusal:
                if not call.parts.pending:
                    raise
                raise Refusal(Result(description, metadata(call, named, *prepared), None, refusal)) from refusal
            return Result(description, metadata(call, named, *prepared), response)

        OPERATIONS[f"/{name}"] = Operation(name=name, apply=apply, writes=True, find=find, prepare=prepare)
        return function

    return declare
