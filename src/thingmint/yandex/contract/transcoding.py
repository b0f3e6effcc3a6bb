"""From an HTTP request's parts to the request message of a method, by its ``google.api.http`` rule."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
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


_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class RequestReader:
    """Reads the requests of one method. ``whole_body`` tells ``body: "*"`` from a rule without body."""

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
        """The body is JSON, whatever its content type: Yandex's own guide has curl send its default, that of forms.

        A method that takes no body may be sent an empty object. Raises Invalid of the field, of ``body`` or ``query``.
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
            key, text = _decode(raw_key), _decode(raw_value)
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


def _decode(component: bytes) -> str:
    """A form-encoded component (a plus is a space), ASCII outside and UTF-8 inside its escapes."""
    if not component.isascii() or _BROKEN_ESCAPE.search(component):
        raise Invalid("query", "is not correctly percent-encoded")
    try:
        return unquote_to_bytes(component.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise Invalid("query", "is not correctly percent-encoded") from None
