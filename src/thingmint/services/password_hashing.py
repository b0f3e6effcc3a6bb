"""How passwords are checked against the rules of Yandex IoT Core, made, and hashed.

Passwords that people choose are hashed with Argon2id. Those that ``new_password`` makes have 128 random bits and more,
which cannot be guessed, so SHA-256 is enough: ten thousand devices that connect at once after a power cut cost no more
than as many certificates.

All passwords of an owner have one salt, so an attempt costs one hash, however many passwords the owner has.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import os
import re
import secrets
import string
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from thingmint.domain.errors import Invalid, Throttled
from thingmint.domain.ids import IOT, new_id

_MIN_LENGTH = 14  # characters (Yandex: "Authorization in Yandex IoT Core")
_MAX_BYTES = 128  # Yandex documents no limit; hashing is paid for by the server

# OWASP's "Password Storage Cheat Sheet": 19 MiB and two passes. One core makes about 50 of these in a second.
ARGON2ID = "argon2id:m=19456,t=2,p=1"
SHA256 = "sha256"
_ARGON2ID = re.compile(r"argon2id:m=(\d+),t=(\d+),p=(\d+)")
_HASH_BYTES = 32
_THREADS = max(1, (os.cpu_count() or 1) // 2)  # the event loop needs a core, too
_GENERATED = "tmk1-"  # what passwords of ``new_password`` begin with
_GENERATED_FORM = re.compile(_GENERATED + r"([A-Za-z0-9]{23})([A-Za-z0-9]{5})")
_CHECK_LENGTH = 5
_ALPHABET = string.ascii_letters + string.digits


class NewPassword(NamedTuple):
    """A password that is hashed and not yet stored."""

    id: str
    scheme: str
    hash: bytes


def check_password(password: str, field: str = "password") -> None:
    """Raises Invalid, which does not quote it."""
    if len(password) < _MIN_LENGTH:
        raise Invalid(field, f"must have at least {_MIN_LENGTH} characters")
    if len(password.encode()) > _MAX_BYTES:
        raise Invalid(field, f"must have at most {_MAX_BYTES} bytes")
    if "\0" in password:
        raise Invalid(field, "must not contain NUL")
    if len({_class_of(character) for character in password}) < 3:
        raise Invalid(field, "must have three of: lower-case letters, upper-case letters, digits, other characters")


def _class_of(character: str) -> str:
    if character.isdigit():
        return "digit"
    return "lower" if character.islower() else "upper" if character.isupper() else "other"


def new_password() -> str:
    """A password with 136 random bits that keeps the rules. It ends in a check, so that people do not choose one."""
    random = "".join(secrets.choice(_ALPHABET) for _ in range(23))
    return f"{_GENERATED}{random}{_check(random)}"


def _check(random: str) -> str:
    number, characters = int.from_bytes(hashlib.sha256(random.encode()).digest()), []
    for _ in range(_CHECK_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[digit])
    return "".join(characters)


class PasswordHasher:
    """Runs Argon2id in threads, which it does not block: it runs without the interpreter's lock.

    ``waiting`` is how many hashes may be under way or wait; more are refused, so that attempts cannot take all memory.
    """

    def __init__(self, threads: int = _THREADS, waiting: int = 100) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="passwords")
        self._left = waiting

    async def argon2id(self, owner: str, password: str, scheme: str = ARGON2ID) -> bytes:
        """Raises Throttled if too many wait."""
        if self._left <= 0:
            raise Throttled("The server is busy with other passwords: try again later")
        self._left -= 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, functools.partial(_argon2id, owner, password, scheme))
        finally:
            self._left += 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


async def hash_password(hasher: PasswordHasher, owner: str, password: str) -> NewPassword:
    """Raises Invalid for a password that breaks the rules, and Throttled."""
    check_password(password)
    if is_generated(password):
        return NewPassword(new_id(IOT), SHA256, sha256(owner, password))
    return NewPassword(new_id(IOT), ARGON2ID, await hasher.argon2id(owner, password))


def is_generated(password: str) -> bool:
    """True for passwords of ``new_password``; a person who chooses another of its form does not meet the check."""
    match = _GENERATED_FORM.fullmatch(password)
    return match is not None and match[2] == _check(match[1])


def sha256(owner: str, password: str) -> bytes:
    return hmac.digest(_salt(owner), password.encode(), "sha256")


def _argon2id(owner: str, password: str, scheme: str) -> bytes:
    match = _ARGON2ID.fullmatch(scheme)
    assert match is not None, scheme
    memory, passes, lanes = map(int, match.groups())
    derivation = Argon2id(salt=_salt(owner), length=_HASH_BYTES, iterations=passes, lanes=lanes, memory_cost=memory)
    return derivation.derive(password.encode())


def _salt(owner: str) -> bytes:
    """Ids are random, so they make salts that no other owner has."""
    return hashlib.sha256(b"thingmint device password\0" + owner.encode()).digest()[:16]
