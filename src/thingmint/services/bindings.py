"""Binding certificates to devices and registries: what makes a fleet's own certificates mean somebody.

The certificate is the same registration that the other faces see. Binding takes one that exists and is unbound,
whatever its status, or makes one that is active; unbinding ends it only if binding made it and nothing else holds it.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.domain.certificates import parse_certificate
from thingmint.domain.errors import AlreadyExists, LimitExceeded, NotFound
from thingmint.domain.fleet import Binding
from thingmint.domain.keys import FLEET_KEYS
from thingmint.domain.quotas import NO_QUOTAS
from thingmint.domain.registration import arn_of
from thingmint.domain.status import Status
from thingmint.services.certificates import Registration, delete_registration, register
from thingmint.services.device_policies import Target, count_attachments
from thingmint.services.thing_principals import is_attached
from thingmint.store import bindings as sql
from thingmint.store import fleet as fleet_sql
from thingmint.store.outbox import announce

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.domain.certificates import Certificate
    from thingmint.domain.fleet import OwnerKind
    from thingmint.domain.quotas import Quotas
    from thingmint.domain.registration import Scope
    from thingmint.services.operations import OperationRegistry, Receipt, RecordedOperation
    from thingmint.store.engine import Store, Transaction

__all__ = ["BindingRegistry", "SubmittedCertificate", "bind", "submitted", "unbind_all"]

# Lists of certificates are not paged, so their length has to be bounded.
_MAX_CERTIFICATES = 50


@dataclass(frozen=True, slots=True)
class SubmittedCertificate:
    """A certificate, the very text that it came in, and a UUID for the registration that may have to be made."""

    certificate: Certificate
    pem: str
    generation: str


def submitted(pem: str, field: str) -> SubmittedCertificate:
    """Raises InvalidCertificate, naming ``field``."""
    return SubmittedCertificate(parse_certificate(pem, field, FLEET_KEYS), pem, str(uuid.uuid4()))


class BindingRegistry:
    """The certificates of devices. Every method is one transaction."""

    def __init__(self, store: Store, operations: OperationRegistry, quotas: Quotas = NO_QUOTAS) -> None:
        self._store = store
        self._operations = operations
        self._quotas = quotas

    async def add(
        self, scope: Scope, device: str, certificate: SubmittedCertificate, now: datetime, receipt: Receipt[Binding]
    ) -> RecordedOperation:
        """Raises NotFound, AlreadyExists (bound in this account already) and LimitExceeded."""

        async def change(tx: Transaction) -> Binding:
            await _check_device(tx, scope.account, device)
            tx.audit_resources.append(f"yandex:device/{device}")
            return await bind(tx, scope, "device", device, certificate, now, self._quotas)

        return await self._operations.write(receipt, change)

    async def remove(self, account: str, device: str, fingerprint: str, receipt: Receipt[None]) -> RecordedOperation:
        """``fingerprint`` is the SHA-256 or the SHA-1 of the DER, in lower-case hex. Raises NotFound."""

        async def change(tx: Transaction) -> None:
            await _check_device(tx, account, device)
            for binding in await sql.list_bindings(tx, device):
                if fingerprint in (binding.fingerprint, binding.sha1):
                    await _unbind(tx, binding, receipt.created_at)
                    tx.audit_resources.append(f"yandex:device/{device}")
                    return
            raise NotFound("certificate", fingerprint)

        return await self._operations.write(receipt, change)

    async def list(self, account: str, device: str) -> list[Binding]:
        async def body(tx: Transaction) -> list[Binding]:
            await _check_device(tx, account, device)
            return await sql.list_bindings(tx, device)

        return await self._store.read(body)


async def bind(
    tx: Transaction,
    scope: Scope,
    kind: OwnerKind,
    owner: str,
    submitted: SubmittedCertificate,
    now: datetime,
    quotas: Quotas,
) -> Binding:
    """Raises AlreadyExists and LimitExceeded; the transaction has to be given up then."""
    certificate = submitted.certificate
    registration = Registration(
        scope, certificate.fingerprint, Status.ACTIVE, "SNI_ONLY", "registered", now, now, submitted.generation
    )
    is_new = await register(tx, registration, certificate, quotas)
    if not is_new:
        tx.audit_resources.append(registration.arn)
    binding = Binding(
        scope=scope,
        fingerprint=certificate.fingerprint,
        sha1=certificate.sha1,
        kind=kind,
        owner=owner,
        pem=submitted.pem,
        made_registration=is_new,
        created_at=now,
    )
    if not await sql.insert_binding(tx, binding, certificate.pem):
        raise AlreadyExists("certificate", certificate.fingerprint)
    if await sql.count_bindings(tx, owner) > _MAX_CERTIFICATES:
        raise LimitExceeded(kind, owner, f"A {kind} can have at most {_MAX_CERTIFICATES} certificates")
    await announce(tx, scope, "certificate", certificate.fingerprint, now)
    return binding


async def unbind_all(tx: Transaction, owner: str, now: datetime) -> None:
    for binding in await sql.list_bindings(tx, owner):
        await _unbind(tx, binding, now)


async def _unbind(tx: Transaction, binding: Binding, now: datetime) -> None:
    scope, fingerprint = binding.scope, binding.fingerprint
    await sql.delete_binding(tx, scope.account, fingerprint)
    tx.audit_resources.append(arn_of(scope, fingerprint))
    await announce(tx, scope, "certificate", fingerprint, now)
    if binding.made_registration and not await _is_held(tx, scope, fingerprint):
        await delete_registration(tx, scope, fingerprint)


async def _is_held(tx: Transaction, scope: Scope, fingerprint: str) -> bool:
    """By a thing or a policy of the AWS face."""
    if await is_attached(tx, scope, fingerprint):
        return True
    return await count_attachments(tx, scope, Target("cert", fingerprint)) > 0


async def _check_device(tx: Transaction, account: str, device: str) -> None:
    if await fleet_sql.get_device(tx, account, device) is None:
        raise NotFound("device", device)
