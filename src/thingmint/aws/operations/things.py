"""Things (five operations)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import Members, Result, attribute_change, cursor, new_attributes, reads, writes
from thingmint.domain.errors import Disallowed, Invalid
from thingmint.services.billing_groups import BILLING_GROUPS, find_group_of
from thingmint.services.things import THINGS, Thing, ThingFilter, create_thing, delete_thing, list_things, update_thing

if TYPE_CHECKING:
    from thingmint.services.change import Change, Query
    from thingmint.store.engine import Transaction


@writes("CreateThing")
async def create(tx: Transaction, change: Change, members: Members) -> Result:
    name, type = members["thingName"], members.get("thingTypeName")
    attributes = new_attributes(members.get("attributePayload"))
    thing = Thing.new(change.scope, name, id=change.new_id(), type=type, attributes=attributes, now=change.now)
    if (billing_group := members.get("billingGroupName")) is not None:
        thing = replace(thing, billing_group=(await BILLING_GROUPS.get(tx, *change.scope, billing_group)).id)
    return _identified(await create_thing(tx, change, thing))


@reads("DescribeThing")
async def describe(tx: Transaction, query: Query, members: Members) -> Result:
    thing = await THINGS.get(tx, *query.scope, members["thingName"])
    group = await find_group_of(tx, thing)
    billed = {"billingGroupName": group.name if group is not None else None}
    return {**_identified(thing), **_configured(thing), "defaultClientId": thing.name, **billed}


@writes("UpdateThing")
async def update(tx: Transaction, change: Change, members: Members) -> Result:
    await update_thing(
        tx,
        change,
        members["thingName"],
        type=members.get("thingTypeName"),
        remove_type=members.get("removeThingType", False),
        attributes=attribute_change(members.get("attributePayload")),
        expected_version=members.get("expectedVersion"),
    )
    return {}


@writes("DeleteThing")
async def delete(tx: Transaction, change: Change, members: Members) -> Result:
    name, version = members["thingName"], members.get("expectedVersion")
    await delete_thing(tx, change, name, expected_version=version)
    return {}


@reads("ListThings")
async def list_(tx: Transaction, query: Query, members: Members) -> Result:
    attribute, value = members.get("attributeName"), members.get("attributeValue")
    if attribute is None and value is not None:
        raise Invalid("attributeName", "is required along with attributeValue")
    type = members.get("thingTypeName")
    if attribute is not None and type is not None:
        reason = "Listing things by the combination of attribute and thing type is not supported"  # in AWS's words
        raise Disallowed("thing type", type, reason)
    prefix = value is None or members.get("usePrefixAttributeValue", False)
    wanted = ThingFilter(type, attribute, value or "", prefix)
    page = await list_things(tx, query, wanted, cursor(members))
    things = [{"thingName": thing.name, "thingArn": thing.arn, **_configured(thing)} for thing in page.items]
    return {"things": things, "nextToken": page.next_token}


def _identified(thing: Thing) -> Result:
    return {"thingName": thing.name, "thingArn": thing.arn, "thingId": thing.id}


def _configured(thing: Thing) -> Result:
    return {"thingTypeName": thing.type, "attributes": thing.attributes, "version": thing.version}
