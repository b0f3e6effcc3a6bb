"""Replies as JSON: the proto3 mapping in camelCase, defaults left out, an indent of one space."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson
from google.protobuf.json_format import MessageToDict

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from thingmint.yandex.contract.descriptors import Descriptors


_OPERATION = "yandex.cloud.operation.Operation"


class JsonWriter:
    """Prints messages of one pool. ``done`` of an Operation is printed when it is false, too."""

    def __init__(self, descriptors: Descriptors) -> None:
        self._pool = descriptors.pool
        self._operation_lists = {
            name: field.json_name
            for name, cls in descriptors.messages.items()
            for field in cls.DESCRIPTOR.fields
            if field.message_type is not None and field.message_type.full_name == _OPERATION
        }

    def write(self, message: Message) -> bytes:
        """UTF-8. Raises TypeError where an Any holds a type that is not of the pool."""
        value: dict[str, Any] = MessageToDict(message, descriptor_pool=self._pool)
        name = message.DESCRIPTOR.full_name
        if name == _OPERATION:
            value.setdefault("done", False)
        elif name in self._operation_lists:
            for operation in value.get(self._operation_lists[name], ()):
                operation.setdefault("done", False)
        return _halved(orjson.dumps(value, option=orjson.OPT_INDENT_2))


# No text in JSON has a line break of its own, so every blank after one is indentation.
_INDENTATION = re.compile(rb"\n((?:  )+)")


def _halved(printed: bytes) -> bytes:
    """The same with an indent of one space; the standard library, which can print that, takes twice as long."""
    return _INDENTATION.sub(lambda found: b"\n" + found[1][::2], printed)
