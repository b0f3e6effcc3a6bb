"""The files of tasks: keys that name none, and files that change or go away."""

from __future__ import annotations

import json
import os
from uuid import uuid4

import pytest

from tests.e2e.access.local_admin import refusal
from tests.e2e.bulk.support import ACCOUNT, THINGS_ONLY, Bulk, line
from tests.e2e.commands import in_process


def test_keys_that_name_no_file_of_the_bucket(bulk: Bulk) -> None:
    (bulk.bucket.parent / "outside.jsonl").write_text(line("outside"))
    bulk.put("folder/inside.jsonl", [line("inside")])
    os.mkfifo(bulk.bucket / "pipe")
    (bulk.bucket / "link.jsonl").symlink_to(bulk.bucket.parent / "outside.jsonl")
    (bulk.bucket / "linked").symlink_to(bulk.bucket.parent)
    for key in (
        "../outside.jsonl",
        "folder/../../outside.jsonl",
        str(bulk.bucket.parent / "outside.jsonl"),
        "/etc/passwd",
        "folder//inside.jsonl",
        "./folder/inside.jsonl",
        "folder",
        "folder/",
        "pipe",
        "link.jsonl",
        "linked/outside.jsonl",
        "missing.jsonl",
    ):
        status, code, message = refusal(bulk.iot.start_thing_registration_task, **bulk.arguments(key))
        assert (status, code) == (400, "InvalidRequestException"), key
        assert message.startswith("inputFileKey "), message


@pytest.mark.parametrize("change", ["append", "delete", "link"])
def test_a_task_fails_when_its_file_changes(bulk: Bulk, change: str) -> None:
    prefix = f"f{uuid4().hex[:8]}"
    lines = [json.dumps({"ThingName": f"{prefix}-{number}", "_": "-" * 200}) for number in range(20_000)]
    task = bulk.start(bulk.put(f"{prefix}.jsonl", lines), templateBody=THINGS_ONLY)
    bulk.when(task, lambda shown: shown["successCount"] > 0)
    file = bulk.bucket / f"{prefix}.jsonl"
    if change == "append":
        with file.open("a") as more:
            more.write(line(prefix))
    else:
        file.rename(bulk.bucket.parent / f"{prefix}.jsonl")
    if change == "link":
        file.symlink_to(bulk.bucket.parent / f"{prefix}.jsonl")
    shown = bulk.ended(task)
    assert shown["status"] == "Failed"
    assert shown["percentageProgress"] < 100
    done = shown["successCount"]
    assert f"The lines before line {done} (counted from 0) are done" in shown["message"]
    assert len(bulk.report(task, "RESULTS")) == done
    bulk.iot.describe_thing(thingName=f"{prefix}-{done - 1}")
    with pytest.raises(bulk.iot.exceptions.ResourceNotFoundException):
        bulk.iot.describe_thing(thingName=f"{prefix}-{done}")


def test_the_command_line_shows_tasks(bulk: Bulk) -> None:
    task = bulk.start(bulk.put("shown.jsonl", ["nothing"]))
    bulk.ended(task)
    shown = [in_process("bulk", *words, "--data-dir", bulk.server.data_dir) for words in _commands(task)]
    assert [done.returncode for done in shown] == [0, 0, 0, 0]
    assert task in shown[0].stdout.replace("\n", "")
    found = json.loads(shown[2].stdout)
    assert found == json.loads(shown[3].stdout)[0]
    assert {key: found[key] for key in ("id", "account", "status", "percentage", "succeeded", "failed")} == {
        "id": task,
        "account": ACCOUNT,
        "status": "Completed",
        "percentage": 100,
        "succeeded": 0,
        "failed": 1,
    }
    unknown = in_process("bulk", "show", "no-task", "--data-dir", bulk.server.data_dir)
    assert (unknown.returncode, len(unknown.stderr.splitlines())) == (1, 1)


def _commands(task: str) -> list[list[str]]:
    json_output = ["--output", "json"]
    return [["list"], ["show", task], ["show", task, *json_output], ["list", "--account", ACCOUNT, *json_output]]
