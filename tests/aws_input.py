"""Valid and invalid input for each operation of AWS's models: each constraint violated, alone and with that of another.

The expected texts are written here a second time, from AWS's answers: "2 validation errors detected: Value at 'x'
failed to satisfy constraint: Member must …; Value at 'y' failed …". AWS also quotes the value.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from botocore.loaders import Loader

from thingmint.aws.contract.scalars import scalar_decoder
from thingmint.aws.contract.violations import Violations

Shape = Mapping[str, Any]
Members = dict[str, Any]
Broken = tuple[Any, str, tuple[str, ...]]
"""A value, the place after that of the value, and AWS's constraints; none if the value is of a wrong type."""

# The first text that a shape accepts is used. A new pattern of the model may need a new one here.
_TEXTS = (
    "a1",
    "A",
    "1",
    "0" * 64,
    "arn:aws:iam::123456789012:role/r",
    "arn:aws:iot:us-east-1:123456789012:thing/t",
    "arn:aws:acm:us-east-1:123456789012:certificate/c",
    "arn:aws:lambda:us-east-1:123456789012:function:f",
    "2020-01-01T00:00:00Z",
    "2020-04-01",
    "{}",
    "$aws/things/x",
    "12345678-1234-1234-1234-123456789012",
    "s3://bucket/key",
    "123456789012",
    "00:00:00:00",
    "a=b",
    "#aabbcc",
    "/a",
    "a.b.c",
    "https://example.com/a",
    "AWS-Run",
    "cron(0 1 * * ? *)",
    "x" * 32,
    "1.0.0",
    "arn:aws:s3:::bucket",
    "2020-01-01 00:00",
    "https://ingestion-a.b.sfdcnow.com/streams/a/b/event",
    "p99",
    ",",
)
_FOREIGN = ("\u2028", "\x7f", "é", " ", "!", "/", "a b", "~", "$", "é" * 8, "\U0001f600")
_IN_HEAD = 4000  # characters in a path, query or header
_IN_BODY = 300_000
_MANY = 1100  # items
_PROBED = 4000  # characters; longer texts are not compared with patterns if they are too long
_ABSENT: Any = object()
_PLACES = ("uri", "querystring", "header", "body")


@dataclass(frozen=True, slots=True)
class Sent:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Case:
    """``message``: AWS's text for the violation; None if the value is of a wrong type, or if the input is valid."""

    what: str
    sent: Sent
    message: str | None = None


def in_awss_words(text: str) -> str:
    """The message for a constraint, such as ``pageSize must have value …``. Other texts are returned unchanged."""
    place, _, rule = text.partition(" ")
    if rule == "is required":
        rule = "must not be null"
    elif rule.startswith("must be one of "):
        rule = f"must satisfy enum value set: [{rule.removeprefix('must be one of ')}]"
    elif not rule.startswith(("must have", "must satisfy")):
        return text
    return f"1 validation error detected: Value at '{place}' failed to satisfy constraint: Member {rule}"


class Inputs:
    """The input of the operations of one model, such as ``iot``."""

    def __init__(self, service: str) -> None:
        self.model = Loader().load_service_model(service, "service-2")
        self.shapes: Mapping[str, Shape] = self.model["shapes"]

    @property
    def operations(self) -> list[str]:
        return list(self.model["operations"])

    def valid(self, operation: str) -> Members:
        """Every member of the input, as on the wire."""
        return {name: self._value(ref["shape"], ()) for name, ref in self._input(operation)["members"].items()}

    def required(self, operation: str) -> Members:
        needed = self._input(operation).get("required", ())
        return {name: value for name, value in self.valid(operation).items() if name in needed}

    def send(self, operation: str, members: Members, extra: bool = False) -> Sent:
        """The request. ``extra``: with members and parameters that the model does not have."""
        http, shape = self.model["operations"][operation]["http"], self._input(operation)
        target, query, headers, body = http["requestUri"], [], {}, {}
        raw: bytes | None = None
        for name, ref in shape["members"].items():
            if name not in members:
                continue
            value, location = members[name], ref.get("location", "body")
            wire = ref.get("locationName", name)
            if location == "uri":
                target = target.replace(f"{{{wire}+}}", f"{{{wire}}}")  # a label that takes several segments
                target = target.replace(f"{{{wire}}}", quote(_text(value), safe=""))
            elif location == "querystring":
                query.append(f"{quote(wire)}={quote(_text(value), safe='')}")
            elif location == "header":
                headers[wire] = _text(value)
            elif shape.get("payload") == name:
                raw = value if isinstance(value, bytes) else json.dumps(_more(value) if extra else value).encode()
            else:
                body[wire] = _more(value) if extra else value
        if extra:
            query.append("unknownParameter=1")
            if "payload" not in shape and any("location" not in ref for ref in shape["members"].values()):
                body |= {"unknownMember": {"a": [1]}}
        if query:
            target += f"?{'&'.join(query)}"
        if raw is None:
            raw = json.dumps(body).encode() if body else b""
        return Sent(http["method"], target, headers, raw)

    def broken(self, operation: str) -> Iterator[Case]:
        """One case for each constraint of the input, and for each value of a wrong type."""
        valid = self.valid(operation)
        for name in self._input(operation)["members"]:
            for value, told in self._broken_members(operation, name, valid[name]):
                yield self._case(operation, _with(valid, {name: value}), told)

    def broken_twice(self, operation: str) -> Iterator[Case]:
        """Cases with violations of two members, of all members, and of one member beside one of a wrong type."""
        valid = self.valid(operation)
        flaws: dict[str, tuple[Any, list[str]]] = {}
        wrong_types: dict[str, Any] = {}
        for name in self._in_order(operation):
            for value, told in self._broken_members(operation, name, valid[name]):
                if told:
                    flaws.setdefault(name, (value, told))
                else:
                    wrong_types.setdefault(name, value)
        names = list(flaws)
        groups = [*pairwise(names), *([tuple(names)] if 2 < len(names) <= 10 else [])]
        for group in groups:
            members = _with(valid, {name: flaws[name][0] for name in group})
            yield self._case(operation, members, [text for name in group for text in flaws[name][1]])
        for name, value in wrong_types.items():
            others = {each: flaw for each, (flaw, _) in flaws.items() if each != name}
            yield self._case(operation, _with(valid, {**others, name: value}), [])

    def _in_order(self, operation: str) -> list[str]:
        """The members in the order in which violations are told."""
        members, uri = self._input(operation)["members"], self.model["operations"][operation]["http"]["requestUri"]

        def place(name: str) -> tuple[int, int]:
            location = members[name].get("location", "body")
            label = f"{{{members[name].get('locationName', name)}"
            return _PLACES.index(location), uri.index(label) if location == "uri" else 0

        return sorted(members, key=place)

    def _broken_members(self, operation: str, name: str, value: Any) -> Iterator[tuple[Any, list[str]]]:
        """Values of a member, _ABSENT for none, and AWS's texts about them; no texts for a wrong type."""
        shape = self._input(operation)
        ref, first = shape["members"][name], name[:1].lower() + name[1:]
        location = ref.get("location", "body")
        if name in shape.get("required", ()) and location != "uri":
            yield _ABSENT, [_text_of(first, "Member must not be null")]
        if shape.get("payload") == name and self.shapes[ref["shape"]]["type"] == "blob":
            return
        for wrong, place, rules in self._broken(ref["shape"], value, location):
            yield wrong, [_text_of(first + place, rule) for rule in rules]

    def edges(self, operation: str) -> Iterator[Case]:
        """Valid requests: with required members only, and with each other value at its limits."""
        needed, shape = self.required(operation), self._input(operation)
        yield Case("required members", self.send(operation, needed))
        yield Case("all members", self.send(operation, self.valid(operation)))
        yield Case("unknown members", self.send(operation, self.valid(operation), extra=True))
        for name, ref in shape["members"].items():
            for value in self._limits(ref["shape"], ref.get("location", "body")):
                yield Case(f"{name} at a limit", self.send(operation, needed | {name: value}))

    def _input(self, operation: str) -> Shape:
        shape: Shape = self.shapes[self.model["operations"][operation]["input"]["shape"]]
        return shape

    def _case(self, operation: str, members: Members, told: list[str]) -> Case:
        sent = self.send(operation, members)
        if not told:
            return Case("a wrong type", sent)
        count = f"{len(told)} validation error{'s' if len(told) > 1 else ''} detected"
        return Case("; ".join(told), sent, f"{count}: {'; '.join(told)}")

    def _value(self, name: str, outer: tuple[str, ...]) -> Any:
        shape = self.shapes[name]
        inner = (*outer, name)
        match shape["type"]:
            case "structure":
                needed = shape.get("required", ())
                refs = shape["members"].items()
                return {
                    ref.get("locationName", member): self._value(ref["shape"], inner)
                    for member, ref in refs
                    if ref["shape"] not in inner and (member in needed or len(inner) < 5)
                }
            case "list":
                item = shape["member"]["shape"]
                return [] if item in inner else [self._value(item, inner)] * max(1, shape.get("min", 1))
            case "map":
                value = shape["value"]["shape"]
                return {} if value in inner else {self._value(shape["key"]["shape"], inner): self._value(value, inner)}
            case "boolean":
                return True
            case "integer" | "long":
                return max(1, shape.get("min", 1))
            case "float" | "double":
                return max(1.5, shape.get("min", 1.5))
            case "timestamp":
                return 1_600_000_000
            case "blob":
                return b64encode(b"x" * max(1, shape.get("min", 1))).decode()
        if "enum" in shape:
            return shape["enum"][0]
        found = next((text for text in _TEXTS if self._takes(shape, text)), None)
        assert found is not None, f"no text of this file fits {name}: {dict(shape)}"
        return found

    @staticmethod
    def _takes(shape: Shape, text: str) -> bool:
        try:
            scalar_decoder(shape, text=True)(text)
        except Violations:
            return False
        return True

    def _broken(self, name: str, value: Any, location: str = "body") -> Iterator[Broken]:
        shape = self.shapes[name]
        if location == "body":
            yield from ((wrong, "", ()) for wrong in _wrong_types(shape))
        match shape["type"]:
            case "structure":
                yield from self._broken_structures(shape, value)
            case "list" if value:
                yield from _lengths(shape, value[:1], _MANY)
                for wrong, place, rules in self._broken_items(shape["member"]["shape"], value[0], "1", "Member"):
                    yield [wrong, *value[1:]], place, rules
            case "map" if value:
                key, of_key = next(iter(value)), shape["key"]["shape"]
                for wrong, place, rules in self._broken_items(shape["value"]["shape"], value[key], key, "Map value"):
                    yield {key: wrong}, place, rules
                for wrong, _, rules in self._broken(of_key, key, "key"):
                    if rules:
                        yield {wrong: value[key]}, "", (f"Map keys must satisfy constraint: [{self._rules(of_key)}]",)
            case "string":
                yield from self._broken_texts(shape, location)
            case "integer" | "long":
                if "min" in shape:
                    yield shape["min"] - 1, "", (f"Member must have value greater than or equal to {shape['min']}",)
                if "max" in shape:
                    yield shape["max"] + 1, "", (f"Member must have value less than or equal to {shape['max']}",)

    def _broken_structures(self, shape: Shape, value: Members) -> Iterator[Broken]:
        for member, ref in shape["members"].items():
            wire, first = ref.get("locationName", member), member[:1].lower() + member[1:]
            if wire not in value:
                continue
            if member in shape.get("required", ()):
                rest = {each: other for each, other in value.items() if each != wire}
                yield rest, f".{first}", ("Member must not be null",)
                yield rest | {wire: None}, f".{first}", ("Member must not be null",)
            for wrong, place, rules in self._broken(ref["shape"], value[wire]):
                yield value | {wire: wrong}, f".{first}{place}", rules

    def _broken_items(self, name: str, value: Any, key: str, noun: str) -> Iterator[Broken]:
        """Of a list or a map. AWS names the list or map for a scalar item, and all rules of the item."""
        is_scalar = self.shapes[name]["type"] not in ("structure", "list", "map")
        for wrong, place, rules in self._broken(name, value):
            if rules and is_scalar:
                yield wrong, "", (f"{noun} must satisfy constraint: [{self._rules(name)}]",)
            else:
                yield wrong, f".{key}.member{place}", rules

    def _broken_texts(self, shape: Shape, location: str) -> Iterator[Broken]:
        if "enum" in shape:
            yield "NOT_A_VALUE", "", (f"Member must satisfy enum value set: [{', '.join(shape['enum'])}]",)
            return
        in_head = location in ("uri", "querystring", "header")
        low, high = shape.get("min", 0), shape.get("max", 0)
        for wrong, place, rules in _lengths(shape, "a", _IN_HEAD if in_head else _IN_BODY, in_head):
            yield wrong, place, (*rules, *self._broken_pattern(shape, wrong))
        if "pattern" in shape:
            for text in _FOREIGN:
                if location == "header" and not (text.isascii() and text.isprintable() and text.strip()):
                    continue
                foreign = text * max(1, low)
                if (not high or len(foreign) <= high) and not self._takes(shape, foreign):
                    yield foreign, "", self._broken_pattern(shape, foreign)
                    if high and len(long := foreign * (high + 1)) < _PROBED:
                        too_long = f"Member must have length less than or equal to {high}"
                        yield long, "", (too_long, *self._broken_pattern(shape, long))
                    break

    def _broken_pattern(self, shape: Shape, text: str) -> tuple[str, ...]:
        """The rule if the text does not match the pattern, whatever its length. Long texts are not compared with it."""
        pattern = shape.get("pattern")
        if pattern is None or len(text) >= _PROBED or self._takes({"type": "string", "pattern": pattern}, text):
            return ()
        return (f"Member must satisfy regular expression pattern: {pattern}",)

    def _rules(self, name: str) -> str:
        """AWS's text for the rules of an item of a list or a map: all of them, in this order."""
        shape = self.shapes[name]
        if "enum" in shape:
            return f"Member must satisfy enum value set: [{', '.join(shape['enum'])}]"
        kind = "length" if shape["type"] in ("string", "blob") else "value"
        rules = []
        if "max" in shape:
            rules.append(f"Member must have {kind} less than or equal to {shape['max']}")
        if "min" in shape or "max" in shape:
            rules.append(f"Member must have {kind} greater than or equal to {shape.get('min', 0)}")
        if "pattern" in shape:
            rules.append(f"Member must satisfy regular expression pattern: {shape['pattern']}")
        return ", ".join(rules)

    def _limits(self, name: str, location: str) -> Iterator[Any]:
        shape = self.shapes[name]
        if shape["type"] == "string":
            yield from shape.get("enum", ())
            most = min(shape.get("max", 200), _IN_HEAD if location != "body" else _IN_BODY)
            for text in ("a" * most, "0" * most, "a" * shape.get("min", 1), "", "\u00e9" * most, "{}", "null"):
                if (text or location == "body") and "enum" not in shape and self._takes(shape, text):
                    yield text
        elif shape["type"] in ("integer", "long"):
            top = 2**31 - 1 if shape["type"] == "integer" else 2**63 - 1
            yield from {shape.get("min", -top), shape.get("max", top), max(0, shape.get("min", 0))}
        elif shape["type"] == "boolean":
            yield from (True, False)
        elif shape["type"] == "list" and not shape.get("min"):
            yield []
        elif shape["type"] in ("map", "structure") and not shape.get("required"):
            yield {}


def _lengths(shape: Shape, unit: Any, most: int, in_head: bool = False) -> Iterator[Broken]:
    low, high = shape.get("min", 0), shape.get("max")
    if low > 1 or (low == 1 and not in_head):  # an empty label makes another path
        yield unit * (low - 1), "", (f"Member must have length greater than or equal to {low}",)
    if high is not None and high < most:
        yield unit * (high + 1), "", (f"Member must have length less than or equal to {high}",)


def _wrong_types(shape: Shape) -> list[Any]:
    match shape["type"]:
        case "structure" | "map":
            return [[], "x", 7]
        case "list":
            return [{}, "x", 7]
        case "boolean":
            return ["true", 1, []]
        case "string":
            return [7, True, ["x"], {"x": "x"}]
        case "blob":
            return [7, "no base64!", []]
        case "timestamp":
            return ["yesterday", True, []]
    return ["x", True, [], 1.5] if shape["type"] in ("integer", "long") else ["x", True, []]


def _more(value: Any) -> Any:
    """``value`` with an unknown member in each structure that is in a list; maps take every name."""
    return (
        [each | {"unknownMember": [{}]} if isinstance(each, dict) else each for each in value]
        if isinstance(value, list)
        else value
    )


def _with(members: Members, changes: Members) -> Members:
    return {name: value for name, value in (members | changes).items() if value is not _ABSENT}


def _text_of(place: str, rule: str) -> str:
    return f"Value at '{place}' failed to satisfy constraint: {rule}"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
