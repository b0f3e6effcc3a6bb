"""Binds certificates to the devices, registries and brokers of Yandex IoT Core.

The other APIs see the same registration. Binding uses the existing registration of an unbound certificate, or makes a
new one that is ACTIVE. Unbinding ends the certificate's access: a registration that binding made, and that nothing else
references, is deleted; every other registration becomes INACTIVE. Binding the certificate again makes it ACTIVE again.
A status that AWS IoT or an operator set stays, even if the registration was deleted in the meantime.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from thingmint.domain.arns import Scope
from thingmint.domain.certificates import Certificate, find_obstacle, parse_certificate, read_issued_certificate
from thingmint.domain.errors import AlreadyExists, InvalidCertificate, LimitExceeded, NotFound
from thingmint.domain.keys import FLEET_KEYS
from thingmint.domain.status import Status
from thingmint.domain.yandex_topics import OwnerKind
from thingmint.services.ca_certificates import find_of_account
from thingmint.services.certificate_contents import split_content, with_content
from thingmint.services.certificates import (
    REGISTRATIONS,
    NewCertificate,
    delete_registration,
    get_changeable,
    new_registration,
    record_obstacle,
    register,
    set_status,
)
from thingmint.services.device_policies import Target, count_attachments
from thingmint.services.thing_principals import is_attached
from thingmint.store.outbox import publish_change
from thingmint.store.table import CertificateReference, Fingerprint, Table, record

if TYPE_CHECKING:
    from thingmint.domain.certificates import Obstacle
    from thingmint.services.certificates import Registration
    from thingmint.services.change import Change
    from thingmint.services.owners import Owner
    from thingmint.store.engine import Transaction

# Lists of certificates are not paged, so their length is limited.
MAX_CERTIFICATES = 50
"""Of one owner."""


@record
class Binding:
    """A certificate can be bound once in its account, in the account's home region.

    ``submitted_pem`` is the caller's text if it is not the canonical PEM.
    """

    scope: Scope
    certificate: int
    fingerprint: CertificateReference
    kind: OwnerKind
    owner: str
    submitted_pem: str | None
    created_at: datetime


@record
class EndedBinding:
    """The status that AWS IoT or an operator set for a certificate whose registration was deleted by unbinding."""

    scope: Scope
    fingerprint: Fingerprint
    status: Status


ENDED = Table(EndedBinding, "ended_bindings", "certificate", key=("account", "region", "fingerprint"))
BINDINGS = Table(Binding, "bindings", "certificate", key=("account", "fingerprint"))

# Statuses that AWS IoT or an operator set. Unbinding does not change them.
_STAYS = frozenset({Status.INACTIVE, Status.REVOKED, Status.PENDING_TRANSFER})

_OF_OWNER = with_content(BINDINGS, "bindings") + "WHERE r.owner = $1 ORDER BY r.created_at, r.certificate"
# Transactions that count the same rows and insert others conflict with each other. So the count is a row, changed by an
# INSERT ... ON CONFLICT, which reads nothing before.
_COUNT_UP = (
    "INSERT INTO binding_counts (owner, bound) VALUES ($1, 1) "
    "ON CONFLICT (owner) DO UPDATE SET bound = binding_counts.bound + 1 WHERE binding_counts.bound < $2"
)
_COUNT_DOWN = "UPDATE binding_counts SET bound = bound - 1 WHERE owner = $1"
_DROP_COUNT = "DELETE FROM binding_counts WHERE owner = $1"


@dataclass(frozen=True, slots=True)
class SubmittedCertificate:
    """A certificate, and the exact text that the caller sent."""

    certificate: Certificate
    pem: str
    obstacle: Obstacle | None = None


class BoundCertificate(NamedTuple):
    binding: Binding
    certificate: Certificate

    @property
    def pem(self) -> str:
        """The text that the caller sent."""
        submitted = self.binding.submitted_pem
        return submitted if submitted is not None else self.certificate.pem


def parse_submitted(change: Change, pem: str, field: str) -> SubmittedCertificate:
    """Return the certificate in ``pem``. Raises InvalidCertificate, which names ``field``."""
    certificate, public_key = parse_certificate(pem, field, FLEET_KEYS, bound=True)
    change.environment.own_authorities.check(public_key, field)
    return SubmittedCertificate(certificate, pem, find_obstacle(certificate, public_key))


async def bind(tx: Transaction, change: Change, owner: Owner, submitted: SubmittedCertificate) -> Binding:
    """Bind a certificate to ``owner``.

    Raises AlreadyExists (already bound in this account), InvalidState (in transfer) and LimitExceeded.
    """
    certificate, scope = submitted.certificate, change.scope
    fingerprint = certificate.fingerprint
    now = change.now
    ended = await ENDED.find(tx, *scope, fingerprint)
    if ended is not None:
        await ENDED.delete(tx, *scope, fingerprint)
    status = ended.status if ended is not None else Status.ACTIVE
    new = new_registration(change, NewCertificate(certificate, "registered"), status)
    registered = await register(tx, change, replace(new, made_by_binding=True), certificate)
    current = registered or await get_changeable(tx, scope, fingerprint)
    pem = submitted.pem if submitted.pem != certificate.pem else None
    binding = Binding(scope, current.certificate, fingerprint, owner.kind, owner.id, pem, now)
    if not await BINDINGS.insert(tx, binding):
        raise AlreadyExists("certificate", fingerprint)
    await record_obstacle(tx, scope.account, submitted.obstacle)
    if not await tx.execute(_COUNT_UP, owner.id, MAX_CERTIFICATES):
        raise LimitExceeded(owner.kind, owner.id, f"A {owner.kind} can have at most {MAX_CERTIFICATES} certificates")
    if current.deactivated_by is not None:
        await set_status(tx, current, Status.ACTIVE, now)
        return binding
    await publish_change(tx, scope, "certificate", fingerprint, now)
    if registered is None:
        tx.audit_resources.append(current.arn)
    if current.status is not Status.ACTIVE:
        tx.audit_details["reason"] = f"the certificate is bound and stays {current.status}: it cannot connect"
    return binding


async def list_bindings(tx: Transaction, owner: Owner) -> list[BoundCertificate]:
    """Return the certificates bound to ``owner``, the oldest first."""
    found = [split_content(row) for row in await tx.fetch_all(_OF_OWNER, owner.id)]
    return [BoundCertificate(BINDINGS.load(own), certificate) for own, certificate in found]


async def unbind(tx: Transaction, change: Change, owner: Owner, fingerprint: str) -> None:
    """Unbind a certificate. ``fingerprint`` is the SHA-256 or SHA-1 of its DER in lower-case hex. Raises NotFound."""
    for bound in await list_bindings(tx, owner):
        if fingerprint in (bound.certificate.fingerprint, bound.certificate.sha1):
            await _unbind(tx, change, bound)
            tx.audit_resources.append(owner.resource)
            return
    raise NotFound("certificate", fingerprint)


async def unbind_all(tx: Transaction, change: Change, owner: Owner) -> None:
    """Unbind all certificates of an owner that is deleted."""
    for bound in await list_bindings(tx, owner):
        await _unbind(tx, change, bound)
    await tx.execute(_DROP_COUNT, owner.id)


async def _unbind(tx: Transaction, change: Change, bound: BoundCertificate) -> None:
    scope, fingerprint, now = bound.binding.scope, bound.binding.fingerprint, change.now
    await BINDINGS.delete(tx, scope.account, fingerprint)
    await tx.execute(_COUNT_DOWN, bound.binding.owner)
    registration = await REGISTRATIONS.get(tx, *scope, fingerprint)
    if await _ends_with_its_binding(tx, registration, bound.certificate):
        await delete_registration(tx, registration)
        if registration.status is not Status.ACTIVE:
            await ENDED.insert(tx, EndedBinding(scope, fingerprint, registration.status))
    elif registration.status not in _STAYS:
        # Only a certificate that was ACTIVE becomes ACTIVE again when it is bound again.
        undone_by: Literal["unbinding"] | None = "unbinding" if registration.status is Status.ACTIVE else None
        await set_status(tx, registration, Status.INACTIVE, now, deactivated_by=undone_by)
        return
    tx.audit_resources.append(registration.arn)
    await publish_change(tx, scope, "certificate", fingerprint, now)


async def _ends_with_its_binding(tx: Transaction, registration: Registration, certificate: Certificate) -> bool:
    return registration.made_by_binding and not await _is_held(tx, registration.scope, certificate)


async def _is_held(tx: Transaction, scope: Scope, certificate: Certificate) -> bool:
    """True if a thing or a policy of AWS IoT references the certificate, or a CA certificate might have issued it.

    CA certificates of every region of the account count, because they might register the certificate just in time.
    """
    fingerprint = certificate.fingerprint
    if await is_attached(tx, scope, fingerprint) or await count_attachments(tx, scope, Target("cert", fingerprint)):
        return True
    try:
        issuer = read_issued_certificate(certificate.der).issuer
    except InvalidCertificate:
        return False  # it cannot be registered just in time
    return bool(await find_of_account(tx, scope.account, issuer, limit=1))
