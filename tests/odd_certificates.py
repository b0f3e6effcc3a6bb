"""Certificates and CSRs that break RFC 5280, DER or both, in the way that real encoders do.

Each has a valid signature over its bytes, so only the encoding is wrong.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.unit.vectors import ec_key, elements, rsa_key, tlv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

BIT_STRING, OCTET_STRING, OID, UTF8, PRINTABLE = 0x03, 0x04, 0x06, 0x0C, 0x13
TELETEX, IA5, UTC, GENERALIZED, VISIBLE, UNIVERSAL, BMP = 0x14, 0x16, 0x17, 0x18, 0x1A, 0x1C, 0x1E
SEQUENCE, SET = 0x30, 0x31

COMMON_NAME, COUNTRY, ORGANIZATION, SERIAL_NUMBER = "550403", "550406", "55040a", "550405"
BASIC_CONSTRAINTS, SUBJECT_ALTERNATIVE_NAME = "551d13", "551d11"

ECDSA_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")
ECDSA_SHA256_NULL: Final = bytes.fromhex("300c06082a8648ce3d0403020500")
ECDSA_SHA1: Final = bytes.fromhex("300906072a8648ce3d0401")
RSA_SHA256: Final = bytes.fromhex("300d06092a864886f70d01010b0500")
RSA_SHA256_BARE: Final = bytes.fromhex("300b06092a864886f70d01010b")
RSA_SHA1: Final = bytes.fromhex("300d06092a864886f70d0101050500")
RSA_MD5: Final = bytes.fromhex("300d06092a864886f70d0101040500")
_DIGESTS: Final[Mapping[bytes, hashes.HashAlgorithm]] = {
    ECDSA_SHA1: hashes.SHA1(),
    RSA_SHA1: hashes.SHA1(),
    RSA_MD5: hashes.MD5(),
}


def attribute(kind: str, tag: int, text: bytes) -> bytes:
    return tlv(SEQUENCE, tlv(OID, bytes.fromhex(kind)) + tlv(tag, text))


def name(*attributes: bytes) -> bytes:
    return tlv(SEQUENCE, b"".join(tlv(SET, each) for each in attributes))


def common_name(tag: int, text: bytes) -> bytes:
    return name(attribute(COMMON_NAME, tag, text))


def time(tag: int, text: bytes) -> bytes:
    return tlv(tag, text)


def extension(kind: str, value: bytes, critical: bytes = b"") -> bytes:
    return tlv(SEQUENCE, tlv(OID, bytes.fromhex(kind)) + critical + tlv(OCTET_STRING, value))


def extensions(*each: bytes) -> bytes:
    return tlv(0xA3, tlv(SEQUENCE, b"".join(each)))


def dns_names(*names: bytes) -> bytes:
    return extension(SUBJECT_ALTERNATIVE_NAME, tlv(SEQUENCE, b"".join(tlv(0x82, each) for each in names)))


def key_info(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def signed(
    content: bytes,
    key: Key,
    algorithm: bytes,
    bits: Callable[[bytes], bytes] = lambda signature: tlv(BIT_STRING, b"\0" + signature),
    *,
    outer: bytes | None = None,
) -> bytes:
    digest = _DIGESTS.get(algorithm, hashes.SHA256())
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(content, padding.PKCS1v15(), digest)
    else:
        signature = key.sign(content, ec.ECDSA(digest))
    return tlv(SEQUENCE, content + (outer or algorithm) + bits(signature))


PLAIN: Final = common_name(UTF8, b"device")
BEGIN: Final = time(UTC, b"200101000000Z")
END: Final = time(UTC, b"491231235959Z")
NO_CA: Final = extension(BASIC_CONSTRAINTS, b"\x30\0")


def tbs(
    *,
    subject: bytes = PLAIN,
    issuer: bytes = PLAIN,
    algorithm: bytes = ECDSA_SHA256,
    begin: bytes = BEGIN,
    end: bytes = END,
    serial: bytes = b"\x02\x01\x05",
    version: bytes = bytes.fromhex("a003020102"),
    public_key: bytes | None = None,
    rest: bytes = b"",
) -> bytes:
    """The content of a TBSCertificate."""
    validity = tlv(SEQUENCE, begin + end)
    return version + serial + algorithm + issuer + validity + subject + (public_key or key_info(ec_key())) + rest


def certificate(key: Key | None = None, *, outer: bytes | None = None, **parts: bytes) -> bytes:
    """A self-signed certificate of ``key`` (by default P-256)."""
    key = key or ec_key()
    algorithm = parts.setdefault("algorithm", RSA_SHA256 if isinstance(key, rsa.RSAPrivateKey) else ECDSA_SHA256)
    parts.setdefault("public_key", key_info(key))
    return signed(tlv(SEQUENCE, tbs(**parts)), key, algorithm, outer=outer)


def request(
    subject: bytes = PLAIN,
    key: Key | None = None,
    *,
    algorithm: bytes | None = None,
    attributes: bytes = b"\xa0\0",
    version: bytes = b"\2\1\0",
    public_key: bytes | None = None,
) -> bytes:
    key = key or ec_key()
    algorithm = algorithm or (RSA_SHA256 if isinstance(key, rsa.RSAPrivateKey) else ECDSA_SHA256)
    content = tlv(SEQUENCE, version + subject + (public_key or key_info(key)) + attributes)
    return signed(content, key, algorithm)


def tlv_content(element: bytes) -> bytes:
    [(_, content)] = elements(element)
    return content


def indefinite(content: bytes) -> bytes:
    """A BER SEQUENCE of indefinite length, which ends with a marker."""
    return b"\x30\x80" + content + b"\0\0"


_P256: Final = tlv(SEQUENCE, bytes.fromhex("06072a8648ce3d020106082a8648ce3d030107"))

NAMES: Final[Mapping[str, bytes]] = {
    "underscore in PrintableString": common_name(PRINTABLE, b"device_1"),
    "at in PrintableString": common_name(PRINTABLE, b"unit@plant"),
    "ampersand in PrintableString": name(attribute(ORGANIZATION, PRINTABLE, b"Plant & Co")),
    "asterisk in PrintableString": common_name(PRINTABLE, b"*.plant"),
    "serial number with underscore": name(attribute(SERIAL_NUMBER, PRINTABLE, b"SN_0001")),
    "UTF-8 in PrintableString": common_name(PRINTABLE, "датчик".encode()),
    "Latin-1 in PrintableString": common_name(PRINTABLE, b"Z\xfcrich"),
    "Latin-1 in TeletexString": common_name(TELETEX, b"Z\xfcrich"),
    "Latin-1 in IA5String": common_name(IA5, b"Z\xfcrich"),
    "attributes out of order": tlv(
        SEQUENCE, tlv(SET, attribute(ORGANIZATION, UTF8, b"z") + attribute(COMMON_NAME, UTF8, b"a"))
    ),
    "an empty set": tlv(SEQUENCE, tlv(SET, b"") + tlv(SET, attribute(COMMON_NAME, UTF8, b"a"))),
    "of indefinite length": indefinite(PLAIN[2:]),
}
"""Names that the strict parser refuses and OpenSSL reads. Certificates can be issued for all of them."""


@functools.cache
def certificates() -> Mapping[str, bytes]:
    """Certificates that the strict parser refuses completely or in part, and OpenSSL reads."""
    content = tbs()
    inside, inside_another = (tlv_content(certificate(serial=tlv(2, number))) for number in (b"\6", b"\7"))
    point = ec_key().public_key()
    compressed = point.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return {
        **{f"subject: {kind}": certificate(subject=odd) for kind, odd in NAMES.items()},
        **{f"issuer: {kind}": certificate(issuer=odd) for kind, odd in NAMES.items()},
        "NULL parameters of ECDSA": certificate(algorithm=ECDSA_SHA256_NULL),
        "no parameters of RSA": certificate(rsa_key(), algorithm=RSA_SHA256_BARE),
        "parameters that differ": certificate(outer=ECDSA_SHA256_NULL),
        "explicit version 1": certificate(version=bytes.fromhex("a003020100")),
        "version 4": certificate(version=bytes.fromhex("a003020103")),
        "version 1 with extensions": certificate(version=b"", rest=extensions(NO_CA)),
        "explicit cA FALSE": certificate(rest=extensions(extension(BASIC_CONSTRAINTS, b"\x30\3\1\1\0"))),
        "explicit critical FALSE": certificate(rest=extensions(extension(BASIC_CONSTRAINTS, b"\x30\0", b"\1\1\0"))),
        "TRUE that is 1": certificate(rest=extensions(extension(BASIC_CONSTRAINTS, b"\x30\0", b"\1\1\1"))),
        "an extension twice": certificate(rest=extensions(NO_CA, NO_CA)),
        "two lists of names": certificate(rest=extensions(dns_names(b"a.example"), dns_names(b"b.example"))),
        "an extension of garbage": certificate(rest=extensions(extension("2a0304", b"garbage"))),
        "names of garbage": certificate(rest=extensions(extension(SUBJECT_ALTERNATIVE_NAME, b"garbage"))),
        "a name in Latin-1": certificate(rest=extensions(dns_names(b"\xe9.example"))),
        "no extensions at all": certificate(rest=extensions()),
        "a time with an offset": certificate(begin=time(UTC, b"200101000000+0100")),
        "fractions of a second": certificate(begin=time(GENERALIZED, b"20200101000000.5Z")),
        "GeneralizedTime before 2050": certificate(begin=time(GENERALIZED, b"20200101000000Z")),
        "a negative serial number": certificate(serial=b"\2\1\x80"),
        "serial number 0": certificate(serial=b"\2\1\0"),
        "a serial number of 40 bytes": certificate(serial=tlv(2, b"\1" * 40)),
        "an empty subject": certificate(subject=tlv(SEQUENCE, b"")),
        "unique identifiers": certificate(rest=tlv(0x81, b"\0abc") + extensions(NO_CA)),
        "bytes behind the end": certificate(serial=tlv(2, b"\x08")) + b"\0\0",
        "a length that is not the shortest": b"\x30\x83" + len(inside).to_bytes(3, "big") + inside,
        "all of indefinite length": indefinite(inside_another),
        "content of indefinite length": signed(indefinite(content), ec_key(), ECDSA_SHA256),
        "a signature in pieces": signed(
            tlv(SEQUENCE, content), ec_key(), ECDSA_SHA256, lambda bits: tlv(0x23, tlv(BIT_STRING, b"\0" + bits))
        ),
        "a compressed point": certificate(public_key=tlv(SEQUENCE, _P256 + tlv(BIT_STRING, b"\0" + compressed))),
    }


def without_seconds() -> Mapping[str, bytes]:
    """Certificates with times that OpenSSL 3 and mbedTLS read, but OpenSSL 4 does not."""
    return {
        "no seconds": certificate(begin=time(UTC, b"2001010000Z")),
        "no time zone": certificate(end=time(UTC, b"491231235959")),
        "GeneralizedTime without seconds": certificate(begin=time(GENERALIZED, b"202001010000Z")),
    }


@functools.cache
def requests() -> Mapping[str, bytes]:
    """CSRs with a good key and a valid signature that the strict parser refuses."""
    content = b"\2\1\0" + PLAIN + key_info(ec_key())
    extension_request = tlv(
        SEQUENCE, tlv(OID, bytes.fromhex("2a864886f70d01090e")) + tlv(SET, tlv(SEQUENCE, NO_CA * 2))
    )
    return {
        **{f"subject: {kind}": request(odd) for kind, odd in NAMES.items()},
        "no attributes": request(attributes=b""),
        "NULL parameters of ECDSA": request(algorithm=ECDSA_SHA256_NULL),
        "no parameters of RSA": request(key=rsa_key(), algorithm=RSA_SHA256_BARE),
        "an extension twice": request(attributes=tlv(0xA0, extension_request)),
        "version 2": request(version=b"\2\1\1"),
        "bytes behind the end": request() + b"\0",
        "content of indefinite length": signed(indefinite(content), ec_key(), ECDSA_SHA256),
    }
