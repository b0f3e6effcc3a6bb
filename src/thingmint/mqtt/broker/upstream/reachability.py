"""Whether the upstream broker answers, as the attempts to connect to it show."""

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
        """What keeps devices out; ``connected`` is whether the gateway's own connection stands.

        That one notices a broker that hangs only after a while: devices that try to connect do so before.
        """
        if connected and self._clock() - self._failed_at > _RECENT:
            return None
        return self.why
