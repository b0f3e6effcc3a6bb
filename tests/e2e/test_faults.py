"""`make faults` with one kill on each engine, and a check that it reports lost changes."""

from __future__ import annotations

import contextlib
import importlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.commands import in_process
from tests.e2e.databases import served, several
from tests.e2e.wire import until
from tests.tables import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def faults() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        yield importlib.import_module("faults")


@pytest.fixture(scope="module")
def killed(faults: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder after one kill, and the changes answered before it."""
    folder = tmp_path_factory.mktemp("faults")
    seen: list[int] = []  # with that seed, the kill comes after two seconds
    rounds = faults.run(folder, 1, 1, lambda rounds: seen.append(len(rounds.done)))
    assert seen == [0, 1]
    return folder, rounds.done


def test_a_kill_under_load_loses_nothing_and_the_next_run_continues(faults: Any, killed: tuple[Path, Any]) -> None:
    folder, done = killed
    (answered,) = done
    assert answered.requests
    again = faults.Rounds.load(folder / "answered.jsonl", None)
    assert (again.done, again.seed) == (done, 1)


@each_row(
    "loss",
    [
        "DELETE FROM audit_records",
        "UPDATE registrations SET status = 'REVOKED'",
        "DELETE FROM device_policy_attachments",
        "INSERT INTO things SELECT id, 'us-east-1', 'half', x'00', NULL, '{}', 1, 0, NULL FROM accounts LIMIT 1",
    ],
)
def test_a_lost_change_is_reported(faults: Any, killed: tuple[Path, Any], tmp_path: Path, loss: str) -> None:
    folder, done = killed
    with (
        contextlib.closing(sqlite3.connect(folder / "data" / "thingmint.db")) as whole,
        contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as copy,
    ):
        whole.backup(copy)
        faults.check(tmp_path / "copy.db", done)
        assert copy.execute(loss).rowcount
        copy.commit()
    with pytest.raises(faults.Lost):
        faults.check(tmp_path / "copy.db", done)


def test_a_kill_of_one_of_two_processes_on_postgresql_loses_nothing(faults: Any, tmp_path: Path, url: str) -> None:
    with several(tmp_path, url, THINGMINT_LIMITS="none") as servers:
        clients = [faults.Clients(server, tmp_path) for server in servers]
        for each in clients:
            each.start()
        answered = [each.answered for each in clients]
        until(lambda: all(told.things and told.bound for told in answered), seconds=30, what="answers from both")
        servers[0].kill()
        clients[0].end()
        written = len(answered[1].requests)
        until(lambda: len(answered[1].requests) > written + 20, seconds=30, what="more answers from the other")
        servers[1].kill()
        clients[1].end()
    data = servers[0].data_dir
    with served(data, url) as server:
        assert server.stop() == 0
    verified = in_process("audit", "verify", "--data-dir", data, env={"THINGMINT_STORE": url})
    assert (verified.returncode, verified.stderr) == (0, ""), verified
    copied = in_process("store", "copy", url, "sqlite:", "--data-dir", data)
    assert copied.returncode == 0, copied
    faults.check(data / "thingmint.db", answered)
