"""The playground's catalogue: all operations of the three APIs, compared with the contracts that they come from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from thingmint.aws.contract import load_model
from thingmint.console.playground.catalogue import Catalogue, catalogue_of
from thingmint.console.playground.operations import Failure, Field
from thingmint.domain.errors import NotFound
from thingmint.native.endpoints import ENDPOINTS
from thingmint.server.contracts import CONTRACTS
from thingmint.yandex.contract import load
from thingmint.yandex.contract.descriptors import Descriptors


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.of({api: make() for api, make in CONTRACTS.items()})


def test_it_has_all_operations(catalogue: Catalogue) -> None:
    assert {each.id for each in catalogue.operations("aws")} == load_model()["operations"].keys()
    methods = load().methods.values()
    assert {each.id: each.grpc for each in catalogue.operations("yandex")} == {
        each.label: each.path for each in methods
    }
    endpoints = {(each.id or each.operation, each.method, each.path) for each in ENDPOINTS}
    assert {(each.id, each.method, each.path) for each in catalogue.operations("native")} == endpoints
    for api in CONTRACTS:
        for operation in catalogue.operations(api):
            assert operation.title, operation.id
            assert operation.failures, operation.id
            names = [each.name for each in operation.fields]
            assert len(names) == len(set(names)), f"{operation.id} has two fields of one name"


def test_fields_are_those_of_the_model_of_aws(catalogue: Catalogue) -> None:
    model = load_model()
    for operation in catalogue.operations("aws"):
        spec = model["operations"][operation.id]
        shape = model["shapes"][spec["input"]["shape"]]
        expected: dict[str, tuple[str, bool]] = {}
        for member, reference in shape["members"].items():
            if member == shape.get("payload"):
                content = model["shapes"][reference["shape"]]
                inner = content.get("members", {})
                expected |= {each: ("body", each in content.get("required", ())) for each in inner}
                continue
            place = {"uri": "path", "querystring": "query", "header": "header"}.get(
                reference.get("location", ""), "body"
            )
            expected[reference.get("locationName", member)] = (place, member in shape.get("required", ()))
        found = {each.name: (each.place, each.required) for each in operation.fields}
        assert found == expected, operation.id
        assert (operation.method, operation.path) == (
            spec["http"]["method"],
            spec["http"]["requestUri"].replace("+}", "}"),
        )


def test_fields_are_those_of_the_descriptors(catalogue: Catalogue) -> None:
    for method in load().methods.values():
        message = Descriptors.load().messages[method.request_class.DESCRIPTOR.full_name].DESCRIPTOR
        operation = catalogue.find("yandex", method.label)
        found = {each.name for each in operation.fields if each.place != "header"}
        names = {name for each in message.fields for name in (each.name, each.json_name)}
        assert found <= names, method.label
        assert len(found) == len([each for each in message.fields if not each.is_repeated or operation.body_kind])
        assert (operation.path is None) == (not method.bindings)


def test_fields_in_words(catalogue: Catalogue) -> None:
    def field(api: str, id: str, name: str) -> Field:
        found = catalogue.find(api, id).field(name)
        assert found is not None
        return found

    name = field("aws", "CreateThing", "thingName")
    assert (name.place, name.type, name.limits) == ("path", "text", ("1 to 128 characters",))
    assert (name.pattern, name.required, name.is_long) == ("[a-zA-Z0-9:_-]+", True, False)
    assert field("aws", "UpdateCertificate", "newStatus").choices[:2] == ("ACTIVE", "INACTIVE")
    assert field("aws", "UpdateCertificate", "certificateId").limits == ("exactly 64 characters",)
    assert field("aws", "ListThings", "maxResults").type == "whole number"
    assert field("aws", "CreateKeysAndCertificate", "setAsActive").type == "true or false"
    assert field("aws", "CreateThing", "attributePayload").type == "object"
    assert field("aws", "RegisterCACertificate", "caCertificate").is_long
    assert field("aws", "CreatePolicy", "policyDocument").is_long
    assert field("aws", "DeleteStream", "streamId").schema["type"] == "string"
    created = "RegistryService.Create"
    assert field("yandex", created, "folderId").required
    labels = field("yandex", created, "labels")
    assert (labels.type, labels.is_long) == ("map from names to text", True)
    assert labels.limits[:2] == ("at most 64 entries", "names: 1 to 63 characters")
    assert field("yandex", created, "certificates").type == "list of objects"
    assert field("yandex", "RegistryService.AddCertificate", "certificateData").is_long
    assert field("yandex", "IamTokenService.Create", "jwt").limits[-1] == "exactly one of yandexPassportOauthToken, jwt"
    assert field("yandex", "RegistryDataService.Publish", "data").type == "Base64"
    assert field("native", "AddCertificate", "csr").type == "PEM"
    assert field("native", "AddCertificate", "csr").limits[-1] == "needed: csr or certificate_pem"
    assert field("native", "AddCertificate", "status").default == "INACTIVE"
    assert field("native", "ListAudit", "since").type == "time"
    assert not field("native", "ListAudit", "certificate").is_long, "it is an id"


def test_secrets_are_marked(catalogue: Catalogue) -> None:
    secrets = {
        (each.api, field.name)
        for api in ("yandex", "native")
        for each in catalogue.operations(api)
        for field in each.fields
        if field.is_secret
    }
    assert secrets == {
        ("yandex", "password"),
        ("yandex", "jwt"),
        ("yandex", "iamToken"),
        ("yandex", "yandexPassportOauthToken"),
        ("native", "secret_access_key"),
    }


def test_errors_have_codes_and_meanings(catalogue: Catalogue) -> None:
    found = catalogue.find("aws", "CreateThing").failures
    assert {(each.status, each.code) for each in found} >= {
        (400, "InvalidRequestException"),
        (409, "ResourceAlreadyExistsException"),
        (503, "ServiceUnavailableException"),
    }
    meaning = "The name or the certificate is in use."
    assert Failure(409, "ALREADY_EXISTS", meaning) in catalogue.find("yandex", "DeviceService.Create").failures
    assert {(404, "NOT_FOUND"), (409, "CONFLICT")} <= {
        (each.status, each.code) for each in catalogue.find("native", "UpdateCertificate").failures
    }
    for api in CONTRACTS:
        for operation in catalogue.operations(api):
            assert all(each.code.isidentifier() and each.meaning for each in operation.failures), operation.id


def test_bodies_that_are_no_objects() -> None:
    document = {
        "components": {"schemas": {}},
        "paths": {
            "/topics/{topic}": {
                "post": {
                    "operationId": "Publish",
                    "parameters": [
                        {
                            "name": "topic",
                            "in": "path",
                            "schema": {"type": "string"},
                            "x-greedy": True,
                            "description": "Topic.",
                        }
                    ],
                    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {}}}},
                    "responses": {"200": {"description": "Done."}},
                }
            }
        },
    }
    operation = Catalogue.of({"aws": document}).find("aws", "Publish")
    assert (operation.is_raw, operation.body_kind, operation.answer) == (True, "application/octet-stream", None)
    assert [(each.name, each.place, each.is_long) for each in operation.fields] == [
        ("topic", "path", False),
        ("body", "body", True),
    ]
    assert operation.fields[0].schema["x-greedy"]
    assert operation.fields[0].description == "", "it would repeat the name"


def test_examples_have_values_by_field() -> None:
    one = {"one": {"summary": "A pump", "value": {"name": "pump"}}}
    document = {
        "components": {"schemas": {}},
        "paths": {
            "/things/{id}": {
                "put": {
                    "operationId": "Update",
                    "parameters": [
                        {"name": "id", "in": "path", "schema": {"type": "string"}, "examples": {"one": {"value": "a"}}}
                    ],
                    "requestBody": {
                        "content": {
                            "application/json": {
                                "schema": {"type": "object", "properties": {"name": {"type": "string"}}},
                                "examples": one,
                            }
                        }
                    },
                    "responses": {
                        "200": {"description": "", "content": {"application/json": {"examples": {"one": {"value": 1}}}}}
                    },
                }
            }
        },
    }
    (example,) = Catalogue.of({"aws": document}).find("aws", "Update").examples
    assert (example.title, example.request, example.answer) == ("A pump", {"id": "a", "name": "pump"}, 1)


def test_examples_of_errors_come_last_with_their_status(catalogue: Catalogue) -> None:
    found = catalogue.find("aws", "CreateKeysAndCertificate").examples
    assert [each.status for each in found] == [200, 200, 400, 403]
    assert found[3].title == "A caller without permission: AccessDeniedException"
    assert found[3].answer["message"].startswith("User: arn:aws:iam::123456789012:user/viewer is not authorized")


def test_permissions_are_needed_together_or_one_of_them(catalogue: Catalogue) -> None:
    session, key = catalogue.find("native", "GetSession"), catalogue.find("native", "key-create")
    assert (session.permissions, session.needs_one) == (("iot:GetConnection", "iot:ListSubscriptions"), False)
    assert (key.permissions, key.needs_one) == (("thingmint:CreateAccessKey", "thingmint:CreateKey"), True)


def test_search(catalogue: Catalogue) -> None:
    assert len(catalogue.search("")) == sum(len(catalogue.operations(api)) for api in CONTRACTS)
    assert catalogue.search("create KEYS certificate")[0].id == "CreateKeysAndCertificate"
    found = [each.id for each in catalogue.search("thing group", api="aws")]
    named = [id for id in found if "thing" in id.lower() and "group" in id.lower()]
    assert found[: len(named)] == named
    assert len(named) < len(found)
    assert catalogue.search("DescribeThing")[0].id == "DescribeThing"
    assert {each.api for each in catalogue.search("certificate", api="native")} == {"native"}
    assert all(each.tag == "Things" for each in catalogue.search("", api="aws", tag="Things"))
    served = catalogue.search("", api="aws", served=True)
    assert 0 < len(served) < 272
    assert len(served) + len(catalogue.search("", api="aws", served=False)) == 272
    assert [each.id for each in catalogue.search("/certificates/{certificateId} put", api="aws")] == [
        "UpdateCertificate"
    ]
    for hostile in ("\N{LATIN SMALL LETTER DOTLESS I}", "<script>", "%00", "(((", "xq " * 1000, "\ud800"):
        assert catalogue.search(hostile) == [], hostile
    assert catalogue.search("", api="none") == []


def test_summaries(catalogue: Catalogue) -> None:
    made = catalogue.find("aws", "CreateKeysAndCertificate")
    assert replace(made, description="Makes keys of `2048` bits. More.").summary == "Makes keys of `2048` bits"
    for none in ("", "x" * 91 + ". More.", "Differs from AWS: it is slow.", "No end"):
        assert replace(made, description=none).summary == "Create keys and certificate", none
    assert replace(made, description="Uses v1.2 of it.\n\nMore.").summary == "Create keys and certificate"


def test_outlines_of_operations_without_a_description(catalogue: Catalogue) -> None:
    expected = {
        "CreateTopicRule": "Takes `ruleName`, `sql`, `actions` and 5 optional parameters. Answers with an empty body.",
        "DescribeAuthorizer": "Takes `authorizerName`. Answers with `authorizerDescription`.",
        "GetLoggingOptions": "Takes nothing. Answers with `roleArn` and `logLevel`.",
        "ListJobs": "Takes 7 optional parameters. Answers with `jobs` and `nextToken`.",
    }
    assert {id: catalogue.find("aws", id).outline for id in expected} == expected
    assert catalogue.find("aws", "DescribeThing").outline.endswith("`thingTypeName`, `attributes` and more.")


def test_unknown_names(catalogue: Catalogue) -> None:
    for api, id in (("aws", "Nothing"), ("none", "CreateThing"), ("aws", "creatething")):
        with pytest.raises(NotFound):
            catalogue.find(api, id)
    with pytest.raises(NotFound):
        catalogue.operations("none")


async def test_it_is_made_once() -> None:
    made = []

    def contract() -> dict[str, object]:
        made.append(1)
        return {"components": {}, "paths": {}}

    first = await catalogue_of({"aws": contract})
    assert await catalogue_of({"aws": contract}) is first
    assert made == [1]
