"""The subscribers of one filter, and the delivery of a message to all of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from thingmint.mqtt.broker.embedded.session import Share
from thingmint.mqtt.broker.interface import Subscription
from thingmint.mqtt.broker.messages import expires_at, shown, size_of
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from thingmint.domain.messages import Message
    from thingmint.mqtt.broker.embedded.session import Session


_MAX_ATTEMPTS = 64  # members of a group that are tried for one message


class Subscribers:
    __slots__ = ("direct", "groups")

    def __init__(self) -> None:
        self.direct: dict[Session, Subscription] = {}
        self.groups: dict[str, ShareGroup] = {}

    def __bool__(self) -> bool:
        return bool(self.direct or self.groups)

    def put(self, session: Session, group: str | None, subscription: Subscription) -> None:
        if group is None:
            self.direct[session] = subscription
        else:
            self.groups.setdefault(group, ShareGroup()).put(session, subscription)

    def remove(self, session: Session, group: str | None) -> None:
        if group is None:
            del self.direct[session]
        else:
            self.groups[group].remove(session)
            if not self.groups[group]:
                del self.groups[group]


class ShareGroup:
    """A shared subscription: each message goes to one member. The first in the queue is next.

    There are two queues, so that no search is needed: members to which messages flow, and members for which messages
    would wait.
    """

    __slots__ = ("_flowing", "_members", "_waiting")

    def __init__(self) -> None:
        self._members: dict[Session, Subscription] = {}
        self._flowing: OrderedDict[Session, None] = OrderedDict()
        self._waiting: OrderedDict[Session, None] = OrderedDict()  # only members with QoS 1

    def __bool__(self) -> bool:
        return bool(self._members)

    def put(self, session: Session, subscription: Subscription) -> None:
        if session not in self._members:
            session.groups = (*session.groups, self)
        self._members[session] = subscription
        self.flow_changed(session)

    def remove(self, session: Session) -> None:
        session.groups = tuple(group for group in session.groups if group is not self)
        del self._members[session]
        self._flowing.pop(session, None)
        self._waiting.pop(session, None)

    def flow_changed(self, session: Session) -> None:
        place, other = (self._flowing, self._waiting) if session.flowing else (self._waiting, self._flowing)
        other.pop(session, None)
        if session.flowing or self._members[session].qos:
            place.setdefault(session, None)
        else:
            place.pop(session, None)

    def send(self, published: Message, size: int, expires_at: float | None) -> bool:
        """Sends to a member to which messages flow. If there is none, queues for a member with QoS 1.

        False if no member had room.
        """
        refused = False
        attempts = _MAX_ATTEMPTS
        for members in (self._flowing, self._waiting) if published.qos else (self._flowing,):
            for _ in range(min(len(members), attempts)):
                if not members:  # the last member paused or left while it got this message
                    break
                session = next(iter(members))
                members.move_to_end(session)
                subscription = self._members[session]
                message = shown(published, subscription)
                share = Share(subscription.filter, published) if message.qos else None
                if session.send(message, size, expires_at, share):
                    return True
                refused = True
                attempts -= 1
        return not refused


class FanOut:
    """Delivers a message to the subscribers. ``number`` is unique in the scope, and grows.

    Each session gets one copy, for the subscriptions that it had at the start: call ``reach`` before a session
    subscribes to more.
    """

    __slots__ = ("_expires_at", "_matching", "_message", "_number", "_publisher", "_refused", "_size", "_taken")

    def __init__(
        self, message: Message, number: int, matching: Sequence[Subscribers], publisher: Session | None, now: float
    ) -> None:
        self._message = message
        self._number = number
        self._matching = matching
        self._publisher = publisher
        self._size = size_of(message) if message.qos else 0  # at QoS 0 rarely needed
        self._expires_at = expires_at(message, now)
        self._taken = self._refused = False

    @property
    def answer(self) -> Reason:
        """QUOTA_EXCEEDED if there were subscribers, but none had room."""
        if self._taken or not self._message.qos:
            return Reason.SUCCESS
        return Reason.QUOTA_EXCEEDED if self._refused else Reason.NO_MATCHING_SUBSCRIBERS

    def run(self) -> Iterator[None]:
        """Runs with one step for each session and each group."""
        for subscribers in self._matching:
            # A copy: the subscribers may change between two steps, and during a delivery.
            for session in tuple(subscribers.direct):
                if session in subscribers.direct:
                    self.reach(session)
                yield
        for subscribers in self._matching:
            for group in tuple(subscribers.groups.values()):
                self._count(group.send(self._message, self._size, self._expires_at))
                yield

    def run_for(self, few: Iterable[tuple[Session, Subscription]]) -> None:
        """Delivers without slices to ``few`` sessions, if only one filter matches."""
        for session, subscription in few:
            if not (subscription.no_local and session is self._publisher):
                self._count(session.send(shown(self._message, subscription), self._size, self._expires_at))

    def reach(self, session: Session) -> None:
        if session.reached == self._number:
            return
        session.reached = self._number
        subscription = _joined(self._matching, session, self._publisher)
        if subscription is not None:
            self._count(session.send(shown(self._message, subscription), self._size, self._expires_at))

    def _count(self, taken: bool) -> None:
        if taken:
            self._taken = True
        else:
            self._refused = True


def _joined(matching: Sequence[Subscribers], session: Session, publisher: Session | None) -> Subscription | None:
    """Merges the subscriptions of a session that match: it gets one copy of a message (MQTT 5, 3.3.4)."""
    found: Subscription | None = None
    for subscribers in matching:
        subscription = subscribers.direct.get(session)
        if subscription is None or (subscription.no_local and session is publisher):
            continue
        found = subscription if found is None else _join(subscription, found)
    return found


def _join(one: Subscription, other: Subscription) -> Subscription:
    return Subscription(
        one.filter,
        max(one.qos, other.qos),
        retain_as_published=one.retain_as_published or other.retain_as_published,
    )
