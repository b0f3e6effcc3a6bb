"""Devices that nobody registered come to the door; and what becomes of those inside when their authority falls."""

from __future__ import annotations

import json
import queue
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.e2e.access.operator import document
from tests.e2e.authorities.devices import ACCEPTED, PATIENCE, REFUSED, SILENCE, closed_within
from tests.e2e.material import new_issuer
from tests.issuers import fingerprint, name, pem, rewritten

if TYPE_CHECKING:
    from tests.e2e.authorities.conftest import Owner
    from tests.e2e.authorities.devices import Identity
    from tests.issuers import Issuer

ALLOW_ALL = {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}
EVENTS = "$aws/events/certificates/registered/"


def may_all(owner: Owner, *ids: str) -> None:
    policy = f"p-{secrets.token_hex(4)}"
    owner.iot.create_policy(policyName=policy, policyDocument=document(ALLOW_ALL))
    for id in ids:
        owner.iot.attach_policy(policyName=policy, target=f"arn:aws:iot:us-east-1:{owner.number}:cert/{id}")


def active(owner: Owner, issuer: Issuer, **facts: Any) -> Identity:
    """A device of that authority that may do everything."""
    made = owner.devices.identity(issuer, **facts)
    owner.iot.register_certificate(certificatePem=pem(made.certificate), caCertificatePem=issuer.pem, status="ACTIVE")
    may_all(owner, made.fingerprint)
    return made


def listener(owner: Owner) -> Identity:
    """Connects without naming an endpoint, as its certificate is in one account only."""
    made = owner.devices.identity(new_issuer())
    owner.iot.register_certificate_without_ca(certificatePem=pem(made.certificate), status="ACTIVE")
    may_all(owner, made.fingerprint)
    return made


def test_just_in_time_registration(owner: Owner, other: Owner) -> None:
    issuer = owner.issuer()
    ca, devices = issuer.fingerprint, owner.devices
    newcomer = devices.identity(issuer, "lamp-7")
    before = time.time() * 1000
    with (
        devices.listening(listener(owner), f"{EVENTS}{ca}") as events,
        other.devices.listening(listener(other), f"{EVENTS}#") as others,
    ):
        assert devices.connect(newcomer) is SILENCE, "closed without a word"
        topic, event = events.get(timeout=PATIENCE)
        assert topic == f"{EVENTS}{ca}"
        assert before - 1000 < event.pop("timestamp") < time.time() * 1000 + 1000
        assert event == {
            "certificateId": newcomer.fingerprint,
            "caCertificateId": ca,
            "certificateStatus": "PENDING_ACTIVATION",
            "awsAccountId": owner.number,
            "certificateRegistrationTimestamp": None,
            "sourceIp": "127.0.0.1",
        }
        told = owner.iot.describe_certificate(certificateId=newcomer.fingerprint)["certificateDescription"]
        assert (told["status"], told["caCertificateId"]) == ("PENDING_ACTIVATION", ca)

        assert devices.connect(newcomer) is SILENCE, "and as long as it waits"
        _, event = events.get(timeout=PATIENCE)
        registered = event["certificateRegistrationTimestamp"]
        assert isinstance(registered, str)
        assert int(registered) == int(told["creationDate"].timestamp() * 1000)
        assert others.empty(), "nobody else hears of it"

        owner.iot.update_certificate(certificateId=newcomer.fingerprint, newStatus="ACTIVE")
        may_all(owner, newcomer.fingerprint)
        assert devices.connect(newcomer) == ACCEPTED
        with pytest.raises(queue.Empty):
            events.get(timeout=0.3)
    [found] = owner.iot.list_certificates_by_ca(caCertificateId=ca)["certificates"]
    assert found["certificateId"] == newcomer.fingerprint


ROLE = {"Effect": "Allow", "Action": ["iot:*"], "Resource": "*"}
SERVICE = {"Effect": "Allow", "Principal": {"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}


def role(owner: Owner, statement: Any) -> str:
    """The ARN of a new one that AWS IoT may work as."""
    made = f"jitp-{secrets.token_hex(4)}"
    owner.operator.ask("role.create", name=made, trust_policy=document(SERVICE))
    owner.operator.attach(f"role/{made}", statement)
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
def test_just_in_time_provisioning(owner: Owner, by_name: bool) -> None:
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
    newcomer = devices.identity(issuer, name(thing, (NameOID.COUNTRY_NAME, "FI")))
    with devices.listening(listener(owner), f"{EVENTS}{issuer.fingerprint}") as events:
        assert devices.connect(newcomer) is SILENCE
        assert owner.status(newcomer.fingerprint) == "ACTIVE"
        assert devices.connect(newcomer) == ACCEPTED, "and it comes again as who it now is"
        assert events.empty(), "nobody has to do anything about it"
    assert iot.describe_thing(thingName=thing)["attributes"] == {"country": "FI"}
    cert = f"arn:aws:iot:us-east-1:{owner.number}:cert/{newcomer.fingerprint}"
    assert iot.list_thing_principals(thingName=thing)["principals"] == [cert]
    assert len(iot.list_attached_policies(target=cert)["policies"]) == 1


def test_provisioning_that_fails_leaves_nothing(owner: Owner) -> None:
    iot, devices = owner.iot, owner.devices
    config = {
        "templateBody": template(document(ALLOW_ALL)),
        "roleArn": role(owner, {"Effect": "Allow", "NotAction": "iot:AttachPolicy", "Resource": "*"}),
    }
    issuer = owner.issuer(registrationConfig=config)
    thing = f"lamp-{secrets.token_hex(4)}"
    newcomer = devices.identity(issuer, name(thing, (NameOID.COUNTRY_NAME, "FI")))
    assert devices.connect(newcomer) == REFUSED
    assert devices.connect(devices.identity(issuer, "no country")) == REFUSED
    assert iot.list_certificates_by_ca(caCertificateId=issuer.fingerprint)["certificates"] == []
    with pytest.raises(iot.exceptions.ResourceNotFoundException):
        iot.describe_thing(thingName=thing)
    for arn in (f"arn:aws:iam::{owner.number}:role/nobody", role(owner, ROLE)):
        config["roleArn"] = arn
        iot.update_ca_certificate(certificateId=issuer.fingerprint, registrationConfig=config)
        result = devices.connect(newcomer)
        assert result == (REFUSED if arn.endswith("nobody") else SILENCE)
    assert devices.connect(newcomer) == ACCEPTED


def test_who_is_not_registered(owner: Owner, other: Owner) -> None:
    issuer, devices = owner.issuer(), owner.devices
    now = datetime.now(UTC)
    closed = owner.issuer(allowAutoRegistration=False)
    inactive = owner.issuer(setAsActive=False)
    for identity in (
        devices.identity(new_issuer()),
        devices.identity(new_issuer("Another")),
        devices.identity(closed),
        devices.identity(inactive),
        devices.identity(issuer, begins=now - timedelta(days=2), ends=now - timedelta(days=1)),
        devices.identity(issuer, begins=now + timedelta(days=1), ends=now + timedelta(days=2)),
        devices.with_key(issuer.certificate, issuer.key),
    ):
        assert devices.connect(identity) == REFUSED
        answer = owner.iot.list_certificates(pageSize=250)["certificates"]
        assert identity.fingerprint not in [found["certificateId"] for found in answer]
    assert devices.connect(devices.identity(issuer), other.endpoint) == REFUSED, "another account's endpoint"


def test_without_an_endpoint(owner: Owner, other: Owner) -> None:
    """DEFAULT is proof of ownership: a stranger that registers the same certificate takes nobody's devices away."""
    issuer, devices = owner.issuer(), owner.devices
    other.iot.register_ca_certificate(
        caCertificate=issuer.pem, certificateMode="SNI_ONLY", setAsActive=True, allowAutoRegistration=True
    )
    newcomer = devices.identity(issuer)
    assert devices.connect(newcomer, "localhost") is SILENCE
    assert owner.status(newcomer.fingerprint) == "PENDING_ACTIVATION"
    with pytest.raises(other.iot.exceptions.ResourceNotFoundException):
        other.status(newcomer.fingerprint)
    assert devices.connect(newcomer, other.endpoint) is SILENCE
    assert other.status(newcomer.fingerprint) == "PENDING_ACTIVATION"


def test_revoked_and_deleted_is_never_again(owner: Owner) -> None:
    issuer, devices = owner.issuer(), owner.devices
    identity = devices.identity(issuer)
    assert devices.connect(identity) is SILENCE
    key = identity.file
    twin = rewritten(identity.certificate)
    assert fingerprint(twin) != identity.fingerprint
    secret, begin, _ = key.read_text().partition("-----BEGIN CERTIFICATE-----")
    assert begin
    other_file = key.with_suffix(".twin")
    other_file.write_text(secret + pem(twin))
    as_twin = type(identity)(twin, other_file)
    assert devices.connect(as_twin) == REFUSED, "the same certificate under another fingerprint"
    owner.iot.update_certificate(certificateId=identity.fingerprint, newStatus="REVOKED")
    for each in (identity, as_twin):
        assert devices.connect(each) == REFUSED
    owner.iot.delete_certificate(certificateId=identity.fingerprint)
    for each in (identity, as_twin):
        assert devices.connect(each) == REFUSED
    assert owner.iot.list_certificates_by_ca(caCertificateId=issuer.fingerprint)["certificates"] == []


def test_a_flood_is_slowed_down(owner: Owner) -> None:
    issuer, devices = owner.issuer(), owner.devices
    identity = devices.identity(issuer)
    with devices.listening(listener(owner), f"{EVENTS}{issuer.fingerprint}") as events:
        for _ in range(12):
            assert devices.connect(identity) is SILENCE
        time.sleep(0.3)
        assert 1 <= events.qsize() <= 6


def test_the_audit_trail_tells(owner: Owner) -> None:
    issuer, devices = owner.issuer(), owner.devices
    identity = devices.identity(issuer)
    devices.connect(identity)
    deadline = time.monotonic() + PATIENCE
    while True:
        done = owner.audit(identity.fingerprint)
        if {"RegisterCertificate", "Connect"} <= {record["event"] for record in done}:
            break
        assert time.monotonic() < deadline, done
        time.sleep(0.2)
    [made] = [record for record in done if record["event"] == "RegisterCertificate"]
    assert (made["outcome"], made["account"]) == ("success", owner.number)
    assert made["ca"] == issuer.fingerprint


@pytest.mark.parametrize("how", ["deactivated", "deleted"])
def test_open_connections_follow_their_authority(owner: Owner, how: str) -> None:
    issuer, devices = owner.issuer(), owner.devices
    identity, bystander = active(owner, issuer), active(owner, owner.issuer())
    with devices.connected(identity) as sock, devices.connected(bystander) as other_sock:
        time.sleep(0.8)  # until what was changed before has been heard, which makes the door look again too
        owner.iot.update_ca_certificate(certificateId=issuer.fingerprint, newStatus="INACTIVE")
        if how == "deleted":
            owner.iot.delete_ca_certificate(certificateId=issuer.fingerprint)
        assert closed_within(sock, 1.0)
        assert devices.connect(identity) == REFUSED
        assert not closed_within(other_sock, 0.5)
    assert owner.status(identity.fingerprint) == "ACTIVE"
    if how == "deleted":
        owner.prove(issuer)
    else:
        owner.iot.update_ca_certificate(certificateId=issuer.fingerprint, newStatus="ACTIVE")
    assert devices.connect(identity) == ACCEPTED


def test_an_authority_ends(owner: Owner) -> None:
    issuer = new_issuer(ends=datetime.now(UTC) + timedelta(seconds=4))
    owner.prove(issuer)
    identity, devices = active(owner, issuer), owner.devices
    with devices.connected(identity) as sock:
        assert closed_within(sock, 8.0)
    assert datetime.now(UTC) > issuer.certificate.not_valid_after_utc
    assert devices.connect(identity) == REFUSED


def test_other_accounts_authorities_change_nothing(owner: Owner, other: Owner) -> None:
    issuer, devices = owner.issuer(), owner.devices
    identity = active(owner, issuer)
    other.iot.register_ca_certificate(caCertificate=issuer.pem, certificateMode="SNI_ONLY", setAsActive=True)
    with devices.connected(identity) as sock:
        other.iot.update_ca_certificate(certificateId=issuer.fingerprint, newStatus="INACTIVE")
        assert not closed_within(sock, 0.7)


def test_hostile_names(owner: Owner) -> None:
    """Names of the issuer's that nobody has, that are long or strange: each is a stranger."""
    devices, issuer = owner.devices, owner.issuer()
    for common_name in ("' OR 1=1 --", "\u0000", "é" * 32):
        key = ec.generate_private_key(ec.SECP256R1())
        identity = devices.with_key(issuer.sign(key=key, issuer=name(common_name)), key)
        assert devices.connect(identity) == REFUSED
    assert devices.connect(devices.identity(issuer, "\u202e" * 20)) is SILENCE
    json.dumps(owner.iot.list_certificates_by_ca(caCertificateId=issuer.fingerprint)["certificates"], default=str)
