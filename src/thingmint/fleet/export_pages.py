"""Pages of an export: bounded in rows and in bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson

from thingmint.domain.arns import Scope
from thingmint.store.engine import Transaction

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_BYTES = 700 * 1024  # of a page: the admin socket takes lines of 1 MiB

Json = dict[str, Any]
Read = Callable[[Transaction, Scope, str, str], Awaitable[Json]]
"""Reads a page. Arguments: transaction, account and region, what the rows belong to, the place after which it begins.
"""


def page_of_rows(rows: Sequence[tuple[str, Json | None]], limit: int) -> Json:
    """Return a page of rows, each with the place behind it. It has as many as fit, and at least one."""
    kept: list[Json] = []
    size, place = 0, None
    for number, (behind, row) in enumerate(rows, 1):
        size += len(orjson.dumps(row)) if row is not None else 0
        if size > _MAX_BYTES and number > 1:
            return {"rows": kept, "after": place}
        place = behind
        if row is not None:
            kept.append(row)
    return {"rows": kept, "after": place if len(rows) == limit else None}
