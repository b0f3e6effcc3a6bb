"""JSON as RFC 8259 has it, for documents that decide who may do what: no name twice in one object, no NaN."""

from __future__ import annotations

import json
from typing import Any


class RepeatedName(ValueError):
    """An object has a name twice, and readers differ in which of the two counts."""


def load(text: str) -> Any:
    """Raises ValueError: JSONDecodeError, RepeatedName, or another for huge integers and for deep nesting."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        raise RepeatedName
    return out


def _no_constant(_name: str) -> None:
    raise ValueError("is no number")
