"""docs/aws.md: each operation of AWS's models is there once, and the README has the same numbers."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from thingmint.aws.contract import load_contract, load_data_contract
from thingmint.aws.operations import DATA_OPERATIONS, OPERATIONS, thing_types

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]


@pytest.fixture
def aws_page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import aws_page

    return sys.modules[aws_page.__name__]


def rows(text: str) -> list[list[str]]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [cells for cells in lines if cells[0] not in ("operation", "what")]


def test_each_operation_is_on_the_page_once() -> None:
    page = (ROOT / "docs" / "aws.md").read_text()
    served, missing = page.split("## Not served")
    names = Counter(cells[0] for cells in rows(served.split("## STS")[0]))
    names.update(name for cells in rows(missing) for name in cells[1].split(", "))
    assert names == Counter({*load_contract().operations, *load_data_contract().operations})


def test_the_readme_has_the_numbers_of_the_page() -> None:
    page = (ROOT / "docs" / "aws.md").read_text()
    control, data, _ = re.findall(r"^([0-9]+) of the ([0-9]+) operations", page, re.MULTILINE)
    readme = (ROOT / "README.md").read_text()
    assert f"| {control[0]} of {control[1]} operations: " in readme
    assert f"; of the data plane {data[0]} of {data[1]}." in readme
    nouns = re.search(r"operations: (.*?); of the data plane", readme)
    assert nouns is not None
    assert sum(map(int, re.findall(r"\(([0-9]+)\)", nouns[1]))) == int(control[0]) == len(OPERATIONS)
    assert len(DATA_OPERATIONS) == int(data[0])


def test_deviations_of_operations_that_are_not_served_are_refused(
    aws_page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thing_types, "DEVIATIONS", {"CreateThingTyp": "text"})
    with pytest.raises(ValueError, match="not served: CreateThingTyp"):
        aws_page.sections()


def test_an_operation_that_is_not_served_needs_a_reason(aws_page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(OPERATIONS, "CreateThing")
    with pytest.raises(ValueError, match="CreateThing is not served: say why"):
        aws_page.not_served()
