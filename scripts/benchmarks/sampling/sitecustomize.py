"""A sampling profiler inside the server. Python imports a module of this name if its folder is in PYTHONPATH.

SIGPROF is sent at each tick of CPU time. Its handler runs at the next bytecode in the main thread, which runs the event
loop: the time of a function written in C is counted for its caller, or for the caller's next callee. The weight of a
sample is the CPU time of the main thread since the last sample, so threads that generate keys do not count. SIGUSR1
starts the profiler. SIGUSR2 stops it and writes the stacks, outermost frame first, with their seconds.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_INTERVAL = 0.001  # seconds; the kernel's tick may be longer
_IDLE = 0.0005  # seconds; if less was used since the last sample, the event loop was waiting


class _Sampler:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._stacks: defaultdict[tuple[tuple[str, str, int], ...], float] = defaultdict(float)
        self._last = 0.0

    def install(self) -> None:
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR1, self._begin)
        signal.signal(signal.SIGUSR2, self._end)

    def _begin(self, _signal: int, _frame: FrameType | None) -> None:
        self._stacks.clear()
        self._last = time.thread_time()
        signal.setitimer(signal.ITIMER_PROF, _INTERVAL, _INTERVAL)

    def _sample(self, _signal: int, frame: FrameType | None) -> None:
        now = time.thread_time()
        spent, self._last = now - self._last, now
        if spent < _IDLE:
            return
        stack = []
        while frame is not None:
            stack.append((frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_lineno))
            frame = frame.f_back
        self._stacks[tuple(reversed(stack))] += spent

    def _end(self, _signal: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(list(self._stacks.items())))
        part.replace(self._path)


if "BENCH_SAMPLES" in os.environ:
    _Sampler(Path(os.environ["BENCH_SAMPLES"])).install()
