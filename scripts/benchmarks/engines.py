"""The same calls on both engines: their cost, and how often writers conflict.

Each row is a fixed number of requests, not of seconds, which keeps the case short.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from benchmarks.bench import certificate_ids
from benchmarks.figures import Budget, Figure
from benchmarks.load import Load, LoadFailed, Target
from benchmarks.machine import family_seconds
from benchmarks.measuring import SCRATCH, SERVE, measured
from benchmarks.signed import Signer, new_csr
from benchmarks.yandex import YandexFleet
from thingmint.testing import running_server
from thingmint.testing.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from benchmarks.bench import Bench
    from benchmarks.yandex import Wire
    from thingmint.testing import RunningServer

__all__ = ["DURABLE", "ENGINES", "ENGINES_STEPS", "engines", "new_database"]

ENGINES = "engines"
_WRITERS = (16, 64)
_REQUESTS, _QUICK = 1_600, 480
_WARM_UP = 64  # requests
_READ = 64  # certificates for which DescribeCertificate asks in turn
_MET = Budget(5, at_most=True)
_RETRIES = re.compile(r"^thingmint_store_retries_total (\S+)$", re.MULTILINE)
_WITH_QUOTA = {"THINGMINT_QUOTAS__CERTIFICATES": "10000000"}
DURABLE = {"max_connections": "200"}  # otherwise PostgreSQL's defaults, by which every answered write is on disk


@dataclass(frozen=True, slots=True)
class _Row:
    """``load(server, writers, count)`` makes the requests; if they write, each is sent only once."""

    what: str
    load: Callable[[RunningServer, int, int], Load]
    writes: bool = True


@dataclass(frozen=True, slots=True)
class _Measured:
    """The rate per second, CPU seconds of one request at the server and the database, and retries per 100 requests."""

    rate: float
    server: float
    database: float
    retries: float


def engines(bench: Bench) -> list[Figure]:
    """Measures new servers of each engine, without and with a quota; in turns with servers of another checkout."""
    figures: list[Figure] = []
    for engine in ("SQLite", "PostgreSQL"):
        with contextlib.ExitStack() as stack:
            postgres = stack.enter_context(Postgres(DURABLE)) if engine == "PostgreSQL" else None
            for settings, rows in (({}, _ROWS), (_WITH_QUOTA, _QUOTA_ROWS)):
                figures += _measure_all(bench, engine, postgres, settings, rows)
    return figures


def _measure_all(
    bench: Bench, engine: str, postgres: Postgres | None, settings: Mapping[str, str], rows: Sequence[_Row]
) -> Iterator[Figure]:
    count = _QUICK if bench.quick else _REQUESTS
    checkouts = [None, *([bench.against] if bench.against is not None else [])]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(_server(postgres, settings, checkout)) for checkout in checkouts]
        for row in rows:
            bench.step(f"{row.what}, {engine}")
            for writers in _WRITERS:
                what = f"{row.what}, {writers} writers, {engine}"
                cost = _cost(row, servers[0], postgres, writers, count)
                yield from _figures(what, cost, row, engine)
                for other in servers[1:]:
                    with contextlib.suppress(LoadFailed):  # older versions fail if writers conflict too often
                        ratio = cost.server / _cost(row, other, postgres, writers, count).server
                        yield Figure(ENGINES, f"{what}: server CPU, ratio", ratio, "ratio")


def _figures(what: str, cost: _Measured, row: _Row, engine: str) -> Iterator[Figure]:
    yield Figure(ENGINES, f"{what}: answers", cost.rate, "/s")
    yield Figure(ENGINES, f"{what}: server CPU", cost.server * 1e6, "us")
    if engine == "PostgreSQL":
        yield Figure(ENGINES, f"{what}: database CPU", cost.database * 1e6, "us")
        if row.writes:
            yield Figure(ENGINES, f"{what}: retries per 100", cost.retries, "", _MET)


def _cost(row: _Row, server: RunningServer, postgres: Postgres | None, writers: int, count: int) -> _Measured:
    with row.load(server, writers, count + _WARM_UP) as load:
        load.run(count=_WARM_UP)
        retries, database = _retries(server), _database_seconds(postgres)
        rate, cost = measured(server.process.pid, lambda: load.run(count=count))
        database, retries = _database_seconds(postgres) - database, _retries(server) - retries
    return _Measured(rate, cost.server, database / count, 100 * retries / count)


@contextlib.contextmanager
def _server(postgres: Postgres | None, settings: Mapping[str, str], checkout: Path | None) -> Iterator[RunningServer]:
    """A new server with an empty database, of another ``checkout`` if one is given."""
    environment = dict(settings)
    if checkout is not None:
        environment["PYTHONPATH"] = str(checkout / "src")
    with tempfile.TemporaryDirectory(prefix="engines-", dir=SCRATCH) as folder:
        if postgres is not None:
            environment["THINGMINT_STORE"] = asyncio.run(new_database(postgres))
        with running_server(Path(folder) / "data", arguments=SERVE, environment=environment) as server:
            yield server


async def new_database(postgres: Postgres) -> str:
    name = f"bench_{secrets.token_hex(4)}"
    connection: Any = await asyncpg.connect(postgres.url())
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return postgres.url(name)


def _retries(server: RunningServer) -> float:
    """The retries that the server has counted; 0 for older versions, which do not count them."""
    with urllib.request.urlopen(f"{server.http_url}/metrics") as answer:
        found = _RETRIES.search(answer.read().decode())
    return float(found[1]) if found is not None else 0.0


def _database_seconds(postgres: Postgres | None) -> float:
    """CPU seconds of all processes of PostgreSQL, one for each connection. Other databases on it are idle."""
    return family_seconds(postgres.pid) if postgres is not None else 0.0


def _signed(make: Callable[[Signer, int], bytes]) -> Callable[[RunningServer, int, int], Load]:
    """A load with calls of the AWS API."""

    def load(server: RunningServer, writers: int, count: int) -> Load:
        signer, mark = Signer(server), secrets.randbelow(10**9)
        requests = [make(signer, mark + number) for number in range(count)]
        return Load(Target(server.ports["api"], server.ca), writers, requests, once=True)

    return load


def _describe(server: RunningServer, writers: int, _count: int) -> Load:
    signer = Signer(server)
    requests = [signer.describe(id) for id in certificate_ids(server, _READ)]
    return Load(Target(server.ports["api"], server.ca), writers, requests)


def _csr(server: RunningServer, writers: int, _count: int) -> Load:
    return Load(Target(server.ports["api"], server.ca), writers, [Signer(server).create_from_csr(new_csr())])


def _add(wire: Wire, *, keyed: bool = False) -> Callable[[RunningServer, int, int], Load]:
    def load(server: RunningServer, writers: int, count: int) -> Load:
        with YandexFleet(server) as fleet:
            return fleet.add(wire, writers, count, keyed=keyed)

    return load


_ROWS = (
    _Row("DescribeCertificate", _describe, writes=False),
    _Row("CreateCertificateFromCsr", _csr),
    _Row("CreateThing", _signed(lambda signer, number: signer.create_thing(f"thing-{number}"))),
    _Row("AddCertificate (REST)", _add("REST")),
    _Row("AddCertificate (gRPC)", _add("gRPC")),
    _Row("AddCertificate (REST, Idempotency-Key)", _add("REST", keyed=True)),
)
_QUOTA_ROWS = (
    _Row("CreateCertificateFromCsr, with a quota", _csr),
    _Row("AddCertificate (REST), with a quota", _add("REST")),
)
ENGINES_STEPS = 2 * len((*_ROWS, *_QUOTA_ROWS))
