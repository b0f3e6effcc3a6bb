"""Ownership tokens of certificates that were made over MQTT, in SQL. Only their hashes are ever kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from thingmint.domain.registration import Scope
from thingmint.store.times import from_micros, to_micros

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.store.engine import Row, Transaction

__all__ = ["OwnershipToken", "answer_token", "delete_token", "expired_tokens", "get_token", "insert_token"]


class OwnershipToken(NamedTuple):
    """``claim`` is the fingerprint of the certificate that asked, ``request`` the hash of what succeeded."""

    sha256: bytes
    scope: Scope
    fingerprint: str
    claim: str
    expires_at: datetime
    request: bytes | None = None
    answer: str | None = None


_SELECT = (
    "SELECT token_sha256, account, region, fingerprint, claim, expires_at, request_sha256, answer "
    "FROM ownership_tokens "
)


async def insert_token(tx: Transaction, token: OwnershipToken) -> None:
    await tx.execute(
        "INSERT INTO ownership_tokens (token_sha256, account, region, fingerprint, claim, expires_at) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        token.sha256,
        *token.scope,
        token.fingerprint,
        token.claim,
        to_micros(token.expires_at),
    )


async def get_token(tx: Transaction, sha256: bytes) -> OwnershipToken | None:
    row = await tx.fetch_one(_SELECT + "WHERE token_sha256 = $1", sha256)
    return _token(row) if row else None


async def answer_token(tx: Transaction, sha256: bytes, request: bytes, answer: str) -> None:
    """Keeps what the one request that succeeded was answered."""
    await tx.execute(
        "UPDATE ownership_tokens SET request_sha256 = $2, answer = $3 WHERE token_sha256 = $1", sha256, request, answer
    )


async def expired_tokens(tx: Transaction, now: datetime, limit: int) -> list[OwnershipToken]:
    rows = await tx.fetch_all(_SELECT + "WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2", to_micros(now), limit)
    return [_token(row) for row in rows]


async def delete_token(tx: Transaction, sha256: bytes) -> None:
    await tx.execute("DELETE FROM ownership_tokens WHERE token_sha256 = $1", sha256)


def _token(row: Row) -> OwnershipToken:
    sha256, account, region, fingerprint, claim, expires_at, request, answer = row
    return OwnershipToken(
        bytes(sha256), Scope(account, region), fingerprint, claim, from_micros(expires_at), request, answer
    )
