"""Percent-encoding of paths and query strings (RFC 3986 section 2.1), read strictly."""

from __future__ import annotations

from itertools import product
from string import hexdigits
from typing import TYPE_CHECKING, Final

from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping


_OCTETS: Final = {digits.encode(): bytes.fromhex(digits) for digits in map("".join, product(hexdigits, repeat=2))}


def decode(raw: bytes, field: str) -> str:
    """``raw`` as text; raises Invalid(``field``) for a broken escape, octets that are not UTF-8, and NUL."""
    if b"%" in raw:
        try:
            raw = _unescape(raw)
        except KeyError:
            raise Invalid(field, "is not correctly percent-encoded") from None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Invalid(field, "is not valid UTF-8") from None
    if "\0" in text:
        raise Invalid(field, "must not contain the NUL character")
    return text


def query_values(query: bytes, names: Mapping[bytes, str]) -> dict[str, str]:
    """The values of the parameters in ``names``, by name. Other parameters are ignored and not decoded.

    A plus sign is a space, as in HTML forms; botocore sends a space as %20 and a plus sign as %2B, so both agree.
    """
    values: dict[str, str] = {}
    for pair in query.split(b"&"):
        key, _, value = pair.partition(b"=")
        if b"%" in key:
            try:
                key = _unescape(key)
            except KeyError:
                continue
        name = names.get(key)
        if name is None:
            continue
        if name in values:
            raise Invalid(name, "must be given only once")
        values[name] = decode(value.replace(b"+", b" "), name)
    return values


def _unescape(raw: bytes) -> bytes:
    """Raises KeyError for a percent sign without two hexadecimal digits after it."""
    first, *rest = raw.split(b"%")
    return b"".join([first, *[_OCTETS[part[:2]] + part[2:] for part in rest]])
