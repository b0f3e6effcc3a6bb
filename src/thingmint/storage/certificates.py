"""Certificates and registrations in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.identity.certificates import Certificate
from thingmint.identity.registration import Registration, Scope
from thingmint.identity.status import Status
from thingmint.storage import usage
from thingmint.storage.times import from_micros, to_micros

if TYPE_CHECKING:
    from thingmint.storage.engine import Row, Transaction

__all__ = [
    "delete_registration",
    "get_registered",
    "get_registration",
    "insert_certificate",
    "insert_registration",
    "list_registrations",
    "update_registration",
]


async def insert_certificate(tx: Transaction, certificate: Certificate) -> None:
    """Keeps the content, unless it is there already."""
    await tx.execute(
        "INSERT INTO certificates (fingerprint, der, not_before, not_after) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (fingerprint) DO NOTHING",
        certificate.fingerprint,
        certificate.der,
        to_micros(certificate.not_before),
        to_micros(certificate.not_after),
    )


async def insert_registration(tx: Transaction, registration: Registration) -> bool:
    """False if that certificate is registered in that scope already."""
    inserted = await tx.execute(
        "INSERT INTO registrations (account, region, fingerprint, status, mode, origin, created_at, "
        "modified_at, generation, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "
        "ON CONFLICT (account, region, fingerprint) DO NOTHING",
        registration.scope.account,
        registration.scope.region,
        registration.fingerprint,
        registration.status,
        registration.mode,
        registration.origin,
        to_micros(registration.created_at),
        to_micros(registration.modified_at),
        registration.generation,
        registration.version,
    )
    if inserted:
        await usage.note(tx, "certificates", registration.scope.account, 1)
    return inserted == 1


_REGISTRATION = (
    "SELECT account, region, fingerprint, status, mode, origin, created_at, modified_at, generation, version "
    "FROM registrations "
)


_REGISTERED = (
    "SELECT r.account, r.region, r.fingerprint, r.status, r.mode, r.origin, r.created_at, r.modified_at, "
    "r.generation, r.version, c.der, c.not_before, c.not_after "
    "FROM registrations AS r JOIN certificates AS c ON c.fingerprint = r.fingerprint "
    "WHERE r.account = $1 AND r.region = $2 AND r.fingerprint = $3"
)


async def get_registration(tx: Transaction, scope: Scope, fingerprint: str) -> Registration | None:
    row = await tx.fetch_one(
        _REGISTRATION + "WHERE account = $1 AND region = $2 AND fingerprint = $3", *scope, fingerprint
    )
    return _registration(row) if row else None


async def get_registered(tx: Transaction, scope: Scope, fingerprint: str) -> tuple[Registration, Certificate] | None:
    """A registration together with what it is about."""
    row = await tx.fetch_one(_REGISTERED, *scope, fingerprint)
    if row is None:
        return None
    der, not_before, not_after = row[10:]
    return _registration(row[:10]), Certificate(der, fingerprint, from_micros(not_before), from_micros(not_after))


async def list_registrations(
    tx: Transaction, scope: Scope, *, limit: int, ascending: bool, after: tuple[int, str] | None
) -> list[Registration]:
    """Up to ``limit`` of them by age, beyond the (microseconds, fingerprint) that ``after`` names."""
    comparison, direction = (">", "ASC") if ascending else ("<", "DESC")
    beyond = f"AND (created_at, fingerprint) {comparison} ($4, $5) " if after else ""
    rows = await tx.fetch_all(
        f"{_REGISTRATION}WHERE account = $1 AND region = $2 {beyond}"
        f"ORDER BY created_at {direction}, fingerprint {direction} LIMIT $3",
        *scope,
        limit,
        *(after or ()),
    )
    return [_registration(row) for row in rows]


async def update_registration(tx: Transaction, registration: Registration) -> None:
    await tx.execute(
        "UPDATE registrations SET status = $4, modified_at = $5, version = $6 "
        "WHERE account = $1 AND region = $2 AND fingerprint = $3",
        *registration.scope,
        registration.fingerprint,
        registration.status,
        to_micros(registration.modified_at),
        registration.version,
    )


async def delete_registration(tx: Transaction, scope: Scope, fingerprint: str) -> None:
    """Drops the claim, and the content with the last claim on it. What was REVOKED is remembered as such."""
    await tx.execute(
        "INSERT INTO revoked_certificates (account, region, fingerprint, ca, serial, revoked_at) "
        "SELECT account, region, fingerprint, ca, serial, modified_at FROM registrations "
        "WHERE account = $1 AND region = $2 AND fingerprint = $3 AND status = 'REVOKED' "
        "ON CONFLICT (account, region, fingerprint) DO UPDATE SET "
        # Who it was under its authority is kept, should it have come back without one.
        "ca = coalesce(excluded.ca, revoked_certificates.ca), "
        "serial = coalesce(excluded.serial, revoked_certificates.serial)",
        *scope,
        fingerprint,
    )
    deleted = await tx.execute(
        "DELETE FROM registrations WHERE account = $1 AND region = $2 AND fingerprint = $3", *scope, fingerprint
    )
    if deleted:
        await usage.note(tx, "certificates", scope.account, -1)
    await tx.execute(
        "DELETE FROM certificates WHERE fingerprint = $1 "
        "AND NOT EXISTS (SELECT 1 FROM registrations WHERE registrations.fingerprint = $1)",
        fingerprint,
    )


def _registration(row: Row) -> Registration:
    account, region, fingerprint, status, mode, origin, created_at, modified_at, generation, version = row
    return Registration(
        scope=Scope(account, region),
        fingerprint=fingerprint,
        status=Status(status),
        mode=mode,
        origin=origin,
        created_at=from_micros(created_at),
        modified_at=from_micros(modified_at),
        generation=generation,
        version=version,
    )
