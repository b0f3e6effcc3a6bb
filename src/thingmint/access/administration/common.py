"""What the parts of the administration share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, Self

from thingmint.access.audit import AuditedStore
from thingmint.domain.errors import Invalid, NotFound
from thingmint.domain.quotas import NO_QUOTAS, exceeded
from thingmint.store import access as sql
from thingmint.store.usage import has_more_than

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from thingmint.access.context import Outcome, RequestContext
    from thingmint.access.vault import Vault
    from thingmint.domain.quotas import Quotas
    from thingmint.store.engine import Store, Transaction
    from thingmint.store.usage import Probed

__all__ = [
    "MAX_POLICY_SIZE",
    "Common",
    "PrincipalKind",
    "check_account",
    "check_name",
    "existing_principal",
    "status_of",
]

PrincipalKind = Literal["user", "role", "service-account"]

MAX_POLICY_SIZE = 6144  # characters without white space, IAM's limit

_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)  # IAM's rule for user names


class Common:
    """``request`` is who asks, as far as that matters: None for the server's own housekeeping."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        clock: Callable[[], datetime],
        quotas: Quotas = NO_QUOTAS,
        request: RequestContext | None = None,
    ) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._quotas = quotas
        self.request = request

    def of(self, context: RequestContext, outcome: Outcome) -> Self:
        """The administration for one request, whose changes carry its audit record."""
        assert isinstance(self._store, AuditedStore), "changes on request are audited"
        return type(self)(self._store.of(context, outcome), self._vault, self._clock, self._quotas, context)

    def now(self) -> datetime:
        return self._clock()

    async def _check_quota(self, tx: Transaction, kind: Probed, account: str) -> None:
        """Once another of them is there. Raises LimitExceeded."""
        quota: int | None = getattr(self._quotas, kind)
        if quota is not None and await has_more_than(tx, kind, account, quota):
            raise exceeded("account", account, quota, kind.replace("_", " "))

    async def _find(self, account: str, kind: PrincipalKind, name: str) -> sql.PrincipalRow:
        async def body(tx: Transaction) -> sql.PrincipalRow:
            return await existing_principal(tx, account, kind, name)

        return await self._store.read(body)


def status_of(active: bool) -> str:
    return "active" if active else "disabled"


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Invalid("name", "must be 1 to 64 letters, digits or any of +=,.@_-")


async def check_account(tx: Transaction, account: str) -> None:
    if not await sql.has_account(tx, account):
        raise NotFound("account", account)


async def existing_principal(tx: Transaction, account: str, kind: str, name: str) -> sql.PrincipalRow:
    principal = await sql.find_principal(tx, account, kind, name)
    if principal is None:
        raise NotFound(kind, name)
    return principal
