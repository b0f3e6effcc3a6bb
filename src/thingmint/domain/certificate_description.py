"""What a certificate says, as text for people."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from thingmint.domain.ber import Malformed
from thingmint.domain.certificate_parts import CertificateParts
from thingmint.domain.distinguished_names import texts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from thingmint.domain.distinguished_names import Texts

_MAX_TEXT = 2000  # characters of one extension
_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)
_UNREADABLE = "cannot be read"


@dataclass(frozen=True, slots=True)
class Extension:
    name: str
    value: str
    is_critical: bool


@dataclass(frozen=True, slots=True)
class Description:
    """Names are in the form of RFC 4514. ``serial`` is in hexadecimal digits."""

    subject: str
    issuer: str
    serial: str
    key: str
    signature: str
    extensions: Sequence[Extension]


def describe(der: bytes) -> Description:
    """Describe a certificate. What cannot be read is described as that."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # negative serial numbers, overlong names
            return _strict(x509.load_der_x509_certificate(der))
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        return _lenient(der)


def _strict(certificate: x509.Certificate) -> Description:
    algorithm = certificate.signature_algorithm_oid
    return Description(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
        key=_key(certificate.public_key()),
        signature=algorithm._name if algorithm._name != "Unknown OID" else algorithm.dotted_string,  # noqa: SLF001
        extensions=_extensions(certificate),
    )


def _lenient(der: bytes) -> Description:
    try:
        parts = CertificateParts.of(der)
        subject, issuer = (_written(texts_of(name)) for name in (parts.subject, parts.issuer))
        return Description(subject, issuer, f"{parts.serial:x}", _UNREADABLE, _UNREADABLE, ())
    except (Malformed, ValueError, IndexError):
        return Description(_UNREADABLE, _UNREADABLE, _UNREADABLE, _UNREADABLE, _UNREADABLE, ())


def _written(texts: Texts) -> str:
    return ",".join(f"{_name(oid)}={text}" for oid, text in texts) or _UNREADABLE


def _key(key: PublicKeyTypes) -> str:
    match key:
        case rsa.RSAPublicKey():
            return f"RSA, {key.key_size} bits"
        case ec.EllipticCurvePublicKey():
            return f"ECDSA, {key.curve.name}"
        case dsa.DSAPublicKey():
            return f"DSA, {key.key_size} bits"
        case _:
            return type(key).__name__.removesuffix("PublicKey").lstrip("_")


def _extensions(certificate: x509.Certificate) -> list[Extension]:
    try:
        return [Extension(_name(each.oid), _value(each.value), each.critical) for each in certificate.extensions]
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return [Extension("extensions", _UNREADABLE, is_critical=False)]


def _name(oid: x509.ObjectIdentifier) -> str:
    return oid._name if oid._name != "Unknown OID" else oid.dotted_string  # noqa: SLF001


def _value(value: x509.ExtensionType) -> str:
    match value:
        case x509.BasicConstraints():
            path = f", path length {value.path_length}" if value.path_length is not None else ""
            return f"a certificate authority{path}" if value.ca else "not a certificate authority"
        case x509.KeyUsage():
            text = ", ".join(name for name in _KEY_USAGES if getattr(value, name)).replace("_", " ")
        case x509.ExtendedKeyUsage():
            text = ", ".join(map(_name, value))
        case x509.SubjectKeyIdentifier():
            text = value.digest.hex()
        case x509.AuthorityKeyIdentifier():
            text = value.key_identifier.hex() if value.key_identifier is not None else ""
        case x509.SubjectAlternativeName():
            text = ", ".join(str(each.value) for each in value)
        case x509.UnrecognizedExtension():
            text = value.value.hex()
        case _:
            text = value.public_bytes().hex()
    return text[:_MAX_TEXT]
