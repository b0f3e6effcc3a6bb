"""The proto3 JSON mapping: reads JSON values into protobuf messages, and writes messages as JSON.

Readers are compiled once for each type of message. ``json_format`` is not used for reading: it accepts ``[]`` as an
empty message, drops characters that are not base64 from bytes, reads ``1_000`` and ``1.5`` as integers or enum values,
and its error messages quote the input. Our errors are :class:`Invalid` with the path of proto field names. Written JSON
is in camelCase, without default values, and indented by one space.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict

from thingmint.domain.errors import Invalid
from thingmint.domain.strict_json import MAX_VALUES, has_too_many_values
from thingmint.yandex.contract.descriptors import ContractError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.descriptor import Descriptor, EnumDescriptor
    from google.protobuf.message import Message

    from thingmint.yandex.contract.descriptors import Descriptors


_Convert: TypeAlias = Callable[[Any, str], Any]
_FromText: TypeAlias = Callable[[str, str], Any]


@dataclass(frozen=True, slots=True)
class FieldReader:
    """Reads one field: ``convert`` from a JSON value, ``from_text`` from a query parameter (None if not possible)."""

    name: str
    oneof: str | None
    convert: _Convert
    from_text: _FromText | None


class _DuplicateKeyError(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _DuplicateKeyError
    return result


def _no_constant(_: str) -> Any:
    raise ValueError


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def parse_object(body: bytes) -> dict[str, Any]:
    """One JSON object (RFC 8259, UTF-8) without repeated keys. Raises Invalid of ``body``."""
    if has_too_many_values(body):
        raise Invalid("body", f"must hold at most {MAX_VALUES} values")
    try:
        value = _DECODER.decode(body.decode())
    except _DuplicateKeyError:
        raise Invalid("body", "holds the same key twice") from None
    except RecursionError:
        raise Invalid("body", "is nested too deeply") from None
    except ValueError:  # not UTF-8, not JSON, NaN, a number of thousands of digits
        raise Invalid("body", "is not well-formed JSON") from None
    if not isinstance(value, dict):
        raise Invalid("body", "must be a JSON object")
    return value


def compile_fields(descriptors: Descriptors, message: Descriptor) -> Mapping[str, FieldReader]:
    """Readers by JSON name and by proto name. Raises ContractError for a type that is not supported."""
    readers: dict[str, FieldReader] = {}
    for field in message.fields:
        reader = _field_reader(descriptors, field)
        readers[field.json_name] = readers[field.name] = reader
    return readers


def read_fields(readers: Mapping[str, FieldReader], value: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Keyword arguments for the message class. A null counts as an absent field. Raises Invalid."""
    arguments: dict[str, Any] = {}
    oneofs: set[str] = set()
    seen: set[str] = set()
    for key, item in value.items():
        reader = readers.get(key)
        if reader is None:
            known = ", ".join(sorted({r.name for r in readers.values()})) or "none"
            raise Invalid(path or "body", f"holds an unknown field (known: {known})")
        name = f"{path}.{reader.name}" if path else reader.name
        if reader.name in seen:
            raise Invalid(name, "is given twice")
        seen.add(reader.name)
        if item is None:
            continue
        if reader.oneof is not None:
            if reader.oneof in oneofs:
                raise Invalid(name, "excludes another field that is given")
            oneofs.add(reader.oneof)
        arguments[reader.name] = reader.convert(item, name)
    return arguments


def _field_reader(descriptors: Descriptors, field: FieldDescriptor) -> FieldReader:
    convert: _Convert
    from_text: _FromText | None = None
    if descriptors.is_map(field):
        convert = _map(field)
    else:
        convert, from_text = _single(descriptors, field)
        if field.is_repeated:
            convert, from_text = _repeated(convert), None
    oneof = field.containing_oneof
    return FieldReader(field.name, oneof.name if oneof is not None else None, convert, from_text)


def _single(descriptors: Descriptors, field: FieldDescriptor) -> tuple[_Convert, _FromText | None]:
    scalar = _SCALARS.get(field.type)
    if scalar is not None:
        return scalar
    if field.enum_type is not None:
        return _enum(field.enum_type)
    if field.message_type is not None:
        return _message(descriptors, field.message_type)
    raise ContractError(f"cannot read {field.full_name} from JSON")


def _string(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise Invalid(path, "must be a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Invalid(path, "holds an unpaired surrogate") from None
    return value


_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}|[A-Za-z0-9_-]*={0,2}")


def _bytes(value: Any, path: str) -> bytes:
    """Bytes from base64 of either alphabet, padded or not, as the proto3 JSON mapping allows."""
    if not isinstance(value, str):
        raise Invalid(path, "must be a string of base64")
    digits = value.rstrip("=")
    padded = digits + "=" * (-len(digits) % 4)
    if _BASE64.fullmatch(value) is None or len(digits) % 4 == 1 or value not in {digits, padded}:
        raise Invalid(path, "is not base64")
    return base64.b64decode(padded, altchars=b"-_" if "-" in digits or "_" in digits else None)


def _bool(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise Invalid(path, "must be true or false")
    return value


def _bool_from_text(text: str, path: str) -> bool:
    if text not in {"true", "false"}:
        raise Invalid(path, "must be true or false")
    return text == "true"


_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")


def _integer(bits: int) -> tuple[_Convert, _FromText]:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    reason = f"must be a {bits}-bit integer"

    def convert(value: Any, path: str) -> int:
        integral = isinstance(value, float) and value.is_integer()
        if integral or (isinstance(value, str) and _DECIMAL.fullmatch(value)):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Invalid(path, reason)
        return value

    return convert, convert


def _enum(enum: EnumDescriptor) -> tuple[_Convert, _FromText]:
    """Readers of an enum value, given by its name or by a number that the contract defines."""
    numbers = {value.name: value.number for value in enum.values}
    known = frozenset(numbers.values())
    by_text = numbers | {str(number): number for number in known}
    reason = f"must be one of {', '.join(numbers)}"

    def convert(value: Any, path: str) -> int:
        if isinstance(value, str) and value in numbers:
            return numbers[value]
        if isinstance(value, int) and not isinstance(value, bool) and value in known:
            return value
        raise Invalid(path, reason)

    def from_text(text: str, path: str) -> int:
        if text not in by_text:
            raise Invalid(path, reason)
        return by_text[text]

    return convert, from_text


def _message(descriptors: Descriptors, message: Descriptor) -> tuple[_Convert, _FromText | None]:
    cls: Any = descriptors.messages[message.full_name]
    if message.full_name == "google.protobuf.FieldMask":

        def convert_mask(value: Any, path: str) -> Any:
            return cls(paths=_mask_paths(value, path))

        return convert_mask, convert_mask
    if message.file.package == "google.protobuf":
        raise ContractError(f"cannot read {message.full_name} from JSON")
    readers = compile_fields(descriptors, message)

    def convert(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise Invalid(path, "must be an object")
        return cls(**read_fields(readers, value, path))

    return convert, None


_MASK_PATH = re.compile(r"[a-z][A-Za-z0-9_]*(?:\.[a-z][A-Za-z0-9_]*)*")


def _mask_paths(value: Any, path: str) -> list[str]:
    """The paths of a field mask: comma-separated, in lowerCamelCase or, as some clients send them, as proto names."""
    if not isinstance(value, str):
        raise Invalid(path, "must be a string of field names with commas between them")
    if not value:
        return []
    paths = value.split(",")
    if not all(map(_MASK_PATH.fullmatch, paths)):
        raise Invalid(path, "must be a string of field names with commas between them")
    return [re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", each) for each in paths]


def _map(field: FieldDescriptor) -> _Convert:
    assert field.message_type is not None
    types = {each.type for each in field.message_type.fields}
    if types != {FieldDescriptor.TYPE_STRING}:
        raise ContractError(f"cannot read {field.full_name} from JSON")

    def convert(value: Any, path: str) -> dict[str, str]:
        if not isinstance(value, dict):
            raise Invalid(path, "must be an object")
        return {_string(k, f"{path}.key"): _string(v, f"{path}.value") for k, v in value.items()}

    return convert


def _repeated(convert: _Convert) -> _Convert:
    def convert_all(value: Any, path: str) -> list[Any]:
        if not isinstance(value, list):
            raise Invalid(path, "must be a list")
        return [convert(item, f"{path}[{index}]") for index, item in enumerate(value)]

    return convert_all


_SCALARS: dict[int, tuple[_Convert, _FromText]] = {
    FieldDescriptor.TYPE_STRING: (_string, _string),
    FieldDescriptor.TYPE_BYTES: (_bytes, _bytes),
    FieldDescriptor.TYPE_BOOL: (_bool, _bool_from_text),
    FieldDescriptor.TYPE_INT32: _integer(32),
    FieldDescriptor.TYPE_INT64: _integer(64),
}


_OPERATION = "yandex.cloud.operation.Operation"


class JsonWriter:
    """Writes messages of one pool as JSON. ``done`` of an Operation is written even if it is false."""

    def __init__(self, descriptors: Descriptors) -> None:
        self._pool = descriptors.pool
        self._operation_lists = {
            name: field.json_name
            for name, cls in descriptors.messages.items()
            for field in cls.DESCRIPTOR.fields
            if field.message_type is not None and field.message_type.full_name == _OPERATION
        }

    def write(self, message: Message) -> bytes:
        """JSON in UTF-8. Raises TypeError if an Any contains a type that is not in the pool."""
        value: dict[str, Any] = MessageToDict(message, descriptor_pool=self._pool)
        name = message.DESCRIPTOR.full_name
        if name == _OPERATION:
            value.setdefault("done", False)
        elif name in self._operation_lists:
            for operation in value.get(self._operation_lists[name], ()):
                operation.setdefault("done", False)
        return _halved(orjson.dumps(value, option=orjson.OPT_INDENT_2))


# Strings in JSON contain no raw line breaks, so every space after a line break is indentation.
_INDENTATION = re.compile(rb"\n((?:  )+)")


def _halved(printed: bytes) -> bytes:
    """``printed`` with an indent of one space. The standard library can write that, but takes twice as long."""
    return _INDENTATION.sub(lambda found: b"\n" + found[1][::2], printed)
