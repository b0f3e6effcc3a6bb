"""JSON schemas of an OpenAPI document in words."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TYPES: Final = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
_CONSTANTS: Final = {bool: "true or false", int: "whole number"}
_PLURALS: Final = {
    "whole number": "whole numbers",
    "number": "numbers",
    "time": "times",
    "object": "objects",
    "true or false": "true or false",
}
_FORMATS: Final = {
    "date-time": "time",
    "date": "date",
    "csr": "PEM",
    "certificate": "PEM",
    "identity-policy": "JSON as text",
    "session-policy": "JSON as text",
    "trust-policy": "JSON as text",
}
_DURATION: Final = re.compile(r"duration-(\w+)-(\w+)")
_ANY_TEXT: Final = r"[^\x00]*"
_COUNTED: Final = (
    ("minLength", "maxLength", "character"),
    ("minItems", "maxItems", "item"),
    ("minProperties", "maxProperties", "entry"),
)
_DEPTH: Final = 8


class Words(NamedTuple):
    """A schema in words. ``is_composed``: its values are lists or objects."""

    type: str
    limits: tuple[str, ...]
    pattern: str | None
    is_composed: bool


class Schemas:
    """The schemas of a document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._components: Mapping[str, Any] = document["components"]

    def part(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What ``given`` refers to, or ``given`` itself: a schema, response or parameter."""
        for _ in range(_DEPTH):
            if "$ref" not in given:
                break
            kind, _, name = given["$ref"].removeprefix("#/components/").partition("/")
            given = self._components[kind][name] | {key: value for key, value in given.items() if key != "$ref"}
        return dict(given)

    def resolved(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The schema without a reference, without null as an alternative, and with its ``allOf`` in it.

        Schemas of its members are as they were.
        """
        found = self.part(schema)
        if len(found.get("allOf", ())) and all("properties" in self.part(each) for each in found["allOf"]):
            parts = [self.resolved(each) for each in found.pop("allOf")]
            properties: dict[str, Any] = {}
            for part in [*parts, found]:
                properties |= part.get("properties", {})
            required = [name for part in parts for name in part.get("required", ())]
            found = {"type": "object"} | found | {"properties": properties, "required": required}
        branches = [each for each in found.get("anyOf", ()) if each != {"type": "null"}]
        if len(branches) == 1:
            found.pop("anyOf")
            return self.resolved(branches[0]) | found
        return found

    def members(self, schema: Mapping[str, Any]) -> list[tuple[str, dict[str, Any], bool, list[str]]] | None:
        """The name, schema, need and further limits of each member of an object; None if it is no such object."""
        found = self.resolved(schema)
        if "properties" not in found:
            return None
        required = found.get("required", ())
        limits = {name: list(self._alternatives(found, name)) for name in found["properties"]}
        return [(name, each, name in required, limits[name]) for name, each in found["properties"].items()]

    def words(self, schema: Mapping[str, Any], depth: int = 3) -> Words:
        """Of lists in lists, those deeper than ``depth`` are left out."""
        found = self.resolved(schema)
        type, is_composed = self._type(found, depth)
        limits = [*_limits(found)]
        if not depth:
            return Words(type, tuple(limits), _pattern(found), is_composed)
        if type.startswith("list of"):
            limits += self._nested("each", self.words(found.get("items", {}), depth - 1), found.get("items", {}))
        elif type.startswith("map"):
            limits += self._nested("names", self.words(found.get("propertyNames", {}), depth - 1), {})
            limits += self._nested(
                "values", self.words(found["additionalProperties"], depth - 1), found["additionalProperties"]
            )
        return Words(type, tuple(limits), _pattern(found), is_composed)

    def _type(self, schema: Mapping[str, Any], depth: int) -> tuple[str, bool]:
        kind = schema.get("type")
        if kind == "array":
            if not depth:
                return "list", True
            item, _ = self._type(self.resolved(schema.get("items", {})), depth - 1)
            return f"list of {_PLURALS.get(item, item)}", True
        if kind == "object" or "properties" in schema:
            values = schema.get("additionalProperties")
            if "properties" in schema or not isinstance(values, dict) or not depth:
                return "object", True
            value, _ = self._type(self.resolved(values), depth - 1)
            return f"map from names to {_PLURALS.get(value, value)}", True
        if schema.get("contentEncoding") == "base64":
            return "Base64", False
        if kind is None and {each.get("type") for each in schema.get("anyOf", ())} == {"number", "string"}:
            return "time", False
        if (format := schema.get("format", "")) in _FORMATS:
            return _FORMATS[format], False
        if "const" in schema:
            return _CONSTANTS.get(type(schema["const"]), "text"), False
        if not isinstance(kind, str):
            return "any value", True
        return _TYPES.get(kind, kind), False

    def _nested(self, of: str, words: Words, schema: Mapping[str, Any]) -> Iterable[str]:
        yield from (f"{of}: {limit}" for limit in words.limits)
        if words.pattern is not None:
            yield f"{of}: match {words.pattern}"
        if choices := self.resolved(schema).get("enum"):
            yield f"{of}: one of {', '.join(map(str, choices))}"

    def _alternatives(self, schema: Mapping[str, Any], name: str) -> Iterable[str]:
        """The rules on how many of several members a request may have, which name this member."""
        for rule in schema.get("allOf", ()):
            branches = rule.get("oneOf", ())
            names = [member for each in branches for member in each.get("required", ())]
            if name in names:
                few = "at most" if any("not" in each for each in branches) else "exactly"
                yield f"{few} one of {', '.join(names)}" if len(names) > 1 else f"{few} one"
        needed = [each["required"] for each in schema.get("anyOf", ()) if "required" in each]
        if len(needed) > 1 and any(name in each for each in needed):
            yield f"needed: {' or '.join(' and '.join(each) for each in needed)}"


def _limits(schema: Mapping[str, Any]) -> Iterable[str]:
    for least, most, noun in _COUNTED:
        if (words := _range(schema.get(least) or None, schema.get(most))) is not None:
            yield f"{words} {_counted(noun, schema.get(most, schema.get(least, 2)))}"
    low, high = schema.get("minimum"), schema.get("maximum")
    bits = {"int32": 31, "int64": 63}.get(schema.get("format", ""), 0)
    if bits:
        low = None if low == -(1 << bits) else low
        high = None if high == (1 << bits) - 1 else high
    if (words := _range(low, high)) is not None:
        yield words
    if "const" in schema:
        yield f"always {json.dumps(schema['const'])}"
    if (duration := _DURATION.fullmatch(schema.get("format", ""))) is not None:
        yield f"{duration[1]} to {duration[2]}"


def _range(low: Any, high: Any) -> str | None:
    if high is None:
        return None if low is None else f"at least {low:,}"
    if low is None:
        return f"at most {high:,}"
    return f"exactly {low:,}" if low == high else f"{low:,} to {high:,}"


def _counted(noun: str, number: int) -> str:
    if number == 1:
        return noun
    return "entries" if noun == "entry" else f"{noun}s"


def _pattern(schema: Mapping[str, Any]) -> str | None:
    """The pattern for a whole text, as a person writes it; None if every text matches."""
    if (java := schema.get("x-pattern")) is not None:
        return str(java)
    if (pattern := schema.get("pattern")) is None:
        return None
    whole = re.fullmatch(r"\^\(\?:(.*)\)\$\(\?!\\n\)", pattern, re.DOTALL) or re.fullmatch(
        r"\^(.*)\$", pattern, re.DOTALL
    )
    shown = whole[1] if whole is not None else pattern
    return None if shown == _ANY_TEXT else str(shown)
