"""Things: the list by name, and one thing with its certificates, groups and policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thingmint.console.events import events_of
from thingmint.console.page import page, url
from thingmint.domain.arns import arn
from thingmint.domain.errors import NotFound, Unavailable
from thingmint.services.certificate_activity import read_last_seen
from thingmint.services.certificates import find_registered
from thingmint.services.device_policies import Target, attached_policies
from thingmint.services.pages import Cursor, Page, page_by_text
from thingmint.services.thing_groups import groups_of
from thingmint.services.thing_principals import certificates_of_thing
from thingmint.services.things import AFTER_NAMES, THINGS, Thing, thing_arn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.services.certificate_activity import LastSeen
    from thingmint.services.certificates import RegisteredCertificate
    from thingmint.store.engine import Transaction

_ROWS = 25
_MAX_CERTIFICATES = 50
_EVENTS = 15
_LONGEST_NAME = 128


@dataclass(frozen=True, slots=True)
class _Found:
    thing: Thing
    certificates: Sequence[tuple[RegisteredCertificate, LastSeen | None]]
    groups: Sequence[tuple[str, Sequence[str]]]


@page("/things", "ListThings")
async def things(call: Call) -> Answer:
    call.may("iot:ListThings")
    prefix, token = call.query.text("q", _LONGEST_NAME), call.query.text("page", 2000)
    found = await call.read(lambda tx: _by_name(tx, call, prefix, Cursor(_ROWS, token, "page")))
    return call.render(
        "things.html",
        things=found.items,
        q=prefix,
        first=url("/things", q=prefix) if token else None,
        next=url("/things", q=prefix, page=found.next_token) if found.next_token else None,
    )


@page("/things/{name}", "DescribeThing")
async def thing(call: Call) -> Answer:
    name = call.path["name"]
    resource = thing_arn(call.scope, name)
    call.may("iot:DescribeThing", resource)
    found = await call.read(lambda tx: _read(tx, call, name))
    records: Sequence[Any] = ()
    if call.allows("thingmint:ListAudit"):
        records = await call.parts.audit.history(call.caller.account, resource, _EVENTS)
    return call.render(
        "thing.html",
        found=found,
        thing=found.thing,
        connection=await connection_of(call, name),
        events=events_of(records),
        may_see_principals=call.allows("iot:ListThingPrincipals", resource),
    )


async def connection_of(call: Call, client_id: str) -> Any:
    """What is known of a client id; None if nothing is, or the caller may not know it."""
    if not call.allows("iot:GetConnection", arn(call.scope, f"client/{client_id}")):
        return None
    try:
        return await call.change.environment.messages.client(call.scope, client_id)
    except (NotFound, Unavailable):
        return None


async def _by_name(tx: Transaction, call: Call, prefix: str, cursor: Cursor) -> Page[Thing]:
    """A page of the things whose names begin with ``prefix``, by name."""
    if not prefix.isascii():
        return Page([], None)
    before = prefix and f"{prefix[:-1]}{chr(ord(prefix[-1]) - 1)}{AFTER_NAMES}"

    async def fetch(after: str, limit: int) -> list[Thing]:
        rows = await THINGS.page(tx, *call.scope, after=after or before, limit=limit)
        return [each for each in rows if each.name.startswith(prefix)]

    return await page_by_text(call.change, cursor, f"console things {prefix}", fetch, lambda each: each.name)


async def _read(tx: Transaction, call: Call, name: str) -> _Found:
    found = await THINGS.get(tx, *call.scope, name)
    fingerprints = await certificates_of_thing(tx, call.scope, name, _MAX_CERTIFICATES)
    seen = await read_last_seen(tx, call.scope, fingerprints)
    certificates = []
    for fingerprint in fingerprints:
        registered = await find_registered(tx, call.scope, fingerprint)
        if registered is not None:
            certificates.append((registered, seen.get(fingerprint)))
    return _Found(found, certificates, await _groups(tx, call, name))


async def _groups(tx: Transaction, call: Call, name: str) -> list[tuple[str, Sequence[str]]]:
    """The thing's groups with the names of their policies, as far as the caller may list them."""
    if not call.allows("iot:ListThingGroupsForThing", thing_arn(call.scope, name)):
        return []
    found: list[tuple[str, Sequence[str]]] = []
    for group in await groups_of(tx, call.scope, name):
        may_list = call.allows("iot:ListAttachedPolicies", arn(call.scope, f"thinggroup/{group.name}"))
        target = Target("thinggroup", group.name)
        found.append((group.name, sorted(await attached_policies(tx, call.scope, target)) if may_list else ()))
    return found
