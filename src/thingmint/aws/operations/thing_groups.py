"""Thing groups and their members (ten operations). Dynamic groups, which are made by a query, are not served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import (
    Members,
    Result,
    attribute_change,
    cursor,
    name_of,
    new_attributes,
    new_tags,
    reads,
    writes,
)
from thingmint.domain.arns import arn
from thingmint.domain.errors import Invalid
from thingmint.services.thing_group_members import list_groups_of, list_members, update_groups
from thingmint.services.thing_groups import (
    THING_GROUPS,
    create_thing_group,
    delete_thing_group,
    list_thing_groups,
    update_thing_group,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.domain.arns import Scope
    from thingmint.services.change import Change, Query
    from thingmint.services.pages import Page
    from thingmint.services.thing_groups import ThingGroup
    from thingmint.store.engine import Transaction

# The model sets no limit, and every name is looked up.
_MAX_NAMES = 100


@writes("CreateThingGroup")
async def create(tx: Transaction, change: Change, members: Members) -> Result:
    name, parent = members["thingGroupName"], members.get("parentGroupName")
    properties, tags = members.get("thingGroupProperties", {}), new_tags(members)
    description, attributes = (
        properties.get("thingGroupDescription"),
        new_attributes(properties.get("attributePayload")),
    )
    return _identified(await create_thing_group(tx, change, name, parent, description, attributes, tags))


@reads("DescribeThingGroup")
async def describe(tx: Transaction, query: Query, members: Members) -> Result:
    group = await THING_GROUPS.get(tx, *query.scope, members["thingGroupName"])
    return {
        **_identified(group),
        "version": group.version,
        # Empty members are left out, as AWS does: Terraform reports an empty payload as a difference.
        "thingGroupProperties": {
            "thingGroupDescription": group.description,
            "attributePayload": {"attributes": group.attributes} if group.attributes else None,
        },
        "thingGroupMetadata": {
            "parentGroupName": group.parent,
            "rootToParentThingGroups": [_named(query.scope, name) for name in group.ancestors] or None,
            "creationDate": group.created_at,
        },
    }


@writes("UpdateThingGroup")
async def update(tx: Transaction, change: Change, members: Members) -> Result:
    name, version = members["thingGroupName"], members.get("expectedVersion")
    properties = members["thingGroupProperties"]
    description, payload = properties.get("thingGroupDescription"), properties.get("attributePayload")
    group = await update_thing_group(tx, change, name, description, attribute_change(payload), version)
    return {"version": group.version}


@writes("DeleteThingGroup")
async def delete(tx: Transaction, change: Change, members: Members) -> Result:
    await delete_thing_group(tx, change, members["thingGroupName"], members.get("expectedVersion"))
    return {}


@reads("ListThingGroups")
async def list_(tx: Transaction, query: Query, members: Members) -> Result:
    parent, prefix = members.get("parentGroup"), members.get("namePrefixFilter", "")
    # The model has no default for this flag. In AWS's guide a list without a parent has every group, and a list with a
    # parent only the groups directly below it.
    recursive = members.get("recursive", parent is None)
    return _listed(query, await list_thing_groups(tx, query, parent, prefix, cursor(members), recursive=recursive))


@writes("AddThingToThingGroup")
async def add_thing(tx: Transaction, change: Change, members: Members) -> Result:
    group, thing = _group_and_thing(change, members)
    await update_groups(tx, change, thing, add=[group])
    return {}


@writes("RemoveThingFromThingGroup")
async def remove_thing(tx: Transaction, change: Change, members: Members) -> Result:
    group, thing = _group_and_thing(change, members)
    await update_groups(tx, change, thing, remove=[group])
    return {}


@writes("UpdateThingGroupsForThing")
async def update_groups_of_thing(tx: Transaction, change: Change, members: Members) -> Result:
    add, remove = _names(members, "thingGroupsToAdd"), _names(members, "thingGroupsToRemove")
    await update_groups(tx, change, members["thingName"], add=add, remove=remove)
    return {}


@reads("ListThingGroupsForThing")
async def list_groups_of_thing(tx: Transaction, query: Query, members: Members) -> Result:
    return _listed(query, await list_groups_of(tx, query, members["thingName"], cursor(members)))


@reads("ListThingsInThingGroup")
async def list_things(tx: Transaction, query: Query, members: Members) -> Result:
    group, recursive = members["thingGroupName"], members.get("recursive", False)
    page = await list_members(tx, query, group, cursor(members), recursive=recursive)
    return {"things": page.items, "nextToken": page.next_token}


def _group_and_thing(change: Change, members: Members) -> tuple[str, str]:
    group = name_of(change.scope, members, "thinggroup", "thingGroupName", "thingGroupArn")
    return group, name_of(change.scope, members, "thing", "thingName", "thingArn")


def _names(members: Members, member: str) -> Sequence[str]:
    names = list(dict.fromkeys(members.get(member, ())))
    if len(names) > _MAX_NAMES:
        raise Invalid(member, f"must have at most {_MAX_NAMES} entries")
    return names


def _identified(group: ThingGroup) -> Result:
    return {"thingGroupName": group.name, "thingGroupArn": group.arn, "thingGroupId": group.id}


def _listed(query: Query, page: Page[ThingGroup]) -> Result:
    groups = [_named(query.scope, group.name) for group in page.items]
    return {"thingGroups": groups, "nextToken": page.next_token}


def _named(scope: Scope, name: str) -> Result:
    return {"groupName": name, "groupArn": arn(scope, f"thinggroup/{name}")}
