"""Output shapes: encode a result, keyed by member names, as the response's JSON (rest-json)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import orjson

Encode = Callable[[Mapping[str, Any]], bytes]
_Encoder = Callable[[Any], Any]

# orjson would write dates and dataclasses in its own formats. A result that contains one is a bug: raise TypeError.
_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_PLAIN: Final = frozenset(("string", "boolean", "integer", "long", "float", "double"))


class OutputCompiler:
    """Turns the model's output shapes into functions, each shape once."""

    def __init__(self, shapes: Mapping[str, Mapping[str, Any]]) -> None:
        self._shapes = shapes
        self._encoders: dict[str, _Encoder | None] = {}
        self._open: set[str] = set()

    def body(self, name: str | None) -> Encode:
        """The encoder of an operation's response body. Without an output shape it is empty: botocore accepts that.

        The result is keyed by member names. Members that are None or belong outside the body are left out. The encoder
        raises KeyError for an unknown member, TypeError for a naive datetime or a value that has no JSON form.
        """
        if name is None:
            return _empty
        shape = self._shapes[name]
        if "payload" in shape:
            payload = shape["payload"]
            if self._shapes[shape["members"][payload]["shape"]]["type"] != "blob":
                raise ValueError(f"{name}: payload outputs other than blobs are not supported")
            return lambda result: result[payload]
        encode = self._structure(shape)

        def document(result: Mapping[str, Any]) -> bytes:
            return orjson.dumps(encode(result), option=_OPTIONS)

        return document

    def _encoder(self, name: str) -> _Encoder | None:
        """The encoder of the shape ``name``; None if its values go into the JSON unchanged."""
        if name in self._encoders:
            return self._encoders[name]
        if name in self._open:
            return lambda value: self._late(name, value)
        self._open.add(name)
        encoder = self._encoders[name] = self._compile(self._shapes[name], name)
        self._open.discard(name)
        return encoder

    def _late(self, name: str, value: object) -> object:
        encode = self._encoders[name]
        return value if encode is None else encode(value)

    def _compile(self, shape: Mapping[str, Any], name: str) -> _Encoder | None:
        kind: str = shape["type"]
        if kind in _PLAIN:
            return None
        if kind == "structure":
            return self._structure(shape)
        if kind == "list":
            return _sequence(self._encoder(shape["member"]["shape"]))
        if kind == "map":
            return _mapping(self._encoder(shape["value"]["shape"]))
        if kind == "timestamp":
            return _epoch_seconds
        if kind == "blob":
            return _base64
        raise ValueError(f"{name}: the type {kind} is not supported")

    def _structure(self, shape: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        fields: dict[str, tuple[str | None, _Encoder | None]] = {}
        for member, reference in shape["members"].items():
            if reference.get("location") not in (None, "statusCode"):
                raise ValueError(f"{member}: header outputs are not supported")
            wire = None if "location" in reference else reference.get("locationName", member)
            fields[member] = wire, self._encoder(reference["shape"])

        def encode(value: Mapping[str, Any]) -> dict[str, Any]:
            out: dict[str, Any] = {}
            for member, item in value.items():
                wire, encode_member = fields[member]
                if item is not None and wire is not None:
                    out[wire] = item if encode_member is None else encode_member(item)
            return out

        return encode


def _empty(result: Mapping[str, Any]) -> bytes:
    if result:
        raise TypeError("this operation has no output members")
    return b""


def _sequence(encode: _Encoder | None) -> _Encoder | None:
    return None if encode is None else lambda value: [encode(item) for item in value]


def _mapping(encode: _Encoder | None) -> _Encoder:
    if encode is None:
        return dict
    return lambda value: {key: encode(item) for key, item in value.items()}


def _epoch_seconds(value: object) -> float:
    """Seconds since 1970, with a fraction if there are microseconds (rest-json's default for bodies)."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise TypeError("a timestamp must be an aware datetime")
    seconds = value.timestamp()
    return seconds if value.microsecond else int(seconds)


def _base64(value: bytes) -> str:
    return b64encode(value).decode()
