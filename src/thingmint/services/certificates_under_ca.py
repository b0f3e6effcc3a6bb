"""Registers devices' own certificates under the account's CA certificate that issued them."""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.ca_certificates import parse_ca_certificate
from thingmint.domain.certificates import is_signed_by, parse_issued_certificate
from thingmint.domain.errors import AlreadyExists, Ambiguous, InvalidCertificate, InvalidState, UnverifiedCertificate
from thingmint.services.ca_certificates import (
    KIND,
    MAX_SAME_SUBJECT,
    CaStatus,
    find_by_subject,
    find_registered_ca,
)
from thingmint.services.certificates import Registration, find_by_serial, record_obstacle, register
from thingmint.store.table import fingerprint_bytes, id_of

if TYPE_CHECKING:
    from thingmint.domain.arns import Scope
    from thingmint.domain.ca_certificates import CaCertificate
    from thingmint.domain.certificates import IssuedCertificate
    from thingmint.domain.status import Status
    from thingmint.services.ca_certificates import CaRegistration
    from thingmint.services.change import Change
    from thingmint.store.engine import Transaction

_COUNT = (
    "SELECT count(*) FROM (SELECT 1 FROM registrations "
    f"WHERE account = $1 AND region = $2 AND ca = {id_of('$3')} LIMIT $4) AS counted"
)


def parse_issued(
    change: Change, pem: str, field: str, ca_pem: str | None, ca_field: str
) -> tuple[IssuedCertificate, CaCertificate | None]:
    """Return the certificate to register, and its CA certificate if ``ca_pem`` is given. Raises InvalidCertificate."""
    own = change.environment.own_authorities
    issued = parse_issued_certificate(pem, field)
    own.check(issued.public_key, field)
    if ca_pem is None:
        return issued, None
    ca = parse_ca_certificate(ca_pem, ca_field)
    own.check(ca.content.public_key(), ca_field)
    return issued, ca


async def count_under_ca(tx: Transaction, scope: Scope, fingerprint: str, most: int) -> int:
    """How many certificates are registered under the CA certificate, ``most`` at most: it reads no further."""
    row = await tx.fetch_one(_COUNT, *scope, fingerprint_bytes(fingerprint), most)
    return int(row[0]) if row else 0


async def register_under_ca(
    tx: Transaction, change: Change, issued: IssuedCertificate, given: CaCertificate | None, status: Status
) -> Registration:
    """Register ``issued`` under its CA certificate. Raises AlreadyExists, LimitExceeded, and as ``issuer_of``."""
    ca = await issuer_of(tx, change.scope, issued, given)
    registration = registration_under(change, ca, issued, status)
    known = await find_by_serial(tx, change.scope, ca.fingerprint, issued.serial)
    if known is not None:
        raise AlreadyExists("certificate", known)
    kept = await register(tx, change, registration, issued.certificate)
    if kept is None:
        raise AlreadyExists("certificate", issued.fingerprint)
    await record_obstacle(tx, change.account, issued.obstacle)
    return kept


def registration_under(change: Change, ca: CaRegistration, issued: IssuedCertificate, status: Status) -> Registration:
    """Return a new registration. It has the CA's mode (AWS's RegisterCACertificate)."""
    id, now, generation = change.new_certificate_id(), change.now, change.new_id()
    scope, fingerprint, serial = ca.scope, issued.fingerprint, issued.serial
    return Registration(
        scope, id, fingerprint, status, ca.mode, "registered", now, now, generation, 1, ca.fingerprint, serial
    )


async def issuer_of(
    tx: Transaction, scope: Scope, issued: IssuedCertificate, given: CaCertificate | None
) -> CaRegistration:
    """Return the account's CA certificate whose key signed ``issued``; ``given`` selects one of several.

    Raises UnverifiedCertificate, Ambiguous, and InvalidState if it is not registered or not ACTIVE.
    """
    field = "certificatePem"
    if given is not None:
        if given.subject != issued.issuer:
            reason = "The issuer of the certificate did not match the subject of the provided CA certificate."
            raise UnverifiedCertificate(field, reason)
        found = await find_registered_ca(tx, scope, given.certificate.fingerprint)
    else:
        named = await find_by_subject(tx, scope, issued.issuer, limit=2)
        if len(named) > 1:
            several = "Several CA certificates have the certificate's issuer as their subject"
            raise Ambiguous(KIND, f"{several}: say which in caCertificatePem")
        found = named[0] if named else None
    content = given.content if given is not None else found.content() if found is not None else None
    if content is not None and not is_signed_by(issued, content):
        if flaw := issued.parts.signature.flaw:
            raise InvalidCertificate(field, flaw)
        reason = "The signature of the certificate failed verification against the provided CA certificate."
        raise UnverifiedCertificate(field, reason)
    if found is None:
        raise InvalidState("certificate", issued.fingerprint, "No CA certificate exists for the given certificate")
    ca = found.registration
    if ca.status is not CaStatus.ACTIVE:
        raise InvalidState(KIND, ca.fingerprint, "The CA certificate is not active")
    return ca


async def sole_issuer_of(tx: Transaction, scope: Scope, issued: IssuedCertificate) -> CaRegistration | None:
    """Return the account's only ACTIVE CA certificate whose key signed ``issued``; None if there is none or several."""
    named = await find_by_subject(tx, scope, issued.issuer, limit=MAX_SAME_SUBJECT)
    signers = [
        ca.registration
        for ca in named
        if ca.registration.status is CaStatus.ACTIVE and is_signed_by(issued, ca.content())
    ]
    return signers[0] if len(signers) == 1 else None
