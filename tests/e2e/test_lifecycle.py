"""The command line and the files it leaves: what scripts rely on."""

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
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.e2e.commands import own_server, thingmint
from tests.e2e.conftest import iot_client, registered
from tests.e2e.material import csr_pem, self_signed_pem
from tests.e2e.wire import connected, exchange, one_request, read_answer, until
from thingmint.testing import ServerFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def test_init_leaves_its_files_with_their_modes(data: Path) -> None:
    said = init(data)
    assert str(data / "ca.pem") in said
    assert set(_KEPT) < set(contents(data))
    for path in (data, *data.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    assert {path.name for path in data.iterdir() if path.is_dir()} == {"clients"}


def test_init_in_a_directory_that_others_may_read_closes_it(data: Path) -> None:
    data.mkdir(mode=0o755)
    old = os.umask(0)
    try:
        init(data)
    finally:
        os.umask(old)
    for path in (data, *data.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_the_two_roots(data: Path) -> None:
    init(data)
    roots = [x509.load_pem_x509_certificate((data / name).read_bytes()) for name in ("ca.pem", "device-ca.pem")]
    for root, name in zip(roots, ("ca.key", "device-ca.key"), strict=True):
        assert root.not_valid_after_utc > datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
        root.verify_directly_issued_by(root)
        pem = (data / name).read_bytes()
        assert pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")
        key: Any = load_pem_private_key(pem, None)
        assert key.public_key() == root.public_key()
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == "secp256r1"
        assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert roots[0].public_key() != roots[1].public_key()
    assert roots[0].subject != roots[1].subject


def test_init_again_changes_nothing_and_says_so(data: Path) -> None:
    init(data)
    before = contents(data)
    for _ in range(2):
        assert "no key and no credential was changed" in init(data)
        assert "Added" not in init(data, "--hostname=localhost", "--region=us-east-1")
    assert contents(data) == before


def test_init_again_extends_names_and_regions(data: Path) -> None:
    init(data, "--hostname=iot.example.org")
    before = contents(data)
    said = init(data, "--hostname=Second.Example.Org", "--hostname=iot.example.org", "--region=eu-west-1")
    assert "no key and no credential was changed" in said
    assert "Added hostnames: second.example.org\n" in said
    assert "Added regions: eu-west-1\n" in said
    after = contents(data)
    assert {name: after[name] for name in _KEPT} == {name: before[name] for name in _KEPT}
    with own_server(data) as server:
        names = listener_names(server)
        assert names == {"iot.example.org", "localhost", "127.0.0.1", "::1", "second.example.org"}
        assert server.environment()["AWS_ENDPOINT_URL_IOT"] == f"https://iot.example.org:{server.ports['api']}"
        west = iot_client(server, region_name="eu-west-1", endpoint_url=server.api_url)
        assert west.describe_endpoint()["endpointAddress"] == "iot.example.org"
        west.close()


def test_init_for_scripts(data: Path) -> None:
    assert json.loads(init(data, "--output=json")) == {
        "data_dir": str(data),
        "created": True,
        "hostnames": [],
        "regions": [],
    }
    again = json.loads(init(data, "--output=json", "--hostname=a.example.org"))
    assert again == {"data_dir": str(data), "created": False, "hostnames": ["a.example.org"], "regions": []}


def test_no_two_instances_share_a_secret(tmp_path: Path) -> None:
    for name in ("one", "two"):
        init(tmp_path / name)
    one, two = (contents(tmp_path / name) for name in ("one", "two"))
    for name in _KEPT:
        assert one[name] != two[name]
    secrets = [
        {line for line in files["clients/aws.env"].splitlines() if line.startswith(b"AWS_") and b"KEY" in line}
        for files in (one, two)
    ]
    assert len(secrets[0]) == 2
    assert not secrets[0] & secrets[1]


def test_aws_env_says_what_it_does_to_a_shell(data: Path) -> None:
    init(data)
    text = (data / "clients" / "aws.env").read_text()
    assert f"# Use: set -a; . {data}/clients/aws.env; set +a" in text
    assert "AWS_CA_BUNDLE replaces" in text
    with own_server(data) as server:
        shown = subprocess.run(
            ["/bin/sh", "-c", f"set -a; . {data}/clients/aws.env; set +a; env"],
            env={},
            capture_output=True,
            text=True,
            check=True,
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
            "AWS_CA_BUNDLE",
        }
        assert found["AWS_DEFAULT_REGION"] == "us-east-1"
        assert found["AWS_CA_BUNDLE"] == str(data / "ca.pem")


def test_init_while_a_server_runs(data: Path) -> None:
    with own_server(data) as server:
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
        assert "Added" not in init(data, "--hostname=new.example.org")
        headers = {"authorization": f"Bearer {server.token}", "host": "iot.eu-west-1.amazonaws.com"}
        assert ":eu-west-1:" in exchange(server, "POST", "/keys-and-certificate", headers).json()["data"]["arn"]
    with own_server(data) as server:
        assert "new.example.org" in listener_names(server)


@contextlib.contextmanager
def tls_connection(server: RunningServer, name: str) -> Any:
    context = ssl.create_default_context(cafile=str(server.ca))
    with (
        socket.create_connection(("127.0.0.1", server.ports["api"]), timeout=20) as sock,
        context.wrap_socket(sock, server_hostname=name) as tls,
    ):
        yield tls


def listener_certificate(server: RunningServer) -> x509.Certificate:
    with tls_connection(server, "localhost") as sock:
        der = sock.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)


def listener_names(server: RunningServer) -> set[str]:
    names = listener_certificate(server).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}


def test_an_interrupted_init_is_finished_by_the_next(data: Path) -> None:
    """Killed at whatever moment, it leaves nothing in the way; what a later run makes is whole."""
    for delay in (0.4, 0.6, 0.8):
        process = subprocess.Popen(
            [sys.executable, "-m", "thingmint", "init", f"--data-dir={data}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        process.kill()
        process.wait()
    init(data)
    assert set(_KEPT) < set(contents(data))
    assert not (data / ".new").exists()
    with own_server(data) as server, contextlib.closing(iot_client(server)) as iot:
        assert iot.create_keys_and_certificate()["certificateId"]


# -- serve --------------------------------------------------------------------------------------------------------


def test_serve_initialises_an_empty_directory_and_tells_where_it_listens(data: Path) -> None:
    data.mkdir()
    with own_server(data) as server:
        listeners = data / "listeners.json"
        assert json.loads(listeners.read_text()) == dict(server.ports)
        assert set(server.ports) == {"api", "http", "grpc", "mqtt"}
        assert all(0 < port < 65536 for port in server.ports.values())
        assert stat.S_IMODE(listeners.stat().st_mode) == 0o600
        env = server.environment()
        assert env["AWS_ENDPOINT_URL_IOT"] == f"https://localhost:{server.ports['api']}"
        said = until(lambda: welcome(server), seconds=10, what="the server has not said where it listens")
        assert f"127.0.0.1:{server.ports['api']} with HTTPS" in said
        assert f"127.0.0.1:{server.ports['http']} with plain HTTP" in said
        assert "for this machine only" in said
        assert "set -a;" in said
        assert server.stop() == 0
    assert not listeners.exists()
    assert not (data / "admin.sock").exists()


def welcome(server: RunningServer) -> str | None:
    """What is printed for people, once all of it is there: it comes after listeners.json."""
    said = server.output.read_text()
    return said if "stops it; the data stays in" in said else None


def test_endpoint_lines_follow_the_ports_and_the_rest_of_the_file_stays(data: Path) -> None:
    init(data)
    path = data / "clients" / "aws.env"
    path.write_text(path.read_text() + "# a line of the operator's own\nAWS_PAGER=\n")
    kept = [line for line in path.read_text().splitlines() if not line.startswith(("AWS_ENDPOINT", "AWS_CA"))]
    seen = set()
    for _ in range(2):
        with own_server(data) as server:
            seen.add(server.environment()["AWS_ENDPOINT_URL_IOT"])
            lines = path.read_text().splitlines()
            assert [line for line in lines if not line.startswith(("AWS_ENDPOINT", "AWS_CA"))] == kept
            assert f"AWS_ENDPOINT_URL_IOT=https://localhost:{server.ports['api']}" in lines
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(seen) == 2


def test_probes(server: RunningServer) -> None:
    for tls in (False, True):
        assert exchange(server, "GET", "/healthz", tls=tls).json() == {"status": "ok"}
        assert exchange(server, "GET", "/readyz", tls=tls).json() == {"status": "ok", "store": "ok"}
        metrics = exchange(server, "GET", "/metrics", tls=tls)
        assert metrics.status == 200
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        text = metrics.body.decode()
        assert 'thingmint_requests_total{face="probe",operation="healthz",status="200"}' in text
        known = ("thingmint_key_pool_ready", "thingmint_certificates_discarded ", "thingmint_store_ready 1.0")
        for name in (*known, "process_resident_memory_bytes"):
            assert name in text


def test_metrics_count_requests_by_operation(server: RunningServer, signer: Signer) -> None:
    def counted() -> float:
        text = exchange(server, "GET", "/metrics").body.decode()
        name = 'thingmint_requests_total{face="aws",operation="ListJobs",status="501"} '
        return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))

    before = counted()
    for _ in range(3):
        assert signer.send("GET", "/jobs").status == 501
    assert counted() == before + 3


def listening(server: RunningServer) -> set[tuple[str, int]]:
    """Addresses, in hex as the kernel writes them, and ports that the process itself listens on."""
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
    return found


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "0100007F"), ("0.0.0.0", "00000000"), ("::", "0" * 32)])
def test_plain_http_is_for_loopback_whatever_the_host(data: Path, host: str, address: str) -> None:
    with own_server(data, arguments=[f"--host={host}"]) as server:
        # gRPC writes IPv4 addresses in IPv6's form, and takes 0.0.0.0 for all addresses of IPv6 too.
        grpc = server.ports["grpc"]
        found = listening(server)
        assert {one for one in found if one[1] != grpc} == {
            (address, server.ports["api"]),
            (address, server.ports["mqtt"]),
            ("0100007F", server.ports["http"]),
        }
        own = {"127.0.0.1": {"0000000000000000FFFF00000100007F"}}.get(host, {"0" * 32})
        assert {address for address, port in found if port == grpc} == own
        said = until(lambda: welcome(server), seconds=10, what="the server has not said where it listens")
        assert "with plain HTTP, which is for this machine only" in said


def test_metrics_are_for_loopback(data: Path) -> None:
    """A client on another address of this machine is a stranger."""
    address = other_address()
    with own_server(data, arguments=["--host=0.0.0.0"]) as server:
        context = ssl.create_default_context(cafile=str(server.ca))
        with (
            socket.create_connection((address, server.ports["api"]), timeout=20) as plain,
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_what_is_in_flight(data: Path, number: signal.Signals) -> None:
    with own_server(data) as server, connected(server) as sock, connected(server) as idle:
        headers = {"authorization": f"Bearer {server.token}", "host": "localhost", "content-length": "2"}
        sock.sendall(one_request("POST", "/keys-and-certificate", headers) + b"{")
        idle.sendall(one_request("GET", "/healthz", {"host": "localhost"}))
        assert read_answer(idle, bytearray()).status == 200
        server.process.send_signal(number)
        assert idle.recv(1) == b"", "who has nothing in flight is let go"
        with pytest.raises(ConnectionRefusedError):
            until(lambda: refuses(server), seconds=10, what="new connections are taken")
        sock.sendall(b"}")
        answer = read_answer(sock, bytearray())
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert server.process.wait(20) == 0
    with own_server(data) as server, contextlib.closing(iot_client(server)) as iot:
        assert registered(iot) == [(answer.json()["data"]["id"], "INACTIVE")]


def refuses(server: RunningServer) -> bool:
    """Raises ConnectionRefusedError once the server takes no new connections."""
    with socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=5):
        return False


def test_a_stop_does_not_wait_for_those_who_say_nothing(data: Path) -> None:
    with own_server(data) as server, contextlib.ExitStack() as stack:
        for port in server.ports.values():
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        half = stack.enter_context(connected(server))
        half.sendall(b"GET /healthz HT")
        assert exchange(server, "GET", "/healthz").status == 200
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 9  # less than any limit of theirs


def test_everything_is_there_after_a_restart(data: Path) -> None:
    with own_server(data) as server, contextlib.closing(iot_client(server)) as iot:
        made = [iot.create_keys_and_certificate(setAsActive=True)["certificateId"] for _ in range(3)]
        iot.update_certificate(certificateId=made[1], newStatus="REVOKED")
        iot.register_certificate_without_ca(certificatePem=f"a comment\n{self_signed_pem()}")
        gone = iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())["certificateId"]
        iot.delete_certificate(certificateId=gone)
        marker = iot.list_certificates(pageSize=2)["nextMarker"]
        shown = [iot.describe_certificate(certificateId=cert_id)["certificateDescription"] for cert_id in made]
        before = registered(iot), server.environment(), server.token
        roots = server.ca.read_bytes(), server.device_ca.read_bytes()
    with own_server(data) as server, contextlib.closing(iot_client(server)) as iot:
        env = server.environment()
        assert registered(iot) == before[0]
        assert {n: v for n, v in env.items() if "ENDPOINT" not in n} == {
            n: v for n, v in before[1].items() if "ENDPOINT" not in n
        }
        assert server.token == before[2]
        assert (server.ca.read_bytes(), server.device_ca.read_bytes()) == roots
        assert [iot.describe_certificate(certificateId=cert_id)["certificateDescription"] for cert_id in made] == shown
        second = iot.list_certificates(pageSize=2, marker=marker)
        assert [c["certificateId"] for c in second["certificates"]] == [cert_id for cert_id, _ in before[0][2:4]]


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


def test_a_second_server_on_the_same_directory_refuses(data: Path) -> None:
    with own_server(data) as server:
        line = refused("serve", "--data-dir", data, "--api-port=0", "--http-port=0")
        assert line == f"data-dir: {data} is in use by another thingmint process"
        assert exchange(server, "GET", "/healthz").status == 200
        assert json.loads((data / "listeners.json").read_text()) == dict(server.ports)


@pytest.mark.parametrize("setting", ["api-port", "http-port"])
def test_taken_ports(data: Path, setting: str) -> None:
    other = {"api-port": "http-port", "http-port": "api-port"}[setting]
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        line = refused("serve", "--data-dir", data, f"--{setting}={port}", f"--{other}=0")
    assert line.startswith(f"{setting}: 127.0.0.1:{port} cannot be listened on (Address already in use)")


@pytest.mark.parametrize(
    ("arguments", "variables", "file", "line"),
    [
        (["--api-port=99999"], {}, "", "api-port: "),
        (["--key-pool=-1"], {}, "", "key-pool: "),
        ([], {"THINGMINT_API_PORT": "many"}, "", "api-port: "),
        ([], {"THINGMINT_API_PORT": ""}, "", "api-port: "),
        ([], {"THINGMINT_HTTP_PORT": "-1"}, "", "http-port: "),
        ([], {"THINGMINT_DEV": "maybe"}, "", "dev: "),
        ([], {"THINGMINT_LOG_FORMAT": "xml"}, "", "log-format: "),
        ([], {"THINGMINT_CA_KEY": "dsa"}, "", "ca-key: "),
        ([], {"THINGMINT_LISTENER_CERTIFICATE_LIFETIME": "soon"}, "", "listener-certificate-lifetime: "),
        ([], {"THINGMINT_LISTENER_CERTIFICATE_LIFETIME": "PT1S"}, "", "listener-certificate-lifetime: "),
        ([], {"THINGMINT_APIPORT": "1"}, "", "THINGMINT_APIPORT: is not a setting; did you mean api_port?"),
        ([], {"THINGMINT_WHATEVER": "1"}, "", "THINGMINT_WHATEVER: is not a setting"),
        ([], {"THINGMINT_CONFIG": "/nowhere.toml"}, "", "config: there is no file /nowhere.toml"),
        (["--config=/nowhere.toml"], {}, "", "config: there is no file /nowhere.toml"),
        ([], {"THINGMINT_CA_PASSPHRASE_FILE": "/nowhere"}, "", "ca-passphrase-file: cannot be read"),
        ([], {}, "api_port = 99999\n", "api-port: "),
        ([], {}, "apiport = 1\n", "apiport: is not a setting; did you mean api_port?"),
        ([], {}, "[server]\nport = 1\n", "server: is not a setting"),
        ([], {}, 'host = "unclosed\n', "thingmint.toml: is not valid TOML: "),
        ([], {}, "dev = true\nhost = '0.0.0.0'\n", "dev: lets anybody in who can reach 0.0.0.0"),
    ],
)
def test_wrong_settings_are_one_line_that_names_them(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], file: str, line: str
) -> None:
    if file:
        (tmp_path / "thingmint.toml").write_text(file)
    free = [] if any("port" in word.lower() for word in [*arguments, *variables]) else ["--api-port=0", "--http-port=0"]
    if file.startswith("api_port"):
        free = []
    said = refused("serve", "--data-dir", "data", *free, *arguments, env=variables, cwd=tmp_path)
    assert said.startswith(line)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--hostname=not a name"], "hostname: 'not a name' is neither a DNS name nor an IP address"),
        (["--hostname="], "hostname: '' is neither a DNS name nor an IP address"),
        (["--hostname=http://example.org"], "hostname: 'http://example.org' is neither"),
        (["--region=US EAST"], "region: 'US EAST' is not a region's name such as us-east-1"),
        (["--region="], "region: '' is not a region's name"),
    ],
)
def test_wrong_names_make_nothing(data: Path, arguments: list[str], line: str) -> None:
    assert refused("init", "--data-dir", data, *arguments).startswith(line)
    assert not data.exists()


def test_a_directory_with_other_things_in_it_is_left_alone(data: Path) -> None:
    data.mkdir()
    (data / "thesis.tex").write_text("irreplaceable")
    assert refused("init", "--data-dir", data).startswith(f"data-dir: {data} is not empty (thesis.tex)")
    assert refused("serve", "--data-dir", data, "--api-port=0", "--http-port=0").startswith("data-dir: ")
    assert (data / "thesis.tex").read_text() == "irreplaceable"


def test_flags_win_over_variables_and_those_over_the_file(tmp_path: Path) -> None:
    """log_format is told apart by what is printed: the file asks for one thing, the variable for another."""
    file = tmp_path / "thingmint.toml"
    file.write_text("log_format = 'json'\nkey_pool = 3\n")
    config = ["--config", str(file)]
    for arguments, variables, as_json in (
        (config, {}, True),
        ([*config, "--log-format=json"], {"THINGMINT_LOG_FORMAT": "console"}, True),
        ([], {"THINGMINT_CONFIG": str(file)}, True),
    ):
        with own_server(tmp_path / "data", arguments=arguments, environment=variables) as server:
            said = server.output.read_text()
            server.output.unlink()
        assert all(line.startswith("{") for line in said.splitlines()) == as_json, arguments


@pytest.mark.parametrize(
    ("argument", "setting"), [("--api-port=many", "api-port"), ("--log-format=xml", "log-format"), ("--nope", "nope")]
)
def test_wrong_flags_are_one_line_too(data: Path, argument: str, setting: str) -> None:
    assert setting in refused("serve", "--data-dir", data, argument)


@pytest.mark.parametrize("command", ["init", "serve"])
def test_a_data_directory_that_cannot_be_one(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("")
    assert refused(command, "--data-dir", tmp_path / "file").startswith("data-dir: ")


def test_a_host_that_is_none(data: Path) -> None:
    line = refused("serve", "--data-dir", data, "--host=not a host", "--api-port=0", "--http-port=0")
    assert line.startswith("host: ")


def test_a_lifetime_may_be_seconds(data: Path) -> None:
    with own_server(data, environment={"THINGMINT_LISTENER_CERTIFICATE_LIFETIME": "3600"}) as server:
        ends = listener_certificate(server).not_valid_after_utc
        assert 3500 < (ends - datetime.now(UTC)).total_seconds() < 3700


# -- keys of the roots --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_file", [False, True])
def test_encrypted_ca_keys(tmp_path: Path, data: Path, in_file: bool) -> None:
    passphrase = "correct horse"
    held = tmp_path / "passphrase"
    held.write_text(f"{passphrase}\n")
    right = {"THINGMINT_CA_PASSPHRASE_FILE": str(held)} if in_file else {"THINGMINT_CA_PASSPHRASE": passphrase}
    init(data, env=right)
    for name in ("ca.key", "device-ca.key"):
        pem = (data / name).read_bytes()
        assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
        load_pem_private_key(pem, passphrase.encode())
    ports = ["--api-port=0", "--http-port=0"]
    line = refused("serve", "--data-dir", data, *ports)
    assert line.startswith("ca-passphrase: ")
    assert "THINGMINT_CA_PASSPHRASE_FILE" in line
    wrong = refused("serve", "--data-dir", data, *ports, env={"THINGMINT_CA_PASSPHRASE": "wrong staple"})
    assert wrong.startswith("ca-passphrase: does not open ")
    assert "staple" not in wrong
    with own_server(data, environment=right) as server, contextlib.closing(iot_client(server)) as iot:
        pem = iot.create_keys_and_certificate()["certificatePem"]
        root = x509.load_pem_x509_certificate(server.device_ca.read_bytes())
        x509.load_pem_x509_certificate(pem.encode()).verify_directly_issued_by(root)
        assert passphrase not in server.output.read_text()
    # Names may be added without the keys.
    assert "Added hostnames" in init(data, "--hostname=other.example.org")


def test_rsa_roots_by_setting(data: Path) -> None:
    with own_server(data, environment={"THINGMINT_CA_KEY": "rsa2048"}) as server:
        for name in ("ca.pem", "device-ca.pem"):
            key = x509.load_pem_x509_certificate((data / name).read_bytes()).public_key()
            assert isinstance(key, rsa.RSAPublicKey)
            assert key.key_size == 2048
        with contextlib.closing(iot_client(server)) as iot:
            answer = iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())
        certificate = x509.load_pem_x509_certificate(answer["certificatePem"].encode())
        assert certificate.signature_algorithm_oid == x509.SignatureAlgorithmOID.RSA_WITH_SHA256
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(server.device_ca.read_bytes()))


# -- the listener's certificate -----------------------------------------------------------------------------------


def test_the_listeners_certificate(server: RunningServer) -> None:
    certificate = listener_certificate(server)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(server.ca.read_bytes()))
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert listener_names(server) == {"localhost", "127.0.0.1", "::1"}
    assert 89 <= (certificate.not_valid_after_utc - datetime.now(UTC)).days <= 90


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_versions(server: RunningServer, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(server.ca))
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", server.ports["api"]), timeout=20) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        assert tls.version() == version.name.replace("_", ".")


@pytest.mark.parametrize("lifetime", ["PT3S"])
def test_the_listeners_certificate_is_renewed_without_a_restart(data: Path, lifetime: str) -> None:
    variables = {"THINGMINT_LISTENER_CERTIFICATE_LIFETIME": lifetime}
    with own_server(data, environment=variables) as server, tls_connection(server, "localhost") as kept:
        buffered = bytearray()
        first = listener_certificate(server)
        certificates = [first]

        def renewed_twice() -> bool:
            kept.sendall(one_request("GET", "/healthz", {"host": "localhost"}))
            assert read_answer(kept, buffered).status == 200
            now = listener_certificate(server)  # whose validity the handshake has checked
            if now != certificates[-1]:
                certificates.append(now)
            return len(certificates) >= 3

        until(renewed_twice, seconds=15, what="the listener has its first certificates")
        assert certificates[-1].not_valid_after_utc > first.not_valid_after_utc
        assert len({c.public_key().public_numbers() for c in certificates}) == 3  # type: ignore[union-attr]


# -- help ---------------------------------------------------------------------------------------------------------


def test_help_names_every_flag_of_the_contract() -> None:
    shown = thingmint("serve", "--help", env={"COLUMNS": "200", "NO_COLOR": "1"}).stdout
    for flag in ("--data-dir", "--host", "--api-port", "--http-port", "--key-pool", "--log-format", "--dev"):
        assert flag in shown
    shown = thingmint("init", "--help", env={"COLUMNS": "200", "NO_COLOR": "1"}).stdout
    for flag in ("--data-dir", "--hostname", "--region"):
        assert flag in shown


def test_a_server_that_cannot_start_says_why(data: Path) -> None:
    init(data)
    (data / "master.key").write_text("no hex\n")
    with pytest.raises(ServerFailed, match=r"thingmint: data-dir: .* does not hold a master key"), own_server(data):
        pass
