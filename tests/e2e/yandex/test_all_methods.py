"""All 54 methods answer in form: all are served, and 51 have a REST binding."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from google.protobuf.message_factory import GetMessageClass

from tests.e2e.yandex.clients import METHODS, Cloud, Refused, http_rule, nothing_stored, refused_over_rest
from tests.tables import each_row

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_ALL_OWNERS = {
    *("ListPasswords", "AddPassword", "DeletePassword"),
    *("Get", "List", "Create", "Update", "Delete", "ListOperations"),
    *("ListCertificates", "AddCertificate", "DeleteCertificate"),
}
SERVED = {
    "RegistryService": _OF_ALL_OWNERS
    | {
        *("GetByName", "ListDeviceTopicAliases", "Disable", "Enable"),
        *("ListDataStreamExports", "AddDataStreamExport", "DeleteDataStreamExport"),
    },
    "DeviceService": _OF_ALL_OWNERS | {"GetByName"},
    "BrokerService": _OF_ALL_OWNERS,
    "DeviceDataService": {"Publish"},
    "RegistryDataService": {"Publish"},
    "BrokerDataService": {"Publish"},
    "OperationService": {"Get", "Cancel"},
    "ApiEndpointService": {"Get", "List"},
    "IamTokenService": {"Create", "CreateForServiceAccount", "Revoke"},
}
_ANY_LENGTH = ("/ListOperations", "/Disable", "/Enable")  # the contract gives the length of their ids no limit
# Served methods that need no field; of the others each says what is missing.
BARE: Mapping[str, str] = {"ApiEndpointService/List": "OK", "ApiEndpointService/Get": "NOT_FOUND"}


def is_served(method: str) -> bool:
    service, _, name = method.partition("/")
    return name in SERVED.get(service, ())


def is_open(method: str) -> bool:
    return method.startswith("ApiEndpointService/") or method in ("IamTokenService/Create", "IamTokenService/Revoke")


def expected(method: str) -> str:
    return BARE.get(method, "INVALID_ARGUMENT") if is_served(method) else "UNIMPLEMENTED"


def test_54_methods_of_which_51_have_rest_and_all_are_served() -> None:
    assert len(METHODS) == 54
    assert sum(http_rule(method) is not None for method in METHODS) == 51
    assert sum(map(is_served, METHODS)) == 54


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
    elif "{operation_id}" in template or "{api_endpoint_id}" in template or method.endswith(_ANY_LENGTH):
        assert (refused.http_status, refused.code) == (404, "NOT_FOUND")
    else:
        assert (refused.http_status, refused.code) == (400, "INVALID_ARGUMENT")


@each_row("method", [method for method in METHODS if not is_open(method)])
def test_methods_without_credentials_over_grpc_are_unauthenticated(cloud: Cloud, method: str) -> None:
    with pytest.raises(Refused) as refused:
        cloud.grpc.call(method, GetMessageClass(METHODS[method].input_type)(), token="")
    assert refused.value.code == "UNAUTHENTICATED"
