"""The principals of things: certificates (six operations)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import Members, Result, cursor, reads, writes
from thingmint.domain.arns import parse_arn
from thingmint.domain.certificates import parse_fingerprint
from thingmint.services.thing_principals import (
    attach_principal,
    detach_principal,
    list_principal_things,
    list_thing_principals,
)

if TYPE_CHECKING:
    from thingmint.services.change import Change, Query
    from thingmint.services.pages import Page
    from thingmint.services.thing_principals import Attachment
    from thingmint.store.engine import Transaction

DEVIATIONS = {
    "AttachThingPrincipal": (
        "An attached certificate keeps its `thingPrincipalType`: another one is an InvalidRequestException, as "
        "AWS documents nothing. Amazon Cognito identities are not served."
    ),
    "ListThingPrincipalsV2": (
        "With `thingPrincipalType`, a page has what is found among 1,000 certificates of the thing. So a page may have "
        "fewer items and a token."
    ),
}


@writes("AttachThingPrincipal")
async def attach(tx: Transaction, change: Change, members: Members) -> Result:
    fingerprint, type = _fingerprint(change, members), members.get("thingPrincipalType")
    await attach_principal(tx, change.scope, members["thingName"], fingerprint, change.now, type=type)
    return {}


@writes("DetachThingPrincipal")
async def detach(tx: Transaction, change: Change, members: Members) -> Result:
    await detach_principal(tx, change.scope, members["thingName"], _fingerprint(change, members), change.now)
    return {}


@reads("ListThingPrincipals")
async def list_principals(tx: Transaction, query: Query, members: Members) -> Result:
    page = await _of_thing(tx, query, members)
    return {"principals": [attachment.principal for attachment in page.items], "nextToken": page.next_token}


@reads("ListThingPrincipalsV2")
async def list_principals_v2(tx: Transaction, query: Query, members: Members) -> Result:
    page = await _of_thing(tx, query, members)
    found = [{"principal": each.principal, "thingPrincipalType": each.type} for each in page.items]
    return {"thingPrincipalObjects": found, "nextToken": page.next_token}


@reads("ListPrincipalThings")
async def list_things(tx: Transaction, query: Query, members: Members) -> Result:
    page = await _of_certificate(tx, query, members)
    return {"things": [attachment.thing for attachment in page.items], "nextToken": page.next_token}


@reads("ListPrincipalThingsV2")
async def list_things_v2(tx: Transaction, query: Query, members: Members) -> Result:
    page = await _of_certificate(tx, query, members)
    found = [{"thingName": each.thing, "thingPrincipalType": each.type} for each in page.items]
    return {"principalThingObjects": found, "nextToken": page.next_token}


async def _of_thing(tx: Transaction, query: Query, members: Members) -> Page[Attachment]:
    return await list_thing_principals(
        tx, query, members["thingName"], members.get("thingPrincipalType"), cursor(members)
    )


async def _of_certificate(tx: Transaction, query: Query, members: Members) -> Page[Attachment]:
    fingerprint, type = _fingerprint(query, members), members.get("thingPrincipalType")
    return await list_principal_things(tx, query, fingerprint, type, cursor(members))


def _fingerprint(query: Query, members: Members) -> str:
    """The fingerprint of the certificate. The other kind of principal, an Amazon Cognito identity, is not served."""
    _, name = parse_arn(query.scope, members["principal"], "principal", "cert")
    return parse_fingerprint(name, "principal")
