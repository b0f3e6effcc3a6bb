"""Sends the last messages of permanent topics to a client that has subscribed to them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_LOOK_EVERY = 0.05  # seconds, while the client cannot take messages

_log = structlog.get_logger("thingmint.gateway")


class Replay:
    """Handles the subscriptions of one client in order, beside its other traffic.

    ``find(filter)`` iterates over topics with their last messages. ``send(filter, topic, payload)`` returns False while
    the client cannot take the message.

    A message that the broker delivers meanwhile is newer than the topic's last message that was read before it.
    """

    __slots__ = ("_delivered", "_filters", "_find", "_send", "_task")

    def __init__(
        self, find: Callable[[str], AsyncIterator[tuple[str, bytes]]], send: Callable[[str, str, bytes], bool]
    ) -> None:
        self._find = find
        self._send = send
        self._filters: dict[str, None] = {}
        self._delivered: dict[str, None] = {}  # an empty set takes 216 bytes, which every idle device would have
        self._task: asyncio.Task[None] | None = None

    def start(self, filter: str) -> None:
        self._filters[filter] = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def delivered(self, topic: str) -> None:
        """The broker delivered a message of the topic."""
        if self._task is not None:
            self._delivered[topic] = None

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while self._filters:
                filter = next(iter(self._filters))
                del self._filters[filter]
                async for topic, payload in self._find(filter):
                    while topic not in self._delivered and not self._send(filter, topic, payload):  # noqa: ASYNC110 - see below
                        # No event says that the client reads again: the session passes that on to the broker's link.
                        await asyncio.sleep(_LOOK_EVERY)
        except Unavailable as error:
            _log.warning("last_messages_not_sent", error=str(error))
        except Exception:  # noqa: BLE001 - the connection goes on without them
            _log.exception("last_messages_not_sent")
        finally:
            self._task = None
            self._filters.clear()
            self._delivered.clear()
