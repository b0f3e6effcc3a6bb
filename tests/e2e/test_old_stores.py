"""Stores of earlier versions: upgraded to this version, they answer as before."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.commands import in_process
from tests.e2e.logs import check_log
from tests.old_stores.asking import Asker
from tests.old_stores.differences import DIFFERENCES, expected
from tests.old_stores.kept import OldStore
from tests.old_stores.stores import row_counts
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Rows that the APIs cannot produce: a job is done before its row could be saved.
WITHOUT_ROWS = {"7c4c599": [], "934c105": ["ended_bindings", "jobs"]}

_KEEP = {"THINGMINT_AUDIT_ACTIVITY_RETENTION": "36500d"}

each_version = pytest.mark.parametrize("old", WITHOUT_ROWS, indirect=True)


@pytest.fixture
def old(request: pytest.FixtureRequest) -> OldStore:
    return OldStore.of(getattr(request, "param", "7c4c599"))


@pytest.fixture
def data(old: OldStore, tmp_path: Path) -> Path:
    """A data directory as the old version left it."""
    old.restore(tmp_path / "data")
    return tmp_path / "data"


def compare_answers(old: OldStore, data: Path, store: Mapping[str, str]) -> None:
    found, reasons = [], set()
    with (
        running_server(data, arguments=["--log-format=json"], environment={**old.settings, **store, **_KEEP}) as server,
        contextlib.closing(Asker(server, old.material(data.with_name("material")))) as asker,
    ):
        for question, before in old.answers():
            now = asker.ask(question)
            wanted, why = expected(old.version, question, before, now)
            reasons |= why
            if now != wanted:
                found.append(f"{question}\n  was {wanted}\n  is  {now}")
        log = server.output.read_text(errors="replace")
        check_log(log)
    assert not found, f"{len(found)} answers differ:\n" + "\n".join(found[:10])
    assert reasons == {difference.why for difference in DIFFERENCES[old.version]}, "there are no other differences"


def check_audit_log(data: Path, before: list[tuple[Any, ...]], store: Mapping[str, str]) -> None:
    """Checks that every record is unchanged and has the same place in the chain."""
    verified = in_process("audit", "verify", "--data-dir", data, env=store)
    assert (verified.returncode, verified.stderr) == (0, ""), verified
    exported = in_process("audit", "export", "--data-dir", data, env=store)
    lines = {line["id"]: line for line in map(json.loads, exported.stdout.splitlines())}
    for id, record, sequence, hash in before:
        line = lines[id]
        assert line["record"] == json.loads(record)
        if sequence is not None:
            assert (line["sequence"], line["hash"]) == (sequence, hash.hex())


def audit_rows(data: Path) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(data / "thingmint.db")) as database:
        return database.execute("SELECT id, record, sequence, hash FROM audit_records").fetchall()


@each_version
def test_every_table_has_rows(old: OldStore, data: Path) -> None:
    counts = row_counts(data / "thingmint.db")
    assert len(counts) >= 39
    assert [table for table, rows in counts.items() if not rows] == WITHOUT_ROWS[old.version]


@each_version
def test_an_old_store_answers_as_before(old: OldStore, data: Path) -> None:
    before = audit_rows(data)
    assert any(sequence is None for _, _, sequence, _ in before)
    compare_answers(old, data, {})
    check_audit_log(data, before, {})


def test_an_old_store_answers_as_before_once_it_is_copied_to_postgresql(old: OldStore, data: Path, url: str) -> None:
    before, store = audit_rows(data), {"THINGMINT_STORE": url}
    copied = in_process("store", "copy", "sqlite:", url, "--data-dir", data)
    assert copied.returncode == 0, copied
    (data / "thingmint.db").unlink()
    compare_answers(old, data, store)
    check_audit_log(data, before, store)
