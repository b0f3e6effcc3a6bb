"""Thing types (six operations)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import Members, Result, cursor, new_tags, reads, writes
from thingmint.services.thing_types import (
    THING_TYPES,
    create_thing_type,
    delete_thing_type,
    deprecate_thing_type,
    list_thing_types,
    update_thing_type,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.services.change import Change, Query
    from thingmint.services.thing_types import PropagatingAttribute, ThingType
    from thingmint.store.engine import Transaction

DEVIATIONS = {
    "CreateThingType": (
        "A type has at most 50 propagating attributes. If a device sends a user property with the key of one, "
        "that property is left out: devices cannot forge what the registry adds."
    ),
    "UpdateThingType": (
        "Changes the description and the searchable attributes, too; AWS's CloudFormation changes `mqtt5Configuration` "
        "only."
    ),
    "DeleteThingType": (
        "Possible at once after the deprecation; AWS makes callers wait for five minutes, as its deprecation "
        "takes that long."
    ),
}


@writes("CreateThingType")
async def create(tx: Transaction, change: Change, members: Members) -> Result:
    given = _properties(members)
    description, searchable = given.get("thingTypeDescription"), given.get("searchableAttributes", ())
    name, tags, propagating = members["thingTypeName"], new_tags(members), _propagating(given) or ()
    return _identified(await create_thing_type(tx, change, name, description, searchable, propagating, tags))


@reads("DescribeThingType")
async def describe(tx: Transaction, query: Query, members: Members) -> Result:
    type = await THING_TYPES.get(tx, *query.scope, members["thingTypeName"])
    return {**_identified(type), **_described(type)}


@reads("ListThingTypes")
async def list_(tx: Transaction, query: Query, members: Members) -> Result:
    page = await list_thing_types(tx, query, members.get("thingTypeName"), cursor(members))
    return {
        "thingTypes": [
            {"thingTypeName": type.name, "thingTypeArn": type.arn, **_described(type)} for type in page.items
        ],
        "nextToken": page.next_token,
    }


@writes("UpdateThingType")
async def update(tx: Transaction, change: Change, members: Members) -> Result:
    given = _properties(members)
    description, searchable = given.get("thingTypeDescription"), given.get("searchableAttributes")
    await update_thing_type(tx, change, members["thingTypeName"], description, searchable, _propagating(given))
    return {}


@writes("DeprecateThingType")
async def deprecate(tx: Transaction, change: Change, members: Members) -> Result:
    await deprecate_thing_type(tx, change, members["thingTypeName"], undo=members.get("undoDeprecate", False))
    return {}


@writes("DeleteThingType")
async def delete(tx: Transaction, change: Change, members: Members) -> Result:
    await delete_thing_type(tx, change, members["thingTypeName"])
    return {}


def _properties(members: Members) -> Members:
    properties: Members = members.get("thingTypeProperties", {})
    return properties


def _propagating(properties: Members) -> Sequence[PropagatingAttribute] | None:
    given: Sequence[PropagatingAttribute] | None
    given = properties.get("mqtt5Configuration", {}).get("propagatingAttributes")
    return given


def _identified(type: ThingType) -> Result:
    return {"thingTypeName": type.name, "thingTypeArn": type.arn, "thingTypeId": type.id}


def _described(type: ThingType) -> Result:
    return {
        "thingTypeProperties": {
            "thingTypeDescription": type.description,
            "searchableAttributes": list(type.searchable) or None,
            "mqtt5Configuration": {"propagatingAttributes": list(type.propagating)} if type.propagating else None,
        },
        "thingTypeMetadata": {
            "deprecated": type.deprecated_at is not None,
            "deprecationDate": type.deprecated_at,
            "creationDate": type.created_at,
        },
    }
