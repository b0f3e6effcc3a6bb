"""Users, roles and service accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.access.administration.common import (
    MAX_POLICY_SIZE,
    PrincipalKind,
    check_account,
    check_name,
    existing_principal,
    status_of,
)
from thingmint.domain.errors import AlreadyExists, Invalid
from thingmint.domain.ids import PRINCIPAL, new_id
from thingmint.domain.policy import Kind, compile_policy
from thingmint.services.quotas import Probed, check_quota
from thingmint.store import access as sql
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from thingmint.access.administration.common import AdminChange
    from thingmint.store.engine import Transaction


_QUOTAS: dict[PrincipalKind, Probed] = {"user": "users", "role": "roles", "service-account": "service_accounts"}


async def create_principal(
    tx: Transaction,
    change: AdminChange,
    account: str,
    kind: PrincipalKind,
    name: str,
    *,
    trust_policy: str | None = None,
) -> sql.PrincipalRow:
    """It may do nothing until a policy is attached. Only roles have, and need, a trust policy."""
    check_name(name)
    if (kind == "role") != (trust_policy is not None):
        raise Invalid("trust_policy", "is needed for a role, and for nothing else")
    if trust_policy is not None:
        compile_policy(trust_policy, kind=Kind.TRUST, name=name, max_size=MAX_POLICY_SIZE)
    id = change.once(lambda: new_id(PRINCIPAL))
    row = sql.PrincipalRow(id, account, kind, name, to_micros(change.now), trust_policy=trust_policy)
    await check_account(tx, account)
    if not await sql.insert_principal(tx, row):
        raise AlreadyExists(kind, name)
    await check_quota(tx, change.quotas, _QUOTAS[kind], account)
    tx.audit_resources.append(row.arn)
    return row


async def list_principals(tx: Transaction, account: str, kind: PrincipalKind) -> list[sql.PrincipalRow]:
    return await sql.list_principals(tx, account, kind)


async def set_principal_status(
    tx: Transaction, change: AdminChange, account: str, kind: PrincipalKind, name: str, *, active: bool
) -> None:
    principal = await existing_principal(tx, account, kind, name)
    await sql.set_principal_status(tx, principal.id, status_of(active))
    tx.audit_resources.append(principal.arn)


async def delete_principal(tx: Transaction, change: AdminChange, account: str, kind: PrincipalKind, name: str) -> None:
    """With its credentials; they stop working at once."""
    principal = await existing_principal(tx, account, kind, name)
    await sql.delete_principal(tx, principal.id)
    tx.audit_resources.append(principal.arn)
