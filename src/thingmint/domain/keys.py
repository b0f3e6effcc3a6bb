"""Makes key pairs, and decides which public keys are accepted."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Never

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True, repr=False)
class KeyPair:
    """A device's new key pair, both halves ready to be sent. It stays in memory until the reply is written."""

    public_key: rsa.RSAPublicKey
    public_pem: str  # SubjectPublicKeyInfo
    private_pem: str  # PKCS#1, as AWS IoT sends it

    def __repr__(self) -> str:  # a key pair in a log line or a traceback shows nothing
        return "<KeyPair>"


def generate_key_pair() -> KeyPair:
    """Make an RSA-2048 key pair. Takes about 55 ms of CPU, most of it with the GIL released."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key()
    return KeyPair(
        public_key=public,
        public_pem=public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        private_pem=key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode(),
    )


def generate_authorized_key() -> tuple[str, str]:
    """Make a service account's key pair (RSA-2048): the private half in PKCS#8 and the public half, both in PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public_pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return private_pem, public_pem


def throw_away_key(like: SigningKey) -> SigningKey:
    """Return a key of the type of ``like`` whose signatures prove nothing. Made once per type and process."""
    if isinstance(like, rsa.RSAPrivateKey):
        return _throw_away_rsa(like.key_size)
    return _throw_away_ec(type(like.curve))


@functools.cache
def _throw_away_ec(curve: type[ec.EllipticCurve]) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


@functools.cache
def _throw_away_rsa(bits: int) -> rsa.RSAPrivateKey:
    return _ThrowAwayRSA(rsa.generate_private_key(public_exponent=65537, key_size=bits))


class _ThrowAwayRSA(rsa.RSAPrivateKey):
    """Returns the same signature, of an empty message, for every message.

    An RSA signature is a third of the cost of issuing a certificate. A draft needs only a signature of the right form.
    """

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self._public_key = key.public_key()
        self._signature = key.sign(b"", padding.PKCS1v15(), hashes.SHA256())

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public_key

    def sign(self, *_: object) -> bytes:
        return self._signature

    def __copy__(self) -> _ThrowAwayRSA:
        return self

    def __deepcopy__(self, memo: object) -> _ThrowAwayRSA:
        return self

    def _refuse(self, *_: object) -> Never:
        raise NotImplementedError

    decrypt = private_numbers = private_bytes = _refuse  # type: ignore[assignment]  # whatever their arguments


def key_id(key: PublicKeyTypes) -> str:
    """Return the SHA-256 of the numbers of an RSA or EC key, in hex. It does not depend on the key's encoding."""
    match key:
        case rsa.RSAPublicKey():
            modulus = key.public_numbers()
            text = f"rsa {modulus.n:x} {modulus.e:x}"
        case ec.EllipticCurvePublicKey():
            point = key.public_numbers()
            text = f"{key.curve.name} {point.x:x} {point.y:x}"
        case _:
            raise TypeError(f"{type(key).__name__} is no key of an authority")
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """Which public keys are accepted. RSA sizes are in bits; without ``curves`` every named curve is accepted."""

    rsa_min: int
    rsa_max: int
    curves: frozenset[str] | None
    ed25519: bool = False

    def violation(self, key: PublicKeyTypes) -> str | None:
        """Return why ``key`` is refused, as a phrase that fits after "has", or None if it is accepted."""
        match key:
            case rsa.RSAPublicKey():
                if self.rsa_min <= key.key_size <= self.rsa_max:
                    return None
                return f"an RSA key of {key.key_size} bits; {self.rsa_min} to {self.rsa_max} are accepted"
            case ec.EllipticCurvePublicKey():
                if self.curves is None or key.curve.name in self.curves:
                    return None
                return f"an EC key on another curve than {', '.join(sorted(self.curves))}"
            case ed25519.Ed25519PublicKey() if self.ed25519:
                return None
            case _:
                return f"a key of a type that is not accepted; use {self.types}"

    @property
    def types(self) -> str:
        """The accepted types of keys, in words."""
        return "RSA, ECDSA or Ed25519" if self.ed25519 else "RSA or ECDSA"


_NIST_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})

# AWS IoT, CreateCertificateFromCsr: "RSA key with a length of at least 2048 bits or an ECC key from NIST P-256,
# P-384, or P-521". The upper bound is ours, because the time to sign and verify grows with the cube of the size.
CSR_KEYS = KeyPolicy(rsa_min=2048, rsa_max=4096, curves=_NIST_CURVES)

# Certificates that devices already have cannot be changed, so larger keys are accepted.
OWN_KEYS = KeyPolicy(rsa_min=2048, rsa_max=8192, curves=_NIST_CURVES)

# Yandex IoT Core accepts every certificate that it can parse, so fleets that move from there have keys of every kind.
# A device with a weak key can be registered, but may be unable to connect (certificates.find_obstacle).
FLEET_KEYS = KeyPolicy(rsa_min=0, rsa_max=8192, curves=None, ed25519=True)
