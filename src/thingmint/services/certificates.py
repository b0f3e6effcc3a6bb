"""Issuing, registering and looking after certificates."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from thingmint.domain.certificates import parse_certificate, parse_csr
from thingmint.domain.device_policies import Target
from thingmint.domain.errors import AlreadyExists, Conflict, InvalidState, NotFound
from thingmint.domain.issuing_ca import DEVICE_SUBJECT, CertificateRequest
from thingmint.domain.keys import CSR_KEYS, OWN_KEYS
from thingmint.domain.quotas import NO_QUOTAS
from thingmint.domain.registration import Registration
from thingmint.domain.status import Status, check_initial, check_update
from thingmint.services.quotas import check_certificates
from thingmint.store import certificates as sql
from thingmint.store import policy_attachments
from thingmint.store.bindings import get_binding
from thingmint.store.outbox import announce
from thingmint.store.things import is_attached
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.domain.certificates import Certificate
    from thingmint.domain.issuing_ca import CertificateAuthority
    from thingmint.domain.keys import KeyPair
    from thingmint.domain.quotas import Quotas
    from thingmint.domain.registration import CertificateMode, Origin, Scope
    from thingmint.services.keypool import KeyPool
    from thingmint.services.markers import Markers
    from thingmint.store.engine import Store, Transaction

__all__ = ["CertificateRegistry", "Page", "RegisteredCertificate", "change_status", "utc_now"]

_LISTING = "certificates"


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class RegisteredCertificate:
    """A registration together with what it is about."""

    registration: Registration
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Page:
    registrations: list[Registration]
    next_marker: str | None


class CertificateRegistry:
    """Every method is one transaction. A fingerprint that is passed in is in canonical form (see parse_fingerprint)."""

    def __init__(
        self,
        store: Store,
        authority: CertificateAuthority,
        keys: KeyPool,
        markers: Markers,
        *,
        reinstate_revoked: bool = False,
        quotas: Quotas = NO_QUOTAS,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._authority = authority
        self._keys = keys
        self._markers = markers
        self._reinstate_revoked = reinstate_revoked
        self._quotas = quotas
        self._clock = clock

    async def create_keys_and_certificate(self, scope: Scope, *, active: bool) -> tuple[RegisteredCertificate, KeyPair]:
        """A new key pair and its certificate. The pair is nowhere else once the caller lets go of it."""
        keys = await self._keys.take(scope.account)
        request = CertificateRequest(DEVICE_SUBJECT, keys.public_key)
        return await self._issue(scope, request, origin="keys", active=active), keys

    async def create_from_csr(self, scope: Scope, csr: str, *, active: bool, field: str) -> RegisteredCertificate:
        """A new certificate for the key in ``csr`` (PEM); the same request twice gives two certificates."""
        signing_request = parse_csr(csr, field, CSR_KEYS)
        request = CertificateRequest(signing_request.subject, signing_request.public_key)
        return await self._issue(scope, request, origin="csr", active=active)

    async def register(self, scope: Scope, pem: str, *, status: Status, field: str) -> RegisteredCertificate:
        """Registers a certificate that the device has already. Raises AlreadyExists with its fingerprint."""
        check_initial(status)
        certificate = parse_certificate(pem, field, OWN_KEYS)
        registration = self._new(scope, certificate, status, "SNI_ONLY", "registered")
        return await self._add(registration, certificate)

    async def describe(self, scope: Scope, fingerprint: str) -> RegisteredCertificate:
        async def body(tx: Transaction) -> RegisteredCertificate:
            found = await sql.get_registered(tx, scope, fingerprint)
            if found is None:
                raise NotFound("certificate", fingerprint)
            return RegisteredCertificate(*found)

        return await self._store.read(body)

    async def list(self, scope: Scope, *, limit: int, ascending: bool, marker: str | None) -> Page:
        """A page of registrations by age, newest first unless ``ascending``. Raises Invalid for a foreign marker."""
        listing = f"{_LISTING}-{'ascending' if ascending else 'descending'}"
        after = self._markers.open(listing, scope, marker) if marker is not None else None

        async def body(tx: Transaction) -> list[Registration]:
            return await sql.list_registrations(tx, scope, limit=limit + 1, ascending=ascending, after=after)

        found = await self._store.read(body)
        page = found[:limit]
        if len(found) == len(page):
            return Page(page, None)
        last = page[-1]
        return Page(page, self._markers.seal(listing, scope, (to_micros(last.created_at), last.fingerprint)))

    async def set_status(self, scope: Scope, fingerprint: str, status: Status) -> Registration:
        """Setting the status that it has is no change. Raises NotFound, InvalidState."""
        now = self._clock()

        async def body(tx: Transaction) -> Registration:
            current = await _existing(tx, scope, fingerprint)
            return await change_status(tx, current, status, now, reinstate=self._reinstate_revoked)

        return await self._store.write(body)

    async def delete(self, scope: Scope, fingerprint: str, *, force: bool = False) -> None:
        """With ``force`` its policies are detached first.

        Raises NotFound, InvalidState while it is active or being transferred, and Conflict while it is bound or
        things, or policies, are attached.
        """
        now = self._clock()

        async def body(tx: Transaction) -> None:
            current = await _existing(tx, scope, fingerprint)
            if current.status in (Status.ACTIVE, Status.PENDING_TRANSFER):
                raise InvalidState(
                    "certificate",
                    fingerprint,
                    f"Certificate must be deactivated (not {current.status}) before deletion. Id: {fingerprint}",
                )
            binding = await get_binding(tx, scope.account, fingerprint)
            if binding is not None and binding.scope == scope:
                raise Conflict(
                    "certificate",
                    fingerprint,
                    f"Certificate must be removed from {binding.kind} {binding.owner} first. Id: {fingerprint}",
                )
            await _check_attachments(tx, current, force=force)
            await sql.delete_registration(tx, scope, fingerprint)
            await announce(tx, scope, "certificate", fingerprint, now)
            tx.audit_resources.append(current.arn)

        await self._store.write(body)

    async def _issue(
        self, scope: Scope, request: CertificateRequest, *, origin: Origin, active: bool
    ) -> RegisteredCertificate:
        certificate = self._authority.sign(self._authority.prepare(request, self._clock()))
        status = Status.ACTIVE if active else Status.INACTIVE
        return await self._add(self._new(scope, certificate, status, "DEFAULT", origin), certificate)

    def _new(
        self,
        scope: Scope,
        certificate: Certificate,
        status: Status,
        mode: CertificateMode,
        origin: Origin,
    ) -> Registration:
        return Registration.begin(
            scope, certificate.fingerprint, status, mode, origin, now=self._clock(), generation=str(uuid.uuid4())
        )

    async def _add(self, registration: Registration, certificate: Certificate) -> RegisteredCertificate:
        async def body(tx: Transaction) -> None:
            await sql.insert_certificate(tx, certificate)
            if not await sql.insert_registration(tx, registration):
                raise AlreadyExists("certificate", certificate.fingerprint)
            await check_certificates(tx, registration.scope.account, self._quotas)
            tx.audit_resources.append(registration.arn)

        await self._store.write(body)
        return RegisteredCertificate(registration, certificate)


async def change_status(
    tx: Transaction, current: Registration, status: Status, now: datetime, *, reinstate: bool
) -> Registration:
    """Setting the status that it has is no change. Raises InvalidState."""
    check_update(current.fingerprint, current.status, status, reinstate=reinstate)
    if current.status is status:
        return current
    changed = replace(current, status=status, modified_at=now, version=current.version + 1)
    await sql.update_registration(tx, changed)
    await announce(tx, changed.scope, "certificate", changed.fingerprint, now)
    tx.audit_resources.append(changed.arn)
    return changed


async def _existing(tx: Transaction, scope: Scope, fingerprint: str) -> Registration:
    registration = await sql.get_registration(tx, scope, fingerprint)
    if registration is None:
        raise NotFound("certificate", fingerprint)
    return registration


async def _check_attachments(tx: Transaction, registration: Registration, *, force: bool) -> None:
    """Raises Conflict while things are attached or, unless they are detached by ``force``, policies."""
    scope, fingerprint = registration.scope, registration.fingerprint
    if await is_attached(tx, scope, fingerprint):
        raise Conflict("certificate", fingerprint, f"Things must be detached before deletion (arn: {registration.arn})")
    target = Target("cert", fingerprint)
    if force:
        await policy_attachments.delete_attachments(tx, scope, target)
    elif await policy_attachments.count_attachments(tx, scope, target):
        raise Conflict(
            "certificate",
            fingerprint,
            f"Certificate policies must be detached before deletion (arn: {registration.arn})",
        )
