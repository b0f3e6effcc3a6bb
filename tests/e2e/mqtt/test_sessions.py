"""MQTT 3.1.1 and 5 as devices use it, with the whole server."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.e2e.access.local_admin import deny
from tests.e2e.mqtt.conftest import ALLOW_ALL, new_name
from tests.e2e.mqtt.devices import Closed
from tests.e2e.wire import until
from thingmint.domain.messages import MessageProperties
from thingmint.mqtt.protocol.packets import ConnAck, Connect, PubAck, Publish, Subscribe, SubscriptionRequest
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from tests.e2e.mqtt.conftest import Devices, Gateway

VERSIONS: list[Any] = [4, 5]
NO_SUBSCRIBER = Reason.NO_MATCHING_SUBSCRIBERS


def lasting(version: int) -> dict[str, Any]:
    """Returns the fields of a CONNECT for a session that outlives its connection, and is resumed."""
    return {"clean_start": False, **({"session_expiry": 600} if version == 5 else {})}


# -- CONNECT and CONNACK ---------------------------------------------------------------------------------------------


def test_connack_has_the_limits(mine: Devices) -> None:
    with mine.dial(mine.credential()) as device:
        granted = device.connect(new_name(), keep_alive=60, session_expiry=100_000)
        assert granted == ConnAck(
            session_expiry=3600,
            receive_maximum=100,
            maximum_qos=1,
            maximum_packet_size=149_504,
            topic_alias_maximum=8,
            subscription_ids_available=False,
            server_keep_alive=60,
        )


@pytest.mark.parametrize(("asked", "granted"), [(0, 1200), (1, 30), (30, 30), (1200, 1200), (65_535, 1200)])
def test_the_keep_alive_is_limited(mine: Devices, asked: int, granted: int) -> None:
    with mine.dial(mine.credential()) as device:
        assert device.connect(new_name(), keep_alive=asked).server_keep_alive == granted


def test_a_client_without_id_gets_one(mine: Devices) -> None:
    made = mine.credential()
    names = set()
    for _ in range(2):
        with mine.dial(made) as device:
            names.add(device.connect("").assigned_client_id)
    assert len(names) == 2
    assert None not in names
    with mine.connected(made, version=4) as device:
        assert device.is_open


def test_user_names_are_ignored(mine: Devices) -> None:
    """AWS's SDKs send metrics in user names."""
    with mine.connected(username="?SDK=IoTDeviceSDK/Python&Platform=Unix", password=b"") as device:
        assert device.is_open


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_lasts_until_its_expiry(mine: Devices, version: Any) -> None:
    made, name = mine.credential(), new_name()

    def present(**fields: Any) -> bool:
        with mine.dial(made, version) as device:
            answer = device.connect(name, **fields)
            device.disconnect()
            return answer.session_present

    assert not present(**lasting(version))
    assert present(**lasting(version))
    assert not present(clean_start=True)
    assert not present(**lasting(version))


@pytest.mark.parametrize("version", VERSIONS)
def test_messages_wait_for_a_disconnected_device(mine: Devices, version: Any) -> None:
    made, name, topic = mine.credential(), new_name(), new_name("t")
    with mine.connected(made, name, version=version, **lasting(version)) as device:
        device.subscribe(topic)
        device.disconnect()
    with mine.connected() as sender:
        for number in range(5):
            assert sender.publish(topic, str(number).encode()) is Reason.SUCCESS
        sender.publish(topic, b"at QoS 0", qos=0)
    with mine.dial(made, version) as device:
        assert device.connect(name, **lasting(version)).session_present
        received = [device.receive() for _ in range(5)]
        assert [message.payload for message in received] == [b"0", b"1", b"2", b"3", b"4"]
        assert not any(message.dup for message in received)
        assert device.nothing_comes()


@pytest.mark.parametrize("version", VERSIONS)
def test_unacknowledged_messages_are_repeated(mine: Devices, version: Any) -> None:
    made, name, topic = mine.credential(), new_name(), new_name("t")
    with mine.connected() as sender, mine.connected(made, name, version=version, **lasting(version)) as device:
        device.subscribe(topic)
        for payload in (b"acknowledged", b"lost", b"lost too"):
            sender.publish(topic, payload)
        first = device.receive()
        lost = [device.receive(acknowledge=False) for _ in range(2)]
        assert device.nothing_comes()
        device.reset()
        again = mine.dial(made, version)
        with again:
            assert again.connect(name, **lasting(version)).session_present
            for before in lost:
                message = again.receive()
                assert (message.payload, message.packet_id) == (before.payload, before.packet_id)
                assert message.dup
            assert first.payload == b"acknowledged"
            assert again.nothing_comes()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_id_is_taken_over(mine: Devices, version: Any) -> None:
    name = new_name()
    made, another = mine.credential(), mine.credential()
    with mine.connected(made, name, version=version) as first, mine.connected(another, name) as second:
        assert first.until_closed().reason is (Reason.SESSION_TAKEN_OVER if version == 5 else None)
        assert second.is_open


def test_expiry_is_changed_by_disconnect(mine: Devices) -> None:
    made, name = mine.credential(), new_name()
    with mine.connected(made, name, session_expiry=600) as device:
        device.disconnect(session_expiry=0)
    with mine.dial(made) as device:
        assert not device.connect(name, clean_start=False).session_present


# -- accounts --------------------------------------------------------------------------------------------------------


def test_accounts_are_separate(gateway: Gateway) -> None:
    """Client ids, topics, sessions, retained messages and shared subscriptions belong to one account."""
    name, topic = new_name(), new_name("t")
    mine, other = gateway.mine, gateway.other
    made, theirs = mine.credential(), other.credential()
    with mine.connected(made, name, session_expiry=60) as device, other.connected(theirs, name) as other_device:
        assert device.is_open  # not taken over
        device.subscribe("#", f"$share/g/{topic}")
        assert other_device.publish(topic, b"theirs", retain=True) is NO_SUBSCRIBER
        other_device.subscribe(f"$share/g/{topic}", topic)
        for _ in range(4):
            assert device.publish(topic, b"mine") is Reason.SUCCESS
        for _ in range(8):  # each one twice: the device is a direct subscriber, and the only member of its group
            assert device.receive().payload == b"mine"
        assert device.nothing_comes()
        assert other_device.receive().payload == b"theirs"  # the message that this account retained
        assert other_device.nothing_comes()
        device.disconnect()
        other_device.disconnect()
    with other.dial(theirs) as other_device:
        assert not other_device.connect(name, clean_start=False).session_present
        other_device.publish(topic, b"", retain=True)
    mine.connected(made, name, clean_start=True).drop()  # its subscription "#" would match topics of other tests


# -- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sender_version", VERSIONS)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("qos", "granted", "got"), [(0, 1, 0), (1, 0, 0), (1, 1, 1)])
def test_messages_pass_between_versions(
    mine: Devices, sender_version: Any, version: Any, qos: int, granted: int, got: int
) -> None:
    topic = new_name("t") + "/b/c"
    with (
        mine.connected(version=sender_version) as sender,
        mine.connected(version=version) as device,
    ):
        assert device.subscribe(f"{topic[:-4]}/+/c", qos=granted) == [Reason(granted)]
        sender.publish(topic, b"\x00\xff" * 1000, qos=qos)
        message = device.receive()
        assert (message.topic, message.payload, message.qos) == (topic, b"\x00\xff" * 1000, got)
        assert not message.retain


def test_a_subscription_at_qos_2_is_granted_qos_1(mine: Devices) -> None:
    with mine.connected() as device:
        assert device.subscribe("a", qos=2) == [Reason.GRANTED_QOS_1]


def test_a_multi_level_wildcard_does_not_match_its_parent(mine: Devices) -> None:
    """As at AWS IoT, but not as in MQTT."""
    root = new_name("t")
    with mine.connected() as device:
        device.subscribe(f"{root}/#")
        device.publish(root)
        device.publish(f"{root}/")
        assert device.receive().topic == f"{root}/"
        assert device.nothing_comes()


@pytest.mark.parametrize("version", VERSIONS)
def test_retained_messages_are_sent_to_new_subscriptions(mine: Devices, version: Any) -> None:
    topic = new_name("t")
    with mine.connected() as sender, mine.connected(version=version) as device:
        sender.publish(topic, b"kept", retain=True)
        device.subscribe(topic)
        message = device.receive()
        assert (message.payload, message.retain) == (b"kept", True)
        sender.publish(topic, b"live", retain=True)
        message = device.receive()
        assert (message.payload, message.retain) == (b"live", False)
        sender.publish(topic, b"", retain=True)
        assert device.receive().payload == b""
        device.unsubscribe(topic)
        device.subscribe(topic)
        assert device.nothing_comes()


@pytest.mark.parametrize("version", VERSIONS)
def test_retained_messages_for_wildcards_depend_on_a_setting(gateway: Gateway, version: Any) -> None:
    """As at AWS, only filters without wildcards get retained messages. An account setting selects MQTT's rule."""
    for fleet, comes in ((gateway.mine, False), (gateway.lax, True)):
        name = new_name("t")
        with fleet.connected() as sender, fleet.connected(version=version) as device:
            sender.publish(f"{name}/a", b"kept", retain=True)
            device.subscribe(f"{name}/+", f"{name}/#")
            if comes:
                assert [device.receive().payload for _ in range(2)] == [b"kept"] * 2
            sender.publish(f"{name}/a", b"live", retain=True)
            live = device.receive()
            assert (live.payload, live.retain) == (b"live", False)
            device.subscribe(f"{name}/a")
            assert device.receive().retain
            assert device.nothing_comes()
            sender.publish(f"{name}/a", b"", retain=True)


def test_subscription_options_apply(mine: Devices) -> None:
    topic = new_name("t")
    with mine.connected() as device:
        device.publish(topic, b"kept", retain=True)
        device.subscribe(SubscriptionRequest(topic, 1, retain_handling=2))
        assert device.nothing_comes()
        device.subscribe(SubscriptionRequest(topic, 1, retain_handling=2, retain_as_published=True))
        device.publish(topic, b"kept", retain=True)
        assert device.receive().retain
        device.subscribe(SubscriptionRequest(topic, 1, retain_handling=2, no_local=True))
        device.publish(topic, b"", retain=True)
        assert device.nothing_comes()


def test_shared_subscriptions_deliver_to_one_member(mine: Devices) -> None:
    topic = new_name("t")
    with mine.connected() as one, mine.connected() as two, mine.connected() as sender:
        for device in (one, two):
            device.subscribe(f"$share/group/{topic}")
        for number in range(10):
            sender.publish(topic, str(number).encode())
        shares = [device.drain() for device in (one, two)]
        assert all(shares)
        assert sorted(m.payload for share in shares for m in share) == [str(number).encode() for number in range(10)]


def test_properties_are_delivered(mine: Devices) -> None:
    topic = new_name("t")
    sent = MessageProperties(
        payload_is_utf8=True,
        content_type="text/plain",
        response_topic="answers/here",
        correlation_data=b"\x00\x01",
        user_properties=(("a", "1"), ("a", "2")),
    )
    with mine.connected() as device:
        device.subscribe(topic)
        device.publish(topic, properties=sent)
        assert device.receive().properties == sent


def test_messages_expire(mine: Devices) -> None:
    made, name, topic = mine.credential(), new_name(), new_name("t")
    with mine.connected(made, name, session_expiry=60) as device, mine.connected() as sender:
        device.subscribe(topic)
        device.disconnect()
        sender.publish(topic, b"soon over", properties=MessageProperties(message_expiry=1))
        sender.publish(topic, b"lasts", properties=MessageProperties(message_expiry=600))
        threading.Event().wait(1.1)
        with mine.connected(made, name, clean_start=False, session_expiry=60) as again:
            message = again.receive()
            assert message.payload == b"lasts"
            assert 590 < (message.properties.message_expiry or 0) < 600
            assert again.nothing_comes()


def test_topic_aliases_work_in_both_directions(mine: Devices) -> None:
    topic = new_name("t") + "/" + "x" * 100
    with mine.connected(topic_alias_maximum=2) as device:
        device.subscribe(topic)
        assert device.publish(topic, b"1", topic_alias=8) is Reason.SUCCESS
        assert device.publish("", b"2", topic_alias=8) is Reason.SUCCESS
        first, second = device.receive(), device.receive()
        assert (first.topic, first.topic_alias, first.payload) == (topic, 1, b"1")
        assert (second.topic, second.topic_alias, second.payload) == ("", 1, b"2")
        device.send(Publish("", b"unknown", topic_alias=7))
        with pytest.raises(Closed) as caught:
            device.read()
        assert caught.value.reason in (Reason.PROTOCOL_ERROR, Reason.TOPIC_ALIAS_INVALID)


@pytest.mark.parametrize("alias", [0, 9])
def test_topic_aliases_beyond_the_maximum_are_refused(mine: Devices, alias: int) -> None:
    with mine.connected() as device:
        device.send(Publish("a", b"x", topic_alias=alias))
        with pytest.raises(Closed) as caught:
            device.read()
        assert caught.value.reason is Reason.TOPIC_ALIAS_INVALID


def test_a_topic_alias_does_not_bypass_policies(mine: Devices) -> None:
    made = mine.credential(ALLOW_ALL, deny("iot:Publish", mine.arn("topic/no")))
    with mine.connected(made) as device, mine.connected() as listener:
        listener.subscribe("no")
        for topic in ("no", ""):
            assert device.publish(topic, topic_alias=1) is Reason.NOT_AUTHORIZED
        assert listener.nothing_comes()


def test_the_receive_maximum_of_the_client_is_kept(mine: Devices) -> None:
    topic = new_name("t")
    with mine.connected(receive_maximum=2) as device, mine.connected() as sender:
        device.subscribe(topic)
        for number in range(5):
            sender.publish(topic, str(number).encode())
        first, _ = device.receive(acknowledge=False), device.receive(acknowledge=False)
        assert device.nothing_comes()
        assert first.packet_id is not None
        device.send(PubAck(first.packet_id))
        assert device.receive(acknowledge=False).payload == b"2"
        assert device.nothing_comes()


def test_the_maximum_packet_size_of_the_client_is_kept(mine: Devices) -> None:
    topic = new_name("t")
    with mine.connected(maximum_packet_size=200) as device, mine.connected() as sender:
        device.subscribe(topic)
        sender.publish(topic, b"x" * 200)
        sender.publish(topic, b"fits")
        assert device.receive().payload == b"fits"
        assert device.nothing_comes()


def test_qos_2_is_refused(mine: Devices) -> None:
    with mine.connected() as device:
        device.send(Publish("a", b"x", 2, packet_id=1))
        with pytest.raises(Closed) as caught:
            device.read()
        assert caught.value.reason is Reason.QOS_NOT_SUPPORTED


def test_packets_after_connect_are_handled_in_order(mine: Devices) -> None:
    """A device need not wait for CONNACK (MQTT 5, 3.1.4)."""
    topic = new_name("t")
    with mine.dial(mine.credential()) as device:
        device.send(
            Connect(5, new_name()),
            Subscribe(1, (SubscriptionRequest(topic, 1),)),
            *(Publish(topic, str(number).encode()) for number in range(20)),
        )
        device.expect(ConnAck)
        device.read()
        assert [device.receive().payload for _ in range(20)] == [str(number).encode() for number in range(20)]


# -- other clients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5])
def test_paho_clients_work(mine: Devices, version: MQTTProtocolVersion) -> None:
    made, topic = mine.credential(), new_name("t")
    client = Client(CallbackAPIVersion.VERSION2, new_name(), protocol=version)
    client.tls_set_context(_paho_context(mine, made.file))
    messages: list[Any] = []
    subscribed = threading.Event()
    client.on_message = lambda client, data, message: messages.append((message.topic, message.payload, message.qos))
    client.on_subscribe = lambda *_: subscribed.set()
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    assert client.connect("localhost", mine.server.ports["mqtt"]) == 0
    client.loop_start()
    try:
        assert connected.wait(15)
        client.subscribe(topic, 1)
        assert subscribed.wait(15)
        client.publish(topic, b"hello", 1).wait_for_publish(15)
        until(lambda: messages, seconds=15, what="the message has come")
        assert messages == [(topic, b"hello", 1)]
    finally:
        client.disconnect()
        client.loop_stop()


def _paho_context(fleet: Devices, file: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(fleet.server.ca))
    context.load_cert_chain(file)
    return context


@pytest.mark.skipif(shutil.which("mosquitto_sub") is None, reason="mosquitto-clients is not installed")
@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_mosquitto_clients_work(mine: Devices, version: str) -> None:
    made, topic = mine.credential(), new_name("t")
    common = ["-h", "localhost", "-p", str(mine.server.ports["mqtt"]), "--cafile", str(mine.server.ca)]
    common += ["--cert", str(made.file), "--key", str(made.file), "-V", version, "-q", "1", "-t", topic]
    with mine.connected() as keeper:
        keeper.publish(topic, b"hello", retain=True)
        got = subprocess.run(["mosquitto_sub", *common, "-C", "1", "-W", "15"], capture_output=True, check=False)
        assert (got.returncode, got.stdout) == (0, b"hello\n"), got.stderr
        keeper.subscribe(topic)
        keeper.receive()
        sent = subprocess.run(["mosquitto_pub", *common, "-m", "from mosquitto"], capture_output=True, check=False)
        assert sent.returncode == 0, sent.stderr
        assert keeper.receive().payload == b"from mosquitto"
        keeper.publish(topic, b"", retain=True)
