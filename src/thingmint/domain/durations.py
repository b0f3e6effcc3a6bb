"""Durations as people write them."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SECONDS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhd]?)")


def parse_duration(value: object) -> object:
    """Return seconds, or a number with a unit (90d, 12h, 30m, 45s), as a timedelta.

    Returns ISO 8601 text (P90D), which pydantic itself reads, and values that are not text unchanged. Raises ValueError
    for other text.
    """
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return timedelta(**{_UNITS[match[2] or "s"]: float(match[1])})
    if isinstance(value, str) and not value.startswith("P"):
        raise ValueError("must be a duration such as 90d, 12h, 30m, 45s or P90D")
    return value


def written(value: object) -> str:
    """A duration in its largest whole unit, such as 90d; any other value as text."""
    if not isinstance(value, timedelta):
        return str(value)
    seconds = value.total_seconds()
    unit, size = next(((unit, size) for unit, size in _SECONDS if seconds >= size and not seconds % size), ("s", 1))
    return f"{seconds / size:g}{unit}"
