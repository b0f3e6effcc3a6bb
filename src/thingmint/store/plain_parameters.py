"""A SQLite connection that replaces ?1 by ?, for versions of Python that warn about ?1.

Python 3.12.0 to 3.12.3 raise a DeprecationWarning for each ?1 whose parameter comes from a sequence (CPython issue
117995). Ubuntu 24.04 has 3.12.3. Remove this module when Thingmint needs Python 3.13.
"""

from __future__ import annotations

import functools
import operator
import re
import sqlite3
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


_NUMBERED = re.compile(r"\?(\d+)")


class PlainParameters(sqlite3.Connection):
    """Executes statements with ? in place of ?1, ?2, ... and with their parameters in that order."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        statement, arrange = _plain(sql)
        return super().execute(statement, parameters if arrange is None else arrange(parameters))

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        statement, arrange = _plain(sql)
        return super().executemany(statement, parameters if arrange is None else map(arrange, parameters))


# The class of the store's connections.
CONNECTION = PlainParameters if (3, 12) <= sys.version_info < (3, 12, 4) else sqlite3.Connection


@functools.cache
def _plain(sql: str) -> tuple[str, Callable[[Sequence[Any]], Sequence[Any]] | None]:
    """The statement with ? for each ?1, and the function that arranges its parameters; None if they stay as they are.

    Cached: statements are constants, so there are few.
    """
    order = [int(number) - 1 for number in _NUMBERED.findall(sql)]
    statement = _NUMBERED.sub("?", sql)
    if order == list(range(len(order))):
        return statement, None
    count, pick = max(order) + 1, operator.itemgetter(*order)

    def arrange(parameters: Sequence[Any]) -> Sequence[Any]:
        if len(parameters) != count:
            raise sqlite3.ProgrammingError(f"The statement takes {count} parameters, not {len(parameters)}")
        arranged = pick(parameters)
        return (arranged,) if len(order) == 1 else arranged

    return statement, arrange
