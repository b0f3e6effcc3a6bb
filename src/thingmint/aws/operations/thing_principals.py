"""Principals of things, which here are certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.domain.arns import parse_arn
from thingmint.domain.certificates import parse_fingerprint
from thingmint.domain.registration import arn_of

if TYPE_CHECKING:
    from thingmint.aws.operations.call import Call, Operations
    from thingmint.domain.things import Attachment
    from thingmint.services.pages import Page

__all__ = ["THING_PRINCIPALS"]


async def _attach_thing_principal(call: Call) -> dict[str, Any]:
    await call.registries.principals.attach(
        call.scope, call.members["thingName"], _principal(call), call.members.get("thingPrincipalType")
    )
    return {}


async def _detach_thing_principal(call: Call) -> dict[str, Any]:
    await call.registries.principals.detach(call.scope, call.members["thingName"], _principal(call))
    return {}


async def _list_thing_principals(call: Call) -> dict[str, Any]:
    page = await _of_thing(call)
    return {
        "principals": [arn_of(call.scope, attachment.fingerprint) for attachment in page.items],
        "nextToken": page.next_token,
    }


async def _list_thing_principals_v2(call: Call) -> dict[str, Any]:
    page = await _of_thing(call)
    return {
        "thingPrincipalObjects": [
            {"principal": arn_of(call.scope, attachment.fingerprint), "thingPrincipalType": attachment.type}
            for attachment in page.items
        ],
        "nextToken": page.next_token,
    }


async def _list_principal_things(call: Call) -> dict[str, Any]:
    page = await _of_principal(call)
    return {"things": [attachment.thing for attachment in page.items], "nextToken": page.next_token}


async def _list_principal_things_v2(call: Call) -> dict[str, Any]:
    page = await _of_principal(call)
    return {
        "principalThingObjects": [
            {"thingName": attachment.thing, "thingPrincipalType": attachment.type} for attachment in page.items
        ],
        "nextToken": page.next_token,
    }


async def _of_thing(call: Call) -> Page[Attachment]:
    return await call.registries.principals.list_of_thing(
        call.scope, call.members["thingName"], call.members.get("thingPrincipalType"), call.page()
    )


async def _of_principal(call: Call) -> Page[Attachment]:
    return await call.registries.principals.list_of_certificate(
        call.scope, _principal(call), call.members.get("thingPrincipalType"), call.page()
    )


def _principal(call: Call) -> str:
    """The fingerprint. Amazon Cognito's identities are none of ours."""
    _, name = parse_arn(call.scope, call.members["principal"], "principal", "cert")
    return parse_fingerprint(name, "principal")


THING_PRINCIPALS: Operations = {
    "AttachThingPrincipal": _attach_thing_principal,
    "DetachThingPrincipal": _detach_thing_principal,
    "ListThingPrincipals": _list_thing_principals,
    "ListThingPrincipalsV2": _list_thing_principals_v2,
    "ListPrincipalThings": _list_principal_things,
    "ListPrincipalThingsV2": _list_principal_things_v2,
}
