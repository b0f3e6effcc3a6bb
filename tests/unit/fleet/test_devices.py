"""Names and parameters of the devices of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from thingmint.fleet.devices import DeviceList, DevicesUnusable, Pattern, PatternError, count_rows
from thingmint.importing.csv_rows import CsvTable, UnreadableTable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("L-{n:06}", "L-000042"),
        ("{n}", "42"),
        ("{n:3}", " 42"),
        ("{Serial}-{n}", "S1-42"),
        ("{{n}}", "{n}"),
        ("plain", "plain"),
    ],
)
def test_patterns_take_the_number_and_cells(text: str, shown: str) -> None:
    assert Pattern(text).text_of(42, {"Serial": "S1"}) == shown


@pytest.mark.parametrize("text", ["{", "}", "{}", "{n:x}", "{n:0x6}", "{n:9999}", "{Serial:06}", "{n!r:>{n}}"])
def test_other_patterns_are_refused(text: str) -> None:
    with pytest.raises(PatternError):
        Pattern(text)


def test_devices_come_from_a_table(tmp_path: Path) -> None:
    table = _table(tmp_path, "name,Serial,Site\nhall,S1,north\ncellar,S2,south\n")
    devices = DeviceList(2, 7, Pattern("{name}"), {"Tag": Pattern("{Site}-{n}")}, table, frozenset({"Serial"}))
    assert [(each.place, each.number, each.name, dict(each.parameters)) for each in devices.devices()] == [
        (0, 7, "hall", {"Serial": "S1", "Tag": "north-7"}),
        (1, 8, "cellar", {"Serial": "S2", "Tag": "south-8"}),
    ]
    assert [each.name for each in devices.devices(1)] == ["cellar"]


def test_a_table_that_was_changed_meanwhile_ends_the_run(tmp_path: Path) -> None:
    devices = DeviceList(3, 1, Pattern("{name}"), {}, _table(tmp_path, "name\nhall\n"))
    with pytest.raises(UnreadableTable, match="has 1 rows now instead of 3"):
        list(devices.devices())


@pytest.mark.parametrize("name", ["../up", "", ".hidden", "a/b", "a" * 65, "run.json", "a b", "\u0436"])
def test_names_that_make_no_directory_are_refused(name: str) -> None:
    with pytest.raises(DevicesUnusable):
        DeviceList(1, 1, Pattern(name), {}).check_names()


def test_two_devices_of_one_name_are_refused(tmp_path: Path) -> None:
    table = _table(tmp_path, "name\nhall\nHall\n")
    with pytest.raises(DevicesUnusable, match="device 2 would be named Hall, as another device is"):
        DeviceList(2, 1, Pattern("{name}"), {}, table).check_names()


def test_rows_with_flaws_are_named(tmp_path: Path) -> None:
    with pytest.raises(DevicesUnusable, match=r"row 2 \(line 3\) has 1 fields, but the header has 2"):
        count_rows(_table(tmp_path, "a,b\n1,2\n1\n"))


def _table(folder: Path, text: str) -> CsvTable:
    (folder / "devices.csv").write_text(text)
    return CsvTable(folder / "devices.csv")
