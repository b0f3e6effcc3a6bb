"""Secrets of an answer are taken out of what a page shows."""

from __future__ import annotations

from typing import Any

import pytest

from thingmint.console.playground.catalogue import Catalogue
from thingmint.console.playground.secrets import HIDDEN, without_secrets
from thingmint.server.contracts import CONTRACTS

PEM = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("api", "operation", "answer", "hidden"),
    [
        (
            "aws",
            "CreateKeysAndCertificate",
            {"keyPair": {"PublicKey": "p", "PrivateKey": "S3CRET"}},
            [("Private key", "S3CRET")],
        ),
        ("aws", "CreateProvisioningClaim", {"keyPair": {"PrivateKey": PEM}}, [("Private key", PEM)]),
        ("aws", "CreateThing", {"thingName": "token", "nextToken": "x"}, []),
        ("aws", "GetPackage", {"description": "S3CRET", "packageName": "p"}, [("Description", "S3CRET")]),
        ("yandex", "IamTokenService.Create", {"iamToken": "S3CRET", "expiresAt": "t"}, [("Iam token", "S3CRET")]),
        ("yandex", "DeviceService.ListPasswords", {"passwords": [{"id": "p"}]}, []),
        (
            "native",
            "key-create",
            {"success": True, "data": {"access_key_id": "i", "secret_access_key": "S3CRET"}},
            [("Secret access key", "S3CRET")],
        ),
        ("native", "token-create", {"success": True, "data": {"token": "S3CRET", "id": "i"}}, [("Token", "S3CRET")]),
        (
            "native",
            "session-create",
            {"data": {"session_token": "S3CRET", "secret_access_key": "S4CRET"}},
            [("Session token", "S3CRET"), ("Secret access key", "S4CRET")],
        ),
        ("native", "CreateKeysAndCertificate", {"data": {"private_key": PEM}}, [("Private key", PEM)]),
    ],
)
def test_secrets_of_each_api(api: str, operation: str, answer: dict[str, Any], hidden: list[Any]) -> None:
    catalogue = Catalogue.of({api: CONTRACTS[api]()})
    shown, secrets = without_secrets(answer, catalogue.find(api, operation).answer, catalogue.schemas[api])
    assert [(each.name, each.value) for each in secrets] == hidden
    assert str(shown).count(HIDDEN) == len(hidden)
    assert not any(value in f"{shown}{secrets}" for _, value in hidden)
    if not hidden:
        assert shown == answer


def test_a_private_key_is_a_secret_under_any_name() -> None:
    shown, secrets = without_secrets({"items": [{"<b>": PEM}, {"<b>": PEM}, "x"]}, None, None)
    assert shown == {"items": [{"<b>": HIDDEN}, {"<b>": HIDDEN}, "x"]}
    assert [each.file for each in secrets] == ["private.key", "private-2.key"]
    assert "AAAA" not in repr(secrets)


def test_answers_that_are_no_objects() -> None:
    for value in (None, 1, True, "text", [], ["a"]):
        assert without_secrets(value, {"type": "string"}, None) == (value, ())
