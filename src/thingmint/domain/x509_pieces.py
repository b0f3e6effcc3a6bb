"""Reads single parts of certificates with the strict reader.

The strict reader accepts only whole certificates, so this module puts the part into an otherwise simple certificate.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding

from thingmint.domain.der import BIT_STRING, SEQUENCE, element

if TYPE_CHECKING:
    from cryptography.hazmat.primitives import hashes

_VERSION_3: Final = bytes.fromhex("a003020102")
_SERIAL: Final = bytes.fromhex("020101")
_ECDSA_WITH_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")
_NO_NAME: Final = element(SEQUENCE, b"")
_VALIDITY: Final = element(SEQUENCE, element(0x17, b"200101000000Z") * 2)
# Ed25519, which is the shortest. The key is never used.
_KEY: Final = bytes.fromhex("302a300506032b6570032100") + bytes(32)


UNREADABLE_EXTENSIONS: Final = (x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What the strict reader raises, in addition to ValueError, for extensions."""


class Scheme(NamedTuple):
    """How a signature is made. ``padding`` is None for ECDSA."""

    digest: hashes.HashAlgorithm
    padding: padding.AsymmetricPadding | None


def read_name(name: bytes) -> x509.Name:
    """Return the name. Raises ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names with a country of three letters are accepted
            return _read(subject=name).subject
    except TypeError as error:  # text in a BIT STRING
        raise ValueError(str(error)) from None


def read_extensions(extensions: bytes) -> x509.Extensions:
    """Return the extensions. ``extensions`` begins with the tag [3]. Raises ValueError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(extensions=extensions).extensions
    except (TypeError, *UNREADABLE_EXTENSIONS) as error:
        raise ValueError(str(error)) from None


def read_pss(algorithm: bytes) -> Scheme | None:
    """Return the scheme of an AlgorithmIdentifier with id-RSASSA-PSS, or None if it is not supported."""
    try:
        read = _read(algorithm=algorithm)
        digest, parameters = read.signature_hash_algorithm, read.signature_algorithm_parameters
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if digest is None or not isinstance(parameters, padding.PSS):
        return None
    return Scheme(digest, parameters)


def _read(
    *, subject: bytes = _NO_NAME, algorithm: bytes = _ECDSA_WITH_SHA256, extensions: bytes = b""
) -> x509.Certificate:
    content = _VERSION_3 + _SERIAL + algorithm + _NO_NAME + _VALIDITY + subject + _KEY + extensions
    whole = element(SEQUENCE, element(SEQUENCE, content) + algorithm + element(BIT_STRING, b"\0"))
    return x509.load_der_x509_certificate(whole)
