"""Reads the rows of many keys with one statement, which has a fixed number of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.store.engine import Fetcher, Row, Value

_AT_ONCE = 100
_MARKS = ", ".join(f"${number}" for number in range(1, _AT_ONCE + 1))
FIRST_FURTHER = _AT_ONCE + 1
"""The number of the first parameter that is not a key."""


class KeyList:
    """A SELECT that contains ``{keys}`` in the place of a list of keys, as in ``WHERE id IN ({keys})``.

    Its further parameters are $101, $102, ...
    """

    def __init__(self, statement: str) -> None:
        self._statement = statement.format(keys=_MARKS)

    async def fetch(
        self, fetcher: Fetcher, keys: Sequence[str] | Sequence[bytes] | Sequence[int], *further: Value
    ) -> list[Row]:
        """The rows of any number of keys, in no order."""
        rows: list[Row] = []
        for first in range(0, len(keys), _AT_ONCE):
            some: list[Value] = list(keys[first : first + _AT_ONCE])
            some += some[-1:] * (_AT_ONCE - len(some))  # the last key again: it finds no row twice
            rows += await fetcher.fetch_all(self._statement, *some, *further)
        return rows
