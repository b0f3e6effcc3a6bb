"""Running imports, and reading from the store what has come."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import orjson

from tests.e2e.commands import in_process

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from pathlib import Path

    from tests.yandex_exports import Export

Json = dict[str, Any]

_DEVICES = """
SELECT d.id, d.registry, d.folder, d.name, d.labels, d.topic_aliases, d.created_at,
    (SELECT group_concat(hex(c.fingerprint)) FROM bindings AS b JOIN certificates AS c ON c.id = b.certificate
     WHERE b.owner = d.id)
FROM devices AS d ORDER BY d.id
"""


def import_yandex(
    export: Path, data: Path, *options: str | Path, status: int | None = 0, store: Mapping[str, str] | None = None
) -> Json:
    """The report of `thingmint import yandex`, which ends with that status."""
    done = run_import(export, data, *options, store=store)
    assert status in (None, done.returncode), (done.returncode, done.stdout[-2000:], done.stderr)
    report: Json = orjson.loads(done.stdout)
    return report


def run_import(
    export: Path, data: Path, *options: str | Path, store: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    words = ("import", "yandex", export, "--data-dir", data, "--output", "json", *options)
    return in_process(*words, env=store)


def found(report: Json, outcome: str) -> dict[str, str]:
    """The reasons of the findings with that outcome, by ``kind subject``."""
    return {
        f"{each['kind']} {each['subject']}": each["reason"] for each in report["findings"] if each["outcome"] == outcome
    }


def new_instance(folder: Path, **environment: str) -> Path:
    data = folder / "data"
    done = in_process("init", "--data-dir", data, env=environment)
    assert done.returncode == 0, done.stderr
    return data


def stored_devices(data: Path) -> dict[str, tuple[Any, ...]]:
    """What the SQLite store has of each device: its columns, and the fingerprints of its certificates."""
    return {id: tuple(rest) for id, *rest in rows(data, _DEVICES)}


def expected_devices(export: Export) -> dict[str, tuple[Any, ...]]:
    """The same, as it has to be after an import of that export."""
    aliases: dict[str, dict[str, str]] = {}
    for row in (row for rows in export.aliases.values() for row in rows):
        aliases.setdefault(row["device_id"], {})[row["alias"]] = row["topic_prefix"]
    return {
        row["id"]: (
            registry,
            export.folder,
            row["name"],
            json.dumps(row.get("labels", {}), separators=(",", ":")),
            json.dumps(row.get("topic_aliases", {}) | aliases.get(row["id"], {}), separators=(",", ":")),
            1614834367891000,
            ",".join(each["sha256"].upper() for each in export.certificates[row["id"]]) or None,
        )
        for registry, devices in export.devices.items()
        for row in devices
    }


def rows(data: Path, sql: str) -> list[Any]:
    database = sqlite3.connect(f"{(data / 'thingmint.db').as_uri()}?mode=ro", uri=True)
    with contextlib.closing(database):
        return database.execute(sql).fetchall()
