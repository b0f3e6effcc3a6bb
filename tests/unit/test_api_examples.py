"""The examples of the OpenAPI documents: every served operation has one, and they are as the documents say."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from openapi_schema_validator import OAS31Validator, oas31_format_checker

from tests.api_documents import MAKERS, by_id, document, recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

_RUN = "run `make examples` (scripts/examples.py; the calls stand in scripts/recording)"
_SECRETS = re.compile(
    r"PRIVATE KEY|\btm[as]_|\bt1\.|\beyJ[\w-]+\.eyJ|(?:AKIA|ASIA)(?!EXAMPLE)[0-9A-Z]{16}|Signature=(?!EXAMPLE)|X-Amz-"
)
_SECRET_FIELDS = {
    *("PrivateKey", "private_key", "secret_access_key", "SecretAccessKey", "session_token", "token", "password"),
    *("iamToken", "jwt", "yandexPassportOauthToken"),
}
_PLACEHOLDER = re.compile(r"<[a-zA-Z0-9 ]+>|EXAMPLE/secret/access/key/EXAMPLE/EXAMPL")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", re.DOTALL)


def _examples(api: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for id, examples in recorded(api).items():
        yield from ((id, example) for example in examples)


def _flaws(api: str, schema: dict[str, Any], value: Any) -> list[str]:
    whole = {"allOf": [schema], "components": document(api)["components"]}
    validator = OAS31Validator(whole, format_checker=oas31_format_checker)
    return [error.message for error in validator.iter_errors(value)]


@pytest.mark.parametrize("api", MAKERS)
def test_every_served_operation_has_an_example(api: str) -> None:
    served = {id for id, operation in by_id(api).items() if operation.get("x-thingmint-served", True)}
    shown = {id for id, example in _examples(api) if example["status"] == 200}
    assert sorted(served - shown) == [], f"these operations of {api} have no example of a success: {_RUN}"
    assert sorted(recorded(api).keys() - served) == [], f"these examples are of no served operation: {_RUN}"


@pytest.mark.parametrize("api", MAKERS)
def test_examples_match_the_schemas_of_their_operations(api: str) -> None:
    found = by_id(api)
    for id, example in _examples(api):
        operation = found[id]
        named = f"{id}, {example['title']!r}: {_RUN}"
        responses = operation["responses"]
        assert str(example["status"]) in responses, named
        content = responses[str(example["status"])].get("content")
        assert ("answer" in example) == (content is not None), named
        if content is not None:
            (media,) = content.values()
            assert media["examples"][example["title"]]["value"] == example["answer"], named
            assert _flaws(api, media["schema"], example["answer"]) == [], named
        if example["status"] == 400:  # the request may be wrong
            continue
        parameters = {parameter["name"]: parameter for parameter in operation["parameters"]}
        given = example.get("parameters", {})
        assert given.keys() <= parameters.keys(), named
        assert {name for name, each in parameters.items() if each["required"]} <= given.keys(), named
        for name, value in given.items():
            assert parameters[name]["examples"][example["title"]] == {"value": value}, named
            assert _flaws(api, parameters[name]["schema"], value) == [], f"{name} of {named}"
        assert ("body" in example) == ("requestBody" in operation), named
        if "body" in example:
            (media,) = operation["requestBody"]["content"].values()
            assert media["examples"][example["title"]]["value"] == example["body"], named
            assert _flaws(api, media["schema"], example["body"]) == [], named


@pytest.mark.parametrize("api", MAKERS)
def test_examples_have_titles_of_their_own(api: str) -> None:
    for id, examples in recorded(api).items():
        titles = [example["title"] for example in examples]
        assert len(titles) == len(set(titles)), id


@pytest.mark.parametrize("api", MAKERS)
def test_no_example_has_a_secret(api: str) -> None:
    for id, example in _examples(api):
        assert _SECRETS.search(json.dumps(example)) is None, id
        for name, value in _fields(example):
            if name in _SECRET_FIELDS:
                assert _PLACEHOLDER.fullmatch(value), f"{name} of {id} is not replaced"


def test_secrets_would_be_found() -> None:
    for secret in (
        "-----BEGIN RSA PRIVATE KEY-----",
        "tma_abc",
        "t1.abc.def",
        "eyJhbGciOi.eyJpc3Mi.x",
        "AKIA" + "A" * 16,
    ):
        assert _SECRETS.search(json.dumps({"text": f"the {secret}"}))
    assert not _PLACEHOLDER.fullmatch("Correct-password-1")


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _fields(each)


@pytest.mark.parametrize("api", MAKERS)
def test_ids_of_certificates_are_their_fingerprints(api: str) -> None:
    """Also those that stand in for certificates which the recorded server issued."""
    seen = 0
    for id, example in _examples(api):
        answer = json.dumps(example.get("answer")).replace("\\n", "\n")
        for pem in _PEM.findall(answer):
            fingerprint = x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex()
            assert fingerprint in answer or id == "RegisterThing", id
            seen += 1
    assert seen > 1


def test_errors_of_the_seeds_are_shown() -> None:
    def statuses(api: str, id: str) -> list[int]:
        return [example["status"] for example in recorded(api)[id]]

    assert statuses("aws", "CreateKeysAndCertificate") == [200, 200, 400, 403]
    assert statuses("yandex", "DeviceService.AddCertificate") == [200, 409, 400, 404]
    refused = by_id("aws")["CreateKeysAndCertificate"]["responses"]["403"]
    (title,) = refused["content"]["application/json"]["examples"]
    assert refused["headers"]["x-amzn-errortype"]["examples"][title] == {"value": "AccessDeniedException"}
