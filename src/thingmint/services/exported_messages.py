"""Finds the messages that data stream exports take, and queues them before the publisher gets its acknowledgement."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from thingmint.domain.yandex_topics import matches, parse_topic
from thingmint.services.export_queue import ExportMessage, QueueWriter
from thingmint.services.exports import EXPORTED_KINDS, list_exports, page_of_exports

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from thingmint.services.export_hooks import ExportHook, Hooks
    from thingmint.services.exports import DataStreamExport
    from thingmint.store.engine import PublishedChange, Store, Transaction

_WINDOW = 60.0  # seconds
_MAX_NOTED = 1000  # exports in a window

_log = structlog.get_logger("thingmint.exports")


class HookedExport(NamedTuple):
    """An export, and the hook of its stream."""

    export: DataStreamExport
    hook: ExportHook


class Exports:
    """The exports of streams that have hooks, in memory. Messages of other exports are not queued.

    A publish costs a registry without an export no more than a look into a dictionary.
    ``interruptions()`` counts the times that changes may have been missed; then all exports are read again.
    """

    def __init__(
        self,
        store: Store,
        hooks: Hooks,
        interruptions: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dropped = 0
        self._store = store
        self._hooks = hooks
        self._interruptions = interruptions
        self._clock = clock
        self._all: dict[str, DataStreamExport] = {}  # by registry
        self._hooked: dict[str, HookedExport] = {}  # by registry
        self._changed: set[str] = set()  # registries to read again
        self._read_at: int | None = None  # by ``interruptions``
        self._reading = asyncio.Lock()
        self._writer = QueueWriter(store, self._queued)
        self._followers: list[Callable[[str], None]] = []
        self._noted: dict[str, tuple[float, int]] = {}  # by export: the window's end, and how many were not logged

    @property
    def hooks(self) -> Hooks:
        return self._hooks

    def follow(self, follower: Callable[[str], None]) -> None:
        """Call ``follower`` with an export's id when its queue has new messages."""
        self._followers.append(follower)

    def replace_hooks(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._hooked = {}
        self._take(list(self._all.values()))

    def changed(self, changes: Sequence[PublishedChange]) -> None:
        """For the change feed."""
        self._changed.update(change.name for change in changes if change.kind == "export")

    def keep(self, registry: str, device: str, topic: str, payload: bytes) -> Awaitable[None] | None:
        """Implements MessageExports."""
        if self._is_old(registry):
            return self._keep_when_read(registry, device, topic, payload)
        found = self._hooked.get(registry)
        return self._put(found, device, topic, payload) if found is not None else None

    def with_hooks(self) -> Mapping[str, HookedExport]:
        """By the export's id."""
        return {each.export.id: each for each in self._hooked.values()}

    async def refresh(self) -> None:
        """Read the exports that changed, or all if changes may have been missed. Raises Unavailable."""
        async with self._reading:
            if self._read_at == self._interruptions() and not self._changed:
                return
            interruptions = self._interruptions()
            changed, self._changed = self._changed, set()
            try:
                if self._read_at != interruptions:
                    exports = await self._read_all()
                    changed |= self._all.keys()
                else:
                    exports = [each for registry in changed for each in await self._read(registry)]
            except BaseException:
                self._changed |= changed
                raise
            for registry in changed:
                self._all.pop(registry, None)
                self._hooked.pop(registry, None)
            self._take(exports)
            self._read_at = interruptions

    async def close(self) -> None:
        await self._writer.close()

    def _is_old(self, registry: str) -> bool:
        return self._read_at != self._interruptions() or registry in self._changed

    async def _keep_when_read(self, registry: str, device: str, topic: str, payload: bytes) -> None:
        while self._is_old(registry):
            await self.refresh()
        found = self._hooked.get(registry)
        put = self._put(found, device, topic, payload) if found is not None else None
        if put is not None:
            await put

    def _put(self, found: HookedExport, device: str, topic: str, payload: bytes) -> Awaitable[None] | None:
        if not _takes(found.export.topic_filter, topic):
            return None
        return self._writer.put(found.export.id, ExportMessage(device, topic, payload), found.hook.queue_bytes)

    async def _read_all(self) -> list[DataStreamExport]:
        exports: list[DataStreamExport] = []
        while page := await self._store.read(partial(page_of_exports, after=exports[-1].id if exports else "")):
            exports += page
        return exports

    async def _read(self, registry: str) -> Sequence[DataStreamExport]:
        async def body(tx: Transaction) -> Sequence[DataStreamExport]:
            return await list_exports(tx, registry)

        return await self._store.read(body)

    def _take(self, exports: Sequence[DataStreamExport]) -> None:
        """Log each stream without a hook, with one of its exports."""
        hookless = {}
        for export in exports:
            stream = (export.database, export.stream)
            hook = self._hooks.get(stream)
            self._all[export.registry] = export
            if hook is not None:
                self._hooked[export.registry] = HookedExport(export, hook)
            else:
                hookless[stream] = {"export": export.id, "registry": export.registry}
        for (database, stream_name), about in hookless.items():
            _log.warning("data_stream_export_without_hook", **about, database=database, stream=stream_name)

    def _queued(self, export: str, dropped: int) -> None:
        if dropped:
            self.dropped += dropped
            self._note_dropped(export, dropped)
        for follower in self._followers:
            follower(export)

    def _note_dropped(self, export: str, dropped: int) -> None:
        """Log the first drop of a window; the next line counts the others, too."""
        now = self._clock()
        ends, before = self._noted.get(export, (now, 0))
        if now < ends:
            self._noted[export] = ends, before + dropped
            return
        if len(self._noted) >= _MAX_NOTED:
            self._noted.clear()
        self._noted[export] = now + _WINDOW, 0
        _log.warning("export_messages_dropped", export=export, messages=before + dropped)


def _takes(filter: str, canonical: str) -> bool:
    topic = parse_topic(canonical)
    return topic is not None and topic.kind in EXPORTED_KINDS and (not filter or matches(filter, canonical))
