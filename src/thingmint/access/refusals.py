"""The log of connections that came to nothing: a line at once for each source, then their number now and again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable


_WINDOW = 10.0  # seconds
_MAX_SOURCES = 50  # that get lines of their own within one window

_log = structlog.get_logger("thingmint.gateway")


class RefusalLog:
    """In each window there are at most two lines for each of 50 sources, and one for all others.

    ``later`` calls a function after so many seconds; the running event loop's by default.
    """

    def __init__(self, later: Callable[[float, Callable[[], None]], object] | None = None) -> None:
        self._later = later
        self._sources: dict[tuple[str, str], tuple[str, int]] = {}  # the last reason, and how many since the last line
        self._others = 0

    def note(self, event: str, source: str, reason: str) -> None:
        """``event`` is what happened, as one of a few constant texts; ``source`` is where from."""
        if not self._sources:
            later = self._later or asyncio.get_running_loop().call_later
            later(_WINDOW, self._end_window)
        key = (event, source)
        if key in self._sources:
            self._sources[key] = (reason, self._sources[key][1] + 1)
        elif len(self._sources) < _MAX_SOURCES:
            _log.info(event, source=source, reason=reason)
            self._sources[key] = (reason, 0)
        else:
            self._others += 1

    def _end_window(self) -> None:
        sources, others = self._sources, self._others
        self._sources, self._others = {}, 0
        for (event, source), (reason, count) in sources.items():
            if count:
                _log.info(event, source=source, reason=reason, more=count)
        if others:
            _log.warning("refused from many addresses", more=others)
