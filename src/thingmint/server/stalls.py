"""Measures for how long callbacks block the event loop.

uvloop has no hook for slow callbacks, and asyncio has one in debug mode only. So a timer measures by how much it is
late: a callback that delays it delays every client too. This costs an idle server 0.7 % of a CPU (measured).
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    import asyncio


_EVERY = 0.01  # seconds, the precision of the measurement
_SLOW = 0.02  # seconds: the longest time that one callback should take
_LOOK_EVERY = 0.05  # seconds between two samples of the loop's stack, taken by another thread
_LOG_EVERY = 10.0  # seconds
_FRAMES = 6

_log = structlog.get_logger("thingmint.server")


class StallWatch:
    """``count`` is the number of stalls of more than 20 ms. Create it on the event loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.count = 0
        self._loop = loop
        self._thread_id = threading.get_ident()
        self._longest = 0.0
        self._beat_at = time.perf_counter()
        self._logged_at = float("-inf")
        self._stack: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def take_longest(self) -> float:
        """The longest stall since the previous call, in seconds."""
        longest, self._longest = self._longest, 0.0
        return longest

    def start(self) -> None:
        self._beat_at = time.perf_counter()
        self._timer = self._loop.call_later(_EVERY, self._beat)
        threading.Thread(target=self._sample_stack, name="stall watch", daemon=True).start()

    def stop(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        now = time.perf_counter()
        late = now - self._beat_at - _EVERY
        stack, self._stack = self._stack, []
        self._beat_at = now
        self._longest = max(self._longest, late)
        if late > _SLOW:
            self.count += 1
            if stack and now - self._logged_at >= _LOG_EVERY:
                self._logged_at = now
                _log.warning("event_loop_stalled", seconds=round(late, 3), busy_with=stack)
        self._timer = self._loop.call_later(_EVERY, self._beat)

    def _sample_stack(self) -> None:
        """Notes what a blocked event loop is doing. Runs in its own thread, because the loop is blocked."""
        while not self._stopped:
            time.sleep(_LOOK_EVERY)
            if self._stack or time.perf_counter() - self._beat_at < _EVERY + _LOOK_EVERY:
                continue
            frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001 - there is no other way
            if frame is not None:
                frames = traceback.extract_stack(frame, _FRAMES)
                self._stack = [f"{each.filename}:{each.lineno} {each.name}" for each in frames]
