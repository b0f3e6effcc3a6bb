"""Leases: select one of several processes for work that only one process at a time must do.

A lease is a row that its holder changes every second. Another process takes the lease when the row has not changed for
a whole period, measured by that process's monotonic clock, while it could read the row all the time. Wall clocks of
hosts differ: a host whose clock is a minute ahead would take every lease from healthy holders. A holder stops by its
own monotonic clock, one period after it began its last renewal. No other process can have taken the lease by then.

A stalled process may not have noticed that its lease expired. So each write as the holder also reads the lease's epoch
in the same transaction, and changes nothing if another process has the lease.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TypeVar

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.store.engine import StoreWrapper
from thingmint.store.table import Table, record, to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from thingmint.store.engine import Body, Reader, Store, Transaction

T = TypeVar("T")

RENEW_EVERY = 1.0  # seconds
PROCESS = "process:"
"""Each running process has a lease whose name is this prefix and the name of the process."""
PERIOD = 4.0  # seconds without a change, until a lease is taken over
_MAX_GAP = PERIOD / 2  # seconds between two reads; after a longer gap, all leases count as changed in the meantime
_CLOCKS_AGREE = 5.0  # seconds; with a larger difference, processes may find each other's changes late

_log = structlog.get_logger("thingmint.leases")


class LeaseLost(Exception):
    """This process does not have the lease (any more). Nothing was changed."""


@record
class Lease:
    name: str
    holder: str
    epoch: int
    expires_at: int


LEASES = Table(Lease, "leases", "lease", key=("name",))

_ALL = f"{LEASES.select}ORDER BY name"
_RENEW = "UPDATE leases SET expires_at = $1 WHERE name = $2 AND holder = $3 AND epoch = $4"
_TAKE = (
    "UPDATE leases SET holder = $1, epoch = epoch + 1, expires_at = $2 "
    "WHERE name = $3 AND epoch = $4 AND expires_at = $5"
)
_RELEASE = "UPDATE leases SET holder = '' WHERE name = $1 AND holder = $2 AND epoch = $3"
_IS_CURRENT = "SELECT 1 FROM leases WHERE name = $1 AND holder = $2 AND epoch = $3"


class Holder(Protocol):
    """A process as the holder of leases."""

    def holds(self, name: str) -> bool: ...

    async def still_holds(self, tx: Transaction, name: str) -> bool:
        """True if this process has the lease until the transaction ends."""
        ...


class SoleHolder:
    """The only process on its store. It has every lease, at no cost."""

    def holds(self, name: str) -> bool:
        del name
        return True

    async def still_holds(self, tx: Transaction, name: str) -> bool:
        del tx, name
        return True


class LeaseKeeper:
    """Takes the leases in ``names`` for this process when they are free, and renews them.

    ``process`` is a unique name; it must differ from the name before a restart.
    """

    def __init__(
        self,
        store: Store,
        process: str,
        names: Sequence[str],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.process = process
        self._store = store
        self._names = names
        self._clock = clock
        self._monotonic = monotonic
        self._held: dict[str, Lease] = {}
        self._good_until = 0.0  # for all held leases
        self._unchanged: dict[str, tuple[Lease, float]] = {}  # other processes' leases, and when first read unchanged
        self._looked_at = 0.0
        self._is_read = False  # True while ``_unchanged`` has all leases of other processes
        self._times_taken: Counter[str] = Counter()
        self._differing: set[str] = set()  # processes whose clocks are far from this one's

    def holds(self, name: str) -> bool:
        return name in self._held and self._monotonic() < self._good_until

    def times_taken(self, name: str) -> int:
        """Return how often this process has taken the lease: more than once if it lost the lease in between."""
        return self._times_taken[name]

    def gone(self, prefix: str) -> list[Lease]:
        """Return other processes' leases that begin with ``prefix`` and are not renewed any more."""
        seen = [(lease, at) for name, (lease, at) in self._unchanged.items() if name.startswith(prefix)]
        return [lease for lease, at in seen if not lease.holder or self._looked_at - at >= PERIOD]

    def others(self, prefix: str) -> list[str]:
        """Return the holders of other processes' leases that begin with ``prefix`` and are renewed."""
        gone = {lease.name for lease in self.gone(prefix)}
        known = (lease for name, (lease, _) in self._unchanged.items() if name.startswith(prefix) and name not in gone)
        return [lease.holder for lease in known]

    def runs(self, name: str, since: float) -> bool | None:
        """True if another process renewed its lease after ``since`` (monotonic time), False if it has ended.

        None if that is not known yet.
        """
        if not self._is_read:
            return None
        known = self._unchanged.get(name)
        if known is None or not known[0].holder or self._looked_at - known[1] >= PERIOD:
            return False
        return True if known[1] > since else None

    async def still_holds(self, tx: Transaction, name: str) -> bool:
        held = self._held.get(name)
        return held is not None and await tx.fetch_one(_IS_CURRENT, name, self.process, held.epoch) is not None

    async def run(self) -> None:
        """Take and renew leases until cancelled."""
        failing = False
        while True:
            try:
                await self.turn()
                failing = False
            except Unavailable as error:
                # After a gap in reading, all leases count as changed, so that none is taken over because of the gap.
                self._unchanged.clear()
                self._is_read = False
                if not failing:
                    _log.warning("leases_wait_for_the_store", error=str(error))
                failing = True
            await asyncio.sleep(RENEW_EVERY)

    async def turn(self) -> None:
        """Renew the held leases, read the others, and take the free ones. Raises Unavailable."""
        began = self._monotonic()
        await self._renew()
        leases = {lease.name: lease for lease in await self._store.read(_all)}
        seen_at = self._monotonic()
        if seen_at - self._looked_at > _MAX_GAP:
            self._unchanged.clear()
        self._looked_at = seen_at
        self._unchanged = {name: known for name, known in self._unchanged.items() if name in leases}
        free = [name for name, lease in leases.items() if name not in self._held and self._is_free(lease, seen_at)]
        self._is_read = True
        for name in self._names:
            if name not in self._held and (name in free or name not in leases):
                await self._take(name, leases.get(name))
        self._good_until = began + PERIOD

    async def release(self) -> None:
        """Release all leases, so that other processes need not wait for a period. Raises Unavailable."""
        held, self._held = self._held, {}

        async def body(tx: Transaction) -> None:
            for lease in held.values():
                await tx.execute(_RELEASE, lease.name, lease.holder, lease.epoch)

        if held:
            await self._store.write(body)
            _log.info("leases_released", leases=sorted(held), process=self.process)

    async def _renew(self) -> None:
        if not self._held:
            return
        renewed = [replace(lease, expires_at=self._expiry(lease)) for lease in self._held.values()]

        async def body(tx: Transaction) -> list[Lease]:
            return [
                lease
                for lease in renewed
                if await tx.execute(_RENEW, lease.expires_at, lease.name, lease.holder, lease.epoch)
            ]

        kept = {lease.name: lease for lease in await self._store.write(body)}
        for lost in self._held.keys() - kept.keys():
            _log.error("lease_lost", lease=lost, process=self.process)
        self._held = kept

    def _is_free(self, lease: Lease, seen_at: float) -> bool:
        known = self._unchanged.get(lease.name)
        if known is None or known[0] != lease:
            self._unchanged[lease.name] = (lease, seen_at)
            if known is not None and known[0].epoch == lease.epoch:
                self._compare_clocks(lease)
            return not lease.holder
        return not lease.holder or seen_at - known[1] >= PERIOD

    def _compare_clocks(self, renewed: Lease) -> None:
        """Compare the clock with that of a process that has just renewed its lease, and log a large difference."""
        ahead = (renewed.expires_at - to_micros(self._clock())) / 1_000_000 - PERIOD
        differs = abs(ahead) > _CLOCKS_AGREE
        if differs and renewed.holder not in self._differing:
            _log.warning("clocks_differ", process=self.process, other=renewed.holder, seconds_ahead=round(ahead, 1))
        (self._differing.add if differs else self._differing.discard)(renewed.holder)

    async def _take(self, name: str, former: Lease | None) -> None:
        if former is None:
            taken = Lease(name, self.process, 1, to_micros(self._clock() + timedelta(seconds=PERIOD)))
            is_ours = await self._store.write(lambda tx: LEASES.insert(tx, taken))
        else:
            taken = Lease(name, self.process, former.epoch + 1, self._expiry(former))
            seen = (name, former.epoch, former.expires_at)
            is_ours = await self._store.write(lambda tx: tx.execute(_TAKE, self.process, taken.expires_at, *seen)) == 1
        if is_ours:
            self._unchanged.pop(name, None)
            self._held[name] = taken
            self._times_taken[name] += 1
            before = former.holder if former is not None else ""
            _log.info("lease_taken", lease=name, process=self.process, epoch=taken.epoch, taken_from=before or None)

    def _expiry(self, before: Lease) -> int:
        """Return a new expiry, later than the one before even if the clock was set back."""
        return max(to_micros(self._clock() + timedelta(seconds=PERIOD)), before.expires_at + 1)


async def running_processes(store: Reader) -> list[str]:
    """Return the processes that renew their leases. If there are none, this takes a whole period."""
    before, until = await store.read(_all), time.monotonic() + PERIOD
    while any(_is_a_process(lease) for lease in before) and time.monotonic() < until:
        await asyncio.sleep(RENEW_EVERY / 4)
        renewed = [lease for lease in await store.read(_all) if lease not in before]
        if running := [lease.holder for lease in renewed if _is_a_process(lease)]:
            return running
    return []


def _is_a_process(lease: Lease) -> bool:
    return lease.name.startswith(PROCESS) and lease.holder != ""


async def _all(tx: Transaction) -> list[Lease]:
    return [LEASES.load(row) for row in await tx.fetch_all(_ALL)]


class LeasedStore(StoreWrapper):
    """A Store that writes only while this process has the lease ``name``; otherwise writes raise LeaseLost."""

    def __init__(self, store: Store, holder: Holder, name: str) -> None:
        super().__init__(store)
        self._holder = holder
        self._name = name

    @property
    def held(self) -> bool:
        return self._holder.holds(self._name)

    async def still_held(self, tx: Transaction) -> bool:
        return await self._holder.still_holds(tx, self._name)

    async def write(self, body: Body[T], *, urgent: bool = False, once: bool = False) -> T:
        if not self.held:
            raise LeaseLost(self._name)

        async def fenced(tx: Transaction) -> T:
            if not await self.still_held(tx):
                raise LeaseLost(self._name)
            return await body(tx)

        return await self._store.write(fenced, urgent=urgent, once=once)
