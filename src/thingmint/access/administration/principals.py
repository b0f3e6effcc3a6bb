"""Users, roles and service accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.access.administration.common import (
    MAX_POLICY_SIZE,
    Common,
    PrincipalKind,
    check_account,
    check_name,
    existing_principal,
    status_of,
)
from thingmint.domain.errors import AlreadyExists, Invalid
from thingmint.domain.ids import PRINCIPAL, new_id
from thingmint.domain.policy import Kind, compile_policy
from thingmint.store import access as sql
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from thingmint.store.engine import Transaction
    from thingmint.store.usage import Probed

__all__ = ["Principals"]


_QUOTAS: dict[PrincipalKind, Probed] = {"user": "users", "role": "roles", "service-account": "service_accounts"}


class Principals(Common):
    async def create_principal(
        self, account: str, kind: PrincipalKind, name: str, *, trust_policy: str | None = None
    ) -> sql.PrincipalRow:
        """It may do nothing until a policy is attached. Only roles have, and need, a trust policy."""
        check_name(name)
        if (kind == "role") != (trust_policy is not None):
            raise Invalid("trust_policy", "is needed for a role, and for nothing else")
        if trust_policy is not None:
            compile_policy(trust_policy, kind=Kind.TRUST, name=name, max_size=MAX_POLICY_SIZE)
        row = sql.PrincipalRow(
            new_id(PRINCIPAL), account, kind, name, to_micros(self._clock()), trust_policy=trust_policy
        )

        async def body(tx: Transaction) -> None:
            await check_account(tx, account)
            if not await sql.insert_principal(tx, row):
                raise AlreadyExists(kind, name)
            await self._check_quota(tx, _QUOTAS[kind], account)
            tx.audit_resources.append(row.arn)

        await self._store.write(body)
        return row

    async def list_principals(self, account: str, kind: PrincipalKind) -> list[sql.PrincipalRow]:
        async def body(tx: Transaction) -> list[sql.PrincipalRow]:
            return await sql.list_principals(tx, account, kind)

        return await self._store.read(body)

    async def set_principal_status(self, account: str, kind: PrincipalKind, name: str, *, active: bool) -> None:
        async def body(tx: Transaction) -> None:
            principal = await existing_principal(tx, account, kind, name)
            await sql.set_principal_status(tx, principal.id, status_of(active))
            tx.audit_resources.append(principal.arn)

        await self._store.write(body)

    async def delete_principal(self, account: str, kind: PrincipalKind, name: str) -> None:
        """With its credentials; they stop working at once."""

        async def body(tx: Transaction) -> None:
            principal = await existing_principal(tx, account, kind, name)
            await sql.delete_principal(tx, principal.id)
            tx.audit_resources.append(principal.arn)

        await self._store.write(body)
