"""CA certificates that accounts register, and the registration codes for their verification."""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import hmac
import secrets
import warnings
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509

from thingmint.domain.arns import Scope, arn
from thingmint.domain.ca_certificates import (
    CaCertificate,
    RegistrationConfig,
    parse_ca_certificate,
    read_verification,
)
from thingmint.domain.errors import (
    AlreadyExists,
    Disallowed,
    Invalid,
    InvalidState,
    LimitExceeded,
    NotFound,
    WrongRegistrationCode,
)
from thingmint.domain.templates import Kind, parse_template
from thingmint.services.ca_owners import claim_default_mode, release_ca
from thingmint.services.certificate_contents import keep_content, split_content, with_content
from thingmint.services.certificates import CertificateMode
from thingmint.services.pages import Page, page_of
from thingmint.services.tags import drop_tags, put_tags
from thingmint.services.templates import TEMPLATES
from thingmint.store.outbox import publish_change
from thingmint.store.table import CertificateReference, Table, fingerprint_bytes, from_micros, record, to_micros

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.domain.certificates import Certificate
    from thingmint.services.change import Change, Query
    from thingmint.services.page_tokens import Position
    from thingmint.services.pages import Cursor
    from thingmint.store.engine import Row, Transaction

MAX_SAME_SUBJECT = 10
"""AWS's RegisterCACertificate: "up to 10 CA certificates with the same CA subject field"."""

KIND = "CA certificate"


class CaStatus(StrEnum):
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"


@record
class RegistrationCode:
    scope: Scope
    code: str


@record
class CaRegistration:
    """``subject`` is the DER of the subject's name. ``generation`` and ``version`` are as in Registration."""

    scope: Scope
    certificate: int
    fingerprint: CertificateReference
    subject: bytes
    status: CaStatus
    mode: CertificateMode
    auto_registration: bool
    template_body: str | None
    template_name: str | None
    role_arn: str | None
    generation: str
    version: int
    created_at: datetime
    modified_at: datetime

    @property
    def resource(self) -> str:
        return f"cacert/{self.fingerprint}"

    @property
    def arn(self) -> str:
        return arn(self.scope, self.resource)

    @property
    def config(self) -> RegistrationConfig | None:
        if self.template_body is None and self.template_name is None:
            return None
        return RegistrationConfig(self.template_body, self.template_name, self.role_arn)


class RegisteredCa(NamedTuple):
    registration: CaRegistration
    certificate: Certificate

    def content(self) -> x509.Certificate:
        """Parse the certificate, which takes some 10 µs."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return x509.load_der_x509_certificate(self.certificate.der)


class CaState(NamedTuple):
    """The state of a CA certificate that the access of its devices can depend on."""

    status: CaStatus
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class NewCa:
    """``code`` is the registration code in the verification certificate; None without such a certificate."""

    ca: CaCertificate
    code: bytes | None
    status: CaStatus
    mode: CertificateMode
    auto_registration: bool
    config: RegistrationConfig | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CaChanges:
    """The properties to change; None keeps a property.

    ``remove_registration`` turns automatic registration off and removes its configuration.
    """

    fingerprint: str
    status: CaStatus | None
    auto_registration: bool | None
    config: RegistrationConfig | None
    remove_registration: bool


CODES = Table(RegistrationCode, "registration_codes", "registration code", key=("account", "region"))
CA_CERTIFICATES = Table(CaRegistration, "ca_certificates", KIND, key=("account", "region", "fingerprint"))

_REGISTERED = with_content(CA_CERTIFICATES, "ca_certificates")
_THIS = "WHERE r.account = $1 AND r.region = $2 AND c.fingerprint = $3"
# Round-robin over the accounts, each account's oldest first. So no account can fill the list with CA certificates that
# copy the subjects of other accounts' CAs.
_AGE = "r.created_at, r.account, r.region, r.certificate"
_IN_TURN = f"ORDER BY row_number() OVER (PARTITION BY r.account ORDER BY {_AGE}), {_AGE} LIMIT $2"
_STATE = (
    "SELECT r.status, c.not_before, c.not_after FROM ca_certificates AS r "
    f"JOIN certificates AS c ON c.id = r.certificate {_THIS}"
)
_HAS_TOO_MANY = (
    "SELECT 1 FROM ca_certificates WHERE account = $1 AND region = $2 AND subject = $3 "
    f"LIMIT 1 OFFSET {MAX_SAME_SUBJECT}"
)


async def get_code(tx: Transaction, change: Change) -> str:
    """Return the account's registration code. It stays the same until it is deleted."""
    known = await CODES.find(tx, *change.scope)
    if known is None:
        known = RegistrationCode(change.scope, change.new_id(lambda: secrets.token_hex(32)))
        await CODES.insert(tx, known)
    return known.code


async def delete_code(tx: Transaction, change: Change) -> None:
    """Delete the code; verification certificates with it become useless. Raises NotFound."""
    if not await CODES.delete(tx, *change.scope):
        raise NotFound("registration code of account", change.account)


async def find_registered_ca(tx: Transaction, scope: Scope, fingerprint: str) -> RegisteredCa | None:
    row = await tx.fetch_one(f"{_REGISTERED}{_THIS}", *scope, fingerprint_bytes(fingerprint))
    return _registered(row) if row else None


async def get_registered_ca(tx: Transaction, scope: Scope, fingerprint: str) -> RegisteredCa:
    """Return a registered CA certificate. Raises NotFound."""
    found = await find_registered_ca(tx, scope, fingerprint)
    if found is None:
        raise NotFound(KIND, fingerprint)
    return found


async def find_ca_state(tx: Transaction, scope: Scope, fingerprint: str) -> CaState | None:
    row = await tx.fetch_one(_STATE, *scope, fingerprint_bytes(fingerprint))
    return CaState(CaStatus(row[0]), from_micros(row[1]), from_micros(row[2])) if row else None


async def find_by_subject(tx: Transaction, scope: Scope, subject: bytes, limit: int) -> list[RegisteredCa]:
    """Return up to ``limit`` CA certificates with that subject, the oldest first."""
    return await _find_by_subject(tx, "r.account = $3 AND r.region = $4", subject, limit, *scope)


async def find_of_account(tx: Transaction, account: str, subject: bytes, limit: int) -> list[RegisteredCa]:
    """Return CA certificates with that subject from all regions of the account."""
    return await _find_by_subject(tx, "r.account = $3", subject, limit, account)


async def find_by_mode(tx: Transaction, mode: CertificateMode, subject: bytes, limit: int) -> list[RegisteredCa]:
    """Return CA certificates with that subject and mode from all accounts, round-robin."""
    return await _find_by_subject(tx, "r.mode = $3", subject, limit, mode)


async def _find_by_subject(
    tx: Transaction, condition: str, subject: bytes, limit: int, *further: str
) -> list[RegisteredCa]:
    statement = f"{_REGISTERED}WHERE r.subject = $1 AND {condition} {_IN_TURN}"
    return [_registered(row) for row in await tx.fetch_all(statement, subject, limit, *further)]


async def list_ca_certificates(
    tx: Transaction, query: Query, cursor: Cursor, *, ascending: bool, template: str | None
) -> Page[CaRegistration]:
    """Return a page by age, newest first unless ``ascending``. Raises Invalid.

    With ``template``, only the CA certificates that provision with that template.
    """
    only = {} if template is None else {"template_name": template}

    async def fetch(after: Position | None, limit: int) -> list[CaRegistration]:
        return await CA_CERTIFICATES.page_by_age(
            tx, *query.scope, after=after, limit=limit, ascending=ascending, **only
        )

    listing = f"ca-certificates-{'ascending' if ascending else 'descending'} {template or ''}"
    return await page_of(query, cursor, listing, fetch, lambda ca: (to_micros(ca.created_at), str(ca.certificate)))


def parse_new_ca(
    change: Change, pem: str, verification: str | None, mode: CertificateMode
) -> tuple[CaCertificate, bytes | None]:
    """Return the CA certificate, and the registration code in its verification certificate if there is one.

    Raises Disallowed and InvalidCertificate.
    """
    if mode == "DEFAULT" and verification is None:
        what = "Need to provide verification certificate for registering CA Certificates in DEFAULT mode"
        raise Disallowed(KIND, "", what)
    if mode == "SNI_ONLY" and verification is not None:
        what = "Cannot provide verification certificate for registering CA Certificates in SNI_ONLY mode"
        raise Disallowed(KIND, "", what)
    ca = parse_ca_certificate(pem, "caCertificate", change.now)
    change.environment.own_authorities.check(ca.content.public_key(), "caCertificate")
    return ca, read_verification(verification, ca) if verification is not None else None


def check_config(config: RegistrationConfig | None) -> None:
    """Check what can be checked without the store. Raises InvalidTemplate."""
    if config is not None and config.template_body is not None:
        parse_template(config.template_body, Kind.JITP)


async def register_ca_certificate(tx: Transaction, change: Change, new: NewCa) -> CaRegistration:
    """Register a CA certificate. Raises WrongRegistrationCode, NotFound, Invalid, AlreadyExists and LimitExceeded."""
    scope, now, certificate, subject = change.scope, change.now, new.ca.certificate, new.ca.subject
    if new.code is not None:
        known = await CODES.find(tx, *scope)
        if known is None or not hmac.compare_digest(new.code, known.code.encode()):
            reason = "Registration code provided in the CN field of verification certificate is invalid."
            raise WrongRegistrationCode(reason)
    await _check_template(tx, scope, new.config)
    id = await keep_content(tx, change.new_certificate_id(), certificate)
    kept = (scope, id, certificate.fingerprint, subject, new.status, new.mode, new.auto_registration)
    ca = CaRegistration(*kept, *_columns(new.config), change.new_id(), 1, now, now)
    # AlreadyExists tells the caller that another account has registered the CA. The caller has the CA's key, so it may
    # know that.
    is_anothers = new.mode == "DEFAULT" and not await claim_default_mode(tx, scope, ca.fingerprint, new.ca.key_id, now)
    if is_anothers or not await CA_CERTIFICATES.insert(tx, ca):
        raise AlreadyExists(KIND, ca.fingerprint, arn=ca.arn)
    if await tx.fetch_one(_HAS_TOO_MANY, *scope, subject):
        reason = f"At most {MAX_SAME_SUBJECT} CA certificates can have the same subject"
        raise LimitExceeded(KIND, ca.fingerprint, reason)
    await put_tags(tx, scope, ca.resource, new.tags)
    await publish_change(tx, scope, "ca", ca.fingerprint, now)  # there may be certificates of an earlier registration
    tx.audit_resources.append(ca.arn)
    return ca


async def update_ca_certificate(tx: Transaction, change: Change, changes: CaChanges) -> None:
    """Change properties of a CA certificate. Without a difference, nothing is written. Raises NotFound and Invalid."""
    current = await CA_CERTIFICATES.get(tx, *change.scope, changes.fingerprint)
    await _check_template(tx, change.scope, changes.config)
    automatic, config = changes.auto_registration, changes.config or current.config
    if changes.remove_registration:
        automatic, config = False, None
    body, name, role = _columns(config)
    changed = replace(
        current,
        status=changes.status or current.status,
        auto_registration=current.auto_registration if automatic is None else automatic,
        template_body=body,
        template_name=name,
        role_arn=role,
    )
    if changed == current:
        return
    await CA_CERTIFICATES.update(tx, replace(changed, version=current.version + 1, modified_at=change.now))
    if changed.status is not current.status:
        await publish_change(tx, change.scope, "ca", current.fingerprint, change.now)
    tx.audit_resources.append(current.arn)


async def delete_ca_certificate(tx: Transaction, change: Change, fingerprint: str) -> None:
    """Delete a CA certificate; certificates registered under it stay. Raises NotFound, InvalidState while ACTIVE."""
    current = await CA_CERTIFICATES.get(tx, *change.scope, fingerprint)
    if current.status is CaStatus.ACTIVE:
        reason = f"CA Certificate must be deactivated (not ACTIVE) before deletion. Id: {fingerprint}"
        raise InvalidState(KIND, fingerprint, reason)
    await CA_CERTIFICATES.delete(tx, *change.scope, fingerprint)
    await release_ca(tx, change.scope, fingerprint)
    await drop_tags(tx, change.scope, current.resource)
    await publish_change(tx, change.scope, "ca", fingerprint, change.now)
    tx.audit_resources.append(current.arn)


async def _check_template(tx: Transaction, scope: Scope, config: RegistrationConfig | None) -> None:
    if config is None or config.template_name is None:
        return
    template = await TEMPLATES.find(tx, *scope, config.template_name)
    if template is None:
        raise NotFound("provisioning template", config.template_name)
    if template.kind is not Kind.JITP:
        raise Invalid("registrationConfig.templateName", f"must be that of a template of the type {Kind.JITP}")


def _columns(config: RegistrationConfig | None) -> tuple[str | None, str | None, str | None]:
    return (config.template_body, config.template_name, config.role_arn) if config else (None, None, None)


def _registered(row: Row) -> RegisteredCa:
    own, certificate = split_content(row)
    return RegisteredCa(CA_CERTIFICATES.load(own), certificate)
