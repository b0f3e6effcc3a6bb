"""Finds RSA keys that are long enough but can be factored."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


def _primes(below: int) -> Iterator[int]:
    sieve = bytearray([1]) * below
    for number in range(2, below):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, below, number)))
            yield number


_SMALL: Final = math.prod(_primes(1 << 13))
_ROUNDS: Final = 110  # of Fermat's method, as in Let's Encrypt's Boulder

_SQUARES_64: Final = frozenset(n * n % 64 for n in range(64))
_SQUARES: Final = tuple((divisor, frozenset(n * n % divisor for n in range(divisor))) for divisor in (63, 65, 11))
_SIEVE: Final = 64 * 63 * 65 * 11

# Nemec et al., "The Return of Coppersmith's Attack" (2017): modulo each of the first primes, the prime factors that the
# faulty chips make are powers of the generator, and so is their product. Of other keys, one in 2^28 has this property
# for the primes up to 167.
_GENERATOR: Final = 65537


def _powers(prime: int) -> frozenset[int]:
    return frozenset(pow(_GENERATOR, exponent, prime) for exponent in range(prime))


_FINGERPRINT: Final = tuple((prime, _powers(prime)) for prime in _primes(168) if len(_powers(prime)) < prime - 1)


def weakness(key: PublicKeyTypes) -> str | None:
    """Return why the key can be broken, as a phrase that fits after "has", or None."""
    if not isinstance(key, rsa.RSAPublicKey):
        return None
    modulus = key.public_numbers().n
    if math.gcd(modulus, _SMALL) > 1:
        return "an RSA key with a small factor, which is easy to find"
    if all(modulus % prime in powers for prime, powers in _FINGERPRINT):
        return "an RSA key that a faulty chip made (ROCA, CVE-2017-15361), which can be factored"
    if _has_close_factors(modulus):
        return "an RSA key whose prime factors are close to each other (CVE-2022-26320), which is easy to find"
    return None


def _has_close_factors(modulus: int) -> bool:
    """True if Fermat's method factors the modulus: n = a^2 - b^2 with a close to the square root of n."""
    a = math.isqrt(modulus - 1) + 1
    rest = a * a - modulus
    small_a, small_rest = a % _SIEVE, rest % _SIEVE
    for step in range(_ROUNDS):
        # Few numbers pass all of these tests for squares, so the slow square root is rarely computed.
        if small_rest & 63 in _SQUARES_64 and all(small_rest % divisor in squares for divisor, squares in _SQUARES):
            candidate = (a + step) ** 2 - modulus
            if math.isqrt(candidate) ** 2 == candidate:
                return True
        small_rest += 2 * small_a + 1
        small_a += 1
    return False
