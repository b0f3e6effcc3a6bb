"""`thingmint import csv`: hand-made tables, kills, and what its report says."""

from __future__ import annotations

import csv
import multiprocessing
import random
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.e2e.commands import in_process
from tests.e2e.importing.support import new_instance, rows
from tests.yandex_exports import certificate_pem

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_KILLS = 25
_COUNT = 1500
_PROCESSES = multiprocessing.get_context("forkserver")
_PRELOADED = ["tests.e2e.importing.support", "thingmint.server.local_commands", "thingmint.cli.import_runner"]
_DOCUMENT = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}'

_STORED = """
SELECT t.name, t.attributes, p.exclusive, hex(c.fingerprint), r.status, a.policy, g.name
FROM things AS t
LEFT JOIN thing_principals AS p ON p.thing = t.name
LEFT JOIN certificates AS c ON c.id = p.certificate
LEFT JOIN registrations AS r ON r.certificate = c.id
LEFT JOIN device_policy_attachments AS a ON a.certificate = c.id
LEFT JOIN thing_group_members AS m ON m.thing = t.name
LEFT JOIN thing_groups AS g ON g.id = m.thing_group
ORDER BY t.name
"""


def _import(table: Path, data: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    return in_process("import", "csv", table, "--data-dir", data, "--output", "json", *options)


def _report(table: Path, data: Path, *options: str | Path, status: int = 0) -> dict[str, Any]:
    done = _import(table, data, *options)
    assert done.returncode == status, done.stdout + done.stderr
    report: dict[str, Any] = orjson.loads(done.stdout)
    return report


def _write(path: Path, lines: Sequence[Mapping[str, str]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(lines[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(lines)
    return path


def _definitions(path: Path) -> Path:
    version = {"id": "1", "document": _DOCUMENT, "created_at": 1}
    policy = {"kind": "policy", "region": "us-east-1", "name": "all", "versions": [version], "default": "1"}
    group = {"kind": "group", "region": "us-east-1", "name": "house", "parent": None}
    path.write_bytes(b"\n".join(map(orjson.dumps, (policy, group))))
    return path


def _killed(arguments: tuple[Any, ...], seconds: float) -> bool:
    process = _PROCESSES.Process(target=_import, args=arguments)
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode != 0


def test_kills_at_random_moments(tmp_path: Path) -> None:
    _PROCESSES.set_forkserver_preload(_PRELOADED)
    lines = [
        {
            "name": f"lamp-{number:05}",
            "serial": f"S{number}",
            "certificate": certificate_pem(number),
            "status": ("ACTIVE", "INACTIVE")[number % 2],
            "policies": "all",
            "groups": "house",
        }
        for number in range(_COUNT)
    ]
    table, definitions = _write(tmp_path / "devices.csv", lines, ";"), _definitions(tmp_path / "definitions.jsonl")
    moments, left, expected = random.Random(15), _KILLS, None
    while left > 0:
        place = tmp_path / str(left)
        place.mkdir()
        data = new_instance(place)
        longest = 0.2
        while _killed((table, data, "--definitions", definitions), moments.uniform(0, longest)):
            left -= 1
            longest *= 1.05  # a busy machine may get nowhere before such a kill
        imports = orjson.loads(in_process("import", "list", "--data-dir", data, "--output", "json").stdout)
        # A process may be killed after its import has ended. The next import then finds everything there.
        (ended,) = (each for each in imports if "thing.new" in each["counts"])
        assert ended["counts"] == {
            "policy.new": 1, "group.new": 1, "thing.new": _COUNT, "certificate.new": _COUNT,
            "attachment.new": _COUNT, "member.new": _COUNT,
        }  # fmt: skip
        stored = rows(data, _STORED)
        assert expected in (None, stored)
        expected = stored
        assert [name for name, *_ in stored] == [line["name"] for line in lines]
        assert {(status, policy, group) for *_, status, policy, group in stored} == {
            ("ACTIVE", "all", "house"),
            ("INACTIVE", "all", "house"),
        }
        again = _report(table, data, "--definitions", definitions)["counts"]
        assert {key.partition(".")[2] for key in again} == {"same"}


def test_findings_name_the_rows(tmp_path: Path) -> None:
    lines = [
        {"name": "good", "certificate": certificate_pem(1), "colour": "red"},
        {"name": "bad name", "certificate": certificate_pem(2), "colour": ""},
        {"name": "good", "certificate": "missing.pem", "colour": ""},
    ]
    table, data = _write(tmp_path / "devices.csv", lines), new_instance(tmp_path)
    dry = _report(table, data, "--dry-run", status=1)
    report = _report(table, data, status=1)
    assert [(each["outcome"], each["subject"]) for each in report["findings"]] == [
        ("noted", "column colour"),
        ("refused", "row 2: bad name"),
        ("refused", "row 3: good"),
    ]
    assert dry["findings"] == report["findings"]
    assert rows(data, "SELECT name FROM things") == [("good",)]
    ((place,),) = rows(data, "SELECT place FROM imports")
    progress = orjson.loads(place)
    assert (progress["done"], progress["total"]) == (3, 3), "the console shows how far an import is"
    (listed,) = orjson.loads(in_process("import", "list", "--data-dir", data, "--output", "json").stdout)
    assert (listed["state"], listed["percentage"]) == ("ended", 100)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfen\0a\0m\0e\0", "is UTF-16: save it as UTF-8"),
        (b"colour\nred\n", "has no column name and no column certificate"),
        (b'name\n"open\n', "row 1 (from line 2 on): a quotation mark is not closed"),
    ],
)
def test_other_files_are_refused_before_anything_is_changed(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "devices.csv").write_bytes(content)
    data = new_instance(tmp_path)
    refused = _import(tmp_path / "devices.csv", data)
    assert refused.returncode in (1, 2)
    assert said in refused.stderr
    assert rows(data, "SELECT count(*) FROM imports") == [(0,)]
