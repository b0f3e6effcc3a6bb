"""The MQTT gateway, with AWS's device SDK: fleet provisioning, messages, and a deactivated certificate."""

from __future__ import annotations

import json
import queue
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from awscrt import mqtt, mqtt5
from awscrt.mqtt_request_response import ClientOptions
from awsiot import iotidentity, mqtt5_client_builder, mqtt_connection_builder

from tour import CheckFailed, aws, require
from tour.commands import access

if TYPE_CHECKING:
    from thingmint.testing import RunningServer
    from tour import Tour

__all__ = ["connected5", "mqtt_gateway", "save"]

_PATIENCE = 15.0  # seconds

_TEMPLATE = {
    "Parameters": {"SerialNumber": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
    "Resources": {
        "thing": {
            "Type": "AWS::IoT::Thing",
            "Properties": {"ThingName": {"Fn::Join": ["-", ["lamp", {"Ref": "SerialNumber"}]]}},
        },
        "certificate": {
            "Type": "AWS::IoT::Certificate",
            "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"},
        },
        "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "lamps"}},
    },
    "DeviceConfiguration": {"greeting": {"Fn::Sub": "hello, ${SerialNumber}"}},
}


def mqtt_gateway(tour: Tour) -> None:
    tour.stage("The MQTT gateway, with boto3 and AWS's device SDK (MQTT over mutual TLS)")
    iot = aws.client(tour.server)
    arn = iot.create_keys_and_certificate()["certificateArn"].partition(":cert/")[0]
    with tempfile.TemporaryDirectory(prefix="thingmint-devices-") as folder:
        _walk(tour, iot, arn, Path(folder))


def _walk(tour: Tour, iot: Any, arn: str, folder: Path) -> None:
    with tour.step("CreatePolicy, CreateProvisioningTemplate") as step:
        iot.create_policy(policyName="lamps", policyDocument=_lamps(arn))
        account = arn.split(":")[4]
        access(tour, "role", "create", "fleet", "--trust-policy", _trust(folder))
        access(tour, "policy", "attach", "role/fleet", "--policy", "thingmint/ProvisioningOnly")
        iot.create_provisioning_template(
            templateName="lamps",
            templateBody=json.dumps(_TEMPLATE),
            provisioningRoleArn=f"arn:aws:iam::{account}:role/fleet",
            enabled=True,
        )
        step.result = "created a policy for lamps, and a template that provisions lamps"
    with tour.step("CreateProvisioningClaim") as step:
        claim = iot.create_provisioning_claim(templateName="lamps")
        tour.private_keys.append(claim["keyPair"]["PrivateKey"])
        claim_files = save(folder, "claim", claim["certificatePem"], claim["keyPair"]["PrivateKey"])
        step.result = f"created a claim certificate, valid until {claim['expiration']:%H:%M:%S}"

    with tour.step("Fleet provisioning with the claim certificate, over MQTT 5") as step:
        first, name, greeting = _provision(tour, connected5(tour.server, claim_files, "claiming-5"), "0001", folder)
        require((name, greeting) == ("lamp-0001", "hello, 0001"), f"made {name}, with the configuration {greeting!r}")
        step.result = f"the device {name} received its own key and certificate, and its configuration {greeting!r}"
    with tour.step("Fleet provisioning with the claim certificate, over MQTT 3.1.1") as step:
        second, name, _ = _provision(tour, _connected3(tour.server, claim_files, "claiming-3"), "0002", folder)
        require(name == "lamp-0002", f"made {name}")
        step.result = f"the device {name} received its own key and certificate"

    received: queue.Queue[tuple[str, bytes]] = queue.Queue()
    closed: Future[str] = Future()
    with tour.step("lamp-0001 connects over MQTT 5 and subscribes") as step:
        lamp = connected5(tour.server, first.files, "lamp-0001", received, closed)
        lamp.subscribe(
            mqtt5.SubscribePacket([mqtt5.Subscription("lamps/lamp-0001/#", mqtt5.QoS.AT_LEAST_ONCE)])
        ).result(_PATIENCE)
        step.result = "accepted with its own certificate"
    with tour.step("lamp-0002 connects over MQTT 3.1.1 and publishes") as step:
        other = _connected3(tour.server, second.files, "lamp-0002")
        other.publish("lamps/lamp-0001/set", b"on", mqtt.QoS.AT_LEAST_ONCE)[0].result(_PATIENCE)
        topic, payload = received.get(timeout=_PATIENCE)
        require((topic, payload) == ("lamps/lamp-0001/set", b"on"), f"lamp-0001 received {payload!r} on {topic}")
        other.disconnect().result(_PATIENCE)
        step.result = f"lamp-0001 received {payload.decode()!r} on {topic}"
    with tour.step("UpdateCertificate(newStatus=INACTIVE) of lamp-0001") as step:
        iot.update_certificate(certificateId=first.id, newStatus="INACTIVE")
        started = time.perf_counter()
        why = closed.result(_PATIENCE)
        took = time.perf_counter() - started
        lamp.stop()
        step.result = f"the server closed the connection of lamp-0001 after {took:.1f} s: {why}"
    with tour.step("lamp-0001 connects again") as step:
        try:
            connected5(tour.server, first.files, "lamp-0001").stop()
        except CheckFailed as refused:
            step.result = str(refused)
        else:
            raise CheckFailed("the server accepted the connection")


class _Identity:
    """A device's certificate: its id, and the files with the certificate and the key."""

    def __init__(self, id: str, files: tuple[str, str]) -> None:
        self.id = id
        self.files = files


def _provision(tour: Tour, client: Any, serial: str, folder: Path) -> tuple[_Identity, str | None, str | None]:
    options = ClientOptions(max_request_response_subscriptions=4, max_streaming_subscriptions=0)
    identity = iotidentity.IotIdentityClientV2(client, options)
    created = identity.create_keys_and_certificate(iotidentity.CreateKeysAndCertificateRequest()).result(_PATIENCE)
    tour.private_keys.append(created.private_key)
    registered = identity.register_thing(
        iotidentity.RegisterThingRequest(
            template_name="lamps",
            certificate_ownership_token=created.certificate_ownership_token,
            parameters={"SerialNumber": serial},
        )
    ).result(_PATIENCE)
    client.stop() if isinstance(client, mqtt5.Client) else client.disconnect().result(_PATIENCE)
    files = save(folder, serial, created.certificate_pem, created.private_key)
    greeting = (registered.device_configuration or {}).get("greeting")
    return _Identity(created.certificate_id, files), registered.thing_name, greeting


def connected5(
    server: RunningServer,
    files: tuple[str, str],
    client_id: str,
    received: queue.Queue[tuple[str, bytes]] | None = None,
    closed: Future[str] | None = None,
) -> Any:
    up: Future[str] = Future()

    def ended(reason: str) -> None:
        if closed is not None and not closed.done():
            closed.set_result(reason)

    def failed(data: Any) -> None:
        if not up.done():
            code = data.connack_packet.reason_code.name if data.connack_packet else str(data.exception)
            up.set_exception(CheckFailed(f"refused with {code}"))

    client = mqtt5_client_builder.mtls_from_path(
        *files,
        endpoint="localhost",
        port=server.ports["mqtt"],
        ca_filepath=str(server.ca),
        client_id=client_id,
        on_lifecycle_connection_success=lambda data: None if up.done() else up.set_result("up"),
        on_lifecycle_connection_failure=failed,
        on_lifecycle_disconnection=lambda data: ended(
            data.disconnect_packet.reason_code.name if data.disconnect_packet else "the connection was closed"
        ),
        on_publish_received=lambda data: (
            received.put((data.publish_packet.topic, data.publish_packet.payload)) if received is not None else None
        ),
    )
    client.start()
    try:
        up.result(_PATIENCE)
    except CheckFailed:
        client.stop()
        raise
    return client


def _connected3(server: RunningServer, files: tuple[str, str], client_id: str) -> Any:
    connection = mqtt_connection_builder.mtls_from_path(
        *files,
        endpoint="localhost",
        port=server.ports["mqtt"],
        ca_filepath=str(server.ca),
        client_id=client_id,
        clean_session=True,
    )
    connection.connect().result(_PATIENCE)
    return connection


def save(folder: Path, name: str, certificate: str, key: str) -> tuple[str, str]:
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    for path, text in zip(paths, (certificate, key), strict=True):
        path.touch(mode=0o600)
        path.write_text(text)
    return str(paths[0]), str(paths[1])


def _trust(folder: Path) -> str:
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "iot.amazonaws.com"}}
    path = folder / "trust.json"
    path.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    return str(path)


def _lamps(arn: str) -> str:
    """The policy of lamps: connect under its thing's name, receive its own messages, publish to all lamps."""
    own = "${iot:Connection.Thing.ThingName}"
    statements = [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": f"{arn}:client/{own}"},
        {"Effect": "Allow", "Action": "iot:Publish", "Resource": f"{arn}:topic/lamps/*"},
        {"Effect": "Allow", "Action": "iot:Receive", "Resource": f"{arn}:topic/lamps/{own}/*"},
        {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": f"{arn}:topicfilter/lamps/{own}/*"},
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
