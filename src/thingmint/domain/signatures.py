"""Verifies signatures of certificates and signing requests over the original bytes (X.509's SIGNED)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from thingmint.domain import ber, der
from thingmint.domain.x509_pieces import Scheme, read_pss

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


_OID: Final = 0x06
_MAX_ALGORITHM_BYTES: Final = 256


# RFC 5758 3.2 and RFC 4055 5: the contents of the object identifiers. SHA-224 is the weakest digest.
_ECDSA: Final = "2a8648ce3d0403{:02x}"
_RSA: Final = "2a864886f70d0101{:02x}"
_SCHEMES: Final = {
    **{
        bytes.fromhex(_ECDSA.format(number)): Scheme(digest, None)
        for number, digest in enumerate((hashes.SHA224(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()), start=1)
    },
    **{
        bytes.fromhex(_RSA.format(number)): Scheme(digest, padding.PKCS1v15())
        for number, digest in zip(
            (14, 11, 12, 13), (hashes.SHA224(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()), strict=True
        )
    },
}
_RSASSA_PSS: Final = bytes.fromhex(_RSA.format(10))
_BROKEN: Final = {
    bytes.fromhex(_RSA.format(2)): "MD2",
    bytes.fromhex(_RSA.format(3)): "MD4",
    bytes.fromhex(_RSA.format(4)): "MD5",
    bytes.fromhex(_RSA.format(5)): "SHA-1",
    bytes.fromhex("2b0e03021d"): "SHA-1",  # sha1WithRSASignature of OIW
    bytes.fromhex("2b0e030203"): "MD5",  # md5WithRSA of OIW
    bytes.fromhex("2a8648ce3d0401"): "SHA-1",
    bytes.fromhex("2a8648ce380403"): "SHA-1",  # with DSA
}


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """``algorithm`` is an encoded AlgorithmIdentifier; ``value`` is None if it does not consist of whole bytes."""

    signed: bytes
    algorithm: bytes
    value: bytes | None

    @classmethod
    def of(cls, whole: bytes) -> Signature:
        """Return the signature of a certificate or signing request. Raises ber.Malformed."""
        parts = ber.elements(whole)
        if len(parts) != 3 or parts[0][0] != der.SEQUENCE or parts[1][0] != der.SEQUENCE:
            raise ber.Malformed("not signed")
        bits = _bits(parts[2])
        return cls(parts[0], parts[1], bits[1:] if bits[:1] == b"\0" else None)

    @property
    def broken_digest(self) -> str | None:
        """The name of the signed digest if it is broken: an attacker can find other content with the same digest."""
        identifier = _identifier(self.algorithm)
        if identifier == _RSASSA_PSS:
            scheme = _scheme(self.algorithm)
            return "SHA-1" if scheme is not None and isinstance(scheme.digest, hashes.SHA1) else None
        return _BROKEN.get(identifier)

    @property
    def flaw(self) -> str | None:
        """Why the signature proves nothing, as a phrase that fits after "it" or a field's name, or None."""
        if (digest := self.broken_digest) is None:
            return None
        return f"is signed with {digest}, which is broken; sign it with SHA-256"

    def is_made_by(self, key: PublicKeyTypes) -> bool:
        """True if ``key`` made this signature over SHA-224 or a stronger digest."""
        scheme = _scheme(self.algorithm)
        if scheme is None or self.value is None or isinstance(scheme.digest, hashes.SHA1):
            return False
        try:
            if isinstance(key, ec.EllipticCurvePublicKey) and scheme.padding is None:
                key.verify(self.value, self.signed, ec.ECDSA(scheme.digest))
                return True
            if isinstance(key, rsa.RSAPublicKey) and scheme.padding is not None:
                key.verify(self.value, self.signed, scheme.padding, scheme.digest)
                return True
        except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
            pass
        return False


def _bits(bit_string: bytes) -> bytes:
    """Return the content of a BIT STRING, the number of unused bits first. X.690 8.6.4 allows several segments."""
    if bit_string[0] == der.BIT_STRING:
        return ber.content(bit_string)
    pieces = ber.elements(bit_string) if bit_string[0] == der.BIT_STRING | der.CONSTRUCTED else []
    if not pieces or any(piece[0] != der.BIT_STRING for piece in pieces):
        raise ber.Malformed("not a signature")
    contents = [ber.content(piece) for piece in pieces]
    return max(content[:1] for content in contents) + b"".join(content[1:] for content in contents)


def _identifier(algorithm: bytes) -> bytes:
    try:
        parts = ber.elements(algorithm)
        return ber.content(parts[0]) if parts and parts[0][0] == _OID else b""
    except ber.Malformed:
        return b""


def _scheme(algorithm: bytes) -> Scheme | None:
    """Return the scheme of a signature algorithm, or None if it is not supported."""
    identifier = _identifier(algorithm)
    if identifier == _RSASSA_PSS and len(algorithm) <= _MAX_ALGORITHM_BYTES:
        return read_pss(algorithm)
    return _SCHEMES.get(identifier)
