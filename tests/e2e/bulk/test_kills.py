"""A server that is killed, or stopped, during a task goes on after its start, and executes no line twice."""

from __future__ import annotations

import contextlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import LocalAdmin
from tests.e2e.bulk.support import ACCOUNT, Bulk, line
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.both_engines

_LINES = 1200


@pytest.mark.timeout(300)
def test_a_task_goes_on_after_kills_and_stops(tmp_path: Path, new_store: Callable[[], dict[str, str]]) -> None:
    bucket, data = tmp_path / "bucket", tmp_path / "data"
    bucket.mkdir()
    buckets = {"fleet": {"url": bucket.as_uri(), "accounts": [ACCOUNT]}}
    environment = {"THINGMINT_BULK": json.dumps({"buckets": buckets}), **new_store()}
    done = in_process("init", "--data-dir", data, "--account-id", ACCOUNT, env=environment)
    assert done.returncode == 0, done.stderr
    task, reached = "", 0
    for end in ("kill", "stop", "kill", ""):
        with (
            running_server(data, arguments=["--log-format=json"], environment=environment) as server,
            contextlib.closing(iot_client(server)) as iot,
        ):
            bulk = Bulk(server, iot, bucket, f"arn:aws:iam::{ACCOUNT}:role/bulk")
            if not task:
                Bulk.role_of(LocalAdmin(server))
                lines = [line(f"lamp-{number}") if number % 10 else "nothing" for number in range(_LINES)]
                task = bulk.start(bulk.put("lamps.jsonl", lines))
            shown = bulk.when(task, partial(_is_beyond, reached + 100))
            reached = _done(shown)
            if end == "kill":
                server.kill()
            elif end == "stop":
                assert server.stop() == 0
            else:
                shown = bulk.ended(task)
                assert (shown["status"], shown["successCount"], shown["failureCount"]) == (
                    "Completed",
                    _LINES * 9 // 10,
                    _LINES // 10,
                )
                results, errors = bulk.report(task, "RESULTS"), bulk.report(task, "ERRORS")
                assert [record["offset"] for record in results] == [n for n in range(_LINES) if n % 10]
                assert [record["offset"] for record in errors] == [n for n in range(_LINES) if not n % 10]
                # Each CSR gives a new certificate: a line that was executed twice would have made two.
                made = [record["response"]["ResourceArns"]["certificate"] for record in results]
                pages = iot.get_paginator("list_certificates").paginate(PaginationConfig={"PageSize": 250})
                known = [each["certificateArn"] for page in pages for each in page["certificates"]]
                assert sorted(made) == sorted(known)
                things = iot.get_paginator("list_things").paginate(PaginationConfig={"PageSize": 250})
                assert sum(len(page["things"]) for page in things) == len(results)


def _is_beyond(lines: int, shown: dict[str, Any]) -> bool:
    return shown["status"] != "InProgress" or _done(shown) > lines


def _done(shown: dict[str, Any]) -> int:
    return int(shown["successCount"]) + int(shown["failureCount"])
