"""When devices were last connected with a certificate.

Connections and their ends are written in batches, within _FLUSH_EVERY seconds. While a connection stays open, the time
is brought up to date every _TOUCH_EVERY seconds, so nothing is written per message. A process that is killed loses the
last batch.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import asyncio
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.store.key_lists import FIRST_FURTHER, KeyList
from thingmint.store.table import fingerprint_bytes, from_micros, id_of, to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.store.engine import Fetcher, Store, Transaction

_FLUSH_EVERY = 5.0  # seconds
_TOUCH_EVERY = 3600.0  # seconds
_ROWS_AT_ONCE = 200
_MAX_WAITING = 100_000  # certificates whose activity is not stored yet

_THIS = "account = $1 AND region = $2 AND certificate"
_LATER = "CASE WHEN excluded.{0} > certificate_activity.{0} THEN excluded.{0} ELSE certificate_activity.{0} END"
_OF_LAST = (
    "CASE WHEN excluded.connected_at >= certificate_activity.connected_at THEN excluded.{0} "
    "ELSE certificate_activity.{0} END"
)
_TIMES = ("connected_at", "disconnected_at", "seen_at")
_SETS = [f"{name} = {_OF_LAST.format(name)}" for name in ("client_id", "address")]
_SETS += [f"{name} = {_LATER.format(name)}" for name in _TIMES]
_STORE = (
    f"INSERT INTO certificate_activity (certificate, account, region, client_id, address, {', '.join(_TIMES)}) "
    "SELECT r.certificate, r.account, r.region, CAST($4 AS TEXT), CAST($5 AS TEXT), CAST($6 AS BIGINT), "
    f"CAST($7 AS BIGINT), CAST($8 AS BIGINT) FROM registrations AS r "
    f"WHERE r.account = $1 AND r.region = $2 AND r.certificate = {id_of('$3')} "
    f"ON CONFLICT (certificate, account, region) DO UPDATE SET {', '.join(_SETS)}"
)
_READ = KeyList(
    # CROSS JOIN: SQLite begins with the certificates. Otherwise it reads all rows of the account.
    "SELECT c.fingerprint, a.client_id, a.address, a.connected_at, a.disconnected_at, a.seen_at "
    "FROM certificates AS c CROSS JOIN certificate_activity AS a WHERE a.certificate = c.id "
    f"AND c.fingerprint IN ({{keys}}) AND a.account = ${FIRST_FURTHER} AND a.region = ${FIRST_FURTHER + 1}"
)
_DELETE = f"DELETE FROM certificate_activity WHERE {_THIS} = $3"

_log = structlog.get_logger("thingmint.certificates")


class LastSeen(NamedTuple):
    """The last connections with a certificate.

    ``client_id`` and ``address`` are those of the last one; an address is empty if not known. ``disconnected_at`` is
    None if no connection has ended yet. ``seen_at`` is the later of the two times, or a time at most an hour ago at
    which a device was still connected.
    """

    client_id: str
    address: str
    connected_at: datetime | None
    disconnected_at: datetime | None
    seen_at: datetime


class _Activity(NamedTuple):
    client_id: str
    address: str
    connected_at: int
    disconnected_at: int
    seen_at: int

    def merged(self, newer: _Activity) -> _Activity:
        last = newer if newer.connected_at >= self.connected_at else self
        return _Activity(last.client_id, last.address, *map(max, self[2:], newer[2:]))


async def read_last_seen(fetcher: Fetcher, scope: Scope, fingerprints: Sequence[str]) -> dict[str, LastSeen]:
    """Return what is stored, by fingerprint. Certificates that never connected are left out."""
    keys = [fingerprint_bytes(each) for each in fingerprints]
    return {row[0].hex(): _last_seen(_Activity(*row[1:])) for row in await _READ.fetch(fetcher, keys, *scope)}


def _last_seen(activity: _Activity) -> LastSeen:
    times = [from_micros(micros) if micros else None for micros in activity[2:4]]
    return LastSeen(activity.client_id, activity.address, times[0], times[1], from_micros(activity.seen_at))


async def delete_certificate_activity(tx: Transaction, key: tuple[str, str, int]) -> None:
    """Call when a registration is deleted. ``key`` is the registration's."""
    await tx.execute(_DELETE, *key)


_Key = tuple[str, str, str]
"""Account, region, fingerprint."""


class CertificateActivity:
    """Notes the connections of this process, and stores them in batches.

    ``open_connections`` returns the account, region and fingerprint of each open connection.
    """

    def __init__(
        self, store: Store, clock: Callable[[], datetime], open_connections: Callable[[], Iterable[_Key]] = tuple
    ) -> None:
        self._store = store
        self._clock = clock
        self._open_connections = open_connections
        self._waiting: dict[_Key, _Activity] = {}
        self._failing = False

    def connected(self, scope: Scope, fingerprint: str, client_id: str, address: str) -> None:
        now = to_micros(self._clock())
        self._note((*scope, fingerprint), _Activity(client_id, address, now, 0, now))

    def disconnected(self, scope: Scope, fingerprint: str, client_id: str, address: str) -> None:
        now = to_micros(self._clock())
        self._note((*scope, fingerprint), _Activity(client_id, address, 0, now, now))

    async def touch(self) -> None:
        """Note that the devices of all open connections are seen now. Stores in between, so little memory is used."""
        keys: Iterator[_Key] = iter(list(self._open_connections()))
        while some := list(islice(keys, _ROWS_AT_ONCE)):
            now = to_micros(self._clock())
            for key in some:
                self._note(key, _Activity("", "", 0, 0, now))
            await self.flush()

    async def flush(self) -> None:
        """Store what was noted. What the store does not accept waits for the next time."""
        while self._waiting:
            some = dict(islice(self._waiting.items(), _ROWS_AT_ONCE))
            for key in some:
                del self._waiting[key]
            try:
                await self._store.write(partial(_store, sorted(some.items())))
            except Unavailable as error:
                if not self._failing:
                    _log.warning("certificate_activity_not_stored", error=str(error), certificates=len(some))
                self._failing = True
                for key, activity in some.items():
                    self._note(key, activity)
                return
            self._failing = False

    async def run(self) -> None:
        """Store until cancelled."""
        loop = asyncio.get_running_loop()
        touch_at = loop.time() + _TOUCH_EVERY
        while True:
            await asyncio.sleep(_FLUSH_EVERY)
            await self.flush()
            if loop.time() >= touch_at:
                touch_at = loop.time() + _TOUCH_EVERY
                await self.touch()

    def _note(self, key: _Key, activity: _Activity) -> None:
        known = self._waiting.get(key)
        if known is not None:
            self._waiting[key] = known.merged(activity)
        elif len(self._waiting) < _MAX_WAITING:
            self._waiting[key] = activity


async def _store(some: Sequence[tuple[_Key, _Activity]], tx: Transaction) -> None:
    rows = [
        (account, region, fingerprint_bytes(fingerprint), *activity)
        for (account, region, fingerprint), activity in some
    ]
    await tx.execute_many(_STORE, rows)
