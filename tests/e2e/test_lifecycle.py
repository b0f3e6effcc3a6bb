"""The command line and its files, on which scripts rely."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from yandex.cloud.endpoint import api_endpoint_service_pb2

from tests.e2e.access.local_admin import database
from tests.e2e.commands import thingmint
from tests.e2e.conftest import iot_client, registered
from tests.e2e.material import csr_pem, self_signed_pem
from tests.e2e.wire import connected, exchange, one_request, read_answer, until
from tests.e2e.yandex.clients import Cloud, GrpcWire
from thingmint.testing import ServerFailed, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.e2e.signing import Signer
    from thingmint.testing import RunningServer


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def init(data: Path, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    done = thingmint("init", "--data-dir", data, *arguments, env=env)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def contents(data: Path, *, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    return {
        str(path.relative_to(data)): path.read_bytes()
        for path in sorted(data.rglob("*"))
        if path.is_file() and path.name not in without
    }


# -- init ---------------------------------------------------------------------------------------------------------

_KEPT = ["ca.key", "ca.pem", "clients/aws.env", "clients/token", "device-ca.key", "device-ca.pem", "master.key"]


def test_init_leaves_private_files_with_any_umask(data: Path) -> None:
    data.mkdir(mode=0o755)
    old = os.umask(0)
    try:
        said = init(data)
    finally:
        os.umask(old)
    assert str(data / "ca.pem") in said
    assert set(_KEPT) < set(contents(data))
    for path in (data, *data.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    assert {path.name for path in data.iterdir() if path.is_dir()} == {"clients"}


def test_host_names_are_added_before_during_and_after_a_run(data: Path) -> None:
    init(data, "--hostname=iot.example.org")
    before = contents(data)
    with running_server(data) as server:
        sock = data / "admin.sock"
        assert stat.S_ISSOCK(sock.stat().st_mode)
        assert stat.S_IMODE(sock.stat().st_mode) == 0o600
        with pytest.raises(ssl.SSLCertVerificationError), tls_connection(server, "new.example.org"):
            pass
        with tls_connection(server, "localhost") as kept:
            kept.sendall(one_request("GET", "/healthz", {"host": "localhost"}))
            buffered = bytearray()
            assert read_answer(kept, buffered).status == 200
            said = init(data, "--hostname=new.example.org", "--region=eu-west-1")
            assert "no key and no credential was changed" in said
            assert "Added hostnames: new.example.org\n" in said
            with tls_connection(server, "new.example.org") as fresh:
                fresh.sendall(one_request("GET", "/healthz", {"host": "new.example.org"}))
                assert read_answer(fresh, bytearray()).status == 200
            kept.sendall(one_request("GET", "/healthz", {"host": "localhost"}))
            assert read_answer(kept, buffered).status == 200
        headers = {"authorization": f"Bearer {server.token}", "host": "iot.eu-west-1.amazonaws.com"}
        assert ":eu-west-1:" in exchange(server, "POST", "/keys-and-certificate", headers).json()["data"]["arn"]
    said = init(data, "--hostname=Second.Example.Org", "--hostname=new.example.org")
    assert "Added hostnames: second.example.org\n" in said
    after = contents(data)
    kept_files = [name for name in _KEPT if name != "clients/aws.env"]  # aws.env has the server's port
    assert {name: after[name] for name in kept_files} == {name: before[name] for name in kept_files}
    with running_server(data) as server:
        names = {"iot.example.org", "localhost", "127.0.0.1", "::1", "new.example.org", "second.example.org"}
        assert listener_names(server) == names
        assert server.environment()["AWS_ENDPOINT_URL_IOT"] == f"https://iot.example.org:{server.ports['api']}"
        west = iot_client(server, region_name="eu-west-1", endpoint_url=server.api_url)
        assert west.describe_endpoint()["endpointAddress"] == "iot.example.org"
        west.close()


def test_aws_env_explains_its_effect_on_a_shell(server: RunningServer) -> None:
    path = server.data_dir / "clients" / "aws.env"
    text = path.read_text()
    assert f"# Use: set -a; . {path}; set +a" in text
    assert "AWS_CA_BUNDLE replaces" in text
    shown = subprocess.run(
        ["/bin/sh", "-c", f"set -a; . {path}; set +a; env"], env={}, capture_output=True, text=True, check=True
    ).stdout
    found = dict(line.split("=", 1) for line in shown.splitlines() if line.startswith("AWS_"))
    assert found == server.environment()
    assert set(found) == {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_ENDPOINT_URL_IOT",
        "AWS_ENDPOINT_URL_IOT_DATA_PLANE",
        "AWS_ENDPOINT_URL_STS",
        "AWS_CA_BUNDLE",
    }
    assert found["AWS_DEFAULT_REGION"] == "us-east-1"
    assert found["AWS_CA_BUNDLE"] == str(server.data_dir / "ca.pem")


@contextlib.contextmanager
def tls_connection(server: RunningServer, name: str, port: str = "api") -> Any:
    context = ssl.create_default_context(cafile=str(server.ca))
    with (
        socket.create_connection(("127.0.0.1", server.ports[port]), timeout=20) as sock,
        context.wrap_socket(sock, server_hostname=name) as tls,
    ):
        yield tls


def listener_certificate(server: RunningServer, port: str = "api") -> x509.Certificate:
    with tls_connection(server, "localhost", port) as sock:
        der = sock.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)


def listener_names(server: RunningServer) -> set[str]:
    names = listener_certificate(server).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}


def test_an_interrupted_init_is_finished_by_the_next(data: Path) -> None:
    """After a kill at any moment, the next run succeeds and makes a complete instance."""
    for delay in (0.3, 0.4, 0.5):
        process = subprocess.Popen(
            [sys.executable, "-m", "thingmint", "init", f"--data-dir={data}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        process.kill()
        process.wait()
    with running_server(data) as server, contextlib.closing(iot_client(server)) as iot:
        assert set(_KEPT) < set(contents(data))
        assert not (data / ".new").exists()
        assert iot.create_keys_and_certificate()["certificateId"]


# -- serve --------------------------------------------------------------------------------------------------------


def test_serve_creates_an_instance_and_prints_its_addresses(data: Path) -> None:
    data.mkdir()
    with running_server(data) as server:
        listeners = data / "listeners.json"
        assert json.loads(listeners.read_text()) == dict(server.ports)
        assert set(server.ports) == {"api", "http", "grpc", "mqtt"}
        assert all(0 < port < 65536 for port in server.ports.values())
        assert stat.S_IMODE(listeners.stat().st_mode) == 0o600
        env = server.environment()
        assert env["AWS_ENDPOINT_URL_IOT"] == f"https://localhost:{server.ports['api']}"
        said = until(lambda: welcome(server), seconds=10, what="the server prints its addresses")
        assert f"127.0.0.1:{server.ports['api']} with HTTPS" in said
        assert f"127.0.0.1:{server.ports['http']} with plain HTTP" in said
        assert "with plain HTTP, always for this machine only" in said
        assert "set -a;" in said
        addresses, grpc_addresses = listening(server)
        assert addresses == {
            ("0100007F", server.ports["api"]),
            ("0100007F", server.ports["mqtt"]),
            ("0100007F", server.ports["http"]),
        }
        assert grpc_addresses == {"0100007F"}
        assert server.stop() == 0
    assert not listeners.exists()
    assert not (data / "admin.sock").exists()


def welcome(server: RunningServer) -> str | None:
    """The text that serve prints for people, when it is complete: it is printed after listeners.json is written."""
    said = server.output.read_text()
    return said if "stops it; the data stays in" in said else None


def test_probes_and_metrics_answer(server: RunningServer) -> None:
    for tls in (False, True):
        assert exchange(server, "GET", "/healthz", tls=tls).json() == {"status": "ok"}
        assert exchange(server, "GET", "/readyz", tls=tls).json() == {"status": "ok", "store": "ok"}
        metrics = exchange(server, "GET", "/metrics", tls=tls)
        assert metrics.status == 200
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        text = metrics.body.decode()
        assert 'thingmint_requests_total{api="probe",operation="healthz",status="200"}' in text
        known = ("thingmint_key_pool_ready", "thingmint_certificates_discarded ", "thingmint_store_ready 1.0")
        for name in (*known, "process_resident_memory_bytes"):
            assert name in text


def test_metrics_count_requests_by_operation(server: RunningServer, signer: Signer) -> None:
    def counted() -> float:
        text = exchange(server, "GET", "/metrics").body.decode()
        name = 'thingmint_requests_total{api="aws",operation="ListJobs",status="501"} '
        return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))

    before = counted()
    for _ in range(3):
        assert signer.send("GET", "/jobs").status == 501
    assert counted() == before + 3


def listening(server: RunningServer) -> tuple[set[tuple[str, int]], set[str]]:
    """The addresses (in hex, as the kernel writes them) and ports that the process listens on, and gRPC's addresses."""
    inodes = set()
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(link.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                address, _, port = fields[1].partition(":")
                found.add((address, int(port, 16)))
    grpc = {one for one in found if one[1] == server.ports["grpc"]}
    return found - grpc, {address for address, _ in grpc}


@pytest.mark.parametrize(("host", "address"), [("0.0.0.0", "00000000"), ("::", "0" * 32)])
def test_plain_http_and_metrics_are_for_loopback_with_any_host(data: Path, host: str, address: str) -> None:
    """A client on another address of this machine is treated like a client on another machine."""
    other = other_address()
    with running_server(data, arguments=[f"--host={host}"]) as server:
        addresses, grpc_addresses = listening(server)
        assert addresses == {
            (address, server.ports["api"]),
            (address, server.ports["mqtt"]),
            ("0100007F", server.ports["http"]),
        }
        assert grpc_addresses == {"0" * 32}, "gRPC takes 0.0.0.0 for all addresses of IPv6 too"
        said = until(lambda: welcome(server), seconds=10, what="the server prints its addresses")
        assert "with plain HTTP, always for this machine only" in said
        context = ssl.create_default_context(cafile=str(server.ca))
        with (
            socket.create_connection((other, server.ports["api"]), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            buffered = bytearray()
            for target, status in (("/metrics", 403), ("/healthz", 200)):
                sock.sendall(one_request("GET", target, {"host": "localhost", "x-forwarded-for": "127.0.0.1"}))
                assert read_answer(sock, buffered).status == status


def other_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # sends nothing: only the route is looked up
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address: str = sock.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    return address


def test_a_stop_waits_only_for_requests_in_flight(data: Path) -> None:
    answered: list[str] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with running_server(data) as server, connected(server) as sock, connected(server) as idle:
            with contextlib.closing(iot_client(server)) as iot:
                assert registered(iot) == [(one, "INACTIVE") for one in answered], "the answered change was stored"
            headers = {"authorization": f"Bearer {server.token}", "host": "localhost", "content-length": "2"}
            sock.sendall(one_request("POST", "/keys-and-certificate", headers) + b"{")
            idle.sendall(one_request("GET", "/healthz", {"host": "localhost"}))
            assert read_answer(idle, bytearray()).status == 200
            with contextlib.ExitStack() as silent:
                for port in server.ports.values():
                    silent.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
                silent.enter_context(connected(server)).sendall(b"GET /healthz HT")
                assert exchange(server, "GET", "/healthz").status == 200
                server.process.send_signal(number)
                started = time.monotonic()
                assert idle.recv(1) == b"", "connections without a request in flight are closed"
                with pytest.raises(ConnectionRefusedError):
                    until(lambda: refuses(server), seconds=10, what="new connections are refused")
                sock.sendall(b"}")
                answer = read_answer(sock, bytearray())
                assert answer.status == 200
                assert answer.headers["connection"] == "close"
                assert server.process.wait(20) == 0
                assert time.monotonic() - started < 9, "no time limit of a silent client was awaited"
            answered.insert(0, answer.json()["data"]["id"])
    with database(data) as db:
        assert db.execute("SELECT count(*) FROM registrations").fetchall() == [(2,)]


def refuses(server: RunningServer) -> bool:
    """Raises ConnectionRefusedError once the server takes no new connections."""
    with socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=5):
        return False


def test_certificates_and_credentials_survive_a_restart(data: Path) -> None:
    with running_server(data) as server, contextlib.closing(iot_client(server)) as iot:
        made = [iot.create_keys_and_certificate(setAsActive=True)["certificateId"] for _ in range(3)]
        iot.update_certificate(certificateId=made[1], newStatus="REVOKED")
        iot.register_certificate_without_ca(certificatePem=f"a comment\n{self_signed_pem()}")
        gone = iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())["certificateId"]
        iot.delete_certificate(certificateId=gone)
        marker = iot.list_certificates(pageSize=2)["nextMarker"]
        shown = [iot.describe_certificate(certificateId=cert_id)["certificateDescription"] for cert_id in made]
        before = registered(iot), server.environment(), server.token
        roots = server.ca.read_bytes(), server.device_ca.read_bytes()
    path = data / "clients" / "aws.env"
    path.write_text(path.read_text() + "# a line of the operator's own\nAWS_PAGER=\n")
    kept = [line for line in path.read_text().splitlines() if not line.startswith(("AWS_ENDPOINT", "AWS_CA"))]
    with running_server(data) as server, contextlib.closing(iot_client(server)) as iot:
        env = server.environment()
        assert registered(iot) == before[0]
        endpoint = f"https://localhost:{server.ports['api']}"
        assert env == before[1] | {
            "AWS_ENDPOINT_URL_IOT": endpoint,
            "AWS_ENDPOINT_URL_IOT_DATA_PLANE": endpoint,
            "AWS_ENDPOINT_URL_STS": endpoint,
            "AWS_PAGER": "",
        }
        assert server.token == before[2]
        assert (server.ca.read_bytes(), server.device_ca.read_bytes()) == roots
        assert [iot.describe_certificate(certificateId=cert_id)["certificateDescription"] for cert_id in made] == shown
        second = iot.list_certificates(pageSize=2, marker=marker)
        assert [c["certificateId"] for c in second["certificates"]] == [cert_id for cert_id, _ in before[0][2:4]]
        # Only the lines with endpoints have changed: the ports are different.
        lines = path.read_text().splitlines()
        assert [line for line in lines if not line.startswith(("AWS_ENDPOINT", "AWS_CA"))] == kept
        assert endpoint != before[1]["AWS_ENDPOINT_URL_IOT"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


# -- settings -----------------------------------------------------------------------------------------------------


def refused(*arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """The one line that a command ends with, with exit status 2."""
    done = thingmint(*arguments, env=env, cwd=cwd)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("thingmint: ")
    assert done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("thingmint: ").rstrip("\n")


def test_a_second_server_on_the_same_directory_refuses(server: RunningServer) -> None:
    data = server.data_dir
    line = refused("serve", "--data-dir", data, "--api-port=0", "--http-port=0")
    assert line == f"data-dir: {data} is in use by another thingmint process"
    assert exchange(server, "GET", "/healthz").status == 200
    assert json.loads((data / "listeners.json").read_text()) == dict(server.ports)


@pytest.mark.parametrize("setting", ["api-port", "http-port"])
def test_taken_ports_are_named(data: Path, setting: str) -> None:
    other = {"api-port": "http-port", "http-port": "api-port"}[setting]
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        line = refused("serve", "--data-dir", data, f"--{setting}={port}", f"--{other}=0")
    assert line.startswith(f"{setting}: 127.0.0.1:{port} cannot be listened on (Address already in use)")


def test_an_unknown_host_is_named(data: Path) -> None:
    line = refused("serve", "--data-dir", data, "--host=not a host", "--api-port=0", "--http-port=0")
    assert line.startswith("host: ")


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with settings from a file, some of which a variable or a flag overrides."""
    folder = tmp_path_factory.mktemp("configured")
    file = folder / "a.toml"
    file.write_text(
        "log_format = 'console'\nkey_pool = 3\nca_key = 'rsa2048'\nlistener_certificate_lifetime = 3600\napi_port = 1\n"
    )
    arguments = [f"--config={file}", "--log-format=json"]
    variables = {"THINGMINT_LOG_FORMAT": "console", "THINGMINT_KEY_POOL": "1"}
    with running_server(folder / "data", arguments=arguments, environment=variables) as server:
        yield server


def test_flags_override_variables_and_variables_override_the_file(configured: RunningServer) -> None:
    assert all(line.startswith("{") for line in configured.output.read_text().splitlines())
    metrics = exchange(configured, "GET", "/metrics").body.decode()
    (ready,) = [line for line in metrics.splitlines() if line.startswith("thingmint_key_pool_ready ")]
    assert float(ready.split()[1]) <= 1
    assert configured.ports["api"] != 1


def test_a_lifetime_may_be_seconds(configured: RunningServer) -> None:
    ends = listener_certificate(configured).not_valid_after_utc
    assert 3500 < (ends - datetime.now(UTC)).total_seconds() < 3700


def test_a_setting_makes_rsa_roots(configured: RunningServer) -> None:
    for path in (configured.ca, configured.device_ca):
        key = x509.load_pem_x509_certificate(path.read_bytes()).public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        assert key.key_size == 2048
    with contextlib.closing(iot_client(configured)) as iot:
        answer = iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())
    certificate = x509.load_pem_x509_certificate(answer["certificatePem"].encode())
    assert certificate.signature_algorithm_oid == x509.SignatureAlgorithmOID.RSA_WITH_SHA256
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(configured.device_ca.read_bytes()))


def test_encrypted_ca_keys_need_their_passphrase(tmp_path: Path, data: Path) -> None:
    """The passphrase is first in a variable, then in a file."""
    passphrase = "correct horse"
    held = tmp_path / "passphrase"
    held.write_text(f"{passphrase}\n")
    init(data, env={"THINGMINT_CA_PASSPHRASE": passphrase})
    for name in ("ca.key", "device-ca.key"):
        assert (data / name).read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    free_ports = [f"--{name}-port=0" for name in ("api", "http", "grpc", "mqtt")]
    line = refused("serve", "--data-dir", data, *free_ports)
    assert line.startswith("ca-passphrase: ")
    assert "THINGMINT_CA_PASSPHRASE_FILE" in line
    with (
        running_server(data, environment={"THINGMINT_CA_PASSPHRASE_FILE": str(held)}) as server,
        contextlib.closing(iot_client(server)) as iot,
    ):
        pem = iot.create_keys_and_certificate()["certificatePem"]
        root = x509.load_pem_x509_certificate(server.device_ca.read_bytes())
        x509.load_pem_x509_certificate(pem.encode()).verify_directly_issued_by(root)
        assert passphrase not in server.output.read_text()


# -- the listener's certificate -----------------------------------------------------------------------------------


def test_the_listeners_certificate_is_for_its_names_and_90_days(server: RunningServer) -> None:
    certificate = listener_certificate(server)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(server.ca.read_bytes()))
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert listener_names(server) == {"localhost", "127.0.0.1", "::1"}
    assert 89 <= (certificate.not_valid_after_utc - datetime.now(UTC)).days <= 90


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_served(server: RunningServer, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(server.ca))
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", server.ports["api"]), timeout=20) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        assert tls.version() == version.name.replace("_", ".")


def test_the_listeners_certificate_is_renewed_without_a_restart(data: Path) -> None:
    """On the ports of HTTPS and gRPC. Open connections continue."""
    variables = {"THINGMINT_LISTENER_CERTIFICATE_LIFETIME": "PT3S"}
    with running_server(data, environment=variables) as server, tls_connection(server, "localhost") as kept:
        cloud = Cloud(server)
        grpc_wire = GrpcWire(cloud.channel, "")
        list_endpoints = api_endpoint_service_pb2.ListApiEndpointsRequest()
        buffered = bytearray()
        certificates = {port: [listener_certificate(server, port)] for port in ("api", "grpc")}

        def renewed_twice() -> bool:
            kept.sendall(one_request("GET", "/healthz", {"host": "localhost"}))
            assert read_answer(kept, buffered).status == 200
            assert grpc_wire.call("ApiEndpointService/List", list_endpoints).endpoints
            for port, seen in certificates.items():
                now = listener_certificate(server, port)  # the handshake has checked its validity
                if now != seen[-1]:
                    seen.append(now)
            return min(map(len, certificates.values())) >= 3

        until(renewed_twice, seconds=20, what="both ports have renewed certificates")
        for seen in certificates.values():
            assert seen[-1].not_valid_after_utc > seen[0].not_valid_after_utc
            assert len({c.public_key().public_numbers() for c in seen}) == len(seen)  # type: ignore[union-attr]
        cloud.close()


# -- errors -----------------------------------------------------------------------------------------------------


def test_wrong_flags_and_settings_are_one_line(data: Path) -> None:
    assert refused("serve", "--data-dir", data, "--nope").startswith("No such option: --nope")
    assert refused("serve", "--data-dir", data, env={"THINGMINT_DEV": "maybe"}).startswith("dev: ")


def test_a_server_that_cannot_start_says_why(data: Path) -> None:
    data.mkdir()
    (data / "thesis.tex").write_text("irreplaceable")
    with pytest.raises(ServerFailed, match=r"thingmint: data-dir: .* is not empty"), running_server(data):
        pass


def test_a_server_that_is_not_ready_in_time_differs_from_one_that_ended(data: Path) -> None:
    def failure(code: str, start_timeout: float = 30) -> str:
        program = (sys.executable, "-c", code)
        with pytest.raises(ServerFailed) as failed, running_server(data, program=program, start_timeout=start_timeout):
            pass
        return str(failed.value)

    assert "was not ready after 0.1 seconds" in failure("import time; time.sleep(3600)", start_timeout=0.1)
    assert "ended with status 3" in failure("raise SystemExit(3)")
