"""Turns an HTTP request into a method and its request message, by the rules of ``google.api.http``.

Routes are matched on the raw path: RFC 3986 bytes, before any percent-decoding. A template's literals are compared byte
by byte, so a path has only one spelling. A variable takes one whole segment of ``pchar`` without ":", because a raw
colon starts the verb. Percent-encoded, the segment can contain any character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import unquote_to_bytes

from google.protobuf.descriptor import FieldDescriptor

from thingmint.domain.errors import Invalid
from thingmint.yandex.contract.descriptors import ContractError
from thingmint.yandex.contract.json_mapping import compile_fields, parse_object, read_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from thingmint.yandex.contract.descriptors import Descriptors


T = TypeVar("T")

# RFC 3986 §3.3, pchar without ":".
_CHARS = rb"[A-Za-z0-9\-._~!$&'()*+,;=@]"
_SEGMENT = re.compile(_CHARS + rb"*(?:%[0-9A-Fa-f]{2}" + _CHARS + rb"*)*")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TEMPLATE_SEGMENT = re.compile(r"([a-z0-9-]+)|\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """``segments`` are literals (bytes) and names of variables (str); ``verb`` is b"" if there is none."""

    segments: tuple[bytes | str, ...]
    verb: bytes

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(s for s in self.segments if isinstance(s, str))


def parse_template(template: str) -> Template:
    """The parsed template. Raises ContractError for grammar that the contract does not use."""
    path, _, verb = template.partition(":")
    if not path.startswith("/") or (verb and not verb.isalpha()):
        raise ContractError(f"cannot route {template}")
    segments: list[bytes | str] = []
    for text in path[1:].split("/"):
        match = _TEMPLATE_SEGMENT.fullmatch(text)
        if match is None:
            raise ContractError(f"cannot route {template}")
        literal, variable = match.groups()
        segments.append(variable or literal.encode())
    return Template(tuple(segments), verb.encode())


@dataclass(slots=True)
class _Node(Generic[T]):
    literals: dict[bytes, _Node[T]] = field(default_factory=dict)
    variable: _Node[T] | None = None
    leaves: dict[tuple[str, bytes], tuple[T, tuple[str, ...]]] = field(default_factory=dict)


class Router(Generic[T]):
    """A tree of segments. No node has both literals and a variable, so matching needs no backtracking."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._depth = 0

    def add(self, http_method: str, template: Template, target: T) -> None:
        """Adds a route. Raises ContractError if it is ambiguous with an earlier one."""
        node = self._root
        for segment in template.segments:
            if isinstance(segment, str):
                if node.variable is None:
                    node.variable = _Node()
                child = node.variable
            else:
                child = node.literals.setdefault(segment, _Node())
            if node.literals and node.variable is not None:
                raise ContractError(f"ambiguous route at {segment!r}")
            node = child
        key = (http_method, template.verb)
        if key in node.leaves:
            raise ContractError(f"two routes for {http_method} {template}")
        node.leaves[key] = (target, template.variables)
        self._depth = max(self._depth, len(template.segments))

    @property
    def roots(self) -> frozenset[bytes]:
        """First segments of all routes."""
        return frozenset(self._root.literals)

    def match(self, http_method: str, raw_path: bytes) -> tuple[T, dict[str, str]] | None:
        """The target and its decoded variables, or None. ``raw_path`` does not include the query."""
        segments = raw_path.split(b"/", self._depth + 1)
        if len(segments) < 2 or len(segments) > self._depth + 1 or segments[0]:
            return None
        segments[-1], colon, verb = segments[-1].partition(b":")
        if colon and not verb:
            return None
        node = self._root
        values: list[str] = []
        for segment in segments[1:]:
            if node.variable is None:
                child = node.literals.get(segment)
                if child is None:
                    return None
                node = child
            else:
                value = _variable(segment)
                if value is None:
                    return None
                values.append(value)
                node = node.variable
        leaf = node.leaves.get((http_method, verb))
        if leaf is None:
            return None
        target, names = leaf
        return target, dict(zip(names, values, strict=True))


def _variable(segment: bytes) -> str | None:
    """A variable's value, or None if it is empty, a dot segment, not RFC 3986 or not UTF-8."""
    if not segment or _SEGMENT.fullmatch(segment) is None:
        return None
    try:
        value = unquote_to_bytes(segment).decode() if b"%" in segment else segment.decode()
    except UnicodeDecodeError:
        return None
    return None if value in {".", ".."} else value


class RequestReader:
    """Reads the requests of one method. ``whole_body`` is True for a rule with ``body: "*"``, False for one without."""

    def __init__(
        self, descriptors: Descriptors, message: Descriptor, variables: Collection[str], *, whole_body: bool
    ) -> None:
        for name in variables:
            field = message.fields_by_name.get(name)
            if field is None or field.type != FieldDescriptor.TYPE_STRING or field.is_repeated:
                raise ContractError(f"path variable {name} is not a string field of {message.full_name}")
        readers = compile_fields(descriptors, message)
        self._new: Callable[..., Any] = descriptors.messages[message.full_name]
        self._bound = {key: reader.name for key, reader in readers.items() if reader.name in variables}
        self._readers = {key: reader for key, reader in readers.items() if key not in self._bound}
        self._whole_body = whole_body

    def read(self, bindings: Mapping[str, str], query: bytes, body: bytes) -> Message:
        """The request message. The body is read as JSON, whatever its content type.

        The curl commands in Yandex's guide send JSON with curl's default content type, which is that of forms. For a
        method without a body, an empty object is accepted. Raises Invalid for a field, for ``body`` or for ``query``.
        """
        if self._whole_body:
            if query:
                raise Invalid("query", "must be empty, this method takes its fields from the body")
            arguments = self._read_body(body)
        else:
            if body.strip() and parse_object(body):
                raise Invalid("body", "must be empty, this method takes none")
            arguments = self._read_query(query) if query else {}
        message: Message = self._new(**arguments, **bindings)
        return message

    def _read_body(self, body: bytes) -> dict[str, Any]:
        if not body:
            raise Invalid("body", "must be a JSON object")
        value = parse_object(body)
        for key in self._bound.keys() & value.keys():
            raise Invalid(self._bound[key], "is given by the path already")
        return read_fields(self._readers, value)

    def _read_query(self, query: bytes) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        oneofs: set[str] = set()
        for pair in query.split(b"&"):
            if not pair:
                continue
            raw_key, _, raw_value = pair.partition(b"=")
            key, text = _form_text(raw_key), _form_text(raw_value)
            if key in self._bound:
                raise Invalid(self._bound[key], "is given by the path already")
            reader = self._readers.get(key)
            if reader is None or reader.from_text is None:
                known = ", ".join(sorted({r.name for r in self._readers.values() if r.from_text})) or "none"
                raise Invalid("query", f"holds an unknown parameter (known: {known})")
            if reader.name in arguments:
                raise Invalid(reader.name, "is given twice")
            if reader.oneof is not None:
                if reader.oneof in oneofs:
                    raise Invalid(reader.name, "excludes another field that is given")
                oneofs.add(reader.oneof)
            arguments[reader.name] = reader.from_text(text, reader.name)
        return arguments


def _form_text(component: bytes) -> str:
    """The text of a form-encoded component: a plus is a space, escapes are UTF-8, the rest is ASCII."""
    if not component.isascii() or _BROKEN_ESCAPE.search(component):
        raise Invalid("query", "is not correctly percent-encoded")
    try:
        return unquote_to_bytes(component.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise Invalid("query", "is not correctly percent-encoded") from None
