"""Server certificates from another CA: what makes one usable, and which one a client gets."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from thingmint.domain.errors import Invalid
from thingmint.domain.keys import OWN_KEYS, SigningKey
from thingmint.domain.names import is_hostname
from thingmint.domain.weak_keys import weakness

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

TlsListenerName = Literal["api", "grpc", "mqtt"]
TLS_LISTENERS: Final[tuple[TlsListenerName, ...]] = ("api", "grpc", "mqtt")

_E = TypeVar("_E", bound=x509.ExtensionType)
_V = TypeVar("_V")

_PRIVATE_KEY: Final = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_WEAK_DIGESTS: Final = frozenset({"md5", "sha1"})
_UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension)


@dataclass(frozen=True, slots=True, eq=False)
class ServerCertificate:
    """A server's certificate with its private key. ``chain``: the CA certificates to send after it, in order."""

    certificate: x509.Certificate
    key: SigningKey = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def key_type(self) -> str:
        return "RSA" if isinstance(self.key, rsa.RSAPrivateKey) else "EC"

    @property
    def not_after(self) -> datetime:
        """The end of the certificate or of a CA certificate after it, whichever is first. A root does not count."""
        return min(each.not_valid_after_utc for each in self._checked_by_clients())

    @property
    def names(self) -> tuple[str, ...]:
        """The host names and addresses that the certificate is for, as they are written in it."""
        names = _alternative_names(self.certificate)
        return (*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress)))

    @property
    def root(self) -> str:
        """The name of the CA certificate that clients have to trust."""
        last = (self.certificate, *self.chain)[-1]
        return (last.subject if _is_root(last) else last.issuer).rfc4514_string()

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def chain_pem(self) -> bytes:
        return b"".join(each.public_bytes(Encoding.PEM) for each in (self.certificate, *self.chain))

    def covers(self, name: str) -> bool:
        """True if clients that ask for the host name, the wildcard or the address accept the certificate for it."""
        names = _alternative_names(self.certificate)
        try:
            return ipaddress.ip_address(name) in names.get_values_for_type(x509.IPAddress)
        except ValueError:
            known = {each.lower().removesuffix(".") for each in names.get_values_for_type(x509.DNSName)}
            return not known.isdisjoint((name, wildcard_of(name)))

    def _checked_by_clients(self) -> Sequence[x509.Certificate]:
        return [self.certificate, *(each for each in self.chain if not _is_root(each))]


@dataclass(frozen=True, slots=True, eq=False)
class PlacedCertificate:
    """A certificate with the listeners that show it, and the host names that clients ask for (SNI).

    Without ``names`` it is shown under all names that have no certificate of their own. A certificate for all listeners
    gives way to one for some of them. ``setting`` is where it comes from.
    """

    setting: str
    certificate: ServerCertificate
    listeners: frozenset[TlsListenerName]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ShownCertificates:
    """What a listener shows: by host name or wildcard in lower case, else the default. One for each type of key."""

    default: tuple[ServerCertificate, ...]
    by_name: Mapping[str, tuple[ServerCertificate, ...]] = field(default_factory=dict)

    def of(self, name: str | None) -> tuple[ServerCertificate, ...]:
        return at_name(self.by_name, name) or self.default


def name_in(by_name: Collection[str], name: str | None) -> str | None:
    """Return a host name in lower case if it is there, else the wildcard that covers it if that is there, else None."""
    if name is None or not by_name:
        return None
    return next((each for each in (name, wildcard_of(name)) if each in by_name), None)


def at_name(by_name: Mapping[str, _V], name: str | None) -> _V | None:
    """Return what belongs to the host name, or to the wildcard that covers it."""
    found = name_in(by_name, name)
    return by_name[found] if found is not None else None


def choose_shown(
    placed: Sequence[PlacedCertificate],
    listener: TlsListenerName,
    own: tuple[ServerCertificate, ...],
    hostnames: Collection[str],
) -> ShownCertificates:
    """Return what a listener shows. ``own`` are the instance's certificates, which cover its ``hostnames``.

    They are shown if no certificate is placed, and under the host names that the default certificate does not cover.
    Raises Invalid if two certificates with the same type of key have the same place.
    """
    here = [each for each in placed if listener in each.listeners]
    default = _at(here, None, listener) or own
    by_name = {name: _at(here, name, listener) for each in here for name in each.names}
    if default is not own:
        for name in map(str.lower, hostnames):
            if not is_hostname(name.removeprefix("*.")):
                continue  # clients do not ask for addresses
            if name_in(by_name, name) is None and not any(each.covers(name) for each in default):
                by_name[name] = own
    return ShownCertificates(default, by_name)


def _at(placed: Sequence[PlacedCertificate], name: str | None, listener: str) -> tuple[ServerCertificate, ...]:
    found = [each for each in placed if (not each.names if name is None else name in each.names)]
    found = [each for each in found if len(each.listeners) < len(TLS_LISTENERS)] or found
    by_key: dict[str, PlacedCertificate] = {}
    for each in found:
        other = by_key.setdefault(each.certificate.key_type, each)
        if other is not each:
            where = f"on {listener}" if name is None else f"for {name} on {listener}"
            reason = f"and {other.setting} are both {where}, and both have {each.certificate.key_type} keys"
            raise Invalid(each.setting, reason)
    # Clients that can use both get the first one.
    return tuple(by_key[key_type].certificate for key_type in ("EC", "RSA") if key_type in by_key)


def wildcard_of(name: str) -> str:
    """Return the wildcard that covers a host name. It replaces exactly one label (RFC 6125 6.4.3)."""
    return f"*.{name.partition('.')[2]}"


def read_server_certificate(certificates: bytes, key: bytes, now: datetime) -> ServerCertificate:
    """Read the PEM of a certificate with its chain, and of its key.

    Raises Invalid with the field ``certificate`` or ``key`` unless TLS clients would accept them now, as far as the
    files tell.
    """
    try:
        certificate, *chain = x509.load_pem_x509_certificates(certificates)
    except _UNREADABLE:
        raise Invalid("certificate", "has no certificates in PEM, or one that cannot be read") from None
    found = ServerCertificate(certificate, _read_key(key), tuple(chain))
    try:
        _check_certificate(certificate)
        for each in (certificate, *chain):
            _check_strength(each)  # first, because weak signatures are not verified
        _check_chain(certificate, chain)
    except _UNREADABLE:
        raise Invalid("certificate", "has a certificate that cannot be read") from None
    if not _fits(found.key, certificate):
        raise Invalid("key", f"is not the key of the certificate for {_subject(certificate)}")
    _check_dates(found, now)
    return found


def _read_key(pem: bytes) -> SigningKey:
    match = _PRIVATE_KEY.search(pem)
    if match is None:
        raise Invalid("key", "has no private key in PEM")
    if b"ENCRYPTED" in match[0]:
        remedy = "openssl pkey -in FILE -out NEW_FILE writes it without a passphrase"
        raise Invalid("key", f"is encrypted with a passphrase, which is not supported; {remedy}")
    try:
        # Validating an RSA-4096 key takes 0.3 seconds, and _fits() shows that the key works.
        key = load_pem_private_key(match[0] + b"\n", None, unsafe_skip_rsa_key_validation=True)
    except _UNREADABLE:
        raise Invalid("key", "has a private key that cannot be read") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise Invalid("key", "has a key that is neither RSA nor ECDSA; devices support only these")
    return key


def _fits(key: SigningKey, certificate: x509.Certificate) -> bool:
    """True if the certificate's key verifies a signature of the private key."""
    public, message = certificate.public_key(), b"thingmint"
    try:
        if isinstance(key, rsa.RSAPrivateKey) and isinstance(public, rsa.RSAPublicKey):
            signature = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
            public.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(key.sign(message, ec.ECDSA(hashes.SHA256())), message, ec.ECDSA(hashes.SHA256()))
        else:
            return False
    except (InvalidSignature, InternalError, *_UNREADABLE):
        return False
    return True


def _check_certificate(certificate: x509.Certificate) -> None:
    """Check what makes it the certificate of a server. Raises Invalid."""
    extensions = certificate.extensions
    constraints = _extension(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.ca and not _is_root(certificate):
        raise Invalid("certificate", "begins with a CA certificate; the server's own certificate must be the first")
    usage = _extension(extensions, x509.ExtendedKeyUsage)
    if usage is not None and not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & {
        *usage
    }:
        raise Invalid("certificate", "is not a server's certificate: its extended key usage is without serverAuth")
    key_usage = _extension(extensions, x509.KeyUsage)
    if key_usage is not None and not key_usage.digital_signature:
        raise Invalid("certificate", "cannot be a server's certificate: its key usage is without digitalSignature")


def _check_chain(certificate: x509.Certificate, chain: Sequence[x509.Certificate]) -> None:
    """Check that each certificate signed the one before. Raises Invalid."""
    before = certificate
    for number, each in enumerate(chain, 2):
        if not _signed(each, before):
            order = "put the server's certificate first, and after each certificate the one of its issuer"
            message = f"number {number} ({_subject(each)}) did not sign the one before ({_subject(before)}): {order}"
            raise Invalid("certificate", f"is not a chain: {message}")
        constraints = _extension(each.extensions, x509.BasicConstraints)
        if constraints is None or not constraints.ca:
            raise Invalid("certificate", f"is not a chain: number {number} ({_subject(each)}) is no CA certificate")
        before = each


def _check_strength(certificate: x509.Certificate) -> None:
    """Raises Invalid for keys and signatures that clients refuse."""
    key = certificate.public_key()
    if flaw := OWN_KEYS.violation(key) or weakness(key):
        raise Invalid("certificate", f"has {flaw} ({_subject(certificate)})")
    # Clients do not verify the signature of a root.
    if _has_weak_signature(certificate) and not _is_root(certificate):
        raise Invalid("certificate", f"has a signature with SHA-1 or MD5 ({_subject(certificate)})")


def _check_dates(found: ServerCertificate, now: datetime) -> None:
    for each in found._checked_by_clients():  # noqa: SLF001 - of this module
        begin, end = each.not_valid_before_utc, each.not_valid_after_utc
        if now > end:
            raise Invalid("certificate", f"expired on {end:%Y-%m-%d %H:%M} UTC ({_subject(each)}); renew it")
        if now < begin:
            raise Invalid("certificate", f"is not valid before {begin:%Y-%m-%d %H:%M} UTC ({_subject(each)})")


def _signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *_UNREADABLE):
        return False
    return True


def _is_root(certificate: x509.Certificate) -> bool:
    if certificate.subject != certificate.issuer:
        return False
    return _has_weak_signature(certificate) or _signed(certificate, certificate)


def _has_weak_signature(certificate: x509.Certificate) -> bool:
    digest = certificate.signature_hash_algorithm
    return digest is not None and digest.name in _WEAK_DIGESTS


def _extension(extensions: x509.Extensions, kind: type[_E]) -> _E | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    # A common name is no host name for today's clients (RFC 9525 2).
    return _extension(certificate.extensions, x509.SubjectAlternativeName) or x509.SubjectAlternativeName([])


def _subject(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string() or "no subject"
