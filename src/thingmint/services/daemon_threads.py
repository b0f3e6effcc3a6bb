"""Runs functions that may never return, such as an operator's code or a read from a network file system."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def in_thread(run: Callable[[], T], name: str) -> asyncio.Future[T]:
    """Runs a function in a daemon thread of its own. Unlike a pool's thread, it does not keep the server running."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())  # also if no task awaits it any more

    def arrived(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def main() -> None:
        result, failure = None, None
        try:
            result = run()
        except BaseException as error:  # noqa: BLE001 - raised in the tasks that await the future
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: no task waits any more
            loop.call_soon_threadsafe(arrived, result, failure)

    threading.Thread(target=main, name=name, daemon=True).start()
    return future


class DaemonThreads:
    """Runs up to ``count`` functions at once. A function that does not return keeps its place."""

    def __init__(self, count: int, name: str) -> None:
        self._places = asyncio.Semaphore(count)
        self._name = name

    async def run(self, call: Callable[[], T]) -> T:
        """Return the function's result. Raises what the function raises, and RuntimeError if no thread can start."""
        await self._places.acquire()
        try:
            running = in_thread(call, self._name)
        except BaseException:
            self._places.release()
            raise
        running.add_done_callback(lambda _: self._places.release())
        return await asyncio.shield(running)  # a caller that stops waiting must not free the place
