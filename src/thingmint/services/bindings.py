"""Which device, registry or broker a certificate is bound to.

The certificate is the same registration that the other APIs see. Binding takes one that exists and is unbound, or makes
one that is ACTIVE. Unbinding ends its access: what binding made and nothing else holds is deleted, and every other one
becomes INACTIVE. Binding it again makes it ACTIVE again; the status that anything else gave it stays, also if the
registration was deleted meanwhile.
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
from thingmint.services.ca_certificates import find_of_account
from thingmint.services.certificate_contents import split_content, with_content
from thingmint.services.certificates import (
    REGISTRATIONS,
    NewCertificate,
    delete_registration,
    new_registration,
    register,
    set_status,
    tell_obstacle,
)
from thingmint.services.device_policies import Target, count_attachments
from thingmint.services.owners import OwnerKind
from thingmint.services.thing_principals import is_attached
from thingmint.store.outbox import publish_change
from thingmint.store.table import CertificateReference, Fingerprint, Table, record

if TYPE_CHECKING:
    from thingmint.domain.certificates import Obstacle
    from thingmint.services.certificates import Registration
    from thingmint.services.change import Change
    from thingmint.services.owners import Owner
    from thingmint.store.engine import Transaction

# Lists of certificates are not paged, so their length has to be bounded.
_MAX_CERTIFICATES = 50


@record
class Binding:
    """A certificate is bound once in its account, in the account's home region.

    ``submitted_pem`` is the text that was sent where that is not the canonical PEM.
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
    """What AWS IoT or an operator had made of a certificate whose registration ended with its binding."""

    scope: Scope
    fingerprint: Fingerprint
    status: Status


ENDED = Table(EndedBinding, "ended_bindings", "certificate", key=("account", "region", "fingerprint"))
BINDINGS = Table(Binding, "bindings", "certificate", key=("account", "fingerprint"))

# What AWS IoT or an operator decided outlives the binding.
_STAYS = frozenset({Status.INACTIVE, Status.REVOKED, Status.PENDING_TRANSFER})

_OF_OWNER = with_content(BINDINGS, "bindings") + "WHERE r.owner = $1 ORDER BY r.created_at, r.certificate"
# Bindings are not counted, as what several transactions read and insert around makes them conflict. An INSERT with a
# conflict reads nothing before.
_COUNT_UP = (
    "INSERT INTO binding_counts (owner, bound) VALUES ($1, 1) "
    "ON CONFLICT (owner) DO UPDATE SET bound = binding_counts.bound + 1 WHERE binding_counts.bound < $2"
)
_COUNT_DOWN = "UPDATE binding_counts SET bound = bound - 1 WHERE owner = $1"
_DROP_COUNT = "DELETE FROM binding_counts WHERE owner = $1"


@dataclass(frozen=True, slots=True)
class SubmittedCertificate:
    """A certificate, and the text that it came in, byte for byte."""

    certificate: Certificate
    pem: str
    obstacle: Obstacle | None = None


class BoundCertificate(NamedTuple):
    binding: Binding
    certificate: Certificate

    @property
    def pem(self) -> str:
        """As it was sent."""
        submitted = self.binding.submitted_pem
        return submitted if submitted is not None else self.certificate.pem


def parse_submitted(change: Change, pem: str, field: str) -> SubmittedCertificate:
    """Raises InvalidCertificate, naming ``field``."""
    certificate, public_key = parse_certificate(pem, field, FLEET_KEYS, bound=True)
    change.environment.own_authorities.check(public_key, field)
    return SubmittedCertificate(certificate, pem, find_obstacle(certificate, public_key))


async def bind(tx: Transaction, change: Change, owner: Owner, submitted: SubmittedCertificate) -> Binding:
    """Raises AlreadyExists (bound in this account already) and LimitExceeded."""
    certificate, scope = submitted.certificate, change.scope
    fingerprint = certificate.fingerprint
    now = change.now
    ended = await ENDED.find(tx, *scope, fingerprint)
    if ended is not None:
        await ENDED.delete(tx, *scope, fingerprint)
    status = ended.status if ended is not None else Status.ACTIVE
    new = new_registration(change, NewCertificate(certificate, "registered"), status)
    registered = await register(tx, change, replace(new, made_by_binding=True), certificate)
    current = registered or await REGISTRATIONS.get(tx, *scope, fingerprint)
    pem = submitted.pem if submitted.pem != certificate.pem else None
    binding = Binding(scope, current.certificate, fingerprint, owner.kind, owner.id, pem, now)
    if not await BINDINGS.insert(tx, binding):
        raise AlreadyExists("certificate", fingerprint)
    await tell_obstacle(tx, scope.account, submitted.obstacle)
    if not await tx.execute(_COUNT_UP, owner.id, _MAX_CERTIFICATES):
        raise LimitExceeded(owner.kind, owner.id, f"A {owner.kind} can have at most {_MAX_CERTIFICATES} certificates")
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
    """The oldest first."""
    found = [split_content(row) for row in await tx.fetch_all(_OF_OWNER, owner.id)]
    return [BoundCertificate(BINDINGS.load(own), certificate) for own, certificate in found]


async def unbind(tx: Transaction, change: Change, owner: Owner, fingerprint: str) -> None:
    """``fingerprint`` is the SHA-256 or the SHA-1 of the DER, in lower-case hex. Raises NotFound."""
    for bound in await list_bindings(tx, owner):
        if fingerprint in (bound.certificate.fingerprint, bound.certificate.sha1):
            await _unbind(tx, change, bound)
            tx.audit_resources.append(owner.resource)
            return
    raise NotFound("certificate", fingerprint)


async def unbind_all(tx: Transaction, change: Change, owner: Owner) -> None:
    """Of an owner that is deleted."""
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
        # What had no access before gets none from being bound again.
        undone_by: Literal["unbinding"] | None = "unbinding" if registration.status is Status.ACTIVE else None
        await set_status(tx, registration, Status.INACTIVE, now, deactivated_by=undone_by)
        return
    tx.audit_resources.append(registration.arn)
    await publish_change(tx, scope, "certificate", fingerprint, now)


async def _ends_with_its_binding(tx: Transaction, registration: Registration, certificate: Certificate) -> bool:
    return registration.made_by_binding and not await _is_held(tx, registration.scope, certificate)


async def _is_held(tx: Transaction, scope: Scope, certificate: Certificate) -> bool:
    """By a thing or a policy of AWS IoT; or by a CA certificate of any region, which might register it just in time."""
    fingerprint = certificate.fingerprint
    if await is_attached(tx, scope, fingerprint) or await count_attachments(tx, scope, Target("cert", fingerprint)):
        return True
    try:
        issuer = read_issued_certificate(certificate.der).issuer
    except InvalidCertificate:
        return False  # nor is it registered just in time
    return bool(await find_of_account(tx, scope.account, issuer, limit=1))
