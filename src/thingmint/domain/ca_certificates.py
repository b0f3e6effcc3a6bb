"""CA certificates that accounts register, and the proof that an account has the CA's private key."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from thingmint.domain.certificates import (
    Certificate,
    is_signed_by,
    parse_issued_certificate,
    parse_strict_certificate,
    subject_of,
)
from thingmint.domain.distinguished_names import texts_of
from thingmint.domain.errors import Invalid, InvalidCertificate, UnverifiedCertificate
from thingmint.domain.keys import FLEET_KEYS, OWN_KEYS, key_id

if TYPE_CHECKING:
    from datetime import datetime


# An RSA key whose exponent its maker chose can verify a signature that another key made (duplicate-signature key
# selection, Blake-Wilson and Menezes 1999), and so pose as the CA of devices that another CA signed.
_MAX_EXPONENT = 2**32 - 1

_ROLE = re.compile(r"arn:[a-z-]+:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RegistrationConfig:
    """How to provision devices that connect with a certificate of the CA: by a template's text or by its name.

    Without ``role_arn``, provisioning uses the role of the named template. Raises Invalid.
    """

    template_body: str | None = None
    template_name: str | None = None
    role_arn: str | None = None

    def __post_init__(self) -> None:
        if (self.template_body is None) == (self.template_name is None):
            raise Invalid("registrationConfig", "must have either templateBody or templateName")
        if self.template_body is not None and self.role_arn is None:
            raise Invalid("registrationConfig.roleArn", "is required together with templateBody")
        if self.role_arn is not None and not _ROLE.fullmatch(self.role_arn):
            raise Invalid("registrationConfig.roleArn", "must be the ARN of a role")


@dataclass(frozen=True, slots=True, eq=False)
class CaCertificate:
    """``subject`` is the DER of the subject's name; ``key_id`` identifies the public key (``keys.key_id``)."""

    certificate: Certificate
    content: x509.Certificate
    subject: bytes
    key_id: str


def parse_ca_certificate(text: str, field: str, now: datetime | None = None) -> CaCertificate:
    """Return the one CA certificate in ``text``. If ``now`` is given, it must be valid then.

    Raises InvalidCertificate.
    """
    certificate, content = parse_strict_certificate(text, field, OWN_KEYS)
    key = content.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.public_numbers().e > _MAX_EXPONENT:
        raise InvalidCertificate(field, "has an RSA key with an exponent of more than 32 bits")
    if content.version is not x509.Version.v3:
        raise InvalidCertificate(field, "must be of version 3")
    if not _may_sign_certificates(content, field):
        raise InvalidCertificate(field, "is not that of a certificate authority (basicConstraints CA:TRUE)")
    if now is not None and now < certificate.not_before:
        raise InvalidCertificate(field, f"is not valid before {certificate.not_before.isoformat()}")
    if now is not None and now > certificate.not_after:
        raise InvalidCertificate(field, f"ended on {certificate.not_after.isoformat()}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            is_named = len(content.subject.rdns) > 0
    except ValueError:
        raise InvalidCertificate(field, "has a subject that cannot be read") from None
    if not is_named:
        raise InvalidCertificate(field, "has an empty subject, so no certificate can name it as its issuer")
    return CaCertificate(certificate, content, subject_of(content), key_id(key))


def read_verification(text: str, ca: CaCertificate) -> bytes:
    """Return the registration code: the common name of the verification certificate in ``text``.

    Raises InvalidCertificate unless the key of ``ca`` signed that certificate.
    """
    field = "verificationCertificate"
    issued = parse_issued_certificate(text, field, FLEET_KEYS)
    if flaw := issued.parts.signature.flaw:
        raise InvalidCertificate(field, flaw)
    if not is_signed_by(issued, ca.content):
        raise UnverifiedCertificate(field, "Contents of the Verification Certificate are not correct")
    return _common_name(issued.parts.subject)


def _may_sign_certificates(content: x509.Certificate, field: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            extensions = content.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise InvalidCertificate(field, "has extensions that cannot be read") from None
    try:
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        # RFC 5280 4.2.1.3: if keyUsage is present, it must include keyCertSign.
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as missing:
        return missing.oid == x509.KeyUsage.oid


def _common_name(subject: bytes) -> bytes:
    """Return the common name, or nothing if the subject has none or several."""
    names = [text for oid, text in texts_of(subject) if oid == NameOID.COMMON_NAME]
    return names[0].encode() if len(names) == 1 else b""
