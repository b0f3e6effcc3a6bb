"""Sends the queues of data stream exports to their hooks: at least once, and in the order in which they were queued.

If several processes share a database, the process with the lease sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from functools import partial
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.services.export_hooks import HookClients, NotAccepted
from thingmint.services.export_queue import QueueState, first_messages, queues_to_send, remove_sent
from thingmint.services.leases import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from typing import Any

    from thingmint.services.export_queue import NumberedMessage
    from thingmint.services.exported_messages import Exports, HookedExport
    from thingmint.services.leases import LeasedStore

EXPORTS_LEASE = "exports"
"""The name of the lease of the process that sends."""

_LOOK_EVERY = 1.0  # seconds: for messages that other processes queued, and for changed exports
_CHECK_LEASE_EVERY = 0.5  # seconds, during a call
_FIRST_PAUSE = 0.5  # seconds after a failure; it doubles with each further one
_LONGEST_PAUSE = 60.0

_log = structlog.get_logger("thingmint.exports")


class ExportSender:
    """``sent`` and ``failures`` count messages and calls; ``waiting`` is the state of the queues at the last look."""

    def __init__(
        self,
        store: LeasedStore,
        exports: Exports,
        clients: HookClients | None = None,
        *,
        jitter: Callable[[], float] = random.random,
        pauses: tuple[float, float] = (_FIRST_PAUSE, _LONGEST_PAUSE),
    ) -> None:
        self.sent = 0
        self.failures = 0
        self.waiting: Mapping[str, QueueState] = {}
        self.store = store
        self._exports = exports
        self.clients = clients or HookClients()
        self._jitter = jitter
        self._first_pause, self._longest_pause = pauses
        self._deliveries: dict[str, _Delivery] = {}  # by export; each ends when its queue is empty
        self._hooked: Mapping[str, HookedExport] = {}
        exports.follow(self.queued)

    @property
    def failing(self) -> int:
        """The number of exports whose last call failed."""
        return sum(delivery.failures > 0 for delivery in self._deliveries.values())

    def queued(self, export: str) -> None:
        """Send soon: the export's queue has new messages."""
        delivery = self._deliveries.get(export)
        if delivery is not None:
            delivery.more.set()
        elif export in self._hooked and self.store.held:
            self._start(self._hooked[export])

    def pause(self, failures: int) -> float:
        """Seconds to wait after so many failures."""
        longest: float = min(self._longest_pause, self._first_pause * 2 ** min(failures - 1, 20))
        return longest * (0.5 + self._jitter() / 2)

    def forget(self, delivery: _Delivery) -> bool:
        """The delivery ends, so that the next message begins a new one. Returns False."""
        self._ended(delivery.of.export.id, delivery)
        return False

    async def run(self) -> None:
        """Send until cancelled."""
        failing = False
        try:
            while True:
                try:
                    await self.look()
                    failing = False
                except Unavailable as error:
                    if not failing:
                        _log.warning("exports_wait_for_the_store", error=str(error))
                    failing = True
                await asyncio.sleep(_LOOK_EVERY)
        finally:
            await self._stop(list(self._deliveries))
            await self.clients.keep_only({})

    async def look(self) -> None:
        """Follow changed exports and hooks, and begin to send the queues that have messages. Raises Unavailable."""
        await self._exports.refresh()
        self._hooked = self._exports.with_hooks()
        if not self.store.held:
            self.waiting = {}
            await self._stop(list(self._deliveries))
            return
        changed = [id for id, each in self._deliveries.items() if self._hooked.get(id) != each.of]
        await self._stop(changed)
        await self.clients.keep_only(self._exports.hooks)
        self.waiting = await self.store.read(queues_to_send) if self._hooked else {}
        for export in self.waiting.keys() & self._hooked.keys():
            self.queued(export)

    def _start(self, hooked: HookedExport) -> None:
        delivery = _Delivery(hooked, self)
        export = hooked.export.id
        self._deliveries[export] = delivery
        delivery.task = asyncio.create_task(delivery.run())
        delivery.task.add_done_callback(lambda _: self._ended(export, delivery))

    def _ended(self, export: str, delivery: _Delivery) -> None:
        if self._deliveries.get(export) is delivery:
            del self._deliveries[export]

    async def _stop(self, exports: Sequence[str]) -> None:
        tasks = [task for export in exports if (task := self._deliveries.pop(export).task) is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class _Delivery:
    """Sends one export's queue until it is empty. ``more`` is set when the queue has new messages."""

    def __init__(self, of: HookedExport, sender: ExportSender) -> None:
        self.of = of
        self.more = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.failures = 0
        """Of calls, since the last one that succeeded."""
        self._sender = sender
        self._oldest = 0
        self._oldest_since = 0.0

    async def run(self) -> None:
        try:
            while await self._step():
                pass
        except LeaseLost:
            pass
        except Exception:  # noqa: BLE001 - the next look begins again
            _log.exception("export_not_sent", **self._about())

    async def _step(self) -> bool:
        """Send a batch, or wait until there is one. False if the queue is empty."""
        hook, store = self.of.hook, self._sender.store
        self.more.clear()
        try:
            messages = await store.read(partial(first_messages, export=self.of.export.id, limit=hook.batch))
        except Unavailable:  # the sender's look logs it
            await asyncio.sleep(_LOOK_EVERY)
            return True
        if not messages:
            # A later message begins a new delivery: nothing is awaited from here to its end.
            return self.more.is_set() or self._sender.forget(self)
        left = self._time_left(messages[0].number) if len(messages) < hook.batch else 0.0
        if left > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self.more.wait()
            return True
        try:
            await self._while_held(self._sender.clients.post(hook, self.of.export, messages))
        except NotAccepted as error:
            await self._failed(str(error))
        else:
            await self._accepted(messages)
        return True

    def _time_left(self, oldest: int) -> float:
        """Seconds until a batch that begins with that message is sent although it is not full."""
        now = time.monotonic()
        if oldest != self._oldest:
            self._oldest, self._oldest_since = oldest, now
        return self._oldest_since + self.of.hook.cutoff - now

    async def _failed(self, why: str) -> None:
        self.failures += 1
        self._sender.failures += 1
        if self.failures == 1:
            _log.warning("data_stream_export_failing", **self._about(), why=why)
        await asyncio.sleep(self._sender.pause(self.failures))

    async def _accepted(self, messages: Sequence[NumberedMessage]) -> None:
        if self.failures:
            _log.info("data_stream_export_works_again", **self._about(), failures=self.failures)
        self.failures = 0
        self._sender.sent += len(messages)
        body = partial(remove_sent, export=self.of.export.id, number=messages[-1].number)
        while True:
            try:
                await self._sender.store.write(body)
                return
            except Unavailable:  # do not send the batch again because of this
                await asyncio.sleep(_LOOK_EVERY)

    async def _while_held(self, call: Coroutine[Any, Any, None]) -> None:
        """Await the call, and end it when this process has lost the lease: another one sends then. Raises LeaseLost."""
        task = asyncio.create_task(call)
        try:
            while not task.done():
                if not self._sender.store.held:
                    raise LeaseLost(EXPORTS_LEASE)
                await asyncio.wait({task}, timeout=_CHECK_LEASE_EVERY)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        task.result()

    def _about(self) -> dict[str, str]:
        export = self.of.export
        return {
            "export": export.id,
            "registry": export.registry,
            "database": export.database,
            "stream": export.stream,
        }
