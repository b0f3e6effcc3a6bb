"""REST requests that gRPC cannot make: JSON of a wrong type, unknown fields, and fields that are given twice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from google.protobuf.descriptor import FieldDescriptor

from tests.e2e.yandex.clients import METHODS, Refused, http_rule, nothing_stored, refused_over_rest
from tests.e2e.yandex.test_all_methods import is_served

if TYPE_CHECKING:
    from tests.e2e.yandex.clients import Cloud

WRONG: dict[str, list[Any]] = {
    "text": [1, 1.5, True, [], {}, ["x"], {"x": 1}],
    "number": ["x", "1.5", "1_0", "0x1", "ten", 1.5, 2**63, "9" * 30, True, [], {}],
    "enum": ["NOTHING", "basic", 99, -1, 0.5, True, [], {}],
    "bytes": [1, True, "?", "A", [], {}],
    "bool": ["yes", 1, [], {}],
    "map": [1, "x", True, [], [["k", "v"]], {"k": 1}, {"k": None}, {"k": ["v"]}],
    "mask": [1, True, [], {}, {"paths": ["name"]}, ["name"]],
    "message": [1, True, "x", [], [{}], {"nothing": 1}],
    "list": [1, "x", True, {}, [1], ["x"], [None], [[]], [{"nothing": 1}]],
}
_SCALARS = {
    FieldDescriptor.TYPE_STRING: "text",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_ENUM: "enum",
}
SERVED = [method for method in METHODS if http_rule(method) is not None and is_served(method)]
WITH_BODY = [method for method in SERVED if (http_rule(method) or ("", "", False))[2]]
WITHOUT_BODY = [method for method in SERVED if method not in WITH_BODY]


def type_of(field: Any) -> str:
    if field.message_type is None:
        return _SCALARS.get(field.type, "number")
    if field.message_type.GetOptions().map_entry:
        return "map"
    if field.message_type.name == "FieldMask":
        return "mask"
    return "list" if field.is_repeated else "message"


def fields_of(method: str) -> list[Any]:
    """Those that are not in the path."""
    in_path = re.findall(r"\{(\w+)\}", (http_rule(method) or ("", ""))[1])
    return [field for field in METHODS[method].input_type.fields if field.name not in in_path]


def send(cloud: Cloud, method: str, body: Any = None, query: list[tuple[str, str]] | None = None) -> Refused | None:
    kind, template, _ = http_rule(method) or ("", "", False)
    url = re.sub(r"\{\w+\}", "are00000000000000000", template)
    answer = cloud.http.request(
        kind,
        f"{url}?{urlencode(query)}" if query else url,
        json=body,
        headers={"authorization": f"Bearer {cloud.token}"},
    )
    return refused_over_rest(answer) if answer.status_code != 200 else None


def refuses(refused: Refused | None, name: str) -> bool:
    """Whether the refusal names the field, or a part of it, and nothing else."""
    return (
        refused is not None
        and refused.code == "INVALID_ARGUMENT"
        and len(refused.violations) == 1
        and re.split(r"[.\[]", next(iter(refused.violations)))[0] == name
    )


@pytest.mark.parametrize("method", WITH_BODY)
def test_json_of_a_wrong_type_is_refused_and_names_its_field(cloud: Cloud, method: str) -> None:
    with nothing_stored(cloud.server):
        accepted = [
            (name, value)
            for field in fields_of(method)
            for value in WRONG[type_of(field)]
            for name in {field.name, field.json_name}
            if not refuses(send(cloud, method, {name: value}), field.name)
        ]
    assert not accepted


@pytest.mark.parametrize("method", WITH_BODY)
def test_unknown_fields_and_fields_in_two_spellings_are_refused(cloud: Cloud, method: str) -> None:
    with nothing_stored(cloud.server):
        for name in ("nothing", "", "Name", "device-id", "\0", "__proto__"):
            refused = send(cloud, method, {name: "x"})
            assert refused is not None
            assert refused.code == "INVALID_ARGUMENT"
        for field in fields_of(method):
            if field.name != field.json_name:
                values = {"list": [], "map": {}, "message": {}, "mask": "name", "number": "1"}
                value = values.get(type_of(field), "")
                assert refuses(send(cloud, method, {field.name: value, field.json_name: value}), field.name), field.name


@pytest.mark.parametrize("method", WITHOUT_BODY)
def test_wrong_query_parameters_are_refused_and_named(cloud: Cloud, method: str) -> None:
    """Of a wrong type, unknown, given twice, or given in two spellings."""
    accepted = []
    with nothing_stored(cloud.server):
        for field in fields_of(method):
            texts = [value for value in WRONG[type_of(field)] if isinstance(value, str)]
            good = {"number": "1", "enum": "0"}.get(type_of(field), "x")
            queries = [
                *([(field.name, text)] for text in texts),
                [(field.name, good), (field.json_name, good)],
                [(field.json_name, good), (field.json_name, good)],
            ]
            accepted += [query for query in queries if not refuses(send(cloud, method, query=query), field.name)]
        for name in ("nothing", "a.b", "page_size[]", "%00", "\0"):
            if not refuses(send(cloud, method, query=[(name, "x")]), "query"):
                accepted.append([(name, "x")])
    assert not accepted
