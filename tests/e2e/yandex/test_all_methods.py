"""All 54 methods answer in the form of the API: 18 are served, 36 are not. 51 have a REST binding."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from google.protobuf.message_factory import GetMessageClass

from tests.e2e.yandex.clients import METHODS, Cloud, Refused, http_rule, nothing_stored, refused_over_rest
from tests.tables import each_row

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVED = {
    "RegistryService": {"Get", "List", "Create", "Delete"},
    "DeviceService": {
        "Get",
        "GetByName",
        "List",
        "Create",
        "Delete",
        "ListCertificates",
        "AddCertificate",
        "DeleteCertificate",
    },
    "OperationService": {"Get", "Cancel"},
    "ApiEndpointService": {"Get", "List"},
    "IamTokenService": {"Create", "Revoke"},
}
# Served methods without required fields. All other served methods answer that a field is missing.
BARE: Mapping[str, str] = {"ApiEndpointService/List": "OK", "ApiEndpointService/Get": "NOT_FOUND"}


def is_served(method: str) -> bool:
    service, _, name = method.partition("/")
    return name in SERVED.get(service, ())


def is_open(method: str) -> bool:
    return method.startswith(("ApiEndpointService/", "IamTokenService/"))


def expected(method: str) -> str:
    return BARE.get(method, "INVALID_ARGUMENT") if is_served(method) else "UNIMPLEMENTED"


def test_54_methods_of_which_51_have_rest_and_18_are_served() -> None:
    assert len(METHODS) == 54
    assert sum(http_rule(method) is not None for method in METHODS) == 51
    assert sum(map(is_served, METHODS)) == 18


@each_row("method", METHODS.keys())
def test_empty_requests_over_grpc(cloud: Cloud, method: str) -> None:
    with nothing_stored(cloud.server):
        outcome, refused = "OK", None
        try:
            cloud.grpc.call(method, GetMessageClass(METHODS[method].input_type)())
        except Refused as error:
            outcome, refused = error.code, error
    assert outcome == expected(method)
    if refused is not None:
        assert len(refused.request_ids) == 1
        assert bool(refused.violations) == (outcome == "INVALID_ARGUMENT")


@each_row("method", [method for method in METHODS if http_rule(method) is not None])
@each_row("credentials", [True, False])
def test_empty_requests_over_rest(cloud: Cloud, method: str, credentials: bool) -> None:
    """Path variables cannot be empty over REST, so they are longer than any id."""
    kind, template, in_body = http_rule(method) or ("", "", False)
    path = re.sub(r"\{\w+\}", "x" * 70, template)
    authorization = {"authorization": f"Bearer {cloud.token}"} if credentials else {}
    with nothing_stored(cloud.server):
        answer = cloud.http.request(kind, path, json={} if in_body else None, headers=authorization)
    if expected(method) == "OK":
        assert answer.status_code == 200
        return
    refused = refused_over_rest(answer)
    assert len(refused.request_ids) == 1
    if not credentials and not is_open(method):
        assert (refused.http_status, refused.code) == (401, "UNAUTHENTICATED")
    elif not is_served(method):
        assert (refused.http_status, refused.code) == (501, "UNIMPLEMENTED")
    elif "{operation_id}" in template or "{api_endpoint_id}" in template:  # ids without a limit
        assert (refused.http_status, refused.code) == (404, "NOT_FOUND")
    else:
        assert (refused.http_status, refused.code) == (400, "INVALID_ARGUMENT")


@each_row("method", [method for method in METHODS if not is_open(method)])
def test_methods_without_credentials_over_grpc_are_unauthenticated(cloud: Cloud, method: str) -> None:
    with pytest.raises(Refused) as refused:
        cloud.grpc.call(method, GetMessageClass(METHODS[method].input_type)(), token="")
    assert refused.value.code == "UNAUTHENTICATED"
