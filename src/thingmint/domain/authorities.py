"""Certificate authorities that accounts bring along: what makes one, and what an account keeps of it."""

from __future__ import annotations

import hmac
import re
import warnings
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from thingmint.domain.arns import arn
from thingmint.domain.certificates import Certificate, parse_x509
from thingmint.domain.errors import Invalid, InvalidCertificate, UnverifiedCertificate, WrongRegistrationCode
from thingmint.domain.keys import FLEET_KEYS, OWN_KEYS
from thingmint.domain.leaves import is_signed_by

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.domain.registration import CertificateMode, Scope

__all__ = [
    "MAX_SAME_SUBJECT",
    "Authority",
    "AuthorityStatus",
    "RegisteredAuthority",
    "RegistrationConfig",
    "check_verification",
    "parse_authority",
]

# AWS's RegisterCACertificate: "up to 10 CA certificates with the same CA subject field".
MAX_SAME_SUBJECT: Final = 10

_ROLE = re.compile(r"arn:[a-z-]+:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}", re.ASCII)


class AuthorityStatus(StrEnum):
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"


@dataclass(frozen=True, slots=True)
class RegistrationConfig:
    """How devices are provisioned that come with a certificate of the authority: by a template's text or name.

    Without ``role_arn`` it is done as the named template's own role. Raises Invalid.
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
class Authority:
    """A CA certificate that was found to be one. ``subject`` is the DER of its name."""

    certificate: Certificate
    content: x509.Certificate
    subject: bytes

    @classmethod
    def of(cls, certificate: Certificate, content: x509.Certificate) -> Authority:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cls(certificate, content, content.subject.public_bytes())


@dataclass(frozen=True, slots=True)
class RegisteredAuthority:
    """An authority as an account keeps it. ``generation`` and ``version`` are as a registration has them."""

    scope: Scope
    certificate: Certificate
    subject: bytes
    status: AuthorityStatus
    mode: CertificateMode
    auto_registration: bool
    config: RegistrationConfig | None
    generation: str
    version: int
    created_at: datetime
    modified_at: datetime

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint

    @property
    def arn(self) -> str:
        return arn(self.scope, f"cacert/{self.fingerprint}")

    @property
    def registers_by_itself(self) -> bool:
        return self.status is AuthorityStatus.ACTIVE and self.auto_registration

    def content(self) -> x509.Certificate:
        """Costs some 10 µs."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return x509.load_der_x509_certificate(self.certificate.der)


def parse_authority(text: str, field: str, now: datetime | None = None) -> Authority:
    """The one CA certificate in ``text``; with ``now``, one that is valid then. Raises InvalidCertificate."""
    certificate, content = parse_x509(text, field, OWN_KEYS)
    if content.version is not x509.Version.v3:
        raise InvalidCertificate(field, "must be of version 3")
    if not _may_sign_certificates(content, field):
        raise InvalidCertificate(field, "is not that of a certificate authority (basicConstraints CA:TRUE)")
    if now is not None and now < certificate.not_before:
        raise InvalidCertificate(field, f"is not valid before {certificate.not_before.isoformat()}")
    if now is not None and now > certificate.not_after:
        raise InvalidCertificate(field, f"ended on {certificate.not_after.isoformat()}")
    try:
        authority = Authority.of(certificate, content)
    except ValueError:
        raise InvalidCertificate(field, "has a subject that cannot be read") from None
    if len(content.subject.rdns) == 0:
        raise InvalidCertificate(field, "has an empty subject, so no certificate can name it as its issuer")
    return authority


def check_verification(text: str, authority: Authority, code: str | None) -> None:
    """Whether the one certificate in ``text`` shows that who registers ``authority`` has its key.

    AWS's way: the authority signed a certificate whose common name is the account's registration code. Raises
    InvalidCertificate and WrongRegistrationCode.
    """
    field = "verificationCertificate"
    _, content = parse_x509(text, field, FLEET_KEYS)
    if not is_signed_by(content, authority.content):
        raise UnverifiedCertificate(field, "Contents of the Verification Certificate are not correct")
    if code is None or not hmac.compare_digest(_common_name(content), code.encode()):
        raise WrongRegistrationCode(
            "Registration code provided in the CN field of verification certificate is invalid."
        )


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
        # RFC 5280 4.2.1.3: where the key's use is told, it has to be this one.
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as missing:
        return missing.oid == x509.KeyUsage.oid


def _common_name(content: x509.Certificate) -> bytes:
    """Empty unless there is exactly one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names = content.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return b""
    value = names[0].value if len(names) == 1 else ""
    return value.encode() if isinstance(value, str) else value
