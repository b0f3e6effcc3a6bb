"""Provisioning claims in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.provisioning import Claim
from thingmint.domain.registration import Scope
from thingmint.store.times import from_micros, to_micros

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.store.engine import Transaction

__all__ = ["claims_of", "delete_claims", "has_expired_claims", "insert_claim", "prune_claims"]

_CLAIM = "SELECT account, region, fingerprint, template, expires_at, created_at FROM provisioning_claims "


async def insert_claim(tx: Transaction, claim: Claim) -> None:
    await tx.execute(
        "INSERT INTO provisioning_claims (account, region, fingerprint, template, expires_at, created_at) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        *claim.scope,
        claim.fingerprint,
        claim.template,
        to_micros(claim.expires_at),
        to_micros(claim.created_at),
    )


async def claims_of(tx: Transaction, fingerprint: str, now: datetime) -> list[Claim]:
    """Those of the certificate that have not expired, whichever account made them."""
    rows = await tx.fetch_all(
        _CLAIM + "WHERE fingerprint = $1 AND expires_at > $2 ORDER BY account, region", fingerprint, to_micros(now)
    )
    return [
        Claim(Scope(account, region), found, template, from_micros(expires_at), from_micros(created_at))
        for account, region, found, template, expires_at, created_at in rows
    ]


async def delete_claims(tx: Transaction, scope: Scope, template: str) -> list[str]:
    """The fingerprints of the template's claims, which are no more."""
    where = "WHERE account = $1 AND region = $2 AND template = $3"
    rows = await tx.fetch_all(f"SELECT fingerprint FROM provisioning_claims {where}", *scope, template)  # noqa: S608
    await tx.execute(f"DELETE FROM provisioning_claims {where}", *scope, template)  # noqa: S608
    return [row[0] for row in rows]


async def prune_claims(tx: Transaction, now: datetime, limit: int) -> int:
    """Forgets up to ``limit`` of those that have expired; how many there were."""
    return await tx.execute(
        "DELETE FROM provisioning_claims WHERE (account, region, fingerprint) IN "
        "(SELECT account, region, fingerprint FROM provisioning_claims WHERE expires_at <= $1 LIMIT $2)",
        to_micros(now),
        limit,
    )


async def has_expired_claims(tx: Transaction, now: datetime) -> bool:
    row = await tx.fetch_one("SELECT 1 FROM provisioning_claims WHERE expires_at <= $1 LIMIT 1", to_micros(now))
    return row is not None
