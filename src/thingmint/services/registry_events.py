"""Registry events: AWS IoT's messages about changes of things, thing types and thing groups.

Topics and payloads are those of AWS's guide, "Registry events". Services call these functions in the transaction of the
change, with the state before and after it. A type of events that the account has not enabled costs a look into memory.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

from thingmint.domain.arns import Scope, arn
from thingmint.services.event_queue import Event, queue_events

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from thingmint.services.change import Change
    from thingmint.services.event_configurations import EventType
    from thingmint.store.engine import Transaction


T = TypeVar("T")

_MEMBERSHIPS: Final = uuid.UUID("3d1c6f0e-52b7-4c55-9d5b-6a0f8b1f7a2e")
"""The namespace of the ids of memberships (RFC 9562 5.5)."""


class Thing(Protocol):
    @property
    def scope(self) -> Scope: ...
    @property
    def name(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def type(self) -> str | None: ...
    @property
    def attributes(self) -> Mapping[str, str]: ...
    @property
    def version(self) -> int: ...


class ThingType(Protocol):
    @property
    def scope(self) -> Scope: ...
    @property
    def name(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def description(self) -> str | None: ...
    @property
    def searchable(self) -> Sequence[str]: ...
    @property
    def deprecated_at(self) -> datetime | None: ...
    @property
    def propagating(self) -> Sequence[Mapping[str, str]] | None: ...


class ThingGroup(Protocol):
    @property
    def scope(self) -> Scope: ...
    @property
    def name(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def parent(self) -> str | None: ...
    @property
    def description(self) -> str | None: ...
    @property
    def attributes(self) -> Mapping[str, str]: ...
    @property
    def version(self) -> int: ...


class Membership(NamedTuple):
    """A thing in a group since ``added_at``, in microseconds since 1970. ``group`` and ``thing`` are names."""

    group: str
    group_id: str
    thing: str
    thing_id: str
    added_at: int

    @property
    def id(self) -> str:
        """The same for the events of its beginning and its end, and another one if the thing joins the group again."""
        return str(uuid.uuid5(_MEMBERSHIPS, f"{self.group_id} {self.thing_id} {self.added_at}"))


async def publishes(tx: Transaction, change: Change, *types: EventType) -> bool:
    """True if the account publishes events of one of the types: then the caller has to read what they tell."""
    return not (await change.environment.events.within(tx, change.scope)).isdisjoint(types)


async def thing_changed(tx: Transaction, change: Change, before: Thing | None, after: Thing | None) -> None:
    """Queue the events of a thing that was created (``before`` is None), changed or deleted (``after`` is None)."""
    await things_changed(tx, change, [(before, after)])


async def things_changed(tx: Transaction, change: Change, changed: Iterable[tuple[Thing | None, Thing | None]]) -> None:
    """Do the same for several things."""
    enabled = await change.environment.events.within(tx, change.scope)
    if enabled.isdisjoint(("THING", "THING_TYPE_ASSOCIATION")):
        return
    events: list[Event] = []
    for before, after in changed:
        if after is None and "THING_TYPE_ASSOCIATION" in enabled:
            events += _associations(before, after)
        if "THING" in enabled:
            events.append(_of_thing(before, after))
        if after is not None and "THING_TYPE_ASSOCIATION" in enabled:
            events += _associations(before, after)
    await queue_events(tx, change.scope, events, change.now)


async def thing_type_changed(
    tx: Transaction, change: Change, before: ThingType | None, after: ThingType | None
) -> None:
    """Queue the event of a thing type that was created, changed or deleted."""
    if not await publishes(tx, change, "THING_TYPE"):
        return
    type = _present(before, after)
    deprecated_at = type.deprecated_at
    facts = {
        "accountId": type.scope.account,
        "thingTypeId": type.id,
        "thingTypeName": type.name,
        "isDeprecated": deprecated_at is not None,
        "deprecationDate": None if deprecated_at is None else int(deprecated_at.timestamp() * 1000),
        "searchableAttributes": type.searchable,
        "propagatingAttributes": type.propagating or (),
        "description": type.description,
    }
    operation = _operation(before, after)
    event = Event(f"thingType/{type.name}/{operation.lower()}", "THING_TYPE_EVENT", operation, facts)
    await queue_events(tx, change.scope, [event], change.now)


async def thing_group_changed(
    tx: Transaction,
    change: Change,
    before: ThingGroup | None,
    after: ThingGroup | None,
    above: Sequence[tuple[str, str]],
) -> None:
    """Queue the events of a group that was created, changed or deleted.

    ``above`` are the names and ids of the groups that contain it, from the root to its parent.
    """
    enabled = await change.environment.events.within(tx, change.scope)
    events = []
    if "THING_GROUP_HIERARCHY" in enabled and above and before is not None and after is None:
        events.append(_in_hierarchy(before, above[-1], "REMOVED"))
    if "THING_GROUP" in enabled:
        events.append(_of_group(before, after, above))
    if "THING_GROUP_HIERARCHY" in enabled and above and before is None and after is not None:
        events.append(_in_hierarchy(after, above[-1], "ADDED"))
    await queue_events(tx, change.scope, events, change.now)


async def queue_members(
    tx: Transaction, scope: Scope, operation: str, members: Iterable[Membership], now: datetime
) -> None:
    """Queue the events of memberships that began (``ADDED``) or ended (``REMOVED``).

    The caller has asked ``publishes`` for THING_GROUP_MEMBERSHIP, as memberships have to be read for this.
    """
    await queue_events(tx, scope, (_of_member(scope, each, operation) for each in members), now)


def _of_thing(before: Thing | None, after: Thing | None) -> Event:
    thing, operation = _present(before, after), _operation(before, after)
    facts = {
        "accountId": thing.scope.account,
        "thingId": thing.id,
        "thingName": thing.name,
        "versionNumber": thing.version,
        "thingTypeName": thing.type,
        "attributes": thing.attributes,
    }
    return Event(f"thing/{thing.name}/{operation.lower()}", "THING_EVENT", operation, facts)


def _associations(before: Thing | None, after: Thing | None) -> Iterator[Event]:
    thing = _present(before, after)
    former, new = (None if each is None else each.type for each in (before, after))
    if former != new:
        for type, operation in ((former, "REMOVED"), (new, "ADDED")):
            if type is not None:
                topic = f"thingTypeAssociation/thing/{thing.name}/thingType/{type}/{operation.lower()}"
                facts = {"thingId": thing.id, "thingName": thing.name, "thingTypeName": type}
                yield Event(topic, "THING_TYPE_ASSOCIATION_EVENT", operation, facts)


def _of_group(before: ThingGroup | None, after: ThingGroup | None, above: Sequence[tuple[str, str]]) -> Event:
    group, operation = _present(before, after), _operation(before, after)
    facts = {
        "accountId": group.scope.account,
        "thingGroupId": group.id,
        "thingGroupName": group.name,
        "versionNumber": group.version,
        "parentGroupName": group.parent,
        "parentGroupId": above[-1][1] if above else None,
        "description": group.description,
        "rootToParentThingGroups": [{"groupArn": _group_arn(group.scope, name), "groupId": id} for name, id in above],
        "attributes": group.attributes,
        "dynamicGroupMappingId": None,
    }
    return Event(f"thingGroup/{group.name}/{operation.lower()}", "THING_GROUP_EVENT", operation, facts)


def _in_hierarchy(child: ThingGroup, parent: tuple[str, str], operation: str) -> Event:
    name, id = parent
    facts = {
        "accountId": child.scope.account,
        "thingGroupId": id,
        "thingGroupName": name,
        "childGroupId": child.id,
        "childGroupName": child.name,
    }
    topic = f"thingGroupHierarchy/thingGroup/{name}/childThingGroup/{child.name}/{operation.lower()}"
    return Event(topic, "THING_GROUP_HIERARCHY_EVENT", operation, facts)


def _of_member(scope: Scope, member: Membership, operation: str) -> Event:
    facts = {
        "accountId": scope.account,
        "groupArn": _group_arn(scope, member.group),
        "groupId": member.group_id,
        "thingArn": arn(scope, f"thing/{member.thing}"),
        "thingId": member.thing_id,
        "membershipId": member.id,
    }
    topic = f"thingGroupMembership/thingGroup/{member.group}/thing/{member.thing}/{operation.lower()}"
    return Event(topic, "THING_GROUP_MEMBERSHIP_EVENT", operation, facts)


def _group_arn(scope: Scope, name: str) -> str:
    return arn(scope, f"thinggroup/{name}")


def _present(before: T | None, after: T | None) -> T:
    """Return the latest state."""
    present = before if after is None else after
    assert present is not None, "there is a state before or after"
    return present


def _operation(before: Any, after: Any) -> str:
    if before is None:
        return "CREATED"
    return "DELETED" if after is None else "UPDATED"
