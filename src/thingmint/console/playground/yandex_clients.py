"""The same call with `yandexcloud` and with grpcurl."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from thingmint.console.playground.curl import in_address
from thingmint.console.playground.held_values import snake
from thingmint.console.playground.shown_code import ROOT, Addresses, Equivalent
from thingmint.console.playground.writing import (
    json_command,
    python_call,
    python_imports,
    python_text,
    shell_command,
    shell_word,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.console.playground.held_values import HeldValues, Resolve
    from thingmint.console.playground.operations import Field, Operation

_MASK: Final = "updateMask"
_REFLECTION: Final = "grpcurl asks the server for its messages by reflection, so it needs no .proto files."


class _Message(NamedTuple):
    """A message of protobuf in Python: the module, and the name in it."""

    module: str
    name: str

    @classmethod
    def of(cls, given: str) -> _Message:
        file, _, name = given.partition("#")
        return cls(f"{file.removesuffix('.proto').replace('/', '.')}_pb2", name)


def grpcurl(operation: Operation, given: HeldValues, addresses: Addresses) -> Equivalent | None:
    """None for an operation without a gRPC method."""
    if operation.grpc is None:
        return None
    words = ["grpcurl"]
    if addresses.own_root:
        words.append(f"-cacert {ROOT}")
    if not operation.is_open:
        words.append('-H "authorization: Bearer $IAM_TOKEN"')
    words += [f"-H {shell_word(f'{name}: {value}')}" for name, value in _metadata(operation, given).items()]
    message = {each.name: given.values[each.name] for each in _fields(operation, given)}
    if _MASK in message:
        message[_MASK] = _paths(message[_MASK])  # grpcurl does not know the text that JSON has for it
    command, word = json_command(message)
    if message:
        words.append(f"-d {word}" if command is None else "-d @")
    words += [shell_word(addresses.grpc), operation.grpc.removeprefix("/")]
    return Equivalent("grpcurl", "grpcurl", shell_command(words, command), _REFLECTION)


def yandexcloud(operation: Operation, given: HeldValues, addresses: Addresses, resolve: Resolve) -> Equivalent | None:
    """None for an operation without a gRPC method."""
    if operation.grpc is None or "request" not in operation.messages:
        return None
    messages = {role: _Message.of(each) for role, each in operation.messages.items()}
    request = messages["request"]
    service, method = operation.grpc.removeprefix("/").split("/")
    stub = f"{service.rpartition('.')[2]}Stub"
    fields = _arguments(operation, given, resolve)
    found: dict[str, set[str]] = {f"{request.module}_grpc": {stub}}
    for message in messages.values():
        found.setdefault(message.module, set()).add(message.name)
    call = _method_call(f"sdk.client({stub}).{method}", python_call(request.name, fields), _metadata(operation, given))
    has_result = "response" in messages
    lines = [
        "# pip install yandexcloud",
        *_imports(operation, fields, addresses),
        "",
        *(line for module, names in sorted(found.items()) for line in _from(module, sorted(names))),
        "from yandexcloud import SDK",
        "",
        _sdk(operation, addresses),
        f"{'operation' if has_result else 'answer'} = {call}",
    ]
    if has_result:
        names = ["operation", messages["response"].name, messages["metadata"].name]
        lines.append(f"result = {python_call('sdk.wait_operation_and_get_result', {}, names)}")
    lines.append("print(result.response)" if has_result else "print(answer)")
    return Equivalent("yandexcloud", "yandexcloud", "\n".join(lines))


def _fields(operation: Operation, given: HeldValues) -> list[Field]:
    """The fields of the message that the call has: those of the path, the query and the body."""
    return [each for each in operation.fields if each.place != "header" and each.name in given.values]


def _metadata(operation: Operation, given: HeldValues) -> dict[str, str]:
    headers = operation.fields_of("header")
    values = {each.name.lower(): in_address(given.values[each.name]) for each in headers if each.name in given.values}
    return {name: value for name, value in values.items() if value.isascii() and value.isprintable()}


def _arguments(operation: Operation, given: HeldValues, resolve: Resolve) -> dict[str, Any]:
    arguments = {
        snake(each.name): _in_protobuf(given.values[each.name], each.schema, resolve)
        for each in _fields(operation, given)
    }
    if snake(_MASK) in arguments:
        arguments[snake(_MASK)] = _paths(arguments[snake(_MASK)])
    return arguments


def _paths(mask: Any) -> Any:
    """A mask of fields as a message. JSON has a text."""
    return {"paths": [snake(path) for path in mask.split(",") if path]} if isinstance(mask, str) else mask


def _in_protobuf(value: Any, schema: Mapping[str, Any], resolve: Resolve) -> Any:
    """The value with the names of protobuf: a message takes an object for one of its own. Keys of maps stay."""
    if isinstance(value, list):
        items = resolve(schema.get("items", {}))
        return [_in_protobuf(each, items, resolve) for each in value]
    properties = schema.get("properties", {})
    if isinstance(value, dict) and properties:
        return {
            snake(name) if name in properties else name: _in_protobuf(each, resolve(properties.get(name, {})), resolve)
            for name, each in value.items()
        }
    return value


def _method_call(method: str, request: str, metadata: Mapping[str, str]) -> str:
    pairs = " ".join(f"({python_text(name)}, {python_text(value)})," for name, value in metadata.items())
    more = [f"metadata=({pairs})"] if pairs else []
    if "\n" not in request:
        return python_call(method, {}, [request, *more])
    if not more:
        return f"{method}({request})"
    indented = request.replace("\n", "\n    ")
    return python_call(method, {}, [indented, *more])


def _imports(operation: Operation, fields: Mapping[str, Any], addresses: Addresses) -> list[str]:
    needed = set(python_imports(dict(fields)))
    if not operation.is_open:
        needed.add("import os")
    if addresses.own_root:
        needed.add("from pathlib import Path")
    return sorted(needed, key=lambda line: (line.startswith("from"), line))


def _from(module: str, names: list[str]) -> list[str]:
    line = f"from {module} import {', '.join(names)}"
    return [line] if len(line) <= 100 else [f"from {module} import (", *(f"    {name}," for name in names), ")"]


def _sdk(operation: Operation, addresses: Addresses) -> str:
    lines = [f"    endpoint={python_text(addresses.grpc)},"]
    if addresses.own_root:
        lines.append(f"    root_certificates=Path({python_text(ROOT)}).read_bytes(),")
    if not operation.is_open:
        lines.append('    iam_token=os.environ["IAM_TOKEN"],')
    return "\n".join(["sdk = SDK(", *lines, ")"])
