"""Thing types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.aws.operations.attributes import new_tags
from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.aws.operations.call import Call, Operations
    from thingmint.domain.things import ThingType

__all__ = ["THING_TYPES"]


async def _create_thing_type(call: Call) -> dict[str, Any]:
    properties = _properties(call)
    type = await call.registries.thing_types.create(
        call.scope,
        call.members["thingTypeName"],
        properties.get("thingTypeDescription"),
        properties.get("searchableAttributes", ()),
        new_tags(call.members),
    )
    return _identified(type)


async def _describe_thing_type(call: Call) -> dict[str, Any]:
    type = await call.registries.thing_types.describe(call.scope, call.members["thingTypeName"])
    return {**_identified(type), **_described(type)}


async def _list_thing_types(call: Call) -> dict[str, Any]:
    page = await call.registries.thing_types.list(call.scope, call.members.get("thingTypeName"), call.page())
    return {
        "thingTypes": [
            {"thingTypeName": type.name, "thingTypeArn": type.arn, **_described(type)} for type in page.items
        ],
        "nextToken": page.next_token,
    }


async def _update_thing_type(call: Call) -> dict[str, Any]:
    properties = _properties(call)
    await call.registries.thing_types.update(
        call.scope,
        call.members["thingTypeName"],
        properties.get("thingTypeDescription"),
        properties.get("searchableAttributes"),
    )
    return {}


async def _deprecate_thing_type(call: Call) -> dict[str, Any]:
    await call.registries.thing_types.deprecate(
        call.scope, call.members["thingTypeName"], undo=call.flag("undoDeprecate")
    )
    return {}


async def _delete_thing_type(call: Call) -> dict[str, Any]:
    await call.registries.thing_types.delete(call.scope, call.members["thingTypeName"])
    return {}


def _properties(call: Call) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = call.members.get("thingTypeProperties", {})
    if properties.get("mqtt5Configuration", {}).get("propagatingAttributes"):
        # Nothing here adds user properties to messages, and who asks for them should know.
        raise Invalid("thingTypeProperties.mqtt5Configuration", "is not served by Thingmint")
    return properties


def _identified(type: ThingType) -> dict[str, Any]:
    return {"thingTypeName": type.name, "thingTypeArn": type.arn, "thingTypeId": type.id}


def _described(type: ThingType) -> dict[str, Any]:
    return {
        "thingTypeProperties": {
            "thingTypeDescription": type.description,
            "searchableAttributes": list(type.searchable),
        },
        "thingTypeMetadata": {
            "deprecated": type.deprecated_at is not None,
            "deprecationDate": type.deprecated_at,
            "creationDate": type.created_at,
        },
    }


THING_TYPES: Operations = {
    "CreateThingType": _create_thing_type,
    "DescribeThingType": _describe_thing_type,
    "ListThingTypes": _list_thing_types,
    "UpdateThingType": _update_thing_type,
    "DeprecateThingType": _deprecate_thing_type,
    "DeleteThingType": _delete_thing_type,
}
