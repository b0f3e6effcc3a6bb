"""Compares the broker with a naive one, which searches lists, over random actions of devices.

Two scopes have clients, topics and groups of the same names. After each step the messages of each device are compared,
with their order, packet ids and DUP. So no message is lost, repeated, out of order or in the wrong scope.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.vectors import FakeMonotonic
from thingmint.domain.arns import Scope
from thingmint.mqtt.broker.interface import Subscription
from thingmint.mqtt.protocol.reasons import Reason

from .helpers import ELSEWHERE, HERE, Device, broker_with, expire, message, naive_match

if TYPE_CHECKING:
    from thingmint.domain.messages import QoS

Who = tuple[Scope, str]
Expected = tuple[str, int, bool, bool]  # text, QoS, retain, again

WHO = st.tuples(st.sampled_from([HERE, ELSEWHERE]), st.sampled_from(["x", "y", "z"]))
TOPICS = st.sampled_from(["a", "a/b", "b/b", "$a/b"])
# No topic is in two groups: the order of their copies is undefined.
SHARED = ["$share/g/a/b", "$share/g/$a/#", "$share/h/b/+"]
FILTERS = st.sampled_from(["a", "a/b", "b/b", "+", "a/#", "+/b", "#", "$a/#", *SHARED])
QOS = st.sampled_from([0, 1, 1])


@dataclass
class Owed:
    text: str
    retain: bool
    expires_at: float
    share: tuple[str, NaiveMessage] | None
    device_has_seen_it: bool = False


@dataclass
class NaiveMessage:
    topic: str
    text: str
    qos: QoS
    retain: bool
    expires_at: float


@dataclass
class NaiveSession:
    expiry: int
    window: int
    connected: bool = True
    flowing: bool = False
    ends_at: float = float("inf")
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    owed: list[Owed] = field(default_factory=list)
    under_way: int = 0  # of these, the number that was delivered and not acknowledged
    got: list[Expected] = field(default_factory=list)  # on this connection

    def flush(self, now: float) -> None:
        while self.flowing and self.under_way < min(self.window, len(self.owed)):
            owed = self.owed[self.under_way]
            if owed.expires_at <= now and not owed.device_has_seen_it:
                self.owed.remove(owed)
                continue
            self.got.append((owed.text, 1, owed.retain, owed.device_has_seen_it))
            owed.device_has_seen_it = True
            self.under_way += 1


@dataclass
class NaiveGroup:
    """Client ids, the next one first. ``waiting``: members with QoS 1 to which no messages flow."""

    flowing: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    def place(self, client_id: str, session: NaiveSession | None, filter: str) -> None:
        wanted = None
        if session is not None and (subscription := session.subscriptions.get(filter)) is not None:
            wanted = self.flowing if session.flowing else self.waiting if subscription.qos else None
        for each in (self.flowing, self.waiting):
            if each is not wanted and client_id in each:
                each.remove(client_id)
        if wanted is not None and client_id not in wanted:
            wanted.append(client_id)


class NaiveBroker:
    def __init__(self, clock: FakeMonotonic) -> None:
        self.clock = clock
        self.sessions: dict[Who, NaiveSession] = {}
        self.retained: dict[tuple[Scope, str], tuple[NaiveMessage, str]] = {}
        self.groups: dict[tuple[Scope, str], NaiveGroup] = {}

    def send(
        self, session: NaiveSession, out: NaiveMessage, retain: bool, share: tuple[str, NaiveMessage] | None
    ) -> None:
        if out.qos == 0:
            if session.flowing:
                session.got.append((out.text, 0, retain, False))
            return
        session.owed.append(Owed(out.text, retain, out.expires_at, share))
        session.flush(self.clock.now)

    def publish(self, scope: Scope, publisher: str, out: NaiveMessage) -> bool:
        if out.retain:
            self.retained.pop((scope, out.topic), None)
            if out.text:
                self.retained[scope, out.topic] = (out, publisher)
        matched = False
        for (where, client_id), session in list(self.sessions.items()):
            matching = [
                subscription
                for filter, subscription in session.subscriptions.items()
                if where == scope
                and not filter.startswith("$share/")
                and naive_match(filter, out.topic)
                and not (subscription.no_local and client_id == publisher)
            ]
            if not matching:
                continue
            matched = True
            qos = min(out.qos, max(subscription.qos for subscription in matching))
            retain = out.retain and any(subscription.retain_as_published for subscription in matching)
            self.send(session, NaiveMessage(out.topic, out.text, qos, retain, out.expires_at), retain, None)
        for where, filter in list(self.groups):
            if where == scope and self.has_members(scope, filter) and naive_match(filter.split("/", 2)[2], out.topic):
                matched = True
                self.share_out(scope, filter, out)
        return matched

    def has_members(self, scope: Scope, filter: str) -> bool:
        return any(who[0] == scope and filter in session.subscriptions for who, session in self.sessions.items())

    def place(self, who: Who) -> None:
        """Updates the groups of ``who`` after a change."""
        for (scope, filter), group in self.groups.items():
            if scope == who[0]:
                group.place(who[1], self.sessions.get(who), filter)

    def share_out(self, scope: Scope, filter: str, out: NaiveMessage) -> None:
        group = self.groups[scope, filter]
        chosen = group.flowing or (group.waiting if out.qos else [])
        if not chosen:
            return
        chosen.append(chosen.pop(0))
        session = self.sessions[scope, chosen[-1]]
        qos = min(out.qos, session.subscriptions[filter].qos)
        retain = out.retain and session.subscriptions[filter].retain_as_published
        self.send(session, NaiveMessage(out.topic, out.text, qos, retain, out.expires_at), retain, (filter, out))

    def end(self, who: Who) -> None:
        session = self.sessions.pop(who)
        self.place(who)
        for owed in session.owed:
            if owed.share and owed.expires_at > self.clock.now:
                self.share_out(who[0], *owed.share)

    def disconnect(self, who: Who, *, discard: bool) -> None:
        session = self.sessions[who]
        session.connected = session.flowing = False
        session.under_way = 0
        self.place(who)
        session.ends_at = self.clock.now + session.expiry
        if discard or not session.expiry:
            self.end(who)

    def expire(self, only: Who | None = None) -> None:
        for who in sorted(self.sessions, key=lambda who: self.sessions[who].ends_at):
            if only is not None and who != only:
                continue
            if not self.sessions[who].connected and self.sessions[who].ends_at <= self.clock.now:
                self.end(who)


class Brokers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeMonotonic()
        self.broker = broker_with(self.clock)
        self.naive = NaiveBroker(self.clock)
        self.devices: dict[Who, Device] = {}
        self.done: dict[Who, set[int]] = {}  # packet ids that were acknowledged on this connection
        self.numbers = itertools.count()

    @rule(
        who=WHO,
        clean_start=st.sampled_from([False, False, True]),
        expiry=st.sampled_from([0, 10, 50]),
        window=st.integers(1, 3),
        resume=st.sampled_from([True, True, False]),
    )
    def connect(self, who: Who, clean_start: bool, expiry: int, window: int, resume: bool) -> None:
        former = self.devices.get(who)
        self.naive.expire(who)  # other sessions end at the next sweep
        known = self.naive.sessions.get(who)
        if known is not None and known.connected:
            self.naive.disconnect(who, discard=clean_start)
        elif known is not None and clean_start:
            self.naive.end(who)
        present = who in self.naive.sessions
        session = self.naive.sessions.setdefault(who, NaiveSession(expiry, window))
        session.expiry, session.window, session.connected, session.ends_at = expiry, window, True, float("inf")
        session.got = []
        self.done[who] = set()
        scope, client_id = who
        device = self.devices[who] = Device(
            self.broker,
            client_id,
            scope,
            clean_start=clean_start,
            expiry=expiry,
            receive_maximum=window,
            resume=False,
        )
        assert device.link.session_present is present
        if former is not None:
            assert former.losses == [Reason.SESSION_TAKEN_OVER]
        if resume:
            self.pause_or_resume(who, False)

    @precondition(lambda self: self.devices)
    @rule(data=st.data(), discard=st.sampled_from([False, False, True]))
    def disconnect(self, data: st.DataObject, discard: bool) -> None:
        who = data.draw(st.sampled_from(sorted(self.devices)))
        self.naive.disconnect(who, discard=discard)
        device = self.devices.pop(who)
        device.link.close(discard=discard)
        assert device.losses == []

    @precondition(lambda self: self.devices)
    @rule(data=st.data(), paused=st.booleans())
    def pause_or_resume_any(self, data: st.DataObject, paused: bool) -> None:
        self.pause_or_resume(data.draw(st.sampled_from(sorted(self.devices))), paused)

    def pause_or_resume(self, who: Who, paused: bool) -> None:
        session = self.naive.sessions[who]
        session.flowing = not paused
        self.naive.place(who)
        session.flush(self.clock.now)
        if paused:
            self.devices[who].link.pause()
        else:
            self.devices[who].link.resume()

    @precondition(lambda self: self.devices)
    @rule(data=st.data(), filter=FILTERS, qos=QOS, no_local=st.booleans(), as_published=st.booleans())
    def subscribe(self, data: st.DataObject, filter: str, qos: QoS, no_local: bool, as_published: bool) -> None:
        who = data.draw(st.sampled_from(sorted(self.devices)))
        session = self.naive.sessions[who]
        shared, wild = filter.startswith("$share/"), "+" in filter or "#" in filter
        # The order of several retained messages is undefined; test_retained.py tests them.
        handling = 2 if wild or not session.flowing else data.draw(st.integers(0, 2))
        subscription = Subscription(filter, qos, no_local and not shared, as_published, handling)  # type: ignore[arg-type]
        known = filter in session.subscriptions
        session.subscriptions[filter] = subscription
        if shared:
            self.naive.groups.setdefault((who[0], filter), NaiveGroup())
            self.naive.place(who)
        retained, publisher = self.naive.retained.get((who[0], filter), (None, None))
        if retained is not None and (handling == 0 or (handling == 1 and not known)):
            own = subscription.no_local and publisher == who[1]
            if retained.expires_at > self.clock.now and not own:
                qos = min(qos, retained.qos)
                out = NaiveMessage(filter, retained.text, qos, True, retained.expires_at)
                self.naive.send(session, out, True, None)
        assert self.devices[who].subscribe_all([subscription]) == [subscription.qos]

    @precondition(lambda self: self.devices)
    @rule(data=st.data(), filter=FILTERS)
    def unsubscribe(self, data: st.DataObject, filter: str) -> None:
        who = data.draw(st.sampled_from(sorted(self.devices)))
        existed = self.naive.sessions[who].subscriptions.pop(filter, None) is not None
        self.naive.place(who)
        expected = Reason.SUCCESS if existed else Reason.NO_SUBSCRIPTION_EXISTED
        assert self.devices[who].unsubscribe(filter) == [expected]

    @precondition(lambda self: self.devices)
    @rule(
        data=st.data(),
        topic=TOPICS,
        qos=QOS,
        retain=st.sampled_from([False, False, True]),
        empty=st.sampled_from([False, False, True]),
        expiry=st.sampled_from([None, None, 5, 20]),
    )
    def publish(self, data: st.DataObject, topic: str, qos: QoS, retain: bool, empty: bool, expiry: int | None) -> None:
        scope, client_id = data.draw(st.sampled_from(sorted(self.devices)))
        text = "" if retain and empty else f"{next(self.numbers)} of {scope.account}"
        ends = float("inf") if expiry is None else self.clock.now + expiry
        matched = self.naive.publish(scope, client_id, NaiveMessage(topic, text, qos, retain, ends))
        properties = {} if expiry is None else {"message_expiry": expiry}
        answer = self.devices[scope, client_id].publish(topic, text, qos, retain=retain, **properties)
        assert answer is (Reason.SUCCESS if matched or not qos else Reason.NO_MATCHING_SUBSCRIBERS)

    @rule(scope=st.sampled_from([HERE, ELSEWHERE]), topic=TOPICS, qos=QOS)
    def publish_as_gateway(self, scope: Scope, topic: str, qos: QoS) -> None:
        text = f"{next(self.numbers)} of {scope.account}"
        self.naive.publish(scope, "", NaiveMessage(topic, text, qos, False, float("inf")))
        self.broker.publish(scope, message(topic, text, qos))

    @precondition(lambda self: any(session.under_way for session in self.naive.sessions.values()))
    @rule(data=st.data())
    def acknowledge_any(self, data: st.DataObject) -> None:
        who = data.draw(st.sampled_from(sorted(who for who in self.devices if self.naive.sessions[who].under_way)))
        self.acknowledge(who, data.draw(st.integers(0, self.naive.sessions[who].under_way - 1)))

    def acknowledge(self, who: Who, place: int) -> None:
        session, device = self.naive.sessions[who], self.devices[who]
        under_way = [got.packet_id for got in device.got if got.packet_id and got.packet_id not in self.done[who]]
        session.owed.pop(place)
        session.under_way -= 1
        session.flush(self.clock.now)
        self.done[who].add(under_way[place])
        device.link.acknowledge(under_way[place])

    @rule(seconds=st.sampled_from([1, 6, 15, 40]), swept=st.booleans())
    def pass_time(self, seconds: int, swept: bool) -> None:
        self.clock.now += seconds
        if swept:
            expire(self.broker, self.clock.now)
            self.naive.expire()

    @invariant()
    def every_device_got_the_same(self) -> None:
        for who, device in self.devices.items():
            expected = self.naive.sessions[who].got
            assert [(got.text, got.message.qos, got.message.retain, got.again) for got in device.got] == expected, who
            assert all(not text or text.endswith(who[0].account) for text in device.texts)

    @invariant()
    def packet_ids_differ(self) -> None:
        for device in self.devices.values():
            packet_ids = [got.packet_id for got in device.got if got.packet_id is not None]
            assert len(packet_ids) == len(set(packet_ids))

    def teardown(self) -> None:
        """Devices that read and acknowledge get all messages; then the broker holds none."""
        for who in self.devices:
            self.pause_or_resume(who, False)
            while self.naive.sessions[who].owed:
                self.acknowledge(who, 0)
        self.every_device_got_the_same()
        for who, device in self.devices.items():
            self.naive.disconnect(who, discard=True)
            device.link.close(discard=True)
        all_owed = [owed for session in self.naive.sessions.values() for owed in session.owed]
        wanted = [owed for owed in all_owed if owed.device_has_seen_it or owed.expires_at > self.clock.now]
        assert len(wanted) <= self.broker.usage.queued.count <= len(all_owed)  # expired messages may not be swept yet
        self.clock.now += 100
        expire(self.broker, self.clock.now)
        assert self.broker.usage.sessions == 0
        assert (self.broker.usage.queued.count, self.broker.usage.queued.size) == (0, 0)


TestBrokers = Brokers.TestCase
TestBrokers.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
