"""Tables of devices, as spreadsheets and scripts write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from thingmint.importing.csv_rows import CsvTable, UnreadableTable

if TYPE_CHECKING:
    from pathlib import Path


def _rows(folder: Path, content: bytes) -> list[dict[str, str]]:
    return [dict(row.values) for row in _table(folder, content).rows()]


def _table(folder: Path, content: bytes) -> CsvTable:
    (folder / "devices.csv").write_bytes(content)
    return CsvTable(folder / "devices.csv")


@pytest.mark.parametrize(
    "content",
    [
        b"name,serial\nhall,1\n",
        b"name;serial\r\nhall;1\r\n",
        b"\xef\xbb\xbfname\tserial\nhall\t1",
        b'"name",serial,\n"hall",1,\n\n,\n',
        b"name , serial\nhall,1\n",
    ],
    ids=["commas", "semicolons and CRLF", "byte order mark and tabs", "empty column and rows", "spaces in the header"],
)
def test_forms_of_the_same_table(tmp_path: Path, content: bytes) -> None:
    assert _rows(tmp_path, content) == [{"name": "hall", "serial": "1"}]


def test_cells_have_line_ends(tmp_path: Path) -> None:
    table = _table(tmp_path, b'name,pem\nhall,"BEGIN\r\nxyz\r\nEND"\ncellar,x\n')
    assert [(row.number, row.line, row.values["pem"]) for row in table.rows()] == [
        (1, 2, "BEGIN\r\nxyz\r\nEND"),
        (2, 5, "x"),
    ]
    assert [row.number for row in table.rows(after=1)] == [2]


def test_flaws_belong_to_their_rows(tmp_path: Path) -> None:
    table = _table(tmp_path, b"name,serial\n\xe4,1\nhall\nhall,1,2\nh\0,1\ncellar,2\n")
    assert [row.flaw for row in table.rows()] == [
        "is not UTF-8 in column name",
        "has 1 fields, but the header has 2",
        "has 3 fields, but the header has 2",
        "has a NUL character in column name",
        None,
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no header"),
        (b"\n\n", "has no header"),
        (b"a,,b\n", "has no header"),
        (b"a,b,a\n", "has two columns a"),
        (b"\xff\xfea\0,\0", "is UTF-16: save it as UTF-8"),
        (b"n\xe4me,b\n", "is not UTF-8: its header has other bytes"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableTable, match=reason):
        _table(tmp_path, content)


@pytest.mark.parametrize("content", [b'a,b\n1,2\n3,"4\n5,6\n', b'a,b\n1,2\n3,"4"5\n'])
def test_quotation_marks_must_be_closed(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableTable, match=r"row 2 \(from line 3 on\): a quotation mark is not closed"):
        _rows(tmp_path, content)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTable, match=r"none.csv cannot be read: No such file"):
        CsvTable(tmp_path / "none.csv")
