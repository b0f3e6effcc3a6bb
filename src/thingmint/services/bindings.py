"""Which device, registry or broker a certificate is bound to.

The certificate is the same registration that the other APIs see. Binding takes one that exists and is unbound,
whatever its status, or makes one that is active; unbinding ends it only if binding made it and nothing else holds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from thingmint.domain.arns import Scope, arn_of
from thingmint.domain.certificates import Certificate, parse_x509
from thingmint.domain.errors import AlreadyExists, LimitExceeded, NotFound
from thingmint.domain.keys import FLEET_KEYS
from thingmint.domain.status import Status
from thingmint.services.certificates import Registration, delete_registration, register, split_content, with_content
from thingmint.services.device_policies import Target, count_attachments
from thingmint.services.owners import OwnerKind
from thingmint.services.thing_principals import is_attached
from thingmint.store.outbox import announce
from thingmint.store.table import Table, record

if TYPE_CHECKING:
    from thingmint.services.change import Change
    from thingmint.services.owners import Owner
    from thingmint.store.engine import Transaction

# Lists of certificates are not paged, so their length has to be bounded.
_MAX_CERTIFICATES = 50


@record
class Binding:
    """A certificate is bound once in its account, in the account's home region.

    ``submitted_pem`` is the text that was sent where that is not the canonical PEM. ``made_registration``: the
    registration was made for this binding, and ends with it.
    """

    scope: Scope
    fingerprint: str
    kind: OwnerKind
    owner: str
    submitted_pem: str | None
    made_registration: bool
    created_at: datetime


BINDINGS = Table(Binding, "bindings", "certificate", key=("account", "fingerprint"))

_OF_OWNER = with_content(BINDINGS, "bindings") + "WHERE r.owner = $1 ORDER BY r.created_at, r.fingerprint"
_COUNT = "SELECT count(*) FROM bindings WHERE owner = $1"


@dataclass(frozen=True, slots=True)
class SubmittedCertificate:
    """A certificate, and the text that it came in, byte for byte."""

    certificate: Certificate
    pem: str


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
    certificate, content = parse_x509(pem, field, FLEET_KEYS)
    change.environment.own_authorities.check(content, field)
    return SubmittedCertificate(certificate, pem)


async def bind(tx: Transaction, change: Change, owner: Owner, submitted: SubmittedCertificate) -> Binding:
    """Raises AlreadyExists (bound in this account already) and LimitExceeded."""
    certificate, scope = submitted.certificate, change.scope
    fingerprint = certificate.fingerprint
    now, generation = change.now, change.new_id()
    registration = Registration(scope, fingerprint, Status.ACTIVE, "SNI_ONLY", "registered", now, now, generation)
    is_new = await register(tx, registration, certificate, change.environment.quotas)
    if not is_new:
        tx.audit_resources.append(registration.arn)
    pem = submitted.pem if submitted.pem != certificate.pem else None
    binding = Binding(scope, fingerprint, owner.kind, owner.id, pem, is_new, now)
    if not await BINDINGS.insert(tx, binding):
        raise AlreadyExists("certificate", fingerprint)
    count = await tx.fetch_one(_COUNT, owner.id)
    if count is not None and count[0] > _MAX_CERTIFICATES:
        raise LimitExceeded(owner.kind, owner.id, f"A {owner.kind} can have at most {_MAX_CERTIFICATES} certificates")
    await announce(tx, scope, "certificate", fingerprint, now)
    return binding


async def list_bindings(tx: Transaction, owner: Owner) -> list[BoundCertificate]:
    """The oldest first."""
    found = [split_content(row) for row in await tx.fetch_all(_OF_OWNER, owner.id)]
    return [BoundCertificate(BINDINGS.load(own), certificate) for own, certificate in found]


async def unbind(tx: Transaction, change: Change, owner: Owner, fingerprint: str) -> None:
    """``fingerprint`` is the SHA-256 or the SHA-1 of the DER, in lower-case hex. Raises NotFound."""
    for binding, certificate in await list_bindings(tx, owner):
        if fingerprint in (certificate.fingerprint, certificate.sha1):
            await _unbind(tx, change, binding)
            tx.audit_resources.append(owner.resource)
            return
    raise NotFound("certificate", fingerprint)


async def unbind_all(tx: Transaction, change: Change, owner: Owner) -> None:
    for binding, _ in await list_bindings(tx, owner):
        await _unbind(tx, change, binding)


async def _unbind(tx: Transaction, change: Change, binding: Binding) -> None:
    scope, fingerprint = binding.scope, binding.fingerprint
    await BINDINGS.delete(tx, scope.account, fingerprint)
    tx.audit_resources.append(arn_of(scope, fingerprint))
    await announce(tx, scope, "certificate", fingerprint, change.now)
    if binding.made_registration and not await _is_held(tx, scope, fingerprint):
        await delete_registration(tx, scope, fingerprint)


async def _is_held(tx: Transaction, scope: Scope, fingerprint: str) -> bool:
    """By a thing or a policy of AWS IoT."""
    if await is_attached(tx, scope, fingerprint):
        return True
    return await count_attachments(tx, scope, Target("cert", fingerprint)) > 0
