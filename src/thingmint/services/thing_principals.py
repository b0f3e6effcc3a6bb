"""The principals of things: the certificates attached to them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

from thingmint.domain.arns import Scope, arn_of
from thingmint.domain.errors import Disallowed, NotFound
from thingmint.services.certificates import REGISTRATIONS, get_changeable
from thingmint.services.pages import Page, page_of, page_of_kept
from thingmint.services.things import THINGS, thing_arn
from thingmint.store.outbox import publish_change
from thingmint.store.table import CertificateReference, Table, fingerprint_bytes, id_of, record

if TYPE_CHECKING:
    from thingmint.services.change import Query
    from thingmint.services.page_tokens import Position
    from thingmint.services.pages import Cursor
    from thingmint.store.engine import Transaction

PrincipalType = Literal["EXCLUSIVE_THING", "NON_EXCLUSIVE_THING"]


@record
class Attachment:
    """The attachment of a certificate to a thing. An exclusive certificate is attached to no other thing."""

    scope: Scope
    thing: str
    certificate: int
    fingerprint: CertificateReference
    exclusive: bool
    attached_at: datetime

    @property
    def principal(self) -> str:
        """The certificate's ARN."""
        return arn_of(self.scope, self.fingerprint)

    @property
    def type(self) -> PrincipalType:
        return "EXCLUSIVE_THING" if self.exclusive else "NON_EXCLUSIVE_THING"


ATTACHMENTS = Table(Attachment, "thing_principals", "principal", key=("account", "region", "thing", "fingerprint"))

_PAGE = f"{ATTACHMENTS.select}WHERE account = $1 AND region = $2 "
_OF_THING = f"{_PAGE}AND thing = $3 AND certificate > $4 ORDER BY certificate LIMIT $5"
_OF_CERTIFICATE = f"{_PAGE}AND certificate = {id_of('$3')} AND thing > $4 ORDER BY thing LIMIT $5"
_ONE_OF_CERTIFICATE = f"{ATTACHMENTS.select}WHERE account = $1 AND region = $2 AND certificate = {id_of('$3')} LIMIT 1"
_ONE_OF_THING = "SELECT 1 FROM thing_principals WHERE account = $1 AND region = $2 AND thing = $3 LIMIT 1"
_OTHER = (
    "SELECT 1 FROM thing_principals WHERE account = $1 AND region = $2 AND certificate = $3 AND thing <> $4 LIMIT 1"
)
_ONE_EXCLUSIVE = _ONE_OF_CERTIFICATE.replace("LIMIT", "AND exclusive = 1 LIMIT")
_OTHER_EXCLUSIVE = _OTHER.replace("LIMIT", "AND exclusive = 1 LIMIT")


async def attach_principal(
    tx: Transaction, scope: Scope, thing: str, fingerprint: str, now: datetime, *, type: PrincipalType | None = None
) -> None:
    """Attach a certificate to a thing, by default not exclusively. Nothing changes if it is already attached.

    An exclusive certificate cannot be attached to another thing, and a certificate attached to another thing cannot
    become exclusive. Raises NotFound and Disallowed, also for another type than that of the existing attachment.
    """
    await THINGS.get(tx, *scope, thing)
    await attach_to_known(tx, scope, thing, fingerprint, now, type=type)


async def attach_to_known(
    tx: Transaction, scope: Scope, thing: str, fingerprint: str, now: datetime, *, type: PrincipalType | None = None
) -> None:
    """Do the same for a thing that this transaction has read or created.

    Raises NotFound, InvalidState and Disallowed.
    """
    registration = await get_changeable(tx, scope, fingerprint)
    new = Attachment(scope, thing, registration.certificate, fingerprint, type == "EXCLUSIVE_THING", now)
    if not await ATTACHMENTS.insert(tx, new):
        known = await ATTACHMENTS.get(tx, *scope, thing, fingerprint)
        if type in (None, known.type):
            return
        # AWS does not document this. Ignoring it could leave a certificate less exclusive than its owner expects.
        raise Disallowed("thing", thing, f"The principal is attached to thing {thing} as {known.type}: detach it first")
    excluded = _OTHER if new.exclusive else _OTHER_EXCLUSIVE
    if await tx.fetch_one(excluded, *scope, registration.certificate, thing):
        raise Disallowed("thing", thing, "The principal is attached to another thing, and one of the two is exclusive")
    await _changed(tx, scope, thing, fingerprint, now)


async def detach_principal(tx: Transaction, scope: Scope, thing: str, fingerprint: str, now: datetime) -> None:
    """Detach a certificate from a thing. Raises NotFound, also if it is not attached."""
    await THINGS.get(tx, *scope, thing)
    if not await ATTACHMENTS.delete(tx, *scope, thing, fingerprint):
        raise NotFound("principal", fingerprint)
    await _changed(tx, scope, thing, fingerprint, now)


async def is_attached(tx: Transaction, scope: Scope, fingerprint: str) -> bool:
    """True if the certificate is attached to a thing."""
    return await tx.fetch_one(_ONE_OF_CERTIFICATE, *scope, fingerprint_bytes(fingerprint)) is not None


async def is_exclusive(tx: Transaction, scope: Scope, fingerprint: str) -> bool:
    """True if the certificate is attached to a thing exclusively."""
    return await tx.fetch_one(_ONE_EXCLUSIVE, *scope, fingerprint_bytes(fingerprint)) is not None


async def has_principals(tx: Transaction, scope: Scope, thing: str) -> bool:
    """True if the thing exists and a certificate is attached to it."""
    return await tx.fetch_one(_ONE_OF_THING, *scope, thing) is not None


async def certificates_of_thing(tx: Transaction, scope: Scope, thing: str, limit: int) -> list[str]:
    """Return fingerprints of certificates that are attached to the thing; none if there is no such thing."""
    rows = await tx.fetch_all(_OF_THING, *scope, thing, 0, limit)
    return [attachment.fingerprint for attachment in ATTACHMENTS.load_all(rows)]


async def things_of_certificate(tx: Transaction, scope: Scope, fingerprint: str, limit: int) -> list[str]:
    """Return names of things that the certificate is attached to."""
    rows = await tx.fetch_all(_OF_CERTIFICATE, *scope, fingerprint_bytes(fingerprint), "", limit)
    return [attachment.thing for attachment in ATTACHMENTS.load_all(rows)]


async def list_thing_principals(
    tx: Transaction, query: Query, thing: str, type: PrincipalType | None, cursor: Cursor
) -> Page[Attachment]:
    """Return a page of a thing's certificates, the oldest first; with ``type``, only of that type. Raises NotFound."""

    async def fetch(after: Position | None, limit: int) -> list[Attachment]:
        found = await tx.fetch_all(_OF_THING, *query.scope, thing, int(after[1]) if after else 0, limit)
        return ATTACHMENTS.load_all(found)

    await THINGS.get(tx, *query.scope, thing)

    def position(found: Attachment) -> Position:
        return 0, str(found.certificate)

    listing = f"thing-principals {thing} {type}"
    if type is None:
        return await page_of(query, cursor, listing, fetch, position)
    return await page_of_kept(query, cursor, listing, fetch, position, lambda found: found.type == type)


async def list_principal_things(
    tx: Transaction, query: Query, fingerprint: str, type: PrincipalType | None, cursor: Cursor
) -> Page[Attachment]:
    """Return a page of a certificate's things by name; with ``type``, only of that type. Raises NotFound."""

    async def fetch(after: Position | None, limit: int) -> list[Attachment]:
        key = fingerprint_bytes(fingerprint)
        rows = await tx.fetch_all(_OF_CERTIFICATE, *query.scope, key, after[1] if after else "", limit)
        found = ATTACHMENTS.load_all(rows)
        # All attachments of a certificate have the same type: an exclusive one is the only one.
        return found if not found or type in (None, found[0].type) else []

    await REGISTRATIONS.get(tx, *query.scope, fingerprint)
    listing = f"principal-things {fingerprint} {type}"
    return await page_of(query, cursor, listing, fetch, lambda found: (0, found.thing))


async def _changed(tx: Transaction, scope: Scope, thing: str, fingerprint: str, now: datetime) -> None:
    await publish_change(tx, scope, "certificate", fingerprint, now)
    tx.audit_resources += [thing_arn(scope, thing), arn_of(scope, fingerprint)]
