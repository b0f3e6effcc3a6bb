"""The certificates that can connect, and the account that each belongs to."""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import subprocess
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from yandex.cloud.iot.devices.v1 import device_service_pb2, registry_service_pb2

from tests.e2e.conftest import iot_client
from tests.e2e.material import fingerprint
from tests.e2e.mqtt.conftest import ALLOW_ALL, Devices, new_name
from tests.e2e.mqtt.devices import Closed, Credential, credential, tls_context
from tests.e2e.wire import exchange, until
from tests.e2e.yandex.clients import Account, Cloud
from thingmint.mqtt.protocol.packets import ConnAck, Connect
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.testing import ServerFailed, running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.mqtt.conftest import Gateway
    from tests.e2e.mqtt.devices import Device

VERSIONS = [4, 5]


def connects(fleet: Devices, made: Credential | None, version: Any = 5, **options: Any) -> bool:
    """True if a device can connect. If not, checks AWS's answer: MQTT 3.1.1 is closed without CONNACK."""
    with fleet.dial(made, version, **options) as device:
        device.send(Connect(version, new_name()))
        closed = None
        try:
            answer = device.expect(ConnAck)
        except Closed as caught:
            closed = caught
        if closed is not None:
            assert (version, closed.packets) == (4, [])
            return False
        if answer.reason is Reason.NOT_AUTHORIZED:
            assert (version, device.until_closed().packets) == (5, [])
            return False
        assert answer.reason is Reason.SUCCESS
        assert device.is_open
        return True


def expired(fleet: Devices, **facts: Any) -> Credential:
    return fleet.credential(ends=timedelta(hours=-1), **facts)


CASES: dict[str, tuple[Callable[[Devices], Credential | None], bool]] = {
    "active": (lambda fleet: fleet.credential(), True),
    "RSA": (lambda fleet: fleet.credential(kind="rsa2048"), True),
    "P-384": (lambda fleet: fleet.credential(kind="secp384r1"), True),
    "INACTIVE": (lambda fleet: fleet.credential(status="INACTIVE"), False),
    "unknown": (lambda fleet: credential(fleet.folder), False),
    "no certificate": (lambda fleet: None, False),
    "no policy": (lambda fleet: fleet.register(credential(fleet.folder)), False),
    "expired": (expired, False),
    "not yet valid": (lambda fleet: fleet.credential(begins=timedelta(hours=1)), False),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_status_policy_and_validity_decide_about_connecting(mine: Devices, case: str, version: int) -> None:
    make, expected = CASES[case]
    assert connects(mine, make(mine), version) is expected


@pytest.mark.parametrize("status", ["INACTIVE", "REVOKED"])
def test_the_current_status_counts_at_connect(mine: Devices, status: str) -> None:
    made = mine.credential()
    assert connects(mine, made)
    mine.set_status(made, status)
    assert not connects(mine, made)
    assert mine.log(made, "refused")[-1]["why"] == f"the certificate is {status}, not ACTIVE"


def test_certificates_issued_by_thingmint_connect(mine: Devices) -> None:
    made = issued(mine)
    assert connects(mine, made)
    assert connects(mine, made, endpoint="localhost")


def test_check_validity_can_be_switched_off(gateway: Gateway) -> None:
    assert connects(gateway.lax, expired(gateway.lax))
    assert connects(gateway.lax, gateway.lax.credential(begins=timedelta(hours=1)))


# -- certificates bound to Yandex devices ----------------------------------------------------------------------------


class Fingerprints:
    """Certificates that are bound to devices of one account."""

    def __init__(self, fleet: Devices) -> None:
        self.fleet = fleet
        keys = fleet.keys
        self.cloud = Cloud(fleet.server, Account(keys["authorized_key"], keys["folder"], keys["token"]))
        registry = registry_service_pb2.CreateRegistryRequest(folder_id=keys["folder"], name=new_name("r"))
        operation = self.cloud.rest.call("RegistryService/Create", registry)
        made = registry_service_pb2.CreateRegistryMetadata()
        assert operation.metadata.Unpack(made)
        self.registry = made.registry_id

    def bind(self, made: Credential) -> Credential:
        """Binds a certificate to a new device, with a policy that allows everything."""
        device = device_service_pb2.CreateDeviceRequest(registry_id=self.registry, name=new_name())
        created = device_service_pb2.CreateDeviceMetadata()
        assert self.cloud.rest.call("DeviceService/Create", device).metadata.Unpack(created)
        request = device_service_pb2.AddDeviceCertificateRequest(device_id=created.device_id, certificate_data=made.pem)
        assert self.cloud.rest.call("DeviceService/AddCertificate", request).done
        registered = Credential(made.fingerprint, made.pem, made.file, self.fleet.arn(f"cert/{made.fingerprint}"))
        self.fleet.attach(registered, ALLOW_ALL)
        return registered


@pytest.fixture(scope="module")
def bound(gateway: Gateway) -> Iterator[dict[str, Fingerprints]]:
    made = {"mine": Fingerprints(gateway.mine), "lax": Fingerprints(gateway.lax)}
    yield made
    for each in made.values():
        each.cloud.close()


@pytest.mark.parametrize("version", [4, 5])
def test_client_ids_are_separate_for_each_yandex_device(bound: dict[str, Fingerprints], version: Any) -> None:
    mine, literal = bound["mine"].fleet, new_name("Esp8266Client")
    one, other = (bound["mine"].bind(credential(mine.folder)) for _ in range(2))
    with (
        mine.connected(one, literal, version=version) as first,
        mine.connected(other, literal, version=version) as second,
        mine.connected(None, literal, version=version) as third,
    ):
        time.sleep(0.5)  # a takeover would end a connection in this time
        assert first.is_open
        assert second.is_open
        assert third.is_open, "client ids of AWS devices are separate"
        with mine.connected(one, literal, version=version):
            first.until_closed()  # the same device may connect only once
        assert second.is_open


def test_sessions_are_separate_for_each_yandex_device(bound: dict[str, Fingerprints]) -> None:
    mine, literal, topic = bound["mine"].fleet, new_name("Esp8266Client"), new_name("t")
    one, other = (bound["mine"].bind(credential(mine.folder)) for _ in range(2))
    with mine.connected(one, literal, session_expiry=60) as device:
        device.subscribe(topic)
    with mine.dial(other) as device:
        assert not device.connect(literal, clean_start=False, session_expiry=60).session_present
    with mine.dial(one) as device:
        assert device.connect(literal, clean_start=False, session_expiry=60).session_present


def old_rsa(folder: Path, bits: int) -> Credential:
    """Returns an RSA key that current libraries refuse to make, but openssl still makes."""
    file = folder / f"{secrets.token_hex(8)}.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:{bits} -sha256 -nodes -days 9 -subj /CN=old -keyout {file} -out {file}.crt",
        shell=True,
        check=True,
        capture_output=True,
    )
    pem = file.with_name(f"{file.name}.crt").read_text()
    file.write_text(file.read_text() + pem)
    return Credential(fingerprint(pem), pem, file)


def old_tls(fleet: Devices, made: Credential) -> ssl.SSLContext:
    context = tls_context(fleet.server, None)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # TLS 1.3 signs with PSS, which needs more than 512 bits
    context.load_cert_chain(made.file)
    return context


@pytest.mark.parametrize(
    ("account", "bits", "expected"),
    [("mine", 512, False), ("lax", 512, False), ("mine", 1024, False), ("lax", 1024, True), ("lax", 1016, False)],
)
def test_weak_keys_connect_only_if_allowed(
    bound: dict[str, Fingerprints], account: str, bits: int, expected: bool
) -> None:
    of = bound[account]
    made = of.bind(old_rsa(of.fleet.folder, bits))
    assert connects(of.fleet, made, tls=old_tls(of.fleet, made)) is expected
    if not expected:
        assert f"an RSA key of {bits} bits" in of.fleet.log(made, "refused")[-1]["why"]


@pytest.mark.parametrize("facts", [{"ends": timedelta(hours=-1)}, {"begins": timedelta(hours=1)}])
def test_bound_certificates_ignore_validity(bound: dict[str, Fingerprints], facts: Any) -> None:
    mine = bound["mine"].fleet
    made = bound["mine"].bind(credential(mine.folder, **facts))
    assert connects(mine, made)
    mine.set_status(made, "INACTIVE")
    assert not connects(mine, made)


# -- accounts and endpoints ------------------------------------------------------------------------------------------


def shared(gateway: Gateway) -> Credential:
    """Returns a certificate of two accounts. Each account allows to publish only below its name."""
    made = credential(gateway.mine.folder)
    for name, fleet in (("mine", gateway.mine), ("other", gateway.other)):
        topic = fleet.arn(f"topic/{name}/*")
        fleet.register(made, {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}, allow_publish(topic))
    return made


def allow_publish(resource: str) -> dict[str, str]:
    return {"Effect": "Allow", "Action": "iot:Publish", "Resource": resource}


def may_publish(device: Device) -> list[str]:
    """Returns the accounts below whose names the device may publish."""
    return [name for name in ("mine", "other") if device.publish(f"{name}/a") is Reason.NO_MATCHING_SUBSCRIBERS]


def test_the_endpoint_selects_the_account_of_a_certificate(gateway: Gateway) -> None:
    made = shared(gateway)
    for name, fleet in (("mine", gateway.mine), ("other", gateway.other)):
        with fleet.connected(made) as device:
            assert may_publish(device) == [name]


SHARED = pytest.mark.parametrize("endpoint", ["localhost", "127.0.0.1"])  # no server name is sent for an address


@SHARED
def test_without_an_endpoint_the_default_account_is_used(gateway: Gateway, endpoint: str) -> None:
    made = shared(gateway)
    with gateway.mine.dial(made, endpoint=endpoint) as device:
        device.connect(new_name())
        assert may_publish(device) == ["mine"]


@SHARED
def test_an_unproven_certificate_needs_the_endpoint_of_its_account(gateway: Gateway, endpoint: str) -> None:
    """The account is not the default one, and has not proven that it owns the certificate."""
    other, made = gateway.other, gateway.other.credential()
    before = len(gateway.server.output.read_text())
    assert not connects(other, made, endpoint=endpoint)
    assert connects(other, made)
    assert not connects(other, made, endpoint=gateway.mine.endpoint)
    lines = [line for line in gateway.server.output.read_text()[before:].splitlines() if made.fingerprint in line]
    assert "host_name_needed" in lines[0]
    assert f"the device must send a host name (SNI): {other.endpoint} (account {other.account}" in lines[0]


def issued(fleet: Devices) -> Credential:
    """Returns a certificate that Thingmint issued to the account."""
    answer = fleet.iot.create_keys_and_certificate(setAsActive=True)
    file = fleet.folder / f"{secrets.token_hex(8)}.pem"
    file.write_text(answer["keyPair"]["PrivateKey"] + answer["certificatePem"])
    made = Credential(answer["certificateId"], answer["certificatePem"], file, answer["certificateArn"])
    fleet.attach(made, ALLOW_ALL)
    return made


@pytest.mark.parametrize("way", ["RegisterCertificateWithoutCA", "AddCertificate"])
@pytest.mark.parametrize("proven", [True, False])
def test_registrations_of_other_accounts_change_nothing(
    gateway: Gateway, bound: dict[str, Fingerprints], way: str, proven: bool
) -> None:
    """The account that a certificate was issued to, or the default account, keeps the device."""
    owner, taker = (gateway.other, bound["mine"]) if proven else (gateway.mine, bound["lax"])
    made = issued(owner) if proven else owner.credential()
    with owner.dial(made, endpoint="localhost") as device:
        device.connect(new_name())
        if way == "AddCertificate":
            taker.bind(made)
        else:
            taker.fleet.register(made, ALLOW_ALL)
        time.sleep(1.2)  # other processes would have polled the change in this time, too
        assert device.is_open
    for endpoint in ("localhost", "127.0.0.1", owner.endpoint):
        with owner.dial(made, endpoint=endpoint) as device:
            device.connect(new_name())
    assert {line["account"] for line in owner.log(made, "connected")} == {owner.account}
    assert connects(taker.fleet, made)
    assert owner.log(made, "connected")[-1]["account"] == taker.fleet.account


def test_the_default_account_must_exist(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerFailed, match="default-account: there is no account 999999999999"),
        running_server(tmp_path / "data", environment={"THINGMINT_DEFAULT_ACCOUNT": "999999999999"}),
    ):
        pass


def test_without_a_default_account_unproven_devices_need_a_host_name(tmp_path: Path) -> None:
    with (
        running_server(tmp_path / "data", environment={"THINGMINT_DEFAULT_ACCOUNT": "none"}) as server,
        contextlib.closing(iot_client(server)) as iot,
    ):
        account = iot.create_thing(thingName="x")["thingArn"].split(":")[4]
        fleet = Devices(server, iot, account, "localhost", {}, tmp_path)
        assert connects(fleet, issued(fleet))
        assert not connects(fleet, fleet.credential())


def test_endpoints_are_case_insensitive(gateway: Gateway) -> None:
    made = shared(gateway)
    context = tls_context(gateway.server, made)
    context.check_hostname = False
    assert connects(gateway.mine, made, endpoint=gateway.mine.endpoint.upper(), tls=context)


@pytest.mark.parametrize("type", ["iot:Data-ATS", "iot:Data"])
def test_describe_endpoint(gateway: Gateway, type: str) -> None:
    for fleet in (gateway.mine, gateway.other, gateway.lax):
        assert fleet.iot.describe_endpoint(endpointType=type)["endpointAddress"] == fleet.endpoint


# -- TLS -------------------------------------------------------------------------------------------------------------


def server_certificate(gateway: Gateway, context: ssl.SSLContext, name: str = "localhost") -> x509.Certificate:
    raw = socket.create_connection(("127.0.0.1", gateway.server.ports["mqtt"]), timeout=15)
    with raw, context.wrap_socket(raw, server_hostname=name) as tls:
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def test_the_server_certificate_covers_all_endpoints(gateway: Gateway) -> None:
    ecdsa = server_certificate(gateway, tls_context(gateway.server, None), gateway.other.endpoint)
    assert isinstance(ecdsa.public_key(), ec.EllipticCurvePublicKey)
    old = tls_context(gateway.server, None)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    with_rsa = server_certificate(gateway, old, gateway.other.endpoint)
    assert isinstance(with_rsa.public_key(), rsa.RSAPublicKey)
    for shown in (ecdsa, with_rsa):
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        covered = names.get_values_for_type(x509.DNSName)
        assert {"localhost", gateway.mine.endpoint, gateway.other.endpoint, gateway.lax.endpoint} <= set(covered)


@pytest.mark.parametrize(("alpn", "expected"), [(["x-amzn-mqtt-ca"], True), (["mqtt"], True), (["http/1.1"], False)])
def test_the_alpn_port_accepts_mqtt_protocols(mine: Devices, alpn: list[str], expected: bool) -> None:
    made = mine.credential()
    if expected:
        assert connects(mine, made, listener="mqtt-alpn", alpn=alpn)
    else:
        assert refused_by_tls(mine, made, listener="mqtt-alpn", alpn=alpn)
    assert connects(mine, made, alpn=alpn)  # the default port accepts all protocols


def test_the_alpn_port_requires_a_protocol(mine: Devices) -> None:
    made = mine.credential()
    assert refused_by_tls(mine, made, listener="mqtt-alpn")
    assert mine.log(made, "connected") == []


def refused_by_tls(fleet: Devices, made: Credential, **options: Any) -> bool:
    """True if the TLS handshake fails. The device may notice it only after its part of the handshake."""
    try:
        with fleet.dial(made, **options) as device:
            device.send(Connect(5, new_name()))
            return device.until_closed().packets == []
    except OSError:
        return True


def test_repeated_unknown_certificates_write_few_log_lines(mine: Devices) -> None:
    unknown = credential(mine.folder)
    before = len(mine.server.output.read_text())
    for _ in range(30):
        assert not connects(mine, unknown)
    assert mine.server.output.read_text()[before:].count("unauthenticated_connection_refused") <= 2


def test_metrics_count_connections(mine: Devices) -> None:
    before = connections(mine)
    with mine.connected(), mine.connected():
        assert connections(mine) == before + 2
    until(lambda: connections(mine) == before, seconds=5, what="the connections are gone")


def connections(fleet: Devices) -> int:
    text = exchange(fleet.server, "GET", "/metrics").body.decode()
    line = next(line for line in text.splitlines() if line.startswith("thingmint_device_connections "))
    return int(float(line.split()[1]))
