"""Policies, and whom they are attached to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thingmint.access.administration.common import (
    MAX_POLICY_SIZE,
    Common,
    PrincipalKind,
    check_account,
    existing_principal,
)
from thingmint.access.ready_made import is_ready_made, ready_made
from thingmint.domain.errors import Conflict, Invalid, LimitExceeded, NotFound
from thingmint.domain.policy import Kind, compile_policy
from thingmint.store import access as sql
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from thingmint.store.engine import Transaction

__all__ = ["Policies"]

_POLICY_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_MAX_ATTACHMENTS = 20


class Policies(Common):
    async def put_policy(self, account: str, name: str, document: str) -> None:
        """Makes it, or gives it another document; whoever has it attached is ruled by that at once."""
        if not _POLICY_NAME.fullmatch(name):
            raise Invalid("name", "must be 1 to 128 letters, digits or any of +=,.@_-")
        compile_policy(document, kind=Kind.IDENTITY, name=name, max_size=MAX_POLICY_SIZE)
        now = to_micros(self._clock())

        async def body(tx: Transaction) -> None:
            await check_account(tx, account)
            await sql.put_policy(tx, sql.PolicyRow(account, name, document, now, now))
            await self._check_quota(tx, "policies", account)
            tx.audit_resources.append(f"arn:aws:iam::{account}:policy/{name}")

        await self._store.write(body)

    async def get_policy(self, account: str, name: str) -> str:
        """The document, also of a ready-made policy."""
        if is_ready_made(name):
            document = ready_made(name, "*")
            if document is None:
                raise NotFound("policy", name)
            return document

        async def body(tx: Transaction) -> str:
            policy = await sql.get_policy(tx, account, name)
            if policy is None:
                raise NotFound("policy", name)
            return policy.document

        return await self._store.read(body)

    async def list_policies(self, account: str) -> list[sql.PolicyRow]:
        async def body(tx: Transaction) -> list[sql.PolicyRow]:
            return await sql.list_policies(tx, account)

        return await self._store.read(body)

    async def delete_policy(self, account: str, name: str) -> None:
        async def body(tx: Transaction) -> None:
            if await sql.get_policy(tx, account, name) is None:
                raise NotFound("policy", name)
            if await sql.is_policy_attached(tx, account, name):
                raise Conflict("policy", name, f"Policy {name} is attached: detach it first")
            await sql.delete_policy(tx, account, name)
            tx.audit_resources.append(f"arn:aws:iam::{account}:policy/{name}")

        await self._store.write(body)

    async def attach_policy(
        self, account: str, kind: PrincipalKind, name: str, policy: str, resource: str = "*"
    ) -> None:
        """``policy`` is one of the account's, or a ready-made one; only a role of Yandex's takes a ``resource``."""
        if is_ready_made(policy) and ready_made(policy, resource) is None:
            raise NotFound("policy", policy)
        if resource != "*" and not policy.startswith("yandex/"):
            raise Invalid("resource", "can be given for a role of Yandex's only")
        if resource.startswith("yandex:cloud/") and resource != f"yandex:cloud/{account}":
            raise Invalid("resource", "must be the account's own cloud")
        now = to_micros(self._clock())

        async def body(tx: Transaction) -> None:
            principal = await existing_principal(tx, account, kind, name)
            if not is_ready_made(policy) and await sql.get_policy(tx, account, policy) is None:
                raise NotFound("policy", policy)
            await sql.attach_policy(tx, principal.id, policy, resource, now)
            if len(await sql.list_attachments(tx, principal.id)) > _MAX_ATTACHMENTS:
                raise LimitExceeded(kind, name, f"At most {_MAX_ATTACHMENTS} policies can be attached")
            tx.audit_resources.append(principal.arn)

        await self._store.write(body)

    async def detach_policy(
        self, account: str, kind: PrincipalKind, name: str, policy: str, resource: str = "*"
    ) -> None:
        async def body(tx: Transaction) -> None:
            principal = await existing_principal(tx, account, kind, name)
            if not await sql.detach_policy(tx, principal.id, policy, resource):
                raise NotFound("policy attachment", policy)
            tx.audit_resources.append(principal.arn)

        await self._store.write(body)

    async def list_attachments(self, account: str, kind: PrincipalKind, name: str) -> list[sql.AttachmentRow]:
        async def body(tx: Transaction) -> list[sql.AttachmentRow]:
            principal = await existing_principal(tx, account, kind, name)
            return await sql.list_attachments(tx, principal.id)

        return await self._store.read(body)
