"""SQL statements that are too long for Python code: one file for each noun, with a name for each statement."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["load_queries"]

_HEADER = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_COMMENT = re.compile(r"--[^\n]*")


def load_queries(noun: str) -> Mapping[str, str]:
    """The statements of ``noun``.sql by name, each on one line."""
    text = (resources.files(__name__) / f"{noun}.sql").read_text("utf-8")
    _, *parts = _HEADER.split(text)
    return {name: " ".join(_COMMENT.sub("", sql).split()) for name, sql in zip(parts[::2], parts[1::2], strict=True)}
