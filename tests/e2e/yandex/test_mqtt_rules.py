"""AWS's rules and those of Yandex IoT Core side by side: neither widens the other."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.e2e.access.local_admin import allow, document
from tests.e2e.mqtt.devices import Closed, Credential, Device, credential
from tests.e2e.yandex.clients import PASSWORD
from tests.e2e.yandex.owners import Owners
from thingmint.domain.messages import MessageProperties
from thingmint.mqtt.protocol.packets import Publish, Will

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.yandex.clients import Cloud
    from thingmint.testing import RunningServer

RESERVED = [
    "$devices/{device}/events",
    "$devices/{device}/commands",
    "$devices/{device}/state",
    "$registries/{registry}/events",
    "$registries/{registry}/commands",
    "$monitoring/{device}/json",
    "$me/device/events",
    "$me/registry/commands",
    "$me/monitoring/json",
    "$yandex/{registry}/devices/{device}/events/.",
    "$yandex/{registry}/devices/{device}/commands/.",
    "$yandex/{broker}/any/.",
]
FILTERS = [
    *RESERVED,
    "$devices/#",
    "$registries/#",
    "$monitoring/#",
    "$me/#",
    "$yandex/#",
    "$yandex/{registry}/#",
    "$yandex/+/devices/+/events/+",
]


@pytest.fixture(scope="module")
def owners(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Owners:
    return Owners(cloud, tmp_path_factory.mktemp("owners"), topic_aliases={"alias/": "$devices/{id}/"})


@pytest.fixture(scope="module")
def data(server: RunningServer) -> Iterator[Any]:
    client = boto3.client("iot-data", **server.boto3_arguments())
    with contextlib.closing(client):
        yield client


def device_of_aws(owners: Owners, iot: Any) -> Credential:
    """A certificate that AWS's policies allow everything."""
    made = credential(owners.folder)
    registered = iot.register_certificate_without_ca(certificatePem=made.pem, status="ACTIVE")
    made = replace(made, arn=registered["certificateArn"])
    with contextlib.suppress(iot.exceptions.ResourceAlreadyExistsException):
        iot.create_policy(policyName="everything", policyDocument=document(allow("*")))
    iot.attach_policy(policyName="everything", target=made.arn)
    return made


def test_devices_of_aws_neither_publish_nor_subscribe_to_topics_of_yandex(owners: Owners, iot: Any) -> None:
    made = device_of_aws(owners, iot)
    with owners.connected("registry", "r") as registry, owners.connected("device", "d") as device:
        assert registry.subscribe("$devices/#", "$registries/#", "alias/#") == [1, 1, 1]
        assert device.subscribe("$me/device/#", "$registries/#", "#") == [1, 1, 1]
        for topic in (each.format(**owners.ids) for each in RESERVED):
            for prefix in ("", "$aws/rules/rule/"):
                with Device(owners.cloud.server, made) as of_aws:
                    of_aws.connect("aws")
                    with contextlib.suppress(Closed):
                        assert of_aws.publish(prefix + topic).failed or prefix, topic
        for filter in (each.format(**owners.ids) for each in FILTERS):
            for prefix in ("", "$share/group/"):
                with Device(owners.cloud.server, made) as of_aws:
                    of_aws.connect("aws")
                    with contextlib.suppress(Closed):
                        assert of_aws.subscribe(prefix + filter)[0].failed, prefix + filter
        assert registry.nothing_comes()
        assert device.nothing_comes()


def test_wildcards_of_aws_devices_do_not_match_topics_of_yandex(owners: Owners, iot: Any) -> None:
    made = device_of_aws(owners, iot)
    with Device(owners.cloud.server, made) as of_aws, owners.connected("device") as device:
        of_aws.connect("aws")
        assert of_aws.subscribe("#", "+/+", "+/+/+", "+/+/+/+/+/+", "$share/group/#", "alias/#", "devices/#") == [1] * 7
        for topic in ("$me/device/events", "alias/events", f"devices/{owners.device}/events", "$me/registry/state"):
            assert not device.publish(topic).failed
        with owners.connected("broker") as broker:
            assert not broker.publish("any/topic").failed
        assert of_aws.nothing_comes()


def test_what_aws_devices_publish_is_not_read_by_owners(owners: Owners, iot: Any) -> None:
    made = device_of_aws(owners, iot)
    with (
        owners.connected("registry", "r") as registry,
        owners.connected("broker", "b") as broker,
        Device(owners.cloud.server, made) as of_aws,
    ):
        assert registry.subscribe("#", "$devices/#") == [1, 1]
        assert broker.subscribe("#") == [1]
        of_aws.connect("aws", will=Will("alias/events", b"will", 1))
        for topic in ("alias/events", "any/topic", f"devices/{owners.device}/events", "registries/x/events"):
            assert not of_aws.publish(topic).failed
        of_aws.reset()
        assert registry.nothing_comes()
        assert broker.nothing_comes()


def test_the_data_plane_of_aws_does_not_publish_to_topics_of_yandex(owners: Owners, data: Any) -> None:
    with owners.connected("registry", "r") as registry:
        assert registry.subscribe("$devices/#") == [1]
        for topic in (each.format(**owners.ids) for each in RESERVED):
            for retain in (True, False):
                with pytest.raises(ClientError):
                    data.publish(topic=topic, qos=1, retain=retain, payload=b"x")
        assert registry.nothing_comes()


def test_no_policy_widens_what_an_owner_may_do(owners: Owners, iot: Any) -> None:
    """The certificate of a device has a policy that allows everything at AWS."""
    made = owners.credentials["device"]
    described = iot.describe_certificate(certificateId=made.fingerprint)["certificateDescription"]
    with contextlib.suppress(iot.exceptions.ResourceAlreadyExistsException):
        iot.create_policy(policyName="everything", policyDocument=document(allow("*")))
    iot.attach_policy(policyName="everything", target=described["certificateArn"])
    for topic in ("any/topic", "$aws/things/x/shadow/update", f"$devices/{owners.ids['other']}/events"):
        with owners.connected("device") as device:
            assert device.subscribe(topic) == [0x80]
            device.send(Publish(topic, b"x", 0))
            assert not device.is_open
    iot.detach_policy(policyName="everything", target=described["certificateArn"])
    with owners.connected("device") as device:
        assert not device.publish("$me/device/events").failed


def test_the_same_client_id_of_one_owner_is_taken_over(owners: Owners) -> None:
    """By its certificate, by its password, and with another certificate."""
    server, id = owners.cloud.server, owners.device
    login = {"username": id, "password": PASSWORD.encode()}
    with contextlib.ExitStack() as stack:
        last: Device | None = None
        for certificate, fields in (
            (owners.credentials["device"], {}),
            (None, login),
            (owners.credentials["other"], login),
            (owners.credentials["device"], {}),
        ):
            device = stack.enter_context(Device(server, certificate, 4))
            device.connect("same", **fields)
            if last is not None:
                last.until_closed()
            last = device
        assert last is not None
        assert last.is_open


def test_the_same_client_id_of_different_owners_stays_connected(owners: Owners, iot: Any) -> None:
    made = device_of_aws(owners, iot)
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(owners.connected(name, "same")) for name in owners.ids]
        of_aws = stack.enter_context(Device(owners.cloud.server, made))
        of_aws.connect("same")
        assert all(device.is_open for device in (*opened, of_aws))


def test_different_client_ids_of_one_owner_stay_connected_and_both_receive(owners: Owners) -> None:
    with owners.connected("device", "a") as one, owners.connected("device", "b") as other:
        assert one.subscribe("$me/device/commands") == other.subscribe("#") == [1]
        with owners.connected("registry") as registry:
            assert not registry.publish(f"$devices/{owners.device}/commands").failed
        assert one.receive().topic == "$me/device/commands"
        assert other.receive().topic == "alias/commands"


@pytest.mark.parametrize("client_id", ["", " ", "é" * 60, "a/b", "x" * 128, "client:id"])
def test_client_ids_of_many_kinds_are_accepted(owners: Owners, client_id: str) -> None:
    for version in (4, 5):
        with owners.connected("device", client_id, version=version) as device:
            assert not device.publish("$me/device/events").failed


@pytest.mark.parametrize("client_id", ["x" * 129, "x" * 65_535, "$x", "a#b", f"same#{'are' + '0' * 17}", "a+b", "\n"])
def test_client_ids_that_could_be_mistaken_are_refused(owners: Owners, client_id: str) -> None:
    for version in (4, 5):
        with pytest.raises(Closed), owners.connected("device", client_id, version=version):
            pass
    with pytest.raises(Closed), owners.connected("device", "", clean_start=False):  # 3.1.1, MQTT-3.1.3-8
        pass


def test_properties_of_messages_reach_the_subscriber(owners: Owners) -> None:
    properties = MessageProperties(
        content_type="text/plain",
        response_topic="answers/here",
        correlation_data=b"1",
        user_properties=(("key", "value"),),
    )
    with owners.connected("registry", version=5) as registry, owners.connected("device", version=5) as device:
        assert registry.subscribe("$devices/+/events") == [1]
        device.send(Publish("$me/device/events", b"x", 1, packet_id=100, properties=properties, topic_alias=1))
        device.send(Publish("", b"y", 1, packet_id=101, properties=properties, topic_alias=1))
        for payload in (b"x", b"y"):
            message = registry.receive()
            assert (message.payload, message.properties) == (payload, properties)


def test_topic_aliases_of_mqtt_5_do_not_evade_the_rules(owners: Owners) -> None:
    with owners.connected("device", version=5) as device:
        assert not device.publish("$me/device/events", topic_alias=1).failed
        device.send(Publish(f"$devices/{owners.ids['other']}/events", b"x", 0, topic_alias=1))
        assert not device.is_open
    with owners.connected("device", version=5) as device:
        device.send(Publish("", b"x", 0, topic_alias=2))
        assert not device.is_open


def test_connections_of_yandex_make_no_events_of_aws(owners: Owners, iot: Any) -> None:
    made = device_of_aws(owners, iot)
    with Device(owners.cloud.server, made) as reader:
        reader.connect("reader")
        assert reader.subscribe("$aws/events/#") == [1]
        reader.drain()
        for name in ("device", "registry", "broker"):
            with owners.connected(name, f"yandex-{name}") as owner:
                owner.subscribe("$me/device/commands", "any")
        with pytest.raises(Closed), owners.connected("device", "yandex+"):
            pass
        with Device(owners.cloud.server, made) as last:
            last.connect("last")
        events: list[Any] = []
        while not events or (events[-1]["clientId"], events[-1]["eventType"]) != ("last", "disconnected"):
            events.append(json.loads(reader.receive().payload))
        assert not [event for event in events if event["clientId"].startswith("yandex")]
