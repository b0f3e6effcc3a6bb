"""From a claim certificate to a thing that connects, with clients that were made for AWS."""

from __future__ import annotations

import contextlib
import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from awscrt import mqtt, mqtt_request_response
from awsiot import V2ServiceException, iotidentity, mqtt5_client_builder, mqtt_connection_builder
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.e2e.material import csr_pem
from tests.e2e.provisioning.support import CREATE, CREATE_FROM_CSR, PATIENCE, Identity, rejection, serial

if TYPE_CHECKING:
    from tests.e2e.provisioning.support import Fleet

pytestmark = pytest.mark.both_engines

REPLIES = [
    f"{CREATE}/json/accepted",
    f"{CREATE}/+/accepted",
    f"{CREATE}/#",
    "$aws/certificates/#",
    "$aws/provisioning-templates/#",
]


def matches(certificate_pem: str, private_pem: str) -> bool:
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    private: Any = load_pem_private_key(private_pem.encode(), None)
    return bool(certificate.public_key() == private.public_key())


def check_provisioned(fleet: Fleet, certificate_id: str, thing: str) -> None:
    assert fleet.status(certificate_id) == "ACTIVE"
    (principal,) = fleet.iot.list_thing_principals(thingName=thing)["principals"]
    assert principal.endswith(f"cert/{certificate_id}")
    attached = fleet.iot.list_attached_policies(target=principal)["policies"]
    assert [policy["policyName"] for policy in attached] == ["fleet-device"]


@pytest.mark.parametrize("format", ["json", "cbor"])
@pytest.mark.parametrize("version", [5, 4])
def test_a_device_is_provisioned_with_keys_and_connects(fleet: Fleet, version: int, format: str) -> None:
    """With keys and without a subscription, in both formats and both versions of MQTT."""
    name, number = fleet.new_template(), serial()
    encode = json.dumps if format == "json" else cbor2.dumps
    for empty in (b"", b"{}" if format == "json" else b"\xa0"):
        with fleet.device(version=version) as device:
            accepted, made = device.ask(f"{CREATE}/{format}", empty)
            assert accepted
            assert list(made) == ["certificateId", "certificatePem", "certificateOwnershipToken", "privateKey"]
            assert matches(made["certificatePem"], made["privateKey"])
            assert made["privateKey"].startswith("-----BEGIN RSA PRIVATE KEY-----")
            assert len(made["certificateOwnershipToken"]) < 512
            assert fleet.status(made["certificateId"]) == "PENDING_ACTIVATION"
    with pytest.raises(ConnectionRefusedError), fleet.device(fleet.identity(made)):
        pytest.fail("it is not active yet")
    with fleet.device(version=version) as device:
        asked: Any = {
            "certificateOwnershipToken": made["certificateOwnershipToken"],
            "parameters": {"SerialNumber": number, "Site": "attic"},
        }
        encoded = encode(asked)
        topic = f"$aws/provisioning-templates/{name}/provision/{format}"
        accepted, reply = device.ask(topic, encoded.encode() if isinstance(encoded, str) else encoded)
        assert (accepted, reply) == (
            True,
            {"deviceConfiguration": {"Url": "https://attic.example.org"}, "thingName": f"lamp-{number}"},
        )
        assert device.replies.empty()
    check_provisioned(fleet, made["certificateId"], f"lamp-{number}")
    assert fleet.iot.describe_thing(thingName=f"lamp-{number}")["attributes"] == {"site": "attic"}
    with fleet.device(fleet.identity(made), f"lamp-{number}", version) as device:
        device.subscribe("a/b")
        device.send("a/b", b"hello")
        assert device.replies.get(timeout=PATIENCE) == ("a/b", b"hello")


def test_the_subject_of_a_csr_is_kept(fleet: Fleet) -> None:
    payload = cbor2.dumps({"certificateSigningRequest": csr_pem(common_name="attic")})
    with fleet.device() as device:
        accepted, made = device.ask(f"{CREATE_FROM_CSR}/cbor", payload)
        assert accepted
        assert list(made) == ["certificateId", "certificatePem", "certificateOwnershipToken"]
        subject = x509.load_pem_x509_certificate(made["certificatePem"].encode()).subject
        assert subject.rfc4514_string() == "CN=attic"


# -- AWS's SDK ----------------------------------------------------------------------------------------------------


def connection_311(fleet: Fleet, identity: Identity, client_id: str) -> mqtt.Connection:
    connection = mqtt_connection_builder.mtls_from_path(
        str(identity.certificate),
        str(identity.key),
        endpoint="localhost",
        port=fleet.server.ports["mqtt"],
        ca_filepath=str(fleet.server.ca),
        client_id=client_id,
        clean_session=True,
        keep_alive_secs=30,
    )
    connection.connect().result(PATIENCE)
    return connection


class Client5:
    def __init__(self, fleet: Fleet, identity: Identity, client_id: str) -> None:
        self.connected = threading.Event()
        self.stopped = threading.Event()
        self.client = mqtt5_client_builder.mtls_from_path(
            str(identity.certificate),
            str(identity.key),
            endpoint="localhost",
            port=fleet.server.ports["mqtt"],
            ca_filepath=str(fleet.server.ca),
            client_id=client_id,
            on_lifecycle_connection_success=lambda _: self.connected.set(),
            on_lifecycle_stopped=lambda _: self.stopped.set(),
        )
        self.client.start()
        assert self.connected.wait(PATIENCE)

    def stop(self) -> None:
        self.client.stop()
        assert self.stopped.wait(PATIENCE)


def result(future: Future[Any]) -> Any:
    return future.result(PATIENCE)


@pytest.mark.parametrize("way", ["keys", "csr"])
@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_the_v2_identity_client_of_the_sdk_works(fleet: Fleet, protocol: str, way: str) -> None:
    name, number, client_id = fleet.new_template(), serial(), f"sdk-{serial()}"
    client5 = Client5(fleet, fleet.claim, client_id) if protocol == "5" else None
    connection = connection_311(fleet, fleet.claim, client_id) if client5 is None else None
    options = mqtt_request_response.ClientOptions(2, 2, int(PATIENCE))
    identity = iotidentity.IotIdentityClientV2(client5.client if client5 else connection, options)
    try:
        if way == "keys":
            made = result(identity.create_keys_and_certificate(iotidentity.CreateKeysAndCertificateRequest()))
            private = made.private_key
        else:
            asked = iotidentity.CreateCertificateFromCsrRequest(certificate_signing_request=csr_pem())
            made = result(identity.create_certificate_from_csr(asked))
            private = None
        register = iotidentity.RegisterThingRequest(
            template_name=name,
            certificate_ownership_token=made.certificate_ownership_token,
            parameters={"SerialNumber": number},
        )
        thing = result(identity.register_thing(register))
        assert thing.thing_name == f"lamp-{number}"
        assert thing.device_configuration == {"Url": "https://home.example.org"}
        register.template_name = "not-there"
        with pytest.raises(V2ServiceException) as refused:
            result(identity.register_thing(register))
        error = refused.value.modeled_error
        assert (error.status_code, error.error_code) == (400, "InvalidTemplate")
        assert error.error_message == "Template with name not-there does not exist."
    finally:
        del identity
        if client5 is not None:
            client5.stop()
        if connection is not None:
            result(connection.disconnect())
    check_provisioned(fleet, made.certificate_id, thing.thing_name)
    own = fleet.identity(
        {
            "certificateId": made.certificate_id,
            "certificatePem": made.certificate_pem,
            **({"privateKey": private} if private else {}),
        }
    )
    result(connection_311(fleet, own, thing.thing_name).disconnect())


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_the_v1_identity_client_of_the_sdk_works(fleet: Fleet, protocol: str) -> None:
    name, number, client_id = fleet.new_template(), serial(), f"sdk-{serial()}"
    client5 = None
    if protocol == "5":
        client5 = Client5(fleet, fleet.claim, client_id)
        connection = client5.client.new_connection()
        result(connection.connect())
    else:
        connection = connection_311(fleet, fleet.claim, client_id)
    identity = iotidentity.IotIdentityClient(connection)
    at_least_once = mqtt.QoS.AT_LEAST_ONCE
    made: Future[Any] = Future()
    registered: Future[Any] = Future()
    try:
        result(
            identity.subscribe_to_create_keys_and_certificate_accepted(
                iotidentity.CreateKeysAndCertificateSubscriptionRequest(), at_least_once, made.set_result
            )[0]
        )
        request = iotidentity.CreateKeysAndCertificateRequest()
        result(identity.publish_create_keys_and_certificate(request, at_least_once))
        token = result(made).certificate_ownership_token
        result(
            identity.subscribe_to_register_thing_accepted(
                iotidentity.RegisterThingSubscriptionRequest(template_name=name), at_least_once, registered.set_result
            )[0]
        )
        register = iotidentity.RegisterThingRequest(
            template_name=name, certificate_ownership_token=token, parameters={"SerialNumber": number}
        )
        result(identity.publish_register_thing(register, at_least_once))
        assert result(registered).thing_name == f"lamp-{number}"
    finally:
        result(connection.disconnect())
        if client5 is not None:
            client5.stop()


# -- many at once -------------------------------------------------------------------------------------------------


@pytest.mark.sqlite
def test_fifty_devices_with_one_claim_get_only_their_own_keys(fleet: Fleet) -> None:
    """All devices subscribe to the topics of the replies, where they must get only the replies to themselves."""
    name = fleet.new_template()
    devices = [fleet.device(version=5 if number % 2 else 4) for number in range(50)]

    def provision(number: int) -> tuple[Any, Any]:
        device = devices[number]
        device.subscribe(*REPLIES)
        format = "cbor" if number % 5 == 0 else "json"
        accepted, made = device.ask(f"{CREATE}/{format}")
        assert accepted, made
        assert matches(made["certificatePem"], made["privateKey"])
        accepted, thing = device.register(name, made["certificateOwnershipToken"], SerialNumber=f"{run}-{number}")
        assert accepted, thing
        assert thing["thingName"] == f"lamp-{run}-{number}"
        return made, thing

    run = serial()
    with ThreadPoolExecutor(50) as threads, contextlib.ExitStack() as connections:
        for device in devices:
            connections.enter_context(device)
        made = list(threads.map(provision, range(50)))
        assert all(device.replies.empty() for device in devices), "a device got the reply to another device"
    assert len({reply["certificateId"] for reply, _ in made}) == 50
    assert len({reply["certificateOwnershipToken"] for reply, _ in made}) == 50
    for reply, thing in made[:5]:
        check_provisioned(fleet, reply["certificateId"], thing["thingName"])


# -- claims by a trusted user -------------------------------------------------------------------------------------


def test_a_provisioning_claim_provisions_only_by_its_template(fleet: Fleet) -> None:
    name, other, number = fleet.new_template(), fleet.new_template(), serial()
    issued = fleet.iot.create_provisioning_claim(templateName=name)
    claim = Identity.kept(
        fleet.folder, issued["certificateId"], issued["certificatePem"], issued["keyPair"]["PrivateKey"]
    )
    with fleet.device(claim) as device:
        device.subscribe(f"{CREATE_FROM_CSR}/json/accepted")
        token = device.certificate()["certificateOwnershipToken"]
        accepted, thing = device.register(name, token, SerialNumber=number)
        assert accepted, thing
        # A request that the policy denies gets no reply.
        device.send(f"$aws/provisioning-templates/{other}/provision/json", b"{}")
        assert rejection(device, name, None)[1] == "InvalidCertificateOwnershipToken"
