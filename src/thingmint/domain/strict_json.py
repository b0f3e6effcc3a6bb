"""Limits the size of JSON that callers send, and reads policies and templates strictly by RFC 8259."""

from __future__ import annotations

import json
from typing import Any

MAX_VALUES = 10_000
"""About as many values as are parsed and checked in 10 ms. The largest useful documents have some 2,000."""


def has_too_many_values(body: bytes) -> bool:
    """True if ``body`` may have more than MAX_VALUES values. Commas and brackets inside strings are counted too."""
    if len(body) <= MAX_VALUES:  # each value takes at least one byte, and most bodies are small
        return False
    return body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_VALUES


class RepeatedName(ValueError):
    """An object has a name twice. JSON parsers differ in which of the two values counts."""


def load(text: str) -> Any:
    """Return the parsed JSON.

    Raises JSONDecodeError, RepeatedName, or another ValueError for huge integers and deep nesting.
    """
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
