"""Accounts, principals, credentials and policies in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from thingmint.store.engine import Transaction


class PrincipalRow(NamedTuple):
    id: str
    account: str
    kind: str
    name: str
    created_at: int
    status: str = "active"
    trust_policy: str | None = None

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account}:{self.kind}/{self.name}"


class CredentialRow(NamedTuple):
    id: str
    kind: str
    principal: str
    secret: bytes
    created_at: int
    token_sha256: bytes | None = None
    policy: str | None = None
    status: str = "active"
    description: str = ""
    expires_at: int | None = None
    last_used_at: int | None = None


class PolicyRow(NamedTuple):
    account: str
    name: str
    document: str
    created_at: int
    modified_at: int


class AttachmentRow(NamedTuple):
    """``document`` is None for a ready-made policy."""

    policy: str
    resource: str
    document: str | None


# Accounts and their regions.


async def insert_account(tx: Transaction, id: str, name: str, now: int) -> None:
    await tx.execute("INSERT INTO accounts (id, name, created_at) VALUES ($1, $2, $3)", id, name, now)


async def has_account(tx: Transaction, id: str) -> bool:
    return await tx.fetch_one("SELECT 1 FROM accounts WHERE id = $1", id) is not None


async def list_accounts(tx: Transaction) -> list[tuple[str, str, int]]:
    rows = await tx.fetch_all("SELECT id, name, created_at FROM accounts ORDER BY created_at, id")
    return [(row[0], row[1], row[2]) for row in rows]


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


# Principals.

_PRINCIPAL = "SELECT id, account, kind, name, created_at, status, trust_policy FROM principals "


async def insert_principal(tx: Transaction, principal: PrincipalRow) -> bool:
    """False if the account has one of that kind and name."""
    inserted = await tx.execute(
        "INSERT INTO principals (id, account, kind, name, created_at, status, trust_policy) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        *principal,
    )
    return inserted == 1


async def get_principal(tx: Transaction, id: str) -> PrincipalRow | None:
    row = await tx.fetch_one(_PRINCIPAL + "WHERE id = $1", id)
    return PrincipalRow(*row) if row else None


async def find_principal(tx: Transaction, account: str, kind: str, name: str) -> PrincipalRow | None:
    row = await tx.fetch_one(_PRINCIPAL + "WHERE account = $1 AND kind = $2 AND name = $3", account, kind, name)
    return PrincipalRow(*row) if row else None


async def first_principal(tx: Transaction) -> PrincipalRow | None:
    """The user that was made with the instance."""
    row = await tx.fetch_one(_PRINCIPAL + "WHERE kind = 'user' ORDER BY created_at, id LIMIT 1")
    return PrincipalRow(*row) if row else None


async def list_principals(tx: Transaction, account: str, kind: str) -> list[PrincipalRow]:
    rows = await tx.fetch_all(_PRINCIPAL + "WHERE account = $1 AND kind = $2 ORDER BY name", account, kind)
    return [PrincipalRow(*row) for row in rows]


async def set_principal_status(tx: Transaction, id: str, status: str) -> None:
    await tx.execute("UPDATE principals SET status = $2 WHERE id = $1", id, status)


async def delete_principal(tx: Transaction, id: str) -> None:
    """With its credentials and attachments."""
    await tx.execute("DELETE FROM credentials WHERE principal = $1", id)
    await tx.execute("DELETE FROM policy_attachments WHERE principal = $1", id)
    await tx.execute("DELETE FROM principals WHERE id = $1", id)


# Credentials.

_CREDENTIAL = (
    "SELECT id, kind, principal, secret, created_at, token_sha256, policy, status, description, expires_at, "
    "last_used_at FROM credentials "
)


async def insert_credential(tx: Transaction, credential: CredentialRow) -> None:
    await tx.execute(
        "INSERT INTO credentials (id, kind, principal, secret, created_at, token_sha256, policy, status, description, "
        "expires_at, last_used_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        *credential,
    )


async def get_credential(tx: Transaction, id: str) -> CredentialRow | None:
    row = await tx.fetch_one(_CREDENTIAL + "WHERE id = $1", id)
    return CredentialRow(*row) if row else None


async def list_credentials(tx: Transaction, principal: str, kinds: Sequence[str]) -> list[CredentialRow]:
    rows = await tx.fetch_all(_CREDENTIAL + "WHERE principal = $1 ORDER BY created_at, id", principal)
    return [credential for row in rows if (credential := CredentialRow(*row)).kind in kinds]


async def set_credential_status(tx: Transaction, id: str, status: str) -> None:
    await tx.execute("UPDATE credentials SET status = $2 WHERE id = $1", id, status)


async def delete_credential(tx: Transaction, id: str) -> None:
    await tx.execute("DELETE FROM credentials WHERE id = $1", id)


async def touch_credentials(tx: Transaction, used: Iterable[tuple[str, int]]) -> None:
    """Notes when credentials were last used."""
    for id, time in used:
        await tx.execute("UPDATE credentials SET last_used_at = $2 WHERE id = $1", id, time)


async def list_sealed(tx: Transaction) -> list[tuple[str, bytes]]:
    """Id and secret of every credential whose secret is sealed under the master key."""
    rows = await tx.fetch_all("SELECT id, secret FROM credentials WHERE kind IN ('access-key', 'session')")
    return [(row[0], row[1]) for row in rows]


async def first_sealed(tx: Transaction) -> tuple[str, bytes] | None:
    """One of these, if there are any."""
    row = await tx.fetch_one("SELECT id, secret FROM credentials WHERE kind IN ('access-key', 'session') LIMIT 1")
    return (row[0], row[1]) if row else None


async def replace_secret(tx: Transaction, id: str, secret: bytes) -> None:
    await tx.execute("UPDATE credentials SET secret = $2 WHERE id = $1", id, secret)


async def revoke_token(tx: Transaction, id: str, expires_at: int, now: int) -> None:
    """Refuses an IAM token from now on, and forgets those that have ended meanwhile."""
    await tx.execute("DELETE FROM revoked_tokens WHERE expires_at <= $1", now)
    await tx.execute(
        "INSERT INTO revoked_tokens (id, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING", id, expires_at
    )


async def is_token_revoked(tx: Transaction, id: str) -> bool:
    return await tx.fetch_one("SELECT 1 FROM revoked_tokens WHERE id = $1", id) is not None


# Policies.


async def put_policy(tx: Transaction, policy: PolicyRow) -> None:
    await tx.execute(
        "INSERT INTO policies (account, name, document, created_at, modified_at) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (account, name) DO UPDATE SET document = excluded.document, modified_at = excluded.modified_at",
        *policy,
    )


async def get_policy(tx: Transaction, account: str, name: str) -> PolicyRow | None:
    row = await tx.fetch_one(
        "SELECT account, name, document, created_at, modified_at FROM policies WHERE account = $1 AND name = $2",
        account,
        name,
    )
    return PolicyRow(*row) if row else None


async def list_policies(tx: Transaction, account: str) -> list[PolicyRow]:
    rows = await tx.fetch_all(
        "SELECT account, name, document, created_at, modified_at FROM policies WHERE account = $1 ORDER BY name",
        account,
    )
    return [PolicyRow(*row) for row in rows]


async def is_policy_attached(tx: Transaction, account: str, name: str) -> bool:
    row = await tx.fetch_one(
        "SELECT 1 FROM policy_attachments AS a JOIN principals AS p ON p.id = a.principal "
        "WHERE a.policy = $2 AND p.account = $1 LIMIT 1",
        account,
        name,
    )
    return row is not None


async def delete_policy(tx: Transaction, account: str, name: str) -> None:
    await tx.execute("DELETE FROM policies WHERE account = $1 AND name = $2", account, name)


async def attach_policy(tx: Transaction, principal: str, policy: str, resource: str, now: int) -> None:
    await tx.execute(
        "INSERT INTO policy_attachments (principal, policy, resource, attached_at) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT DO NOTHING",
        principal,
        policy,
        resource,
        now,
    )


async def detach_policy(tx: Transaction, principal: str, policy: str, resource: str) -> bool:
    """False if it was not attached."""
    deleted = await tx.execute(
        "DELETE FROM policy_attachments WHERE principal = $1 AND policy = $2 AND resource = $3",
        principal,
        policy,
        resource,
    )
    return deleted == 1


async def list_attachments(tx: Transaction, principal: str) -> list[AttachmentRow]:
    rows = await tx.fetch_all(
        "SELECT a.policy, a.resource, y.document FROM policy_attachments AS a "
        "JOIN principals AS p ON p.id = a.principal "
        "LEFT JOIN policies AS y ON y.account = p.account AND y.name = a.policy "
        "WHERE a.principal = $1 ORDER BY a.policy, a.resource",
        principal,
    )
    return [AttachmentRow(*row) for row in rows]
