"""Things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.aws.operations.attributes import attribute_change, new_attributes
from thingmint.domain.errors import Invalid, NotFound
from thingmint.domain.things import ThingChange
from thingmint.services.things import ThingFilter

if TYPE_CHECKING:
    from thingmint.aws.operations.call import Call, Operations
    from thingmint.domain.things import Thing

__all__ = ["THINGS"]


async def _create_thing(call: Call) -> dict[str, Any]:
    if (billing_group := call.members.get("billingGroupName")) is not None:
        raise NotFound("billing group", billing_group)  # there are none
    thing = await call.registries.things.create(
        call.scope,
        call.members["thingName"],
        call.members.get("thingTypeName"),
        new_attributes(call.members.get("attributePayload")),
    )
    return _identified(thing)


async def _describe_thing(call: Call) -> dict[str, Any]:
    thing = await call.registries.things.describe(call.scope, call.members["thingName"])
    return {
        **_identified(thing),
        "defaultClientId": thing.name,
        "thingTypeName": thing.type,
        "attributes": thing.attributes,
        "version": thing.version,
    }


async def _update_thing(call: Call) -> dict[str, Any]:
    await call.registries.things.update(
        call.scope,
        call.members["thingName"],
        ThingChange(
            type=call.members.get("thingTypeName"),
            remove_type=call.flag("removeThingType"),
            attributes=attribute_change(call.members.get("attributePayload")),
        ),
        call.members.get("expectedVersion"),
    )
    return {}


async def _delete_thing(call: Call) -> dict[str, Any]:
    await call.registries.things.delete(call.scope, call.members["thingName"], call.members.get("expectedVersion"))
    return {}


async def _list_things(call: Call) -> dict[str, Any]:
    attribute, value = call.members.get("attributeName"), call.members.get("attributeValue")
    if attribute is None and value is not None:
        raise Invalid("attributeName", "is required along with attributeValue")
    wanted = ThingFilter(
        type=call.members.get("thingTypeName"),
        attribute=attribute,
        value=value or "",
        prefix=value is None or call.flag("usePrefixAttributeValue"),
    )
    page = await call.registries.things.list(call.scope, wanted, call.page())
    return {
        "things": [
            {
                "thingName": thing.name,
                "thingTypeName": thing.type,
                "thingArn": thing.arn,
                "attributes": thing.attributes,
                "version": thing.version,
            }
            for thing in page.items
        ],
        "nextToken": page.next_token,
    }


def _identified(thing: Thing) -> dict[str, Any]:
    return {"thingName": thing.name, "thingArn": thing.arn, "thingId": thing.id}


THINGS: Operations = {
    "CreateThing": _create_thing,
    "DescribeThing": _describe_thing,
    "UpdateThing": _update_thing,
    "DeleteThing": _delete_thing,
    "ListThings": _list_things,
}
