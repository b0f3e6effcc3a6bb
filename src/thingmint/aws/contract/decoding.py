"""Input shapes: decode a request's body into checked Python values, keyed by member names (rest-json)."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import orjson

from thingmint.aws.contract.scalars import Decoder, Shape, all_rules, length_bounds, scalar_decoder
from thingmint.aws.contract.violations import Part, Violations, member_part, missing, violation
from thingmint.domain.strict_json import MAX_VALUES, has_too_many_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


Field = tuple[str, str, bool, Decoder]
"""Wire name, member name, whether it is required, and its decoder."""

BODY: Final = Part("body", "body")
_MAX_DEPTH: Final = 64
_SHOWABLE_KEY: Final = re.compile(r"[A-Za-z0-9_.:/@#-]{1,128}")


def load_body(body: bytes) -> dict[str, Any]:
    """``body`` parsed as a JSON object; an empty one if there is no body. Raises Violations."""
    if not body:
        return {}
    if has_too_many_values(body):
        raise violation(f"must hold at most {MAX_VALUES} values", BODY)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise violation("is not valid JSON", BODY) from None
    if type(document) is not dict:
        raise violation("must be a JSON object", BODY)
    if body.count(b"[") + body.count(b"{") > _MAX_DEPTH and _is_deeper(document, _MAX_DEPTH):
        raise violation("is nested too deeply", BODY)
    return document


def _is_deeper(document: dict[str, Any], depth: int) -> bool:
    level: list[Any] = [document]
    for _ in range(depth):
        items: Iterable[Any] = chain.from_iterable(
            container.values() if type(container) is dict else container for container in level
        )
        level = [item for item in items if type(item) is dict or type(item) is list]
        if not level:
            return False
    return True


class InputCompiler:
    """Turns the model's input shapes into decoders of JSON values, each shape once."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._shapes = shapes
        self._decoders: dict[str, Decoder] = {}
        self._open: set[str] = set()

    def decoder(self, name: str) -> Decoder:
        """The decoder of the shape ``name``. It raises Violations."""
        known = self._decoders.get(name)
        if known is not None:
            return known
        if name in self._open:  # the shape is recursive
            return lambda value: self._decoders[name](value)  # noqa: PLW0108 - not compiled yet
        self._open.add(name)
        decoder = self._decoders[name] = self._compile(self._shapes[name], name)
        self._open.discard(name)
        return decoder

    def field(self, shape: Shape, member: str) -> Field:
        """The compiled ``member`` of the structure ``shape``."""
        reference = shape["members"][member]
        required = member in shape.get("required", ())
        return reference.get("locationName", member), member, required, self.decoder(reference["shape"])

    def _compile(self, shape: Shape, name: str) -> Decoder:
        unknown = {"union", "document", "streaming", "eventstream", "timestampFormat", "jsonvalue"} & shape.keys()
        if unknown:
            raise ValueError(f"{name}: the traits {sorted(unknown)} are not supported")
        if shape["type"] == "structure":
            if any("location" in reference for reference in shape["members"].values()):
                raise ValueError(f"{name}: a nested structure cannot have members outside the body")
            return fields_decoder([self.field(shape, member) for member in shape["members"]])
        if shape["type"] == "list":
            return _list(
                shape, self.decoder(shape["member"]["shape"]), all_rules(self._shapes[shape["member"]["shape"]])
            )
        if shape["type"] == "map":
            key, value = shape["key"]["shape"], shape["value"]["shape"]
            rules = all_rules(self._shapes[key]), all_rules(self._shapes[value])
            return _map(shape, self.decoder(key), self.decoder(value), rules)
        return scalar_decoder(shape, text=False)


def fields_decoder(fields: Iterable[Field]) -> Decoder:
    """The decoder of a structure with these members. Unknown ones are ignored, null ones count as absent."""
    table = tuple((*field, member_part(field[0], field[1])) for field in fields)

    def decode(value: object) -> dict[str, Any]:
        if type(value) is not dict:
            raise violation("must be an object")
        out: dict[str, Any] = {}
        found: Violations | None = None
        for wire, member, required, decode_member, part in table:
            item = value.get(wire)
            if item is None:
                if required:
                    found = missing(part).after(found)
                continue
            try:
                out[member] = decode_member(item)
            except Violations as violations:
                found = violations.within(part, found)
        if found is not None:
            raise found
        return out

    return decode


def _wrong_length(check: Callable[[int], None], length: int) -> Violations | None:
    try:
        check(length)
    except Violations as violations:
        return violations
    return None


def _list(shape: Shape, decode_item: Decoder, rules: str | None) -> Decoder:
    check_length = length_bounds(shape)

    def decode(value: object) -> list[Any]:
        if type(value) is not list:
            raise violation("must be a list")
        out: list[Any] = []
        found = _wrong_length(check_length, len(value))
        for index, item in enumerate(value):
            try:
                out.append(decode_item(item))
            except Violations as violations:
                part = Part(f"[{index}]", f".{index + 1}.member")
                found = violations.of_container("Member", rules).within(part, found)
        if found is not None:
            raise found
        return out

    return decode


def _map(shape: Shape, decode_key: Decoder, decode_value: Decoder, rules: tuple[str | None, str | None]) -> Decoder:
    check_length = length_bounds(shape)

    def decode(value: object) -> dict[str, Any]:
        if type(value) is not dict:
            raise violation("must be an object")
        out: dict[str, Any] = {}
        found = _wrong_length(check_length, len(value))
        for key, item in value.items():
            checked = ""
            try:
                checked = decode_key(key)
            except Violations as violations:
                rule = (
                    None
                    if violations.found[0].constraint is None
                    else f"Map keys must satisfy constraint: [{rules[0]}]"
                )
                found = violation(f"has a key that {violations.reason}", constraint=rule).after(found)
            try:
                out[checked] = decode_value(item)
            except Violations as violations:
                # The key is the caller's text: the error shows it only if its characters are harmless.
                shown = key if _SHOWABLE_KEY.fullmatch(key) else "*"
                part = Part(f".{shown}", f".{shown}.member")
                found = violations.of_container("Map value", rules[1]).within(part, found)
        if found is not None:
            raise found
        return out

    return decode
