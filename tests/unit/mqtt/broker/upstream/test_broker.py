"""The upstream broker, with fake brokers that do what real ones rarely do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from structlog.testing import capture_logs

from tests.unit.mqtt.broker.upstream.fake_upstream import Collector, FakeTarget, FakeTransport, settle
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Unavailable
from thingmint.domain.messages import Message, MessageProperties
from thingmint.mqtt.broker.interface import Opening, Subscription
from thingmint.mqtt.broker.upstream import Upstream, UpstreamBroker
from thingmint.mqtt.broker.upstream.names import RABBITMQ, STANDARD
from thingmint.mqtt.broker.upstream.target import Login, Target
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import (
    ConnAck,
    Connect,
    Disconnect,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    SubscriptionRequest,
)
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from thingmint.mqtt.broker.upstream.link import UpstreamLink
    from thingmint.mqtt.protocol.packets import Version

SCOPE = Scope("123456789012", "us-east-1")
PREFIX = "123456789012/us-east-1"


def opening(**fields: Any) -> Opening:
    defaults: dict[str, Any] = {"client_id": "d", "version": 5, "clean_start": True, "expiry": 0, "receive_maximum": 10}
    return Opening(SCOPE, **(defaults | fields))


def broker_at(target: FakeTarget, **fields: Any) -> UpstreamBroker:
    upstream = Upstream(cast("Target", target), version=target.version, login=Login("gw", b"secret"), **fields)
    return UpstreamBroker(upstream, open_timeout=0.2)


async def opened(target: FakeTarget, **fields: Any) -> tuple[UpstreamLink, FakeTransport, Collector]:
    collector = Collector()
    link = await broker_at(target).open(opening(**fields), collector)
    return link, target.transports[-1], collector


def test_urls_are_parsed() -> None:
    assert Target.of("mqtt://broker") == Target("broker", 1883)
    assert Target.of("mqtt://[::1]:1884/") == Target("::1", 1884)
    assert Target.of("mqtts://broker") == Target("broker", 8883, secure=True)
    assert Target.of("unix:///run/a%20b") == Target(path="/run/a b")
    for bad in (
        "broker",
        "http://broker",
        "mqtt://",
        "mqtt://a:b@c",
        "mqtt://c/x",
        "mqtt://c?x",
        "unix://a/b",
        "mqtt://c:99999",
    ):
        with pytest.raises(ValueError, match=r"must be mqtt|[Pp]ort"):
            Target.of(bad)


async def test_connect_has_the_fields_of_the_opening() -> None:
    target = FakeTarget()
    await opened(target, expiry=77, clean_start=False, receive_maximum=3)
    (connect,) = target.connects()
    assert connect == Connect(
        version=5,
        client_id="123456789012:us-east-1:d",
        clean_start=False,
        keep_alive=60,
        username="gw",
        password=b"secret",
        session_expiry=77,
        receive_maximum=3,
        maximum_packet_size=262_144,
        request_problem_information=False,
    )
    assert connect.will is None


@pytest.mark.parametrize(
    ("clean_start", "expiry", "flags", "discarded"),
    [
        (True, 0, [True], False),
        (True, 60, [True, False], False),
        (False, 60, [False], False),
        (False, 0, [False], True),
    ],
)
async def test_mqtt_3_1_1_sessions_may_need_a_second_connection(
    clean_start: bool, expiry: int, flags: list[bool], discarded: bool
) -> None:
    """One flag means both "start clean" and "end with the connection": to separate them takes a second connection."""
    target = FakeTarget(4)
    link, _, _ = await opened(target, clean_start=clean_start, expiry=expiry)
    assert [connect.clean_start for connect in target.connects()] == flags
    link.close()
    await settle()
    assert [connect.clean_start for connect in target.connects()] == flags + [True] * discarded


async def test_discard_ends_the_session_at_the_broker() -> None:
    for version, connects in ((5, 1), (4, 2)):
        target = FakeTarget(cast("Version", version))
        link, transport, _ = await opened(target, clean_start=False, expiry=60)
        link.close(discard=True)
        await settle()
        assert len(target.connects()) == connects
        assert transport.received[-1] == Disconnect(session_expiry=0 if version == 5 else None)


async def test_delivery_waits_for_resume() -> None:
    target = FakeTarget()
    target.connack = None
    task = asyncio.create_task(broker_at(target).open(opening(clean_start=False, expiry=60), collector := Collector()))
    await settle()
    waiting = [Publish(f"{PREFIX}/a", b"%d" % number, 1, packet_id=number) for number in (1, 2)]
    target.transports[0].send(ConnAck(session_present=True), *waiting)  # in one packet of bytes
    link = await task
    assert link.session_present
    await settle()
    assert collector.received == []
    assert not target.transports[0].reading
    link.resume()
    assert collector.payloads == [b"1", b"2"]
    link.acknowledge(2)
    await settle()
    assert target.transports[0].received[1:] == [PubAck(2)]


async def test_pause_stops_delivery_between_two_messages() -> None:
    link, transport, collector = await opened(FakeTarget())
    link.resume()
    collector.on_deliver = lambda _: link.pause()
    transport.send(*(Publish(f"{PREFIX}/a", b"%d" % number) for number in range(3)))
    await settle()
    assert collector.payloads == [b"0"]
    assert not transport.reading
    link.resume()
    assert collector.payloads == [b"0", b"1"]
    collector.on_deliver = lambda _: None
    link.resume()
    assert collector.payloads == [b"0", b"1", b"2"]
    assert transport.reading


async def test_the_receive_maximum_of_a_device_holds_for_mqtt_3_1_1() -> None:
    """MQTT 3.1.1 cannot tell it to the broker, so further messages are held. Answers still reach the device."""
    link, transport, collector = await opened(FakeTarget(4), receive_maximum=1)
    link.resume()
    answers: list[Reason] = []
    link.publish(Message("p", b"", 1), answers.append)
    await settle()
    transport.send(*(Publish(f"{PREFIX}/a", b"%d" % n, 1, packet_id=n) for n in (1, 2, 3)), PubAck(1))
    await settle()
    assert collector.payloads == [b"1"]
    assert answers == [Reason.SUCCESS]
    link.acknowledge(1)
    assert collector.payloads == [b"1", b"2"]
    collector.on_deliver = lambda packet_id: link.acknowledge(packet_id or 0)
    link.acknowledge(2)
    await settle()
    assert collector.payloads == [b"1", b"2", b"3"]
    assert [packet for packet in transport.received if isinstance(packet, PubAck)] == [PubAck(1), PubAck(2), PubAck(3)]


async def test_held_messages_are_limited() -> None:
    link, transport, collector = await opened(FakeTarget(4), receive_maximum=1)
    link.resume()
    for number in range(1, 1001):
        transport.send(Publish(f"{PREFIX}/a", b"%d" % number, 1, packet_id=number))
    await settle()
    assert not transport.reading
    assert len(collector.received) == 1
    for number in range(1, 1001):
        link.acknowledge(number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [int(payload) for payload in collector.payloads] == list(range(1, 1001))


@pytest.mark.parametrize(
    "data",
    [
        b"\xf0\x00" * 10,
        b"garbage " * 20,
        b"\x30\xff\xff\xff\x7f",
        encode(PubAck(9), 5),
        encode(SubAck(1, (Reason.SUCCESS,)), 5),
        encode(Publish("t", b"", 2, packet_id=1), 5),
        encode(ConnAck(), 5),
    ],
    ids=lambda data: data[:4].hex(),
)
async def test_protocol_errors_of_the_broker_end_the_link(data: bytes) -> None:
    link, transport, collector = await opened(FakeTarget())
    link.resume()
    answers: list[Reason] = []
    link.publish(Message("p", b"", 1), answers.append)
    transport.send_bytes(data)
    await settle()
    assert collector.reasons == [Reason.SERVER_BUSY]
    assert answers == [Reason.UNSPECIFIED_ERROR]
    assert transport.closed
    assert isinstance(transport.received[-1], Disconnect)
    assert transport.received[-1].reason.failed
    link.publish(Message("p", b"", 1), answers.append)
    link.subscribe([Subscription("a", 1)], answers.extend)
    link.close()
    link.acknowledge(1)
    assert answers == [Reason.UNSPECIFIED_ERROR] * 3
    assert link.congestion() is None


async def test_messages_of_another_scope_are_not_delivered() -> None:
    link, transport, collector = await opened(FakeTarget())
    link.resume()
    with capture_logs() as logs:
        transport.send(Publish("999999999999/us-east-1/a", b"", 1, packet_id=1), Publish(f"{PREFIX}/a", b"mine"))
        await settle()
    assert collector.payloads == [b"mine"]
    assert transport.received[1:] == [PubAck(1)]
    assert len(logs) == 1


async def test_filters_without_a_name_are_refused() -> None:
    link, transport, _ = await opened(FakeTarget())
    answers: list[Reason] = []
    subscriptions = [Subscription("a\x01", 1), Subscription("b", 1, no_local=True), Subscription("c\x01", 0)]
    link.resume()
    link.subscribe(subscriptions, answers.extend)
    await settle()
    assert transport.received[1] == Subscribe(1, (SubscriptionRequest(f"{PREFIX}/b", 1, no_local=True),))
    transport.send(SubAck(1, (Reason.GRANTED_QOS_1,)))
    await settle()
    assert answers == [Reason.TOPIC_FILTER_INVALID, Reason.GRANTED_QOS_1, Reason.TOPIC_FILTER_INVALID]
    link.unsubscribe(["a\x01"], answers.extend)
    assert answers[3:] == [Reason.NO_SUBSCRIPTION_EXISTED]


@pytest.mark.parametrize("version", [5, 4])
async def test_properties_are_sent_only_in_mqtt_5(version: Version) -> None:
    link, transport, _ = await opened(FakeTarget(version))
    answers: list[Reason] = []
    properties = MessageProperties(message_expiry=5, response_topic="r")
    link.publish(Message("a", b"", 0, properties=properties), answers.append)
    bad = MessageProperties(content_type="\x01")
    link.publish(Message("a", b"", 0, properties=bad), answers.append)
    await settle()
    sent = [packet.properties for packet in transport.received if isinstance(packet, Publish)]
    if version == 5:
        assert sent == [MessageProperties(message_expiry=5, response_topic=f"{PREFIX}/r")]
        assert answers == [Reason.SUCCESS, Reason.IMPLEMENTATION_SPECIFIC_ERROR]
    else:
        assert sent == [MessageProperties()] * 2
        assert answers == [Reason.SUCCESS] * 2


async def test_a_congested_link_refuses_messages() -> None:
    link, transport, _ = await opened(FakeTarget())
    assert link.congestion() is None
    link.pause_writing()
    waiting = link.congestion()
    assert waiting is not None
    answers: list[Reason] = []
    link.publish(Message("a", b"", 0), answers.append)
    assert answers == [Reason.QUOTA_EXCEEDED]
    task = asyncio.create_task(waiting)
    await settle()
    assert not task.done()
    link.resume_writing()
    await task
    link.pause_writing()
    waiting = link.congestion()
    assert waiting is not None
    task = asyncio.create_task(waiting)
    await settle()
    transport.close()
    await task


async def test_disconnect_of_the_broker_becomes_taken_over_or_busy() -> None:
    """The connection of another gateway took over, which this one cannot know."""
    for reason, expected in (
        (Reason.SESSION_TAKEN_OVER, Reason.SESSION_TAKEN_OVER),
        (Reason.NOT_AUTHORIZED, Reason.SERVER_BUSY),
    ):
        link, transport, collector = await opened(FakeTarget())
        link.resume()
        transport.send(Disconnect(reason))
        await settle()
        assert collector.reasons == [expected]


@pytest.mark.parametrize("version", [4, 5])
async def test_discard_ends_the_session_of_a_disconnected_device(version: Version) -> None:
    target = FakeTarget(version)
    target.polite = False
    broker = broker_at(target)
    link = await broker.open(opening(clean_start=False, expiry=60), Collector())
    link.close()
    broker.discard(SCOPE, "d")
    await settle()
    assert len(target.connects()) == 1  # waits until the broker has closed the connection
    target.polite = True
    target.transports[0].close()
    again = await broker.open(opening(clean_start=False, expiry=60), Collector())
    ending = target.connects()[1]
    assert (ending.client_id, ending.clean_start, ending.session_expiry) == (target.connects()[0].client_id, True, 0)
    assert isinstance(target.transports[1].received[-1], Disconnect)
    assert [connect.clean_start for connect in target.connects()] == [False, True, False]
    assert not again.ended


async def test_discard_keeps_the_session_of_a_connected_device() -> None:
    target = FakeTarget()
    broker = broker_at(target)
    link = await broker.open(opening(clean_start=False, expiry=60), Collector())
    broker.discard(SCOPE, "d")
    link.close()
    await broker.open(opening(clean_start=False, expiry=60), Collector())
    await settle()
    assert [connect.clean_start for connect in target.connects()] == [False, False]


async def test_a_takeover_waits_until_the_old_connection_is_closed() -> None:
    """A broker may handle two connections in any order."""
    target = FakeTarget()
    target.polite = False
    broker = broker_at(target)
    first, second = Collector(), Collector()
    await broker.open(opening(), first)
    task = asyncio.create_task(broker.open(opening(), second))
    await settle()
    assert first.reasons == [Reason.SESSION_TAKEN_OVER]
    assert isinstance(target.transports[0].received[-1], Disconnect)
    assert len(target.transports) == 1
    target.transports[0].close()
    await task
    assert len(target.transports) == 2
    assert (first.reasons, second.reasons) == ([Reason.SESSION_TAKEN_OVER], [])


async def test_a_link_may_be_taken_over_before_it_opens() -> None:
    target = FakeTarget()
    target.connack = None
    broker = broker_at(target)
    collectors = [Collector() for _ in range(3)]
    tasks = [asyncio.create_task(broker.open(opening(), collector)) for collector in collectors]
    await settle()
    assert len(target.transports) == 1  # the second one does not connect at all
    target.connack = ConnAck()
    target.transports[0].send(ConnAck())
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, Unavailable) for result in results] == [True, True, False]
    assert [collector.reasons for collector in collectors] == [[Reason.SESSION_TAKEN_OVER]] * 2 + [[]]
    assert len(target.transports) == 2
    assert target.transports[0].closed
    assert not target.transports[1].closed


@pytest.mark.parametrize("trouble", ["down", "silent", "refuses", "closes", "garbage"])
async def test_an_unreachable_broker_refuses_devices_and_is_logged_once(trouble: str) -> None:
    target = FakeTarget()
    target.down = trouble == "down"
    target.connack = ConnAck(Reason.NOT_AUTHORIZED) if trouble == "refuses" else None
    broker = broker_at(target)
    with capture_logs() as logs:
        for _ in range(2):
            task = asyncio.create_task(broker.open(opening(), collector := Collector()))
            await settle()
            if trouble == "closes":
                target.transports[-1].close()
            if trouble == "garbage":
                target.transports[-1].send_bytes(b"garbage " * 20)
            with pytest.raises(Unavailable):
                await task
            assert collector.reasons == []
    errors = [line for line in logs if line["log_level"] == "error"]
    assert len(errors) == 1  # not one for each device
    assert "secret" not in str(logs)
    assert all(transport.closed for transport in target.transports)
    target.down, target.connack = False, ConnAck()
    await broker.open(opening(), Collector())


def test_features_depend_on_the_dialect() -> None:
    assert broker_at(FakeTarget(), dialect=STANDARD).features.shared_subscriptions
    assert not broker_at(FakeTarget(), dialect=RABBITMQ).features.shared_subscriptions


async def test_stop_ends_all_links() -> None:
    target = FakeTarget()
    broker = broker_at(target)
    await broker.start()
    await settle()
    collector = Collector()
    await broker.open(opening(), collector)
    await broker.stop()
    assert collector.reasons == [Reason.SERVER_SHUTTING_DOWN]
    assert [type(transport.received[-1]) for transport in target.transports] == [Disconnect, Disconnect]
    with pytest.raises(Unavailable):
        await broker.open(opening(), collector)


async def test_a_silent_broker_ends_the_link() -> None:
    link, transport, collector = await opened(FakeTarget())
    link.resume()
    now = asyncio.get_running_loop().time()
    link.tick(now + 31)
    assert collector.reasons == []
    link.tick(now + 60)
    assert collector.reasons == [Reason.SERVER_BUSY]
    assert transport.closed


async def test_the_device_is_disconnected_before_its_messages_fail() -> None:
    """After a PUBACK with a failure, the device would drop messages that it should send again."""
    for take_over in (True, False):
        target = FakeTarget()
        broker = broker_at(target)
        seen: list[object] = []
        collector = Collector()
        collector.reasons = seen  # type: ignore[assignment]  # one list for both, to see their order
        link = await broker.open(opening(), collector)
        link.publish(Message("a", b"", 1), seen.append)
        if take_over:
            await broker.open(opening(), Collector())
        else:
            target.transports[0].close()
            await settle()
        assert seen == [Reason.SESSION_TAKEN_OVER if take_over else Reason.SERVER_BUSY, Reason.UNSPECIFIED_ERROR]


async def test_acknowledgements_are_sent_together() -> None:
    link, transport, _ = await opened(FakeTarget())
    link.resume()
    transport.send(*(Publish(f"{PREFIX}/a", b"", 1, packet_id=number) for number in range(1, 6)))
    await settle()
    writes = 0
    write = transport.write

    def count(data: bytes) -> None:
        nonlocal writes
        writes += 1
        write(data)

    transport.write = count  # type: ignore[method-assign]
    for number in range(1, 6):
        link.acknowledge(number)
    await settle()
    assert writes == 1
    assert [packet for packet in transport.received if isinstance(packet, PubAck)] == [PubAck(n) for n in range(1, 6)]


async def test_a_refused_session_is_not_discarded() -> None:
    target = FakeTarget(4)
    target.connack = ConnAck(Reason.NOT_AUTHORIZED)
    with pytest.raises(Unavailable):
        await broker_at(target).open(opening(clean_start=False), Collector())
    await settle()
    assert len(target.connects()) == 1


@pytest.mark.parametrize("version", [4, 5])
async def test_unwanted_retained_messages_are_not_delivered(version: Any) -> None:
    """MQTT 3.1.1 has no option for it, so the messages are dropped. MQTT 5 has one, and the broker obeys."""
    link, transport, collector = await opened(FakeTarget(version))
    link.resume()
    link.subscribe([Subscription("w/+", 1, retain_handling=2), Subscription("w/exact", 1)], lambda _: None)
    await settle()
    for number, (topic, retain) in enumerate([("w/a", True), ("w/a", False), ("w/exact", True), ("other", True)], 1):
        transport.send(Publish(f"{PREFIX}/{topic}", b"", 1, retain, packet_id=number))
    await settle()
    came = [(message.topic, message.retain) for message, _, _ in collector.received]
    expected = [("w/a", True), ("w/a", False), ("w/exact", True), ("other", True)]
    assert came == expected[1 if version == 4 else 0 :]
    assert (PubAck(1) in transport.received) is (version == 4)  # the broker need not send it again
    link.unsubscribe(["w/+"], lambda _: None)
    transport.send(Publish(f"{PREFIX}/w/a", b"", 0, True))
    await settle()
    assert collector.received[-1][0].topic == "w/a"


async def test_many_messages_of_a_broker_are_handled_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here each message takes as much time as a turn has."""
    monkeypatch.setattr("thingmint.mqtt.broker.upstream.connection._TURN", -1)
    link, transport, collector = await opened(FakeTarget())
    link.resume()
    messages = [Publish(f"{PREFIX}/a", str(number).encode(), 0) for number in range(10)]
    link.data_received(b"".join(encode(each, 5) for each in messages))
    for number in range(1, 11):
        assert len(collector.received) == number
        assert transport.reading is (number == 10 and not link._is_turn_due)
        await asyncio.sleep(0)
    await settle()
    assert transport.reading
    assert collector.payloads == [str(number).encode() for number in range(10)]
