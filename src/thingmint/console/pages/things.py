"""Things: the list by name, and one thing with its certificates, groups and policies, which can be changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thingmint.console.events import events_of_device
from thingmint.console.page import action, links_of, page, url
from thingmint.console.rendering import shortened
from thingmint.domain.arns import arn, arn_of, parse_arn
from thingmint.domain.certificates import parse_fingerprint
from thingmint.domain.errors import NotFound, Unavailable
from thingmint.services.certificate_activity import read_last_seen
from thingmint.services.certificates import find_registered
from thingmint.services.device_policies import Target, attached_policies
from thingmint.services.pages import Cursor, Page, page_by_text
from thingmint.services.thing_group_members import groups_of
from thingmint.services.thing_principals import attach_principal, certificates_of_thing, detach_principal
from thingmint.services.things import AFTER_NAMES, THINGS, Thing, delete_thing, thing_arn
from thingmint.store.search_keys import serial_and_common_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from thingmint.console.events import Event
    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.services.certificate_activity import LastSeen
    from thingmint.services.certificates import RegisteredCertificate
    from thingmint.store.engine import Transaction

_ROWS = 25
_MAX_CERTIFICATES = 50
_MAX_HISTORIES = 5  # certificates whose events a thing's page has
_EVENTS = 25
_LONGEST_NAME = 128


@dataclass(frozen=True, slots=True)
class _Attached:
    """A certificate of a thing. ``policies`` is None if the caller may not list them."""

    id: str
    name: str | None
    registered: RegisteredCertificate
    seen: LastSeen | None
    policies: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class _Found:
    thing: Thing
    certificates: Sequence[_Attached]
    groups: Sequence[tuple[str, Sequence[str]]]

    @property
    def seen(self) -> LastSeen | None:
        """The last connection with a certificate of the thing."""
        return max((each.seen for each in self.certificates if each.seen), key=lambda at: at.seen_at, default=None)


@page("/things", "ListThings")
async def things(call: Call) -> Answer:
    call.may("iot:ListThings")
    prefix, cursor = call.query.text("q", _LONGEST_NAME), call.cursor(_ROWS)
    found = await call.read(lambda tx: _by_name(tx, call, prefix, cursor))
    return call.render(
        "things.html",
        things=found.items,
        q=prefix,
        **links_of("/things", cursor, found.next_token, q=prefix),
    )


@page("/things/{name}", "DescribeThing")
async def thing(call: Call) -> Answer:
    name = call.path["name"]
    resource = thing_arn(call.scope, name)
    call.may("iot:DescribeThing", resource)
    found = await call.read(lambda tx: _read(tx, call, name))
    may_see_principals = call.allows("iot:ListThingPrincipals", resource)
    events: Sequence[Event] = ()
    if call.allows("thingmint:ListAudit"):
        shown = found.certificates[:_MAX_HISTORIES] if may_see_principals else ()
        certificates = {arn_of(call.scope, each.id): each.id for each in shown}
        events = await events_of_device(call.parts.audit, call.caller.account, resource, certificates, _EVENTS)
    any_certificate = arn_of(call.scope, "*")
    client_id, connection = name, await connection_of(call, name)
    if not (connection and connection.connected) and may_see_principals and found.seen and found.seen.client_id:
        client_id = found.seen.client_id
        connection = await connection_of(call, client_id)
    return call.render(
        "thing.html",
        found=found,
        thing=found.thing,
        client_id=client_id,
        connection=connection,
        events=events,
        may_see_principals=may_see_principals,
        may_attach=call.allows("iot:AttachThingPrincipal", any_certificate),
        may_detach=call.allows("iot:DetachThingPrincipal", any_certificate),
        may_delete=call.allows("iot:DeleteThing", resource),
        may_open_policies=call.allows("iot:GetPolicy", arn(call.scope, "policy/*")),
        may_open_session=may_open_session(call, client_id),
    )


@action("/things/{name}/attach", "AttachThingPrincipal")
async def attach(call: Call) -> Answer:
    return await _change_principal(call, attach_principal, "AttachThingPrincipal", "attached to")


@action("/things/{name}/detach", "DetachThingPrincipal")
async def detach(call: Call) -> Answer:
    return await _change_principal(call, detach_principal, "DetachThingPrincipal", "detached from")


async def _change_principal(call: Call, change: Callable[..., Awaitable[None]], operation: str, done: str) -> Answer:
    name, id = call.path["name"], _certificate(call)
    principal = arn_of(call.scope, id)
    call.change.may(f"iot:{operation}", principal, context={"iot:thingArn": thing_arn(call.scope, name)})
    scope, now = call.scope, call.change.now
    await call.write(lambda tx: change(tx, scope, name, id, now), thingName=name, principal=principal)
    return call.done(f"/things/{name}", f"The certificate {shortened(id)} is {done} the thing.")


@page("/things/{name}/delete", "DescribeThing")
async def confirm_deletion(call: Call) -> Answer:
    """Asks first. For a thing that cannot be deleted, it says what prevents it."""
    name = call.path["name"]
    resource = thing_arn(call.scope, name)
    call.may("iot:DescribeThing", resource)
    call.may("iot:DeleteThing", resource)
    found = await call.read(lambda tx: _read(tx, call, name))
    return call.render(
        "confirm.html",
        title=f"Delete the thing {name}?",
        consequence="Its attributes and its places in groups are deleted with it. Certificates and policies stay.",
        obstacle=_obstacle(len(found.certificates)),
        fields={},
        button="Delete",
        address=url(f"/things/{name}/deleted"),
        back=url(f"/things/{name}"),
        command=f"aws iot delete-thing --thing-name {name}",
    )


@action("/things/{name}/deleted", "DeleteThing")
async def delete(call: Call) -> Answer:
    name = call.path["name"]
    call.may("iot:DeleteThing", thing_arn(call.scope, name))

    async def body(tx: Transaction) -> None:
        await THINGS.get(tx, *call.scope, name)  # deleting does not ask whether it exists
        await delete_thing(tx, call.change, name)

    await call.write(body, thingName=name)
    return call.done("/things", f"The thing {name[:_LONGEST_NAME]} is deleted.")


def _obstacle(attached: int) -> str:
    """What prevents the deletion of a thing; empty if nothing does."""
    if not attached:
        return ""
    if attached == 1:
        return "A certificate is attached to it. Detach it first."
    most = "or more " if attached == _MAX_CERTIFICATES else ""
    return f"{attached} {most}certificates are attached to it. Detach them first."


def _certificate(call: Call) -> str:
    """The certificate of the form, which is an id or an ARN. Raises Invalid and NotFound."""
    text = call.form.text("certificate").strip()
    if text.startswith("arn:"):
        _, text = parse_arn(call.scope, text, "certificate", "cert")
    return parse_fingerprint(text, "certificate")


async def connection_of(call: Call, client_id: str) -> Any:
    """What is known of a client id; None if nothing is, or the caller may not know it."""
    if not call.allows("iot:GetConnection", arn(call.scope, f"client/{client_id}")):
        return None
    try:
        return await call.change.environment.messages.client(call.scope, client_id)
    except (NotFound, Unavailable):
        return None


def may_open_session(call: Call, client_id: str) -> bool:
    """True if the caller may open the page of the client's session."""
    resource = arn(call.scope, f"client/{client_id}")
    return all(call.allows(needed, resource) for needed in ("iot:GetConnection", "iot:ListSubscriptions"))


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
            policies = None
            if call.allows("iot:ListAttachedPolicies", arn_of(call.scope, fingerprint)):
                policies = sorted(await attached_policies(tx, call.scope, Target("cert", fingerprint)))
            _, common_name = serial_and_common_name(registered.certificate.der)
            certificates.append(_Attached(fingerprint, common_name, registered, seen.get(fingerprint), policies))
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
