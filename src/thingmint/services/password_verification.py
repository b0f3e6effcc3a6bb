"""Checks the passwords with which devices, registries and brokers of Yandex IoT Core connect.

Each attempt costs one Argon2id hash, whether the owner exists or not, and however many passwords it has. Two kinds of
correct passwords cost none, and are not limited: those that ``new_password`` made, and those that were correct within
the last ten minutes. So a whole fleet behind one address can come back at once.
"""

from __future__ import annotations

import hmac
import os
import time
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING

from thingmint.domain.errors import Throttled
from thingmint.services.password_hashing import ARGON2ID, SHA256, is_generated, sha256
from thingmint.services.passwords import list_passwords, matches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thingmint.services.password_hashing import PasswordHasher
    from thingmint.services.passwords import Password
    from thingmint.store.engine import PublishedChange, Store

_REMEMBERED_FOR = 600.0  # seconds
_MAX_REMEMBERED = 100_000
_MAX_COUNTED = 100_000
_LONGEST_ID = 50  # of an owner: longer user names are counted by their beginnings, so that they take little memory

# Wrong passwords: at first so many, and then one each so many seconds.
_OF_OWNER_AND_ADDRESS = (10, 6.0)
_OF_ADDRESS = (100, 0.5)


class WrongPasswords:
    """Counts wrong passwords in token buckets. An attempt takes a token, and gives it back if it was not wrong."""

    def __init__(self, burst: int, seconds_each: float, clock: Callable[[], float]) -> None:
        self._burst = burst
        self._seconds_each = seconds_each
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What is left, and when that was: the longest unused bucket comes first."""

    def take(self, key: str) -> None:
        """Raises Throttled."""
        left = self._left(key)
        self._buckets[key] = (left - 1 if left >= 1 else left, self._clock())
        if len(self._buckets) > _MAX_COUNTED:
            self._buckets.popitem(last=False)
        if left < 1:
            raise Throttled("Too many wrong passwords: try again later", retry_after=self._seconds_each)

    def give_back(self, key: str) -> None:
        left = self._left(key) + 1
        if left < self._burst:
            self._buckets[key] = (left, self._clock())

    def _left(self, key: str) -> float:
        now = self._clock()
        left, at = self._buckets.pop(key, (float(self._burst), now))
        return min(self._burst, left + (now - at) / self._seconds_each)


class PasswordVerifier:
    """``stale`` says whether changes may have been missed: then nothing that is remembered counts.

    It follows the change feed with ``changed``.
    """

    def __init__(
        self,
        store: Store,
        hasher: PasswordHasher,
        stale: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._hasher = hasher
        self._stale = stale
        self._clock = clock
        self._key = os.urandom(32)
        self._remembered: OrderedDict[bytes, tuple[str, str, float]] = OrderedDict()
        """Owner, the password's id, and until when."""
        self._of_owner: defaultdict[str, set[bytes]] = defaultdict(set)
        self._generation = 0  # of what is remembered: a change during an attempt must not be forgotten
        self._wrong = WrongPasswords(*_OF_OWNER_AND_ADDRESS, clock)
        self._wrong_of_address = WrongPasswords(*_OF_ADDRESS, clock)

    async def verify(self, account: str, owner: str, password: str, source: str) -> str | None:
        """The id of the owner's password that it is; None if it is none of the owner's, in that account.

        ``source`` is the address that limits are counted for.

        Raises Throttled (wrong passwords, or too many to check at once) and Unavailable.
        """
        digest = hmac.digest(self._key, f"{account}\0{owner}\0{password}".encode(), "sha256")
        if (remembered := self._find_remembered(digest)) is not None:
            return remembered
        generation = self._generation
        found = await self._store.read(lambda tx: list_passwords(tx, owner))
        known = [each for each in found if each.account == account]
        correct = _find_generated(known, owner, password) or await self._find_counted(known, owner, password, source)
        if correct is not None and generation == self._generation:
            self._remember(digest, owner, correct)
        return correct

    async def _find_counted(self, known: Sequence[Password], owner: str, password: str, source: str) -> str | None:
        """Counts the attempt before it is found wrong, so that attempts at the same time are limited too."""
        attempt, correct = f"{owner[:_LONGEST_ID]}\0{source}", None
        self._wrong_of_address.take(source)
        try:
            self._wrong.take(attempt)
        except Throttled:
            self._wrong_of_address.give_back(source)
            raise
        try:
            correct = await self._find_chosen(known, owner, password)
        except Throttled:  # it was not checked
            self._give_back(attempt, source)
            raise
        if correct is not None:
            self._give_back(attempt, source)
        return correct

    def _give_back(self, attempt: str, source: str) -> None:
        self._wrong.give_back(attempt)
        self._wrong_of_address.give_back(source)

    async def _find_chosen(self, known: Sequence[Password], owner: str, password: str) -> str | None:
        chosen = [each for each in known if each.scheme != SHA256]
        correct = None
        # One scheme in all but the time in which the cost of hashing is changed; and one where there is no password.
        for scheme in {each.scheme for each in chosen} or {ARGON2ID}:
            hashed = await self._hasher.argon2id(owner, password, scheme)
            for each in chosen:
                if each.scheme == scheme and matches(each, hashed):
                    correct = each.id
        return correct

    def changed(self, changes: Sequence[PublishedChange]) -> None:
        for change in changes:
            if change.kind == "owner":
                self._generation += 1
                for digest in self._of_owner.pop(change.name, ()):
                    self._remembered.pop(digest, None)

    def _find_remembered(self, digest: bytes) -> str | None:
        known = None if self._stale() else self._remembered.get(digest)
        if known is None:
            return None
        owner, id, until = known
        if until > self._clock():
            return id
        self._forget(digest, owner)
        return None

    def _remember(self, digest: bytes, owner: str, id: str) -> None:
        self._remembered[digest] = (owner, id, self._clock() + _REMEMBERED_FOR)
        self._of_owner[owner].add(digest)
        if len(self._remembered) > _MAX_REMEMBERED:
            oldest, (of, _, _) = next(iter(self._remembered.items()))
            self._forget(oldest, of)

    def _forget(self, digest: bytes, owner: str) -> None:
        del self._remembered[digest]
        digests = self._of_owner[owner]
        digests.discard(digest)
        if not digests:
            del self._of_owner[owner]


def _find_generated(known: Sequence[Password], owner: str, password: str) -> str | None:
    """It has too many random bits to be guessed, so attempts are not counted."""
    if not is_generated(password):
        return None
    hashed = sha256(owner, password)
    return next((each.id for each in known if each.scheme == SHA256 and matches(each, hashed)), None)
