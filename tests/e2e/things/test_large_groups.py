"""A thing group with many members is deleted immediately, and its members in the background, even after a kill."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from thingmint.testing import running_server

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.testing import RunningServer

MEMBERS = 5_000
TIMEOUT = 30.0  # seconds


def fill(data: Path, group: str) -> None:
    """Make a new instance with a group and many things in it."""
    assert in_process("init", "--data-dir", data).returncode == 0
    id = str(uuid.uuid4())
    with contextlib.closing(sqlite3.connect(data / "thingmint.db")) as db, db:
        (row,) = db.execute("SELECT account, region FROM account_regions WHERE position = 0")
        account, region = row
        groups = "INSERT INTO thing_groups (account, region, name, id, path, attributes, version, created_at) "
        db.execute(f"{groups} VALUES (?, ?, ?, ?, ?, '{{}}', 1, 0)", (account, region, group, id, group))
        names = [f"t{number}" for number in range(MEMBERS)]
        things = "INSERT INTO things (account, region, name, id, attributes, version, created_at) "
        db.executemany(f"{things} VALUES (?, ?, ?, x'00', '{{}}', 1, 0)", [(account, region, name) for name in names])
        members = "INSERT INTO thing_group_members (account, region, thing_group, thing, added_at) "
        db.executemany(f"{members} VALUES (?, ?, ?, ?, 0)", [(account, region, id, name) for name in names])


def rows(data: Path, table: str) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{data / 'thingmint.db'}?mode=ro", uri=True)) as db:
        (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(count)


def jobs_waiting(server: RunningServer) -> float:
    with urllib.request.urlopen(f"{server.http_url}/metrics") as answer:
        found = re.search(r"^thingmint_jobs_waiting (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def members_of(iot: Any, group: str) -> list[str]:
    things: list[str] = iot.list_things_in_thing_group(thingGroupName=group)["things"]
    return things


def test_members_of_a_deleted_group_are_deleted_even_if_the_server_is_killed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    fill(data, "large")
    with running_server(data) as server, contextlib.closing(iot_client(server)) as iot:
        assert len(members_of(iot, "large")) == 25
        iot.delete_thing_group(thingGroupName="large")
        iot.create_thing_group(thingGroupName="large")
        assert members_of(iot, "large") == []
        assert iot.list_thing_groups_for_thing(thingName="t0")["thingGroups"] == []
        server.kill()
    left = rows(data, "thing_group_members")
    assert 0 < left < MEMBERS, "it was killed in between"
    with running_server(data) as server, contextlib.closing(iot_client(server)) as iot:
        iot.add_thing_to_thing_group(thingGroupName="large", thingName="t0")
        deadline = time.monotonic() + TIMEOUT
        while rows(data, "jobs") or jobs_waiting(server):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert members_of(iot, "large") == ["t0"]
    assert rows(data, "thing_group_members") == 1
