"""Ownership tokens: a device that got a certificate over MQTT presents its token to register a thing with it.

Such a certificate is PENDING_ACTIVATION and gives no access. Its token is valid only together with the claim
certificate with which the device requested it. A certificate is deleted if it is not used within an hour.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.arns import Scope
from thingmint.domain.status import Status
from thingmint.services.certificates import (
    REGISTRATIONS,
    delete_registration,
    find_registered,
    register_new,
)
from thingmint.services.claims import delete_expired_claims
from thingmint.services.device_policies import Target, count_attachments
from thingmint.services.thing_principals import is_attached
from thingmint.store.outbox import publish_change
from thingmint.store.table import Fingerprint, Table, fingerprint_bytes, id_of, record, to_micros

if TYPE_CHECKING:
    from thingmint.domain.certificates import Certificate
    from thingmint.services.certificates import NewCertificate, Registration
    from thingmint.services.change import Change, Query
    from thingmint.store.engine import Store, Transaction

_LIFETIME = timedelta(hours=1)  # AWS: "The token expires after one hour"

_BATCH = 100  # tokens that one transaction ends

_log = structlog.get_logger("thingmint.provisioning")


@record
class OwnershipToken:
    """Only the token's hash is stored. ``claim`` is the fingerprint of the claim certificate of the device."""

    scope: Scope
    sha256: bytes
    fingerprint: Fingerprint
    claim: Fingerprint
    expires_at: datetime
    request: bytes | None = None  # the hash of the one request that succeeded
    answer: str | None = None  # the answer to that request, in JSON


TOKENS = Table(
    OwnershipToken,
    "ownership_tokens",
    "ownership token",
    key=("token_sha256",),
    columns={"sha256": "token_sha256", "request": "request_sha256"},
)

_EXPIRED = f"{TOKENS.select}WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2"
_BOUND = f"SELECT 1 FROM bindings WHERE account = $1 AND region = $2 AND certificate = {id_of('$3')}"
# A claim is valid as long as its template exists. A later template of the same name has another generation.
_MAY_CONNECT = (
    "SELECT 1 FROM registrations "
    f"WHERE account = $1 AND region = $2 AND certificate = {id_of('$3')} AND status = 'ACTIVE' "
    "UNION ALL SELECT 1 FROM provisioning_claims AS c JOIN provisioning_templates AS t ON t.account = c.account "
    "AND t.region = c.region AND t.name = c.template AND t.generation = c.template_generation "
    "WHERE c.account = $1 AND c.region = $2 AND c.fingerprint = $3 AND c.expires_at > $4 LIMIT 1"
)


async def register_with_token(tx: Transaction, change: Change, claim: str, new: NewCertificate) -> str:
    """Register a new certificate. Returns its token, which is not stored. Raises LimitExceeded."""
    await register_new(tx, change, new, Status.PENDING_ACTIVATION)
    # AWS's demos for small devices keep 512 bytes for it.
    token = change.new_id(lambda: f"tmo_{secrets.token_urlsafe(32)}")
    sha256, expires_at = _hash(token), change.now + _LIFETIME
    await TOKENS.insert(tx, OwnershipToken(change.scope, sha256, new.certificate.fingerprint, claim, expires_at))
    return token


async def find_current_token(
    tx: Transaction, query: Query, claim: str, token: str
) -> tuple[OwnershipToken, Certificate] | None:
    """Return the token and its certificate, or None.

    The token must belong to ``claim`` and must not have expired; the certificate must not be revoked or in transfer.
    ``claim`` must still be valid: it can be revoked while the server waits for a hook.
    """
    found = await TOKENS.find(tx, _hash(token))
    if found is None or (found.scope, found.claim) != (query.scope, claim) or found.expires_at <= query.now:
        return None
    if not await _may_connect(tx, query, claim):
        return None
    registered = await find_registered(tx, query.scope, found.fingerprint)
    if registered is None or registered.registration.status in (Status.REVOKED, Status.PENDING_TRANSFER):
        return None
    return found, registered.certificate


async def delete_unclaimed(store: Store, now: datetime) -> int:
    """Delete expired tokens and claims, and the unused certificates of these tokens.

    A certificate that was activated, attached or bound is kept. Returns the number of deleted certificates.
    """
    await delete_expired_claims(store, now)
    moment = to_micros(now)

    async def body(tx: Transaction) -> list[OwnershipToken]:
        deleted = []
        for token in TOKENS.load_all(await tx.fetch_all(_EXPIRED, moment, _BATCH)):
            if (unclaimed := await _find_unclaimed(tx, token)) is not None:
                await delete_registration(tx, unclaimed)
                await publish_change(tx, token.scope, "certificate", token.fingerprint, now)
                deleted.append(token)
            await TOKENS.delete(tx, token.sha256)
        return deleted

    count = 0
    while await store.read(lambda tx: tx.fetch_one(_EXPIRED, moment, 1)):  # a write costs a sync of the disk
        for token in await store.write(body):
            count += 1
            who = {"account": token.scope.account, "region": token.scope.region, "certificate": token.fingerprint}
            _log.info("unclaimed_certificate_deleted", **who)
    return count


async def _may_connect(tx: Transaction, query: Query, fingerprint: str) -> bool:
    """True if the certificate is ACTIVE, or a claim that has not expired."""
    return (
        await tx.fetch_one(_MAY_CONNECT, *query.scope, fingerprint_bytes(fingerprint), to_micros(query.now)) is not None
    )


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


async def _find_unclaimed(tx: Transaction, token: OwnershipToken) -> Registration | None:
    """Return the registration of the token's certificate if it was never used."""
    scope, fingerprint = token.scope, token.fingerprint
    registration = await REGISTRATIONS.find(tx, *scope, fingerprint)
    if registration is None or registration.status is not Status.PENDING_ACTIVATION:
        return None
    if await is_attached(tx, scope, fingerprint) or await count_attachments(tx, scope, Target("cert", fingerprint)):
        return None
    return registration if await tx.fetch_one(_BOUND, *scope, fingerprint_bytes(fingerprint)) is None else None
