"""Accounts, principals, credentials and host names in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.storage.engine import Transaction

__all__ = [
    "PrincipalRow",
    "add_hostnames",
    "add_regions",
    "first_principal",
    "get_access_key",
    "get_api_token",
    "get_authorized_key",
    "get_principal",
    "insert_access_key",
    "insert_account",
    "insert_api_token",
    "insert_authorized_key",
    "insert_principal",
    "list_hostnames",
    "list_regions",
]


class PrincipalRow(NamedTuple):
    id: str
    account: str
    kind: str
    name: str
    permissions: str


async def insert_account(tx: Transaction, id: str, name: str, now: int) -> None:
    await tx.execute("INSERT INTO accounts (id, name, created_at) VALUES ($1, $2, $3)", id, name, now)


async def insert_principal(tx: Transaction, principal: PrincipalRow, now: int) -> None:
    await tx.execute(
        "INSERT INTO principals (id, account, kind, name, permissions, created_at) VALUES ($1, $2, $3, $4, $5, $6)",
        *principal,
        now,
    )


async def get_principal(tx: Transaction, id: str) -> PrincipalRow | None:
    row = await tx.fetch_one("SELECT id, account, kind, name, permissions FROM principals WHERE id = $1", id)
    return PrincipalRow(*row) if row else None


async def first_principal(tx: Transaction) -> PrincipalRow | None:
    """The user that was made with the instance."""
    row = await tx.fetch_one(
        "SELECT id, account, kind, name, permissions FROM principals "
        "WHERE kind = 'user' ORDER BY created_at, id LIMIT 1"
    )
    return PrincipalRow(*row) if row else None


async def insert_access_key(tx: Transaction, id: str, principal: str, sealed_secret: bytes, now: int) -> None:
    await tx.execute(
        "INSERT INTO access_keys (id, principal, sealed_secret, created_at) VALUES ($1, $2, $3, $4)",
        id,
        principal,
        sealed_secret,
        now,
    )


async def get_access_key(tx: Transaction, id: str) -> tuple[bytes, PrincipalRow] | None:
    row = await tx.fetch_one(
        "SELECT k.sealed_secret, p.id, p.account, p.kind, p.name, p.permissions "
        "FROM access_keys AS k JOIN principals AS p ON p.id = k.principal WHERE k.id = $1",
        id,
    )
    return (row[0], PrincipalRow(*row[1:])) if row else None


async def insert_api_token(tx: Transaction, id: str, principal: str, secret_sha256: bytes, now: int) -> None:
    await tx.execute(
        "INSERT INTO api_tokens (id, principal, secret_sha256, created_at) VALUES ($1, $2, $3, $4)",
        id,
        principal,
        secret_sha256,
        now,
    )


async def get_api_token(tx: Transaction, id: str) -> tuple[bytes, PrincipalRow] | None:
    row = await tx.fetch_one(
        "SELECT t.secret_sha256, p.id, p.account, p.kind, p.name, p.permissions "
        "FROM api_tokens AS t JOIN principals AS p ON p.id = t.principal WHERE t.id = $1",
        id,
    )
    return (row[0], PrincipalRow(*row[1:])) if row else None


async def insert_authorized_key(tx: Transaction, id: str, principal: str, public_pem: str, now: int) -> None:
    await tx.execute(
        "INSERT INTO authorized_keys (id, principal, public_key, created_at) VALUES ($1, $2, $3, $4)",
        id,
        principal,
        public_pem.encode(),
        now,
    )


async def get_authorized_key(tx: Transaction, id: str) -> tuple[str, str] | None:
    """Its service account's id, and the public half."""
    row = await tx.fetch_one("SELECT principal, public_key FROM authorized_keys WHERE id = $1", id)
    return (row[0], row[1].decode()) if row else None


async def list_regions(tx: Transaction, account: str) -> list[str]:
    rows = await tx.fetch_all("SELECT region FROM account_regions WHERE account = $1 ORDER BY position", account)
    return [row[0] for row in rows]


async def add_regions(tx: Transaction, account: str, regions: Sequence[str]) -> list[str]:
    """Those of ``regions`` that were new."""
    known = await list_regions(tx, account)
    new = [region for region in dict.fromkeys(regions) if region not in known]
    for position, region in enumerate(new, start=len(known)):
        await tx.execute(
            "INSERT INTO account_regions (account, region, position) VALUES ($1, $2, $3)", account, region, position
        )
    return new


async def list_hostnames(tx: Transaction) -> list[str]:
    rows = await tx.fetch_all("SELECT name FROM hostnames ORDER BY position")
    return [row[0] for row in rows]


async def add_hostnames(tx: Transaction, names: Sequence[str]) -> list[str]:
    """Those of ``names`` that were new."""
    known = await list_hostnames(tx)
    new = [name for name in dict.fromkeys(names) if name not in known]
    for position, name in enumerate(new, start=len(known)):
        await tx.execute("INSERT INTO hostnames (name, position) VALUES ($1, $2)", name, position)
    return new
