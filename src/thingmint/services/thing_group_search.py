"""The index AWS_ThingGroups: what a search reads of thing groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from thingmint.domain.search_conditions import fold
from thingmint.domain.search_query import ATTRIBUTES
from thingmint.services.search_sources import Folded, FoldedRows, IndexSource, NamedRows, OneLabel
from thingmint.store.key_lists import KeyList

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.domain.search_conditions import Condition, Term
    from thingmint.services.change import Query
    from thingmint.services.search_sources import Candidate, Source
    from thingmint.store.engine import Row, Store

_NAME, _ID, _DESCRIPTION, _PARENTS = "thingGroupName", "thingGroupId", "thingGroupDescription", "parentGroupNames"

FIELDS: Mapping[str, str] = {
    **{field: field for field in (_NAME, _ID, _DESCRIPTION, _PARENTS)},
    "thingGroupNames": _NAME,  # in the examples of AWS's guide
    "description": _DESCRIPTION,  # the name of the managed field
}

_COLUMNS = "SELECT name, id, path, description, attributes FROM thing_groups"
_BY_NAME = KeyList(f"{_COLUMNS} WHERE account = $101 AND region = $102 AND name IN ({{keys}})")
_NAMES = Folded("thing_groups", "name", "name")


class FoundGroup:
    """A thing group as a search reads it. ``parents`` are the groups above it, from the root."""

    __slots__ = ("attributes", "description", "id", "name", "parents", "size")

    def __init__(self, row: Row) -> None:
        self.name: str
        self.name, self.id, path, self.description, attributes = row
        self.parents: Sequence[str] = path.split("/")[:-1]
        self.attributes: Mapping[str, str] = orjson.loads(attributes)
        self.size = len(attributes) + len(self.description or "")

    def values(self, field: str | None) -> Sequence[str]:
        described = () if self.description is None else (self.description,)
        if field is None:
            texts: Sequence[str] = (self.name, *described, *self.parents, *self.attributes.values())
        elif field.startswith(ATTRIBUTES):
            value = self.attributes.get(field[len(ATTRIBUTES) :])
            texts = () if value is None else (value,)
        else:
            of_field = {_NAME: (self.name,), _ID: (self.id,), _DESCRIPTION: described, _PARENTS: self.parents}
            texts = of_field[field]
        return [fold(text) for text in texts]


class ThingGroupIndex:
    """A SearchedIndex."""

    name = "AWS_ThingGroups"

    def __init__(self) -> None:
        rows = NamedRows(_COLUMNS, "name")
        self.everything: Source[FoundGroup] = IndexSource(OneLabel(), rows, lambda _: "", 9, whole_rows=True)

    def sources(self, term: Term) -> list[Source[FoundGroup]] | None:
        if term.field != _NAME:
            return None

        def label_of(group: FoundGroup) -> str | None:
            return "" if term.matches(group) else None

        return [IndexSource(OneLabel(), FoldedRows(_NAMES, *term.matcher.bounds), label_of, 0)]

    async def load(
        self, store: Store, query: Query, candidates: Sequence[Candidate], condition: Condition
    ) -> Mapping[str, FoundGroup]:
        del condition
        rows = [candidate.row for candidate in candidates if candidate.row is not None]
        if not rows:
            rows = await _BY_NAME.fetch(store, [candidate.name for candidate in candidates], *query.scope)
        return {row[0]: FoundGroup(row) for row in rows}
