"""The pages in docs/, as tests read them."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"

Table = list[dict[str, str]]

_HEADING = re.compile(r"(?m)^#+ (.*)$")
_TABLE = re.compile(r"(?m)^(\|.*)\n\|[-|: ]+\|\n((?:\|.*(?:\n|\Z))*)")
_FENCED = re.compile(r"(?ms)^```.*?^```$")


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text("utf-8")


def sections(text: str) -> dict[str, str]:
    """The text below each heading, down to the next one."""
    _, *parts = re.split(_HEADING, _FENCED.sub("", text))
    return dict(zip(parts[::2], parts[1::2], strict=True))


def tables(text: str) -> list[Table]:
    """Each table as its rows; a row has its cells by the heads of their columns."""
    found = []
    for head, body in _TABLE.findall(text):
        names = _cells(head)
        found.append([dict(zip(names, _cells(line), strict=True)) for line in body.splitlines()])
    return found


def plain(cell: str) -> str:
    """A cell's text without its marks for code and links."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cell).replace("`", "")


def names_in(cell: str) -> list[str]:
    """What the cell has as code."""
    return re.findall(r"`([^`]+)`", cell)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))]
