"""The keys of this server's own certificate authorities, which no account can register as its own."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from thingmint.domain.errors import InvalidCertificate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509


class OwnAuthorities:
    """Made of their certificates, former ones included. A key is the same in whatever certificate and encoding."""

    def __init__(self, certificates: Iterable[x509.Certificate]) -> None:
        self._keys = [certificate.public_key() for certificate in certificates]

    def has_key_of(self, content: x509.Certificate) -> bool:
        """Keys are compared as numbers: an EC point may be compressed, RSA written as RSA-PSS."""
        key = content.public_key()
        return any(key == own for own in self._keys)

    def check(self, content: x509.Certificate, field: str) -> None:
        """Raises InvalidCertificate for a certificate of one of these keys, also one that another key signed."""
        if self.has_key_of(content):
            raise InvalidCertificate(field, "has the key of one of this server's own certificate authorities")

    def issued(self, content: x509.Certificate) -> bool:
        """Whether one of these keys made the signature. The issuer's name proves nothing."""
        return any(_is_signed_with(content, key) for key in self._keys)


def _is_signed_with(content: x509.Certificate, key: object) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            signed, digest = content.tbs_certificate_bytes, content.signature_hash_algorithm
            parameters = content.signature_algorithm_parameters
        match key, parameters:
            case ec.EllipticCurvePublicKey(), ec.ECDSA():
                key.verify(content.signature, signed, parameters)
            case rsa.RSAPublicKey(), padding.AsymmetricPadding() if digest is not None:
                key.verify(content.signature, signed, parameters, digest)
            case _:
                return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True
