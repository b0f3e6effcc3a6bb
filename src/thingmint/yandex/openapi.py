"""The OpenAPI 3.1 document of the Yandex API over REST: every HTTP binding of the contract."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor import FieldDescriptor

from thingmint import __version__
from thingmint.http.openapi import Examples, Responses, permissions, whole, words
from thingmint.yandex.contract import load
from thingmint.yandex.contract.answers import HTTP_STATUS, Code
from thingmint.yandex.contract.descriptors import ContractError, Descriptors
from thingmint.yandex.contract.transcoding import parse_template
from thingmint.yandex.contract.validation import bounds, length_of
from thingmint.yandex.descriptions import DEFAULTS, ERRORS, FIELDS, METHODS
from thingmint.yandex.operations import OPEN, SERVED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.protobuf.descriptor import Descriptor

    from thingmint.yandex.contract import HttpBinding, Method


_EXACTLY_ONE: Final = "yandex.cloud.exactly_one"
_SCHEMAS: Final = "#/components/schemas/"
_STATUS: Final = "rpc.Status"
_OF_EVERY_CALL: Final = (Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED, Code.INTERNAL, Code.UNAVAILABLE)
_OF_CALLERS: Final = (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED, Code.NOT_FOUND)
_MEANINGS: Final = {
    Code.INVALID_ARGUMENT: "a field is wrong; the details name it",
    Code.UNAUTHENTICATED: "there is no IAM token, or the server does not accept it",
    Code.PERMISSION_DENIED: "no role allows this to the caller",
    Code.NOT_FOUND: "there is no such resource in the caller's folders",
    Code.ALREADY_EXISTS: "the name or the certificate is in use",
    Code.FAILED_PRECONDITION: "the resource's state or its use does not allow this",
    Code.RESOURCE_EXHAUSTED: "a quota is reached, or there are too many calls",
    Code.UNIMPLEMENTED: "the server does not serve this",
    Code.INTERNAL: "the server failed; its log has the details",
    Code.UNAVAILABLE: "the store cannot be reached, or cannot write changes now",
}
_GRPC_ONLY: Final = "x-thingmint-grpc-only"
_MASK_PATH: Final = r"[a-z][A-Za-z0-9_]*(?:\.[a-z][A-Za-z0-9_]*)*"
_WELL_KNOWN: Final[Mapping[str, dict[str, Any]]] = {
    "google.protobuf.Any": {
        "type": "object",
        "required": ["@type"],
        "properties": {"@type": {"type": "string", "description": "The URL of the message's type."}},
    },
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.FieldMask": {
        "type": "string",
        "description": "The names of the fields to change, with commas between them.",
        "pattern": whole(f"(?:{_MASK_PATH}(?:,{_MASK_PATH})*)?"),
    },
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
}
_SECRETS: Final = {"password", "iam_token", "jwt", "yandex_passport_oauth_token"}
"""The fields that hold a secret."""
_INTEGERS: Final = {FieldDescriptor.TYPE_INT32: 32, FieldDescriptor.TYPE_INT64: 64}


def document() -> dict[str, Any]:
    """Return the document. Fields of requests have the limits and patterns of the descriptors' options."""
    writer = _Writer(Descriptors.load())
    paths: dict[str, Any] = {}
    tags: dict[str, str] = {}
    grpc_only: list[dict[str, Any]] = []
    for method in load().methods.values():
        tag = method.label.partition(".")[0]
        tags[tag] = f"{words(tag.removesuffix('Service'))}: the methods of `{method.service}`."
        for binding in method.bindings:
            paths.setdefault(binding.template, {})[binding.http_method.lower()] = writer.operation(method, binding)
        if not method.bindings:
            grpc_only.append(writer.operation(method, None))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Yandex IoT Core's REST API, as Thingmint serves it",
            "version": __version__,
            "description": (
                "The HTTP bindings of the published descriptors. The same methods are served over gRPC, and those of "
                f"`{_GRPC_ONLY}`, which have no binding: their request is the body."
            ),
        },
        "servers": [{"url": "/", "description": "The server that answered with this document."}],
        "security": [{"iamToken": []}],
        "tags": [{"name": name, "description": tags[name]} for name in sorted(tags)],
        "paths": paths,
        _GRPC_ONLY: grpc_only,
        "components": {
            "securitySchemes": {
                "iamToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An IAM token, which `POST /iam/v1/tokens` gives for a signed JWT.",
                }
            },
            "headers": {
                "x-request-id": {
                    "description": "The id of the request, as in the audit log.",
                    "schema": {"type": "string"},
                }
            },
            "responses": dict(sorted(writer.responses.written.items())),
            "schemas": dict(sorted(writer.schemas.items())),
        },
    }


class _Writer:
    """Writes operations. ``schemas`` collects the messages that they refer to."""

    def __init__(self, descriptors: Descriptors) -> None:
        self._descriptors = descriptors
        self.schemas: dict[str, Any] = {}
        self.responses = Responses()
        self._examples = Examples("thingmint.yandex")
        self._answer(self._message("google.rpc.Status"))

    def _message(self, name: str) -> Any:
        """The descriptor of a message. mypy knows two classes of them."""
        return self._descriptors.messages[name].DESCRIPTOR

    def operation(self, method: Method, binding: HttpBinding | None) -> dict[str, Any]:
        """Without a binding, all fields are in the body."""
        request = self._message(method.request_class.DESCRIPTOR.full_name)
        tag = method.label.partition(".")[0]
        verb = "" if binding is None or binding == method.bindings[0] else f".{binding.http_method.lower()}"
        variables = parse_template(binding.template).variables if binding is not None else ()
        written: dict[str, Any] = {
            "operationId": f"{method.label}{verb}",
            "summary": f"{words(tag.removesuffix('Service'))}: {words(method.name).lower()}",
            "tags": [tag],
            "x-thingmint-served": method.path in SERVED,
            "x-thingmint-grpc": method.path,
            **permissions([] if method.path in OPEN else [f"yandex:{method.label}"]),
            "x-thingmint-messages": _messages(method),
            "parameters": [self._parameter(request.fields_by_name[name], "path") for name in variables],
        }
        others = [field for field in request.fields if field.name not in variables]
        texts = [METHODS[method.label]] if method.label in METHODS else []
        if binding is None or binding.body:
            schema = self._given_fields(request, others)
            written["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        else:
            written["parameters"] += [self._parameter(field, "query") for field in others if not field.is_repeated]
            if choices := [oneof for oneof in request.oneofs if self._descriptors.option(oneof, _EXACTLY_ONE)]:
                names = [", ".join(field.json_name for field in oneof.fields) for oneof in choices]
                texts.append(f"Needs exactly one of: {'; '.join(names)}.")
        if texts:
            written["description"] = " ".join(texts)
        if method.operation is not None and binding is not None:
            written["parameters"].append(
                {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "required": False,
                    "description": "A UUID: a repeated call with the same key gets the first call's answer.",
                    "schema": {"type": "string"},
                }
            )
        if method.path in OPEN:
            written["security"] = []
        written["responses"] = {"200": self._success(method), **self._errors(method)}
        self._examples.embed(written, self.responses.written)
        return written

    def _parameter(self, field: FieldDescriptor, place: str) -> dict[str, Any]:
        schema, required = self._given(field)
        if place == "path":
            schema = schema | {"minLength": max(1, schema.get("minLength", 0))}
        return {
            "name": field.name if place == "path" else field.json_name,
            "in": place,
            "required": required or place == "path",
            "description": schema.pop("description", f"{words(field.name)}."),
            "schema": schema,
        }

    def _success(self, method: Method) -> dict[str, Any]:
        schema: dict[str, Any] = self._answer(self._message(method.response_class.DESCRIPTOR.full_name))
        if method.operation is not None:
            types = {"metadata": method.operation.metadata_class, "response": method.operation.response_class}
            of = {name: self._packed(self._message(cls.DESCRIPTOR.full_name)) for name, cls in types.items()}
            schema = {"allOf": [schema, {"type": "object", "properties": of}]}
        return {
            "description": "Done.",
            "headers": {"x-request-id": {"$ref": "#/components/headers/x-request-id"}},
            "content": {"application/json": {"schema": schema}},
        }

    def _packed(self, message: Descriptor) -> dict[str, Any]:
        """The schema of a google.protobuf.Any with the message."""
        return {"allOf": [_WELL_KNOWN["google.protobuf.Any"], self._answer(message)]}

    def _errors(self, method: Method) -> dict[str, Any]:
        """The errors by status, with the codes of gRPC."""
        codes = [*_OF_EVERY_CALL, *ERRORS.get(method.label, ())]
        codes += () if method.path in OPEN else _OF_CALLERS
        codes += () if method.path in SERVED else (Code.UNIMPLEMENTED,)
        by_status: dict[str, list[Code]] = {}
        for code in sorted(codes):
            by_status.setdefault(str(HTTP_STATUS[code]), []).append(code)
        return {status: self.responses.refer(status, _error(found)) for status, found in sorted(by_status.items())}

    def _answer(self, message: Descriptor) -> dict[str, Any]:
        """The schema of a message of an answer. Fields with their default value are left out there."""
        if message.full_name in _WELL_KNOWN:
            return _WELL_KNOWN[message.full_name]
        name = message.full_name.removeprefix("yandex.cloud.").removeprefix("google.")
        if name not in self.schemas:
            self.schemas[name] = {}
            self.schemas[name] = {
                "type": "object",
                "properties": {
                    field.json_name: self._answer_field(field) | _description(field) for field in message.fields
                },
            }
        return {"$ref": f"{_SCHEMAS}{name}"}

    def _answer_field(self, field: FieldDescriptor) -> dict[str, Any]:
        if self._descriptors.is_map(field):
            return {"type": "object", "additionalProperties": {"type": "string"}}
        if field.message_type is not None:
            schema = self._answer(field.message_type)
        elif field.type == FieldDescriptor.TYPE_INT64:
            schema = {"type": "string", "format": "int64"}
        else:
            schema = _type(field)
        return {"type": "array", "items": schema} if field.is_repeated else schema

    def _given_message(self, message: Descriptor) -> dict[str, Any]:
        if message.full_name in _WELL_KNOWN:
            return _WELL_KNOWN[message.full_name]
        name = f"{message.full_name.removeprefix('yandex.cloud.')}.Given"
        if name not in self.schemas:
            self.schemas[name] = self._given_fields(message, message.fields)
        return {"$ref": f"{_SCHEMAS}{name}"}

    def _given_fields(self, message: Descriptor, fields: Iterable[FieldDescriptor]) -> dict[str, Any]:
        """The schema of a message in a request. Names of fields in snake_case are accepted too, but not described."""
        properties: dict[str, Any] = {}
        required = []
        for field in fields:
            properties[field.json_name], is_required = self._given(field)
            if is_required:
                required.append(field.json_name)
        schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            schema["required"] = required
        choices = [
            self._choice([field.json_name for field in oneof.fields], oneof)
            for oneof in message.oneofs
            if {field.name for field in oneof.fields} & {field.name for field in fields}
        ]
        return schema | {"allOf": choices} if choices else schema

    def _choice(self, names: list[str], oneof: Any) -> dict[str, Any]:
        each: list[dict[str, Any]] = [{"required": [name]} for name in names]
        if not self._descriptors.option(oneof, _EXACTLY_ONE):
            each.append({"not": {"anyOf": [{"required": [name]} for name in names]}})
        return {"oneOf": each}

    def _given(self, field: FieldDescriptor) -> tuple[dict[str, Any], bool]:
        """The schema of a field of a request, and whether it is required."""
        schema, required = self._undescribed(field)
        default = {"default": DEFAULTS[field.name]} if field.name in DEFAULTS else {}
        return schema | _description(field) | default, required

    def _undescribed(self, field: FieldDescriptor) -> tuple[dict[str, Any], bool]:
        option = self._descriptors.option
        required = bool(option(field, "yandex.cloud.required"))
        if self._descriptors.is_map(field):
            schema = self._map(field)
        elif field.is_repeated:
            items = self._given_message(field.message_type) if field.message_type is not None else _type(field)
            schema = {"type": "array", "items": items, **self._bounds(field, "size", "minItems", "maxItems")}
        elif field.message_type is not None:
            return self._given_message(field.message_type), required
        else:
            schema = self._scalar(field)
        if required and schema.get("type") == "string":
            schema["minLength"] = max(1, schema.get("minLength", 0))
        return schema, required or (field.containing_oneof is None and _refuses_default(schema))

    def _scalar(self, field: FieldDescriptor) -> dict[str, Any]:
        schema = _type(field)
        if (pattern := self._descriptors.option(field, "yandex.cloud.pattern")) is not None:
            schema["pattern"] = whole(_portable(pattern))
        if (length := self._descriptors.option(field, "yandex.cloud.length")) is not None:
            low, high = bounds(length_of(field.name, length))
            if field.type == FieldDescriptor.TYPE_BYTES:
                high = None if high is None else -(-high // 3) * 4
            schema |= _limits(low, high, "minLength", "maxLength")
        return schema | self._bounds(field, "value", "minimum", "maximum")

    def _map(self, field: FieldDescriptor) -> dict[str, Any]:
        assert field.message_type is not None
        keys: dict[str, Any] = {"type": "string"}
        values = self._scalar_of_map(field)
        spec = self._descriptors.option(field, "yandex.cloud.map_key")
        if spec is not None and spec.pattern:
            keys["pattern"] = whole(_portable(spec.pattern))
        if spec is not None and spec.length:
            keys |= _limits(*bounds(spec.length), "minLength", "maxLength")
        size = self._bounds(field, "size", "minProperties", "maxProperties")
        return {"type": "object", "propertyNames": keys, "additionalProperties": values, **size}

    def _scalar_of_map(self, field: FieldDescriptor) -> dict[str, Any]:
        values: dict[str, Any] = {"type": "string"}
        if (pattern := self._descriptors.option(field, "yandex.cloud.pattern")) is not None:
            values["pattern"] = whole(_portable(pattern))
        if (length := self._descriptors.option(field, "yandex.cloud.length")) is not None:
            values |= _limits(*bounds(length), "minLength", "maxLength")
        return values

    def _bounds(self, field: FieldDescriptor, option: str, least: str, most: str) -> dict[str, Any]:
        spec = self._descriptors.option(field, f"yandex.cloud.{option}")
        return {} if spec is None else _limits(*bounds(spec), least, most)


def _description(field: FieldDescriptor) -> dict[str, Any]:
    message: Any = field.containing_type
    text = FIELDS.get(f"{message.name}.{field.name}") or FIELDS.get(field.name)
    return {"description": text} if text else {}


def _messages(method: Method) -> dict[str, str]:
    """The file and the name of the request's message, and of those in an operation, for code of protobuf."""
    classes = {"request": method.request_class}
    if method.operation is not None:
        classes |= {"metadata": method.operation.metadata_class, "response": method.operation.response_class}
    return {role: f"{each.DESCRIPTOR.file.name}#{each.DESCRIPTOR.name}" for role, each in classes.items()}


def _error(codes: list[Code]) -> dict[str, Any]:
    of_codes = {"properties": {"code": {"enum": [code.value for code in codes]}}}
    return {
        "description": "\n".join(f"- `{code.name}` ({code.value}): {_MEANINGS[code]}" for code in codes),
        "content": {"application/json": {"schema": {"allOf": [{"$ref": f"{_SCHEMAS}{_STATUS}"}, of_codes]}}},
    }


def _type(field: FieldDescriptor) -> dict[str, Any]:
    if field.enum_type is not None:
        return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "contentEncoding": "base64"}
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {"type": "boolean"}
    if (bits := _INTEGERS.get(field.type)) is not None:
        limit = 1 << (bits - 1)
        return {"type": "integer", "format": f"int{bits}", "minimum": -limit, "maximum": limit - 1}
    if field.type != FieldDescriptor.TYPE_STRING:
        raise ContractError(f"cannot describe {field.full_name}")
    return {"type": "string"} | ({"x-sensitive": True} if field.name in _SECRETS else {})


def _refuses_default(schema: Mapping[str, Any]) -> bool:
    """True if an absent field breaks a rule: the rules apply to default values too."""
    if any(schema.get(least, 0) > 0 for least in ("minLength", "minItems", "minProperties", "minimum")):
        return True
    return "pattern" in schema and re.search(schema["pattern"], "") is None


def _limits(low: int | None, high: int | None, least: str, most: str) -> dict[str, Any]:
    return {name: value for name, value in ((least, low), (most, high)) if value is not None}


def _portable(pattern: str) -> str:
    """The pattern, if ECMAScript reads it as Python does. Raises ContractError."""
    if re.search(r"\\[a-zA-Z]|\(\?|\.(?![^[]*\])", pattern):
        raise ContractError(f"cannot describe the pattern {pattern}")
    return pattern
