"""Finds out from attempts to connect whether the upstream broker can be reached."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_RECENT = 60.0  # seconds for which a failed attempt counts, while none succeeds


class Reachability:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed_at = float("-inf")
        self.why = "there is no connection yet"
        self.failures = 0

    def failed(self, why: str) -> None:
        self._failed_at = self._clock()
        self.why = why
        self.failures += 1

    def succeeded(self) -> None:
        self._failed_at = float("-inf")

    def trouble(self, *, connected: bool) -> str | None:
        """Why devices cannot be accepted, or None. ``connected``: the gateway's own connection is open.

        The gateway's connection notices late that a broker hangs; new connections of devices notice it first.
        """
        if connected and self._clock() - self._failed_at > _RECENT:
            return None
        return self.why
