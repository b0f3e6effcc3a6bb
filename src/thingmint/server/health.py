"""Checks the health of the server: its store, broker, audit log, certificates, disk and backups."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509

from thingmint import __version__
from thingmint.domain.errors import Unavailable
from thingmint.services.certificates import utc_now
from thingmint.services.health import Check, Health
from thingmint.store.audit import STREAMS, unsealed_records
from thingmint.store.disk_reserve import free_bytes
from thingmint.store.table import from_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from thingmint.instance.create import Instance
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.services.change_feed import ChangeFeed
    from thingmint.services.health import State
    from thingmint.services.jobs import JobRunner
    from thingmint.store.engine import Reader, Transaction
    from thingmint.tls import ListenerTLS

_MEGABYTE = 1024 * 1024
_DISK = (100 * _MEGABYTE, 1024 * _MEGABYTE)  # bytes: an error with less, a warning with less
_SEALED = (timedelta(minutes=10), timedelta(minutes=1))  # not sealed for longer: an error, a warning
_LISTENERS = (timedelta(days=1), timedelta(days=7))  # less is left
_AUTHORITIES = (timedelta(days=30), timedelta(days=180))
_BACKUP = timedelta(days=2)  # a warning if it is older
_NO_BACKUP = (
    "The server knows of no backup. A backup script reports one when it changes the time of the file last-backup in "
    "the data directory (touch last-backup)."
)
_CLIENTS = {"api": "HTTPS", "grpc": "gRPC", "mqtt": "MQTT"}


@dataclass(slots=True)
class ServerHealth:
    """Makes the report. Parts that are None are not checked: without a server, there is only the store."""

    instance: Instance
    tls: ListenerTLS | None = None
    broker: Broker | None = None
    feed: ChangeFeed | None = None
    jobs: JobRunner | None = None
    lost: Callable[[], int] | None = None  # audit records
    clock: Callable[[], datetime] = utc_now

    async def __call__(self) -> Health:
        now = self.clock()
        checks = [self._store(), await self._audit(now), self._authorities(now), self._disk(), self._backup(now)]
        if self.broker is not None:
            trouble = self.broker.trouble
            problem = f"Devices are refused: the broker cannot be used: {trouble}"
            ok = Check("broker", "ok", "The broker can be used.")
            checks.append(ok if trouble is None else _error("broker", problem))
        if self.feed is not None:
            problem = "Changes by other processes cannot be followed, so no device can connect, send or receive."
            ok = Check("changes", "ok", "Changes in the database are followed.")
            checks.append(_error("changes", problem) if self.feed.stale else ok)
        if self.tls is not None:
            checks.append(self._listeners(now, self.tls))
        if self.jobs is not None:
            checks.append(_jobs(self.jobs))
        return Health(now, __version__, checks)

    def _store(self) -> Check:
        store = self.instance.store
        if store.ready:
            return Check("store", "ok", "The database accepts changes.", {"retries": store.retries})
        return _error("store", f"Changes are refused: {store.trouble}")

    async def _audit(self, now: datetime) -> Check:
        if self.lost is not None and (lost := self.lost()):
            return _error("audit", f"{lost} audit records were lost: they waited for the database for too long.")
        try:
            since = await _oldest_unsealed(self.instance.store)
        except Unavailable as error:
            return _error("audit", f"The audit log cannot be read: {error}")
        until = since or now
        age = now - until
        state: State = "error" if age > _SEALED[0] else "warning" if age > _SEALED[1] else "ok"
        return Check("audit", state, f"The audit log is sealed up to {_shown(until)}.", {"sealed_until": until})

    def _authorities(self, now: datetime) -> Check:
        directory = self.instance.directory
        roots = _roots((directory.ca, directory.device_ca))
        return _ends("authorities", now, _AUTHORITIES, roots, lambda file: f"The root certificate in {file}")

    def _listeners(self, now: datetime, tls: ListenerTLS) -> Check:
        ends = ((f"{listener} ({name})", end) for listener, name, end in tls.ends())
        return _ends("listeners", now, _LISTENERS, ends, _clients_of)

    def _disk(self) -> Check:
        directory = self.instance.directory
        free = free_bytes(directory.root)
        state: State = "error" if free < _DISK[0] else "warning" if free < _DISK[1] else "ok"
        message = f"{_size(free)} are free on the disk of the data directory."
        return Check("disk", state, message, {"free_bytes": free, "reserve_held": int(directory.disk_reserve.exists())})

    def _backup(self, now: datetime) -> Check:
        """The time of the last backup is that of the file ``last-backup``, which the operator's script touches."""
        try:
            made = datetime.fromtimestamp(self.instance.directory.last_backup.stat().st_mtime, UTC)
        except (OSError, OverflowError, ValueError):
            return Check("backup", "unknown", _NO_BACKUP)
        state: State = "warning" if now - made > _BACKUP else "ok"
        return Check("backup", state, f"The last backup was made at {_shown(made)}.", {"made_at": made})


def _jobs(jobs: JobRunner) -> Check:
    facts = {"waiting": jobs.waiting, "failing": jobs.failing}
    if not jobs.failing:
        return Check("jobs", "ok", "No background job has failed.", facts)
    return Check("jobs", "warning", f"{jobs.failing} background jobs failed at their last run: see the log.", facts)


def _error(name: str, message: str) -> Check:
    return Check(name, "error", message)


def _ends(
    name: str,
    now: datetime,
    limits: tuple[timedelta, timedelta],
    ends: Iterable[tuple[str, datetime]],
    words: Callable[[str], str],
) -> Check:
    """The check of certificates; the message is about the one that ends first, named by ``words``."""
    by_end = sorted(ends, key=lambda each: each[1])
    if not by_end:
        return Check(name, "unknown", "No certificate can be read.")
    first, end = by_end[0]
    left = end - now
    state: State = "error" if left < limits[0] else "warning" if left < limits[1] else "ok"
    verb = "ended" if left < timedelta() else "ends"
    return Check(name, state, f"{words(first)} {verb} at {_shown(end)}.", dict(by_end))


def _clients_of(shown: str) -> str:
    """The certificate of a listener by the clients that see it: ``shown`` is such as ``api (*)``."""
    listener, _, name = shown.removesuffix(")").partition(" (")
    names = "" if name == "*" else f" of {name}"
    return f"The certificate that {_CLIENTS.get(listener, listener)} clients{names} see"


def _size(count: int) -> str:
    """A number of bytes in GB, or in MB if it is small."""
    return f"{count / 10**9:,.1f} GB" if count >= 10**9 else f"{count / 10**6:,.0f} MB"


def _roots(paths: Iterable[Path]) -> Iterator[tuple[str, datetime]]:
    for path in paths:
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError):
            continue
        yield path.name, certificate.not_valid_after_utc


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


async def _oldest_unsealed(store: Reader) -> datetime | None:
    """The time of the oldest audit record that is not sealed; None if all are."""

    async def body(tx: Transaction) -> list[str]:
        return [row.id for stream in STREAMS for row in await unsealed_records(tx, 1, stream)]

    found = await store.read(body)
    return min((from_micros(int(id[:16], 16)) for id in found), default=None)  # an id begins with the microsecond
