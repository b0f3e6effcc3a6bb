"""Thing types add user properties to the messages of their things; MQTT 5 subscribers get them."""

from __future__ import annotations

import contextlib
import queue
from typing import TYPE_CHECKING, Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.e2e.mqtt.conftest import new_name
from tests.e2e.mqtt.devices import tls_context
from thingmint.domain.messages import MessageProperties
from thingmint.mqtt.protocol.packets import Will

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.mqtt.conftest import Devices
    from tests.e2e.mqtt.devices import Credential, Device

pytestmark = pytest.mark.both_engines

ATTRIBUTES = [
    {"userPropertyKey": "thing", "connectionAttribute": "iot:Thing.ThingName"},
    {"userPropertyKey": "$client:id", "connectionAttribute": "iot:ClientId"},
    {"userPropertyKey": "where", "thingAttribute": "room"},
    {"userPropertyKey": "absent", "thingAttribute": "colour"},
]


def properties(*attributes: dict[str, str]) -> dict[str, Any]:
    return {"mqtt5Configuration": {"propagatingAttributes": list(attributes)}}


@pytest.fixture
def type_(devices: Devices) -> str:
    name = new_name("type")
    devices.iot.create_thing_type(thingTypeName=name, thingTypeProperties=properties(*ATTRIBUTES))
    return name


def thing(devices: Devices, type_: str, *, exclusive: bool = True) -> tuple[Credential, str]:
    """Returns the credential of a new thing, and the thing's name."""
    made, name = devices.credential(), new_name("thing")
    attributes = {"attributes": {"room": "kitchen"}}
    devices.iot.create_thing(thingName=name, thingTypeName=type_, attributePayload=attributes)
    type = "EXCLUSIVE_THING" if exclusive else "NON_EXCLUSIVE_THING"
    devices.iot.attach_thing_principal(thingName=name, principal=made.arn, thingPrincipalType=type)
    return made, name


@contextlib.contextmanager
def listening(devices: Devices, topic: str) -> Iterator[Device]:
    with devices.connected() as listener:
        listener.subscribe(topic)
        yield listener


def added(listener: Device) -> tuple[tuple[str, str], ...]:
    return listener.receive().properties.user_properties


@contextlib.contextmanager
def paho(devices: Devices, made: Credential, client_id: str, protocol: MQTTProtocolVersion) -> Iterator[Client]:
    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=protocol)
    client.tls_set_context(tls_context(devices.server, made))
    connected: queue.Queue[bool] = queue.Queue()
    client.on_connect = lambda *_: connected.put(True)
    assert client.connect("localhost", devices.server.ports["mqtt"]) == 0
    client.loop_start()
    try:
        assert connected.get(timeout=20)
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.mark.parametrize("version", [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5])
def test_paho_receives_what_a_type_adds(devices: Devices, type_: str, version: MQTTProtocolVersion) -> None:
    topic, client_id = new_name("t"), new_name()
    made, name = thing(devices, type_)
    messages: queue.Queue[Any] = queue.Queue()
    subscribed: queue.Queue[bool] = queue.Queue()
    v5 = MQTTProtocolVersion.MQTTv5
    with (
        paho(devices, devices.credential(), new_name(), v5) as listener,
        paho(devices, made, client_id, version) as device,
    ):
        listener.on_message = lambda client, data, message: messages.put(message)
        listener.on_subscribe = lambda *_: subscribed.put(True)
        listener.subscribe(topic, 1)
        assert subscribed.get(timeout=20)
        own: Properties | None = None
        if version is v5:
            own = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho has no types here
            own.UserProperty = [("own", "kept"), ("where", "forged")]
        device.publish(topic, b"21.5", 1, properties=own).wait_for_publish(20)
        message = messages.get(timeout=20)
    expected = [("thing", name), ("$client:id", client_id), ("where", "kitchen")]
    assert message.payload == b"21.5"
    assert message.properties.UserProperty == ([("own", "kept")] if own else []) + expected


@pytest.mark.parametrize("qos", [0, 1])
def test_the_client_id_names_the_thing_unless_it_is_exclusive(devices: Devices, type_: str, qos: int) -> None:
    topic = new_name("t")
    made, name = thing(devices, type_, exclusive=False)
    with listening(devices, topic) as listener:
        for client_id, expected in ((name, (("thing", name), ("$client:id", name), ("where", "kitchen"))), ("x", ())):
            with devices.connected(made, client_id) as device:
                device.publish(topic, qos=qos)
                assert added(listener) == expected


def test_changes_reach_connected_devices(devices: Devices, type_: str) -> None:
    topic, iot = new_name("t"), devices.iot
    made, name = thing(devices, type_)
    with listening(devices, topic) as listener, devices.connected(made, version=4) as device:

        def now() -> tuple[tuple[str, str], ...]:
            device.publish(topic)
            return added(listener)

        where = ATTRIBUTES[2]
        iot.update_thing_type(thingTypeName=type_, thingTypeProperties=properties(where))
        assert now() == (("where", "kitchen"),)
        iot.update_thing(thingName=name, attributePayload={"attributes": {"room": "cellar"}})
        assert now() == (("where", "cellar"),)
        iot.update_thing_type(thingTypeName=type_, thingTypeProperties=properties())
        assert now() == ()
        iot.update_thing_type(thingTypeName=type_, thingTypeProperties=properties(ATTRIBUTES[0]))
        assert now() == (("thing", name),)
        iot.update_thing(thingName=name, removeThingType=True, attributePayload={"attributes": {}})
        assert now() == ()


def test_retained_messages_and_wills_have_them_too(devices: Devices, type_: str) -> None:
    topic, client_id = new_name("t"), new_name()
    made, name = thing(devices, type_)
    expected = (("thing", name), ("$client:id", client_id), ("where", "kitchen"))
    will = Will(f"{topic}/will", b"gone", 1, properties=MessageProperties(user_properties=(("own", "kept"),)))
    with devices.connected(made, client_id, will=will) as device:
        device.publish(f"{topic}/retained", retain=True)
        with listening(devices, f"{topic}/#") as listener:
            listener.subscribe(f"{topic}/retained")
            assert added(listener) == expected
            device.drop()
            assert added(listener) == (("own", "kept"), *expected)


def test_subscribers_with_mqtt_3_get_the_plain_message(devices: Devices, type_: str) -> None:
    topic = new_name("t")
    made, _ = thing(devices, type_)
    with devices.connected(version=4) as listener, devices.connected(made) as device:
        listener.subscribe(topic)
        device.publish(topic, b"plain")
        assert listener.receive().payload == b"plain"
