"""One scope of the embedded broker: its sessions, its subscriptions and its retained messages."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from thingmint.domain.errors import Throttled
from thingmint.mqtt.broker.link import EmbeddedLink
from thingmint.mqtt.broker.messages import expires_at, shown, shown_as, size_of, with_remaining_expiry
from thingmint.mqtt.broker.retained import RetainedMessages
from thingmint.mqtt.broker.session import Session
from thingmint.mqtt.broker.subscribers import Subscribers, merge, split_shared
from thingmint.mqtt.broker.topics import FilterTree
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thingmint.mqtt.broker.deadlines import Deadlines
    from thingmint.mqtt.broker.interface import Message, Opening, Subscriber, Subscription
    from thingmint.mqtt.broker.limits import Budget, EmbeddedLimits
    from thingmint.mqtt.broker.session import Pending
    from thingmint.mqtt.broker.subscribers import Share


class Budgets:
    """What an account holds, in all its regions."""

    __slots__ = ("__weakref__", "queued", "retained", "sessions")

    def __init__(self, sessions: Budget, queued: Budget, retained: Budget) -> None:
        self.sessions = sessions
        self.queued = queued
        self.retained = retained


class Router:
    """``emptied`` is called when it holds nothing any more."""

    def __init__(
        self,
        limits: EmbeddedLimits,
        budgets: Budgets,
        deadlines: Deadlines,
        clock: Callable[[], float],
        emptied: Callable[[], None],
    ) -> None:
        self._limits = limits
        self._budgets = budgets
        self._deadlines = deadlines
        self._clock = clock
        self._emptied = emptied
        self._sessions: dict[str, Session] = {}
        self._filters: FilterTree[Subscribers] = FilterTree()
        self._retained = RetainedMessages(budgets.retained, deadlines, limits.levels, self.settle)

    def settle(self) -> None:
        if not self._sessions and not self._retained:
            self._emptied()

    def open(self, opening: Opening, subscriber: Subscriber) -> EmbeddedLink:
        client_id = opening.client_id
        known = self._sessions.get(client_id)
        former = None if known is None else known.subscriber
        # A session without expiry ends with its connection (MQTT 5, 3.1.2.11.2), also with one that is taken over.
        if known is not None and not opening.clean_start and (former is None or known.expiry > 0):
            session = known
            session.detach()
            self._deadlines.clear(session)
        else:
            if known is None and not self._budgets.sessions.take(0):
                raise Throttled("Too many sessions")
            session = Session(
                client_id, self._limits.queued_per_session, self._budgets.queued, self._deadlines, self._clock
            )
            self._sessions[client_id] = session
            if known is not None:
                self._dismantle(known)
        link = EmbeddedLink(self, session, session_present=session is known)
        session.attach(link, subscriber, opening.receive_maximum)
        self.set_expiry(session, opening.expiry)
        if former is not None:
            former.lost(Reason.SESSION_TAKEN_OVER)
        return link

    def set_expiry(self, session: Session, seconds: int) -> None:
        session.expiry = min(seconds, self._limits.expiry)

    def close(self, session: Session, *, discard: bool) -> None:
        if discard or session.expiry == 0:
            self._end(session)
            return
        session.detach()
        self._deadlines.set(session, self._clock() + session.expiry, partial(self._end, session))

    def stop(self) -> None:
        """Ends every connection; nothing is handed on."""
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            subscriber = session.subscriber
            session.end()
            self._budgets.sessions.give_back(0)
            if subscriber is not None:
                subscriber.lost(Reason.SERVER_SHUTTING_DOWN)

    def publish(self, message: Message, publisher: Session | None) -> Reason:
        """QUOTA_EXCEEDED if it could not be retained, and was then given to nobody, or if nobody had room for it."""
        expiry = None
        if message.properties.message_expiry is not None:
            expiry = expires_at(message, self._clock())
        if message.retain and not self._retained.keep(message, expiry, publisher.client_id if publisher else None):
            return Reason.QUOTA_EXCEEDED
        matching = self._filters.matching(message.topic)
        if not matching:
            return Reason.NO_MATCHING_SUBSCRIBERS if message.qos else Reason.SUCCESS
        size = size_of(message) if message.qos else 0  # at QoS 0 hardly ever needed
        taken = refused = False
        for session, subscription in _recipients(matching, publisher):
            if subscription.no_local and session is publisher:
                continue
            if session.send(shown(message, subscription), size, expiry):
                taken = True
            else:
                refused = True
        for subscribers in matching:
            for group in tuple(subscribers.groups.values()):
                if group.send(message, size, expiry):
                    taken = True
                else:
                    refused = True
        if taken or not message.qos:
            return Reason.SUCCESS
        return Reason.QUOTA_EXCEEDED if refused else Reason.NO_MATCHING_SUBSCRIBERS

    def subscribe(
        self, session: Session, subscriptions: Sequence[Subscription]
    ) -> tuple[Sequence[Reason], Sequence[tuple[Message, int, float | None]]]:
        """With the retained messages to be sent now: each with its size and the time of its expiry."""
        reasons = []
        retained = []
        for subscription in subscriptions:
            filter = subscription.filter
            group, topics = split_shared(filter)
            known = filter in session.subscriptions
            if not known and len(session.subscriptions) >= self._limits.subscriptions_per_session:
                reasons.append(Reason.QUOTA_EXCEEDED)
                continue
            if topics.count("/") >= self._limits.levels:
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
                retained.extend(self._retained_for(session, subscription))
        return reasons, retained

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

    def _retained_for(self, session: Session, subscription: Subscription) -> list[tuple[Message, int, float | None]]:
        now = self._clock()
        found = []
        for retained in self._retained.matching(subscription.filter, now):
            if subscription.no_local and retained.publisher == session.client_id:
                continue
            # Shown as retained whatever the subscription says of live ones (MQTT 5, 3.3.1.3).
            message = shown_as(retained.message, min(retained.message.qos, subscription.qos), retain=True)
            message = with_remaining_expiry(message, retained.expires_at, now)
            found.append((message, retained.size, retained.expires_at))
        return found

    def _end(self, session: Session) -> None:
        del self._sessions[session.client_id]
        self._budgets.sessions.give_back(0)
        self._dismantle(session)
        self.settle()

    def _dismantle(self, session: Session) -> None:
        self._deadlines.clear(session)
        for filter in tuple(session.subscriptions):
            self.unsubscribe(session, filter)
        now = self._clock()
        for pending in session.end():
            if pending.share is not None and (pending.expires_at is None or pending.expires_at > now):
                self._hand_on(pending.share, pending)

    def _hand_on(self, share: Share, pending: Pending) -> None:
        """What one member of a group did not acknowledge is for another (MQTT 5, 4.8.2)."""
        group, topics = split_shared(share.filter)
        subscribers = self._filters.get(topics)
        if group is not None and subscribers is not None and group in subscribers.groups:
            subscribers.groups[group].send(share.published, pending.size, pending.expires_at)


def _recipients(matching: Sequence[Subscribers], publisher: Session | None) -> tuple[tuple[Session, Subscription], ...]:
    """As they are now: whom a message is delivered to may change who is subscribed."""
    recipients = matching[0].direct if len(matching) == 1 else merge(matching, publisher)
    return tuple(recipients.items())
