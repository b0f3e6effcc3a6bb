"""Decorators that declare an operation of AWS IoT by its name in the model.

The function, such as ``async def create(tx, change, members)``, runs in the transaction. Its input and output are keyed
by the model's member names. The results of ``find`` and ``prepare``, if they are given, are its last arguments.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from thingmint.access.operations import Operation
from thingmint.domain.arns import Scope, parse_arn
from thingmint.domain.errors import Invalid
from thingmint.services.pages import Cursor
from thingmint.services.tags import check_tags
from thingmint.services.things import AttributeChange, check_name

if TYPE_CHECKING:
    from thingmint.services.change import Change
    from thingmint.store.engine import Transaction

Members = Mapping[str, Any]
Result = dict[str, Any]

# AWS's guide: a page has 25 items if the request has no pageSize or maxResults.
_PAGE_SIZE = 25

OPERATIONS: dict[str, Operation] = {}
"""The served operations of the control plane, by name."""

DATA_OPERATIONS: dict[str, Operation] = {}
"""The served operations of the data plane, by name."""

_Apply = Callable[..., Awaitable[Any]]
_Answer = Callable[["Change", Members], Awaitable[Result]]


def reads(name: str, *, finish: _Apply | None = None) -> Callable[[_Apply], _Apply]:
    """Declares an operation that only reads. ``finish`` makes the output from what was read."""
    return _declare(name, writes=False, finish=finish)


def collects(name: str) -> Callable[[_Apply], _Apply]:
    """Declares an operation that reads in several transactions: ``async def search(store, query, members)``."""

    def declare(collect: _Apply) -> _Apply:
        return _declare(name, writes=False, collect=collect)(collect)

    return declare


def writes(
    name: str,
    *,
    find: Callable[[Any, Any, Members], Awaitable[Any]] | None = None,
    prepare: Callable[..., Awaitable[Any]] | None = None,
    discard: Callable[[Any, Any, BaseException | None], None] | None = None,
    secret: bool = False,
) -> Callable[[_Apply], _Apply]:
    """Declares an operation that changes something. See Operation for the parts."""
    return _declare(name, writes=True, find=find, prepare=prepare, discard=discard, secret=secret)


def answers(name: str, *, writes: bool = False) -> Callable[[_Answer], _Answer]:
    """Declares an operation of the data plane: ``async def publish(change, members)``, outside of a transaction.

    ``writes``: the call is recorded as a change.
    """

    def declare(answer: _Answer) -> _Answer:
        assert name not in DATA_OPERATIONS, f"{name} is declared twice"
        DATA_OPERATIONS[name] = Operation(name=name, apply=_prepared, writes=writes, prepare=answer)
        return answer

    return declare


async def _prepared(tx: Transaction, change: Change, members: Members, result: Result) -> Result:
    del tx, change, members
    return result


def _declare(name: str, **parts: Any) -> Callable[[_Apply], _Apply]:
    def declare(apply: _Apply) -> _Apply:
        assert name not in OPERATIONS, f"{name} is declared twice"
        OPERATIONS[name] = Operation(name=name, apply=apply, **parts)
        return apply

    return declare


def cursor(members: Members) -> Cursor:
    """The cursor of a list that is paged by nextToken and maxResults."""
    return Cursor(members.get("maxResults", _PAGE_SIZE), members.get("nextToken"))


def marker_cursor(members: Members) -> Cursor:
    """The cursor of a list that is paged by marker and pageSize."""
    return Cursor(members.get("pageSize", _PAGE_SIZE), members.get("marker"), "marker")


def name_of(scope: Scope, members: Members, kind: str, by_name: str, by_arn: str) -> str:
    """The resource's name, which the input gives as a name, as an ARN or as both. Raises Invalid and NotFound."""
    name: str | None = members.get(by_name)
    if (text := members.get(by_arn)) is None:
        assert name is not None, "authorization refuses an input with neither"
        return name
    of_arn = check_name(parse_arn(scope, text, by_arn, kind)[1], by_arn)
    if name not in (None, of_arn):
        raise Invalid(by_arn, f"must be the ARN of the resource that {by_name} names")
    return of_arn


def attribute_change(payload: Mapping[str, Any] | None) -> AttributeChange | None:
    """The change that the payload asks for; None if it has no map of attributes. An empty map is a change."""
    if payload is None or "attributes" not in payload:
        return None
    return AttributeChange(payload["attributes"], merge=payload.get("merge", False))


def new_attributes(payload: Mapping[str, Any] | None) -> Mapping[str, str]:
    """The attributes of a new thing or group, which has no earlier ones to merge with."""
    attributes: Mapping[str, str] = (payload or {}).get("attributes", {})
    return attributes


def new_tags(members: Mapping[str, Any]) -> dict[str, str]:
    """The tags of a new resource; a tag without a value gets an empty one. Raises Invalid."""
    return check_tags(((tag["Key"], tag.get("Value", "")) for tag in members.get("tags", ())), "tags")
