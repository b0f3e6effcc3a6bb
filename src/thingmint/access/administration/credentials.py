"""What principals sign in with. A secret is in the answer of the method that makes it, and nowhere else."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from thingmint.access.administration.common import (
    MAX_POLICY_SIZE,
    PrincipalKind,
    existing_principal,
    status_of,
)
from thingmint.access.new_credentials import (
    NewAccessKey,
    NewAuthorizedKey,
    NewSession,
    access_key,
    api_token,
    authorized_key,
    session,
)
from thingmint.domain.errors import Denied, Invalid, LimitExceeded, NotFound
from thingmint.domain.keys import generate_authorized_key
from thingmint.domain.policy import Deny, Kind, Principal, Request, compile_policy, evaluate
from thingmint.store import access as sql
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.access.administration.common import AdminChange
    from thingmint.access.vault import Vault
    from thingmint.store.engine import Transaction


_KINDS = ("access-key", "session", "api-token", "authorized-key")
_MAX_CREDENTIALS = 10  # of one kind, for each principal
_SHORTEST_SESSION = timedelta(minutes=1)
_LONGEST_SESSION = timedelta(hours=36)
_LONGEST_TOKEN = timedelta(days=3653)


async def create_access_key(tx: Transaction, change: AdminChange, account: str, user: str) -> NewAccessKey:
    principal = await existing_principal(tx, account, "user", user)
    new, row = change.once(lambda: access_key(principal.id, change.vault, change.now))
    await _add_credential(tx, row, principal.arn)
    return new


async def create_authorized_key(
    tx: Transaction, change: AdminChange, account: str, service_account: str, pair: tuple[str, str] | None = None
) -> NewAuthorizedKey:
    """``pair`` is the key (private and public PEM), which takes long to make."""
    principal = await existing_principal(tx, account, "service-account", service_account)
    pair = pair or change.once(generate_authorized_key)
    new, row = change.once(lambda: authorized_key(principal.id, change.now, pair))
    await _add_credential(tx, row, principal.arn)
    return new


async def create_api_token(
    tx: Transaction,
    change: AdminChange,
    account: str,
    user: str,
    *,
    policy: str | None = None,
    lifetime: timedelta | None = None,
    description: str = "",
) -> str:
    """``policy`` narrows the token down to a part of what its user may."""
    if policy is not None:
        compile_policy(policy, kind=Kind.SESSION, max_size=MAX_POLICY_SIZE)
    if lifetime is not None and not timedelta(seconds=1) <= lifetime <= _LONGEST_TOKEN:
        raise Invalid("lifetime", "must be between 1 second and 10 years")
    principal = await existing_principal(tx, account, "user", user)
    now = change.now
    new, row = change.once(lambda: api_token(principal.id, now, policy=policy, description=description))
    if lifetime is not None:
        row = row._replace(expires_at=to_micros(now + lifetime))
    await _add_credential(tx, row, principal.arn)
    return new


async def create_session(
    tx: Transaction,
    change: AdminChange,
    account: str,
    kind: PrincipalKind,
    name: str,
    *,
    lifetime: timedelta,
    policy: str | None = None,
    assumed_by: str | None = None,
) -> NewSession:
    """Temporary AWS credentials of a user or role, narrowed down by ``policy``.

    ``assumed_by`` is the ARN of who asks for them: a role has to trust it. Raises Denied.
    """
    if not _SHORTEST_SESSION <= lifetime <= _LONGEST_SESSION:
        raise Invalid("duration", "must be between 1 minute and 36 hours")
    if policy is not None:
        compile_policy(policy, kind=Kind.SESSION, max_size=MAX_POLICY_SIZE)
    principal = await existing_principal(tx, account, kind, name)
    if principal.trust_policy is not None and assumed_by is not None:
        _check_trust(principal, principal.trust_policy, assumed_by)
    new, row = change.once(lambda: session(principal.id, change.vault, change.now, lifetime=lifetime, policy=policy))
    await _add_credential(tx, row, principal.arn)
    return new


async def list_credentials(
    tx: Transaction, account: str, kind: PrincipalKind, name: str, kinds: Sequence[str]
) -> list[sql.CredentialRow]:
    principal = await existing_principal(tx, account, kind, name)
    return await sql.list_credentials(tx, principal.id, kinds)


async def set_credential_status(
    tx: Transaction, change: AdminChange, account: str, id: str, kinds: Sequence[str] = _KINDS, *, active: bool
) -> None:
    """Raises NotFound, also if it is not of one of ``kinds``."""
    principal = await _owner(tx, account, id, kinds)
    await sql.set_credential_status(tx, id, status_of(active))
    tx.audit_resources.append(principal.arn)


async def delete_credential(
    tx: Transaction, change: AdminChange, account: str, id: str, kinds: Sequence[str] = _KINDS
) -> None:
    principal = await _owner(tx, account, id, kinds)
    await sql.delete_credential(tx, id)
    tx.audit_resources.append(principal.arn)


async def reseal(tx: Transaction, vault: Vault) -> int:
    """Seals every secret under the master key that is in force; how many there are."""
    sealed = await sql.list_sealed(tx)
    for id, secret in sealed:
        await sql.replace_secret(tx, id, vault.seal(vault.open(secret, id), id))
    return len(sealed)


async def _add_credential(tx: Transaction, row: sql.CredentialRow, subject: str) -> None:
    if await sql.get_principal(tx, row.principal) is None:
        raise NotFound("principal", row.principal)
    await sql.insert_credential(tx, row)
    # Sessions end by themselves.
    if row.kind != "session" and len(await sql.list_credentials(tx, row.principal, [row.kind])) > _MAX_CREDENTIALS:
        raise LimitExceeded("principal", row.principal, f"At most {_MAX_CREDENTIALS} credentials of a kind")
    tx.audit_resources.append(subject)


def _check_trust(role: sql.PrincipalRow, trust_policy: str, assumed_by: str) -> None:
    asking = Principal("AWS", (assumed_by,), role.account)
    trust = compile_policy(trust_policy, kind=Kind.TRUST, name=f"trust of {role.name}")
    decision = evaluate([trust], Request("sts:AssumeRole", role.arn, principal=asking))
    if isinstance(decision, Deny):
        raise Denied(assumed_by, "sts:AssumeRole", role.arn, explicit=decision.explicit)


async def _owner(tx: Transaction, account: str, credential: str, kinds: Sequence[str]) -> sql.PrincipalRow:
    row = await sql.get_credential(tx, credential)
    principal = await sql.get_principal(tx, row.principal) if row and row.kind in kinds else None
    if principal is None or principal.account != account:
        raise NotFound("credential", credential)
    return principal
