"""The APIs' operations on messages and connections, with the embedded broker and with one that only answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.unit.mqtt.broker.embedded.helpers import broker_with
from tests.unit.mqtt.broker.upstream.fake_upstream import Collector
from tests.unit.vectors import FakeClock, FakeMonotonic
from tests.world import ABROAD, OURS, THEIRS
from thingmint.access.operations import Operation
from thingmint.domain.errors import Invalid, NotFound, Throttled, Unavailable, Unsupported
from thingmint.domain.messages import Message, MessageProperties
from thingmint.mqtt.broker.embedded import EmbeddedBroker
from thingmint.mqtt.broker.interface import Opening, Subscription, log_refusal
from thingmint.mqtt.broker.limits import Bound, EmbeddedLimits
from thingmint.mqtt.broker.upstream import Target, Upstream, UpstreamBroker
from thingmint.mqtt.connected_clients import ConnectedClients, ConnectionUsage
from thingmint.mqtt.connection_index import ConnectionIndex
from thingmint.mqtt.messages import GatewayMessages
from thingmint.mqtt.peer import Peer
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.services.messages import ConnectionFacts
from thingmint.services.pages import Cursor, Page, page_by_text, page_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.mqtt.broker.interface import Broker, Link
    from thingmint.services.change import Change, Query
    from thingmint.services.client_ids import Claim
    from thingmint.services.messages import Connection, Messages, RetainedMessage


class Device:
    """A device's connection, for ConnectionIndex and ConnectedClients."""

    version = 5
    is_accepted = True

    def __init__(self, certificate_id: str = "c", port: int = 1) -> None:
        self.certificate_id = certificate_id
        self.peer = Peer("192.0.2.1", port)
        self.ended: list[tuple[Reason, bool]] = []
        self.claim: Claim | None = None
        self.facts = ConnectionFacts(None, 60, 0, "192.0.2.1", port, "", 0)
        self.usage = ConnectionUsage(0, 0, 0, ())

    def reauthorize(self) -> None:
        return None

    def disconnect(self, reason: Reason, why: str, *, with_will: bool = False) -> None:
        self.ended.append((reason, with_will))

    def check_deadlines(self, now: float) -> None:
        pass


@dataclass
class Parts:
    broker: Broker
    clock: FakeClock = field(default_factory=FakeClock)
    index: ConnectionIndex = field(default_factory=ConnectionIndex)

    def __post_init__(self) -> None:
        self.clients = ConnectedClients(self.clock)
        self.messages = GatewayMessages(self.broker, self.index, self.clients, self.clock, answer_timeout=0.01)

    def connect(self, scope: Scope, client_id: str, **fields: Any) -> Device:
        device = Device(**fields)
        self.clients.add(scope, client_id, cast("Any", device))
        return device


def embedded(**limits: Any) -> Parts:
    return Parts(EmbeddedBroker(EmbeddedLimits(**limits)))


async def subscriber(broker: Broker, scope: Scope, filter: str) -> Collector:
    collector = Collector()
    link = await opened(broker, scope, "subscriber", collector)
    link.subscribe([Subscription(filter, 1)], lambda reasons: None)
    link.resume()
    return collector


async def opened(broker: Broker, scope: Scope, client_id: str, collector: Collector | None = None) -> Link:
    return await broker.open(Opening(scope, client_id, 5, False, 600, 100), collector or Collector())


# Like the operations of an API.


async def list_retained(world: World, messages: Messages, cursor: Cursor, scope: Scope = OURS) -> Page[RetainedMessage]:
    query = world.query(scope)
    fetch = partial(messages.retained_after, scope)
    return await page_by_text(query, cursor, "retained messages", fetch, lambda each: each.message.topic)


async def list_connections(world: World, messages: Messages, cursor: Cursor, scope: Scope = OURS) -> Page[Connection]:
    fetch = partial(messages.connections_after, scope)
    return await page_of(world.query(scope), cursor, "connections", fetch, lambda each: each.position)


async def all_pages(list_page: Callable[[Cursor], Any], limit: int) -> list[Any]:
    page = await list_page(Cursor(limit))
    found = list(page.items)
    while page.next_token is not None:
        assert len(page.items) == limit
        page = await list_page(Cursor(limit, page.next_token))
        assert page.items
        found += page.items
    return found


async def test_published_messages_reach_devices_of_the_same_account_and_region(world: World) -> None:
    reached = {scope: await subscriber(world.broker, scope, "a/#") for scope in (OURS, ABROAD, THEIRS)}
    properties = MessageProperties(content_type="text/plain", user_properties=(("k", "v"),), correlation_data=b"\0")
    message = Message("a/b", b"hello", 1, properties=properties)
    await world.environment.messages.publish(OURS, message)
    await world.environment.messages.publish(OURS, Message("no/subscriber", b""))
    assert [received[0] for received in reached[OURS].received] == [message]
    assert reached[ABROAD].received == reached[THEIRS].received == []


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (Message("", b""), "message"),
        (Message("a/+", b""), "message"),
        (Message("a/#", b""), "message"),
        (Message("a\0", b""), "message"),
        (Message("a\ud800", b""), "message"),
        (Message("$aws/events/x", b""), "topic"),
        (Message("$SYS/x", b""), "topic"),
        (Message("x" * 257, b""), "topic"),
        (Message("1/2/3/4/5/6/7/8/9", b""), "topic"),
        (Message("a", b"x" * (128 * 1024 + 1)), "message"),
        (Message("a", b"", properties=MessageProperties(content_type="x" * 65_536)), "message"),
        (Message("a", b"", properties=MessageProperties(content_type="\0")), "message"),
        (Message("a", b"", properties=MessageProperties(response_topic="a/#")), "message"),
        (Message("a", b"", properties=MessageProperties(message_expiry=2**32)), "message"),
        (Message("a", b"", properties=MessageProperties(message_expiry=-1)), "message"),
        (Message("a", b"", properties=MessageProperties(user_properties=(("k", "v" * 50_000),) * 3)), "message"),
    ],
)
async def test_messages_that_devices_could_not_publish_are_refused(world: World, message: Message, field: str) -> None:
    everything = await subscriber(world.broker, OURS, "#")
    with pytest.raises(Invalid) as refused:
        await world.environment.messages.publish(OURS, message)
    assert refused.value.field == field
    assert everything.received == []


async def test_retained_messages_are_read_and_listed_by_page(world: World) -> None:
    messages = world.environment.messages
    kept = [Message(f"t/{number:02}", b"%d" % number, 1, retain=True) for number in (3, 1, 4, 0, 2)]
    for message in kept:
        await messages.publish(OURS, message)
    await messages.publish(OURS, Message("t/03", b"newer", 0, retain=True))
    await messages.publish(OURS, Message("t/04", b"", 1, retain=True))  # removes the retained message
    await messages.publish(ABROAD, Message("t/01", b"abroad", retain=True))
    assert (await messages.retained_message(OURS, "t/01")).message == kept[1]
    for scope, topic in ((THEIRS, "t/01"), (OURS, "t/04"), (OURS, "t/+"), (OURS, "")):
        with pytest.raises(NotFound):
            await messages.retained_message(scope, topic)
    for limit in (1, 2, 3, 4, 100):
        listed = await all_pages(partial(list_retained, world, messages), limit)
        assert [each.message.payload for each in listed] == [b"0", b"1", b"2", b"newer"]
    abroad = await all_pages(partial(list_retained, world, messages, scope=ABROAD), 2)
    assert [each.message.payload for each in abroad] == [b"abroad"]
    assert await all_pages(partial(list_retained, world, messages, scope=THEIRS), 2) == []


async def test_a_page_token_is_valid_for_one_account(world: World) -> None:
    messages = world.environment.messages
    for topic in ("a", "b"):
        await messages.publish(OURS, Message(topic, b"x", retain=True))
    page = await list_retained(world, messages, Cursor(1))
    with pytest.raises(Invalid):
        await list_retained(world, messages, Cursor(1, page.next_token), THEIRS)


async def test_changes_between_pages_do_not_skip_or_repeat_topics(world: World) -> None:
    messages = world.environment.messages
    for topic in "bdfh":
        await messages.publish(OURS, Message(topic, b"1", retain=True))
    first = await list_retained(world, messages, Cursor(2))
    assert [each.message.topic for each in first.items] == ["b", "d"]
    for topic, payload in (("a", b"2"), ("b", b"2"), ("d", b""), ("e", b"2"), ("f", b"2")):
        await messages.publish(OURS, Message(topic, payload, retain=True))
    second = await list_retained(world, messages, Cursor(10, first.next_token))
    assert [each.message.topic for each in second.items] == ["e", "f", "h"]


async def test_a_retained_message_has_its_time_and_remaining_expiry() -> None:
    monotonic = FakeMonotonic()
    parts = Parts(EmbeddedBroker(clock=monotonic))
    lasting = MessageProperties(message_expiry=60)
    await parts.messages.publish(OURS, Message("a", b"x", retain=True, properties=lasting))
    published = parts.clock()
    monotonic.now += 20
    parts.clock.advance(seconds=20)
    found = await parts.messages.retained_message(OURS, "a")
    assert (found.modified_at, found.message.properties.message_expiry) == (published, 40)
    assert await parts.messages.retained_after(OURS, "", 10) == [found]
    monotonic.now += 40  # expired, but not removed yet
    with pytest.raises(NotFound):
        await parts.messages.retained_message(OURS, "a")
    assert await parts.messages.retained_after(OURS, "", 10) == []


async def test_connections_are_listed_oldest_first(world: World) -> None:
    parts = embedded()
    for number in range(5):
        parts.connect(OURS, f"d{number}", certificate_id=f"c{number}", port=number)
        if number == 2:
            parts.clock.advance(seconds=60)
    parts.connect(THEIRS, "d1")
    again = parts.connect(OURS, "d1", certificate_id="new", port=7)
    for limit in (1, 2, 5, 6):
        listed = await all_pages(partial(list_connections, world, parts.messages), limit)
        assert [each.client_id for each in listed] == ["d0", "d2", "d3", "d4", "d1"]
    assert len(await parts.messages.connections_after(OURS, None, 2)) == 2
    newest = listed[-1]
    assert (newest.certificate_id, newest.address, newest.port, newest.protocol) == ("new", "192.0.2.1", 7, "MQTT 5")
    assert [round((each.connected_at - parts.clock()).total_seconds()) for each in listed] == [-60, -60, 0, 0, 0]
    parts.clients.remove(
        OURS, "d1", cast("Any", Device()), "DUPLICATE_CLIENTID"
    )  # the connection that was taken over ends only now
    assert cast("Any", parts.clients.get(OURS, "d1")) is again
    for client_id in ("d0", "d1", "d2", "d3", "d4"):
        connection = parts.clients.get(OURS, client_id)
        assert connection is not None
        parts.clients.remove(OURS, client_id, connection, "CONNECTION_LOST")
    assert await all_pages(partial(list_connections, world, parts.messages), 2) == []
    assert [each.client_id for each in await parts.messages.connections_after(THEIRS, None, 10)] == ["d1"]


async def test_changes_between_pages_of_connections(world: World) -> None:
    parts = embedded()
    for name in "abcd":
        parts.connect(OURS, name)
    first = await list_connections(world, parts.messages, Cursor(2))
    for name in "ac":
        connection = parts.clients.get(OURS, name)
        assert connection is not None
        parts.clients.remove(OURS, name, connection, "CONNECTION_LOST")
    parts.connect(OURS, "e")
    second = await list_connections(world, parts.messages, Cursor(2, first.next_token))
    assert [each.client_id for page in (first, second) for each in page.items] == ["a", "b", "d", "e"]


@pytest.mark.parametrize("with_will", [False, True])
async def test_a_client_is_closed_only_in_its_account(with_will: bool) -> None:
    parts = embedded()
    ours, theirs = parts.connect(OURS, "d"), parts.connect(THEIRS, "d")
    assert await parts.messages.close_client(OURS, "d", with_will=with_will)
    assert (ours.ended, theirs.ended) == ([(Reason.ADMINISTRATIVE_ACTION, with_will)], [])
    assert not await parts.messages.close_client(ABROAD, "d")


async def test_client_ids_are_separate_for_each_yandex_device() -> None:
    parts = embedded()
    devices = [parts.connect(OURS, name) for name in ("d", "d#are1", "d#are2")]
    listed = await parts.messages.connections_after(OURS, None, 10)
    assert [(each.client_id, each.owner) for each in listed] == [("d", None), ("d", "are1"), ("d", "are2")]
    assert await parts.messages.close_client(OURS, "d", "are1")
    assert not await parts.messages.close_client(OURS, "d", "are3")
    assert [bool(device.ended) for device in devices] == [False, True, False]


async def test_a_discarded_session_is_new_on_reconnect() -> None:
    parts = Parts(broker_with())
    for discard in (False, True):
        for scope in (OURS, THEIRS):
            (await opened(parts.broker, scope, "d")).close()
        assert not await parts.messages.close_client(OURS, "d", discard=discard)
        assert (await opened(parts.broker, THEIRS, "d")).session_present
        assert (await opened(parts.broker, OURS, "d")).session_present == (not discard)
    link = await opened(parts.broker, OURS, "d")  # while a connection opens, its session is kept
    await parts.messages.close_client(OURS, "d", discard=True)
    link.close()
    assert (await opened(parts.broker, OURS, "d")).session_present


async def test_closing_a_certificate_closes_only_its_connections() -> None:
    parts = embedded()
    devices = {(scope, name): Device() for scope in (OURS, ABROAD, THEIRS) for name in ("c1", "c2")}
    for (scope, certificate_id), device in devices.items():
        parts.index.follow(cast("Any", device), [(*scope, "certificate", certificate_id)])
    second = Device()
    parts.index.follow(cast("Any", second), [(*OURS, "certificate", "c1"), (*OURS, "thing", "t")])
    assert await parts.messages.close_certificate(OURS, "c1") == 2
    assert await parts.messages.close_certificate(ABROAD, "c2") == 1
    assert await parts.messages.close_certificate(OURS, "none") == 0
    assert [key for key, device in devices.items() if device.ended] == [(OURS, "c1"), (ABROAD, "c2")]
    assert second.ended == [(Reason.ADMINISTRATIVE_ACTION, True)]


async def test_thousands_of_connections_are_closed_in_slices() -> None:
    parts = embedded()
    devices = [Device() for _ in range(2_000)]
    for device in devices:
        parts.index.follow(cast("Any", device), [(*OURS, "certificate", "claim")])
    assert await parts.messages.close_certificate(OURS, "claim", with_will=False) == 2_000
    assert all(device.ended == [(Reason.ADMINISTRATIVE_ACTION, False)] for device in devices)


async def test_limits_of_an_account_apply_to_api_messages() -> None:
    parts = embedded(retained_per_account=Bound(1, 10_000))
    await parts.messages.publish(OURS, Message("a", b"x", retain=True))
    with pytest.raises(Throttled):
        await parts.messages.publish(ABROAD, Message("b", b"x", retain=True))
    await parts.messages.publish(THEIRS, Message("b", b"x", retain=True))
    with pytest.raises(NotFound):
        await parts.messages.retained_message(ABROAD, "b")


class Answering(EmbeddedBroker):
    def __init__(self, reason: Reason | None) -> None:
        super().__init__()
        self._reason = reason

    def publish(self, scope: Scope, message: Message, done: Callable[[Reason], None] = log_refusal) -> None:
        self.done = done
        if self._reason is not None:
            done(self._reason)


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (None, Unavailable),
        (Reason.SERVER_SHUTTING_DOWN, Unavailable),
        (Reason.NOT_AUTHORIZED, Unavailable),
        (Reason.QUOTA_EXCEEDED, Throttled),
        (Reason.TOPIC_NAME_INVALID, Invalid),
        (Reason.IMPLEMENTATION_SPECIFIC_ERROR, Invalid),
    ],
)
async def test_answers_of_the_broker_become_errors(reason: Reason | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        await Parts(Answering(reason)).messages.publish(OURS, Message("a", b"x", 1))


async def test_a_late_answer_of_the_broker_is_unavailable() -> None:
    broker = Answering(None)
    with pytest.raises(Unavailable):
        await Parts(broker).messages.publish(OURS, Message("a", b"x", 1))
    broker.done(Reason.SUCCESS)  # too late: no effect


async def test_retained_messages_of_an_upstream_broker_are_unsupported() -> None:
    parts = Parts(UpstreamBroker(Upstream(Target("localhost", 1883))))
    with pytest.raises(Unsupported, match="subscribe to their topics"):
        await parts.messages.retained_message(OURS, "a")
    with pytest.raises(Unsupported, match="subscribe to their topics"):
        await parts.messages.retained_after(OURS, "", 10)


async def test_operations_can_publish_and_read_retained_messages(world: World) -> None:
    async def publish(change: Change, members: dict[str, Any]) -> None:
        await change.environment.messages.publish(
            change.scope, Message(members["topic"], members["payload"], retain=True)
        )

    async def published(tx: object, change: Change, members: object, _: None) -> dict[str, Any]:
        return {}

    async def get(tx: object, query: Query, members: dict[str, Any]) -> dict[str, Any]:
        found = await query.environment.messages.retained_message(query.scope, members["topic"])
        return {"payload": found.message.payload}

    publishing = Operation(name="Publish", prepare=publish, apply=published, writes=False)
    getting = Operation(name="GetRetainedMessage", apply=get, writes=False)
    assert await world.run(publishing, {"topic": "a", "payload": b"x"}) == {}
    assert await world.run(getting, {"topic": "a"}) == {"payload": b"x"}
    with pytest.raises(NotFound):
        await world.run(getting, {"topic": "a"}, THEIRS)


async def test_a_client_that_disconnected_is_known_for_half_an_hour() -> None:
    parts = embedded()
    device = parts.connect(OURS, "lamp")
    assert (await parts.messages.client(OURS, "lamp")).connected
    parts.clients.remove(OURS, "lamp", cast("Any", device), "CONNECTION_LOST")
    parts.clock.advance(minutes=29)
    state = await parts.messages.client(OURS, "lamp")
    assert (state.connected, state.reason, state.has_session) == (False, "CONNECTION_LOST", False)
    with pytest.raises(NotFound):
        await parts.messages.client(THEIRS, "lamp")
    parts.clock.advance(minutes=2)
    with pytest.raises(NotFound):
        await parts.messages.client(OURS, "lamp")


async def test_an_accounts_ended_connections_are_limited_and_others_are_kept() -> None:
    parts = embedded()
    for scope, count in ((THEIRS, 1), (OURS, 1002)):
        for number in range(count):
            device = parts.connect(scope, f"c{number}")
            parts.clients.remove(scope, f"c{number}", cast("Any", device), "CONNECTION_LOST")
    for client_id in ("c0", "c1"):
        with pytest.raises(NotFound):
            await parts.messages.client(OURS, client_id)
    for scope, client_id in ((OURS, "c2"), (OURS, "c1001"), (THEIRS, "c0")):
        assert not (await parts.messages.client(scope, client_id)).connected
