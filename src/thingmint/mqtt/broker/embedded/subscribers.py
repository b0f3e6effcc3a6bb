"""Who is subscribed to one filter."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from thingmint.mqtt.broker.embedded.session import Share
from thingmint.mqtt.broker.interface import Subscription
from thingmint.mqtt.broker.messages import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def joined(matching: Sequence[Subscribers], session: Session, publisher: Session | None) -> Subscription | None:
    """By what a session that is not of a group gets a message: one copy, however many filters match (MQTT 5, 3.3.4)."""
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


class ShareGroup:
    """A shared subscription: each message goes to one member. The one whose turn it is stands first.

    Members to which messages flow stand apart from those for which they would wait, so that none has to be looked for.
    """

    __slots__ = ("_flowing", "_members", "_waiting")

    def __init__(self) -> None:
        self._members: dict[Session, Subscription] = {}
        self._flowing: OrderedDict[Session, None] = OrderedDict()
        self._waiting: OrderedDict[Session, None] = OrderedDict()  # those subscribed at QoS 1

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
        """To a member that it flows to, else at QoS 1 to one whom it waits for. False if no member had room."""
        refused = False
        attempts = _MAX_ATTEMPTS
        for members in (self._flowing, self._waiting) if published.qos else (self._flowing,):
            for _ in range(min(len(members), attempts)):
                if not members:  # the last one ceased to take messages, or left, over this one
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
