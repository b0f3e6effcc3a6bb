"""Requests for any method, generated from its descriptor: valid ones, those at a limit, and those just beyond it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor
from yandex.cloud import validation_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Json", "cases"]

Json = dict[str, Any]

CONTROL = ["\0", "a\0b", "\n", "a\tb", "\x7f", "\u2028", "\u202e"]
HOSTILE = [*CONTROL, "é", "😀", " ", " a ", "%00", "a/b", "a:b", "..", "'", '"<', "a;b", "a&b=c"]
NUMBERS = [0, 1, 2, 1000, 1001, 20_000, 20_001, -1, 2**63 - 1, -(2**63)]
LONG = 5000


def cases(request: Any, base: Json) -> Iterator[tuple[str, Json]]:
    """Names and fields of requests, by the names of the contract. ``base`` are the fields of a valid request.

    The valid request comes last: it may delete what it names.
    """
    for field in request.fields:
        for name, value in _values(field, base.get(field.name)):
            others = field.containing_oneof.fields if field.containing_oneof is not None else ()
            changed = {key: kept for key, kept in base.items() if key not in [each.name for each in others]}
            changed[field.name] = value
            yield f"{field.name} {name}", changed
        if field.name in base:
            yield f"without {field.name}", {name: value for name, value in base.items() if name != field.name}
    yield "nothing", {}
    yield "valid", base


def _values(field: Any, valid: Any) -> Iterator[tuple[str, Any]]:
    if _is_map(field):
        yield from _maps(field)
    elif field.message_type is not None and field.message_type.name == "FieldMask":
        yield from _masks()
    elif field.message_type is not None:
        for name, value in _messages(field.message_type):
            yield name, [value] if field.is_repeated else value
        if field.is_repeated:
            yield "of 60 entries", [{}] * 60
    elif field.is_repeated:
        yield "of many", [valid or "x"] * 100
    else:
        yield from _scalars(field, valid)


def _scalars(field: Any, valid: Any = None) -> Iterator[tuple[str, Any]]:
    if field.enum_type is not None:
        for value in field.enum_type.values:
            yield value.name, value.name
        yield from ((f"number {number}", number) for number in (len(field.enum_type.values), 99, -1))
    elif field.type == FieldDescriptor.TYPE_STRING:
        yield from ((repr(text), text) for text in ["", *HOSTILE])
        yield "very long", "x" * LONG
        for length in _lengths(field):
            yield f"of {length}", "x" * length
            yield f"of {length} of two bytes", "é" * length
        if isinstance(valid, str):
            yield "and more", f"{valid}x"
            yield "in capitals", valid.upper()
    elif field.type == FieldDescriptor.TYPE_BYTES:
        for length in (0, 1, *_lengths(field)):
            yield f"of {length} bytes", "AAAA" * (length // 3) + ("", "AA==", "AAA=")[length % 3]
    elif field.type == FieldDescriptor.TYPE_BOOL:
        yield from (("true", True), ("false", False))
    else:
        yield from ((str(number), str(number)) for number in NUMBERS)


def _lengths(field: Any) -> list[int]:
    """The limits in the descriptor, and lengths beside them."""
    options = field.GetOptions().Extensions
    limits = map(int, re.findall(r"\d+", options[validation_pb2.length] or options[validation_pb2.bytes]))
    return sorted({length for limit in limits for length in (limit - 1, limit, limit + 1) if 0 < length < 300_000})


def _maps(field: Any) -> Iterator[tuple[str, Json]]:
    yield "empty", {}
    for number in (1, 5, 6, 64, 65):
        yield f"of {number} entries", {f"k{n}/": f"$devices/{{id}}/events/{n}" for n in range(number)}
        yield f"of {number} labels", {f"k{n}": "v" for n in range(number)}
    for text in ["", "x" * 63, "x" * 64, "x" * 1025, "X", "-x", "$me/x", "+/x", "#", *HOSTILE]:
        yield f"with key {text[:20]!r}", {text: "v"}
        yield f"with value {text[:20]!r}", {"k": text}
    yield "one the beginning of another", {"a": "$devices/{id}/events", "ab": "$devices/{id}/state"}


def _masks() -> Iterator[tuple[str, str]]:
    for name in ("name", "description", "labels", "topic_aliases", "log_options", "name,labels", "name,name"):
        yield f"of {name}", name
    for name in ("id", "device_id", "registry_id", "update_mask", "nothing", "status", "certificates", "password"):
        yield f"of {name}", name
    for name in ("name.x", "labels.k", "Name", "topicAliases", "name,", ",", " name", "*", "\0", "x" * LONG):
        yield f"of {name[:20]!r}", name
    yield "empty", ""
    yield "of 100", ",".join(["name"] * 100)


def _messages(message: Any) -> Iterator[tuple[str, Json]]:
    yield "empty", {}
    for field in message.fields:
        if field.message_type is None and not field.is_repeated:
            for name, value in _scalars(field):
                yield f"with {field.name} {name}", {field.name: value}


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
