"""Loads the descriptor set in ``descriptors.binpb`` into a private pool.

The SDK's generated classes register the same names in the default pool. With a private pool, one process can use both.
``descriptors.binpb`` is written by ``scripts/extract_yandex_descriptors.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.protobuf.descriptor import (
        Descriptor,
        FieldDescriptor,
        MethodDescriptor,
        OneofDescriptor,
        ServiceDescriptor,
    )
    from google.protobuf.message import Message


class ContractError(Exception):
    """The descriptor set has something that this code does not support. Raised at load time only."""


class Descriptors:
    """Message classes, services and options of one descriptor set.

    Read options with ``option``: the result of ``GetOptions`` belongs to the default pool, which lacks the extensions.
    """

    def __init__(self, serialized: bytes) -> None:
        pool = DescriptorPool()
        loaded = [
            pool.AddSerializedFile(file.SerializeToString()) for file in FileDescriptorSet.FromString(serialized).file
        ]
        self.pool = pool
        self.services: tuple[ServiceDescriptor, ...] = tuple(
            service for file in loaded for service in file.services_by_name.values()
        )
        self.messages: Mapping[str, type[Message]] = {
            descriptor.full_name: GetMessageClass(descriptor)
            for file in loaded
            for top in file.message_types_by_name.values()
            for descriptor in _with_nested(top)
        }
        self._extensions = {
            name: pool.FindExtensionByName(name)
            for file in loaded
            for name in (extension.full_name for extension in file.extensions_by_name.values())
        }
        self._map_entries = frozenset(
            name for name, cls in self.messages.items() if cls.DESCRIPTOR.GetOptions().map_entry
        )

    @classmethod
    def load(cls) -> Descriptors:
        """The set that comes with this package."""
        return cls(Path(__file__).with_name("descriptors.binpb").read_bytes())

    def is_map(self, field: FieldDescriptor) -> bool:
        return field.message_type is not None and field.message_type.full_name in self._map_entries

    def option(
        self, of: FieldDescriptor | MethodDescriptor | OneofDescriptor, name: str
    ) -> Any | None:  # a scalar or a message, depending on the extension
        """The value of the option ``name`` (an extension's full name), or None if it is not set."""
        if not of.has_options:
            return None
        options = of.GetOptions()
        cls = self.messages[options.DESCRIPTOR.full_name]
        own: Any = cls.FromString(options.SerializeToString())
        extension = self._extensions[name]
        return own.Extensions[extension] if own.HasExtension(extension) else None

    def resolve(self, name: str, package: str) -> type[Message]:
        """The class of the message that ``name`` means in a .proto file of ``package``: relative to it, or in full."""
        for candidate in (f"{package}.{name}", name):
            if candidate in self.messages:
                return self.messages[candidate]
        raise ContractError(f"no message {name} in {package}")


def _with_nested(descriptor: Descriptor) -> Iterator[Descriptor]:
    yield descriptor
    for nested in descriptor.nested_types:
        yield from _with_nested(nested)
