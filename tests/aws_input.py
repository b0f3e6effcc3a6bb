"""Valid and invalid input for each operation of AWS's models: each constraint is violated once, one at a time.

The expected texts are written here a second time, from AWS's answers: "1 validation error detected: Value at 'x' failed
to satisfy constraint: Member must …". AWS also quotes the value.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from botocore.loaders import Loader

from thingmint.aws.contract.scalars import Violation, scalar_decoder

Shape = Mapping[str, Any]
Members = dict[str, Any]
Broken = tuple[Any, str, str | None]
"""A value, the place after that of the value, and AWS's constraint; None if the value is of a wrong type."""

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
        valid, shape = self.valid(operation), self._input(operation)
        for name, ref in shape["members"].items():
            location = ref.get("location", "body")
            first = name[:1].lower() + name[1:]
            if name in shape.get("required", ()) and location != "uri":
                rest = {each: value for each, value in valid.items() if each != name}
                yield self._case(operation, rest, first, "Member must not be null")
            if shape.get("payload") == name and self.shapes[ref["shape"]]["type"] == "blob":
                continue
            for value, place, rule in self._broken(ref["shape"], valid[name], location):
                yield self._case(operation, valid | {name: value}, first + place, rule)

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

    def _case(self, operation: str, members: Members, place: str, rule: str | None) -> Case:
        text = None
        if rule is not None:
            text = f"1 validation error detected: Value at '{place}' failed to satisfy constraint: {rule}"
        return Case(f"{place}: {rule or 'a wrong type'}", self.send(operation, members), text)

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
        except Violation:
            return False
        return True

    def _broken(self, name: str, value: Any, location: str = "body") -> Iterator[Broken]:
        shape = self.shapes[name]
        if location == "body":
            yield from ((wrong, "", None) for wrong in _wrong_types(shape))
        match shape["type"]:
            case "structure":
                yield from self._broken_structures(shape, value)
            case "list" if value:
                yield from _lengths(shape, value[:1], _MANY)
                for wrong, place, rule in self._broken_items(shape["member"]["shape"], value[0], "1", "Member"):
                    yield [wrong, *value[1:]], place, rule
            case "map" if value:
                key, of_key = next(iter(value)), shape["key"]["shape"]
                for wrong, place, rule in self._broken_items(shape["value"]["shape"], value[key], key, "Map value"):
                    yield {key: wrong}, place, rule
                for wrong, _, rule in self._broken(of_key, key, "key"):
                    if rule is not None:
                        yield {wrong: value[key]}, "", f"Map keys must satisfy constraint: [{self._rules(of_key)}]"
            case "string":
                yield from self._broken_texts(shape, location)
            case "integer" | "long":
                if "min" in shape:
                    yield shape["min"] - 1, "", f"Member must have value greater than or equal to {shape['min']}"
                if "max" in shape:
                    yield shape["max"] + 1, "", f"Member must have value less than or equal to {shape['max']}"

    def _broken_structures(self, shape: Shape, value: Members) -> Iterator[Broken]:
        for member, ref in shape["members"].items():
            wire, first = ref.get("locationName", member), member[:1].lower() + member[1:]
            if wire not in value:
                continue
            if member in shape.get("required", ()):
                rest = {each: other for each, other in value.items() if each != wire}
                yield rest, f".{first}", "Member must not be null"
                yield rest | {wire: None}, f".{first}", "Member must not be null"
            for wrong, place, rule in self._broken(ref["shape"], value[wire]):
                yield value | {wire: wrong}, f".{first}{place}", rule

    def _broken_items(self, name: str, value: Any, key: str, noun: str) -> Iterator[Broken]:
        """Of a list or a map. AWS names the list or map for a scalar item, and all rules of the item."""
        is_scalar = self.shapes[name]["type"] not in ("structure", "list", "map")
        for wrong, place, rule in self._broken(name, value):
            if rule is not None and is_scalar:
                yield wrong, "", f"{noun} must satisfy constraint: [{self._rules(name)}]"
            else:
                yield wrong, f".{key}.member{place}", rule

    def _broken_texts(self, shape: Shape, location: str) -> Iterator[Broken]:
        if "enum" in shape:
            yield "NOT_A_VALUE", "", f"Member must satisfy enum value set: [{', '.join(shape['enum'])}]"
            return
        in_head = location in ("uri", "querystring", "header")
        low, high = shape.get("min", 0), shape.get("max", 0)
        yield from _lengths(shape, "a", _IN_HEAD if in_head else _IN_BODY, in_head)
        if "pattern" in shape:
            for text in _FOREIGN:
                if location == "header" and not (text.isascii() and text.isprintable() and text.strip()):
                    continue
                foreign = text * max(1, low)
                if (not high or len(foreign) <= high) and not self._takes(shape, foreign):
                    yield foreign, "", f"Member must satisfy regular expression pattern: {shape['pattern']}"
                    break

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
        yield unit * (low - 1), "", f"Member must have length greater than or equal to {low}"
    if high is not None and high < most:
        yield unit * (high + 1), "", f"Member must have length less than or equal to {high}"


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


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
