"""Decorators that declare a method of Yandex Cloud by its full name.

The function, such as ``async def get(tx, query, call, named)``, runs in the transaction and returns the response's
fields by their names in the contract. ``named`` is the result of ``find``. The result of ``prepare``, if it is given,
is the last argument.
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
_MAX_PAGE_SIZE = 1000  # rows that one call reads; a client that asks for more gets the rest in the next page

Find = Callable[..., Awaitable[Any]]
Prepare = Callable[..., Awaitable[Any]]
_Apply = Callable[..., Awaitable[Any]]
_Open = Callable[["YandexCall", "RequestContext", "Outcome"], Awaitable[Fields]]

OPERATIONS: dict[str, Operation] = {}
"""The served methods, by gRPC path."""

OPEN: dict[str, _Open] = {}
"""The served methods that need no authentication and no transaction, by gRPC path."""


WITHOUT_TRANSACTION: dict[str, _Open] = {}
"""The served methods of authenticated callers that need no transaction, by gRPC path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class YandexParts:
    """``pending`` is how long operations stay unfinished, for tests of clients."""

    contract: Contract
    tokens: IamTokens
    hostnames: ListHostnames
    pending: timedelta
    sha1_fingerprints: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class YandexCall:
    """The input of an operation. ``request`` is validated.

    ``principal`` is the caller's id, empty if the method needs no authentication. ``port`` is the listener's.
    ``allowed`` has the resources on which the call is authorized, so that a second read of the same rows costs little.
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
    """The contents of the Operation of a change, which has a ``response``, or a ``refusal`` if it was refused."""

    description: str
    metadata: Fields
    response: Fields | None
    refusal: DomainError | None = None


class Refusal(Exception):
    """Rolls back the transaction of a change whose refusal an Operation reports later."""

    def __init__(self, result: Result) -> None:
        super().__init__(str(result.refusal))
        self.result = result


def authorize(query: Query, call: YandexCall, *resources: str) -> None:
    """Authorizes the call on ``resources``: a resource and all its parents except the cloud, in that order.

    Raises Denied.
    """
    if resources not in call.allowed:
        query.may(f"yandex:{call.method.label}", *resources, f"yandex:cloud/{query.account}")
        call.allowed.add(resources)


def by_id(table: Table[R]) -> Find:
    """A function that finds the resource of the request's device_id, registry_id or folder_id, and authorizes on it.

    The check does not depend on whether the resource exists, so that an unauthorized caller cannot learn that.
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
    """Declares a method without authentication: clients call it before they have a token."""

    def declare(answer: _Open) -> _Open:
        OPEN[f"/{name}"] = answer
        return answer

    return declare


def without_transaction(name: str) -> Callable[[_Open], _Open]:
    """Declares a method for authenticated callers. The function authorizes the call itself."""

    def declare(answer: _Open) -> _Open:
        WITHOUT_TRANSACTION[f"/{name}"] = answer
        return answer

    return declare


def reads(name: str, *, find: Find, prepare: Prepare | None = None) -> Callable[[_Apply], _Apply]:
    def declare(apply: _Apply) -> _Apply:
        OPERATIONS[f"/{name}"] = Operation(name=name, apply=apply, writes=False, find=find, prepare=prepare)
        return apply

    return declare


def id_of(call: YandexCall, named: Named[Any]) -> Fields:
    return {f"{named.noun}_id": named.id}


def owner_of(metadata: Fields) -> str:
    """The id of the device, registry or broker that an operation with this metadata is about."""
    return next((metadata[field] for field in ("device_id", "registry_id", "broker_id") if field in metadata), "")


def writes(
    name: str,
    description: str,
    *,
    find: Find,
    prepare: Prepare | None = None,
    metadata: Callable[..., Fields] = id_of,
) -> Callable[[_Apply], _Apply]:
    """Declares a method that changes something and answers with an Operation.

    ``metadata(call, named, *prepared)`` returns the Operation's metadata, also if the change is refused. ``prepare``
    checks the request itself: its errors are the answer to the call, without an Operation.
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
