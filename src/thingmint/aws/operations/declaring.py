"""How an operation of AWS IoT is declared: by its name in the model, as a small function with the transaction.

``async def create(tx, change, members)`` takes the input by the model's member names and returns the output by them.
With ``prepare``, what that returned is the last argument.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from thingmint.access.operations import Operation
from thingmint.services.pages import Cursor
from thingmint.services.tags import check_tags
from thingmint.services.things import AttributeChange

Members = Mapping[str, Any]
Result = dict[str, Any]

# AWS's guide: pages hold 25 items unless pageSize or maxResults says otherwise.
_PAGE_SIZE = 25

OPERATIONS: dict[str, Operation] = {}
"""The served ones, by name."""

_Apply = Callable[..., Awaitable[Result]]


def reads(name: str) -> Callable[[_Apply], _Apply]:
    return _declare(name, writes=False)


def writes(
    name: str,
    *,
    find: Callable[[Any, Any, Members], Awaitable[Any]] | None = None,
    prepare: Callable[..., Awaitable[Any]] | None = None,
    discard: Callable[[Any, Any, BaseException | None], None] | None = None,
    secret: bool = False,
) -> Callable[[_Apply], _Apply]:
    """See Operation for what the parts are."""
    return _declare(name, writes=True, find=find, prepare=prepare, discard=discard, secret=secret)


def _declare(name: str, **parts: Any) -> Callable[[_Apply], _Apply]:
    def declare(apply: _Apply) -> _Apply:
        assert name not in OPERATIONS, f"{name} is declared twice"
        OPERATIONS[name] = Operation(name=name, apply=apply, **parts)
        return apply

    return declare


def cursor(members: Members) -> Cursor:
    """For the operations whose pages are told by nextToken and maxResults."""
    return Cursor(members.get("maxResults", _PAGE_SIZE), members.get("nextToken"))


def marker_cursor(members: Members) -> Cursor:
    """For the operations whose pages are told by marker and pageSize."""
    return Cursor(members.get("pageSize", _PAGE_SIZE), members.get("marker"), "marker")


def attribute_change(payload: Mapping[str, Any] | None) -> AttributeChange | None:
    """None if the payload has no attributes, not even an empty map of them."""
    if payload is None or "attributes" not in payload:
        return None
    return AttributeChange(payload["attributes"], merge=payload.get("merge", False))


def new_attributes(payload: Mapping[str, Any] | None) -> Mapping[str, str]:
    """Where there is nothing yet to merge with."""
    attributes: Mapping[str, str] = (payload or {}).get("attributes", {})
    return attributes


def new_tags(members: Mapping[str, Any]) -> dict[str, str]:
    """A tag without a value has an empty one. Raises Invalid."""
    return check_tags(((tag["Key"], tag.get("Value", "")) for tag in members.get("tags", ())), "tags")
