"""How clients find the server: addresses, files, certificates, host names, and the settings for them."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import httpx
import pytest
from cryptography import x509
from yandex.cloud.endpoint import api_endpoint_service_pb2
from yandex.cloud.iam.v1.iam_token_service_pb2 import CreateIamTokenRequest
from yandex.cloud.iot.devices.v1 import device_pb2, device_service_pb2

from tests.e2e.commands import in_process, thingmint
from tests.e2e.yandex.certificates import certificate, sha1_of, sha256_of
from tests.e2e.yandex.clients import Account, Cloud, GrpcWire, Refused, done
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.testing import RunningServer

LIST = api_endpoint_service_pb2.ListApiEndpointsRequest()
# The ids that clients look for, by client. The Node SDK asks for none: it has addresses built in.
IDS_OF_CLIENTS = {
    "Python SDK 0.413, yandexcloud/_sdk.py": {"endpoint", "iam", "iot-devices", "operation"},
    "Go SDK 1, iot.go": {"iam", "iot-broker", "iot-data", "iot-devices", "operation"},
    "Go SDK 2 and Terraform, services/endpoints/dynamic_endpoints.go": {"broker-data", "iam", "iotbroker", "operation"},
    "Java SDK, ServiceToEndpointMapping.java": {
        "broker-data",
        "endpoint",
        "iam",
        "iot-broker",
        "iot-data",
        "iot-devices",
    },
}
IDS: set[str] = set().union(*IDS_OF_CLIENTS.values())


def test_every_endpoint_is_reachable_with_a_valid_certificate(cloud: Cloud, wire_name: str) -> None:
    endpoints = cloud.wire(wire_name).call("ApiEndpointService/List", LIST, token="").endpoints
    assert {endpoint.id for endpoint in endpoints} == IDS
    [address] = {endpoint.address for endpoint in endpoints}
    assert address == f"localhost:{cloud.server.ports['grpc' if wire_name == 'grpc' else 'api']}"
    host, _, port = address.partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        ssl.create_default_context(cafile=cloud.server.ca).wrap_socket(plain, server_hostname=host) as connection,
    ):
        assert connection.version() in ("TLSv1.2", "TLSv1.3")
    for id in IDS:
        request = api_endpoint_service_pb2.GetApiEndpointRequest(api_endpoint_id=id)
        endpoint = cloud.wire(wire_name).call("ApiEndpointService/Get", request, token="")
        assert (endpoint.id, endpoint.address) == (id, address)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_the_certificate_of_the_grpc_port_has_each_name(cloud: Cloud, name: str) -> None:
    names = served_certificate(cloud.server, cloud.server.ports["grpc"]).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert name in [str(each.value) for each in names.value]


def served_certificate(server: RunningServer, port: int) -> x509.Certificate:
    tls = ssl.create_default_context(cafile=server.ca)
    tls.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def test_the_listeners_file_names_the_grpc_port(cloud: Cloud) -> None:
    listeners = json.loads((cloud.server.data_dir / "listeners.json").read_text())
    assert listeners.keys() == {"api", "http", "grpc", "mqtt"}
    channel = grpc.secure_channel(
        f"localhost:{listeners['grpc']}", grpc.ssl_channel_credentials(cloud.server.ca.read_bytes())
    )
    assert GrpcWire(channel, "").call("ApiEndpointService/List", LIST).endpoints
    channel.close()


def test_the_environment_file_has_working_settings(cloud: Cloud) -> None:
    path = cloud.server.data_dir / "clients" / "yandex.env"
    shell = subprocess.run(
        ["sh", "-c", f"set -a; . {path}; set +a; env"], check=True, capture_output=True, text=True, env={}
    )
    values = dict(line.split("=", 1) for line in shell.stdout.splitlines() if line.startswith("THINGMINT_"))
    assert values == {
        "THINGMINT_YC_ENDPOINT": f"localhost:{cloud.server.ports['grpc']}",
        "THINGMINT_YC_FOLDER_ID": cloud.folder,
        "THINGMINT_YC_ROOT_CERTIFICATES": str(cloud.server.ca),
    }
    assert cloud.folder.startswith("b1g")
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_file_with_the_service_accounts_key_is_the_only_copy(cloud: Cloud) -> None:
    """The file has the form of `yc iam key create --output`, and its two keys are a pair."""
    path = cloud.server.data_dir / "clients" / "yandex-sa.json"
    assert path.stat().st_mode & 0o777 == 0o600
    key = json.loads(path.read_text())
    assert key.keys() == {"id", "service_account_id", "created_at", "key_algorithm", "public_key", "private_key"}
    assert key["key_algorithm"] == "RSA_2048"
    assert key["id"].startswith("aje")
    assert key["service_account_id"].startswith("aje")
    assert key["private_key"].startswith("-----BEGIN PRIVATE KEY-----\n")
    secret = key["private_key"].splitlines()[1]
    files = [each for each in cloud.server.data_dir.rglob("*") if each.is_file()]
    holders = [each for each in files if secret.encode() in each.read_bytes()]
    assert holders == [path], "no other file has the key"


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A server with configured host names, which shows SHA-1 fingerprints."""
    data = tmp_path_factory.mktemp("renamed") / "data"
    names = ["--hostname=api.things.test", "--hostname=*.api.things.test"]
    assert in_process("init", "--data-dir", data, *names).returncode == 0
    key = json.loads((data / "clients" / "yandex-sa.json").read_text())
    assert key["private_key"], "init writes the clients' files"
    with running_server(data, environment={"THINGMINT_YANDEX_FINGERPRINT": "sha1"}) as server:
        cloud = Cloud(server)
        yield cloud
        cloud.close()


def test_endpoint_addresses_have_the_first_host_name(renamed: Cloud, wire_name: str) -> None:
    endpoints = renamed.wire(wire_name).call("ApiEndpointService/List", LIST).endpoints
    port = renamed.server.ports["grpc" if wire_name == "grpc" else "api"]
    assert {endpoint.address for endpoint in endpoints} == {f"api.things.test:{port}"}
    assert renamed.server.environment("yandex")["THINGMINT_YC_ENDPOINT"].startswith("api.things.test:")


@pytest.mark.parametrize("host", ["api.things.test:9443", "api.things.test", "localhost", "api.cloud.yandex.net"])
def test_jwts_for_each_host_name_are_accepted(renamed: Cloud, host: str) -> None:
    request = CreateIamTokenRequest(jwt=renamed.account.jwt(f"https://iam.{host}/iam/v1/tokens"))
    assert renamed.grpc.call("IamTokenService/Create", request, token="").iam_token


def test_jwts_for_the_host_name_of_another_server_are_refused(cloud: Cloud) -> None:
    request = CreateIamTokenRequest(jwt=cloud.account.jwt("https://iam.api.things.test/iam/v1/tokens"))
    with pytest.raises(Refused):
        cloud.grpc.call("IamTokenService/Create", request, token="")


@pytest.mark.parametrize("host", ["iot-devices.api.things.test", "operation.api.things.test", "api.things.test"])
def test_wildcard_host_names_cover_the_services_of_yandex(renamed: Cloud, host: str) -> None:
    """Host names in the form of Yandex's REST addresses: the certificate has them, and each serves all methods."""
    device = renamed.device()
    request = f"GET /iot-devices/v1/devices/{device} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"
    with (
        socket.create_connection(("127.0.0.1", renamed.server.ports["api"]), timeout=10) as plain,
        renamed.tls.wrap_socket(plain, server_hostname=host) as connection,
    ):
        connection.sendall(f"{request}authorization: Bearer {renamed.token}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["id"] == device


def test_grpc_works_at_a_configured_host_name(renamed: Cloud) -> None:
    channel = grpc.secure_channel(
        f"127.0.0.1:{renamed.server.ports['grpc']}",
        grpc.ssl_channel_credentials(renamed.server.ca.read_bytes()),
        [("grpc.ssl_target_name_override", "iot-devices.api.things.test")],
    )
    assert GrpcWire(channel, "").call("ApiEndpointService/List", LIST).endpoints
    channel.close()


def test_sha1_fingerprints_are_shown_if_configured(renamed: Cloud, wire_name: str) -> None:
    device, pem = renamed.device(), certificate()
    operation = renamed.add(device, pem, wire_name)
    response = done(operation, device_pb2.DeviceCertificate)
    metadata = device_service_pb2.AddDeviceCertificateMetadata()
    operation.metadata.Unpack(metadata)
    assert {response.fingerprint, metadata.fingerprint} == {sha1_of(pem)}
    assert [each.fingerprint for each in renamed.certificates(device)] == [sha1_of(pem)]
    renamed.remove(device, sha256_of(pem), wire_name)
    renamed.add(device, pem, wire_name)
    renamed.remove(device, sha1_of(pem), wire_name)
    assert renamed.certificates(device) == []


def test_a_used_grpc_port_stops_the_start_with_one_line(cloud: Cloud, tmp_path: Path) -> None:
    taken = cloud.server.ports["grpc"]
    ports = ("--api-port=0", "--http-port=0", f"--grpc-port={taken}")
    failed = thingmint("serve", "--data-dir", tmp_path / "data", *ports)
    assert (failed.returncode, failed.stdout) == (2, "")
    [told] = failed.stderr.splitlines()
    assert told.startswith("thingmint: grpc-port: ")
    assert str(taken) in told


needs_ipv6 = pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")


@needs_ipv6
def test_the_server_listens_on_the_ipv6_loopback_address() -> None:
    with running_server(arguments=["--host=::1"]) as server:
        check_ipv6(server)


def check_ipv6(server: RunningServer) -> None:
    credentials = grpc.ssl_channel_credentials(server.ca.read_bytes())
    channel = grpc.secure_channel(f"[::1]:{server.ports['grpc']}", credentials)
    assert GrpcWire(channel, "").call("ApiEndpointService/List", LIST).endpoints
    channel.close()


@pytest.fixture(scope="module")
def elsewhere(cloud: Cloud) -> Iterator[RunningServer]:
    """A server on all addresses, with operations pending for ten minutes and the variables of another server's file."""
    variables = {**cloud.server.environment("yandex"), "THINGMINT_YANDEX_OPERATIONS_PENDING": "600"}
    host = "::" if Path("/proc/net/if_inet6").exists() else "0.0.0.0"
    with running_server(arguments=[f"--host={host}"], environment=variables) as server:
        yield server


@needs_ipv6
def test_the_server_listens_on_all_ipv6_addresses(elsewhere: RunningServer) -> None:
    check_ipv6(elsewhere)


def test_variables_of_the_environment_file_are_not_settings(elsewhere: RunningServer) -> None:
    """Their names begin like those of settings, but the server must ignore them."""
    assert httpx.get(f"{elsewhere.http_url}/readyz").status_code == 200


def test_the_pending_time_can_be_given_in_seconds(elsewhere: RunningServer) -> None:
    cloud = Cloud(elsewhere, Account.first(elsewhere))
    request = device_service_pb2.DeleteDeviceRequest(device_id="x")
    assert not cloud.grpc.call("DeviceService/Delete", request).done
    cloud.close()
