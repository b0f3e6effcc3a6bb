"""Percent-encoding of paths and query strings (RFC 3986 section 2.1), read strictly."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from thingmint.identity.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["decode", "query_values"]

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def decode(raw: bytes, field: str) -> str:
    """``raw`` as text; raises Invalid(``field``) for a broken escape, octets that are not UTF-8, and NUL."""
    if b"%" in raw:
        if _BROKEN_ESCAPE.search(raw):
            raise Invalid(field, "is not correctly percent-encoded")
        raw = unquote_to_bytes(raw)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Invalid(field, "is not valid UTF-8") from None
    if "\0" in text:
        raise Invalid(field, "must not contain the NUL character")
    return text


def query_values(query: bytes, names: Mapping[bytes, str]) -> dict[str, str]:
    """The values of those parameters that ``names`` knows, by name; all others are ignored, undecoded.

    A plus sign is a space, as in HTML forms; botocore sends a space as %20 and a plus sign as %2B, so both agree.
    """
    values: dict[str, str] = {}
    for pair in query.split(b"&"):
        key, _, value = pair.partition(b"=")
        name = names.get(unquote_to_bytes(key.replace(b"+", b" ")) if b"%" in key or b"+" in key else key)
        if name is None:
            continue
        if name in values:
            raise Invalid(name, "must be given only once")
        values[name] = decode(value.replace(b"+", b" "), name)
    return values
