"""The 54 methods: routes, operation types, and matching of raw paths. The table was written by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tables import each_row

from thingmint.yandex.contract import load
from thingmint.yandex.contract.descriptors import ContractError
from thingmint.yandex.contract.transcoding import Router, parse_template

CONTRACT = load()
DEVICES = "yandex.cloud.iot.devices.v1"
EMPTY = "google.protobuf.Empty"


def rows(service: str, package: str, root: str, noun: str, variable: str) -> list[tuple[str, ...]]:
    """The methods that devices, registries and brokers share."""
    kind = noun.capitalize()
    item = f"{root}/{{{variable}}}"
    return [
        (service, "Get", "GET", item, "", "", f"{package}.{kind}"),
        (service, "Create", "POST", root, "*", f"Create{kind}Metadata", kind),
        (service, "Update", "PATCH", item, "*", f"Update{kind}Metadata", kind),
        (service, "Delete", "DELETE", item, "", f"Delete{kind}Metadata", EMPTY),
        (service, "ListCertificates", "GET", f"{item}/certificates",
         "", "", f"{package}.List{kind}CertificatesResponse"),
        (service, "AddCertificate", "POST", f"{item}/certificates",
         "*", f"Add{kind}CertificateMetadata", f"{kind}Certificate"),
        (service, "DeleteCertificate", "DELETE", f"{item}/certificates/{{fingerprint}}",
         "", f"Delete{kind}CertificateMetadata", EMPTY),
        (service, "ListPasswords", "GET", f"{item}/passwords", "", "", f"{package}.List{kind}PasswordsResponse"),
        (service, "AddPassword", "POST", f"{item}/passwords", "*", f"Add{kind}PasswordMetadata", f"{kind}Password"),
        (service, "DeletePassword", "DELETE", f"{item}/passwords/{{password_id}}",
         "", f"Delete{kind}PasswordMetadata", EMPTY),
        (service, "ListOperations", "GET", f"{item}/operations", "", "", f"{package}.List{kind}OperationsResponse"),
    ]  # fmt: skip


DEVICE, REGISTRY = f"{DEVICES}.DeviceService", f"{DEVICES}.RegistryService"
BROKERS = "yandex.cloud.iot.broker.v1"
OPERATION, IAM, ENDPOINT = "yandex.cloud.operation", "yandex.cloud.iam.v1", "yandex.cloud.endpoint"
TABLE: list[tuple[str, ...]] = [
    *rows(DEVICE, DEVICES, "/iot-devices/v1/devices", "device", "device_id"),
    (DEVICE, "GetByName", "GET", "/iot-devices/v1/devices:getByName", "", "", f"{DEVICES}.Device"),
    (DEVICE, "List", "GET", "/iot-devices/v1/devices", "", "", f"{DEVICES}.ListDevicesResponse"),
    *rows(REGISTRY, DEVICES, "/iot-devices/v1/registries", "registry", "registry_id"),
    (REGISTRY, "GetByName", "GET", "/iot-devices/v1/registries:getByName", "", "", f"{DEVICES}.Registry"),
    (REGISTRY, "List", "GET", "/iot-devices/v1/registries", "", "", f"{DEVICES}.ListRegistriesResponse"),
    (REGISTRY, "ListDeviceTopicAliases", "GET", "/iot-devices/v1/registries/{registry_id}:listDeviceTopicAliases",
     "", "", f"{DEVICES}.ListDeviceTopicAliasesResponse"),
    (REGISTRY, "Disable", "POST", "/iot-devices/v1/registries/{registry_id}:disable",
     "", "DisableRegistryMetadata", "Registry"),
    (REGISTRY, "Enable", "POST", "/iot-devices/v1/registries/{registry_id}:enable",
     "", "EnableRegistryMetadata", "Registry"),
    (REGISTRY, "ListDataStreamExports", "", "", "", "", f"{DEVICES}.ListDataStreamExportsResponse"),
    (REGISTRY, "AddDataStreamExport", "", "", "", "AddDataStreamExportMetadata", "DataStreamExport"),
    (REGISTRY, "DeleteDataStreamExport", "", "", "", "DeleteDataStreamExportMetadata", EMPTY),
    (f"{DEVICES}.DeviceDataService", "Publish", "POST", "/iot-devices/v1/devices/{device_id}/publish",
     "*", "", f"{DEVICES}.PublishDeviceDataResponse"),
    (f"{DEVICES}.RegistryDataService", "Publish", "POST", "/iot-devices/v1/registries/{registry_id}/publish",
     "*", "", f"{DEVICES}.PublishRegistryDataResponse"),
    *rows(f"{BROKERS}.BrokerService", BROKERS, "/iot-broker/v1/brokers", "broker", "broker_id"),
    (f"{BROKERS}.BrokerService", "List", "GET", "/iot-broker/v1/brokers", "", "", f"{BROKERS}.ListBrokersResponse"),
    (f"{BROKERS}.BrokerDataService", "Publish", "POST", "/iot-broker/v1/brokers/{broker_id}/publish",
     "*", "", f"{BROKERS}.PublishBrokerDataResponse"),
    (f"{OPERATION}.OperationService", "Get", "GET", "/operations/{operation_id}", "", "", f"{OPERATION}.Operation"),
    (f"{OPERATION}.OperationService", "Cancel", "GET", "/operations/{operation_id}:cancel",
     "", "", f"{OPERATION}.Operation"),
    (f"{IAM}.IamTokenService", "Create", "POST", "/iam/v1/tokens", "*", "", f"{IAM}.CreateIamTokenResponse"),
    (f"{IAM}.IamTokenService", "CreateForServiceAccount", "POST", "/iam/v1/tokens:createForServiceAccount",
     "*", "", f"{IAM}.CreateIamTokenResponse"),
    (f"{IAM}.IamTokenService", "Revoke", "POST", "/iam/v1/tokens:revoke", "*", "", f"{IAM}.RevokeIamTokenResponse"),
    (f"{ENDPOINT}.ApiEndpointService", "Get", "GET", "/endpoints/{api_endpoint_id}", "", "", f"{ENDPOINT}.ApiEndpoint"),
    (f"{ENDPOINT}.ApiEndpointService", "List", "GET", "/endpoints", "", "", f"{ENDPOINT}.ListApiEndpointsResponse"),
]  # fmt: skip


def test_the_table_has_every_method() -> None:
    assert len(TABLE) == 54
    assert {f"/{row[0]}/{row[1]}" for row in TABLE} == set(CONTRACT.methods)
    assert sum(method.operation is not None for method in CONTRACT.methods.values()) == 25


@each_row(("service", "name", "http_method", "template", "body", "metadata", "response"), TABLE)
def test_each_method_has_its_routes_and_types(
    service: str, name: str, http_method: str, template: str, body: str, metadata: str, response: str
) -> None:
    method = CONTRACT.methods[f"/{service}/{name}"]
    assert (method.service, method.name) == (service, name)
    if metadata:
        package = service.rpartition(".")[0]
        assert method.operation is not None
        assert method.operation.metadata_class.DESCRIPTOR.full_name == f"{package}.{metadata}"
        assert method.operation.response_class.DESCRIPTOR.full_name == (
            response if response == EMPTY else f"{package}.{response}"
        )
        assert method.response_class.DESCRIPTOR.full_name == f"{OPERATION}.Operation"
    else:
        assert method.operation is None
        assert method.response_class.DESCRIPTOR.full_name == response
    if not http_method:
        assert method.bindings == ()
        assert method.request_from_http({}, b"", b'{"registryId": "a"}') == method.request_class(registry_id="a")
        return
    first = method.bindings[0]
    assert (first.http_method, first.template, first.body) == (http_method, template, body)
    variables = {v: f"a~ %{v}" for v in parse_template(template).variables}
    raw = template
    for variable in variables:
        raw = raw.replace(f"{{{variable}}}", f"a~%20%25{variable}")
    assert CONTRACT.match(http_method, raw.encode()) == (method, variables)
    request = method.request_from_http(variables, b"", b"{}" if body else b"")
    assert {f.name: v for f, v in request.ListFields()} == variables


def test_cancel_has_a_post_route_too() -> None:
    cancel = CONTRACT.methods["/yandex.cloud.operation.OperationService/Cancel"]
    for http_method in ("GET", "POST"):
        assert CONTRACT.match(http_method, b"/operations/are1:cancel") == (cancel, {"operation_id": "are1"})


def test_the_first_path_segments_are_known() -> None:
    assert {b"iot-devices", b"iot-broker", b"operations", b"iam", b"endpoints"} == CONTRACT.roots


DEVICE_PATHS = [
    (b"/iot-devices/v1/devices/a", "a"),
    (b"/iot-devices/v1/devices/a%3Ab", "a:b"),
    (b"/iot-devices/v1/devices/a%2Fb", "a/b"),
    (b"/iot-devices/v1/devices/a%25b", "a%b"),
    (b"/iot-devices/v1/devices/%D1%8F", "я"),
    (b"/iot-devices/v1/devices/a+b@c!$&'()*,;=._~-", "a+b@c!$&'()*,;=._~-"),
    (b"/iot-devices/v1/devices/...", "..."),
    (b"/iot-devices/v1/devices/publish", "publish"),
]


@pytest.mark.parametrize(("raw", "device_id"), DEVICE_PATHS)
def test_path_variables_are_decoded(raw: bytes, device_id: str) -> None:
    matched = CONTRACT.match("GET", raw)
    assert matched is not None
    assert matched[0].path == f"/{DEVICE}/Get"
    assert matched[1] == {"device_id": device_id}


NO_DEVICE = [
    b"", b"/", b"//", b"*", b"iot-devices/v1/devices/a", b"/iot-devices", b"/iot-devices/v1",
    b"/iot-devices/v1/devices/", b"/iot-devices/v1/devices/a/", b"/iot-devices/v1//devices/a",
    b"//iot-devices/v1/devices/a", b"/iot-devices/v1/devices/.", b"/iot-devices/v1/devices/..",
    b"/iot-devices/v1/devices/%2e%2E", b"/iot-devices/v1/devices/%2E", b"/iot-devices/v1/./devices/a",
    b"/iot-devices/v1/devices/../devices/a", b"/iot-devices/v1/devices/%", b"/iot-devices/v1/devices/%4",
    b"/iot-devices/v1/devices/%zz", b"/iot-devices/v1/devices/%ff", b"/iot-devices/v1/devices/%C0%AF",
    b"/iot-devices/v1/devices/%ED%A0%80", b"/iot-devices/v1/devices/\xd1\x8f", b"/iot-devices/v1/devices/a b",
    b"/iot-devices/v1/devices/a?b", b"/iot-devices/v1/devices/a#b", b"/iot-devices/v1/devices/a\x00",
    b"/iot-devices/v1/devices/a\n", b"/iot-devices/v1/devices/a:", b"/iot-devices/v1/devices/a:b",
    b"/iot-devices/v1/devices/:a", b"/iot-devices/v1/devices/a:b:c", b"/iot-devices/v1/devices/a:disable",
    b"/iot-devices/v1/devices/a:b/certificates", b"/iot-devices/v1/devices/a/certificates/b/c",
    b"/iot-devices/v1/%64evices/a", b"/Iot-Devices/v1/devices/a", b"/iot-devices/v1/devices%2Fa",
    b"/iot-devices/v1/devices:getByName/a", b"/iot-devices/v1/devices%3AgetByName",
    b"/iot-devices/v1/devices:getbyname", b"/iot-devices/v1/devices/a/b/c/d/e/f/g/h" + b"/x" * 10_000,
]  # fmt: skip


@each_row("raw", NO_DEVICE)
def test_malformed_paths_do_not_match(raw: bytes) -> None:
    assert CONTRACT.match("GET", raw) is None


@pytest.mark.parametrize("http_method", ["POST", "PUT", "HEAD", "OPTIONS", "get", ""])
def test_other_http_methods_do_not_match(http_method: str) -> None:
    assert CONTRACT.match(http_method, b"/iot-devices/v1/devices/a") is None


@settings(deadline=None)
@given(st.binary())
def test_match_never_raises(tail: bytes) -> None:
    for raw in (tail, b"/iot-devices/v1/devices/" + tail):
        matched = CONTRACT.match("GET", raw)
        if matched is not None:
            assert not set(matched[1].values()) & {"", ".", ".."}


@pytest.mark.parametrize("template", ["a/b", "/a/{b=**}", "/a/{b.c}", "/a//b", "/a:b/c", "/{a}{b}", "/", "/a:b:c"])
def test_unsupported_templates_are_refused(template: str) -> None:
    with pytest.raises(ContractError):
        parse_template(template)


@pytest.mark.parametrize(("first", "second"), [("/a/{b}", "/a/{c}"), ("/a/{b}", "/a/c"), ("/a/c", "/a/{b}")])
def test_ambiguous_routes_are_refused(first: str, second: str) -> None:
    router: Router[int] = Router()
    router.add("GET", parse_template(first), 1)
    with pytest.raises(ContractError):
        router.add("GET", parse_template(second), 2)
