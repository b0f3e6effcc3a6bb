"""How many devices are connected to all processes on the database, and that something changed, for pages that follow.

Each process knows its own connections. About once a second it publishes the counts that changed, in one row for many
accounts, and every minute all of them. The others keep the last count of each process that runs. Nothing is stored.

What changed has a name. ``name_of`` also tells the session or the certificate, for pages that show only that one.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import orjson
import structlog

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Unavailable
from thingmint.services.leases import PROCESS
from thingmint.store.outbox import publish_change

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from datetime import datetime

    from thingmint.services.leases import LeaseKeeper
    from thingmint.store.engine import PublishedChange, Store

CONNECTIONS = "connections"
REFUSALS = "refusals"
CERTIFICATES = "certificates"
_ANY = "*"
_MAX_NAMES = 20  # of an account and region, in a row to other processes
_LONGEST_SUBJECT = 128
_PUBLISH_EVERY = 1.0  # seconds
_ALL_EVERY = 60.0  # seconds
_FORGET_AFTER = 3 * _ALL_EVERY  # seconds after the last row of a process
_AT_ONCE = 200  # accounts in one row
_EVERYWHERE = Scope("", "")

_log = structlog.get_logger("thingmint.connections")


def name_of(name: str, subject: str) -> str:
    """The name of a change of one session, by its name, or of one certificate."""
    return f"{name} {subject}"


def names_about(name: str, subject: str) -> tuple[str, str]:
    """The names of the changes that can be about a session or a certificate: its own, and that of very many."""
    return name_of(name, subject), name_of(name, _ANY)


@dataclass(frozen=True, slots=True)
class Publishing:
    """What is needed if several processes share the store. ``process`` is the name of this one."""

    store: Store
    process: str
    leases: LeaseKeeper
    clock: Callable[[], datetime]


@dataclass(slots=True)
class LiveChanges:
    """``local`` returns the number of this process's connections of an account and region.

    ``scopes`` returns all accounts and regions that have any. Without ``publishing`` there is no other process.
    """

    local: Callable[[Scope], int]
    scopes: Callable[[], Iterable[Scope]]
    publishing: Publishing | None = None
    monotonic: Callable[[], float] = time.monotonic
    _followers: list[Callable[[Scope, str], None]] = field(default_factory=list)
    _noted: dict[Scope, set[str]] = field(default_factory=dict)
    _counts: dict[Scope, dict[str, int]] = field(default_factory=dict)  # of other processes
    _received: dict[str, float] = field(default_factory=dict)

    def count(self, scope: Scope) -> int:
        """How many devices of an account and region are connected."""
        others = self._counts.get(scope, {})
        return self.local(scope) + sum(count for process, count in others.items() if self._runs(process))

    def follow(self, follower: Callable[[Scope, str], None]) -> None:
        """Calls ``follower``, which must be fast, with the scope and the name of each later change in any process."""
        self._followers.append(follower)

    def note(self, name: str, scope: Scope, subject: str = "") -> None:
        """Something changed in this process. ``name`` is one of a few. ``subject`` is the name of a session."""
        names = (name, name_of(name, subject)) if subject else (name,)
        if self.publishing is not None:
            self._keep(scope, names)
        for each in names:
            self._tell(scope, each)

    def changed(self, changes: Sequence[PublishedChange]) -> None:
        """Takes what other processes published. Follows the change feed."""
        for change in changes:
            if change.kind == "live" and self.publishing is not None:
                process, rows = orjson.loads(change.name)
                if process == self.publishing.process:
                    continue
                self._received[process] = self.monotonic()
                if rows is None:
                    self._note_all()  # the process has started
                    continue
                for account, region, count, names in rows:
                    self._take(process, Scope(account, region), count, names)

    async def run(self) -> None:
        """Publishes until cancelled."""
        if self.publishing is None:
            await asyncio.Event().wait()
            return
        await self._publish([None])
        all_at = self.monotonic()
        while True:
            await asyncio.sleep(_PUBLISH_EVERY)
            if self.monotonic() >= all_at + _ALL_EVERY:
                all_at = self.monotonic()
                self._note_all()
                self._forget()
            await self.flush()

    async def flush(self) -> None:
        """Publishes what was noted. What the store does not accept waits for the next time."""
        rows: list[list[tuple[str, str, int, list[str]]]] = []
        while some := list(islice(self._noted, _AT_ONCE)):
            noted = {scope: self._noted.pop(scope) for scope in some}
            rows.append([(*scope, self.local(scope), sorted(names)) for scope, names in noted.items()])
        if rows and not await self._publish(rows):
            for account, region, _, names in (row for some in rows for row in some):
                self._keep(Scope(account, region), names)

    async def _publish(self, rows: Sequence[object]) -> bool:
        """False if the store did not accept it."""
        assert self.publishing is not None
        store, process, clock = self.publishing.store, self.publishing.process, self.publishing.clock
        try:
            for each in rows:
                text = orjson.dumps([process, each]).decode()
                await store.write(partial(publish_change, scope=_EVERYWHERE, kind="live", name=text, now=clock()))
        except Unavailable as error:
            _log.warning("connection_counts_not_published", error=str(error))
            return False
        return True

    def _keep(self, scope: Scope, names: Iterable[str]) -> None:
        """Keeps names until they are published; of many subjects, only that there are many."""
        kept = self._noted.setdefault(scope, set())
        kept.update(names)
        longest = _LONGEST_SUBJECT if len(kept) <= _MAX_NAMES else 0
        for each in [each for each in kept if len(each.partition(" ")[2]) > longest]:
            kept.remove(each)
            kept.add(name_of(each.partition(" ")[0], _ANY))

    def _note_all(self) -> None:
        for scope in self.scopes():
            self._noted.setdefault(scope, set())

    def _take(self, process: str, scope: Scope, count: int, names: Collection[str]) -> None:
        known = self._counts.setdefault(scope, {})
        before = known.pop(process, 0)
        if count:
            known[process] = count
        if not known:
            del self._counts[scope]
        for name in {*names, CONNECTIONS} if count != before else names:
            self._tell(scope, name)

    def _tell(self, scope: Scope, name: str) -> None:
        for follower in self._followers:
            follower(scope, name)

    def _runs(self, process: str) -> bool:
        """False if the process has ended, as far as this one knows."""
        assert self.publishing is not None
        return self.publishing.leases.runs(PROCESS + process, float("-inf")) is not False

    def _forget(self) -> None:
        """Forgets the processes that have ended."""
        now = self.monotonic()
        gone = {each for each, at in self._received.items() if at + _FORGET_AFTER < now or not self._runs(each)}
        for scope in list(self._counts) if gone else ():
            kept = {process: count for process, count in self._counts[scope].items() if process not in gone}
            self._counts[scope] = kept
            if not kept:
                del self._counts[scope]
        for process in gone:
            del self._received[process]
