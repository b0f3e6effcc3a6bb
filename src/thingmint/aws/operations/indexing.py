"""Fleet indexing (five operations). Both indexes are always there: no configuration changes what a search finds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from thingmint.aws.operations.declaring import Members, Result, collects, cursor, reads, writes
from thingmint.domain.errors import Invalid, NotFound
from thingmint.domain.search_query import parse_query
from thingmint.services import thing_group_search, thing_search
from thingmint.services.indexing_configurations import find_configuration, store_configuration
from thingmint.services.pages import Cursor, Page, page_by_text
from thingmint.services.searches import search
from thingmint.services.thing_group_search import ThingGroupIndex
from thingmint.services.thing_search import ThingIndex, read_connectivity, read_groups
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.services.change import Change, Query
    from thingmint.services.thing_group_search import FoundGroup
    from thingmint.services.thing_search import FoundThing
    from thingmint.store.engine import Store, Transaction

DEVIATIONS = {
    "SearchIndex": (
        "Works without a configuration, and finds changes at once, as it reads the registry itself. A wildcard at the "
        "beginning of a term is refused, because no index helps to find it. A page can end early, so that a search "
        "leaves time for others. See [search.md](search.md)."
    ),
    "DescribeIndex": "Both indexes are always ACTIVE.",
    "ListIndices": "Lists both indexes, whatever the configuration is.",
    "GetIndexingConfiguration": "Tells what was given; searches do not depend on it.",
    "UpdateIndexingConfiguration": "Refuses what this server does not have: shadows, violations and locations.",
}

_THINGS, _THING_GROUPS = "AWS_Things", "AWS_ThingGroups"
_SCHEMAS = {_THINGS: "REGISTRY_AND_CONNECTIVITY_STATUS", _THING_GROUPS: "THING_GROUPS"}
_VERSION = "2017-09-30"
_MAX_RESULTS = 100

_OF_THINGS, _OF_GROUPS = "thingIndexingConfiguration", "thingGroupIndexingConfiguration"
_MODE, _CONNECTIVITY, _GROUP_MODE = "thingIndexingMode", "thingConnectivityIndexingMode", "thingGroupIndexingMode"
# The modes of a configuration, with the values that this server accepts. The first is the default.
_THING_MODES = {
    _MODE: ("OFF", "REGISTRY"),
    _CONNECTIVITY: ("OFF", "STATUS"),
    "deviceDefenderIndexingMode": ("OFF",),
    "namedShadowIndexingMode": ("OFF",),
}
_GROUP_MODES = {_GROUP_MODE: ("OFF", "ON")}

_REGISTRY_FIELDS = {
    "thingId": "String",
    "thingName": "String",
    "registry.version": "Number",
    "registry.thingTypeName": "String",
    "registry.thingGroupNames": "String",
}
_CONNECTIVITY_FIELDS = {
    "connectivity.timestamp": "Number",
    "connectivity.version": "Number",
    "connectivity.connected": "Boolean",
    "connectivity.disconnectReason": "String",
}
_GROUP_FIELDS = {
    "description": "String",
    "parentGroupNames": "String",
    "thingGroupId": "String",
    "thingGroupName": "String",
    "version": "Number",
}
_CUSTOM_FIELD = re.compile(r"attributes\.[a-zA-Z0-9_.,@/:#-]{1,128}")
_MAX_CUSTOM_FIELDS = 50


@collects("SearchIndex")
async def search_index(store: Store, query: Query, members: Members) -> Result:
    text, limit = members["queryString"], members.get("maxResults", _MAX_RESULTS)
    if limit > _MAX_RESULTS:
        raise Invalid("maxResults", f"must be at most {_MAX_RESULTS}")
    if members.get("queryVersion", _VERSION) != _VERSION:
        raise Invalid("queryVersion", f"must be {_VERSION}")
    index, wanted = members.get("indexName", _THINGS), Cursor(limit, members.get("nextToken"))
    _schema(index)
    if index == _THING_GROUPS:
        condition = parse_query(text, thing_group_search.FIELDS)
        groups = await search(store, query, ThingGroupIndex(), text, condition, wanted)
        return {"thingGroups": [_group(group) for group in groups.items], "nextToken": groups.next_token}
    condition = parse_query(text, thing_search.FIELDS)
    found = await search(store, query, ThingIndex(query.environment.messages), text, condition, wanted)
    by_name = {thing.name: thing for thing in found.items}
    await read_groups(store, query, by_name)
    await read_connectivity(query, by_name)
    return {"things": [_thing(thing) for thing in found.items], "nextToken": found.next_token}


@reads("DescribeIndex")
async def describe_index(tx: Transaction, query: Query, members: Members) -> Result:
    del tx, query
    index = members["indexName"]
    return {"indexName": index, "indexStatus": "ACTIVE", "schema": _schema(index)}


@reads("ListIndices")
async def list_indices(tx: Transaction, query: Query, members: Members) -> Result:
    del tx

    async def fetch(after: str, limit: int) -> list[str]:
        return [name for name in sorted(_SCHEMAS) if name > after][:limit]

    page: Page[str] = await page_by_text(query, cursor(members), "indices", fetch, lambda name: name)
    return {"indexNames": page.items, "nextToken": page.next_token}


@reads("GetIndexingConfiguration")
async def get_configuration(tx: Transaction, query: Query, members: Members) -> Result:
    del members
    found = await find_configuration(tx, query.scope)
    things, groups = found.things or {_MODE: "OFF"}, found.thing_groups or {_GROUP_MODE: "OFF"}
    return {
        _OF_THINGS: _told(things, _THING_MODES, _thing_fields(things)),
        _OF_GROUPS: _told(groups, _GROUP_MODES, _group_fields(groups)),
    }


@writes("UpdateIndexingConfiguration")
async def update_configuration(tx: Transaction, change: Change, members: Members) -> Result:
    things, groups = members.get(_OF_THINGS), members.get(_OF_GROUPS)
    if things is not None:
        things = _checked(_OF_THINGS, things, _THING_MODES, _thing_fields(things))
        if things[_MODE] == "OFF" and things.get(_CONNECTIVITY, "OFF") != "OFF":
            raise Invalid(f"{_OF_THINGS}.{_CONNECTIVITY}", f"must be OFF if {_MODE} is OFF")
    if groups is not None:
        groups = _checked(_OF_GROUPS, groups, _GROUP_MODES, _group_fields(groups))
    await store_configuration(tx, change.scope, things, groups)
    return {}


def _schema(index: str) -> str:
    if index not in _SCHEMAS:
        raise NotFound("index", index)
    return _SCHEMAS[index]


def _thing_fields(given: Mapping[str, Any]) -> Mapping[str, str]:
    """The managed fields of a configuration of things, with their types."""
    if given[_MODE] == "OFF":
        return {}
    return _REGISTRY_FIELDS | (_CONNECTIVITY_FIELDS if given.get(_CONNECTIVITY) == "STATUS" else {})


def _group_fields(given: Mapping[str, Any]) -> Mapping[str, str]:
    return {} if given[_GROUP_MODE] == "OFF" else _GROUP_FIELDS


def _told(given: Mapping[str, Any], modes: Mapping[str, tuple[str, ...]], managed: Mapping[str, str]) -> Result:
    """A configuration as AWS returns it: with every mode, and with the managed fields."""
    told: Result = {mode: values[0] for mode, values in modes.items()} | dict(given)
    if managed:
        told["managedFields"] = [{"name": name, "type": type} for name, type in managed.items()]
    return told


def _checked(
    member: str, given: Mapping[str, Any], modes: Mapping[str, tuple[str, ...]], managed: Mapping[str, str]
) -> Result:
    """The configuration to store, without the managed fields. Raises Invalid."""
    for mode, accepted in modes.items():
        if given.get(mode, accepted[0]) not in accepted:
            reason = f"must be {' or '.join(accepted)}: this server has no shadows, and no Device Defender"
            raise Invalid(f"{member}.{mode}", reason)
    for field in given.get("managedFields", ()):
        if managed.get(field.get("name", "")) != field.get("type", managed.get(field.get("name", ""), "")):
            raise Invalid(f"{member}.managedFields", "has a field that these modes do not have, or another type of it")
    filter = given.get("filter", {})
    if filter.get("namedShadowNames") or filter.get("geoLocations"):
        raise Invalid(f"{member}.filter", "must not name shadows or locations: this server has no shadows")
    custom = given.get("customFields", ())
    names = [field.get("name", "") for field in custom]
    if len(names) > _MAX_CUSTOM_FIELDS or len(set(names)) < len(names):
        raise Invalid(f"{member}.customFields", f"must be at most {_MAX_CUSTOM_FIELDS}, each of another name")
    if not all(_CUSTOM_FIELD.fullmatch(name) for name in names) or not all("type" in field for field in custom):
        raise Invalid(f"{member}.customFields", "must have a type, and a name that begins with attributes.")
    if custom and not managed:
        raise Invalid(f"{member}.customFields", "must be empty if the mode is OFF")
    kept = {name: value for name, value in given.items() if value and name != "managedFields"}
    return kept if any(filter.values()) else {name: value for name, value in kept.items() if name != "filter"}


def _thing(thing: FoundThing) -> Result:
    state = thing.connectivity
    connectivity: Result = {"connected": state is not None and state.connected}
    if state is not None:
        connectivity |= {"timestamp": to_micros(state.since) // 1000, "disconnectReason": state.reason}
    return {
        "thingName": thing.name,
        "thingId": thing.id,
        "thingTypeName": thing.type,
        "thingGroupNames": thing.all_groups or None,
        "attributes": thing.attributes or None,
        "connectivity": connectivity,
    }


def _group(group: FoundGroup) -> Result:
    return {
        "thingGroupName": group.name,
        "thingGroupId": group.id,
        "thingGroupDescription": group.description,
        "attributes": group.attributes or None,
        "parentGroupNames": group.parents or None,
    }
