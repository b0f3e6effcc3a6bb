"""Provisioning claims: certificates that a trusted user gets a device provisioned with, in the next few minutes.

They are not registered: no list shows them, and nothing can be attached to them.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from thingmint.domain.arns import Scope, arn
from thingmint.store.outbox import announce
from thingmint.store.table import Table, record
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from thingmint.domain.certificates import Certificate
    from thingmint.services.change import Change
    from thingmint.store.engine import Store, Transaction

_BATCH = 500  # claims that one transaction deletes

_OF_TEMPLATE = "FROM provisioning_claims WHERE account = $1 AND region = $2 AND template = $3"
_HAS_EXPIRED = "SELECT 1 FROM provisioning_claims WHERE expires_at <= $1 LIMIT 1"
_DELETE_EXPIRED = (
    "DELETE FROM provisioning_claims WHERE (account, region, fingerprint) IN "
    "(SELECT account, region, fingerprint FROM provisioning_claims WHERE expires_at <= $1 LIMIT $2)"
)


@record
class Claim:
    scope: Scope
    fingerprint: str
    template: str
    expires_at: datetime
    created_at: datetime


CLAIMS = Table(Claim, "provisioning_claims", "claim", key=("account", "region", "fingerprint"))


async def create_claim(tx: Transaction, change: Change, template: str, certificate: Certificate) -> None:
    """For the template of that name."""
    fingerprint, expires_at = certificate.fingerprint, certificate.not_after
    await CLAIMS.insert(tx, Claim(change.scope, fingerprint, template, expires_at, change.now))
    tx.audit_resources.append(arn(change.scope, f"provisioningtemplate/{template}"))


async def delete_claims(tx: Transaction, change: Change, template: str) -> None:
    """Those of a template, whose connections every gateway closes."""
    key = (*change.scope, template)
    rows = await tx.fetch_all(f"SELECT fingerprint {_OF_TEMPLATE}", *key)
    await tx.execute(f"DELETE {_OF_TEMPLATE}", *key)
    for (fingerprint,) in rows:
        await announce(tx, change.scope, "certificate", fingerprint, change.now)


async def delete_expired_claims(store: Store, now: datetime) -> None:
    """To be called now and then."""
    moment = to_micros(now)
    while await store.read(lambda tx: tx.fetch_one(_HAS_EXPIRED, moment)):  # a write costs a sync of the disk
        await store.write(lambda tx: tx.execute(_DELETE_EXPIRED, moment, _BATCH))
