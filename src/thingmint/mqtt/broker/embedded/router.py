"""One scope of the embedded broker: its sessions, its subscriptions and its retained messages."""

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


_FEW = 4  # subscribers, so that no more is done at once than a device's turn allows


class Account:
    """What an account holds, in all its regions, and what its sessions share."""

    __slots__ = ("__weakref__", "parts", "retained", "sessions")

    def __init__(self, sessions: Budget, retained: Budget, parts: Parts) -> None:
        self.sessions = sessions
        self.retained = retained
        self.parts = parts


class Router:
    """``emptied`` is called when it holds nothing any more.

    Messages are given out one after the other, each in slices where it has many subscribers.
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
        self._fan_out: FanOut | None = None  # the one that is under way
        self._unfinished = 0  # messages that are given out, or wait for that
        self._unsent = 0  # of the gateway's own

    def settle(self) -> None:
        parts = self._parts
        if not self._sessions and not self._retained and not parts.slices.has_waiting(parts.account, self):
            self._emptied()

    def session_for(self, opening: Opening) -> tuple[Session, bool]:
        """The session of a new connection, without one, and whether it was there before. Raises Throttled."""
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
        """Of the connection that the session has now."""
        session = self._sessions.get(client_id)
        return None if session is None else session.subscriber

    def _lasts(self, session: Session) -> bool:
        """Whether it outlives the connection that it has (MQTT 5, 3.1.2.11.2), or had."""
        is_over = self._parts.deadlines.is_due(session, self._parts.clock())  # and only not swept yet
        return not is_over and (session.subscriber is None or session.expiry > 0)

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
        """Ends every connection; nothing is handed on."""
        while self._sessions:
            _, session = self._sessions.popitem()
            subscriber = session.subscriber
            session.end()
            self._account.sessions.give_back(0)
            if subscriber is not None:
                subscriber.lost(Reason.SERVER_SHUTTING_DOWN)
            yield

    def publish_at_once(self, message: Message, publisher: Session) -> Reason | None:
        """As ``publish`` does, where that is little work and none is under way; None if it was not done."""
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
        """``done`` with QUOTA_EXCEEDED if it could not be retained, and no subscriber got it, or if none had room."""
        self._unfinished += 1
        self._run(self._publish(message, publisher, done))

    def publish_own(self, message: Message, done: Callable[[Reason], None]) -> None:
        """A message of the gateway's, which nothing holds back: beyond a bound it is refused."""
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
        """With the work of sending the retained messages."""
        if self._fan_out is not None:
            self._fan_out.reach(session)  # it was published before
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
        """Until the link is closed or the filter unsubscribed; another SUBSCRIBE of it begins anew."""
        for subscription in wanted:
            filter = subscription.filter
            for retained in self._retained.matching(filter, newest, self._parts.clock):
                if session.link is not link or session.subscriptions.get(filter) is not subscription:
                    break
                if retained is not None and not (subscription.no_local and retained.publisher == session.client_id):
                    # Shown as retained whatever the subscription says of live ones (MQTT 5, 3.3.1.3).
                    message = shown_as(retained.message, min(retained.message.qos, subscription.qos), retain=True)
                    message = with_remaining_expiry(message, retained.expires_at, self._parts.clock())
                    session.send(message, retained.size, retained.expires_at, retained=True)
                yield

    def run_for(self, session: Session, work: Iterator[None]) -> None:
        """In slices, fairly between the account's sessions."""
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
            self._run(self._hand_on(shared))

    def _hand_on(self, shared: Sequence[Pending]) -> Iterator[None]:
        """What one member of a group did not acknowledge is for another (MQTT 5, 4.8.2)."""
        for pending in shared:
            if pending.expires_at is None or pending.expires_at > self._parts.clock():
                assert pending.share is not None
                self._hand_on_one(pending.share, pending)
            yield
        self.settle()

    def _hand_on_one(self, share: Share, pending: Pending) -> None:
        group, topics = split_shared(share.filter)
        subscribers = self._filters.get(topics)
        if group is not None and subscribers is not None and group in subscribers.groups:
            subscribers.groups[group].send(share.published, pending.size, pending.expires_at)
