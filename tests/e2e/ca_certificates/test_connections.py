"""Just-in-time registration, and the effect of a changed CA certificate on open connections."""

from __future__ import annotations

import json
import queue
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.e2e.access.local_admin import document
from tests.e2e.ca_certificates.devices import ACCEPTED, REFUSED, SILENCE, TIMEOUT, closed_within
from tests.e2e.material import new_issuer
from tests.issuers import fingerprint, name, pem, rewritten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.ca_certificates.conftest import Owner
    from tests.e2e.ca_certificates.devices import Identity
    from tests.issuers import Issuer

ALLOW_ALL = {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}
EVENTS = "$aws/events/certificates/registered/"


def allow_all(owner: Owner, *ids: str) -> None:
    policy = f"p-{secrets.token_hex(4)}"
    owner.iot.create_policy(policyName=policy, policyDocument=document(ALLOW_ALL))
    for id in ids:
        owner.iot.attach_policy(policyName=policy, target=f"arn:aws:iot:us-east-1:{owner.number}:cert/{id}")


def active(owner: Owner, issuer: Issuer, **facts: Any) -> Identity:
    """Register a device of that CA, with permission for everything."""
    made = owner.devices.identity(issuer, **facts)
    owner.iot.register_certificate(certificatePem=pem(made.certificate), caCertificatePem=issuer.pem, status="ACTIVE")
    allow_all(owner, made.fingerprint)
    return made


def listener(owner: Owner) -> Identity:
    """Return the identity of a device that needs no host name, because the account issued its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(name("listener")).sign(key, hashes.SHA256())
    issued = owner.iot.create_certificate_from_csr(
        certificateSigningRequest=csr.public_bytes(Encoding.PEM).decode(), setAsActive=True
    )
    allow_all(owner, issued["certificateId"])
    return owner.devices.with_key(x509.load_pem_x509_certificate(issued["certificatePem"].encode()), key)


def test_a_device_is_registered_just_in_time_and_connects_when_active(owner: Owner, other: Owner) -> None:
    issuer = owner.issuer()
    ca, devices = issuer.fingerprint, owner.devices
    device = devices.identity(issuer, "lamp-7")
    before = time.time() * 1000
    with (
        devices.listening(listener(owner), f"{EVENTS}{ca}") as events,
        other.devices.listening(listener(other), f"{EVENTS}#") as others,
    ):
        assert devices.connect(device) is SILENCE, "closed without an answer"
        topic, event = events.get(timeout=TIMEOUT)
        assert topic == f"{EVENTS}{ca}"
        assert before - 1000 < event.pop("timestamp") < time.time() * 1000 + 1000
        assert event == {
            "certificateId": device.fingerprint,
            "caCertificateId": ca,
            "certificateStatus": "PENDING_ACTIVATION",
            "awsAccountId": owner.number,
            "certificateRegistrationTimestamp": None,
            "sourceIp": "127.0.0.1",
        }
        description = owner.iot.describe_certificate(certificateId=device.fingerprint)["certificateDescription"]
        assert (description["status"], description["caCertificateId"]) == ("PENDING_ACTIVATION", ca)

        assert devices.connect(device) is SILENCE, "also while it is pending"
        _, event = events.get(timeout=TIMEOUT)
        registered = event["certificateRegistrationTimestamp"]
        assert isinstance(registered, str)
        assert int(registered) == int(description["creationDate"].timestamp() * 1000)
        assert others.empty(), "another account got the event"

        owner.iot.update_certificate(certificateId=device.fingerprint, newStatus="ACTIVE")
        allow_all(owner, device.fingerprint)
        assert devices.connect(device) == ACCEPTED
        with pytest.raises(queue.Empty):
            events.get(timeout=0.3)
    [found] = owner.iot.list_certificates_by_ca(caCertificateId=ca)["certificates"]
    assert found["certificateId"] == device.fingerprint


ROLE = {"Effect": "Allow", "Action": ["iot:*"], "Resource": "*"}
SERVICE = {"Effect": "Allow", "Principal": {"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}


def role(owner: Owner, statement: Any) -> str:
    """Create a role that AWS IoT can assume, and return its ARN."""
    made = f"jitp-{secrets.token_hex(4)}"
    owner.local_admin.ask("role.create", name=made, trust_policy=document(SERVICE))
    owner.local_admin.attach(f"role/{made}", statement)
    return f"arn:aws:iam::{owner.number}:role/{made}"


def template(policy: str) -> str:
    def of(name: str) -> dict[str, str]:
        return {"Ref": f"AWS::IoT::Certificate::{name}"}

    resources = {
        "thing": ("Thing", {"ThingName": of("CommonName"), "AttributePayload": {"country": of("Country")}}),
        "certificate": ("Certificate", {"CertificateId": of("Id"), "Status": "ACTIVE"}),
        "policy": ("Policy", {"PolicyDocument": policy}),
    }
    return json.dumps(
        {
            "Parameters": {
                f"AWS::IoT::Certificate::{each}": {"Type": "String"} for each in ("CommonName", "Country", "Id")
            },
            "Resources": {
                name: {"Type": f"AWS::IoT::{kind}", "Properties": properties}
                for name, (kind, properties) in resources.items()
            },
        }
    )


@pytest.mark.parametrize("by_name", [True, False])
def test_a_device_is_provisioned_just_in_time(owner: Owner, by_name: bool) -> None:
    iot, devices, arn = owner.iot, owner.devices, role(owner, ROLE)
    config = {"templateBody": template(document(ALLOW_ALL)), "roleArn": arn}
    if by_name:
        kept = f"t-{secrets.token_hex(4)}"
        body = config["templateBody"]
        iot.create_provisioning_template(
            templateName=kept, templateBody=body, provisioningRoleArn=arn, type="JITP", enabled=True
        )
        config = {"templateName": kept}
    issuer = owner.issuer(registrationConfig=config)
    thing = f"lamp-{secrets.token_hex(4)}"
    device = devices.identity(issuer, name(thing, (NameOID.COUNTRY_NAME, "FI")))
    with devices.listening(listener(owner), f"{EVENTS}{issuer.fingerprint}") as events:
        assert devices.connect(device) is SILENCE
        assert owner.status(device.fingerprint) == "ACTIVE"
        assert devices.connect(device) == ACCEPTED, "the provisioned device reconnects"
        assert events.empty(), "no event: there is nothing to activate"
    assert iot.describe_thing(thingName=thing)["attributes"] == {"country": "FI"}
    cert = f"arn:aws:iot:us-east-1:{owner.number}:cert/{device.fingerprint}"
    assert iot.list_thing_principals(thingName=thing)["principals"] == [cert]
    assert len(iot.list_attached_policies(target=cert)["policies"]) == 1


def test_failed_provisioning_is_rolled_back(owner: Owner) -> None:
    iot, devices = owner.iot, owner.devices
    config = {
        "templateBody": template(document(ALLOW_ALL)),
        "roleArn": role(owner, {"Effect": "Allow", "NotAction": "iot:AttachPolicy", "Resource": "*"}),
    }
    issuer = owner.issuer(registrationConfig=config)
    thing = f"lamp-{secrets.token_hex(4)}"
    device = devices.identity(issuer, name(thing, (NameOID.COUNTRY_NAME, "FI")))
    assert devices.connect(device) == REFUSED
    assert devices.connect(devices.identity(issuer, "no country")) == REFUSED
    assert iot.list_certificates_by_ca(caCertificateId=issuer.fingerprint)["certificates"] == []
    with pytest.raises(iot.exceptions.ResourceNotFoundException):
        iot.describe_thing(thingName=thing)
    for arn in (f"arn:aws:iam::{owner.number}:role/unknown", role(owner, ROLE)):
        config["roleArn"] = arn
        iot.update_ca_certificate(certificateId=issuer.fingerprint, registrationConfig=config)
        result = devices.connect(device)
        assert result == (REFUSED if arn.endswith("unknown") else SILENCE)
    assert devices.connect(device) == ACCEPTED


def test_without_a_host_name_the_owner_of_the_ca_registers(owner: Owner, other: Owner) -> None:
    """DEFAULT proves ownership: an account that registers the same CA as SNI_ONLY does not get its devices."""
    issuer, devices = owner.issuer(), owner.devices
    other.iot.register_ca_certificate(
        caCertificate=issuer.pem, certificateMode="SNI_ONLY", setAsActive=True, allowAutoRegistration=True
    )
    device = devices.identity(issuer)
    assert devices.connect(device, "localhost") is SILENCE
    assert owner.status(device.fingerprint) == "PENDING_ACTIVATION"
    with pytest.raises(other.iot.exceptions.ResourceNotFoundException):
        other.status(device.fingerprint)
    assert devices.connect(device, other.endpoint) is SILENCE
    assert other.status(device.fingerprint) == "PENDING_ACTIVATION"


def test_a_certificate_that_was_revoked_and_deleted_is_refused(owner: Owner) -> None:
    issuer, devices = owner.issuer(), owner.devices
    identity = devices.identity(issuer)
    assert devices.connect(identity) is SILENCE
    key = identity.file
    re_signed = rewritten(identity.certificate)
    assert fingerprint(re_signed) != identity.fingerprint
    secret, begin, _ = key.read_text().partition("-----BEGIN CERTIFICATE-----")
    assert begin
    other_file = key.with_suffix(".re_signed")
    other_file.write_text(secret + pem(re_signed))
    with_re_signed = type(identity)(re_signed, other_file)
    assert devices.connect(with_re_signed) == REFUSED, "the same certificate under another fingerprint"
    owner.iot.update_certificate(certificateId=identity.fingerprint, newStatus="REVOKED")
    for each in (identity, with_re_signed):
        assert devices.connect(each) == REFUSED
    owner.iot.delete_certificate(certificateId=identity.fingerprint)
    for each in (identity, with_re_signed):
        assert devices.connect(each) == REFUSED
    assert owner.iot.list_certificates_by_ca(caCertificateId=issuer.fingerprint)["certificates"] == []


def test_a_device_that_reconnects_too_often_is_throttled(owner: Owner) -> None:
    issuer, devices = owner.issuer(), owner.devices
    identity = devices.identity(issuer)
    with devices.listening(listener(owner), f"{EVENTS}{issuer.fingerprint}") as events:
        for _ in range(12):
            assert devices.connect(identity) is SILENCE
        time.sleep(0.3)
        assert 1 <= events.qsize() <= 6


def test_just_in_time_registration_is_audited(owner: Owner) -> None:
    issuer, devices = owner.issuer(), owner.devices
    identity = devices.identity(issuer)
    devices.connect(identity)
    deadline = time.monotonic() + TIMEOUT
    while True:
        done = owner.audit(identity.fingerprint)
        if {"RegisterCertificate", "Connect"} <= {record["event"] for record in done}:
            break
        assert time.monotonic() < deadline, done
        time.sleep(0.2)
    [made] = [record for record in done if record["event"] == "RegisterCertificate"]
    assert (made["outcome"], made["account"]) == ("success", owner.number)
    assert made["ca"] == issuer.fingerprint


@pytest.fixture
def gates_devices(owner: Owner) -> Iterator[None]:
    """Turn the account's setting ca_status_gates_devices on."""
    owner.local_admin.ask("account.set", name="ca_status_gates_devices", value="true")
    yield
    owner.local_admin.ask("account.set", name="ca_status_gates_devices", value="false")


def end(owner: Owner, issuer: Issuer, how: str) -> None:
    owner.iot.update_ca_certificate(certificateId=issuer.fingerprint, newStatus="INACTIVE")
    if how == "DELETED":
        owner.iot.delete_ca_certificate(certificateId=issuer.fingerprint)


ENDED = pytest.mark.parametrize("how", ["INACTIVE", "DELETED"])


@ENDED
def test_devices_stay_connected_after_their_ca_ended(owner: Owner, how: str) -> None:
    """AWS's guide: they work until they are revoked one by one. New devices are not registered any more."""
    issuer, devices = owner.issuer(), owner.devices
    identity = active(owner, issuer)
    with devices.connected(identity) as sock:
        end(owner, issuer, how)
        assert not closed_within(sock, 1.0)
    assert devices.connect(identity) == ACCEPTED
    assert devices.connect(devices.identity(issuer)) == REFUSED
    owner.iot.update_certificate(certificateId=identity.fingerprint, newStatus="INACTIVE")
    assert devices.connect(identity) == REFUSED
    refused = owner.log(identity.fingerprint, "refused")[-1]
    assert (refused["ca_status"], refused["ca_status_gates_devices"]) == (how, False)
    description = owner.native(f"/v1/certificates/{identity.fingerprint}")["ca"]
    assert (description["id"], description["status"], description["gates_devices"]) == (issuer.fingerprint, how, False)


@ENDED
@pytest.mark.usefixtures("gates_devices")
def test_with_ca_status_gates_devices_connections_close_with_the_status_of_the_ca(owner: Owner, how: str) -> None:
    issuer, devices = owner.issuer(), owner.devices
    identity, bystander = active(owner, issuer), active(owner, owner.issuer())
    with devices.connected(identity) as sock, devices.connected(bystander) as other_sock:
        time.sleep(0.8)  # until the gateway has handled the earlier changes, which also make it authenticate again
        end(owner, issuer, how)
        assert closed_within(sock, 1.0)
        assert devices.connect(identity) == REFUSED
        refused = owner.log(identity.fingerprint, "refused")[-1]
        assert (refused["ca_status"], refused["ca_status_gates_devices"]) == (how, True)
        assert owner.native(f"/v1/certificates/{identity.fingerprint}")["ca"]["gates_devices"] is True
        assert not closed_within(other_sock, 0.5)
    assert owner.status(identity.fingerprint) == "ACTIVE"
    if how == "DELETED":
        owner.prove(issuer)
    else:
        owner.iot.update_ca_certificate(certificateId=issuer.fingerprint, newStatus="ACTIVE")
    assert devices.connect(identity) == ACCEPTED


def test_setting_ca_status_gates_devices_closes_connections(owner: Owner) -> None:
    issuer, devices = owner.issuer(), owner.devices
    identity = active(owner, issuer)
    end(owner, issuer, "INACTIVE")
    with devices.connected(identity) as sock:
        owner.local_admin.ask("account.set", name="ca_status_gates_devices", value="true")
        try:
            assert closed_within(sock, 1.0)
        finally:
            owner.local_admin.ask("account.set", name="ca_status_gates_devices", value="false")
    assert devices.connect(identity) == ACCEPTED


@pytest.mark.usefixtures("gates_devices")
def test_with_ca_status_gates_devices_connections_close_when_the_ca_expires(owner: Owner) -> None:
    issuer = new_issuer(ends=datetime.now(UTC) + timedelta(seconds=4))
    owner.prove(issuer)
    identity, devices = active(owner, issuer), owner.devices
    with devices.connected(identity) as sock:
        assert closed_within(sock, 8.0)
    assert datetime.now(UTC) > issuer.certificate.not_valid_after_utc
    assert devices.connect(identity) == REFUSED


def test_connections_stay_open_when_their_ca_expires(owner: Owner) -> None:
    issuer = new_issuer(ends=datetime.now(UTC) + timedelta(seconds=3))
    owner.prove(issuer)
    identity, devices = active(owner, issuer), owner.devices
    with devices.connected(identity) as sock:
        assert not closed_within(sock, 5.0)
    assert datetime.now(UTC) > issuer.certificate.not_valid_after_utc
    assert devices.connect(identity) == ACCEPTED
    assert devices.connect(devices.identity(issuer)) == REFUSED


def test_ca_certificates_of_other_accounts_do_not_affect_connections(owner: Owner, other: Owner) -> None:
    issuer, devices = owner.issuer(), owner.devices
    identity = active(owner, issuer)
    other.iot.register_ca_certificate(caCertificate=issuer.pem, certificateMode="SNI_ONLY", setAsActive=True)
    with devices.connected(identity) as sock:
        other.iot.update_ca_certificate(certificateId=issuer.fingerprint, newStatus="INACTIVE")
        assert not closed_within(sock, 0.7)


def test_devices_with_hostile_names_are_refused(owner: Owner) -> None:
    """The names of unknown issuers, and a hostile subject."""
    devices, issuer = owner.devices, owner.issuer()
    for common_name in ("' OR 1=1 --", "\u0000", "é" * 32):
        key = ec.generate_private_key(ec.SECP256R1())
        identity = devices.with_key(issuer.sign(key=key, issuer=name(common_name)), key)
        assert devices.connect(identity) == REFUSED
    assert devices.connect(devices.identity(issuer, "\u202e" * 20)) is SILENCE
    json.dumps(owner.iot.list_certificates_by_ca(caCertificateId=issuer.fingerprint)["certificates"], default=str)
