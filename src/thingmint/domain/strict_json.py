"""JSON that is read with care: how much of it at once, and, where it decides who may do what, as RFC 8259 has it."""

from __future__ import annotations

import json
from typing import Any

MAX_VALUES = 10_000
"""About as many as are parsed and checked in 10 ms. The largest documents that an API has a use for have some 2,000."""


def has_too_many_values(body: bytes) -> bool:
    """Whether ``body`` may hold more than MAX_VALUES. What looks like JSON within its texts is counted too."""
    if len(body) <= MAX_VALUES:  # one value takes a byte at least, and most bodies are small
        return False
    return body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_VALUES


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
