"""Requests that end a connection or are refused, and the answer in both versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tables import each_row
from tests.unit.mqtt.protocol.client import Client, connected
from thingmint.mqtt.protocol.events import Failed, SubscribeRequested, UnsubscribeRequested
from thingmint.mqtt.protocol.limits import AWS_LIMITS, Limits
from thingmint.mqtt.protocol.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    UnsubAck,
    Unsubscribe,
    Will,
)
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from thingmint.mqtt.protocol.packets import Packet, Version

BOTH = pytest.mark.parametrize("version", [4, 5])
BAD_ID, BAD_TOPIC = Reason.CLIENT_IDENTIFIER_NOT_VALID, Reason.TOPIC_NAME_INVALID
BAD_FILTER, PROTOCOL = Reason.TOPIC_FILTER_INVALID, Reason.PROTOCOL_ERROR

CONNECTS: list[tuple[Connect, Reason, int | None]] = [
    (Connect(5, "c", authentication_method="m"), Reason.BAD_AUTHENTICATION_METHOD, None),
    (Connect(4, "", clean_start=False), BAD_ID, 2),
    (Connect(4, "c" * 129), BAD_ID, 2),
    (Connect(5, "é" * 65), BAD_ID, None),
    (Connect(5, "$aws"), BAD_ID, None),
    (Connect(4, "$x"), BAD_ID, 2),
    (Connect(5, "c", will=Will("w", b"", 2)), Reason.QOS_NOT_SUPPORTED, None),
    (Connect(4, "c", will=Will("w", b"", 2)), Reason.QOS_NOT_SUPPORTED, None),
    (Connect(5, "c", will=Will("w" * 257, b"")), BAD_TOPIC, None),
    (Connect(5, "c", will=Will("1/2/3/4/5/6/7/8/9", b"")), BAD_TOPIC, None),
]


@pytest.mark.parametrize("connack_refusals", [True, False])
@pytest.mark.parametrize(("connect", "reason", "code"), CONNECTS)
def test_invalid_connects_are_refused(
    connect: Connect, reason: Reason, code: int | None, connack_refusals: bool
) -> None:
    client = Client(connect.version, connack_refusals=connack_refusals)
    (event,) = client.send(connect)
    assert isinstance(event, Failed)
    assert event.reason is reason
    assert client.server.closed
    if connect.version == 5:
        assert client.read() == [ConnAck(reason, reason_string=event.text)]
    else:
        assert client.server.outgoing() == (bytes([0x20, 2, 0, code]) if code else b"")


@pytest.mark.parametrize("client_id", ["c" * 128, "é" * 64])
@BOTH
def test_client_ids_of_the_maximum_length_are_accepted(version: Version, client_id: str) -> None:
    Client(version).connect(client_id=client_id)


def test_a_retained_will_is_refused_without_retain_available() -> None:
    client = Client(5, Limits(retain_available=False))
    (event,) = client.send(Connect(5, "c", will=Will("w", b"", retain=True)))
    assert isinstance(event, Failed)
    assert event.reason is Reason.RETAIN_NOT_SUPPORTED


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01a", b"\x20\x02\x00\x01"),
        (b"\x10\x0d\x00\x04MQTT\x03\x02\x00\x00\x00\x01a", b"\x20\x02\x00\x01"),
        (b"\x10\x0e\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x01a", b"\x20\x03\x00\x84\x00"),
        (b"\x10\x0d\x00\x04HTTP\x04\x02\x00\x00\x00\x01a", b""),
        (b"\x10\x0d\x00\x04MQTT\x04\x03\x00\x00\x00\x01a", b""),  # malformed: MQTT 3.1.1 has no return code for it
        (b"\x10\x0e\x00\x04MQTT\x05\x03\x00\x00\x00\x00\x01a", b"\x20\x03\x00\x81\x00"),
        (b"GET / HTTP/1.1\r\n", b""),
        (b"\xc0\x00", b""),
        (b"\x10\xff\xff\xff\x7f", b""),
    ],
)
def test_invalid_first_packets_are_refused(data: bytes, answer: bytes) -> None:
    client = Client()
    (event,) = client.send_bytes(data)
    assert isinstance(event, Failed)
    assert client.server.outgoing() == answer
    assert client.server.closed
    assert client.send_bytes(b"\x10") == []


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.UNSUPPORTED_PROTOCOL_VERSION, 1),
        (Reason.CLIENT_IDENTIFIER_NOT_VALID, 2),
        (Reason.SERVER_UNAVAILABLE, 3),
        (Reason.SERVER_BUSY, 3),
        (Reason.BAD_USER_NAME_OR_PASSWORD, 4),
        (Reason.NOT_AUTHORIZED, 5),
        (Reason.BANNED, 5),
        (Reason.UNSPECIFIED_ERROR, None),
    ],
)
def test_refuse_answers_with_the_reason(reason: Reason, code: int | None) -> None:
    for connack_refusals in (True, False):
        client = Client(4, connack_refusals=connack_refusals)
        client.send(Connect(4, "c"))
        client.server.refuse(reason, "why")
        silent = code is None or not (connack_refusals or code in (1, 2, 4))
        assert client.server.outgoing() == (b"" if silent else bytes([0x20, 2, 0, code or 0]))
    client = Client(5)
    client.send(Connect(5, "c"))
    client.server.refuse(reason, "why")
    assert client.read() == [ConnAck(reason, reason_string="why")]
    assert client.server.closed


FATAL: list[tuple[str, Limits, tuple[Packet, ...], Reason]] = [
    ("second CONNECT", AWS_LIMITS, (Connect(5, "c"),), PROTOCOL),
    ("QoS 2", AWS_LIMITS, (Publish("t", b"", 2, packet_id=1),), Reason.QOS_NOT_SUPPORTED),
    ("QoS 1", Limits(maximum_qos=0), (Publish("t", b"", 1, packet_id=1),), Reason.QOS_NOT_SUPPORTED),
    ("retain", Limits(retain_available=False), (Publish("t", b"", retain=True),), Reason.RETAIN_NOT_SUPPORTED),
    ("payload", AWS_LIMITS, (Publish("t", bytes(128 * 1024 + 1)),), Reason.PACKET_TOO_LARGE),
    ("packet", Limits(maximum_packet_size=50), (Publish("t", bytes(50)),), Reason.PACKET_TOO_LARGE),
    ("long topic", AWS_LIMITS, (Publish("t" * 257, b""),), BAD_TOPIC),
    ("deep topic", AWS_LIMITS, (Publish("1/2/3/4/5/6/7/8/9", b""),), BAD_TOPIC),
    ("PUBREC", AWS_LIMITS, (PubRec(1),), PROTOCOL),
    ("PUBREL", AWS_LIMITS, (PubRel(1),), PROTOCOL),
    ("PUBCOMP", AWS_LIMITS, (PubComp(1),), PROTOCOL),
    ("CONNACK", AWS_LIMITS, (ConnAck(),), PROTOCOL),
    ("SUBACK", AWS_LIMITS, (SubAck(1, (Reason.SUCCESS,)),), PROTOCOL),
    ("UNSUBACK", AWS_LIMITS, (UnsubAck(1, (Reason.SUCCESS,)),), PROTOCOL),
    ("PINGRESP", AWS_LIMITS, (PingResp(),), PROTOCOL),
]
FATAL_IN_5: list[tuple[str, Limits, tuple[Packet, ...], Reason]] = [
    ("AUTH", AWS_LIMITS, (Auth(),), PROTOCOL),
    ("alias too high", AWS_LIMITS, (Publish("t", b"", topic_alias=9),), Reason.TOPIC_ALIAS_INVALID),
    ("alias of nothing", AWS_LIMITS, (Publish("", b"", topic_alias=1),), PROTOCOL),
    ("no aliases", Limits(topic_alias_maximum=0), (Publish("t", b"", topic_alias=1),), Reason.TOPIC_ALIAS_INVALID),
    ("subscription id in PUBLISH", AWS_LIMITS, (Publish("t", b"", subscription_ids=(1,)),), PROTOCOL),
    (
        "subscription id",
        AWS_LIMITS,
        (Subscribe(1, (SubscriptionRequest("a"),), subscription_id=1),),
        Reason.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
    ),
    ("shared and no local", AWS_LIMITS, (Subscribe(1, (SubscriptionRequest("$share/g/a", no_local=True),)),), PROTOCOL),
    ("packet id in use", AWS_LIMITS, (Publish("t", b"", 1, packet_id=1),) * 2, PROTOCOL),
    (
        "receive maximum",
        Limits(receive_maximum=2),
        tuple(Publish("t", b"", 1, packet_id=n) for n in (1, 2, 3)),
        Reason.RECEIVE_MAXIMUM_EXCEEDED,
    ),
    ("outliving", AWS_LIMITS, (Disconnect(session_expiry=1),), PROTOCOL),
    ("server reference", AWS_LIMITS, (Disconnect(server_reference="s"),), PROTOCOL),
]


@each_row(
    ("version", "case", "limits", "packets", "reason"),
    [(4, *row) for row in FATAL] + [(5, *row) for row in FATAL + FATAL_IN_5],
)
def test_protocol_errors_end_the_connection(
    version: Version, case: str, limits: Limits, packets: tuple[Packet, ...], reason: Reason
) -> None:
    client = connected(version, limits)
    *others, last = client.send(*packets)
    assert others == list(packets[:-1])
    assert isinstance(last, Failed)
    assert last.reason is reason
    assert client.read() == ([Disconnect(reason, reason_string=last.text)] if version == 5 else [])
    assert client.server.closed
    assert client.send_bytes(b"\xc0\x00") == []
    assert client.server.outgoing() == b""


def test_the_largest_payload_is_accepted() -> None:
    assert len(connected().send(Publish("t", bytes(128 * 1024)))) == 1


def test_acknowledged_messages_do_not_count_for_the_receive_maximum() -> None:
    client = connected(5, Limits(receive_maximum=1))
    for _ in range(3):
        assert len(client.send(Publish("t", b"", 1, packet_id=1))) == 1
        client.server.puback(1)
    client.send(Publish("t", b"", 1, packet_id=1))
    assert client.send(Publish("t", b""))[0] == Publish("t", b"")  # QoS 0 is not counted


def test_mqtt_3_1_1_has_no_receive_maximum() -> None:
    client = connected(4, Limits(receive_maximum=1))
    assert len(client.send(*(Publish("t", b"", 1, packet_id=n) for n in (1, 1, 2)))) == 3


def test_mqtt_5_refuses_topics_beyond_the_limits_in_puback() -> None:
    client = connected(5)
    assert client.send(Publish("1/2/3/4/5/6/7/8/9", b"", 1, packet_id=5, topic_alias=1)) == []
    assert client.read() == [PubAck(5, BAD_TOPIC)]
    (event,) = client.send(Publish("", b"", topic_alias=1))
    assert isinstance(event, Failed)
    (event,) = connected(4).send(Publish("1/2/3/4/5/6/7/8/9", b"", 1, packet_id=5))
    assert isinstance(event, Failed)
    assert event.reason is BAD_TOPIC


@pytest.mark.parametrize("topic", ["$aws/rules/r/1/2/3/4/5/6/7/8", "$aws/provisioning-templates/t/provision/json"])
@BOTH
def test_reserved_topics_are_accepted(version: Version, topic: str) -> None:
    assert len(connected(version).send(Publish(topic, b""))) == 1


FILTERS = [
    ("a#", AWS_LIMITS, BAD_FILTER),
    ("", AWS_LIMITS, BAD_FILTER),
    ("$share/g", AWS_LIMITS, BAD_FILTER),
    ("+/" * 8 + "x", AWS_LIMITS, BAD_FILTER),
    ("x" * 257, AWS_LIMITS, BAD_FILTER),
    ("a/#", Limits(wildcard_available=False), Reason.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED),
    ("+", Limits(wildcard_available=False), Reason.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED),
    ("$share/g/a", Limits(shared_available=False), Reason.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED),
]


@pytest.mark.parametrize(("filter", "limits", "reason"), FILTERS)
def test_invalid_filters_are_refused(filter: str, limits: Limits, reason: Reason) -> None:
    packet = Subscribe(1, (SubscriptionRequest("fine"), SubscriptionRequest(filter)))
    (event,) = connected(5, limits).send(packet)
    assert event == SubscribeRequested(1, packet.requests, (None, reason))
    client = connected(4, limits)
    (event,) = client.send(packet)
    assert isinstance(event, Failed)
    assert event.reason is reason
    assert client.server.outgoing() == b""


@pytest.mark.parametrize("filter", ["a#", "x" * 257])
def test_invalid_filters_to_unsubscribe_are_refused(filter: str) -> None:
    packet = Unsubscribe(1, ("fine", filter))
    assert connected(5).send(packet) == [UnsubscribeRequested(1, packet.filters, (None, BAD_FILTER))]
    (event,) = connected(4).send(packet)
    assert isinstance(event, Failed)


def test_more_than_eight_filters_are_refused() -> None:
    eight = tuple(SubscriptionRequest(str(n)) for n in range(8))
    nine = (*eight, SubscriptionRequest("8"))
    for version in (4, 5):
        assert connected(version).send(Subscribe(1, eight)) == [SubscribeRequested(1, eight, (None,) * 8)]
    assert connected(5).send(Subscribe(1, nine)) == [SubscribeRequested(1, nine, (Reason.QUOTA_EXCEEDED,) * 9)]
    (event,) = connected(4).send(Subscribe(1, nine))
    assert isinstance(event, Failed)
    assert event.reason is Reason.QUOTA_EXCEEDED


def test_packets_before_an_invalid_one_are_events() -> None:
    client = connected(5)
    message = Publish("t", b"")
    first, last = client.send_bytes(b"\x30\x04\x00\x01t\x00\xc1\x00")
    assert first == message
    assert isinstance(last, Failed)
