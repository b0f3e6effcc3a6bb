"""ServerConnection without errors: CONNECT, messages in both directions, aliases, sizes and time-outs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.mqtt.protocol.client import Client, connected
from thingmint.domain.messages import MessageProperties
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.events import (
    ConnectRequested,
    Disconnected,
    Failed,
    SubscribeRequested,
    UnsubscribeRequested,
)
from thingmint.mqtt.protocol.limits import AWS_LIMITS, Limits
from thingmint.mqtt.protocol.packets import (
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    UnsubAck,
    Unsubscribe,
)
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from thingmint.mqtt.protocol.packets import Version

BOTH = pytest.mark.parametrize("version", [4, 5])


def test_connack_has_the_limits_of_aws() -> None:
    assert Client().connect(keep_alive=60, session_expiry=7200) == ConnAck(
        session_expiry=3600,
        receive_maximum=100,
        maximum_qos=1,
        maximum_packet_size=149_504,
        topic_alias_maximum=8,
        subscription_ids_available=False,
        server_keep_alive=60,
    )


def test_connack_has_other_limits_if_given() -> None:
    limits = Limits(
        receive_maximum=3, maximum_qos=0, retain_available=False, wildcard_available=False, shared_available=False
    )
    answer = Client(limits=limits).connect()
    assert (answer.receive_maximum, answer.maximum_qos) == (3, 0)
    assert (answer.retain_available, answer.wildcard_available, answer.shared_available) == (False, False, False)


@BOTH
def test_accept_may_replace_the_limits(version: Version) -> None:
    client = Client(version)
    client.send(Connect(version, "c", clean_start=False, session_expiry=50))
    client.server.accept(
        client.now, session_present=True, limits=Limits(maximum_qos=0), keep_alive=40, session_expiry=7
    )
    (answer,) = client.read()
    assert isinstance(answer, ConnAck)
    assert answer.session_present
    assert client.server.deadline == client.now + 60
    if version == 5:
        assert (answer.server_keep_alive, answer.session_expiry, answer.maximum_qos) == (40, 7, 0)
    (event,) = client.send(Publish("t", b"", 1, packet_id=1))
    assert isinstance(event, Failed)


@pytest.mark.parametrize(("asked", "granted"), [(0, 1200), (1, 30), (29, 30), (30, 30), (1200, 1200), (65_535, 1200)])
@BOTH
def test_a_silent_client_expires_after_its_keep_alive(version: Version, asked: int, granted: int) -> None:
    client = Client(version)
    answer = client.connect(keep_alive=asked)
    assert answer.server_keep_alive == (granted if version == 5 else None)
    assert client.server.deadline == client.now + granted * 1.5
    client.now += granted * 1.5 - 0.1
    assert not client.server.expired(client.now)
    client.send(PingReq())
    client.now += 0.1
    assert not client.server.expired(client.now)
    client.now += granted * 1.5
    client.send_bytes(b"\xc0")  # half a packet does not restart the time-out
    assert client.server.expired(client.now)
    client.read()
    client.server.disconnect(Reason.KEEP_ALIVE_TIMEOUT)
    assert client.read() == ([Disconnect(Reason.KEEP_ALIVE_TIMEOUT)] if version == 5 else [])
    assert client.server.deadline is None


def test_a_client_without_connect_expires() -> None:
    client = Client()
    client.send_bytes(b"\x10")
    assert not client.server.expired(1009.9)
    assert client.server.expired(1010.0)
    client.server.disconnect(Reason.KEEP_ALIVE_TIMEOUT)
    assert client.server.closed
    assert client.server.outgoing() == b""


def test_no_deadline_while_connect_is_unanswered() -> None:
    client = Client()
    client.send(Connect(5, "c"))
    assert client.server.deadline is None
    assert not client.server.expired(1e9)


@pytest.mark.parametrize(
    ("connect", "expiry"),
    [
        (Connect(4, "c"), 0),
        (Connect(4, "c", clean_start=False), 3600),
        (Connect(5, "c", clean_start=False), 0),
        (Connect(5, "c", session_expiry=10), 10),
        (Connect(5, "c", session_expiry=0xFFFF_FFFF), 3600),
    ],
)
def test_session_expiry_is_limited(connect: Connect, expiry: int) -> None:
    assert AWS_LIMITS.session_expiry_for(connect) == expiry


@BOTH
def test_a_client_without_an_id_gets_one(version: Version) -> None:
    client = Client(version)
    (event,) = client.send(Connect(version, ""))
    assert event == ConnectRequested(Connect(version, "$GEN/1"), assigned=True)
    client.server.accept(client.now, session_present=False)
    (answer,) = client.read()
    assert isinstance(answer, ConnAck)
    assert answer.assigned_client_id == ("$GEN/1" if version == 5 else None)


def test_a_client_may_reconnect_with_an_assigned_id() -> None:
    assert Client().connect(client_id="$GEN/1").assigned_client_id is None


@BOTH
def test_packets_after_connect_wait_for_its_answer(version: Version) -> None:
    client = Client(version)
    message = Publish("t", b"early")
    assert len(client.send(Connect(version, "c"), message, PingReq())) == 1
    assert client.send(message) == []
    assert client.send_bytes(b"\xc0") == []
    assert client.server.outgoing() == b""
    assert client.server.accept(client.now, session_present=False) == [message, message]
    assert [type(packet) for packet in client.read()] == [ConnAck, PingResp]
    assert client.send_bytes(b"\x00") == []
    assert client.read() == [PingResp()]


def test_data_before_the_answer_to_connect_is_limited() -> None:
    client = Client(limits=Limits(maximum_packet_size=100))
    client.send(Connect(5, "c"))
    assert client.send_bytes(bytes(100)) == []
    (event,) = client.send_bytes(b"\0")
    assert isinstance(event, Failed)
    assert client.read() == [ConnAck(Reason.QUOTA_EXCEEDED, reason_string=event.text)]
    assert client.server.accept(client.now, session_present=False) == []
    assert client.server.outgoing() == b""


@BOTH
def test_messages_from_the_client_are_events(version: Version) -> None:
    client = connected(version)
    properties = MessageProperties(content_type="x") if version == 5 else MessageProperties()
    zero = Publish("a", b"0", retain=True, properties=properties)
    one = Publish("a", b"1", 1, packet_id=7, dup=True)
    assert client.send(zero, one) == [zero, one]
    assert client.server.outgoing() == b""
    client.server.puback(7)
    assert client.read() == [PubAck(7)]


def test_puback_has_the_reason() -> None:
    client = connected(5)
    client.server.puback(1, Reason.NO_MATCHING_SUBSCRIBERS)
    client.server.puback(2, Reason.NOT_AUTHORIZED, "no")
    assert client.read() == [PubAck(1, Reason.NO_MATCHING_SUBSCRIBERS), PubAck(2, Reason.NOT_AUTHORIZED, "no")]
    client = connected(4)
    client.server.puback(1, Reason.NO_MATCHING_SUBSCRIBERS)
    client.server.puback(2, Reason.NOT_AUTHORIZED, "no")
    assert client.read() == [PubAck(1)]


@BOTH
def test_messages_to_the_client_are_encoded(version: Version) -> None:
    client = connected(version)
    properties = MessageProperties(correlation_data=b"c")
    assert client.server.publish("a/b", b"0", retain=True, properties=properties)
    assert client.server.publish("a/b", b"1", packet_id=9, dup=True)
    first = Publish("a/b", b"0", retain=True, properties=properties if version == 5 else MessageProperties())
    assert client.read() == [first, Publish("a/b", b"1", 1, dup=True, packet_id=9)]
    answer = PubAck(9, Reason.NOT_AUTHORIZED if version == 5 else Reason.SUCCESS)
    assert client.send(answer) == [answer]


@BOTH
def test_subscribe_and_unsubscribe_are_answered(version: Version) -> None:
    client = connected(version)
    requests = (SubscriptionRequest("a/#"), SubscriptionRequest("$share/g/b", 2))
    (event,) = client.send(Subscribe(3, requests))
    assert event == SubscribeRequested(3, (requests[0], replace(requests[1], qos=1)), (None, None))
    client.server.suback(3, [Reason.GRANTED_QOS_1, Reason.NOT_AUTHORIZED], "no")
    reasons = (Reason.GRANTED_QOS_1, Reason.NOT_AUTHORIZED if version == 5 else Reason.UNSPECIFIED_ERROR)
    assert client.read() == [SubAck(3, reasons, "no" if version == 5 else None)]
    (event,) = client.send(Unsubscribe(4, ("a/#", "b")))
    assert event == UnsubscribeRequested(4, ("a/#", "b"), (None, None))
    client.server.unsuback(4, [Reason.SUCCESS, Reason.NO_SUBSCRIPTION_EXISTED])
    ended = (Reason.SUCCESS, Reason.NO_SUBSCRIPTION_EXISTED) if version == 5 else ()
    assert client.read() == [UnsubAck(4, ended)]


@pytest.mark.parametrize(
    ("asked", "packet", "event"),
    [
        (0, Disconnect(), Disconnected(Reason.SUCCESS, will=False, session_expiry=None)),
        (0, Disconnect(session_expiry=0), Disconnected(Reason.SUCCESS, will=False, session_expiry=0)),
        (1, Disconnect(session_expiry=9000), Disconnected(Reason.SUCCESS, will=False, session_expiry=3600)),
        (9, Disconnect(session_expiry=0), Disconnected(Reason.SUCCESS, will=False, session_expiry=0)),
        (
            0,
            Disconnect(Reason.DISCONNECT_WITH_WILL),
            Disconnected(Reason.DISCONNECT_WITH_WILL, will=True, session_expiry=None),
        ),
        (
            0,
            Disconnect(Reason.UNSPECIFIED_ERROR),
            Disconnected(Reason.UNSPECIFIED_ERROR, will=True, session_expiry=None),
        ),
    ],
)
def test_disconnect_of_mqtt_5_has_will_and_expiry(asked: int, packet: Disconnect, event: Disconnected) -> None:
    client = connected(5, session_expiry=asked)
    assert client.send(packet, PingReq()) == [event]
    assert client.server.closed
    assert client.send_bytes(b"\0\0") == []
    assert client.server.outgoing() == b""


def test_disconnect_of_mqtt_3_1_1_is_an_event() -> None:
    client = connected(4)
    assert client.send(Disconnect()) == [Disconnected(Reason.SUCCESS, will=False, session_expiry=None)]


def test_inbound_aliases_are_resolved() -> None:
    client = connected()
    assert client.send(Publish("a", b"1", topic_alias=8), Publish("", b"2", topic_alias=8)) == [
        Publish("a", b"1"),
        Publish("a", b"2"),
    ]
    assert client.send(Publish("b", b"", topic_alias=8), Publish("", b"", topic_alias=8))[1] == Publish("b", b"")


def test_outbound_aliases_replace_repeated_topics() -> None:
    client = connected(topic_alias_maximum=2)
    for topic in ["a", "b", "c", "a", "c"]:
        assert client.server.publish(topic, b"")
    got = [(packet.topic, packet.topic_alias) for packet in client.read() if isinstance(packet, Publish)]
    assert got == [("a", 1), ("b", 2), ("c", None), ("", 1), ("c", None)]
    client = connected(topic_alias_maximum=100, limits=Limits(topic_alias_maximum=1))
    for topic in ["a", "b"]:
        client.server.publish(topic, b"")
    assert [packet.topic_alias for packet in client.read() if isinstance(packet, Publish)] == [1, None]


def test_packets_above_the_clients_maximum_size_are_not_sent() -> None:
    fits = bytes(60)
    message = encode(Publish("topic", fits), 5)
    client = connected(maximum_packet_size=len(message), topic_alias_maximum=5)
    client.decoder.max_packet_size = len(message)
    assert not client.server.publish("topic", fits + b"x")
    assert client.server.outgoing() == b""
    assert client.server.publish("topic", fits)  # it does not fit together with an alias
    assert client.read() == [Publish("topic", fits)]
    client.server.puback(1, Reason.NOT_AUTHORIZED, "a long story" * 9)
    assert client.read() == [PubAck(1, Reason.NOT_AUTHORIZED)]
    client.server.suback(1, [Reason.SUCCESS] * 80)
    assert client.server.outgoing() == b""


@pytest.mark.parametrize("wanted", [True, False])
def test_reason_strings_are_sent_only_if_requested(wanted: bool) -> None:
    client = connected(request_problem_information=wanted)
    text = "why" if wanted else None
    client.server.puback(1, Reason.NOT_AUTHORIZED, "why")
    client.server.disconnect(Reason.SERVER_SHUTTING_DOWN, "why")
    assert client.read() == [
        PubAck(1, Reason.NOT_AUTHORIZED, text),
        Disconnect(Reason.SERVER_SHUTTING_DOWN, reason_string=text),
    ]


@BOTH
def test_calls_after_the_end_do_nothing(version: Version) -> None:
    client = connected(version)
    client.server.disconnect(Reason.SESSION_TAKEN_OVER)
    client.server.outgoing()
    assert client.server.publish("t", b"")  # False would mean: drop the message
    client.server.puback(1)
    client.server.suback(1, [Reason.SUCCESS])
    client.server.unsuback(1, [Reason.SUCCESS])
    client.server.refuse(Reason.NOT_AUTHORIZED)
    client.server.disconnect(Reason.SESSION_TAKEN_OVER)
    assert client.server.outgoing() == b""


def test_reasons_that_a_packet_cannot_have_become_unspecified_error() -> None:
    client = connected()
    client.server.disconnect(Reason.SERVER_UNAVAILABLE)
    assert client.read() == [Disconnect(Reason.UNSPECIFIED_ERROR)]
    client = Client()
    client.send(Connect(5, "c"))
    client.server.refuse(Reason.SESSION_TAKEN_OVER)
    assert client.read() == [ConnAck(Reason.UNSPECIFIED_ERROR)]


def test_the_connect_event_has_user_name_and_password() -> None:
    fields: dict[str, Any] = {"username": "?SDK=x", "password": b"p", "request_response_information": True}
    (event,) = Client().send(packet := Connect(5, "c", **fields))
    assert event == ConnectRequested(packet, assigned=False)
