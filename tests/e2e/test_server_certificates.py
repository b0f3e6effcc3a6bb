"""Server certificates of a company's CA: clients that trust only its root, on all listeners and by host name."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import ssl
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import grpc
import httpx
import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from paho.mqtt.enums import CallbackAPIVersion
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e import wire
from tests.e2e.commands import in_process
from tests.e2e.company import Company, Pair
from tests.e2e.mqtt.devices import credential
from tests.e2e.mqtt.test_proxied import header
from thingmint.domain.errors import Invalid
from thingmint.domain.server_certificates import read_server_certificate
from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import ConnAck, Connect
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.testing import RunningServer, ServerFailed, running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.mqtt.devices import Credential

LISTENERS = ("api", "grpc", "mqtt")
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
PATIENCE = 15  # seconds
LIMITS = httpx.Limits(keepalive_expiry=120)
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


def shown(
    server: RunningServer,
    listener: str,
    name: str | None,
    ca: Path,
    *,
    version: ssl.TLSVersion | None = None,
    alpn: tuple[str, ...] = (),
    suite: str | None = None,
    check_hostname: bool = True,
) -> x509.Certificate:
    """The certificate that a client gets which trusts only ``ca``. Raises ssl.SSLError."""
    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = check_hostname
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if suite is not None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(suite)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    with (
        socket.create_connection(("127.0.0.1", server.ports[listener]), PATIENCE) as raw,
        context.wrap_socket(raw, server_hostname=name) as sock,
    ):
        der = sock.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)


def serial(server: RunningServer, listener: str, name: str | None, ca: Path, **options: Any) -> int | None:
    """The serial number of what ``shown`` returns; None if the client refuses it."""
    try:
        return shown(server, listener, name, ca, **options).serial_number
    except ssl.SSLError:
        return None


def until(condition: Callable[[], Any]) -> Any:
    return wire.until(condition, seconds=30, what="the server does not follow")


@dataclass
class Served:
    server: RunningServer
    config: Path

    def events(self, name: str) -> list[dict[str, Any]]:
        text = self.server.output.read_text(errors="replace")
        lines = (json.loads(line) for line in text.splitlines() if line.startswith("{"))
        return [line for line in lines if line["event"] == name]

    def reload(self, settings: str | None = None, answer: str = "reloaded") -> dict[str, Any]:
        """Sends SIGHUP, and waits for the answer in the log."""
        if settings is not None:
            self.config.write_text(settings)
        before = len(self.events(answer))
        self.server.process.send_signal(signal.SIGHUP)
        until(lambda: len(self.events(answer)) > before)
        return self.events(answer)[-1]


@contextlib.contextmanager
def serving(folder: Path, settings: str, **environment: str) -> Iterator[Served]:
    config = folder / "thingmint.toml"
    config.write_text(settings)
    arguments = [f"--config={config}", "--log-format=json"]
    with running_server(folder / "data", arguments=arguments, environment=environment) as server:
        yield Served(server, config)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    return Company(tmp_path_factory.mktemp("company"))


@pytest.fixture(scope="module")
def pair(company: Company) -> Pair:
    return company.pair("localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Credential:
    return credential(tmp_path_factory.mktemp("proxy"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, pair: Pair, proxy: Credential) -> Iterator[Served]:
    proxies = f'mqtt_proxy_port = 0\nmqtt_proxy_fingerprints = ["{proxy.fingerprint}"]\nmqtt_alpn_port = 0\n'
    with serving(tmp_path_factory.mktemp("served"), proxies + pair.toml_of_all) as served:
        yield served


def iot_of(served: Served, company: Company) -> Any:
    return boto3.client("iot", **served.server.boto3_arguments() | {"verify": str(company.root)})


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("listener", [*LISTENERS, "mqtt-alpn", "mqtt-proxy"])
def test_each_listener_shows_it(
    served: Served, company: Company, pair: Pair, listener: str, version: ssl.TLSVersion
) -> None:
    alpn = {"grpc": ("h2",), "mqtt-alpn": ("x-amzn-mqtt-ca",)}.get(listener, ())
    for name in ("localhost", "127.0.0.1", "LOCALHOST"):
        assert serial(served.server, listener, name, company.root, version=version, alpn=alpn) == pair.serial
    assert serial(served.server, listener, "localhost", served.server.ca, version=version, alpn=alpn) is None


@pytest.mark.parametrize("listener", LISTENERS)
def test_openssl_verifies_the_whole_chain(served: Served, company: Company, listener: str) -> None:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{served.server.ports[listener]}", "-showcerts"]
    command += ["-CAfile", str(company.root), "-verify_return_error", "-verify_hostname", "localhost", "-alpn", "h2"]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"BEGIN CERTIFICATE") == 2


def test_boto3(served: Served, company: Company) -> None:
    assert iot_of(served, company).list_things()["things"] == []


def test_grpc(served: Served, company: Company) -> None:
    credentials = grpc.ssl_channel_credentials(company.root.read_bytes())
    for listener in ("grpc", "api"):
        with grpc.secure_channel(f"localhost:{served.server.ports[listener]}", credentials) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE, wait_for_ready=True)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_device_with_its_own_certificate(served: Served, company: Company, tmp_path: Path) -> None:
    device = registered(iot_of(served, company), tmp_path)
    connected = connack(served, device, company.root)
    assert connected == 0


def test_a_proxy(served: Served, company: Company, proxy: Credential, tmp_path: Path) -> None:
    device = registered(iot_of(served, company), tmp_path)
    context = ssl.create_default_context(cafile=str(company.root))
    context.load_cert_chain(proxy.file)
    with (
        socket.create_connection(("127.0.0.1", served.server.ports["mqtt-proxy"]), PATIENCE) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as sock,
    ):
        forwarded = header(digest=bytes.fromhex(device.fingerprint))
        sock.sendall(forwarded + encode(Connect(5, "behind", keep_alive=60), 5))
        [accepted] = Decoder(version=5).feed(sock.recv(65536))
    assert isinstance(accepted, ConnAck)
    assert accepted.reason is Reason.SUCCESS


def test_the_end_is_in_the_metrics(served: Served, pair: Pair) -> None:
    end = x509.load_pem_x509_certificate(pair.certificate.read_bytes()).not_valid_after_utc.timestamp()
    assert expiry(served.server) == {(listener, "*"): end for listener in LISTENERS}


def registered(iot: Any, folder: Path) -> Credential:
    """A device whose self-signed certificate may connect."""
    made = credential(folder)
    arn = iot.register_certificate_without_ca(certificatePem=made.pem, status="ACTIVE")["certificateArn"]
    statement = {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}
    policy = f"p{made.fingerprint[:16]}"
    iot.create_policy(policyName=policy, policyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    iot.attach_policy(policyName=policy, target=arn)
    return made


def connack(served: Served, device: Credential, ca: Path) -> Any:
    """The reason code with which the server answers paho's client."""
    answers: list[Any] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2, f"d{device.fingerprint[:8]}", protocol=mqtt.MQTTv5)
    client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.append(reason.value)
    client.tls_set(str(ca), str(device.file))
    client.connect("localhost", served.server.ports["mqtt"])
    client.loop_start()
    try:
        until(lambda: answers)
    finally:
        client.disconnect()
        client.loop_stop()
    return answers[0]


def expiry(server: RunningServer) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families(httpx.get(f"{server.http_url}/metrics").text)
    name = "thingmint_server_certificate_expiry_timestamp_seconds"
    samples = next(family.samples for family in families if family.name == name)
    return {(each.labels["listener"], each.labels["name"]): each.value for each in samples}


def test_the_instances_own_certificate_is_in_the_metrics(tmp_path: Path) -> None:
    with serving(tmp_path, "") as served:
        end = shown(served.server, "api", "localhost", served.server.ca).not_valid_after_utc.timestamp()
        assert expiry(served.server) == {(listener, "*"): end for listener in LISTENERS}


@pytest.mark.parametrize("profile", ["default", "tls13", "compatible"])
def test_the_name_and_the_listener_select_the_certificate(tmp_path: Path, company: Company, profile: str) -> None:
    everywhere = company.pair("*.example.org")
    on_mqtt = company.pair("fleet.example.org", "other.example.org")
    by_name = company.pair("mqtt.example.org")
    wild = company.pair("*.devices.example.org")
    settings = f"""
[tls_profile]
api = "{profile}"
mqtt = "{profile}"
[server_certificates.everywhere]
{everywhere.toml}
[server_certificates.on_mqtt]
{on_mqtt.toml}
listeners = ["mqtt"]
[server_certificates.by_name]
{by_name.toml}
names = ["MQTT.example.org."]
[server_certificates.wild]
{wild.toml}
listeners = ["mqtt", "grpc"]
names = ["*.devices.example.org"]
"""
    with serving(tmp_path, settings) as served:
        server, root = served.server, company.root

        def all_of(name: str | None, ca: Path = root, *, check_hostname: bool = True) -> list[int | None]:
            return [serial(server, each, name, ca, check_hostname=check_hostname) for each in LISTENERS]

        assert all_of("mqtt.example.org") == [by_name.serial] * 3
        assert all_of("a.devices.example.org") == [None, wild.serial, wild.serial]
        assert all_of("a.b.devices.example.org") == [None] * 3
        assert all_of("fleet.example.org") == [everywhere.serial, everywhere.serial, on_mqtt.serial]
        assert all_of(None, check_hostname=False) == [everywhere.serial, everywhere.serial, on_mqtt.serial]
        unknown = all_of("unknown.test", check_hostname=False)
        assert unknown == [everywhere.serial, everywhere.serial, on_mqtt.serial]
        # The instance's own name, which the company's certificates do not cover.
        assert all_of("localhost") == [None] * 3
        own = {shown(server, each, "localhost", server.ca).issuer.rfc4514_string() for each in LISTENERS}
        assert len(own) == 1
        assert own != {"CN=Company CA"}
        # HTTPS and gRPC share the API port, and gRPC shows its own certificates there.
        assert serial(server, "api", "a.devices.example.org", root, alpn=("h2",)) == wild.serial
        warned = {line["setting"]: line["names"] for line in served.events("server_certificate_not_for_all_names")}
        names = ["localhost", "127.0.0.1", "::1"]
        assert warned == {"server-certificates.everywhere": names, "server-certificates.on_mqtt": names}
        assert {name for listener, name in expiry(server) if listener == "mqtt"} == {
            "*",
            "mqtt.example.org",
            "*.devices.example.org",
            "localhost",
        }


@pytest.mark.parametrize("names", ["", 'names = ["localhost"]\n'])
def test_an_ecdsa_and_an_rsa_certificate_for_one_place(tmp_path: Path, company: Company, names: str) -> None:
    other = Company(tmp_path / "other", "Other")
    ec, rsa = company.pair("localhost"), other.pair("localhost", kind="rsa2048")
    profiles = '[tls_profile]\napi = "compatible"\nmqtt = "compatible"\n'
    tables = [f"[server_certificates.{name}]\n{pair.toml}{names}" for name, pair in (("new", ec), ("old", rsa))]
    settings = profiles + "".join(tables)
    with serving(tmp_path, settings) as served:
        for listener in ("api", "mqtt"):
            for suite in ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256:AES128-SHA"):
                assert serial(served.server, listener, "localhost", company.root, suite=suite) == ec.serial
            for suite in ("AES128-SHA", "ECDHE-RSA-AES256-GCM-SHA384"):
                # The chain is that of the RSA certificate's CA.
                assert serial(served.server, listener, "localhost", other.root, suite=suite) == rsa.serial


def test_renewed_files_are_followed(tmp_path: Path, company: Company) -> None:
    pair, renewed = company.pair("localhost"), company.pair("localhost", kind="secp384r1")
    old, new = pair.serial, renewed.serial
    with serving(tmp_path, pair.toml_of_all) as served:
        server = served.server

        def everywhere() -> set[int | None]:
            return {serial(server, listener, "localhost", company.root) for listener in LISTENERS}

        context = ssl.create_default_context(cafile=str(company.root))
        with httpx.Client(base_url=server.api_url, verify=context, limits=LIMITS) as client:
            opened = client.get("/healthz")
            # The certificate first: the key does not fit until it is replaced too.
            renewed.certificate.rename(pair.certificate)
            until(lambda: served.events("server_certificate_not_replaced"))
            assert everywhere() == {old}
            renewed.key.rename(pair.key)
            until(lambda: len(served.events("server_certificate_loaded")) == 2)
            until(lambda: everywhere() == {new})
            again = client.get("/healthz")
            stream, stream_again = (each.extensions["network_stream"] for each in (opened, again))
            assert stream is stream_again  # the connection was not closed
        [line] = served.events("server_certificate_not_replaced")
        assert "is not the key of the certificate for localhost" in line["why"]
        assert (
            expiry(server)["mqtt", "*"]
            == shown(server, "mqtt", "localhost", company.root).not_valid_after_utc.timestamp()
        )


def test_files_behind_links_are_followed(tmp_path: Path, company: Company) -> None:
    """As certbot renews: live/NAME/*.pem are links to files with numbers."""
    first, second = company.pair("localhost"), company.pair("localhost")
    live = Pair(tmp_path / "live.pem", tmp_path / "live.key")

    def link(pair: Pair) -> None:
        for name, target in ((live.certificate, pair.certificate), (live.key, pair.key)):
            new = name.with_suffix(f"{name.suffix}.new")
            new.symlink_to(target)
            new.rename(name)

    link(first)
    expected = second.serial
    with serving(tmp_path, live.toml_of_all) as served:
        assert serial(served.server, "mqtt", "localhost", company.root) != expected
        link(second)
        until(lambda: {serial(served.server, each, "localhost", company.root) for each in LISTENERS} == {expected})


def test_bad_files_leave_the_old_certificate_in_force(tmp_path: Path, company: Company) -> None:
    pair = company.pair("localhost")
    old = pair.serial
    with serving(tmp_path, pair.toml_of_all) as served:

        def everywhere() -> set[int | None]:
            return {serial(served.server, each, "localhost", company.root) for each in LISTENERS}

        def refused(reason: str) -> None:
            before = len(served.events("server_certificate_not_replaced"))
            served.reload()
            line = served.events("server_certificate_not_replaced")[before]
            assert (line["setting"], reason in line["why"]) == ("server-certificate", True)
            assert everywhere() == {old}

        pair.certificate.write_bytes(company.pair("localhost", ends=YESTERDAY).certificate.read_bytes())
        refused("expired on")
        pair.certificate.write_text(company.chain("localhost")[1] + company.chain("localhost")[0])
        refused("begins with a CA certificate")
        pair.certificate.write_text(company.chain("localhost")[0] + company.root_ca.pem)
        refused("is not a chain: number 2 (Company Root) did not sign the one before (localhost)")
        pair.certificate.unlink()
        refused("cannot be read (No such file or directory)")
        good = company.pair("localhost")
        expected = good.serial
        good.certificate.rename(pair.certificate)
        served.reload()
        until(lambda: everywhere() == {expected})


def test_clients_that_say_nothing_to_grpc_are_closed(tmp_path: Path, company: Company) -> None:
    """With a certificate for a host name, the server waits for the name before it passes the connection on."""
    pair = company.pair("iot.example.org")
    with serving(tmp_path, f'[server_certificates."iot.example.org"]\n{pair.toml}') as served:
        address = ("127.0.0.1", served.server.ports["grpc"])

        def connections() -> float:
            families = text_string_to_metric_families(httpx.get(f"{served.server.http_url}/metrics").text)
            samples = next(family.samples for family in families if family.name == "thingmint_connections")
            return next(each.value for each in samples if each.labels["listener"] == "grpc")

        for sent in (b"", b"\x16\x03\x01"):
            with socket.create_connection(address, PATIENCE) as sock:
                sock.sendall(sent)
                until(lambda: connections() == 1)
            until(lambda: connections() == 0)
        for sent in (b"", b"GET / HTTP/1.1\r\n\r\n"):
            with socket.create_connection(address, 4 * PATIENCE) as sock:
                sock.sendall(sent)
                assert len(sock.recv(100)) <= 7  # an alert at most
            until(lambda: connections() == 0)
        assert serial(served.server, "grpc", "iot.example.org", company.root) == pair.serial


def test_settings_change_at_sighup(tmp_path: Path, company: Company) -> None:
    first, second = company.pair("localhost"), company.pair("localhost")
    with serving(tmp_path, "") as served:
        server = served.server
        own = shown(server, "api", "localhost", server.ca).issuer
        table = f'[server_certificates.mqtt]\n{second.toml}listeners = ["mqtt"]\n'
        line = served.reload(first.toml_of_all + table)
        assert line["changed"] == ["server_certificate", "server_certificates", "server_key"]
        until(lambda: serial(server, "mqtt", "localhost", company.root) == second.serial)
        assert serial(server, "api", "localhost", company.root) == first.serial
        assert serial(server, "grpc", "localhost", company.root) == first.serial

        bad = company.pair("localhost", ends=YESTERDAY)
        line = served.reload(f"{first.toml_of_all}[server_certificates.mqtt]\n{bad.toml}", "settings_not_reloaded")
        assert line["why"].startswith("server-certificates.mqtt: ")
        assert "expired on" in line["why"]
        assert serial(server, "mqtt", "localhost", company.root) == second.serial

        served.reload("")
        until(lambda: serial(server, "mqtt", "localhost", company.root) is None)
        for listener in LISTENERS:
            assert shown(server, listener, "localhost", server.ca).issuer == own


def test_a_host_name_that_is_added_later_gets_the_instances_own_certificate(tmp_path: Path, company: Company) -> None:
    pair = company.pair("localhost")
    with serving(tmp_path, pair.toml_of_all) as served:
        server, name = served.server, "later.example.org"
        assert {serial(server, each, name, server.ca) for each in LISTENERS} == {None}
        added = in_process("init", "--hostname", name, "--data-dir", server.data_dir)
        assert added.returncode == 0, added.stderr
        until(lambda: None not in {serial(server, each, name, server.ca) for each in LISTENERS})
        assert {serial(server, each, "localhost", company.root) for each in LISTENERS} == {pair.serial}
        [line] = served.events("server_certificate_not_for_all_names")
        assert line["names"] == [name]


def test_a_name_that_is_added_at_sighup_is_served_by_grpc(tmp_path: Path, company: Company) -> None:
    pair, renewed = company.pair("iot.example.org"), company.pair("iot.example.org")
    with serving(tmp_path, "") as served:
        served.reload(f'[server_certificates.iot]\n{pair.toml}names = ["iot.example.org"]')
        assert serial(served.server, "grpc", "iot.example.org", company.root) == pair.serial
        expected = renewed.serial
        pair.replace_by(renewed)
        served.reload()
        until(lambda: serial(served.server, "grpc", "iot.example.org", company.root) == expected)
        served.reload("")
        assert serial(served.server, "grpc", "iot.example.org", company.root) is None


def test_a_host_name_can_be_the_name_of_a_table(tmp_path: Path, company: Company) -> None:
    pair, wild = company.pair("mqtt.example.org"), company.pair("*.example.org")
    tables = f'[server_certificates."MQTT.example.org"]\n{pair.toml}[server_certificates."*.example.org"]\n{wild.toml}'
    with serving(tmp_path, tables) as served:
        for listener in LISTENERS:
            assert serial(served.server, listener, "mqtt.example.org", company.root) == pair.serial
            assert serial(served.server, listener, "other.example.org", company.root) == wild.serial
            assert serial(served.server, listener, "localhost", company.root) is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "certificate = '{folder}/none.pem'\nkey = '{pair.key}'",
            "none.pem cannot be read (No such file or directory)",
        ),
        ("certificate = '{pair.certificate}'\nkey = '{folder}'", "cannot be read (Is a directory)"),
        ("certificate = '{pair.certificate}'\nkey = '{pair.certificate}'", "has no private key in PEM"),
        ("certificate = '{pair.key}'\nkey = '{pair.key}'", "has no certificates in PEM"),
        ("certificate = '{pair.certificate}'\nkey = '{other.key}'", "is not the key of the certificate for localhost"),
        ("certificate = '{expired.certificate}'\nkey = '{expired.key}'", "expired on"),
        ("{pair.toml}names = ['localhost', 'a.test']", "{pair.certificate} is not for a.test; it is for localhost"),
    ],
)
def test_unusable_files_are_refused_at_start(tmp_path: Path, company: Company, table: str, message: str) -> None:
    pair, other = company.pair("localhost"), company.pair("localhost", kind="rsa2048")
    facts = {"pair": pair, "other": other, "folder": tmp_path, "expired": company.pair("localhost", ends=YESTERDAY)}
    settings = f"[server_certificates.fleet]\n{table.format(**facts)}"
    with pytest.raises(ServerFailed) as caught, serving(tmp_path, settings):
        pass
    assert "ended with status 2" in str(caught.value)
    [line] = [line for line in str(caught.value).splitlines() if line.startswith("thingmint: ")]
    assert line.startswith("thingmint: server-certificates.fleet: ")
    assert message.format(**facts) in line


def test_old_signatures_are_refused_except_that_of_a_root(tmp_path: Path) -> None:
    """Made with openssl, as the library of these tests makes no signatures with SHA-1."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, capture_output=True, check=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout")
    openssl("req", "-x509", *new_key, "root.key", "-sha1", "-days", "9", "-subj", "/CN=Old Root", "-out", "root.pem")
    (tmp_path / "names").write_text("subjectAltName = DNS:localhost\n")
    openssl("req", *new_key, "key", "-subj", "/CN=localhost", "-out", "csr")
    sign = ("x509", "-req", "-in", "csr", "-CA", "root.pem", "-CAkey", "root.key", "-extfile", "names", "-days", "9")
    for digest in ("sha256", "sha1"):
        openssl(*sign, f"-{digest}", "-out", digest)
    root, key = (tmp_path / "root.pem").read_bytes(), (tmp_path / "key").read_bytes()
    found = read_server_certificate((tmp_path / "sha256").read_bytes() + root, key, datetime.now(UTC))
    assert found.root == "CN=Old Root"
    for chain in ((tmp_path / "sha1").read_bytes(), (tmp_path / "sha1").read_bytes() + root):
        with pytest.raises(Invalid, match=r"has a signature with SHA-1 or MD5 \(localhost\)"):
            read_server_certificate(chain, key, datetime.now(UTC))


def test_names_that_a_certificate_does_not_cover_can_be_allowed(tmp_path: Path, company: Company) -> None:
    pair = company.pair("localhost")
    settings = f'[server_certificates.fleet]\n{pair.toml}names = ["mqtt.cloud.test"]\ncheck_names = false'
    with serving(tmp_path, settings) as served:
        for listener in LISTENERS:
            found = serial(served.server, listener, "mqtt.cloud.test", company.root, check_hostname=False)
            assert found == pair.serial
            assert serial(served.server, listener, "localhost", company.root) is None


def test_a_key_that_others_can_read_is_warned_about(tmp_path: Path, company: Company) -> None:
    pair, private = company.pair("localhost"), company.pair("localhost")
    pair.key.chmod(0o644)
    private.key.chmod(0o640)  # for a group that may read keys
    settings = f'{pair.toml_of_all}[server_certificates.private]\n{private.toml}listeners = ["mqtt"]'
    with serving(tmp_path, settings) as served:
        assert [line["path"] for line in served.events("server_key_open_to_others")] == [str(pair.key)]
        assert pair.key.stat().st_mode & 0o777 == 0o644


def test_client_files_keep_the_root_that_their_user_set(tmp_path: Path, company: Company) -> None:
    pair = company.pair("localhost")
    with serving(tmp_path, pair.toml_of_all) as served:
        ca, folder = served.server.ca, served.server.data_dir / "clients"
    for name in ("aws.env", "yandex.env"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace(str(ca), str(company.root)))
    done = in_process("access", "hostname", "first", "127.0.0.1", "--data-dir", folder.parent)
    assert done.returncode == 0, done.stderr
    with serving(tmp_path, company.pair("127.0.0.1").toml_of_all) as served:
        assert served.server.environment()["AWS_ENDPOINT_URL_IOT"].startswith("https://127.0.0.1:")
        assert served.server.environment()["AWS_CA_BUNDLE"] == str(company.root)
        assert served.server.environment("yandex")["THINGMINT_YC_ROOT_CERTIFICATES"] == str(company.root)
        assert boto3.client("iot", **served.server.boto3_arguments()).list_things()["things"] == []
    with serving(tmp_path, "") as served:
        assert served.server.environment()["AWS_CA_BUNDLE"] == str(ca)
        assert served.server.environment("yandex")["THINGMINT_YC_ROOT_CERTIFICATES"] == str(ca)


def test_the_banner_says_what_clients_have_to_trust(tmp_path: Path, company: Company) -> None:
    pair = company.pair("localhost")
    config = tmp_path / "thingmint.toml"
    config.write_text(f'[server_certificates.fleet]\n{pair.toml}listeners = ["mqtt"]\nnames = ["localhost"]')
    with running_server(tmp_path / "data", arguments=[f"--config={config}"]) as server:
        until(lambda: "Ctrl-C stops it" in server.output.read_text())
        line = "server-certificates.fleet: clients of mqtt as localhost have to trust CN=Company Root,\nnot "
        assert line in server.output.read_text()
