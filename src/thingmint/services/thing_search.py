"""The index AWS_Things: what a search reads of things, and the indexes along which it finds them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import orjson

from thingmint.domain.search_conditions import All, Either, Not, Present, Range, Term, fold
from thingmint.domain.search_query import ATTRIBUTES
from thingmint.services.search_sources import (
    ConnectedSource,
    EndedSource,
    Folded,
    FoldedLabels,
    FoldedRows,
    IndexSource,
    NamedRows,
    Names,
    OneLabel,
    ValueRows,
)
from thingmint.store.key_lists import KeyList
from thingmint.store.table import to_micros, uuid_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from thingmint.domain.search_conditions import Condition, Matcher
    from thingmint.services.change import Query
    from thingmint.services.messages import Connectivity, Messages
    from thingmint.services.search_sources import Candidate, Labels, Rows, Source
    from thingmint.store.engine import Row, Store

_NAME, _TYPE, _GROUPS, _ID = "thingName", "thingTypeName", "thingGroupNames", "thingId"
_CONNECTED, _SINCE, _REASON = "connectivity.connected", "connectivity.timestamp", "connectivity.disconnectReason"

FIELDS: Mapping[str, str] = {
    **{field: field for field in (_NAME, _TYPE, _GROUPS, _ID, _CONNECTED, _SINCE, _REASON)},
    "thingType": _TYPE,  # in an example of AWS's guide
    "registry.thingTypeName": _TYPE,
    "registry.thingGroupNames": _GROUPS,
}

_COLUMNS = "SELECT name, id, type, attributes, billing_group FROM things"
_EVERYTHING = NamedRows(_COLUMNS, "name")
_BY_NAME = KeyList(f"{_COLUMNS} WHERE account = $101 AND region = $102 AND name IN ({{keys}})")
_MEMBERSHIPS = KeyList(
    "SELECT m.thing, g.name FROM thing_group_members AS m JOIN thing_groups AS g "
    "ON g.account = m.account AND g.region = m.region AND g.id = m.thing_group "
    "WHERE m.account = $101 AND m.region = $102 AND m.thing IN ({keys})"
)
_BILLING_GROUPS = KeyList(
    "SELECT id, name FROM billing_groups WHERE account = $101 AND region = $102 AND id IN ({keys})"
)
_NAMES_WITH_CAPITALS = Folded("things", "name", "name", where="AND name <> lower(name) ")
_VALUES_WITH_CAPITALS = Folded("thing_attributes", "value", "thing", where="AND name = $6 AND value <> lower(value) ")
_TYPES = Folded("thing_types", "name", "name")
_THING_GROUPS = Folded("thing_groups", "name", "name", further=", id")
_BILLING = Folded("billing_groups", "name", "name", further=", id")


class FoundThing:
    """A thing as a search reads it. Groups and connectivity are empty until they are read."""

    __slots__ = (
        *("_attributes", "_json", "billing_group", "billing_id", "connectivity"),
        *("groups", "id", "name", "size", "type"),
    )

    def __init__(self, row: Row) -> None:
        self.name: str
        self.type: str | None
        self.name, id, self.type, self._json, self.billing_id = row
        self.id = uuid_text(id)
        self.size = len(self._json)
        self.groups: Sequence[str] = ()
        self.billing_group: str | None = None
        self.connectivity: Connectivity | None = None
        self._attributes: Mapping[str, str] | None = None

    @property
    def attributes(self) -> Mapping[str, str]:
        if self._attributes is None:
            self._attributes = orjson.loads(self._json)
        return self._attributes

    @property
    def all_groups(self) -> list[str]:
        """Its thing groups and its billing group."""
        return [*self.groups, *((self.billing_group,) if self.billing_group is not None else ())]

    def values(self, field: str | None) -> Sequence[str]:
        if field is None:
            texts = [self.name, *filter(None, (self.type,)), *self.all_groups, *self.attributes.values()]
            return [text.lower() for text in texts]
        if field.startswith(ATTRIBUTES):
            value = self.attributes.get(field[len(ATTRIBUTES) :])
            return () if value is None else (value.lower(),)
        match field:
            case "thingName":
                return (self.name.lower(),)
            case "thingTypeName":
                return () if self.type is None else (self.type.lower(),)
            case "thingGroupNames":
                return [name.lower() for name in self.all_groups]
            case "thingId":
                return (self.id,)
        return self._connectivity_values(field)

    def _connectivity_values(self, field: str) -> Sequence[str]:
        state = self.connectivity
        if field == _CONNECTED:
            return ("true" if state is not None and state.connected else "false",)
        if state is None:
            return ()
        if field == _SINCE:
            return (str(to_micros(state.since) // 1000),)
        return () if state.reason is None else (fold(state.reason),)


class ThingIndex:
    """A SearchedIndex."""

    name = "AWS_Things"

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self.everything: Source[FoundThing] = IndexSource(OneLabel(), _EVERYTHING, lambda _: "", 9, whole_rows=True)

    def sources(self, term: Term) -> list[Source[FoundThing]] | None:
        matcher, field = term.matcher, term.field
        if field is None:
            return [*_by_name(matcher), *_by_type(matcher), *_by_group(matcher), *_by_attribute(matcher)]
        if field.startswith(ATTRIBUTES):
            return _by_attribute(matcher, field[len(ATTRIBUTES) :])
        match field:
            case "thingName":
                return None if isinstance(matcher, Present) else _by_name(matcher)
            case "thingTypeName":
                return _by_type(matcher)
            case "thingGroupNames":
                return _by_group(matcher)
            case "thingId":
                return None
        connected: Source[FoundThing] = ConnectedSource(self._messages, _label_of_connected, 3)
        ended: Source[FoundThing] = EndedSource(self._messages, _label_of_ended, 3)
        if field == _REASON:
            return [ended]
        if field == _SINCE:
            return [ended, connected]
        return None if matcher.matches("false") else [connected]

    async def load(
        self, store: Store, query: Query, candidates: Sequence[Candidate], condition: Condition
    ) -> Mapping[str, FoundThing]:
        names = [candidate.name for candidate in candidates]
        rows = [candidate.row for candidate in candidates if candidate.row is not None]
        if not rows and names:
            rows = await _BY_NAME.fetch(store, names, *query.scope)
        things = {row[0]: FoundThing(row) for row in rows}
        fields = set(_fields(condition))
        if fields & {None, _GROUPS}:
            await read_groups(store, query, things)
        if fields & {_CONNECTED, _SINCE, _REASON}:
            await read_connectivity(query, things)
        return things


async def read_groups(store: Store, query: Query, things: Mapping[str, FoundThing]) -> None:
    """Read the thing groups and billing groups of things."""
    if not things:
        return
    groups: dict[str, list[str]] = {}
    for thing, group in await _MEMBERSHIPS.fetch(store, list(things), *query.scope):
        groups.setdefault(thing, []).append(group)
    ids = sorted({thing.billing_id for thing in things.values() if thing.billing_id is not None})
    billing: dict[str | None, str] = {row[0]: row[1] for row in await _BILLING_GROUPS.fetch(store, ids, *query.scope)}
    for name, thing in things.items():
        thing.groups = sorted(groups.get(name, ()))
        thing.billing_group = billing.get(thing.billing_id)


async def read_connectivity(query: Query, things: Mapping[str, FoundThing]) -> None:
    """Read whether things are connected. The client of a thing has its name as client id."""
    for name, state in (await query.environment.messages.connectivity(query.scope, list(things))).items():
        things[name].connectivity = state


def _fields(condition: Condition) -> Iterator[str | None]:
    match condition:
        case Term():
            yield condition.field
        case Not():
            yield from _fields(condition.condition)
        case All() | Either():
            for each in condition.conditions:
                yield from _fields(each)


def _rank(matcher: Matcher) -> int:
    low, high = matcher.bounds
    return 0 if low == high else 2 if low or isinstance(matcher, Range) else 5


def _by_name(matcher: Matcher) -> list[Source[FoundThing]]:
    low, high = matcher.bounds

    def label_of(thing: FoundThing, *, capitals: bool) -> str | None:
        folded = thing.name.lower()
        return "" if (folded != thing.name) is capitals and matcher.matches(folded) else None

    def source(rows: Rows, *, capitals: bool) -> Source[FoundThing]:
        return IndexSource(OneLabel(), rows, partial(label_of, capitals=capitals), _rank(matcher))

    return [
        source(NamedRows("SELECT name FROM things", "name", low, high), capitals=False),
        source(FoldedRows(_NAMES_WITH_CAPITALS, low, high), capitals=True),
    ]


def _by_type(matcher: Matcher) -> list[Source[FoundThing]]:
    def label_of(thing: FoundThing) -> str | None:
        return thing.type if thing.type is not None and matcher.matches(thing.type.lower()) else None

    rows = NamedRows("SELECT name FROM things", "name", where="AND type = $6 ")
    return [IndexSource(FoldedLabels(_TYPES, *matcher.bounds), rows, label_of, 3 + _rank(matcher))]


def _by_group(matcher: Matcher) -> list[Source[FoundThing]]:
    def label_of(thing: FoundThing) -> str | None:
        return min((name for name in thing.groups if matcher.matches(name.lower())), default=None)

    def billing_label_of(thing: FoundThing) -> str | None:
        name = thing.billing_group
        return name if name is not None and matcher.matches(name.lower()) else None

    members = NamedRows("SELECT thing FROM thing_group_members", "thing", where="AND thing_group = $6 ")
    billed = NamedRows("SELECT name FROM things", "name", where="AND billing_group = $6 ")
    rank = 1 + _rank(matcher)
    return [
        IndexSource(FoldedLabels(_THING_GROUPS, *matcher.bounds), members, label_of, rank),
        IndexSource(FoldedLabels(_BILLING, *matcher.bounds), billed, billing_label_of, rank),
    ]


def _by_attribute(matcher: Matcher, attribute: str | None = None) -> list[Source[FoundThing]]:
    """Sources of the things with an attribute that matches, or with any attribute that matches."""
    low, high = matcher.bounds

    def matching(name: str, value: str, *, capitals: bool) -> bool:
        folded = value.lower()
        return attribute in (None, name) and (folded != value) is capitals and matcher.matches(folded)

    def label_of(thing: FoundThing, *, capitals: bool) -> str | None:
        attributes = thing.attributes.items()
        return min((name for name, value in attributes if matching(name, value, capitals=capitals)), default=None)

    def source(rows: Rows, *, capitals: bool) -> Source[FoundThing]:
        labels: Labels = Names("thing_attributes", "name") if attribute is None else OneLabel(attribute)
        return IndexSource(labels, rows, partial(label_of, capitals=capitals), _rank(matcher))

    return [
        source(ValueRows(low, high), capitals=False),
        source(FoldedRows(_VALUES_WITH_CAPITALS, low, high, takes_label=True), capitals=True),
    ]


def _label_of_connected(thing: FoundThing) -> str | None:
    return "" if thing.connectivity is not None and thing.connectivity.connected else None


def _label_of_ended(thing: FoundThing) -> str | None:
    return "" if thing.connectivity is not None and not thing.connectivity.connected else None
