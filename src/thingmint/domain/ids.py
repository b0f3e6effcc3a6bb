"""Makes ids: UUIDs, ids of Yandex Cloud's form, and the store's time-ordered ids for certificates.

An id of Yandex Cloud is a prefix of three characters for the kind and 17 characters of base32hex.
"""

from __future__ import annotations

import random
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final

IOT: Final = "are"  # devices, registries, brokers, their passwords, and operations on them
PRINCIPAL: Final = "aje"  # users, service accounts, and their keys
FOLDER: Final = "b1g"

_FORM = re.compile("[a-z][a-z0-9]{2}[0-9a-v]{17}")

_DIGIT_OF_BYTE = b"0123456789abcdefghijklmnopqrstuv" * 8
_RANDOM_LENGTH = 17


def new_id(prefix: str) -> str:
    """Return a new id of 20 characters, with 85 random bits."""
    if len(prefix) != 3:
        raise ValueError("a prefix has three characters")
    return prefix + secrets.token_bytes(_RANDOM_LENGTH).translate(_DIGIT_OF_BYTE).decode()


def has_form_of_id(text: str) -> bool:
    """True for texts that ``new_id`` can return, and for ids of Yandex Cloud."""
    return _FORM.fullmatch(text) is not None


def new_uuid() -> str:
    """Return a UUID of version 4 (RFC 9562 5.4), in a quarter of the standard library's time."""
    digits = secrets.token_bytes(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LANE_BITS = 4
_LANE_AT = 59  # so that an id is positive, in 64 bits
_FRACTION_BITS = 6  # of a microsecond


class TimeOrderedIds:
    """Makes ids of 63 bits: the number of a lane, then the time in 1/64 microseconds, whose last 6 bits are random.

    One instance never makes an id twice. Two instances can make the same id within one microsecond, which the unique
    index of the ids refuses. With ``lanes`` the first 4 bits are a random lane, so that concurrent writers write to
    different pages of an index.
    """

    def __init__(self, *, lanes: bool) -> None:
        self._lanes = 1 << _LANE_BITS if lanes else 1
        self._last = 0

    def __call__(self, now: datetime) -> int:
        micros = (now - _EPOCH) // _MICROSECOND
        fraction = random.getrandbits(_FRACTION_BITS)
        self._last = max(self._last + 1, micros << _FRACTION_BITS | fraction)
        return random.randrange(self._lanes) << _LANE_AT | self._last  # noqa: S311 - it only spreads them
