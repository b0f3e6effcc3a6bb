"""How much JSON is read at once: parsing costs by the number of values, of which a megabyte can hold 500,000."""

from __future__ import annotations

MAX_VALUES = 10_000
"""About as many as are parsed and checked in 10 ms. The largest documents that an API has a use for have some 2,000."""


def has_too_many_values(body: bytes) -> bool:
    """Whether ``body`` may hold more than MAX_VALUES. What looks like JSON within its texts is counted too."""
    if len(body) <= MAX_VALUES:  # one value takes a byte at least, and most bodies are small
        return False
    return body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_VALUES
