"""The lines of a bulk registration's file: where each one ends, and what is no line of parameters."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Invalid
from thingmint.services.bulk_buckets import Bucket, Buckets, Folder
from thingmint.services.bulk_lines import MAX_LINE, FileChanged, Line, LineReader, parsed
from thingmint.services.registration_tasks import Place, RegistrationTask, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCOPE = Scope("111111111111", "us-east-1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BEGINNING = Place(0, 0, False)
LONGEST = '{"a":"' + "é" * (MAX_LINE - 8) + '"}'


@pytest.fixture
def buckets(tmp_path: Path) -> Iterator[Buckets]:
    buckets = Buckets({"fleet": Bucket((SCOPE.account,), Folder(tmp_path))})
    yield buckets
    buckets.close()


async def reader(buckets: Buckets, place: Place = BEGINNING) -> LineReader:
    file = await buckets.look(SCOPE.account, "fleet", "file")
    at: Any = {"position": place.position, "line": place.line, "within_line": place.within_line}
    task = RegistrationTask(
        SCOPE, "", TaskStatus.IN_PROGRESS, "", "fleet", "file", "", NOW, NOW, "", None, file.size, file.version, **at
    )
    return LineReader(buckets, task)


async def all_lines(reader: LineReader) -> list[Line]:
    found: list[Line] = []
    while lines := await reader.lines():
        assert len(lines) <= 64
        found += lines
    return found


def told(line: Line) -> tuple[int, object]:
    return line.number, str(line.given) if isinstance(line.given, Invalid) else line.given


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n"])
async def test_lines_with_each_end(buckets: Buckets, tmp_path: Path, end: bytes) -> None:
    content = b'\xef\xbb\xbf{"a":"1"}\n\n  \r\n{"a":"2"}' + end
    (tmp_path / "file").write_bytes(content)
    lines = await all_lines(await reader(buckets))
    assert [told(line) for line in lines if line.given is not None] == [(0, {"a": "1"}), (3, {"a": "2"})]
    assert lines[-1].place == Place(len(content), content.count(b"\n") + (not content.endswith(b"\n")), False)


async def test_an_empty_file_has_no_lines(buckets: Buckets, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert await all_lines(await reader(buckets)) == []


async def test_reading_goes_on_at_each_place(buckets: Buckets, tmp_path: Path) -> None:
    """Also within a line that is too long, and where reads of the file end."""
    content = [f'{{"a":"{number}"}}'.encode() for number in range(200)]
    content[70] = b"x" * (9 * MAX_LINE)
    content[71] = LONGEST.encode()
    (tmp_path / "file").write_bytes(b"\n".join(content))
    lines = await all_lines(await reader(buckets))
    assert [told(line)[0] for line in lines if line.given is not None] == list(range(200))
    assert {line.number for line in lines if line.given is None} == {70}
    bad = [told(line) for line in lines if isinstance(line.given, Invalid)]
    assert bad == [(70, f"The line has more than {MAX_LINE} characters")]
    for at in (0, 63, 70, 71, 72, 73, len(lines) - 1):
        rest = await all_lines(await reader(buckets, lines[at].place))
        assert [told(line) for line in rest if line.given is not None] == [
            told(line) for line in lines[at + 1 :] if line.given is not None
        ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{", "is not JSON"),
        (b'{"a":"1"} {"a":"1"}', "is not JSON"),
        (b'["a"]', "must be a JSON object"),
        (b'"a"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"a":1}', "must have texts as values, in quotation marks"),
        (b'{"a":null}', "must have texts as values, in quotation marks"),
        (b'{"a":{"b":"c"}}', "must have texts as values, in quotation marks"),
        (b'{"a":"1","a":"2"}', "has a name twice"),
        (b'{"a":"\xff"}', "is not UTF-8"),
        (b'{"a":NaN}', "is not JSON"),
        (b"[" * 100_000, "has more than 10000 values"),
        (b"[" * 9_000, "is not JSON"),
        (LONGEST.encode() + b" ", f"has more than {MAX_LINE} characters"),
        (("😀" * (MAX_LINE + 1)).encode(), f"has more than {MAX_LINE} characters"),
    ],
)
def test_a_line_without_parameters(line: bytes, fault: str) -> None:
    assert str(parsed(line)) == f"The line {fault}"


def test_the_longest_line() -> None:
    assert len(LONGEST) == MAX_LINE
    assert isinstance(parsed(LONGEST.encode() + b"\r\n"), dict)


@pytest.mark.parametrize("change", ["append", "replace", "shorten"])
async def test_a_changed_file_is_noticed(buckets: Buckets, tmp_path: Path, change: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(b'{"a":"1"}\n' * 300_000)
    opened = await reader(buckets)
    await opened.lines()
    match change:
        case "append":
            with file.open("ab") as added:
                added.write(b"more")
        case "replace":
            (tmp_path / "other").write_bytes(file.read_bytes())
            (tmp_path / "other").rename(file)
        case "shorten":
            os.truncate(file, 10)
    with pytest.raises(FileChanged):
        await all_lines(opened)


async def test_a_file_that_went_away_is_noticed(buckets: Buckets, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b'{"a":"1"}\n' * 300_000)
    opened = await reader(buckets)
    await opened.lines()
    file.unlink()
    with pytest.raises(Invalid):
        await all_lines(opened)
