"""The request that the form of an operation makes."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

import orjson
import pytest

from thingmint.console.fields import Fields
from thingmint.console.playground.catalogue import Catalogue
from thingmint.console.playground.given import GRPC, Given
from thingmint.domain.errors import Invalid
from thingmint.server.contracts import CONTRACTS

if TYPE_CHECKING:
    from thingmint.console.playground.operations import Operation


@cache
def catalogue() -> Catalogue:
    return Catalogue.of({api: make() for api, make in CONTRACTS.items()})


def operation(name: str) -> Operation:
    return next(found for api in CONTRACTS for found in catalogue().operations(api) if found.id == name)


def given(name: str, **fields: str) -> Given:
    return parsed(name, [(key.replace("__", "-"), text) for key, text in fields.items()])


def parsed(name: str, pairs: list[tuple[str, str]]) -> Given:
    found = operation(name)
    return Given.parse(found, Fields(pairs), catalogue().schemas[found.api].resolved)


def body_of(form: Given) -> Any:
    return orjson.loads(form.request().body)


def test_each_field_goes_to_its_place() -> None:
    asked = given("AttachPrincipalPolicy", policyName="a b", x__amzn__iot__principal="arn:x").request()
    assert (asked.method, asked.path, asked.query) == ("PUT", "/principal-policies/a%20b", "")
    assert asked.headers == (("x-amzn-iot-principal", "arn:x"),)
    assert asked.body == b""
    listed = given("ListThings", maxResults="5", attributeName="a&b=c +", usePrefixAttributeValue="true").request()
    assert dict(parse_qsl(listed.query)) == {
        "maxResults": "5",
        "attributeName": "a&b=c +",
        "usePrefixAttributeValue": "true",
    }
    assert "+" not in listed.query
    made = given("CreateThing", thingName="pump", attributePayload='{"attributes": {"a": "1"}}')
    assert body_of(made) == {"attributePayload": {"attributes": {"a": "1"}}}
    assert ("content-type", "application/json") in made.request().headers
    assert given("CreateThing", thingName="pump").request().body == b"{}"


@pytest.mark.parametrize("value", ["..", "../policies", "a/b", "%2f..%2f", "a?b=c", "a#b", "a\r\nhost: x", "\u043d:;"])
def test_a_value_of_the_path_stays_in_its_segment(value: str) -> None:
    for name, field in (
        ("DescribeThing", "thingName"),
        ("DeviceService.Get", "device_id"),
        ("DescribeCertificate", "certificateId"),
    ):
        path = parsed(name, [(field, value)]).request().path
        template = operation(name).path or ""
        assert path.isascii()
        assert path.count("/") == template.count("/")
        assert not set(path) & set("?# \r\n")
        assert unquote(path.rpartition("/")[2]) == value.replace("\r\n", "\n")


def test_types_of_fields() -> None:
    listed = given("UntagResource", resourceArn="arn", tagKeys=" a \r\n\r\nb")
    assert body_of(listed) == {"resourceArn": "arn", "tagKeys": ["a", "b"]}
    assert body_of(given("UntagResource", resourceArn="arn", tagKeys='["a\\nb"]'))["tagKeys"] == ["a\nb"]
    assert given("ListAuditFindings", startTime="1.5", maxResults=" 7 ").values == {"startTime": 1.5, "maxResults": 7}
    assert given("ListAuditFindings", startTime="2026-01-01T00:00:00Z").values == {"startTime": "2026-01-01T00:00:00Z"}
    assert given("SearchIndex", queryString=" 5 ").values == {"queryString": " 5 "}


@pytest.mark.parametrize(
    ("name", "field", "text", "words"),
    [
        ("ListThings", "maxResults", "five", "must be a whole number"),
        ("ListThings", "maxResults", "1e3", "must be a whole number"),
        ("ListThings", "maxResults", "9" * 40, "must be a whole number"),
        ("ListThings", "usePrefixAttributeValue", "yes", "must be true or false"),
        ("CreateThing", "attributePayload", "{", "is not valid JSON"),
        ("CreateThing", "attributePayload", "[1]", "must be a JSON object"),
        ("CreateThing", "attributePayload", '"a"', "must be a JSON object"),
        ("CreateThing", "attributePayload", "[" * 5000 + "]" * 5000, "is not valid JSON"),
        ("CreateThing", "attributePayload", '{"a": NaN}', "is not valid JSON"),
        ("UpdateThingGroupsForThing", "thingGroupsToAdd", "[1", "is not valid JSON"),
        ("TagResource", "tags", "a=b", "must be a JSON list"),
        ("ListThings", "maxResults", "-9999999999999999999", "at most 64 bits"),
        ("ApiEndpointService.List", "pageSize", "-9999999999999999999", "at most 64 bits"),
        ("ListThings", "maxResults", "9223372036854775808", "at most 64 bits"),
        ("DeleteJobExecution", "executionNumber", "-9999999999999999999", "at most 64 bits"),
        ("UpdateThing", "expectedVersion", "-9999999999999999999", "at most 64 bits"),
        ("CreateThing", "attributePayload", '{"a":' * 400 + "1" + "}" * 400, "has too many levels"),
        ("CreateThing", "attributePayload", '{"a":' * 254 + "1" + "}" * 254, "has too many levels"),
        ("TagResource", "tags", "[" * 300 + "]" * 300, "has too many levels"),
        ("ListAuditMitigationActionsTasks", "startTime", "[" * 300 + "]" * 300, "has too many levels"),
    ],
)
def test_errors_name_their_field(name: str, field: str, text: str, words: str) -> None:
    others = {each.name: "x" for each in operation(name).fields_of("path")}
    form = given(name, **others | {field: text})
    assert form.errors.keys() == {field}
    assert form.errors[field].startswith(f"{field} ")
    assert words in form.errors[field]
    assert form.texts[field] == text
    with pytest.raises(Invalid, match=words):
        form.request()


def test_values_that_json_cannot_hold() -> None:
    with pytest.raises(Invalid):
        given("ListThings", nextToken="a" * 70_000)
    assert body_of(given("CreateJob", jobId="a", timeoutConfig='{"a": 99999999999999999999999}'))
    assert body_of(given("CreateThing", thingName="a", attributePayload='{"a":' * 253 + "1" + "}" * 253))
    for number in (-(2**63), 2**63 - 1):
        assert given("ListThings", maxResults=str(number)).request().query == f"maxResults={number}"


def test_secrets_are_not_shown_again() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    form = given("DeviceService.Create", registryId="r", password="correct horse", description=pem)
    assert form.texts["registryId"] == "r"
    assert "password" not in form.texts
    assert "description" not in form.texts
    assert body_of(form)["password"] == "correct horse"
    assert "correct horse" not in repr(form)


@pytest.mark.parametrize(
    ("name", "field", "text"),
    [
        ("TestInvokeAuthorizer", "mqttContext", '{"username": "a", "password": "S3CRET"}'),
        ("TestInvokeAuthorizer", "mqttContext", '{"password": 7}'),
        ("TestInvokeAuthorizer", "mqttContext", '{"password": "S3CRET"'),  # no JSON
        ("TestInvokeAuthorizer", "mqttContext", "{'password' : 'S3CRET'}"),
        ("TestInvokeAuthorizer", "token", "S3CRET"),
        ("DeviceService.Create", "certificates", '[{"certificateData": "-----BEGIN PRIVATE\\u0020KEY-----"}]'),
        ("CreateThing", "attributePayload", '{"attributes": {"-----BEGIN PRIVATE\\u0020KEY-----": "a"}}'),
        ("CreateThing", "attributePayload", '{"attributes": {"a": "-----BEGIN PRIVATE KEY-----"}}'),
        ("DescribeThing", "thingName", "-----BEGIN PRIVATE KEY-----"),
    ],
)
def test_objects_with_a_secret_are_not_shown_again(name: str, field: str, text: str) -> None:
    form = given(name, **{field: text})
    assert field not in form.texts
    assert field in form.errors or form.values[field]


@pytest.mark.parametrize(
    ("name", "field", "text"),
    [
        ("TestInvokeAuthorizer", "mqttContext", '{"username": "token", "password": ""}'),
        ("CreateThing", "attributePayload", '{"attributes": {"a": "my password"}}'),
        ("CreateThing", "attributePayload", '{"attributes":'),
        ("ListThings", "nextToken", "a"),
        ("CreateJob", "targets", '["a", "b"]'),
    ],
)
def test_other_values_are_shown_again(name: str, field: str, text: str) -> None:
    assert given(name, **{field: text}).texts[field] == text


def test_only_the_fields_of_the_operation_are_sent() -> None:
    form = given("DescribeThing", thingName="a", form_token="b", authorization="c", host="d", method="DELETE")
    asked = form.request()
    assert (asked.method, asked.path, asked.query, asked.headers, asked.body) == ("GET", "/things/a", "", (), b"")
    twice = parsed("DescribeThing", [("thingName", "a"), ("thingName", "b")])
    assert twice.request().path == "/things/b"  # the page has a list, and a field to type in after it


def test_a_list_has_a_text_in_each_line() -> None:
    form = given("CreateJob", jobId="a", targets="a\u2028b\r\n c\x0bd \n\n\re\x85")
    assert form.values["targets"] == ["a\u2028b", "c\x0bd", "e"]


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_the_path_needs_its_values(text: str) -> None:
    form = given("DescribeThing", thingName=text)
    assert not form.errors  # of a form that is not sent yet
    with pytest.raises(Invalid, match="thingName is needed for the path"):
        form.request()


def test_operations_of_grpc_only() -> None:
    asked = given("RegistryService.ListDataStreamExports", registryId="r").request()
    assert asked.method == GRPC
    assert asked.path == "/yandex.cloud.iot.devices.v1.RegistryService/ListDataStreamExports"
    assert orjson.loads(asked.body) == {"registryId": "r"}


def test_every_operation_has_a_request() -> None:
    for api in CONTRACTS:
        for each in catalogue().operations(api):
            form = Given.of(each, {field.name: "1" for field in each.fields_of("path")} | {"unknown": 1})
            asked = form.request()
            assert "{" not in asked.path, each.id
            assert asked.path.startswith("/"), each.id
            assert form.texts.keys() == {field.name for field in each.fields_of("path")}


def test_an_example_fills_the_form() -> None:
    form = Given.of(operation("CreateThing"), {"thingName": "pump", "attributePayload": {"attributes": {"a": "1"}}})
    again = parsed("CreateThing", list(form.texts.items()))
    assert again.values == form.values
