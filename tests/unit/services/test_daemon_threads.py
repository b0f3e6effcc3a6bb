"""Functions that may never return."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from thingmint.services.daemon_threads import DaemonThreads


async def test_results_errors_and_places() -> None:
    threads, gate = DaemonThreads(1, "one"), threading.Event()

    def fail() -> None:
        raise ValueError("told")

    assert await threads.run(lambda: threading.current_thread().name) == "one"
    with pytest.raises(ValueError, match="told"):
        await threads.run(fail)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await threads.run(gate.wait)
    second = asyncio.create_task(threads.run(lambda: "second"))
    await asyncio.sleep(0.05)
    assert not second.done()  # the first one does not return yet
    gate.set()
    assert await second == "second"


def test_a_file_system_that_does_not_answer_does_not_keep_the_process_from_ending() -> None:
    """The file system is a mock: a hung network file system cannot be had here."""
    program = """
import asyncio, threading
from pathlib import Path
from thingmint.services import bulk_buckets
from thingmint.domain.errors import Unavailable

bulk_buckets._TIMEOUT = 0.1
bulk_buckets.os.open = lambda *_, **__: threading.Event().wait()
buckets = bulk_buckets.Buckets({"b": bulk_buckets.Bucket(("a",), bulk_buckets.Folder(Path("/")))})

async def main():
    try:
        await buckets.look("a", "b", "key")
    except Unavailable:
        print("told")
    buckets.close()

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "told\n"
