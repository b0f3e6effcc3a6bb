"""Passwords of devices, registries and brokers of Yandex IoT Core: adding, listing and deleting them."""

from __future__ import annotations

import hmac
from datetime import datetime
from typing import TYPE_CHECKING

from thingmint.domain.arns import Scope
from thingmint.domain.errors import LimitExceeded, NotFound
from thingmint.domain.yandex_topics import OwnerKind
from thingmint.store.outbox import publish_change
from thingmint.store.table import Table, record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.services.change import Change
    from thingmint.services.owners import Owner
    from thingmint.services.password_hashing import NewPassword
    from thingmint.store.engine import Transaction

MAX_PASSWORDS = 20
"""Of one owner. Lists of passwords are not paged, so their length has to be bounded."""


@record
class Password:
    id: str
    account: str
    owner: str
    kind: OwnerKind
    scheme: str
    hash: bytes
    created_at: datetime


PASSWORDS = Table(Password, "passwords", "password", key=("account", "id"), unique=None)
_OF_OWNER = f"{PASSWORDS.select}WHERE owner = $1 ORDER BY created_at, id"
_DELETE_ALL = "DELETE FROM passwords WHERE owner = $1"


def matches(stored: Password, hashed: bytes) -> bool:
    return hmac.compare_digest(stored.hash, hashed)


async def add_password(tx: Transaction, change: Change, owner: Owner, new: NewPassword) -> Password:
    """``new`` is what ``hash_password`` made for the owner's id. Raises LimitExceeded."""
    if len(await list_passwords(tx, owner.id)) >= MAX_PASSWORDS:
        raise LimitExceeded(owner.kind, owner.id, f"A {owner.kind} can have at most {MAX_PASSWORDS} passwords")
    password = Password(new.id, owner.account, owner.id, owner.kind, new.scheme, new.hash, change.now)
    await PASSWORDS.insert(tx, password)
    tx.audit_resources.append(owner.resource)
    return password


async def list_passwords(tx: Transaction, owner: str) -> Sequence[Password]:
    """The oldest first."""
    return PASSWORDS.load_all(await tx.fetch_all(_OF_OWNER, owner))


async def delete_password(tx: Transaction, change: Change, owner: Owner, id: str) -> None:
    """Connections that used it are closed. Raises NotFound."""
    found = await PASSWORDS.find(tx, owner.account, id)
    if found is None or found.owner != owner.id:
        raise NotFound("password", id)
    await PASSWORDS.delete(tx, owner.account, id)
    tx.audit_resources.append(owner.resource)
    await _publish(tx, change, owner)


async def delete_all_passwords(tx: Transaction, change: Change, owner: Owner) -> None:
    """Of an owner that is deleted."""
    if await tx.execute(_DELETE_ALL, owner.id):
        await _publish(tx, change, owner)


async def _publish(tx: Transaction, change: Change, owner: Owner) -> None:
    await publish_change(tx, Scope(owner.account, ""), "owner", owner.id, change.now)
