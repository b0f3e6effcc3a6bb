"""Runs the administrator's commands in tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thingmint.access.administration import AdminChange
from thingmint.access.administration.accounts import new_account
from thingmint.access.audit import AuditedStore, AuditLog
from thingmint.access.local_admin import Administration, as_local_admin
from thingmint.domain.keys import generate_authorized_key
from thingmint.services.quotas import NO_QUOTAS, Quotas

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from thingmint.access.vault import Vault
    from thingmint.store.engine import Store

__all__ = ["POLICY", "TRUST", "NewAccount", "administer", "open_account"]

POLICY = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}})
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "iot.amazonaws.com"}},
    }
)


@dataclass(frozen=True)
class NewAccount:
    """The answer of account.create."""

    account: str
    folder: str
    access_key_id: str
    secret_access_key: str
    token: str
    authorized_key: Mapping[str, str]


async def administer(
    store: Store, vault: Vault, clock: Callable[[], datetime], name: str, /, *, quotas: Quotas = NO_QUOTAS, **given: Any
) -> Any:
    """The answer of a command, such as user.create, to the local administrator."""
    administration = Administration(AuditedStore(store, clock), vault, clock, quotas)
    return await as_local_admin(administration, AuditLog(store, clock), name, given)


async def open_account(store: Store, vault: Vault, now: datetime, name: str, regions: Sequence[str]) -> NewAccount:
    """A new account, made as `thingmint init` does it: without an audit record."""
    change, pair = AdminChange(now, vault), generate_authorized_key()
    return NewAccount(**await store.write(lambda tx: new_account(tx, change, name, regions, pair)))
