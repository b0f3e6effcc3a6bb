from __future__ import annotations

import asyncio
import time
from typing import Any

from structlog.testing import capture_logs

from thingmint.server.stalls import StallWatch


async def test_a_stall_is_measured_counted_and_logged_with_its_cause() -> None:
    watch = StallWatch(asyncio.get_running_loop())
    watch.start()
    await asyncio.sleep(0.03)
    watch.take_longest()
    with capture_logs() as logs:
        before = watch.count
        time.sleep(0.3)  # noqa: ASYNC251 - a callback that takes so long
        await asyncio.sleep(0.05)
    assert 0.25 < watch.take_longest() < 10
    assert watch.count > before
    (line,) = [line for line in logs if line["event"] == "event_loop_stalled"]
    stack: Any = line["busy_with"]
    assert any("test_a_stall_is_measured" in frame for frame in stack)
    watch.stop()


async def test_each_scrape_resets_the_longest_stall_and_stop_ends_the_measurement() -> None:
    watch = StallWatch(asyncio.get_running_loop())
    watch.start()
    time.sleep(0.1)  # noqa: ASYNC251
    await asyncio.sleep(0.05)
    assert watch.take_longest() > 0.05
    watch.stop()
    watch.take_longest()
    time.sleep(0.1)  # noqa: ASYNC251
    await asyncio.sleep(0.05)
    assert watch.take_longest() == 0
