"""The compiled contract agrees with botocore's serializer and parser, which read the same model."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from botocore.awsrequest import prepare_request_dict
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import given
from hypothesis import strategies as st

from tests.tables import each_row
from thingmint.aws.contract import Contract, compile_contract, load_contract
from thingmint.aws.contract.scalars import compile_pattern
from thingmint.domain.errors import Invalid

CERTIFICATE_ID = "ab" * 32
CERTIFICATE_ARN = f"arn:aws:iot:us-east-1:123456789012:cert/{CERTIFICATE_ID}"
NOW = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)
CONTRACT = load_contract()


@cache
def service() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("iot", "service-2"), "iot")


NAMES = sorted(CONTRACT.operations)


def serialize(name: str, params: dict[str, Any]) -> tuple[str, bytes, bytes, dict[bytes, bytes], bytes]:
    """The method, raw path, query, headers and body that botocore would send."""
    request = create_serializer("rest-json").serialize_to_request(params, service().operation_model(name))
    prepare_request_dict(request, "http://localhost")
    path, _, query = request["url"].removeprefix("http://localhost").partition("?")
    headers = {
        key.lower().encode(): value if isinstance(value, bytes) else str(value).encode()
        for key, value in request["headers"].items()
    }
    body = request["body"]
    return request["method"], path.encode(), query.encode(), headers, body if isinstance(body, bytes) else body.encode()


def received(contract: Contract, name: str, params: dict[str, Any]) -> dict[str, Any]:
    method, path, query, headers, body = serialize(name, params)
    match = contract.match(method, path)
    assert match is not None
    operation, labels = match
    assert operation.name == name
    return operation.parse(labels, query, headers, body)


def parse(name: str, *, labels: tuple[str, ...] = (), query: bytes = b"", body: bytes = b"", **headers: bytes) -> Any:
    sent = {key.replace("_", "-").encode(): value for key, value in headers.items()}
    return CONTRACT.operations[name].parse(labels, query, sent, body)


TEXTS = (
    "a",
    "1",
    "1.0",
    "A",
    CERTIFICATE_ARN,
    "arn:aws:acm:us-east-1:123456789012:certificate/ab",
    "https://a",
    ",",
    "https://ingestion-a.b.sfdcnow.com/streams/a/b/event",
    "LAST",
    "p99",
    "0.0.0.0/0",
    "0x" + "a" * 62,
)


def sample(shape: Any) -> Any:
    """A valid value of the shape, with all members."""
    kind = shape.type_name
    if kind == "structure":
        return {name: sample(member) for name, member in shape.members.items()}
    if kind == "list":
        return [sample(shape.member)] * max(shape.metadata.get("min", 1), 1)
    if kind == "map":
        return {sample(shape.key): sample(shape.value)}
    if kind == "string":
        return shape.enum[-1] if shape.enum else sample_text(shape)
    low = shape.metadata.get("min", 1)
    return {
        "boolean": True,
        "integer": low,
        "long": low,
        "double": float(low) + 0.5,
        "timestamp": NOW,
        "blob": b"\0\xff",
    }[kind]


def sample_text(shape: Any) -> str:
    low, high = shape.metadata.get("min", 0), shape.metadata.get("max", 10**6)
    matches = compile_pattern(shape.metadata.get("pattern", r"[\s\S]*"))
    for text in TEXTS:
        padded = text * max(low, 1) if len(text) == 1 else text
        if low <= len(padded) <= high and (matches is None or matches(padded)):
            return padded
    raise AssertionError(f"no sample for {shape.name}")


def test_every_operation_of_the_model_is_compiled() -> None:
    assert set(CONTRACT.operations) == set(service().operation_names)
    assert len(CONTRACT.operations) == 272


@each_row("name", NAMES)
def test_each_template_matches_its_operation(name: str) -> None:
    operation = CONTRACT.operations[name]
    path = "/".join(
        quote(f"x/{index}", safe="") if part.startswith("{") else part
        for index, part in enumerate(operation.uri.split("/"))
    )
    match = CONTRACT.match(operation.method, path.encode())
    assert match is not None
    assert match[0] is operation
    assert match[1] == tuple(
        f"x/{index}" for index, part in enumerate(operation.uri.split("/")) if part.startswith("{")
    )
    assert CONTRACT.match("TRACE", path.encode()) is None


@each_row("name", NAMES)
def test_a_full_input_from_botocores_serializer_is_parsed(name: str) -> None:
    shape = service().operation_model(name).input_shape
    assert shape is not None
    params = sample(shape)
    assert received(CONTRACT, name, params) == params
    needed = {key: value for key, value in params.items() if key in shape.required_members}
    sent = received(CONTRACT, name, needed)
    tokens = {key for key, member in shape.members.items() if member.metadata.get("idempotencyToken")}
    assert {key: value for key, value in sent.items() if key in needed or key not in tokens} == needed


@each_row("name", NAMES)
def test_botocores_parser_reads_a_full_output(name: str) -> None:
    shape: Any = service().operation_model(name).output_shape
    result = {} if shape is None else sample(shape)
    body = CONTRACT.operations[name].encode(result)
    response = {"status_code": result.get("statusCode", 200), "headers": {}, "body": body}
    parsed = create_parser("rest-json").parse(response, shape)
    del parsed["ResponseMetadata"]
    assert parsed == result
    empty = CONTRACT.operations[name].encode({})
    assert empty == (b"" if shape is None else b"{}")


SAMPLES: list[tuple[str, dict[str, Any]]] = [
    ("CreateKeysAndCertificate", {}),
    ("CreateKeysAndCertificate", {"setAsActive": True}),
    ("CreateKeysAndCertificate", {"setAsActive": False}),
    ("DescribeCertificate", {"certificateId": CERTIFICATE_ID}),
    ("UpdateCertificate", {"certificateId": CERTIFICATE_ID, "newStatus": "REVOKED"}),
    ("ListCertificates", {"pageSize": 25, "marker": "a+b/c==", "ascendingOrder": True}),
    ("RegisterCertificateWithoutCA", {"certificatePem": "-----BEGIN\n\u00fc", "status": "ACTIVE"}),
    (
        "CreateThing",
        {"thingName": "a:b", "attributePayload": {"attributes": {"k": "v", "#/:": ""}, "merge": False}},
    ),
    ("AttachThingPrincipal", {"thingName": "a", "principal": CERTIFICATE_ARN, "thingPrincipalType": "EXCLUSIVE_THING"}),
    ("AttachPolicy", {"policyName": "a+b=c,d@e", "target": CERTIFICATE_ARN}),
    ("ListAttachedPolicies", {"target": CERTIFICATE_ARN, "recursive": True, "pageSize": 250}),
    ("TagResource", {"resourceArn": CERTIFICATE_ARN, "tags": [{"Key": "schlüssel 1", "Value": ""}, {"Key": "b"}]}),
    (
        "CreateProvisioningTemplate",
        {
            "templateName": "t_1-2",
            "templateBody": '{"Resources":{}}',
            "enabled": True,
            "provisioningRoleArn": "arn:aws:iam::123456789012:role/" + "r" * 9,
            "preProvisioningHook": {"payloadVersion": "2020-04-01", "targetArn": "arn:aws:lambda:x"},
            "type": "FLEET_PROVISIONING",
            "tags": [{"Key": "a", "Value": "b"}],
        },
    ),
    ("ListAuditTasks", {"startTime": NOW, "endTime": NOW}),
    ("GetTopicRuleDestination", {"arn": "arn:aws:iot:us-east-1:123456789012:ruledestination/http/1"}),
    ("SetLoggingOptions", {"loggingOptionsPayload": {"roleArn": "arn", "logLevel": "INFO"}}),
    ("CreateTopicRule", {"ruleName": "r", "topicRulePayload": {"sql": "", "actions": []}, "tags": "a=b&c=d"}),
]


@pytest.mark.parametrize(("name", "params"), SAMPLES)
def test_sample_inputs_from_botocores_serializer_are_parsed(name: str, params: dict[str, Any]) -> None:
    assert received(CONTRACT, name, params) == params


def test_botocores_parser_reads_a_description() -> None:
    moment = datetime(2026, 11, 21, 1, 2, 3, 250000, UTC)
    description = {"certificateId": CERTIFICATE_ID, "creationDate": NOW, "validity": {"notBefore": moment}}
    body = CONTRACT.operations["DescribeCertificate"].encode(
        {"certificateDescription": {**description, "transferData": {}, "previousOwnedBy": None}}
    )
    shape: Any = service().operation_model("DescribeCertificate").output_shape
    parsed = create_parser("rest-json").parse({"status_code": 200, "headers": {}, "body": body}, shape)
    assert parsed["certificateDescription"] == {**description, "transferData": {}}


def test_error_codes_have_the_models_statuses() -> None:
    expected = {
        "ResourceNotFoundException": 404,
        "ThrottlingException": 400,
        "CertificateStateException": 406,
        "UnauthorizedException": 401,
        "LimitExceededException": 410,
        "InternalFailureException": 500,
        "ServiceUnavailableException": 503,
    }
    assert expected.items() <= CONTRACT.error_status.items()
    assert len(CONTRACT.error_status) == 33
    for operation in CONTRACT.operations.values():
        assert operation.errors <= CONTRACT.error_status.keys()
    assert "ResourceNotFoundException" not in CONTRACT.operations["DetachPolicy"].errors
    assert "CertificateStateException" in CONTRACT.operations["DeleteCertificate"].errors


def test_labels_are_parsed_in_the_templates_order() -> None:
    match = CONTRACT.match("GET", b"/policies/some%2Bname/version/12")
    assert match is not None
    assert match[0].parse(match[1], b"", {}, b"") == {"policyName": "some+name", "policyVersionId": "12"}


TAGS = b'{"resourceArn":"a","tags":%s}'


@pytest.mark.parametrize(
    ("name", "request_parts", "field", "reason"),
    [
        ("DescribeCertificate", {"labels": ("ab",)}, "certificateId", "must have length greater than or equal to 64"),
        (
            "DescribeCertificate",
            {"labels": ("g" * 64,)},
            "certificateId",
            "must satisfy regular expression pattern: (0x)?[a-fA-F0-9]+",
        ),
        (
            "DescribeProvisioningTemplateVersion",
            {"labels": ("t", "x")},
            "versionId",
            "must be an integer",
        ),
        ("ListCertificates", {"query": b"isAscendingOrder=1"}, "isAscendingOrder", "must be true or false"),
        ("ListCertificates", {"query": b"pageSize=0"}, "pageSize", "must have value greater than or equal to 1"),
        ("ListCertificates", {"query": b"pageSize=1&pageSize=1"}, "pageSize", "must be given only once"),
        ("ListCertificates", {"query": b"marker=%zz"}, "marker", "is not correctly percent-encoded"),
        ("UpdateCertificate", {"labels": (CERTIFICATE_ID,)}, "newStatus", "is required"),
        ("AttachThingPrincipal", {"labels": ("t",)}, "x-amzn-principal", "is required"),
        (
            "AttachThingPrincipal",
            {"labels": ("t",), "x_amzn_principal": b"\0"},
            "x-amzn-principal",
            "must not contain the NUL character",
        ),
        ("CreateCertificateFromCsr", {}, "certificateSigningRequest", "is required"),
        (
            "CreateCertificateFromCsr",
            {"body": b'{"certificateSigningRequest":null}'},
            "certificateSigningRequest",
            "is required",
        ),
        (
            "CreateCertificateFromCsr",
            {"body": b'{"certificateSigningRequest":1}'},
            "certificateSigningRequest",
            "must be a string",
        ),
        ("CreateCertificateFromCsr", {"body": b"[]"}, "body", "must be a JSON object"),
        ("CreateKeysAndCertificate", {"body": b"[]"}, "body", "must be a JSON object"),
        ("CreateKeysAndCertificate", {"body": b"{"}, "body", "is not valid JSON"),
        ("TagResource", {"body": TAGS % b"{}"}, "tags", "must be a list"),
        ("TagResource", {"body": TAGS % b"[{}]"}, "tags[0].Key", "is required"),
        ("TagResource", {"body": TAGS % b'[{"Key":"a"},{"Key":1}]'}, "tags[1].Key", "must be a string"),
        (
            "CreateThing",
            {"labels": ("t",), "body": b'{"attributePayload":{"attributes":{"x":1}}}'},
            "attributePayload.attributes.x",
            "must be a string",
        ),
        ("SetLoggingOptions", {}, "loggingOptionsPayload", "is required"),
        ("SetLoggingOptions", {"body": b"{}"}, "loggingOptionsPayload.roleArn", "is required"),
    ],
)
def test_invalid_requests_are_refused(name: str, request_parts: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(name, **request_parts)
    assert (caught.value.field, caught.value.reason) == (field, reason)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("body", [b"", b"{}", b'{"unknown":[1]}', b' {"setAsActive":"x"}'])
def test_unknown_members_of_an_optional_body_are_ignored(body: bytes) -> None:
    assert parse("CreateKeysAndCertificate", body=body) == {}


def test_unknown_parameters_and_headers_are_ignored() -> None:
    query = b"X-Amz-Signature=%zz&X-Amz-Signature=1&foo&pageSize=3"
    assert parse("ListCertificates", query=query, x_other=b"\xff") == {"pageSize": 3}


@pytest.mark.parametrize(("raw", "text"), [(b" \tx ", "x"), ("ü".encode(), "ü"), (b"\xfc", "ü")])
def test_headers_can_be_utf_8_or_latin_1(raw: bytes, text: str) -> None:
    assert parse("ListPrincipalThings", x_amzn_principal=raw) == {"principal": text}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=9,
)


@given(data=st.data())
def test_parsing_raises_only_invalid(data: st.DataObject) -> None:
    operation = CONTRACT.operations[data.draw(st.sampled_from(NAMES))]
    shape = service().operation_model(operation.name).input_shape
    assert shape is not None
    wires = [member.serialization.get("name", name) for name, member in shape.members.items()]
    count = operation.uri.count("{")
    name = st.sampled_from(wires or ["x"])
    labels = data.draw(st.tuples(*[st.text(max_size=70)] * count))
    pair = st.builds(lambda key, value: key.encode() + b"=" + value, name, st.binary(max_size=9))
    query = data.draw(st.binary(max_size=40) | st.lists(pair, max_size=4).map(b"&".join))
    headers = data.draw(st.dictionaries(name.map(lambda wire: wire.lower().encode()), st.binary(max_size=20)))
    body = data.draw(st.binary(max_size=40) | st.dictionaries(name, JSON, max_size=4).map(orjson.dumps))
    try:
        parsed = operation.parse(labels, query, headers, body)
    except Invalid as error:
        refusal = error.field, error.reason.split()[0]
    else:
        refusal = "none", "is"
        assert parsed.keys() <= shape.members.keys()
    assert refusal[0]
    assert refusal[1] in {"must", "is", "has"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"metadata": {"protocol": "json"}}, "protocol"),
        ({"code": 201}, "success codes"),
        ({"uri": "/a/{other}"}, "do not fit"),
        ({"location": "headers"}, "location"),
        ({"type": "list"}, "outside a body"),
    ],
)
def test_unsupported_models_are_refused_at_start(change: dict[str, Any], reason: str) -> None:
    http = {"method": "GET", "requestUri": change.get("uri", "/a/{x}"), "responseCode": change.get("code", 200)}
    member = {"shape": "X", "location": change.get("location", "uri"), "locationName": "x"}
    model = {
        "metadata": change.get("metadata", {"protocol": "rest-json"}),
        "operations": {"Op": {"http": http, "input": {"shape": "In"}, "errors": []}},
        "shapes": {
            "In": {"type": "structure", "members": {"x": member}, "required": ["x"]},
            "X": {"type": change.get("type", "string")},
        },
    }
    with pytest.raises(ValueError, match=reason):
        compile_contract(model)
