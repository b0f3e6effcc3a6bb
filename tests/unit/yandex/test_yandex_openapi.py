"""The OpenAPI document of the Yandex API says what the contract accepts."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from thingmint.yandex import openapi
from thingmint.yandex.contract import load
from thingmint.yandex.contract.validation import bounds, compile_bounds
from thingmint.yandex.operations import OPEN, SERVED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.yandex.contract import Method

document = cache(openapi.document)

_TEXTS = ("", "a", "A-b_9", "a.b", "a\n", "ж", "a" * 14, "a" * 50, "a" * 51, "a" * 64, "a" * 65, "a" * 257, "a" * 1025)


def _bindings() -> Iterator[tuple[Method, dict[str, Any]]]:
    """Each binding's method and described operation."""
    paths = document()["paths"]
    for method in load().methods.values():
        for binding in method.bindings:
            yield method, paths[binding.template][binding.http_method.lower()]


def _fields(operation: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """The schemas of the described fields, and which are required, both by names without capitals and underscores."""
    parameters = [each for each in operation["parameters"] if each["in"] != "header"]
    fields = {_plain(each["name"]): each["schema"] for each in parameters}
    required = {_plain(each["name"]) for each in parameters if each["required"]}
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        fields |= {_plain(name): each for name, each in schema["properties"].items()}
        required |= set(map(_plain, schema.get("required", ())))
    return fields, required


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def test_the_document_is_valid() -> None:
    validate(document())


def test_every_binding_is_described() -> None:
    described = {(path, method) for path, methods in document()["paths"].items() for method in methods}
    methods = load().methods.values()
    assert described == {(each.template, each.http_method.lower()) for method in methods for each in method.bindings}


def test_served_and_open_methods_are_marked() -> None:
    for method, operation in _bindings():
        assert operation["x-thingmint-grpc"] == method.path
        assert operation["x-thingmint-served"] == (method.path in SERVED)
        assert (operation.get("security") == []) == (method.path in OPEN)


def test_fields_are_required_as_in_the_contract() -> None:
    for method, operation in _bindings():
        oneofs = {_plain(oneof.name) for oneof in method.request_class.DESCRIPTOR.oneofs}
        violated = {_plain(each.field) for each in method.validator(method.request_class())}
        in_path = {_plain(each["name"]) for each in operation["parameters"] if each["in"] == "path"}
        assert _fields(operation)[1] == (violated - oneofs) | in_path, method.path


def test_texts_are_accepted_as_in_the_contract() -> None:
    compared = 0
    for method, operation in _bindings():
        fields, required = _fields(operation)
        for field in method.request_class.DESCRIPTOR.fields:
            if field.type != FieldDescriptor.TYPE_STRING or field.is_repeated:
                continue
            schema = OAS31Validator(fields[_plain(field.name)])
            for text in _TEXTS:
                violations = method.validator(method.request_class(**{field.name: text}))
                refused = field.name in {each.field for each in violations}
                assert schema.is_valid(text) != refused or (not text and _plain(field.name) in required), (field, text)
                compared += 1
    assert compared > 1000


def test_maps_are_accepted_as_in_the_contract() -> None:
    entries = [{"a": text} for text in _TEXTS] + [{text: "a"} for text in _TEXTS]
    entries += [{f"a{number}": "" for number in range(count)} for count in (0, 64, 65)]
    for method, operation in _bindings():
        if "labels" in method.request_class.DESCRIPTOR.fields_by_name:
            schema = OAS31Validator(_fields(operation)[0]["labels"])
            for labels in entries:
                violations = method.validator(method.request_class(labels=labels))
                refused = any(each.field.startswith("labels") for each in violations)
                assert schema.is_valid(labels) != refused, labels


def test_operations_describe_their_errors_with_codes() -> None:
    whole = document()
    for _, operation in _bindings():
        for status, response in operation["responses"].items():
            if status != "200":
                written = whole["components"]["responses"].get(response.get("$ref", "").rpartition("/")[2], response)
                schema = written["content"]["application/json"]["schema"]
                assert schema["allOf"][1]["properties"]["code"]["enum"]
    create = whole["paths"]["/iot-devices/v1/devices"]["post"]["responses"]
    assert create.keys() == {"200", "400", "401", "403", "404", "409", "429", "500", "503"}


@pytest.mark.parametrize("spec", ["<=50", "<50", ">=14", ">14", "0-1000", "1-63", "5", "0,3-5"])
def test_bounds_are_those_of_the_compiled_rule(spec: str) -> None:
    accepted = [number for number in range(2000) if compile_bounds(spec)(number)]
    low, high = bounds(spec)
    assert (low or 0) == accepted[0]
    assert (1999 if high is None else high) == accepted[-1]


def test_patterns_have_only_what_ecmascript_and_python_read_alike() -> None:
    patterns = re.findall(r"'pattern': '([^']*)'", str(document()))
    assert patterns
    for pattern in patterns:
        assert pattern.startswith("^(?:")
        re.compile(pattern)
