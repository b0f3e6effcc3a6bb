"""Policies, and whom they are attached to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thingmint.access.administration.common import (
    MAX_POLICY_SIZE,
    PrincipalKind,
    check_account,
    existing_principal,
)
from thingmint.access.ready_made import is_ready_made, ready_made
from thingmint.domain.errors import Conflict, Invalid, LimitExceeded, NotFound
from thingmint.domain.policy import Kind, compile_policy
from thingmint.services.quotas import check_quota
from thingmint.store import access as sql
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from thingmint.access.administration.common import AdminChange
    from thingmint.store.engine import Transaction


_POLICY_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_MAX_ATTACHMENTS = 20


async def put_policy(tx: Transaction, change: AdminChange, account: str, name: str, document: str) -> None:
    """Makes it, or gives it another document; whoever has it attached is ruled by that at once."""
    if not _POLICY_NAME.fullmatch(name):
        raise Invalid("name", "must be 1 to 128 letters, digits or any of +=,.@_-")
    compile_policy(document, kind=Kind.IDENTITY, name=name, max_size=MAX_POLICY_SIZE)
    now = to_micros(change.now)
    await check_account(tx, account)
    await sql.put_policy(tx, sql.PolicyRow(account, name, document, now, now))
    await check_quota(tx, change.quotas, "policies", account)
    tx.audit_resources.append(f"arn:aws:iam::{account}:policy/{name}")


async def get_policy(tx: Transaction, account: str, name: str) -> str:
    """The document, also of a ready-made policy."""
    if is_ready_made(name):
        document = ready_made(name, "*")
        if document is None:
            raise NotFound("policy", name)
        return document

    policy = await sql.get_policy(tx, account, name)
    if policy is None:
        raise NotFound("policy", name)
    return policy.document


async def list_policies(tx: Transaction, account: str) -> list[sql.PolicyRow]:
    return await sql.list_policies(tx, account)


async def delete_policy(tx: Transaction, change: AdminChange, account: str, name: str) -> None:
    if await sql.get_policy(tx, account, name) is None:
        raise NotFound("policy", name)
    if await sql.is_policy_attached(tx, account, name):
        raise Conflict("policy", name, f"Policy {name} is attached: detach it first")
    await sql.delete_policy(tx, account, name)
    tx.audit_resources.append(f"arn:aws:iam::{account}:policy/{name}")


async def attach_policy(
    tx: Transaction, change: AdminChange, account: str, kind: PrincipalKind, name: str, policy: str, resource: str = "*"
) -> None:
    """``policy`` is one of the account's, or a ready-made one; only a role of Yandex's takes a ``resource``."""
    if is_ready_made(policy) and ready_made(policy, resource) is None:
        raise NotFound("policy", policy)
    if resource != "*" and not policy.startswith("yandex/"):
        raise Invalid("resource", "can be given for a role of Yandex's only")
    if resource.startswith("yandex:cloud/") and resource != f"yandex:cloud/{account}":
        raise Invalid("resource", "must be the account's own cloud")
    now = to_micros(change.now)
    principal = await existing_principal(tx, account, kind, name)
    if not is_ready_made(policy) and await sql.get_policy(tx, account, policy) is None:
        raise NotFound("policy", policy)
    await sql.attach_policy(tx, principal.id, policy, resource, now)
    if len(await sql.list_attachments(tx, principal.id)) > _MAX_ATTACHMENTS:
        raise LimitExceeded(kind, name, f"At most {_MAX_ATTACHMENTS} policies can be attached")
    tx.audit_resources.append(principal.arn)


async def detach_policy(
    tx: Transaction, change: AdminChange, account: str, kind: PrincipalKind, name: str, policy: str, resource: str = "*"
) -> None:
    principal = await existing_principal(tx, account, kind, name)
    if not await sql.detach_policy(tx, principal.id, policy, resource):
        raise NotFound("policy attachment", policy)
    tx.audit_resources.append(principal.arn)


async def list_attachments(tx: Transaction, account: str, kind: PrincipalKind, name: str) -> list[sql.AttachmentRow]:
    principal = await existing_principal(tx, account, kind, name)
    return await sql.list_attachments(tx, principal.id)
