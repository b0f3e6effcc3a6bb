"""Registrations of certificates: registering, changing the status, deleting."""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from thingmint.domain.arns import Scope, arn_of
from thingmint.domain.errors import AlreadyExists, Conflict, InvalidState, NotFound
from thingmint.domain.status import Status, check_update
from thingmint.services.accounts import get_settings
from thingmint.services.ca_owners import release_ca
from thingmint.services.certificate_activity import delete_certificate_activity
from thingmint.services.certificate_contents import drop_content, keep_content, split_content, with_content
from thingmint.services.certificate_counts import CountedTable, count_status_change
from thingmint.services.quotas import give_back, take
from thingmint.store.outbox import publish_change
from thingmint.store.search_keys import certificate_keys
from thingmint.store.table import (
    CertificateReference,
    Uuid,
    fingerprint_bytes,
    fingerprint_of,
    id_of,
    record,
    to_micros,
)

if TYPE_CHECKING:
    from thingmint.domain.certificates import Certificate, Obstacle
    from thingmint.domain.keys import KeyPair
    from thingmint.services.change import Change
    from thingmint.store.engine import Transaction

CertificateMode = Literal["DEFAULT", "SNI_ONLY"]

Origin = Literal["keys", "csr", "registered"]
"""Where a certificate is from: issued for keys that we made, issued for a CSR, or issued elsewhere."""


def utc_now() -> datetime:
    return datetime.now(UTC)


@record
class Registration:
    """The registration of a certificate in one account and region. Other accounts may have registered it too.

    ``certificate`` is the store's id of the certificate.
    """

    scope: Scope
    certificate: int
    fingerprint: CertificateReference
    status: Status
    mode: CertificateMode
    origin: Origin
    created_at: datetime
    modified_at: datetime
    generation: Uuid  # a new one if the same certificate is deleted and registered again
    version: int = 1  # counts changes
    ca: CertificateReference | None = None  # the CA certificate under which it is registered
    serial: str | None = None  # the certificate's serial number in hex, if it has a ca
    deactivated_by: Literal["unbinding"] | None = None  # why it is INACTIVE, if binding again makes it ACTIVE
    made_by_binding: bool = False  # made when the certificate was bound to a Yandex device or registry
    previous_owner: str | None = None  # the account that transferred it to this one
    transfer: Mapping[str, Any] | None = None  # the last transfer (services/transfers)

    @property
    def arn(self) -> str:
        return arn_of(self.scope, self.fingerprint)

    @property
    def key(self) -> tuple[str, str, int]:
        return (*self.scope, self.certificate)


class RegisteredCertificate(NamedTuple):
    registration: Registration
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class NewCertificate:
    """A certificate to register. ``keys`` are in memory only."""

    certificate: Certificate
    origin: Origin
    keys: KeyPair | None = None
    obstacle: Obstacle | None = None


REGISTRATIONS = CountedTable(
    Registration,
    "registrations",
    "certificate",
    key=("account", "region", "fingerprint"),
    further=("not_after", "serial_key", "common_name"),
)


_THIS = "account = $1 AND region = $2 AND certificate = $3"
_REGISTERED = with_content(REGISTRATIONS, "registrations") + (
    "WHERE r.account = $1 AND r.region = $2 AND c.fingerprint = $3"
)
_FIND_BY_SERIAL = (
    f"SELECT {fingerprint_of('certificate')} FROM registrations "
    f"WHERE account = $1 AND region = $2 AND ca = {id_of('$3')} AND serial = $4"
)
_SET_STATUS = (
    f"UPDATE registrations SET status = $4, modified_at = $5, version = $6, deactivated_by = $7 WHERE {_THIS} "
    "RETURNING not_after"
)
_STAY_INACTIVE = f"UPDATE registrations SET deactivated_by = NULL WHERE {_THIS}"

BOUND_TO = f"SELECT kind, owner FROM bindings WHERE {_THIS}"
HAS_THINGS = f"SELECT 1 FROM thing_principals WHERE {_THIS} LIMIT 1"
_POLICIES = f"FROM device_policy_attachments WHERE {_THIS}"
HAS_POLICIES = f"SELECT 1 {_POLICIES} LIMIT 1"
"""The parameters of these statements are a registration's ``key``."""

_IS_OFFERED = (
    f"SELECT 1 FROM pending_transfers WHERE account = $1 AND region = $2 AND certificate = {id_of('$3')} LIMIT 1"
)

_REMEMBER_REVOKED = (
    "INSERT INTO revoked_certificates (account, region, fingerprint, ca, serial, revoked_at) "
    f"VALUES ($1, $2, $3, {id_of('$4')}, $5, $6) ON CONFLICT (account, region, fingerprint) DO UPDATE SET "
    # If it was registered again without its CA certificate, keep the CA: the certificate must stay revoked under it.
    "ca = coalesce(excluded.ca, revoked_certificates.ca), "
    "serial = coalesce(excluded.serial, revoked_certificates.serial)"
)
_WAS_REVOKED = (
    f"SELECT 1 FROM revoked_certificates WHERE account = $1 AND region = $2 AND ca = {id_of('$3')} AND serial = $4 "
    "UNION ALL SELECT 1 FROM revoked_certificates WHERE account = $1 AND region = $2 AND fingerprint IN ($5, $6) "
    "LIMIT 1"
)


async def find_registered(tx: Transaction, scope: Scope, fingerprint: str) -> RegisteredCertificate | None:
    row = await tx.fetch_one(_REGISTERED, *scope, fingerprint_bytes(fingerprint))
    if row is None:
        return None
    own, certificate = split_content(row)
    return RegisteredCertificate(REGISTRATIONS.load(own), certificate)


async def get_registered(tx: Transaction, scope: Scope, fingerprint: str) -> RegisteredCertificate:
    """Return a registered certificate. Raises NotFound."""
    found = await find_registered(tx, scope, fingerprint)
    if found is None:
        raise NotFound("certificate", fingerprint)
    return found


async def get_changeable(tx: Transaction, scope: Scope, fingerprint: str) -> Registration:
    """Return a registration. Raises NotFound, and InvalidState while it is being transferred from or to ``scope``."""
    found = await REGISTRATIONS.find(tx, *scope, fingerprint)
    if found is not None:
        check_not_pending(found)
        return found
    if await tx.fetch_one(_IS_OFFERED, *scope, fingerprint_bytes(fingerprint)):
        raise _in_transfer(fingerprint)
    raise NotFound("certificate", fingerprint)


def check_not_pending(registration: Registration) -> None:
    """Raise InvalidState while the certificate is being transferred."""
    if registration.status is Status.PENDING_TRANSFER:
        raise _in_transfer(registration.fingerprint)


def _in_transfer(fingerprint: str) -> InvalidState:
    reason = f"Certificate cannot be changed while its transfer is pending. Id: {fingerprint}"
    return InvalidState("certificate", fingerprint, reason)


async def find_by_serial(tx: Transaction, scope: Scope, ca: str, serial: str) -> str | None:
    """Return the fingerprint of the certificate that is registered under that CA with that serial number, or None."""
    row = await tx.fetch_one(_FIND_BY_SERIAL, *scope, fingerprint_bytes(ca), serial)
    return row[0].hex() if row else None


async def was_revoked(tx: Transaction, scope: Scope, ca: str, serial: str, fingerprint: str, other: str) -> bool:
    """True if a certificate with that CA and serial number, or with one of the fingerprints, was deleted as REVOKED."""
    keys = fingerprint_bytes(ca), serial, fingerprint_bytes(fingerprint), fingerprint_bytes(other)
    return await tx.fetch_one(_WAS_REVOKED, *scope, *keys) is not None


async def register(
    tx: Transaction, change: Change, registration: Registration, certificate: Certificate
) -> Registration | None:
    """Register a certificate. Returns the stored registration, with the store's id of the certificate.

    Returns None, without a change, if the certificate is already registered in that scope. Raises LimitExceeded.
    """
    id = await keep_content(tx, registration.certificate, certificate)
    if id != registration.certificate:
        registration = replace(registration, certificate=id)
    if not await insert_registration(tx, registration, certificate):
        return None
    await take(tx, change.environment.quotas, "certificates", registration.scope.account)
    tx.audit_resources.append(registration.arn)
    return registration


async def insert_registration(tx: Transaction, registration: Registration, certificate: Certificate) -> bool:
    """Insert a registration with its search keys. False if there already is one."""
    ends, keys = to_micros(certificate.not_after), certificate_keys(registration.scope, certificate.der)
    return await REGISTRATIONS.insert(tx, registration, ends, *keys)


def new_registration(change: Change, new: NewCertificate, status: Status) -> Registration:
    """Return a new registration without a CA certificate."""
    scope, now, fingerprint = change.scope, change.now, new.certificate.fingerprint
    mode: CertificateMode = "SNI_ONLY" if new.origin == "registered" else "DEFAULT"
    return Registration(
        scope, change.new_certificate_id(), fingerprint, status, mode, new.origin, now, now, change.new_id()
    )


async def register_new(tx: Transaction, change: Change, new: NewCertificate, status: Status) -> RegisteredCertificate:
    """Register a new certificate. Raises AlreadyExists and LimitExceeded."""
    registration = await register(tx, change, new_registration(change, new, status), new.certificate)
    if registration is None:
        raise AlreadyExists("certificate", new.certificate.fingerprint)
    await record_obstacle(tx, change.account, new.obstacle)
    return RegisteredCertificate(registration, new.certificate)


async def record_obstacle(tx: Transaction, account: str, obstacle: Obstacle | None) -> None:
    """Add to the log and to the audit record why devices cannot connect with the registered certificate, if so."""
    if reason := await remaining_obstacle(tx, account, obstacle):
        tx.audit_details["cannot_connect"] = reason


async def remaining_obstacle(tx: Transaction, account: str, obstacle: Obstacle | None) -> str | None:
    """Return why devices of the account cannot connect with the certificate, or None."""
    if obstacle is None or (obstacle.weak_keys_remove_it and (await get_settings(tx, account)).weak_keys):
        return None
    return obstacle.reason


async def update_status(tx: Transaction, change: Change, fingerprint: str, status: Status) -> Registration:
    """Set the status of a registration. Raises NotFound and InvalidState."""
    current = await get_changeable(tx, change.scope, fingerprint)
    return await change_status(tx, current, status, change.now, reinstate=change.environment.reinstate_revoked)


async def change_status(
    tx: Transaction, current: Registration, status: Status, now: datetime, *, reinstate: bool
) -> Registration:
    """Set the status of a registration, if it is another one. Raises InvalidState.

    Setting INACTIVE after unbinding did is a change: binding the certificate again does not make it ACTIVE then.
    """
    check_update(current.fingerprint, current.status, status, reinstate=reinstate)
    if current.status is not status:
        return await set_status(tx, current, status, now)
    if current.deactivated_by is not None:
        await tx.execute(_STAY_INACTIVE, *current.scope, current.certificate)
        tx.audit_resources.append(current.arn)
    return current


async def set_status(
    tx: Transaction,
    current: Registration,
    status: Status,
    now: datetime,
    *,
    deactivated_by: Literal["unbinding"] | None = None,
) -> Registration:
    """Set another status, also one that callers cannot set."""
    scope, fingerprint, version = current.scope, current.fingerprint, current.version + 1
    values = (status, to_micros(now), version, deactivated_by)
    row = await tx.fetch_one(_SET_STATUS, *scope, current.certificate, *values)
    assert row is not None, "the transaction has read the row"
    await count_status_change(tx, scope, current.status, status, row[0])
    await publish_change(tx, scope, "certificate", fingerprint, now)
    tx.audit_resources.append(current.arn)
    return replace(current, status=status, modified_at=now, version=version, deactivated_by=deactivated_by)


async def delete_certificate(tx: Transaction, change: Change, fingerprint: str, *, force: bool = False) -> None:
    """Delete a registration. With ``force``, its policies are detached first.

    Raises NotFound, InvalidState while the certificate is active or being transferred, and Conflict while it is bound,
    or attached to things or policies.
    """
    current = await get_changeable(tx, change.scope, fingerprint)
    key = current.key
    if current.status is Status.ACTIVE:
        reason = f"Certificate must be deactivated (not {current.status}) before deletion. Id: {fingerprint}"
        raise InvalidState("certificate", fingerprint, reason)
    if (bound := await tx.fetch_one(BOUND_TO, *key)) is not None:
        kind, owner = bound
        reason = f"Certificate must be removed from {kind} {owner} first. Id: {fingerprint}"
        raise Conflict("certificate", fingerprint, reason)
    if await tx.fetch_one(HAS_THINGS, *key):
        raise Conflict("certificate", fingerprint, f"Things must be detached before deletion (arn: {current.arn})")
    if force:
        await tx.execute(f"DELETE {_POLICIES}", *key)
    elif await tx.fetch_one(HAS_POLICIES, *key):
        reason = f"Certificate policies must be detached before deletion (arn: {current.arn})"
        raise Conflict("certificate", fingerprint, reason)
    await delete_registration(tx, current)
    await publish_change(tx, change.scope, "certificate", fingerprint, change.now)
    tx.audit_resources.append(current.arn)


async def delete_registration(tx: Transaction, registration: Registration) -> None:
    """Delete a registration, and the certificate's content if no other row references it.

    A REVOKED certificate is recorded as revoked.
    """
    scope, fingerprint = registration.scope, registration.fingerprint
    if registration.status is Status.REVOKED:
        ca = fingerprint_bytes(registration.ca) if registration.ca is not None else None
        moment = to_micros(registration.modified_at)
        await tx.execute(_REMEMBER_REVOKED, *scope, fingerprint_bytes(fingerprint), ca, registration.serial, moment)
    if await REGISTRATIONS.delete(tx, *scope, fingerprint):
        await give_back(tx, "certificates", scope.account)
    await delete_certificate_activity(tx, registration.key)
    await drop_content(tx, fingerprint)
    if registration.ca is not None:
        await release_ca(tx, scope, registration.ca)
