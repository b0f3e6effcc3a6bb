"""Rows of a table become items, and each row that cannot come is named by its number."""

from __future__ import annotations

import csv
import io
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.yandex_exports import certificate_pem
from thingmint.importing.batches import MAX_ITEMS, SourceError
from thingmint.importing.sources.csv import CsvDevices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from thingmint.importing.batches import Batch, Item

_PEM = certificate_pem(1)
_OTHER_PEM = certificate_pem(2)


def _source(folder: Path, rows: Sequence[Mapping[str, str]], **further: Any) -> CsvDevices:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), restval="")
    writer.writeheader()
    writer.writerows(rows)
    (folder / "devices.csv").write_text(text.getvalue())
    return CsvDevices(folder / "devices.csv", "us-east-1", **further)


def _items(batches: Sequence[Batch]) -> list[Item]:
    return [item for batch in batches for item in batch.items]


def _refusals(folder: Path, *rows: Mapping[str, str]) -> list[str]:
    """The results about rows; no item of those rows may come."""
    batches = list(_source(folder, rows).batches({}))
    return [f"{each.subject}: {each.outcome}: {each.reason}" for batch in batches for each in batch.results]


def test_a_row_is_a_thing_with_its_certificate_and_groups(tmp_path: Path) -> None:
    row = {
        "name": "lamp-1",
        "type": "lamps",
        "serial": "S1",
        "attributes": '{"site": "north"}',
        "attributes.floor": "2",
        "groups": "house attic",
        "certificate": _PEM.replace("\n", "\r\n"),
        "status": "inactive",
        "policy": "all,of=it further",
        "exclusive": "true",
        "created_at": "2026-11-28T10:00:00Z",
    }
    (batch,) = _source(tmp_path, [row]).batches({})
    thing, certificate, *members = batch.items
    assert thing == {
        "kind": "thing",
        "region": "us-east-1",
        "name": "lamp-1",
        "type": "lamps",
        "attributes": {"site": "north", "floor": "2", "serial": "S1"},
    }
    assert certificate["pem"].split() == _PEM.split()
    assert {name: certificate[name] for name in ("status", "policies", "things", "created_at")} == {
        "status": "INACTIVE",
        "policies": ["all,of=it", "further"],
        "things": [{"name": "lamp-1", "exclusive": True}],
        "created_at": 1_795_860_000_000_000,
    }
    assert [(each["group"], each["things"]) for each in members] == [("house", ["lamp-1"]), ("attic", ["lamp-1"])]


def test_a_certificate_may_be_in_a_file_below_the_table(tmp_path: Path) -> None:
    (tmp_path / "pems").mkdir()
    (tmp_path / "pems" / "one.pem").write_text(_PEM)
    (item,) = _items(list(_source(tmp_path, [{"certificate": "pems/one.pem"}]).batches({})))
    assert (item["pem"], item["things"]) == (_PEM, [])


@pytest.mark.parametrize(
    "path", ["../outside.pem", "/etc/hostname", "link.pem", "links/outside.pem", "missing.pem", "folder", "pipe", "\0"]
)
def test_other_files_are_refused(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "table"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "outside.pem").write_text(_PEM)
    (folder / "link.pem").symlink_to(tmp_path / "outside.pem")
    (folder / "links").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    (refusal,) = _refusals(folder, {"name": "lamp", "certificate": path})
    assert refusal.startswith("row 1: lamp: refused: ")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"name": "a"}, {"name": "a"}], "row 2: a: refused: an earlier row has the same name"),
        (
            [{"name": "a", "type": "x"}, {"name": "a", "type": "y"}],
            "row 2: a: refused: an earlier row has the same name, with",
        ),
        (
            [{"name": "a", "serial": "1"}, {"name": "b", "serial": "1"}],
            "row 2: b: refused: an earlier row has the same serial",
        ),
        ([{"name": "a", "certificate": _PEM}] * 2, "row 2: a: refused: an earlier row has the same certificate"),
        (
            [{"name": "a", "certificate": _PEM, "status": ""}, {"name": "b", "certificate": _PEM, "status": "REVOKED"}],
            "row 2: b: refused: an earlier row has the same certificate, with another status",
        ),
        (
            [{"name": "a", "certificate": _PEM}, {"name": "b", "certificate": _PEM}],
            "row 2: b: noted: an earlier row has the same certificate for another thing",
        ),
        ([{"name": "a b"}], "row 1: a b: refused: "),
        ([{"name": "", "type": "x"}], "row 1: refused: it has no name and no certificate"),
        ([{"name": "a", "policies": "all"}], "row 1: a: refused: it has no certificate, to which its policies would"),
        ([{"name": "a", "attributes": "x=1"}], "row 1: a: refused: attributes must be a JSON object"),
        ([{"name": "a", "attributes": '{"x": 1}'}], "row 1: a: refused: attributes must be a JSON object"),
        ([{"name": "a", "attributes.x": "no spaces"}], "row 1: a: refused: "),
        ([{"name": "a", "serial": "1", "attributes.serial": "2"}], "row 1: a: refused: its serial and its attribute"),
        ([{"name": "a", "certificate": _PEM, "status": "BROKEN"}], "row 1: a: refused: its status must be one of"),
        ([{"name": "a", "certificate": _PEM, "exclusive": "maybe"}], "row 1: a: refused: exclusive must be"),
        ([{"name": "a", "certificate": _PEM, "created_at": "now"}], "row 1: a: refused: created_at must be a time"),
        ([{"name": "a", "certificate": _PEM[:200]}], "row 1: a: refused: certificate is not a well-formed PEM"),
        ([{"name": "a", "certificate": _PEM.replace("M", "N", 5)}], "row 1: a: refused: certificate "),
        ([{"name": "a", "registry": "are1", "topic_aliases": "[]"}], "row 1: a: refused: topic_aliases must be"),
        (
            [{"name": "a", "registry": "are1", "device_id": "x"}, {"name": "b", "registry": "are1", "device_id": "x"}],
            "row 2: b: refused: an earlier row has the same device, with other content",
        ),
        (
            [{"name": "a", "registry": "are1", "device_id": "x"}, {"name": "a", "registry": "are1", "device_id": "y"}],
            "row 2: a: refused: an earlier row has the same name in the registry",
        ),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[dict[str, str]], reason: str) -> None:
    (told,) = _refusals(tmp_path, *rows)
    assert told.startswith(reason)


def test_a_refused_row_has_no_items(tmp_path: Path) -> None:
    rows = [{"name": "a", "certificate": "none.pem"}, {"name": "b", "certificate": _PEM}]
    assert [item["name"] for item in _items(list(_source(tmp_path, rows).batches({}))) if item["kind"] == "thing"] == [
        "b"
    ]


def test_a_thing_with_two_certificates_has_two_rows(tmp_path: Path) -> None:
    rows = [{"name": "a", "type": "x", "certificate": pem} for pem in (_PEM, _OTHER_PEM)]
    kinds = [item["kind"] for item in _items(list(_source(tmp_path, rows).batches({})))]
    assert kinds == ["thing", "certificate", "certificate"]


def test_a_device_with_two_certificates_is_one_item(tmp_path: Path) -> None:
    rows = [
        {"name": "a", "registry": "are1", "device_id": "are2", "certificate": pem, "attributes": '{"k": "v"}'}
        for pem in (_PEM, _OTHER_PEM)
    ]
    (device,) = _items(list(_source(tmp_path, rows).batches({})))
    assert [each["pem"] for each in device["certificates"]] == [_PEM.strip(), _OTHER_PEM.strip()]
    assert (device["kind"], device["id"], device["registry"], device["labels"]) == (
        "device",
        "are2",
        "are1",
        {"k": "v"},
    )


def test_devices_without_an_id_get_the_same_one_each_time(tmp_path: Path) -> None:
    rows = [{"name": name, "registry": "are1"} for name in ("a", "b")]
    ids = [item["id"] for item in _items(list(_source(tmp_path, rows).batches({})))]
    assert ids == [item["id"] for item in _items(list(_source(tmp_path, rows).batches({})))]
    assert len(set(ids)) == 2
    assert all(len(id) == 20 and id.startswith("are") for id in ids)


def test_an_import_goes_on_behind_any_batch(tmp_path: Path) -> None:
    rows = [{"name": f"lamp-{n}", "groups": "house", "certificate": certificate_pem(n)} for n in range(250)]
    rows[200]["name"] = "lamp-3"  # repeats a row of the first batch
    definitions = tmp_path / "definitions.jsonl"
    definitions.write_text("".join(json.dumps({"kind": "group", "name": f"g{n}"}) + "\n" for n in range(80)))
    whole = list(_source(tmp_path, rows, definitions=definitions).batches({}))
    assert all(len(batch.items) <= MAX_ITEMS for batch in whole)
    assert sum(batch.size for batch in whole) == 250
    assert [item["name"] for batch in whole for item in batch.items if item["kind"] == "group"] == [
        f"g{n}" for n in range(80)
    ]
    for number, batch in enumerate(whole, 1):
        source = _source(tmp_path, rows, definitions=definitions)
        assert list(source.batches(json.loads(json.dumps(batch.place)))) == whole[number:]


def test_a_table_that_was_changed_meanwhile_is_not_gone_on_with(tmp_path: Path) -> None:
    (batch,) = _source(tmp_path, [{"name": "a"}, {"name": "b"}]).batches({})
    with pytest.raises(SourceError, match="row 2 is another now"):
        list(_source(tmp_path, [{"name": "a"}, {"name": "c"}, {"name": "d"}]).batches(batch.place))


def test_another_content_is_another_import(tmp_path: Path) -> None:
    first = _source(tmp_path, [{"name": "a"}]).identity()
    assert _source(tmp_path, [{"name": "a"}]).identity() == first
    assert _source(tmp_path, [{"name": "b"}]).identity() != first


def test_unknown_columns_are_told_of_once(tmp_path: Path) -> None:
    rows = [{"name": name, "colour": "red", "certificate_id": "x", "attributes.x": ""} for name in ("a", "b")]
    told = [each for batch in _source(tmp_path, rows).batches({}) for each in batch.results]
    assert [(each.outcome, each.subject) for each in told] == [("noted", "column colour")]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("colour,size\n", "has no column name and no column certificate"),
        ("name,group,groups\n", "has column groups twice"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, header: str, reason: str) -> None:
    (tmp_path / "devices.csv").write_text(header)
    with pytest.raises(SourceError, match=reason):
        CsvDevices(tmp_path / "devices.csv", "us-east-1")


@pytest.mark.parametrize("line", ["{", "[]", '{"kind": "thing"}', '{"kind": "device"}'])
def test_definitions_must_be_items(tmp_path: Path, line: str) -> None:
    (tmp_path / "definitions.jsonl").write_text(f'{{"kind": "group"}}\n{line}\n')
    source = _source(tmp_path, [{"name": "a"}], definitions=tmp_path / "definitions.jsonl")
    with pytest.raises(SourceError, match=r"definitions.jsonl, line 2: it must be a JSON object whose kind is one of"):
        list(source.batches({}))


def test_a_certificate_of_a_device_that_is_not_active_stays_out(tmp_path: Path) -> None:
    """An import binds certificates, which makes them ACTIVE: a revoked one must not connect again."""
    rows = [
        {"name": "a", "registry": "are1", "device_id": "are2", "certificate": _PEM, "status": "REVOKED"},
        {"name": "a", "registry": "are1", "device_id": "are2", "certificate": _OTHER_PEM, "status": "ACTIVE"},
    ]
    (batch,) = _source(tmp_path, rows).batches({})
    (device,) = batch.items
    assert [each["pem"] for each in device["certificates"]] == [_OTHER_PEM.strip()]
    assert [(each.outcome, each.subject) for each in batch.results] == [("refused", "row 1: a")]


def test_other_statuses_become_inactive(tmp_path: Path) -> None:
    rows = [{"name": "a", "certificate": _PEM, "status": "PENDING_ACTIVATION"}]
    (batch,) = _source(tmp_path, rows).batches({})
    assert batch.items[1]["status"] == "INACTIVE"
    assert [each.reason for each in batch.results] == ["it is INACTIVE here instead of PENDING_ACTIVATION"]
