"""What the parts of the administration share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

from thingmint.domain.errors import Invalid, NotFound
from thingmint.services.change import Ids
from thingmint.services.quotas import NO_QUOTAS, Quotas
from thingmint.store import access as sql

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from thingmint.access.context import RequestContext
    from thingmint.access.vault import Vault
    from thingmint.store.engine import Transaction


T = TypeVar("T")

PrincipalKind = Literal["user", "role", "service-account"]

MAX_POLICY_SIZE = 6144  # characters without white space, IAM's limit

_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)  # IAM's rule for user names


@dataclass(frozen=True, slots=True)
class AdminChange:
    """What a command knows besides its input. ``request`` is who asks; None for the server's own housekeeping."""

    now: datetime
    vault: Vault
    quotas: Quotas = NO_QUOTAS
    request: RequestContext | None = None
    ids: Ids = field(default_factory=Ids)

    def once(self, make: Callable[[], T]) -> T:
        """What ``make`` returns: an id, a secret. The same if the transaction is run again."""
        return self.ids.draw(make)


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
