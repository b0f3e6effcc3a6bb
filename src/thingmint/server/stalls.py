"""How long the event loop was kept from everything else that it has to do.

uvloop has no hook for slow callbacks, and asyncio's is there in debug mode only. So a timer says how late it is: what
keeps it waiting keeps every client waiting. That costs an idle server 0.7 % of a CPU (measured).
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


_EVERY = 0.01  # seconds; a stall is measured to within this
_SLOW = 0.02  # seconds: the longest that one callback may take
_LOOK_EVERY = 0.05  # seconds, from another thread, for what the loop is busy with
_LOG_EVERY = 10.0  # seconds
_FRAMES = 6

_log = structlog.get_logger("thingmint.server")


class StallWatch:
    """``count`` are the stalls of more than 20 ms since the start. It has to be made on the event loop's thread."""

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
        """The longest stall since this was last asked, in seconds."""
        longest, self._longest = self._longest, 0.0
        return longest

    def start(self) -> None:
        self._beat_at = time.perf_counter()
        self._timer = self._loop.call_later(_EVERY, self._beat)
        threading.Thread(target=self._find, name="stall watch", daemon=True).start()

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

    def _find(self) -> None:
        """From a thread of its own, as the loop cannot look while it is busy."""
        while not self._stopped:
            time.sleep(_LOOK_EVERY)
            if self._stack or time.perf_counter() - self._beat_at < _EVERY + _LOOK_EVERY:
                continue
            frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001 - there is no other way
            if frame is not None:
                frames = traceback.extract_stack(frame, _FRAMES)
                self._stack = [f"{each.filename}:{each.lineno} {each.name}" for each in frames]
