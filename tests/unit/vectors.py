"""Keys, certificates and requests for the tests, good and bad. Keys are made once for each process."""

from __future__ import annotations

import base64
import functools
import textwrap
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Never

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from thingmint.domain.certificate_profiles import DEVICE
from thingmint.domain.issuing_ca import CertificateAuthority, make_root
from thingmint.domain.keys import KeyPair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.utils import Buffer

    from thingmint.domain.certificate_profiles import Profile
    from thingmint.domain.keys import SigningKey

NOW = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=UTC)


class FakeClock:
    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **delta: float) -> None:
        self.now += timedelta(**delta)


class FakeMonotonic:
    """As time.monotonic, which counts from anywhere."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@functools.cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@functools.cache
def ec_key(curve: str = "secp256r1") -> ec.EllipticCurvePrivateKey:
    curves: dict[str, type[ec.EllipticCurve]] = {
        "secp256r1": ec.SECP256R1,
        "secp384r1": ec.SECP384R1,
        "secp521r1": ec.SECP521R1,
        "secp256k1": ec.SECP256K1,
    }
    return ec.generate_private_key(curves[curve]())


@functools.cache
def ca_key() -> ec.EllipticCurvePrivateKey:
    """The key of a server's own authorities, which no device has."""
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


class CountingKey(ec.EllipticCurvePrivateKey):
    """A key that is not in this process's memory, as with a token, and that notes what it was asked to sign."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.signed: list[bytes] = []

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._key.curve

    @property
    def key_size(self) -> int:
        return self._key.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        self.signed.append(bytes(data))
        return self._key.sign(data, signature_algorithm)

    def _refuse(self, *_: object) -> Never:
        raise NotImplementedError

    exchange = private_numbers = private_bytes = __copy__ = __deepcopy__ = _refuse  # type: ignore[assignment]  # unused


def huge_rsa_public_key(bits: int) -> rsa.RSAPublicKey:
    """A public key of that size. Its modulus is not a product of two primes: only the size matters here."""
    return rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) | 1).public_key()


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def cheap_key_pair() -> KeyPair:
    """A KeyPair without the cost of an RSA key; each is another object, and all hold the same key."""
    public = rsa_key().public_key()
    private_pem = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    return KeyPair(public, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(), private_pem)


def certificate(
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | None = None,
    *,
    common_name: str = "a device of its own",
    not_before: datetime = NOW - timedelta(days=1),
    not_after: datetime = NOW + timedelta(days=365),
) -> x509.Certificate:
    """A certificate from a CA that we know nothing of."""
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .issuer_name(name("a CA of its own"))
        .subject_name(name(common_name))
        .public_key(public_key or ec_key().public_key())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(ec_key(), hashes.SHA256())
    )


def certificate_pem(*args: object, **kwargs: object) -> str:
    made = certificate(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they are
    return made.public_bytes(Encoding.PEM).decode()


def csr_pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | None = None,
    subject: x509.Name | None = None,
) -> str:
    key = key or ec_key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(name("thermostat-7") if subject is None else subject)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM).decode()


def signed_csr_pem(information: bytes) -> str:
    """A request with that content of its CertificationRequestInfo, signed by ``ec_key()``."""
    inner = tlv(0x30, information)
    ecdsa_with_sha256 = bytes.fromhex("300a06082a8648ce3d040302")
    signature = ec_key().sign(inner, ec.ECDSA(hashes.SHA256()))
    return to_pem(tlv(0x30, inner + ecdsa_with_sha256 + tlv(0x03, b"\0" + signature)), "CERTIFICATE REQUEST")


def to_pem(der: bytes, label: str) -> str:
    lines = textwrap.fill(base64.b64encode(der).decode(), 64)
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"


def to_der(pem: str) -> bytes:
    return base64.b64decode("".join(line for line in pem.splitlines() if not line.startswith("-----")))


def tlv(tag: int, content: bytes) -> bytes:
    """One element of DER."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def elements(content: bytes) -> list[tuple[int, bytes]]:
    """The (tag, content) of each element that ``content`` is made of."""
    found = []
    while content:
        size, start = content[1], 2
        if size & 0x80:
            start = 2 + (size & 0x7F)
            size = int.from_bytes(content[2:start], "big")
        found.append((content[0], content[start : start + size]))
        content = content[start + size :]
    return found


def with_elements(der: bytes, inner: Sequence[bytes]) -> bytes:
    """A certificate or request with its first part made anew, and the old signature under it."""
    _, algorithm, signature = elements(elements(der)[0][1])
    return tlv(0x30, tlv(0x30, b"".join(inner)) + tlv(*algorithm) + tlv(*signature))


def inner_elements(der: bytes) -> list[bytes]:
    """The elements of a certificate's or request's signed part, each whole."""
    return [tlv(tag, content) for tag, content in elements(elements(elements(der)[0][1])[0][1])]


def authority(key: SigningKey | None = None, profile: Profile = DEVICE, now: datetime = NOW) -> CertificateAuthority:
    key = key or ec_key()
    return CertificateAuthority(make_root("Thingmint Test CA", key, now), key, profile)
