"""Importing a fleet with `thingmint import yandex`, against inserting the same rows with nothing but SQLite."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.engines import DURABLE, new_database
from benchmarks.figures import Budget, Figure
from benchmarks.measuring import SCRATCH, SERVE
from benchmarks.yandex import self_signed_pems
from thingmint.domain.ids import FOLDER, IOT, new_id
from thingmint.testing import running_server
from thingmint.testing.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.bench import Bench

__all__ = ["IMPORTS_STEPS", "imports"]

IMPORTS_STEPS = 4

_DEVICES, _QUICK = 10_000, 2_000
_AT_ONCE = 75  # devices in one transaction
_CREATED_AT = "2021-03-04T05:06:07.891Z"
_ALIASES = 10  # every tenth device has one


@dataclass(frozen=True, slots=True)
class _Run:
    """Wall-clock seconds, CPU seconds and the peak RSS in bytes of a command."""

    seconds: float
    cpu: float
    memory: float

    def without(self, start: _Run) -> _Run:
        """The time that is left without that of ``start``, a command that only starts."""
        return _Run(self.seconds - start.seconds, self.cpu - start.cpu, self.memory)


def imports(bench: Bench) -> list[Figure]:
    count = _QUICK if bench.quick else _DEVICES
    what = f"import yandex, {count:,} devices"
    with tempfile.TemporaryDirectory(prefix="imports-", dir=SCRATCH) as name:
        folder = Path(name)
        export = _write_export(folder / "export", count)
        bench.step(f"{what}, SQLite")
        empty, full = folder / "empty", folder / "full"
        _command("init", "--data-dir", str(empty))
        shutil.copytree(empty, full)
        start = _command("import", "list", "--data-dir", str(full))
        alone = _command("import", "yandex", str(export), "--data-dir", str(full)).without(start)
        bench.step("the same rows, inserted with SQLite alone")
        bare = _insert_bare(full / "thingmint.db", empty / "thingmint.db", -(-count // _AT_ONCE))
        bench.step(f"{what}, SQLite, in a running server")
        with running_server(folder / "served", arguments=SERVE) as server:
            served = _command("import", "yandex", str(export), "--data-dir", str(server.data_dir)).without(start)
        bench.step(f"{what}, PostgreSQL")
        with Postgres(DURABLE) as postgres:
            store = {"THINGMINT_STORE": asyncio.run(new_database(postgres))}
            _command("init", "--data-dir", str(folder / "postgres"), **store)
            data = str(folder / "postgres")
            on_postgres = _command("import", "yandex", str(export), "--data-dir", data, **store).without(start)
    return [
        Figure("imports", "start of a command that opens the store", start.seconds, "s"),
        Figure("imports", f"{what}, SQLite", count / alone.seconds, "/s", Budget(1_000, at_most=False)),
        Figure("imports", f"{what}, SQLite, against the same rows with SQLite alone", bare / alone.seconds, "ratio"),
        Figure("imports", f"{what}, SQLite, CPU time for one device", alone.cpu / count * 1e6, "us"),
        Figure("imports", f"{what}, SQLite, peak memory of the command (RSS)", alone.memory / 1e6, "MB"),
        Figure("imports", f"{what}, SQLite, in a running server", count / served.seconds, "/s"),
        Figure("imports", f"{what}, PostgreSQL", count / on_postgres.seconds, "/s"),
    ]


def _command(*arguments: str, **variables: str) -> _Run:
    """Run `thingmint`. Raises CalledProcessError."""
    command = [sys.executable, "-m", "thingmint", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("THINGMINT_")}
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment | variables
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return _Run(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def _insert_bare(full: Path, empty: Path, transactions: int) -> float:
    """Seconds to insert what ``full`` has more than ``empty`` into ``empty``, in that many durable transactions."""
    with contextlib.closing(sqlite3.connect(empty, isolation_level=None)) as database:
        database.create_function("decode", 2, lambda text, _format: bytes.fromhex(text), deterministic=True)
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("PRAGMA synchronous = FULL")
        rows = dict(_more_rows(database, full))
        batches = [
            [(statement, values[len(values) * n // transactions : len(values) * (n + 1) // transactions])
             for statement, values in rows.items()]
            for n in range(transactions)
        ]  # fmt: skip
        start = time.perf_counter()
        for batch in batches:
            database.execute("BEGIN IMMEDIATE")
            for statement, values in batch:
                database.executemany(statement, values)
            database.execute("COMMIT")
        return time.perf_counter() - start


def _more_rows(database: sqlite3.Connection, full: Path) -> Iterator[tuple[str, list[Any]]]:
    """For each table, the statement that inserts a row, and the rows that ``full`` has more."""
    database.execute("ATTACH ? AS other", (str(full),))
    tables = database.execute("SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    for (table,) in tables.fetchall():
        rows = database.execute(f"SELECT * FROM other.{table} EXCEPT SELECT * FROM main.{table}").fetchall()
        if rows:
            yield f"INSERT OR REPLACE INTO main.{table} VALUES ({', '.join('?' * len(rows[0]))})", rows
    database.execute("DETACH other")


def _write_export(export: Path, count: int) -> Path:
    registry, folder = new_id(IOT), new_id(FOLDER)
    of_devices = export / f"device-certs-{registry}"
    of_devices.mkdir(parents=True)
    devices, aliases = [], []
    for number, pem in enumerate(self_signed_pems(count)):
        id = new_id(IOT)
        row = {"id": id, "registry_id": registry, "created_at": _CREATED_AT, "name": f"device-{number}"}
        devices.append({**row, "labels": {"line": str(number % 7)}})
        if number % _ALIASES == 0:
            aliases.append({"device_id": id, "alias": f"a/{number}/", "topic_prefix": f"$devices/{id}/events/"})
        _write(of_devices / f"{id}.json", [_certificate(id, pem)])
    row = {"id": registry, "folder_id": folder, "created_at": _CREATED_AT, "name": "bench", "status": "ACTIVE"}
    _write(export / "registries.json", [row])
    _write(export / f"devices-{registry}.json", devices)
    _write(export / f"aliases-{registry}.json", aliases)
    return export


def _certificate(device: str, pem: str) -> Mapping[str, str]:
    sha1 = hashlib.sha1(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    return {"device_id": device, "fingerprint": sha1, "certificate_data": pem, "created_at": _CREATED_AT}


def _write(path: Path, rows: list[Any]) -> None:
    path.write_text(json.dumps(rows))
