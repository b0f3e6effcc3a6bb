"""Makes files of lists in pages. Other requests are served in between: reading SQLite does not let them in."""

from __future__ import annotations

import asyncio
import csv
import io
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from thingmint.console.rendering import harmless
from thingmint.domain.errors import Throttled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from thingmint.http.messages import Answer

MAX_BYTES = 4 * 2**20
"""The size after which a file ends."""
WORK = 1.0
"""Seconds of work after which a file ends. It has at least one page."""

_MOST = 4  # in this process at the same time, since each file is in memory until it is sent
_PAUSE = 0.002  # seconds after each page, at least


class Pace:
    """Counts the seconds of work that is done in pages. ``is_limited``: it ends after some."""

    def __init__(self, *, is_limited: bool = True) -> None:
        self.worked = 0.0
        self._is_limited = is_limited
        self._began = perf_counter()

    async def rest(self) -> None:
        """Leaves the event loop to others for as long as the page took."""
        took = perf_counter() - self._began
        self.worked += took
        await asyncio.sleep(max(_PAUSE, took))
        self._began = perf_counter()

    @property
    def is_used_up(self) -> bool:
        return self._is_limited and self.worked >= WORK


class Exports:
    """The files that this process makes now: one of an account, and few in all."""

    def __init__(self) -> None:
        self._accounts: set[str] = set()

    @contextmanager
    def one_of(self, account: str) -> Iterator[Pace]:
        """The block makes a file. Raises Throttled."""
        if account in self._accounts:
            raise Throttled("The server makes a file for this account already. Wait until it is done", retry_after=3)
        if len(self._accounts) >= _MOST:
            raise Throttled("The server makes files for other accounts now", retry_after=3)
        self._accounts.add(account)
        try:
            yield Pace()
        finally:
            self._accounts.remove(account)


def csv_lines(rows: Iterable[Sequence[str]]) -> bytes:
    """The lines of a CSV file. No cell is a formula for a spreadsheet."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([harmless(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


def with_next(answer: Answer, address: str | None) -> Answer:
    """The answer with the address of the next file in the header Link, if there is one."""
    if address is None:
        return answer
    return replace(answer, headers=[*answer.headers, (b"link", f'<{address}>; rel="next"'.encode("ascii"))])
