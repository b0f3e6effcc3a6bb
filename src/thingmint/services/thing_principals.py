"""Principals of things: the certificates attached to them, by which devices are the things."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

from thingmint.domain.errors import Disallowed, NotFound
from thingmint.domain.registration import Scope, arn_of
from thingmint.services.certificates import REGISTRATIONS
from thingmint.services.pages import Page, page_by_text
from thingmint.services.things import THINGS, thing_arn
from thingmint.store.outbox import announce
from thingmint.store.table import Table, record

if TYPE_CHECKING:
    from thingmint.services.change import Query
    from thingmint.services.pages import Cursor
    from thingmint.store.engine import Transaction

__all__ = [
    "Attachment",
    "PrincipalType",
    "attach_principal",
    "detach_principal",
    "is_attached",
    "list_principal_things",
    "list_thing_principals",
]

PrincipalType = Literal["EXCLUSIVE_THING", "NON_EXCLUSIVE_THING"]


@record
class Attachment:
    """An exclusive certificate is no other thing's."""

    scope: Scope
    thing: str
    fingerprint: str
    exclusive: bool
    attached_at: datetime

    @property
    def principal(self) -> str:
        """The certificate's ARN."""
        return arn_of(self.scope, self.fingerprint)

    @property
    def type(self) -> PrincipalType:
        return "EXCLUSIVE_THING" if self.exclusive else "NON_EXCLUSIVE_THING"


_ATTACHMENTS = Table(Attachment, "thing_principals", "principal", key=("account", "region", "thing", "fingerprint"))

_ONE_OF_CERTIFICATE = f"{_ATTACHMENTS.select}WHERE account = $1 AND region = $2 AND fingerprint = $3 LIMIT 1"


async def attach_principal(
    tx: Transaction, scope: Scope, thing: str, fingerprint: str, now: datetime, *, type: PrincipalType | None = None
) -> None:
    """Does nothing if it is attached; without a type it stays as it was, or is not exclusive.

    A certificate that is one thing's exclusively is no other's, and to become so it has to be no other's before.

    Raises NotFound and Disallowed.
    """
    await THINGS.get(tx, *scope, thing)
    await REGISTRATIONS.get(tx, *scope, fingerprint)
    known = await _ATTACHMENTS.find(tx, *scope, thing, fingerprint)
    if known is not None:
        if type in (None, known.type):
            return
        # AWS has no word on this; keeping silent could leave a certificate less exclusive than its owner believes.
        raise Disallowed("thing", thing, f"The principal is attached to thing {thing} as {known.type}: detach it first")
    new = Attachment(scope, thing, fingerprint, type == "EXCLUSIVE_THING", now)
    other = await tx.fetch_one(_ONE_OF_CERTIFICATE, *scope, fingerprint)
    if other is not None and (new.exclusive or _ATTACHMENTS.load(other).exclusive):
        raise Disallowed("thing", thing, "The principal is attached to another thing, and one of the two is exclusive")
    await _ATTACHMENTS.insert(tx, new)
    await _changed(tx, scope, thing, fingerprint, now)


async def detach_principal(tx: Transaction, scope: Scope, thing: str, fingerprint: str, now: datetime) -> None:
    """Raises NotFound, for a principal that is not attached too."""
    await THINGS.get(tx, *scope, thing)
    if not await _ATTACHMENTS.delete(tx, *scope, thing, fingerprint):
        raise NotFound("principal", fingerprint)
    await _changed(tx, scope, thing, fingerprint, now)


async def is_attached(tx: Transaction, scope: Scope, fingerprint: str) -> bool:
    """Whether the certificate is attached to any thing."""
    return await tx.fetch_one(_ONE_OF_CERTIFICATE, *scope, fingerprint) is not None


async def list_thing_principals(
    tx: Transaction, query: Query, thing: str, type: PrincipalType | None, cursor: Cursor
) -> Page[Attachment]:
    """By fingerprint; of one type only, if it is given. Raises NotFound."""

    async def fetch(after: str, limit: int) -> list[Attachment]:
        await THINGS.get(tx, *query.scope, thing)
        return await _list(tx, query.scope, "thing", thing, type, after, limit)

    return await page_by_text(query, cursor, f"principals {thing} {type}", fetch, lambda found: found.fingerprint)


async def list_principal_things(
    tx: Transaction, query: Query, fingerprint: str, type: PrincipalType | None, cursor: Cursor
) -> Page[Attachment]:
    """By the thing's name; of one type only, if it is given. Raises NotFound."""

    async def fetch(after: str, limit: int) -> list[Attachment]:
        await REGISTRATIONS.get(tx, *query.scope, fingerprint)
        return await _list(tx, query.scope, "fingerprint", fingerprint, type, after, limit)

    return await page_by_text(query, cursor, f"principal-things {fingerprint} {type}", fetch, lambda found: found.thing)


async def _list(
    tx: Transaction, scope: Scope, column: str, owner: str, type: PrincipalType | None, after: str, limit: int
) -> list[Attachment]:
    order = "thing" if column == "fingerprint" else "fingerprint"
    of_type = "" if type is None else f"AND exclusive = {int(type == 'EXCLUSIVE_THING')} "
    rows = await tx.fetch_all(
        f"{_ATTACHMENTS.select}WHERE account = $1 AND region = $2 AND {column} = $3 AND {order} > $4 {of_type}"
        f"ORDER BY {order} LIMIT $5",
        *scope,
        owner,
        after,
        limit,
    )
    return _ATTACHMENTS.load_all(rows)


async def _changed(tx: Transaction, scope: Scope, thing: str, fingerprint: str, now: datetime) -> None:
    await announce(tx, scope, "certificate", fingerprint, now)
    tx.audit_resources += [thing_arn(scope, thing), arn_of(scope, fingerprint)]
