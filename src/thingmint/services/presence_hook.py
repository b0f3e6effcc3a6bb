"""Tells a program of the operator which devices connect, disconnect and are refused: an HTTP hook.

Events wait in memory, in a bounded queue. One call at a time sends a batch. While the hook fails, the same batch is
sent again, with growing pauses. So events arrive at least once, those of one account in order, unless the process ends
or the queue is full.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import orjson
import structlog

from thingmint.services.function_calls import CallFailed, Function, RemoteCaller
from thingmint.services.presence import Client, EventQueue, of_vanished

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from thingmint.services.authentication_decisions import Rejected
    from thingmint.services.client_ids import Vanished
    from thingmint.services.messages import DisconnectReason
    from thingmint.services.presence import ConnectionRecord

_MAX_WAITING = (100_000, 50_000, 100)  # in all, of an account, of a client
_BATCH = 100
_TIMEOUT = 10.0  # seconds, for the whole call
_FIRST_PAUSE = 0.5  # seconds after a failure; it doubles with each further one
_LONGEST_PAUSE = 60.0

Kind = Literal["connected", "disconnected", "refused"]

_log = structlog.get_logger("thingmint.presence")


@dataclass(frozen=True, slots=True)
class _Event:
    client: Client
    body: dict[str, Any]


class PresenceHook:
    """``function`` is the hook; None if there is none. ``sent`` counts events, ``failures`` calls."""

    def __init__(
        self,
        function: Function | None,
        clock: Callable[[], datetime],
        *,
        timeout: float = _TIMEOUT,
        pauses: tuple[float, float] = (_FIRST_PAUSE, _LONGEST_PAUSE),
    ) -> None:
        self._clock = clock
        self._timeout = timeout
        self._first_pause, self._longest_pause = pauses
        self._queue: EventQueue[_Event] = EventQueue(*_MAX_WAITING)
        self._more = asyncio.Event()
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._failed = 0  # calls since the last one that succeeded
        self.sent = 0
        self.failures = 0
        self._function: Function | None = None
        self._call: RemoteCaller | None = None
        self.replace(function)

    @property
    def waiting(self) -> int:
        return self._queue.waiting

    @property
    def dropped(self) -> int:
        return self._queue.dropped

    def replace(self, function: Function | None) -> None:
        """Send to ``function`` from now on, also what waits. Without one, what waits is dropped."""
        if function != self._function:
            self._function = function
            self._call = RemoteCaller(function, function.url) if function is not None and function.url else None
            self._changed.set()
            self._more.set()

    # What sessions tell.

    def connected(self, of: ConnectionRecord) -> None:
        self._put("connected", of)

    def disconnected(self, of: ConnectionRecord, reason: DisconnectReason, why: str) -> None:
        self._put("disconnected", of, reason=reason, why=why)

    def refused(self, of: ConnectionRecord, rejected: Rejected) -> None:
        self._put("refused", of, reason=rejected.reason.name, why=rejected.why)

    def vanished(self, vanished: Sequence[Vanished]) -> None:
        """The process with these connections has ended."""
        for each in vanished:
            self._put("disconnected", of_vanished(each), reason="SERVER_ERROR", why="the process has ended")

    def _put(self, kind: Kind, of: ConnectionRecord, **further: str) -> None:
        if self._call is None:
            return
        client = Client(of.scope, of.client_id)
        facts = {
            "certificate": of.certificate,
            "thing": of.thing,
            "registry": of.registry,
            of.owner_kind or "device": of.owner,
            "address": of.address,
            **further,
        }
        body = {
            "id": str(uuid.uuid4()),
            "event": kind,
            "time": f"{self._clock():%Y-%m-%dT%H:%M:%S.%f}Z",
            "account": of.scope.account,
            "region": of.scope.region,
            "cloud": of.cloud,
            "client_id": of.client_id,
            "connection_id": of.id,
            **{name: value for name, value in facts.items() if value},
        }
        if self._queue.put(client, _Event(client, body), minor=kind == "refused"):
            self._more.set()

    # Sending.

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            batch = self._queue.take(_BATCH)
            if batch:
                await self._deliver(batch)
                for event in batch:
                    self._queue.settle(event.client)
                self._settled.set()
            else:
                self._more.clear()
                await self._more.wait()

    async def drain(self) -> None:
        """Wait until no event waits any more."""
        while self._queue.waiting:
            self._settled.clear()
            await self._settled.wait()

    async def _deliver(self, batch: Sequence[_Event]) -> None:
        """Return when the hook accepted the batch, or if there is no hook any more."""
        body = orjson.dumps({"events": [event.body for event in batch]})
        while (call := self._call) is not None:
            self._changed.clear()
            try:
                async with asyncio.timeout(self._timeout):
                    await call(body, _nothing)
            except TimeoutError:
                await self._pause(f"it took longer than {self._timeout:g} s")
            except CallFailed as error:
                await self._pause(error.why)
            except Exception as error:  # noqa: BLE001 - else the events would be lost
                await self._pause(f"an error of the server: {type(error).__name__}")
            else:
                self.sent += len(batch)
                if self._failed:
                    _log.info("presence_hook_works_again", failures=self._failed)
                self._failed = 0
                return

    async def _pause(self, why: str) -> None:
        self.failures += 1
        self._failed += 1
        if self._failed == 1:
            _log.warning("presence_hook_failing", why=why)
        longest = min(self._longest_pause, self._first_pause * 2 ** min(self._failed - 1, 20))
        try:
            async with asyncio.timeout(longest * (0.5 + random.random() / 2)):  # noqa: S311 - not a secret
                await self._changed.wait()
        except TimeoutError:
            pass


def _nothing() -> None:
    pass
