"""What the OpenAPI documents of the three APIs have alike: descriptions, permissions, defaults."""

from __future__ import annotations

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from tests.api_documents import MAKERS, by_id, document, operations
from thingmint.aws import descriptions as of_aws
from thingmint.aws.operations import OPERATIONS as AWS
from thingmint.native import descriptions as of_native
from thingmint.native.endpoints import ENDPOINTS
from thingmint.yandex import descriptions as of_yandex
from thingmint.yandex.contract import load
from thingmint.yandex.operations import OPEN

_NATIVE = [endpoint.id or endpoint.operation for endpoint in ENDPOINTS]


@pytest.mark.parametrize("api", MAKERS)
def test_documents_are_valid_and_their_defaults_match_their_schemas(api: str) -> None:
    validate(document(api))
    for operation in operations(api):
        for parameter in operation["parameters"]:
            if "default" in parameter["schema"]:
                schema = parameter["schema"]
                assert OAS31Validator(schema).is_valid(schema["default"]), operation["operationId"]


def test_descriptions_are_of_operations_that_exist() -> None:
    assert of_aws.OPERATIONS.keys() == AWS.keys(), "a served operation needs a description in aws/descriptions.py"
    labels = {method.label for method in load().methods.values()}
    assert of_yandex.METHODS.keys() == labels, "a method needs a description in yandex/descriptions.py"
    assert of_yandex.ERRORS.keys() <= labels
    named = of_native.OPERATIONS.keys() | of_native.WITHOUT_RESOURCE | of_native.CONFLICTS | of_native.UNSUPPORTED
    assert named <= set(_NATIVE)


def test_described_fields_and_defaults_are_in_adocument() -> None:
    texts = {api: str(document(api)) for api in MAKERS}
    for api, fields in (("aws", of_aws.FIELDS), ("native", of_native.FIELDS), ("yandex", of_yandex.FIELDS)):
        assert [name for name, text in fields.items() if text not in texts[api] and repr(text) not in texts[api]] == []
    names = {name.partition(".")[0] for name in of_aws.DEFAULTS if "." in name}
    assert names | of_aws.ERRORS.keys() <= AWS.keys()


def test_operations_name_the_actions_that_they_need() -> None:
    assert by_id("aws")["CreateThing"]["x-thingmint-action"] == "iot:CreateThing"
    assert by_id("aws")["CreateRoleAlias"]["x-thingmint-actions"] == ["iot:CreateRoleAlias", "iam:PassRole"]
    for operation in operations("yandex"):
        label = operation["operationId"].removesuffix(".post")
        needed = None if operation["x-thingmint-grpc"] in OPEN else f"yandex:{label}"
        assert operation.get("x-thingmint-action") == needed
    found = by_id("native")
    assert found["GetSession"]["x-thingmint-actions"] == ["iot:GetConnection", "iot:ListSubscriptions"]
    assert found["AddCertificate"]["x-thingmint-one-of-actions"] == [
        "iot:CreateCertificateFromCsr",
        "iot:RegisterCertificateWithoutCA",
    ]
    assert found["key-create"]["x-thingmint-one-of-actions"] == ["thingmint:CreateAccessKey", "thingmint:CreateKey"]
    assert all(operation["x-thingmint-action"] for operation in found.values())


def test_methods_without_a_binding_are_listed_apart() -> None:
    without = [method.label for method in load().methods.values() if not method.bindings]
    apart = document("yandex")["x-thingmint-grpc-only"]
    assert [operation["operationId"] for operation in apart] == without
    for operation in apart:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        assert "registryId" in schema["properties"]


def test_errors_are_only_those_that_an_operation_can_have() -> None:
    def statuses(api: str, id: str) -> set[str]:
        return set(by_id(api)[id]["responses"]) - {"200", "400", "401", "403", "429", "500", "503"}

    assert statuses("yandex", "DeviceService.AddCertificate") == {"404", "409"}
    assert statuses("yandex", "DeviceService.Get") == {"404"}
    assert statuses("yandex", "ApiEndpointService.List") == set()
    assert statuses("native", "AddCertificate") == {"409"}
    assert statuses("native", "DescribeCertificate") == {"404"}
    assert statuses("native", "DeleteCertificate") == {"404", "409"}
    assert statuses("native", "GetHealth") == {"501"}
