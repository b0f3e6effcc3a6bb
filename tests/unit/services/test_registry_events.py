"""Registry events: topics, payloads, and that no change of the registry is without its events."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import pytest

import thingmint
from tests.unit.importing.aws.imports import Imports
from tests.unit.importing.aws.imports import group as group_item
from tests.unit.importing.aws.imports import thing as thing_item
from tests.world import OURS, THEIRS
from thingmint.aws.operations import OPERATIONS
from thingmint.domain.errors import DomainError, Invalid
from thingmint.services.event_configurations import EVENT_TYPES
from thingmint.services.jobs import JobRunner
from thingmint.services.things import Thing, create_thing
from thingmint.store.engine import run_part
from thingmint.store.outbox import published_since
from thingmint.store.table import DELETED_AT_ONCE, from_micros

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.store.engine import Transaction

ARN = f"arn:aws:iot:{OURS.region}:{OURS.account}:"
REGISTRY = (
    "THING",
    "THING_TYPE",
    "THING_GROUP",
    "THING_TYPE_ASSOCIATION",
    "THING_GROUP_MEMBERSHIP",
    "THING_GROUP_HIERARCHY",
)


class Queued(NamedTuple):
    """``topic`` is without ``$aws/events/``, ``payload`` without eventId and timestamp."""

    topic: str
    payload: dict[str, Any]


async def enable(world: World, *types: str, scope: Scope = OURS) -> None:
    """Enables these types and no others."""
    given = {type: {"Enabled": type in types} for type in EVENT_TYPES}
    await world.aws("UpdateEventConfigurations", scope, eventConfigurations=given)


async def queued(world: World, scope: Scope = OURS) -> list[Queued]:
    """Takes the events from the queue, and checks what all have."""
    rows = await world.rows(
        "SELECT topic, payload FROM queued_events WHERE account = $1 AND region = $2 ORDER BY created_at, id", *scope
    )
    await world.execute("DELETE FROM queued_events WHERE account = $1 AND region = $2", *scope)
    events, ids = [], set()
    for topic, text in rows:
        payload = orjson.loads(text)
        ids.add(payload.pop("eventId"))
        assert payload.pop("timestamp") == int(world.clock.now.timestamp() * 1000)
        assert topic.startswith("$aws/events/")
        assert topic.endswith("/" + payload["operation"].lower())
        events.append(Queued(topic.removeprefix("$aws/events/"), payload))
    assert len(ids) == len(events)
    return events


# -- payloads -----------------------------------------------------------------------------------------------------


async def test_events_of_a_thing(world: World) -> None:
    await enable(world, "THING")
    made = await world.aws("CreateThing", thingName="lamp", attributePayload={"attributes": {"room": "attic"}})
    about = {
        "eventType": "THING_EVENT",
        "operation": "CREATED",
        "accountId": OURS.account,
        "thingId": made["thingId"],
        "thingName": "lamp",
        "versionNumber": 1,
        "thingTypeName": None,
        "attributes": {"room": "attic"},
    }
    assert await queued(world) == [("thing/lamp/created", about)]
    await world.aws("CreateThingType", thingTypeName="lamps")
    await world.aws("UpdateThing", thingName="lamp", thingTypeName="lamps", attributePayload={"attributes": {}})
    about |= {"operation": "UPDATED", "versionNumber": 2, "thingTypeName": "lamps", "attributes": {}}
    assert await queued(world) == [("thing/lamp/updated", about)]
    await world.aws("DeleteThing", thingName="lamp")
    assert await queued(world) == [("thing/lamp/deleted", about | {"operation": "DELETED"})]


async def test_events_of_a_thing_type(world: World) -> None:
    await enable(world, "THING_TYPE")
    properties = {"thingTypeDescription": "lights", "searchableAttributes": ["room"]}
    made = await world.aws("CreateThingType", thingTypeName="lamps", thingTypeProperties=properties)
    about = {
        "eventType": "THING_TYPE_EVENT",
        "operation": "CREATED",
        "accountId": OURS.account,
        "thingTypeId": made["thingTypeId"],
        "thingTypeName": "lamps",
        "isDeprecated": False,
        "deprecationDate": None,
        "searchableAttributes": ["room"],
        "propagatingAttributes": [],
        "description": "lights",
    }
    assert await queued(world) == [("thingType/lamps/created", about)]
    added = [{"userPropertyKey": "room", "thingAttribute": "room"}]
    changed = {"mqtt5Configuration": {"propagatingAttributes": added}}
    await world.aws("UpdateThingType", thingTypeName="lamps", thingTypeProperties=changed)
    about |= {"operation": "UPDATED", "propagatingAttributes": added}
    assert await queued(world) == [("thingType/lamps/updated", about)]
    for undo in (False, True, False):
        await world.aws("DeprecateThingType", thingTypeName="lamps", undoDeprecate=undo)
        since = None if undo else int(world.clock.now.timestamp() * 1000)
        about |= {"isDeprecated": not undo, "deprecationDate": since}
        assert await queued(world) == [("thingType/lamps/updated", about)]
    await world.aws("DeleteThingType", thingTypeName="lamps")
    assert await queued(world) == [("thingType/lamps/deleted", about | {"operation": "DELETED"})]


async def test_events_of_a_type_association(world: World) -> None:
    await enable(world, "THING_TYPE_ASSOCIATION")
    for type in ("a", "b"):
        await world.aws("CreateThingType", thingTypeName=type)
    made = await world.aws("CreateThing", thingName="t", thingTypeName="a")

    def event(type: str, operation: str) -> Queued:
        about = {"thingId": made["thingId"], "thingName": "t", "thingTypeName": type}
        topic = f"thingTypeAssociation/thing/t/thingType/{type}/{operation.lower()}"
        return Queued(topic, {"eventType": "THING_TYPE_ASSOCIATION_EVENT", "operation": operation, **about})

    assert await queued(world) == [event("a", "ADDED")]
    await world.aws("UpdateThing", thingName="t", thingTypeName="b")
    assert await queued(world) == [event("a", "REMOVED"), event("b", "ADDED")]
    await world.aws("UpdateThing", thingName="t", attributePayload={"attributes": {"a": "1"}})
    assert await queued(world) == []
    await world.aws("UpdateThing", thingName="t", removeThingType=True)
    assert await queued(world) == [event("b", "REMOVED")]
    await world.aws("UpdateThing", thingName="t", thingTypeName="b")
    await queued(world)
    await world.aws("DeleteThing", thingName="t")
    assert await queued(world) == [event("b", "REMOVED")]


async def test_events_of_a_thing_group(world: World) -> None:
    ids: dict[str, str] = {}
    for name, parent in (("root", {}), ("middle", {"parentGroupName": "root"})):
        ids[name] = (await world.aws("CreateThingGroup", thingGroupName=name, **parent))["thingGroupId"]
    await enable(world, "THING_GROUP")
    properties = {"thingGroupDescription": "d", "attributePayload": {"attributes": {"a": "1"}}}
    given = {"thingGroupName": "leaf", "parentGroupName": "middle", "thingGroupProperties": properties}
    made = await world.aws("CreateThingGroup", **given)
    about = {
        "eventType": "THING_GROUP_EVENT",
        "operation": "CREATED",
        "accountId": OURS.account,
        "thingGroupId": made["thingGroupId"],
        "thingGroupName": "leaf",
        "versionNumber": 1,
        "parentGroupName": "middle",
        "parentGroupId": ids["middle"],
        "description": "d",
        "rootToParentThingGroups": [
            {"groupArn": f"{ARN}thinggroup/{name}", "groupId": ids[name]} for name in ("root", "middle")
        ],
        "attributes": {"a": "1"},
        "dynamicGroupMappingId": None,
    }
    assert await queued(world) == [("thingGroup/leaf/created", about)]
    await world.aws("UpdateThingGroup", thingGroupName="leaf", thingGroupProperties={"thingGroupDescription": "e"})
    about |= {"operation": "UPDATED", "versionNumber": 2, "description": "e"}
    assert await queued(world) == [("thingGroup/leaf/updated", about)]
    await world.aws("DeleteThingGroup", thingGroupName="leaf")
    assert await queued(world) == [("thingGroup/leaf/deleted", about | {"operation": "DELETED"})]
    await world.aws("CreateThingGroup", thingGroupName="bare")
    ((_, bare),) = await queued(world)
    named = ("parentGroupName", "parentGroupId", "description", "rootToParentThingGroups", "attributes")
    assert [bare[name] for name in named] == [None, None, None, [], {}]


async def test_events_of_the_hierarchy(world: World) -> None:
    await enable(world, "THING_GROUP_HIERARCHY")
    parent = await world.aws("CreateThingGroup", thingGroupName="parent")
    child = await world.aws("CreateThingGroup", thingGroupName="child", parentGroupName="parent")
    about = {
        "eventType": "THING_GROUP_HIERARCHY_EVENT",
        "operation": "ADDED",
        "accountId": OURS.account,
        "thingGroupId": parent["thingGroupId"],
        "thingGroupName": "parent",
        "childGroupId": child["thingGroupId"],
        "childGroupName": "child",
    }
    topic = "thingGroupHierarchy/thingGroup/parent/childThingGroup/child"
    assert await queued(world) == [(f"{topic}/added", about)]
    await world.aws("UpdateThingGroup", thingGroupName="child", thingGroupProperties={"thingGroupDescription": "e"})
    assert await queued(world) == []
    for name in ("child", "parent"):
        await world.aws("DeleteThingGroup", thingGroupName=name)
    assert await queued(world) == [(f"{topic}/removed", about | {"operation": "REMOVED"})]


async def test_events_of_a_membership(world: World) -> None:
    await enable(world, "THING_GROUP_MEMBERSHIP")
    group = await world.aws("CreateThingGroup", thingGroupName="g")
    thing = await world.aws("CreateThing", thingName="t")
    member = {"thingGroupName": "g", "thingName": "t"}
    topic = "thingGroupMembership/thingGroup/g/thing/t"
    memberships = []
    for _ in range(2):
        await world.aws("AddThingToThingGroup", **member)
        ((added, begun),) = await queued(world)
        assert begun == {
            "eventType": "THING_GROUP_MEMBERSHIP_EVENT",
            "operation": "ADDED",
            "accountId": OURS.account,
            "groupArn": group["thingGroupArn"],
            "groupId": group["thingGroupId"],
            "thingArn": thing["thingArn"],
            "thingId": thing["thingId"],
            "membershipId": begun["membershipId"],
        }
        await world.aws("AddThingToThingGroup", **member)
        assert await queued(world) == [], "it is in the group already"
        world.clock.advance(seconds=1)
        await world.aws("RemoveThingFromThingGroup", **member)
        assert await queued(world) == [(f"{topic}/removed", begun | {"operation": "REMOVED"})]
        await world.aws("RemoveThingFromThingGroup", **member)
        assert (added, await queued(world)) == (f"{topic}/added", [])
        memberships.append(begun["membershipId"])
    assert memberships[0] != memberships[1]


async def test_deleting_a_thing_ends_its_type_and_memberships_first(world: World) -> None:
    await world.aws("CreateThingType", thingTypeName="lamps")
    await world.aws("CreateThing", thingName="t", thingTypeName="lamps")
    for name in ("g", "h"):
        await world.aws("CreateThingGroup", thingGroupName=name)
        await world.aws("AddThingToThingGroup", thingGroupName=name, thingName="t")
    await enable(world, *REGISTRY)
    await world.aws("DeleteThing", thingName="t")
    assert [event.topic for event in await queued(world)] == [
        "thingGroupMembership/thingGroup/g/thing/t/removed",
        "thingGroupMembership/thingGroup/h/thing/t/removed",
        "thingTypeAssociation/thing/t/thingType/lamps/removed",
        "thing/t/deleted",
    ]


async def test_a_template_makes_the_events_of_what_it_changes(world: World) -> None:
    await world.aws("CreateThingType", thingTypeName="lamps")
    await world.aws("CreateThingGroup", thingGroupName="g")
    await enable(world, *REGISTRY)

    async def register(attributes: dict[str, str]) -> list[str]:
        given = {"ThingName": "t", "ThingTypeName": "lamps", "ThingGroups": ["g"], "AttributePayload": attributes}
        overrides = {"AttributePayload": "REPLACE"}
        thing = {"Type": "AWS::IoT::Thing", "Properties": given, "OverrideSettings": overrides}
        await world.aws("RegisterThing", templateBody=json.dumps({"Resources": {"thing": thing}}))
        return [event.topic for event in await queued(world)]

    assert await register({"a": "1"}) == [
        "thing/t/created",
        "thingTypeAssociation/thing/t/thingType/lamps/added",
        "thingGroupMembership/thingGroup/g/thing/t/added",
    ]
    assert await register({"a": "2"}) == ["thing/t/updated"]
    assert await register({"a": "2"}) == []


# -- switches -----------------------------------------------------------------------------------------------------


async def change_everything(world: World, scope: Scope = OURS) -> None:
    """Changes that make events of each type."""
    await world.aws("CreateThingType", scope, thingTypeName="lamps")
    for name, parent in (("g", {}), ("h", {"parentGroupName": "g"})):
        await world.aws("CreateThingGroup", scope, thingGroupName=name, **parent)
    await world.aws("CreateThing", scope, thingName="t", thingTypeName="lamps")
    await world.aws("AddThingToThingGroup", scope, thingGroupName="g", thingName="t")


@pytest.mark.parametrize("enabled", [(), *((type,) for type in REGISTRY)])
async def test_only_enabled_types_are_published(world: World, enabled: tuple[str, ...]) -> None:
    await enable(world, *enabled)
    await change_everything(world)
    assert {event.payload["eventType"] for event in await queued(world)} == {f"{type}_EVENT" for type in enabled}


async def test_no_event_is_enabled_by_default(world: World) -> None:
    await change_everything(world)
    assert await world.count("queued_events") == 0


async def test_other_accounts_events_are_their_own(world: World) -> None:
    await enable(world, *REGISTRY, scope=THEIRS)
    await change_everything(world)
    assert await world.count("queued_events") == 0
    await change_everything(world, THEIRS)
    assert {event.payload.get("accountId", THEIRS.account) for event in await queued(world, THEIRS)} == {THEIRS.account}


async def test_a_type_that_is_not_enabled_costs_no_statement(world: World) -> None:
    await change_everything(world)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("UpdateThing", {"thingName": "t", "attributePayload": {"attributes": {"a": "1"}}}),
        ("RemoveThingFromThingGroup", {"thingGroupName": "g", "thingName": "t"}),
        ("DeleteThing", {"thingName": "t"}),
        ("DeleteThingGroup", {"thingGroupName": "h"}),
        ("CreateThing", {"thingName": "u"}),
    ]
    for operation, given in calls:
        world.store.statements.clear()
        await world.aws(operation, **given)
        read = [sql for sql in world.store.statements if "event" in sql or "thing_groups AS g" in sql]
        assert read == [], operation


async def test_an_account_with_events_is_announced_once_a_transaction(world: World) -> None:
    await enable(world, *REGISTRY)
    await world.published()
    await world.aws("CreateThingType", thingTypeName="lamps")
    await world.aws("CreateThing", thingName="t", thingTypeName="lamps")
    changes = await world.read(lambda tx: published_since(tx, from_micros(0)))
    assert [change.kind for change in changes].count("event") == 2


async def test_a_refused_call_publishes_nothing(world: World) -> None:
    await enable(world, *REGISTRY)
    await world.aws("CreateThing", thingName="t")
    await queued(world)
    for operation, given in (
        ("CreateThing", {"thingName": "t", "attributePayload": {"attributes": {"a": "1"}}}),
        ("UpdateThing", {"thingName": "t", "expectedVersion": 9, "removeThingType": True}),
        ("AddThingToThingGroup", {"thingGroupName": "g", "thingName": "t"}),
    ):
        with pytest.raises(DomainError):
            await world.aws(operation, **given)
    await world.aws("CreateThing", thingName="t")  # the same again
    assert await queued(world) == []


async def test_a_part_of_a_transaction_that_is_rolled_back_publishes_nothing(world: World) -> None:
    """As for a line of a bulk registration."""
    await enable(world, "THING")
    await world.published()
    change = world.change()

    def thing(name: str) -> Thing:
        return Thing.new(OURS, name, id=change.new_id(), type=None, attributes={}, now=world.clock())

    async def body(tx: Transaction) -> None:
        async def part(tx: Transaction) -> None:
            await create_thing(tx, change, thing("refused"))
            raise Invalid("line", "is refused")

        with pytest.raises(Invalid):
            await run_part(tx, part)
        await create_thing(tx, change, thing("kept"))

    await world.write(body)
    assert [event.topic for event in await queued(world)] == ["thing/kept/created"]
    assert [kind for kind, _ in await world.published()] == ["event"]


# -- large groups and imports -------------------------------------------------------------------------------------


async def test_deleting_a_large_group_ends_each_membership_in_bounded_steps(world: World) -> None:
    await world.aws("CreateThingGroup", thingGroupName="g")
    imports, count = Imports(world), 2 * DELETED_AT_ONCE + 1
    names = [f"t{number}" for number in range(count)]
    await enable(world, "THING_GROUP_MEMBERSHIP")
    for first in range(0, count, 100):
        some = names[first : first + 100]
        await imports.add(*(thing_item(name) for name in some))
        await imports.add({"kind": "members", "region": OURS.region, "group": "g", "things": some})
    begun = {event.payload["membershipId"] for event in await queued(world)}
    await world.aws("DeleteThingGroup", thingGroupName="g")
    assert await world.count("queued_events") == DELETED_AT_ONCE
    await enable(world)  # the account had events enabled when it deleted the group
    await JobRunner(world.store, world.clock).run_due()
    ended = await queued(world)
    assert {event.payload["operation"] for event in ended} == {"REMOVED"}
    assert sorted(event.topic for event in ended) == sorted(
        f"thingGroupMembership/thingGroup/g/thing/{name}/removed" for name in names
    )
    assert {event.payload["membershipId"] for event in ended} == begun
    assert await world.count("thing_group_members") == await world.count("jobs") == 0


async def test_an_import_makes_the_events_of_what_it_adds(world: World) -> None:
    await enable(world, *REGISTRY)
    type = {"kind": "thing_type", "region": OURS.region, "name": "lamps", "created_at": group_item()["created_at"]}
    items = [
        {**type, "searchable_attributes": [], "tags": {}},
        thing_item("t", "lamps"),
        group_item("g"),
        group_item("h", "g"),
        {"kind": "members", "region": OURS.region, "group": "g", "things": ["t"]},
    ]
    imports = Imports(world)

    async def add_all(*, dry_run: bool = False) -> list[str]:
        for item in items:
            await imports.add(item, dry_run=dry_run)
        return [event.topic for event in await queued(world)]

    assert await add_all(dry_run=True) == []
    assert await add_all() == [
        "thingType/lamps/created",
        "thing/t/created",
        "thingTypeAssociation/thing/t/thingType/lamps/added",
        "thingGroup/g/created",
        "thingGroup/h/created",
        "thingGroupHierarchy/thingGroup/g/childThingGroup/h/added",
        "thingGroupMembership/thingGroup/g/thing/t/added",
    ]
    assert await add_all() == [], "everything is there already"


# -- completeness -------------------------------------------------------------------------------------------------


class Mirror:
    """A copy of the registry, made of events alone."""

    def __init__(self) -> None:
        self.things: dict[str, Any] = {}
        self.types: dict[str, Any] = {}
        self.groups: dict[str, Any] = {}
        self.type_of: dict[str, str] = {}
        self.members: dict[tuple[str, str], str] = {}
        self.parents: dict[str, str] = {}

    def apply(self, event: Queued) -> None:
        facts, operation = event.payload, event.payload["operation"]
        about: tuple[Any, ...]
        match facts["eventType"]:
            case "THING_EVENT":
                about = (facts["thingId"], facts["versionNumber"], facts["thingTypeName"], facts["attributes"])
                _follow(self.things, facts["thingName"], operation, about)
            case "THING_TYPE_EVENT":
                about = (facts["thingTypeId"], facts["description"], facts["searchableAttributes"])
                _follow(self.types, facts["thingTypeName"], operation, (*about, facts["isDeprecated"]))
            case "THING_GROUP_EVENT":
                above = [each["groupArn"].rpartition("/")[2] for each in facts["rootToParentThingGroups"]]
                about = (facts["thingGroupId"], facts["versionNumber"], facts["description"], facts["attributes"])
                _follow(self.groups, facts["thingGroupName"], operation, (*about, "/".join(above)))
            case "THING_TYPE_ASSOCIATION_EVENT":
                _follow(self.type_of, facts["thingName"], operation, facts["thingTypeName"])
            case "THING_GROUP_MEMBERSHIP_EVENT":
                _follow(self.members, (facts["groupId"], facts["thingId"]), operation, facts["membershipId"])
            case "THING_GROUP_HIERARCHY_EVENT":
                _follow(self.parents, facts["childGroupName"], operation, facts["thingGroupName"])

    async def check(self, world: World, after: str) -> None:
        """Fails unless the copy is the registry."""
        things = await world.rows("SELECT name, id, version, type, attributes FROM things")
        ids = {name: _uuid(id) for name, id, *_ in things}
        assert self.things == {
            name: (ids[name], version, type, orjson.loads(attributes)) for name, _, version, type, attributes in things
        }, after
        assert self.type_of == {name: type for name, _, _, type, _ in things if type is not None}, after
        types = await world.rows("SELECT name, id, description, searchable_attributes, deprecated_at FROM thing_types")
        assert self.types == {
            name: (id, description, orjson.loads(searchable), deprecated_at is not None)
            for name, id, description, searchable, deprecated_at in types
        }, after
        groups = await world.rows("SELECT name, id, version, description, attributes, path, parent FROM thing_groups")
        assert self.groups == {
            name: (id, version, description, orjson.loads(attributes), path.rpartition("/")[0])
            for name, id, version, description, attributes, path, _ in groups
        }, after
        assert self.parents == {name: parent for name, *_, parent in groups if parent is not None}, after
        members = await world.rows("SELECT thing_group, thing FROM thing_group_members")
        assert self.members.keys() == {(group, ids[thing]) for group, thing in members}, after


def _follow(copy: dict[Any, Any], key: Any, operation: str, value: Any) -> None:
    if operation in ("DELETED", "REMOVED"):
        assert copy.pop(key) == value, "the last event tells what was there"
    elif operation == "UPDATED":
        assert copy[key] != value
        copy[key] = value
    else:
        assert copy.setdefault(key, value) is value


def _uuid(content: bytes) -> str:
    digits = content.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


_THING_OF_TEMPLATE = {
    "Type": "AWS::IoT::Thing",
    "Properties": {"ThingName": "u", "ThingTypeName": "b", "ThingGroups": ["side"], "AttributePayload": {"x": "1"}},
    "OverrideSettings": {"AttributePayload": "MERGE", "ThingTypeName": "REPLACE", "ThingGroups": "REPLACE"},
}
_CALLS: list[tuple[str, dict[str, Any]]] = [
    ("CreateThingType", {"thingTypeName": "a", "thingTypeProperties": {"thingTypeDescription": "d"}}),
    ("CreateThingType", {"thingTypeName": "b"}),
    ("UpdateThingType", {"thingTypeName": "b", "thingTypeProperties": {"searchableAttributes": ["x"]}}),
    ("CreateThing", {"thingName": "t", "thingTypeName": "a", "attributePayload": {"attributes": {"x": "1"}}}),
    ("CreateThing", {"thingName": "t", "thingTypeName": "a", "attributePayload": {"attributes": {"x": "1"}}}),
    ("CreateThing", {"thingName": "u"}),
    ("UpdateThing", {"thingName": "t", "thingTypeName": "b"}),
    ("UpdateThing", {"thingName": "t", "attributePayload": {"attributes": {"y": "2"}, "merge": True}}),
    ("UpdateThing", {"thingName": "t", "attributePayload": {"attributes": {"y": "2"}, "merge": True}}),
    ("CreateThingGroup", {"thingGroupName": "root"}),
    ("CreateThingGroup", {"thingGroupName": "leaf", "parentGroupName": "root"}),
    ("CreateThingGroup", {"thingGroupName": "side"}),
    ("UpdateThingGroup", {"thingGroupName": "leaf", "thingGroupProperties": {"thingGroupDescription": "d"}}),
    ("AddThingToThingGroup", {"thingGroupName": "leaf", "thingName": "t"}),
    ("UpdateThingGroupsForThing", {"thingName": "t", "thingGroupsToRemove": ["leaf"], "thingGroupsToAdd": ["root"]}),
    ("UpdateThingGroupsForThing", {"thingName": "t", "thingGroupsToAdd": ["root", "side"]}),
    ("UpdateThingGroupsForThing", {"thingName": "u", "thingGroupsToAdd": ["leaf"]}),
    ("RemoveThingFromThingGroup", {"thingGroupName": "side", "thingName": "t"}),
    ("RegisterThing", {"templateBody": json.dumps({"Resources": {"thing": _THING_OF_TEMPLATE}})}),
    ("DeprecateThingType", {"thingTypeName": "a"}),
    ("DeprecateThingType", {"thingTypeName": "a", "undoDeprecate": True}),
    ("DeprecateThingType", {"thingTypeName": "a"}),
    ("DeleteThingType", {"thingTypeName": "a"}),
    ("DeleteThingGroup", {"thingGroupName": "leaf"}),
    ("DeleteThingGroup", {"thingGroupName": "root"}),
    ("DeleteThing", {"thingName": "u"}),
    ("UpdateThing", {"thingName": "t", "removeThingType": True}),
    ("DeleteThing", {"thingName": "t"}),
    ("DeleteThing", {"thingName": "t"}),
]


async def test_events_alone_make_a_copy_of_the_registry(world: World) -> None:
    await enable(world, *REGISTRY)
    mirror = Mirror()
    for operation, given in _CALLS:
        world.clock.now += timedelta(seconds=1)
        await world.aws(operation, **given)
        for event in await queued(world):
            mirror.apply(event)
        await mirror.check(world, f"{operation} {given}")
    assert (mirror.things, mirror.members) == ({}, {})


def test_each_operation_that_changes_the_registry_is_called() -> None:
    nouns = ("things", "thing_types", "thing_groups")
    writing = {name for name, each in OPERATIONS.items() if each.writes and _module(each.apply) in nouns}
    assert writing | {"RegisterThing"} == {operation for operation, _ in _CALLS}


def _module(function: Any) -> str:
    return str(function.__module__).rpartition(".")[2]


def test_only_the_nouns_own_files_change_the_registry() -> None:
    """In each of these files, the functions that write also queue the events."""
    source = Path(thingmint.__file__).parent
    tables = r"(things|thing_types|thing_groups|thing_group_members)\b"
    writing = re.compile(
        rf"(THINGS|THING_TYPES|THING_GROUPS|MEMBERS)\.(insert|update|delete)|(INSERT INTO|UPDATE|DELETE FROM) {tables}"
    )
    found = {file.relative_to(source).as_posix() for file in source.rglob("*.py") if writing.search(file.read_text())}
    assert found == {
        "services/billing_groups.py",  # of which no event tells
        "services/bulk_things.py",
        "services/thing_group_members.py",
        "services/thing_groups.py",
        "services/thing_types.py",
        "services/things.py",
    }
