"""Payloads of the provisioning topics, in JSON and in CBOR: what devices send, and what they are answered."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import cbor2
import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping


Format = Literal["json", "cbor"]

_MAX_SIZE = 65_536  # bytes
_MAX_DEPTH = 4  # of CBOR; what is asked for has two


class Unreadable(Exception):
    """The payload is none that a device may send. Says nothing of what was in it."""


def read_payload(payload: bytes, format: Format) -> Mapping[str, Any]:
    """Raises Unreadable unless it is one map, with texts for keys and none of them twice."""
    if len(payload) > _MAX_SIZE:
        raise Unreadable
    document = _read_json(payload) if format == "json" else _read_cbor(payload)
    if not isinstance(document, dict) or not all(map(_is_text, document)):
        raise Unreadable
    return document


def write_payload(document: Mapping[str, object], format: Format) -> bytes:
    """CBOR has definite lengths, as readers for small devices know no others."""
    return orjson.dumps(document) if format == "json" else cbor2.dumps(document)


def read_text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not _is_text(value):
        raise Unreadable
    assert isinstance(value, str)
    return value


def read_optional_text(document: Mapping[str, Any], name: str) -> str | None:
    return read_text(document, name) if name in document else None


def read_texts(document: Mapping[str, Any], name: str) -> dict[str, str]:
    """A map from texts to texts, which may be left out."""
    value = document.get(name, {})
    if not isinstance(value, dict) or not all(_is_text(text) for pair in value.items() for text in pair):
        raise Unreadable
    return value


def _is_text(value: object) -> bool:
    """JSON can escape halves of surrogate pairs and NUL, which neither CBOR nor a store can carry."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


def _read_json(payload: bytes) -> object:
    try:
        return json.loads(payload.decode(), object_pairs_hook=_without_repetition, parse_constant=_refuse)
    except (ValueError, RecursionError):  # bad UTF-8 and syntax, integers of thousands of digits, depth
        raise Unreadable from None


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise Unreadable
    return made


def _refuse(*_: object) -> NoReturn:
    raise Unreadable


class _EveryTag(dict[int, Any]):
    """For the tags that the library knows itself: shared references, rational numbers, regular expressions and more."""

    def __missing__(self, key: int) -> Any:
        return _refuse


def _read_cbor(payload: bytes) -> object:
    source = io.BytesIO(payload)
    try:
        decoder = cbor2.CBORDecoder(
            source,
            tag_hook=_refuse,
            semantic_decoders=_EveryTag(),
            max_depth=_MAX_DEPTH,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )
        document: object = decoder.decode()
    except (cbor2.CBORError, ValueError, RecursionError):
        raise Unreadable from None
    if source.tell() != len(payload):
        raise Unreadable
    return document
