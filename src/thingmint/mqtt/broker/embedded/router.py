"""One scope of the embedded broker: sessions, subscriptions and retained messages."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from thingmint.domain.errors import Throttled
from thingmint.mqtt.broker.embedded.retained import RetainedMessages
from thingmint.mqtt.broker.embedded.session import Session
from thingmint.mqtt.broker.embedded.subscribers import FanOut, Subscribers
from thingmint.mqtt.broker.messages import shown_as, with_remaining_expiry
from thingmint.mqtt.broker.topics import FilterTree, split_shared
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from thingmint.domain.messages import Message
    from thingmint.mqtt.broker.embedded.session import Parts, Pending, Share
    from thingmint.mqtt.broker.interface import Aged, Opening, Subscriber, Subscription
    from thingmint.mqtt.broker.limits import Budget


_FEW = 4  # subscribers that a message is delivered to without slices: that fits into a device's turn


class Account:
    """The budgets of an account in all its regions, and the objects that its sessions share."""

    __slots__ = ("__weakref__", "parts", "retained", "sessions")

    def __init__(self, sessions: Budget, retained: Budget, parts: Parts) -> None:
        self.sessions = sessions
        self.retained = retained
        self.parts = parts


class Router:
    """``emptied`` is called when there are no sessions, retained messages or unfinished work.

    Messages are delivered one after the other; a message with many subscribers is delivered in slices.
    """

    def __init__(self, account: Account, emptied: Callable[[], None]) -> None:
        self._account = account
        self._parts = account.parts
        self._emptied = emptied
        self._sessions: dict[str, Session] = {}
        self._filters: FilterTree[Subscribers] = FilterTree()
        parts = self._parts
        self._retained = RetainedMessages(account.retained, parts.deadlines, parts.limits.levels, self.settle)
        self._published = 0  # messages, since the start
        self._fan_out: FanOut | None = None  # the delivery that is under way
        self._unfinished = 0  # messages that are being delivered, or wait for it
        self._unsent = 0  # messages of the gateway among them

    def settle(self) -> None:
        parts = self._parts
        if not self._sessions and not self._retained and not parts.slices.has_waiting(parts.account, self):
            self._emptied()

    def session_for(self, opening: Opening) -> tuple[Session, bool]:
        """Returns the session for a new connection, detached, and True if it existed before. Raises Throttled."""
        client_id = opening.client_id
        known = self._sessions.get(client_id)
        if known is not None and self._lasts(known) and not opening.clean_start:
            known.detach()
            self._parts.deadlines.clear(known)
            return known, True
        if known is None and not self._account.sessions.take(0):
            raise Throttled("Too many sessions")
        session = self._sessions[client_id] = Session(client_id, self._parts)
        if known is not None:
            self._dismantle(known)
        return session, False

    def subscriber(self, client_id: str) -> Subscriber | None:
        """Returns the subscriber of the session's current connection, if any."""
        session = self._sessions.get(client_id)
        return None if session is None else session.subscriber

    def _lasts(self, session: Session) -> bool:
        """True if a session outlives its last or current connection (MQTT 5, 3.1.2.11.2)."""
        has_expired = self._parts.deadlines.is_due(session, self._parts.clock())  # but is not removed yet
        return not has_expired and (session.subscriber is None or session.expiry > 0)

    def has_session(self, client_id: str) -> bool:
        """True if a session waits for a client that is not connected."""
        session = self._sessions.get(client_id)
        return session is not None and session.subscriber is None and self._lasts(session)

    def subscriptions(self, client_id: str) -> Sequence[Subscription] | None:
        """Returns the subscriptions of a session that has not expired; None if there is none."""
        session = self._sessions.get(client_id)
        if session is None or self._parts.deadlines.is_due(session, self._parts.clock()):
            return None
        return tuple(session.subscriptions.values())

    def queued(self, client_id: str) -> int:
        session = self._sessions.get(client_id)
        return 0 if session is None else session.queued

    def discard(self, client_id: str) -> None:
        session = self._sessions.get(client_id)
        if session is not None and session.subscriber is None:
            self._end(session)

    def set_expiry(self, session: Session, seconds: int) -> None:
        session.expiry = min(seconds, self._parts.limits.expiry)

    def close(self, session: Session, *, discard: bool) -> None:
        if discard or session.expiry == 0:
            self._end(session)
            return
        session.detach()
        self._parts.deadlines.set(session, self._parts.clock() + session.expiry, partial(self._end, session))

    def stop(self) -> Iterator[None]:
        """Ends all connections. Messages of shared subscriptions are not passed to other members."""
        while self._sessions:
            _, session = self._sessions.popitem()
            subscriber = session.subscriber
            session.end()
            self._account.sessions.give_back(0)
            if subscriber is not None:
                subscriber.lost(Reason.SERVER_SHUTTING_DOWN)
            yield

    def publish_at_once(self, message: Message, publisher: Session) -> Reason | None:
        """Publishes without slices if that is little work. Returns None if ``publish`` has to do it."""
        if self._unfinished or message.retain:
            return None
        matching = self._filters.matching(message.topic)
        if not matching:
            return Reason.NO_MATCHING_SUBSCRIBERS if message.qos else Reason.SUCCESS
        if len(matching) > 1 or len(matching[0].direct) > _FEW or matching[0].groups:
            return None
        fan_out = FanOut(message, 0, matching, publisher, self._parts.clock())
        fan_out.run_for(tuple(matching[0].direct.items()))
        return fan_out.answer

    def publish(self, message: Message, publisher: Session | None, done: Callable[[Reason], None]) -> None:
        """Publishes in slices. Calls ``done`` with QUOTA_EXCEEDED if the message could not be retained.

        Then no subscriber gets it. The reason is the same if there are subscribers, but none of them has room.
        """
        self._unfinished += 1
        self._run(self._publish(message, publisher, done))

    def publish_own(self, message: Message, done: Callable[[Reason], None]) -> None:
        """Publishes a message of the gateway. It has no flow control: with too many messages, the rest is refused."""
        if self._unsent >= self._parts.limits.unsent_per_scope:
            done(Reason.QUOTA_EXCEEDED)
            return
        self._unsent += 1

        def sent(reason: Reason) -> None:
            self._unsent -= 1
            done(reason)

        self.publish(message, None, sent)

    def _publish(self, message: Message, publisher: Session | None, done: Callable[[Reason], None]) -> Iterator[None]:
        answer = Reason.UNSPECIFIED_ERROR
        try:
            now = self._parts.clock()
            name = publisher.client_id if publisher is not None else None
            if message.retain and not self._retained.keep(message, now, name):
                answer = Reason.QUOTA_EXCEEDED
                return
            matching = self._filters.matching(message.topic)
            if not matching:
                answer = Reason.NO_MATCHING_SUBSCRIBERS if message.qos else Reason.SUCCESS
                return
            self._published += 1
            fan_out = self._fan_out = FanOut(message, self._published, matching, publisher, now)
            yield from fan_out.run()
            answer = fan_out.answer
        finally:
            self._fan_out = None
            self._unfinished -= 1
            done(answer)
            self.settle()

    def retained_message(self, topic: str) -> Aged | None:
        return self._retained.of_topic(topic, self._parts.clock())

    def retained_after(self, topic: str, limit: int) -> list[Aged]:
        return self._retained.after(topic, limit, self._parts.clock())

    def subscribe(
        self, session: Session, subscriptions: Sequence[Subscription]
    ) -> tuple[Sequence[Reason], Iterator[None]]:
        """Returns the reasons, and the work that sends the retained messages."""
        if self._fan_out is not None:
            self._fan_out.reach(session)  # the message was published before this SUBSCRIBE
        reasons = []
        wanted = []
        limits = self._parts.limits
        for subscription in subscriptions:
            filter = subscription.filter
            group, topics = split_shared(filter)
            known = filter in session.subscriptions
            if not known and len(session.subscriptions) >= limits.subscriptions_per_session:
                reasons.append(Reason.QUOTA_EXCEEDED)
                continue
            if topics.count("/") >= limits.levels:
                reasons.append(Reason.QUOTA_EXCEEDED)
                continue
            subscribers = self._filters.get(topics)
            if subscribers is None:
                subscribers = Subscribers()
                self._filters.put(topics, subscribers)
            subscribers.put(session, group, subscription)
            session.subscriptions[filter] = subscription
            reasons.append(Reason.GRANTED_QOS_1 if subscription.qos else Reason.SUCCESS)
            if group is None and (
                subscription.retain_handling == 0 or (subscription.retain_handling == 1 and not known)
            ):
                wanted.append(subscription)
        return reasons, self._send_retained(session, session.link, wanted, self._retained.newest)

    def unsubscribe(self, session: Session, filter: str) -> Reason:
        if session.subscriptions.pop(filter, None) is None:
            return Reason.NO_SUBSCRIPTION_EXISTED
        group, topics = split_shared(filter)
        subscribers = self._filters.get(topics)
        assert subscribers is not None
        subscribers.remove(session, group)
        if not subscribers:
            self._filters.remove(topics)
        return Reason.SUCCESS

    def _send_retained(
        self, session: Session, link: object, wanted: Sequence[Subscription], newest: int
    ) -> Iterator[None]:
        """Sends retained messages until the link is closed, or the filter is unsubscribed or subscribed again."""
        for subscription in wanted:
            filter = subscription.filter
            for retained in self._retained.matching(filter, newest, self._parts.clock):
                if session.link is not link or session.subscriptions.get(filter) is not subscription:
                    break
                if retained is not None and not (subscription.no_local and retained.publisher == session.client_id):
                    # The retain flag stays set, whatever "retain as published" says (MQTT 5, 3.3.1.3).
                    message = shown_as(retained.message, min(retained.message.qos, subscription.qos), retain=True)
                    message = with_remaining_expiry(message, retained.expires_at, self._parts.clock())
                    session.send(message, retained.size, retained.expires_at, retained=True)
                yield

    def run_for(self, session: Session, work: Iterator[None]) -> None:
        """Runs ``work`` in slices, fairly between the account's sessions."""
        self._parts.slices.run(self._parts.account, session, work)

    def _run(self, work: Iterator[None]) -> None:
        self._parts.slices.run(self._parts.account, self, work)

    def _end(self, session: Session) -> None:
        del self._sessions[session.client_id]
        self._account.sessions.give_back(0)
        self._dismantle(session)
        self.settle()

    def _dismantle(self, session: Session) -> None:
        self._parts.deadlines.clear(session)
        for filter in tuple(session.subscriptions):
            self.unsubscribe(session, filter)
        shared = [pending for pending in session.end() if pending.share is not None]
        if shared:
            self._run(self._redistribute(shared))

    def _redistribute(self, shared: Sequence[Pending]) -> Iterator[None]:
        """Sends messages that a member of a group did not acknowledge to another member (MQTT 5, 4.8.2)."""
        for pending in shared:
            if pending.expires_at is None or pending.expires_at > self._parts.clock():
                assert pending.share is not None
                self._send_to_group(pending.share, pending)
            yield
        self.settle()

    def _send_to_group(self, share: Share, pending: Pending) -> None:
        group, topics = split_shared(share.filter)
        subscribers = self._filters.get(topics)
        if group is not None and subscribers is not None and group in subscribers.groups:
            subscribers.groups[group].send(share.published, pending.size, pending.expires_at)
