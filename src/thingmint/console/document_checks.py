"""Runs the linters of the editors: one at a time in a process, because they hold the interpreter while they work."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.domain.errors import Throttled

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from thingmint.domain.linting import Report

MAX_OF_SESSION = 4
MAX_OF_PROCESS = 64


@dataclass(slots=True, eq=False)
class _Check:
    session: str
    while_typing: bool
    work: Future[Report]
    is_replaced: bool = False


class DocumentChecks:
    """At most MAX_OF_PROCESS checks run or wait, and MAX_OF_SESSION of a session."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "document-check")
        self._checks: list[_Check] = []

    async def run(self, session: str, lint: Callable[[], Report], *, while_typing: bool) -> Report:
        """The report of ``lint``, which runs in a thread. Raises Throttled if too many checks wait.

        With ``while_typing``, the text was typed a moment ago: the check replaces a waiting one of the session, which
        raises Throttled.
        """
        if while_typing:
            for each in self._checks:
                # True unless it runs already.
                if each.session == session and each.while_typing and each.work.cancel():
                    each.is_replaced = True
            self._checks = [each for each in self._checks if not each.is_replaced]
        if sum(each.session == session for each in self._checks) >= MAX_OF_SESSION:
            raise Throttled("This session already checks several documents", retry_after=1)
        if len(self._checks) >= MAX_OF_PROCESS:
            raise Throttled("This server already checks many documents", retry_after=1)
        check = _Check(session, while_typing, self._thread.submit(lint))
        self._checks.append(check)
        try:
            return await asyncio.wrap_future(check.work)
        except asyncio.CancelledError:
            if check.is_replaced:
                raise Throttled("A newer text is checked instead", retry_after=1) from None
            raise
        finally:
            if check in self._checks:
                self._checks.remove(check)
