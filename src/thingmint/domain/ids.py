"""Ids as Yandex Cloud forms them: a prefix of three characters that tells the kind, and 17 of base32hex."""

from __future__ import annotations

import secrets
from typing import Final

IOT: Final = "are"  # devices, registries, brokers, their passwords, and operations on them
PRINCIPAL: Final = "aje"  # users, service accounts, and their keys
FOLDER: Final = "b1g"

_DIGITS = "0123456789abcdefghijklmnopqrstuv"
_RANDOM_LENGTH = 17


def new_id(prefix: str) -> str:
    """A new id of 20 characters, 85 bits of them random."""
    if len(prefix) != 3:
        raise ValueError("a prefix has three characters")
    bits = secrets.randbits(5 * _RANDOM_LENGTH)
    return prefix + "".join([_DIGITS[bits >> shift & 31] for shift in range(0, 5 * _RANDOM_LENGTH, 5)])
