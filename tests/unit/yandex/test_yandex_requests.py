"""Conversion of HTTP requests into messages: valid requests, and every error."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tables import each_row

from thingmint.domain.errors import Invalid
from thingmint.yandex.contract import Method, load
from thingmint.yandex.contract.descriptors import Descriptors
from thingmint.yandex.contract.json_mapping import compile_fields, read_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTRACT = load()
REST = "yandex.cloud.iot.devices.v1"
ADD = CONTRACT.methods[f"/{REST}.DeviceService/AddCertificate"]
GET = CONTRACT.methods[f"/{REST}.DeviceService/Get"]
LIST = CONTRACT.methods[f"/{REST}.DeviceService/List"]
CREATE = CONTRACT.methods[f"/{REST}.RegistryService/Create"]
CREATE_DEVICE = CONTRACT.methods[f"/{REST}.DeviceService/Create"]
UPDATE = CONTRACT.methods[f"/{REST}.DeviceService/Update"]
DISABLE = CONTRACT.methods[f"/{REST}.RegistryService/Disable"]
PUBLISH = CONTRACT.methods[f"/{REST}.DeviceDataService/Publish"]
LOGGED = "LEVEL_UNSPECIFIED, TRACE, DEBUG, INFO, WARN, ERROR, FATAL"
VIEWS = "BASIC, FULL"


def read(
    method: Method,
    body: bytes | dict[str, Any] = b"",
    query: bytes = b"",
) -> Any:
    names = [] if method in {LIST, CREATE, CREATE_DEVICE} else [method.request_class.DESCRIPTOR.fields[0].name]
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return method.request_from_http(dict.fromkeys(names, "bound"), query, data)


# Method, body or query, the message's fields.
TAKEN: list[tuple[Method, bytes | dict[str, Any], bytes, dict[str, Any]]] = [
    (ADD, {"certificateData": "pem\n"}, b"", {"device_id": "bound", "certificate_data": "pem\n"}),
    (ADD, {"certificate_data": "pem\r\n\u044f\U0001f600"}, b"",
     {"device_id": "bound", "certificate_data": "pem\r\n\u044f\U0001f600"}),
    (ADD, {"certificateData": None}, b"", {"device_id": "bound"}),
    (ADD, b" \r\n{ } \t", b"", {"device_id": "bound"}),
    (GET, b"", b"deviceView=FULL", {"device_id": "bound", "device_view": 1}),
    (GET, b"", b"device_view=1&", {"device_id": "bound", "device_view": 1}),
    (LIST, b"", b"registryId=a%20b+c%2B%D1%8F&pageSize=20&pageToken=&", {"registry_id": "a b c+я", "page_size": 20}),
    (LIST, b"", b"&&folderId", {"folder_id": ""}),
    (CREATE, {"folderId": "f", "labels": {"a": "b"}, "certificates": [{"certificateData": "p"}, {}],
              "logOptions": {"disabled": False, "folderId": "f", "minLevel": "INFO", "logGroupId": None}}, b"",
     {"folder_id": "f", "labels": {"a": "b"}, "certificates": [{"certificate_data": "p"}, {}],
      "log_options": {"disabled": False, "folder_id": "f", "min_level": 3}}),
    (CREATE, {"logOptions": {"minLevel": 3}, "labels": {}, "certificates": []}, b"", {"log_options": {"min_level": 3}}),
    (UPDATE, {"updateMask": "name,topicAliases,log_options.minLevel"}, b"",
     {"device_id": "bound", "update_mask": {"paths": ["name", "topic_aliases", "log_options.min_level"]}}),
    (UPDATE, {"updateMask": ""}, b"", {"device_id": "bound", "update_mask": {}}),
    (PUBLISH, {"topic": "t", "data": "+/+/"}, b"", {"device_id": "bound", "topic": "t", "data": b"\xfb\xff\xbf"}),
    (PUBLISH, {"topic": "t", "data": "-_-_"}, b"", {"device_id": "bound", "topic": "t", "data": b"\xfb\xff\xbf"}),
    (PUBLISH, {"data": "YQ"}, b"", {"device_id": "bound", "data": b"a"}),
    (PUBLISH, {"data": "YQ=="}, b"", {"device_id": "bound", "data": b"a"}),
    (PUBLISH, {"data": ""}, b"", {"device_id": "bound"}),
    (DISABLE, b"", b"", {"registry_id": "bound"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "body", "query", "fields"), TAKEN)
def test_valid_requests_are_read(
    method: Method, body: bytes | dict[str, Any], query: bytes, fields: dict[str, Any]
) -> None:
    make: Any = method.request_class
    assert read(method, body, query) == make(**fields)


Row = tuple[Method, bytes | dict[str, Any], bytes, str, str]


def bodies(method: Method, keys: str, values: Iterable[Any], field: str, reason: str) -> list[Row]:
    """A row for each value, with the value under ``keys`` (separated by dots)."""
    rows: list[Row] = []
    for value in values:
        body = value
        for key in reversed(keys.split(".")):
            body = {key: body}
        rows.append((method, body, b"", field, reason))
    return rows


def queries(method: Method, prefix: bytes, values: Iterable[bytes], field: str, reason: str) -> list[Row]:
    return [(method, b"", prefix + value, field, reason) for value in values]


NOT_JSON = ("body", "is not well-formed JSON")
MASK = "must be a string of field names with commas between them"
# Method, body or query, the field of the error and its reason.
REFUSED: list[Row] = [
    (ADD, b"", b"", "body", "must be a JSON object"),
    (ADD, b"[]", b"", "body", "must be a JSON object"),
    (ADD, b"null", b"", "body", "must be a JSON object"),
    (ADD, b'"x"', b"", "body", "must be a JSON object"),
    (ADD, b"1", b"", "body", "must be a JSON object"),
    (ADD, b" ", b"", *NOT_JSON),
    (ADD, b"{", b"", *NOT_JSON),
    (ADD, b'{"certificateData":"p', b"", *NOT_JSON),
    (ADD, b'{"certificateData":"p"', b"", *NOT_JSON),
    (ADD, b'{"certificateData":"p"}}', b"", *NOT_JSON),
    (ADD, b'{"certificateData":"p",}', b"", *NOT_JSON),
    (ADD, b"{'certificateData':'p'}", b"", *NOT_JSON),
    (ADD, b'{"certificateData":"a\nb"}', b"", *NOT_JSON),
    (ADD, b'{"certificateData":NaN}', b"", *NOT_JSON),
    (ADD, b'{"certificateData":-Infinity}', b"", *NOT_JSON),
    (ADD, b'{"certificateData":' + b"9" * 5000 + b"}", b"", *NOT_JSON),
    (ADD, b"\xef\xbb\xbf{}", b"", *NOT_JSON),
    (ADD, b'{"certificateData":"\xff"}', b"", *NOT_JSON),
    (ADD, "{}".encode("utf-16"), b"", *NOT_JSON),
    (ADD, b"[" * 10_000, b"", "body", "is nested too deeply"),
    (ADD, b'{"certificateData":' * 10_000, b"", "body", "is nested too deeply"),
    (ADD, b"[" * 1_000_000, b"", "body", "must hold at most 10000 values"),
    (CREATE, b'{"labels":{' + b'"a":"",' * 10_000 + b'"a":""}}', b"", "body", "must hold at most 10000 values"),
    (ADD, b'{"certificateData":"a","certificateData":"a"}', b"", "body", "holds the same key twice"),
    (CREATE, b'{"labels":{"a":"b","a":"c"}}', b"", "body", "holds the same key twice"),
    (ADD, b'{"x":[{"a":1,"a":2}]}', b"", "body", "holds the same key twice"),
    (ADD, {"certificateData": "a", "certificate_data": "a"}, b"", "certificate_data", "is given twice"),
    (ADD, {"certificateData": None, "certificate_data": "a"}, b"", "certificate_data", "is given twice"),
    (ADD, {"secret!": 1}, b"", "body", "holds an unknown field (known: certificate_data)"),
    (ADD, {"@type": "x"}, b"", "body", "holds an unknown field (known: certificate_data)"),
    (ADD, {"[a.b]": "x"}, b"", "body", "holds an unknown field (known: certificate_data)"),
    (ADD, {"CertificateData": "x"}, b"", "body", "holds an unknown field (known: certificate_data)"),
    (ADD, {"deviceId": "bound"}, b"", "device_id", "is given by the path already"),
    (ADD, {"device_id": None}, b"", "device_id", "is given by the path already"),
    *bodies(ADD, "certificateData", (1, 1.5, True, [], ["a"], {}), "certificate_data", "must be a string"),
    (ADD, {"certificateData": "\ud800"}, b"", "certificate_data", "holds an unpaired surrogate"),
    (ADD, {}, b"certificateData=x", "query", "must be empty, this method takes its fields from the body"),
    (ADD, {}, b"&", "query", "must be empty, this method takes its fields from the body"),
    (GET, b'{"deviceId": "x"}', b"", "body", "must be empty, this method takes none"),
    (DISABLE, b'{"x": null}', b"", "body", "must be empty, this method takes none"),
    (GET, b"[]", b"", "body", "must be a JSON object"),
    (GET, b"{", b"", "body", "is not well-formed JSON"),
    (DISABLE, b"", b"x=1", "query", "holds an unknown parameter (known: none)"),
    (LIST, b"", b"alt=json", "query",
     "holds an unknown parameter (known: device_view, folder_id, page_size, page_token, registry_id)"),
    (LIST, b"", b"=1", "query",
     "holds an unknown parameter (known: device_view, folder_id, page_size, page_token, registry_id)"),
    (GET, b"", b"deviceId=other", "device_id", "is given by the path already"),
    (LIST, b"", b"pageSize=1&pageSize=1", "page_size", "is given twice"),
    (LIST, b"", b"pageSize=1&page_size=2", "page_size", "is given twice"),
    (LIST, b"", b"folderId=a&registryId=b", "registry_id", "excludes another field that is given"),
    *queries(LIST, b"pageSize=",
             (b"", b"a", b"1.0", b"1_0", b"+1", b"%201", b"01", b"9223372036854775808", b"%D9%A3", b"9" * 5000),
             "page_size", "must be a 64-bit integer"),
    *queries(GET, b"deviceView=", (b"", b"full", b"9", b"01", b"1.0"), "device_view", f"must be one of {VIEWS}"),
    *queries(LIST, b"folderId=", (b"%", b"%1", b"%zz", b"%ff", b"\xd1\x8f", b"%ED%A0%80"),
             "query", "is not correctly percent-encoded"),
    (LIST, b"", b"%ff=1", "query", "is not correctly percent-encoded"),
    *bodies(CREATE, "labels", ([], "a", 1), "labels", "must be an object"),
    (CREATE, {"labels": {"a": None}}, b"", "labels.value", "must be a string"),
    (CREATE, {"labels": {"a": 1}}, b"", "labels.value", "must be a string"),
    (CREATE, {"labels": {"\udfff": "b"}}, b"", "labels.key", "holds an unpaired surrogate"),
    *bodies(CREATE, "logOptions", ([], "", 0, True), "log_options", "must be an object"),
    (CREATE, {"logOptions": {"x": 1}}, b"", "log_options",
     "holds an unknown field (known: disabled, folder_id, log_group_id, min_level)"),
    (CREATE, {"logOptions": {"disabled": "true"}}, b"", "log_options.disabled", "must be true or false"),
    (CREATE, {"logOptions": {"disabled": 1}}, b"", "log_options.disabled", "must be true or false"),
    (CREATE, {"logOptions": {"folderId": "a", "logGroupId": "b"}}, b"", "log_options.log_group_id",
     "excludes another field that is given"),
    *bodies(CREATE, "logOptions.minLevel", ("info", "3", 99, 1.5, True, [], {}),
            "log_options.min_level", f"must be one of {LOGGED}"),
    *bodies(CREATE, "certificates", ({}, "a", 1), "certificates", "must be a list"),
    *bodies(CREATE, "certificates", ([{}, None], [{}, []], [{}, "a"]), "certificates[1]", "must be an object"),
    (CREATE, {"certificates": [{"certificateData": 1}]}, b"", "certificates[0].certificate_data", "must be a string"),
    *bodies(UPDATE, "updateMask", (["name"], {"paths": ["name"]}, 1, ",", "a b", "*", "a..b"), "update_mask", MASK),
    *bodies(PUBLISH, "data", ("!!!!", "Y", "YQ=", "YQ===", "Y=Q=", "+_+_", "YQ ==", "я", "YQ==\n"),
            "data", "is not base64"),
    *bodies(PUBLISH, "data", (1, [], {}), "data", "must be a string of base64"),
]  # fmt: skip


@each_row(("method", "body", "query", "field", "reason"), REFUSED)
def test_invalid_requests_are_refused(
    method: Method, body: bytes | dict[str, Any], query: bytes, field: str, reason: str
) -> None:
    with pytest.raises(Invalid) as refused:
        read(method, body, query)
    assert (refused.value.field, refused.value.reason) == (field, reason)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


DESCRIPTORS = Descriptors.load()
LIST_FIELDS = compile_fields(DESCRIPTORS, DESCRIPTORS.pool.FindMessageTypeByName(f"{REST}.ListDevicesRequest"))


@pytest.mark.parametrize("value", [20, "20", 20.0])
def test_integers_in_json_are_read(value: Any) -> None:
    """No body in the present contract has an integer, but one in a later contract can."""
    assert read_fields(LIST_FIELDS, {"pageSize": value}) == {"page_size": 20}


@pytest.mark.parametrize("value", [True, 1.5, float("inf"), 1e30, 2**63, "1_0", " 1", "1\n", "", [], {}])
def test_malformed_integers_in_json_are_refused(value: Any) -> None:
    with pytest.raises(Invalid, match="page_size must be a 64-bit integer"):
        read_fields(LIST_FIELDS, {"pageSize": value})


@pytest.mark.parametrize("body", [b"{}", b" {} ", b"\n"])
@pytest.mark.parametrize("method", [GET, DISABLE])
def test_a_method_without_a_body_takes_an_empty_object(method: Method, body: bytes) -> None:
    assert read(method, body) == read(method)


@settings(deadline=None)
@given(st.binary())
def test_base64_of_each_alphabet_and_padding_is_read(data: bytes) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(data).decode()
        for spelling in (text, text.rstrip("=")):
            assert read(PUBLISH, {"data": spelling}).data == data


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_every_64_bit_integer_is_read(number: int) -> None:
    assert read(LIST, query=b"pageSize=%d" % number).page_size == number
