"""The members of objects as trees, and JSON to start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.console.playground.schemas import Schemas

_DEPTH: Final = 6
_MAX_NODES: Final = 300
_SAMPLES: Final = {"integer": 0, "number": 0, "boolean": False}


@dataclass(frozen=True, slots=True)
class Node:
    """A member of an object. ``note`` says why its own members are not in the tree."""

    name: str
    type: str
    limits: tuple[str, ...]
    choices: tuple[str, ...]
    description: str
    required: bool
    is_secret: bool
    children: tuple[Node, ...]
    note: str = ""


def tree_of(schemas: Schemas, schema: Mapping[str, Any]) -> tuple[Node, ...]:
    """The members of an object, of a list's objects or of a map's objects; nothing for other schemas."""
    return _Trees(schemas).children(schema, ())


def sample_of(schemas: Schemas, schema: Mapping[str, Any], depth: int = 3) -> Any:
    """A value of the schema's shape with the required members, or with all if none is required."""
    found = schemas.resolved(schema)
    if "default" in found:
        return found["default"]
    if "enum" in found:
        return found["enum"][0]
    kind = found.get("type")
    if kind == "array":
        return [sample_of(schemas, found.get("items", {}), depth - 1)] if depth else []
    members = schemas.members(found)
    if members is not None:
        needed = [each for each in members if each[2]] or members
        return {name: sample_of(schemas, each, depth - 1) for name, each, _, _ in needed} if depth else {}
    if isinstance(found.get("additionalProperties"), dict):
        return {"name": sample_of(schemas, found["additionalProperties"], depth - 1)} if depth else {}
    if kind == "object":
        return {}
    return _SAMPLES.get(kind, "") if isinstance(kind, str) else ""


class _Trees:
    """Makes trees. Their number of nodes is bounded, as schemas may contain themselves."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._left = _MAX_NODES

    def children(self, schema: Mapping[str, Any], above: tuple[str, ...]) -> tuple[Node, ...]:
        found, above = self._inner(schema, above)
        members = self._schemas.members(found) or []
        nodes = []
        for name, member, required, limits in members:
            self._left -= 1
            if self._left >= 0:
                nodes.append(self._node(name, member, required, tuple(limits), above))
        return tuple(nodes)

    def _node(
        self, name: str, schema: Mapping[str, Any], required: bool, limits: tuple[str, ...], above: tuple[str, ...]
    ) -> Node:
        found = self._schemas.resolved(schema)
        words = self._schemas.words(found)
        inner, further = self._inner(schema, above)
        has_members = bool(self._schemas.members(inner))
        is_repeated = has_members and len(set(further)) < len(further)
        is_deep = len(further) >= _DEPTH or self._left <= 0
        note = ("the same members as above" if is_repeated else "has further members") if has_members else ""
        children = () if is_repeated or is_deep or not has_members else self.children(schema, above)
        pattern = (f"matches {words.pattern}",) if words.pattern is not None else ()
        return Node(
            name=name,
            type=words.type,
            limits=(*words.limits, *pattern, *limits),
            choices=tuple(found.get("enum", ())),
            description=found.get("description", ""),
            required=required,
            is_secret=bool(found.get("x-sensitive")),
            children=children,
            note="" if children else note,
        )

    def _inner(self, schema: Mapping[str, Any], above: tuple[str, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The schema of the object in lists and maps, and the names of the objects above it and of itself."""
        for _ in range(_DEPTH):
            name = schema.get("$ref", "") or next(
                (each["$ref"] for each in schema.get("allOf", ()) if "$ref" in each), ""
            )
            found = self._schemas.resolved(schema)
            if found.get("type") == "array":
                schema = found.get("items", {})
            elif "properties" not in found and isinstance(found.get("additionalProperties"), dict):
                schema = found["additionalProperties"]
            else:
                return found, (*above, name or f"object {len(above)}")
        return {}, above
