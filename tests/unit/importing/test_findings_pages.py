"""The pages about moving a fleet quote findings in the words of the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.documents import page, plain, sections, tables

SOURCE = Path(__file__).resolve().parents[3] / "src" / "thingmint"
FOLDERS = ("importing", "services", "domain")


def _texts() -> set[str]:
    """The string constants of the code, and of f-strings the parts between the values."""
    return {
        node.value
        for folder in FOLDERS
        for path in (SOURCE / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.mark.parametrize("name", ["moving-from-yandex", "moving-from-aws"])
def test_quoted_findings_exist(name: str) -> None:
    texts = _texts()
    rows = tables(sections(page(name))["What findings mean"])[0]
    assert len(rows) > 10
    for row in rows:
        quoted = plain(row["finding"]).partition(": ")[2]
        assert quoted, row
        for part in (part.strip() for part in quoted.replace("; ", "…").split("…")):
            assert any(part in text for text in texts), f"{name}: no finding has the words: {part}"
