"""The typed values of conditions: read once from a document, and from a request's context when they are compared.

A reader returns None if the value does not have its type. A context value of the wrong type matches nothing.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thingmint.domain.policies.decisions import Scalar


Network = tuple[int, int, int]
"""IP version, prefix, and the number of bits behind the prefix."""

_LONGEST = 64  # of a number, date or address as text
_MAPPED = ip_network("::ffff:0:0/96")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
# W3C's profile of ISO 8601 ("Date and Time Formats"): year, month, day, then a time with its zone.
_W3C_DATE = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})"
    r"(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?(Z|[+-][0-9]{2}:[0-9]{2}))?)?)?",
    re.ASCII,
)


def read_bool(value: Scalar) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return None


def read_number(value: Scalar) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, str):
        if _INTEGER.fullmatch(value):
            return int(value)
        if _DECIMAL.fullmatch(value):
            number = float(value)
            return number if isfinite(number) else None
    return None


def read_instant(value: Scalar) -> int | None:
    """Return microseconds since 1970 from a datetime, a W3C date text (four digits are a year) or epoch seconds."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (aware - _EPOCH) // _MICROSECOND
    if isinstance(value, str) and len(value) <= _LONGEST:
        match = _W3C_DATE.fullmatch(value)
        if match is not None:
            return _instant_of(match)
    number = read_number(value)
    if number is None or abs(number) > 1e15:
        return None
    return number * 1_000_000 if isinstance(number, int) else round(number * 1_000_000)


def _instant_of(match: re.Match[str]) -> int | None:
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    micro = int((fraction or "0").ljust(6, "0")[:6])
    offset = timedelta()
    if zone is not None and zone != "Z":
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6])) * (-1 if zone[0] == "-" else 1)
    try:
        moment = datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0), micro,
            tzinfo=timezone(offset),
        )  # fmt: skip
    except ValueError:
        return None
    return (moment - _EPOCH) // _MICROSECOND


def read_network(value: Scalar) -> Network | None:
    """Return the network of an address or a CIDR range. IPv4-mapped IPv6 counts as IPv4."""
    if not isinstance(value, str) or len(value) > _LONGEST or "%" in value:
        return None
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        return None
    bits = network.max_prefixlen - network.prefixlen
    first = int(network.network_address)
    if not isinstance(network, IPv4Network) and network.prefixlen >= 96 and network.network_address in _MAPPED:
        return 4, (first & 0xFFFFFFFF) >> bits, bits
    return network.version, first >> bits, bits


def read_address(value: Scalar) -> tuple[int, int] | None:
    """Return the IP version and number. ``::ffff:a.b.c.d`` counts as IPv4: dual-stack listeners report it for peers."""
    if isinstance(value, str):
        return _parse_address(value) if len(value) <= _LONGEST else None
    return _address_of(value) if isinstance(value, IPv4Address | IPv6Address) else None


@lru_cache(maxsize=1024)  # a request compares the same address in every policy
def _parse_address(text: str) -> tuple[int, int] | None:
    try:
        return _address_of(ip_address(text))
    except ValueError:
        return None


def _address_of(address: IPv4Address | IPv6Address) -> tuple[int, int]:
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return (6, int(address)) if mapped is None else (4, int(mapped))
    return 4, int(address)


def read_binary(value: Scalar) -> bytes | None:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return None
    return None
