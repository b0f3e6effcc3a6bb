"""ClientConnection, also with brokers that break the protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thingmint.domain.messages import NO_PROPERTIES
from thingmint.mqtt.broker.upstream.client import MAX_PACKET_SIZE, Answered, ClientConnection
from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    PubRec,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    UnsubAck,
    Unsubscribe,
)
from thingmint.mqtt.protocol.reasons import ProtocolError, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.mqtt.protocol.packets import Packet, Version

VERSIONS: list[Version] = [5, 4]


class Conversation:
    """A ClientConnection with a broker that sends the given packets."""

    def __init__(self, version: Version = 5, connack: ConnAck | None = None, **fields: Any) -> None:
        self.version = version
        self.client = ClientConnection(Connect(version=version, client_id="c", keep_alive=60, **fields), 0.0)
        self.broker = Decoder(version=version)
        self.answers: list[Any] = []
        self.now = 0.0
        self.client.outgoing(0.0)
        if connack is None:
            connack = ConnAck()
        self.events = self.receive(connack)

    def receive(self, *packets: Packet) -> list[Any]:
        return list(self.client.receive(b"".join(encode(packet, self.version) for packet in packets)))

    def sent(self) -> list[Packet]:
        return list(self.broker.feed(self.client.outgoing(self.now)))

    def publish(self, payload: bytes = b"x", qos: int = 1, *, retain: bool = False) -> None:
        self.client.publish("t", payload, qos=qos, retain=retain, properties=NO_PROPERTIES, done=self.done)

    def done(self, reasons: Sequence[Reason]) -> None:
        self.answers.append(tuple(reasons))


@pytest.mark.parametrize("version", VERSIONS)
def test_connect_is_sent_and_connack_is_an_event(version: Version) -> None:
    client = ClientConnection(Connect(version=version, client_id="c", username="u", password=b"p"), 0.0)
    (connect,) = Decoder().feed(client.outgoing(0.0))
    assert connect == Connect(version=version, client_id="c", username="u", password=b"p")
    assert list(client.receive(encode(ConnAck(), version))) == [ConnAck()]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_refused_connection_sends_no_disconnect(version: Version) -> None:
    conversation = Conversation(version, ConnAck(Reason.NOT_AUTHORIZED))
    assert [event.reason for event in conversation.events] == [Reason.NOT_AUTHORIZED]
    conversation.client.disconnect()
    assert conversation.sent() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_pubacks_answer_messages(version: Version) -> None:
    conversation = Conversation(version)
    conversation.publish(b"1")
    conversation.publish(b"2", 0)
    conversation.publish(b"3")
    assert conversation.sent() == [
        Publish("t", b"1", 1, packet_id=1),
        Publish("t", b"2"),
        Publish("t", b"3", 1, packet_id=2),
    ]
    assert conversation.answers == [(Reason.SUCCESS,)]
    events = conversation.receive(PubAck(2), PubAck(1))
    assert events == [Answered(conversation.done, (Reason.SUCCESS,))] * 2
    with pytest.raises(ProtocolError, match="without a request"):
        conversation.receive(PubAck(1))


@pytest.mark.parametrize("version", VERSIONS)
def test_subacks_and_unsubacks_answer_requests(version: Version) -> None:
    conversation = Conversation(version)
    requests = [SubscriptionRequest("a", 1), SubscriptionRequest("b", 0)]
    conversation.client.subscribe(requests, conversation.done)
    conversation.client.unsubscribe(["a", "b"], conversation.done)
    assert conversation.sent() == [Subscribe(1, tuple(requests)), Unsubscribe(2, ("a", "b"))]
    granted = (Reason.GRANTED_QOS_1, Reason.UNSPECIFIED_ERROR)
    ended = (Reason.SUCCESS, Reason.NO_SUBSCRIPTION_EXISTED) if version == 5 else (Reason.SUCCESS,) * 2
    events = conversation.receive(SubAck(1, granted), UnsubAck(2, ended))
    assert [event.reasons for event in events] == [granted, ended]


def test_the_receive_maximum_of_the_broker_limits_messages() -> None:
    conversation = Conversation(connack=ConnAck(receive_maximum=2))
    for number in range(4):
        conversation.publish(b"%d" % number)
    assert [packet.payload for packet in conversation.sent() if isinstance(packet, Publish)] == [b"0", b"1"]
    with pytest.raises(ProtocolError):  # an answer for a message that was not sent yet
        conversation.receive(PubAck(3))


def test_waiting_messages_are_sent_in_order() -> None:
    conversation = Conversation(connack=ConnAck(receive_maximum=1))
    for number in range(5):
        conversation.publish(b"%d" % number)
    sent = []
    for _ in range(5):
        (packet,) = conversation.sent()
        assert isinstance(packet, Publish)
        assert packet.packet_id is not None
        sent.append(packet.payload)
        conversation.receive(PubAck(packet.packet_id))
    assert sent == [b"0", b"1", b"2", b"3", b"4"]
    assert conversation.sent() == []


def test_a_congested_client_refuses_requests() -> None:
    conversation = Conversation(connack=ConnAck(receive_maximum=10))
    while not conversation.client.congested:
        conversation.publish()
    assert conversation.answers == []
    conversation.publish()
    conversation.client.subscribe([SubscriptionRequest("a")], conversation.done)
    assert conversation.answers == [(Reason.QUOTA_EXCEEDED,)] * 2
    conversation.receive(PubAck(1))
    assert not conversation.client.congested


def test_waiting_bytes_cause_congestion() -> None:
    conversation = Conversation(connack=ConnAck(receive_maximum=1))
    for _ in range(4):
        assert not conversation.client.congested
        conversation.publish(bytes(100_000))
    assert conversation.client.congested


@pytest.mark.parametrize(
    ("connack", "options"),
    [
        (ConnAck(retain_available=False), {"retain": True}),
        (ConnAck(maximum_packet_size=100), {"payload": bytes(100)}),
        (ConnAck(), {"payload": bytes(MAX_PACKET_SIZE)}),
        (ConnAck(), {"payload": bytes(MAX_PACKET_SIZE), "qos": 0}),
    ],
)
def test_messages_that_the_broker_cannot_accept_are_refused(connack: ConnAck, options: Any) -> None:
    conversation = Conversation(connack=connack)
    conversation.publish(**options)
    assert conversation.answers == [(Reason.IMPLEMENTATION_SPECIFIC_ERROR,)]
    assert conversation.sent() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_deliveries_are_acknowledged_once(version: Version) -> None:
    conversation = Conversation(version)
    first = Publish("t", b"1", 1, packet_id=7)
    assert conversation.receive(first, Publish("t", b"2")) == [first, Publish("t", b"2")]
    conversation.client.acknowledge(8)
    conversation.client.acknowledge(7)
    conversation.client.acknowledge(7)
    assert conversation.sent() == [PubAck(7)]
    assert conversation.receive(first) == [first]


def test_repeated_packet_ids_are_refused_except_for_mqtt_3_1_1_duplicates() -> None:
    first = Publish("t", b"1", 1, packet_id=7)
    again = Publish("t", b"1", 1, dup=True, packet_id=7)
    conversation = Conversation(4)
    assert conversation.receive(first, again) == [first]
    with pytest.raises(ProtocolError, match="in use"):
        Conversation(4).receive(first, first)
    with pytest.raises(ProtocolError, match="in use"):
        Conversation(5).receive(first, again)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "packets",
    [
        [PubAck(1)],
        [SubAck(1, (Reason.SUCCESS,))],
        [UnsubAck(1, (Reason.SUCCESS,))],
        [ConnAck()],
        [Connect(version=5, client_id="x")],
        [PingReq()],
        [PubRec(1)],
        [Publish("t", b"", 2, packet_id=1)],
        [Subscribe(1, (SubscriptionRequest("a"),))],
    ],
    ids=str,
)
def test_unexpected_packets_are_refused(version: Version, packets: list[Packet]) -> None:
    with pytest.raises(ProtocolError):
        Conversation(version).receive(*packets)


@pytest.mark.parametrize(
    "packet",
    [
        Auth(Reason.CONTINUE_AUTHENTICATION, "x"),
        Publish("t", b"", topic_alias=1),
        Publish("", b"", topic_alias=1),
    ],
    ids=str,
)
def test_unexpected_packets_of_mqtt_5_are_refused(packet: Packet) -> None:
    with pytest.raises(ProtocolError):
        Conversation().receive(packet)


@pytest.mark.parametrize(
    "connack",
    [ConnAck(session_present=True), ConnAck(maximum_qos=0), PingResp(), Publish("t", b"")],
    ids=str,
)
def test_an_invalid_first_packet_is_refused(connack: Any) -> None:
    with pytest.raises(ProtocolError):
        Conversation(connack=connack)


def test_an_answer_of_another_type_is_refused() -> None:
    conversation = Conversation()
    conversation.client.subscribe([SubscriptionRequest("a")], conversation.done)
    with pytest.raises(ProtocolError):
        conversation.receive(PubAck(1))


@pytest.mark.parametrize("reasons", [(Reason.SUCCESS,) * 2, (Reason.GRANTED_QOS_2,)])
def test_an_answer_with_wrong_reasons_is_refused(reasons: tuple[Reason, ...]) -> None:
    conversation = Conversation()
    conversation.client.subscribe([SubscriptionRequest("a")], conversation.done)
    with pytest.raises(ProtocolError, match="does not match the request"):
        conversation.receive(SubAck(1, reasons))


def test_exceeding_our_receive_maximum_is_refused() -> None:
    conversation = Conversation(receive_maximum=2)
    with pytest.raises(ProtocolError) as caught:
        conversation.receive(*(Publish("t", b"", 1, packet_id=id) for id in (1, 2, 3)))
    assert caught.value.reason is Reason.RECEIVE_MAXIMUM_EXCEEDED


def test_an_oversized_packet_is_refused() -> None:
    conversation = Conversation()
    with pytest.raises(ProtocolError) as caught:
        list(conversation.client.receive(b"\x30\xff\xff\xff\x7f"))
    assert caught.value.reason is Reason.PACKET_TOO_LARGE


@given(st.binary(max_size=64), st.sampled_from(VERSIONS))
def test_random_bytes_are_refused_or_wait(data: bytes, version: Version) -> None:
    """Random bytes raise ProtocolError, wait for more, or are valid packets."""
    for open_first in (False, True):
        client = ClientConnection(Connect(version=version, client_id="c"), 0.0)
        if open_first:
            list(client.receive(encode(ConnAck(), version)))
        try:
            for event in client.receive(data):
                assert isinstance(event, ConnAck | Publish | Disconnect)
        except ProtocolError:
            pass


def test_events_not_taken_come_with_the_next_call() -> None:
    conversation = Conversation()
    publishes = [Publish("t", b"%d" % number) for number in range(3)]
    data = b"".join(encode(publish, 5) for publish in publishes)
    assert next(conversation.client.receive(data)) == publishes[0]
    conversation.client.receive(encode(Publish("t", b"3"), 5))  # nothing is taken
    assert [event.payload for event in conversation.client.receive(b"") if isinstance(event, Publish)] == [
        b"1",
        b"2",
        b"3",
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_pings_are_sent_and_time_out(version: Version) -> None:
    conversation = Conversation(version)
    client = conversation.client
    assert client.tick(29.0, reading=True)
    assert conversation.sent() == []
    assert client.tick(30.0, reading=True)
    assert conversation.sent() == [PingReq()]
    assert client.tick(49.0, reading=True)
    assert not client.tick(50.0, reading=True)
    conversation.receive(PingResp())
    assert client.tick(50.0, reading=True)


def test_pings_do_not_time_out_while_reading_is_paused() -> None:
    conversation = Conversation(connack=ConnAck(server_keep_alive=20))
    client = conversation.client
    for now in range(0, 200, 5):
        assert client.tick(float(now), reading=False)
    assert len(conversation.sent()) == 19  # pings are still sent
    assert client.tick(214.0, reading=True)
    assert not client.tick(215.0, reading=True)


def test_abandoned_requests_fail() -> None:
    conversation = Conversation(connack=ConnAck(receive_maximum=1))
    conversation.publish()
    conversation.publish()
    conversation.client.subscribe([SubscriptionRequest("a"), SubscriptionRequest("b")], conversation.done)
    answered = conversation.client.abandoned()
    assert sorted(len(one.reasons) for one in answered) == [1, 1, 2]
    assert {reason for one in answered for reason in one.reasons} == {Reason.UNSPECIFIED_ERROR}
    assert conversation.client.abandoned() == []


@pytest.mark.parametrize(("expiry", "new", "sent"), [(0, 5, None), (10, 5, 5), (10, 0, 0), (10, None, None)])
def test_disconnect_is_sent_with_the_session_expiry(expiry: int, new: int | None, sent: int | None) -> None:
    conversation = Conversation(session_expiry=expiry)
    conversation.client.disconnect(session_expiry=new)
    assert conversation.sent() == [Disconnect(session_expiry=sent)]
