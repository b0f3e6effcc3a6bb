"""HTTP requests with any content give a message or an error; JSON written by json_format is read."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from thingmint.domain.errors import Invalid
from thingmint.yandex.contract import Method, load
from thingmint.yandex.contract.validation import InvalidRequest

CONTRACT = load()
HTTP_METHODS = [method for method in CONTRACT.methods.values() if method.bindings]
NAMES = sorted(
    {name for m in HTTP_METHODS for f in m.request_class.DESCRIPTOR.fields for name in (f.name, f.json_name)}
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["BASIC", "name", "YQ=="]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*NAMES, "certificateData", "minLevel"]) | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


def read_or_refuse(method: Method, query: bytes, body: bytes) -> None:
    template = method.bindings[0].template
    names = [field.name for field in method.request_class.DESCRIPTOR.fields]
    bound = {name: "x" for name in names if f"{{{name}}}" in template}
    try:
        request = method.request_from_http(bound, query, body)
    except Invalid:
        return
    try:
        method.validate(request)
    except InvalidRequest:
        return
    assert CONTRACT.response_to_json(request)


@settings(deadline=None)
@given(st.sampled_from(HTTP_METHODS), st.binary(), st.binary())
def test_arbitrary_bytes_are_read_or_refused(method: Method, query: bytes, body: bytes) -> None:
    read_or_refuse(method, query, body)
    read_or_refuse(method, b"", body)
    read_or_refuse(method, query, b"")


@settings(deadline=None)
@given(st.sampled_from(HTTP_METHODS), st.dictionaries(st.sampled_from(NAMES), JSON, max_size=5))
def test_arbitrary_json_is_read_or_refused(method: Method, value: dict[str, Any]) -> None:
    read_or_refuse(method, b"", json.dumps(value).encode())


@settings(deadline=None)
@given(
    st.sampled_from(HTTP_METHODS),
    st.lists(st.tuples(st.sampled_from([n.encode() for n in NAMES]), st.binary()), max_size=4),
)
def test_arbitrary_queries_are_read_or_refused(method: Method, pairs: list[tuple[bytes, bytes]]) -> None:
    read_or_refuse(method, b"&".join(b"=".join(pair) for pair in pairs), b"")


@settings(deadline=None)
@given(st.sampled_from(HTTP_METHODS), JSON)
def test_errors_do_not_quote_the_input(method: Method, value: Any) -> None:
    mark = "q7Zx"
    for key in (
        "folderId",
        "labels",
        "logOptions",
        "updateMask",
        "data",
        "deviceView",
        "pageSize",
        "certificates",
        mark,
    ):
        body = json.dumps({key: {mark: value} if isinstance(value, str) else [mark, value]}).encode()
        query = key.encode() + b"=" + mark.encode()
        for refusal in (refusal_of(method, b"", body), refusal_of(method, query, b"")):
            assert mark not in refusal


def refusal_of(method: Method, query: bytes, body: bytes) -> str:
    try:
        method.request_from_http({}, query, body)
    except Invalid as refused:
        return str(refused)
    return ""


def messages(cls: Any) -> st.SearchStrategy[Any]:
    """Messages of a request type with any subset of its fields."""
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in cls.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            strategy: st.SearchStrategy[Any] = st.dictionaries(TEXT, TEXT, max_size=3)
        elif field.message_type is not None and field.message_type.name == "FieldMask":
            strategy = st.lists(st.sampled_from(["name", "topic_aliases", "a.b_c"])).map(field_mask)
        elif field.message_type is not None:
            strategy = messages(CONTRACT.messages[field.message_type.full_name])
            strategy = st.lists(strategy, max_size=3) if field.is_repeated else strategy
        elif field.enum_type is not None:
            strategy = st.sampled_from([value.number for value in field.enum_type.values])
        else:
            strategy = SCALARS[field.type]
        fields[field.name] = strategy
    return st.fixed_dictionaries({}, optional=fields).filter(one_of_each).map(lambda arguments: cls(**arguments))


def field_mask(paths: list[str]) -> Any:
    cls: Any = CONTRACT.messages["google.protobuf.FieldMask"]
    return cls(paths=paths)


EXCLUSIVE = ({"registry_id", "folder_id"}, {"log_group_id", "folder_id"}, {"yandex_passport_oauth_token", "jwt"})


def one_of_each(arguments: dict[str, Any]) -> bool:
    return not any(pair <= arguments.keys() for pair in EXCLUSIVE)


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
SCALARS = {
    FieldDescriptor.TYPE_STRING: TEXT,
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=20),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
}
BODY_METHODS = [method for method in HTTP_METHODS if method.bindings[0].body]


@settings(deadline=None)
@given(st.data(), st.sampled_from(BODY_METHODS), st.booleans())
def test_json_written_by_json_format_is_read(data: st.DataObject, method: Method, snake_case: bool) -> None:
    sent = data.draw(messages(method.request_class))
    body: dict[str, Any] = json.loads(json_format.MessageToJson(sent, preserving_proto_field_name=snake_case))
    bound = {}
    for field in method.request_class.DESCRIPTOR.fields:
        if f"{{{field.name}}}" in method.bindings[0].template:
            bound[field.name] = body.pop(field.name if snake_case else field.json_name, "")
    assert method.request_from_http(bound, b"", json.dumps(body).encode()) == sent
