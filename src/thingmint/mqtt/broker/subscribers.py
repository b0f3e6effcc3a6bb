"""Who is subscribed to one filter."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.mqtt.broker.interface import Subscription
from thingmint.mqtt.broker.messages import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from thingmint.mqtt.broker.interface import Message
    from thingmint.mqtt.broker.session import Session


_SHARED = "$share/"


def split_shared(filter: str) -> tuple[str | None, str]:
    """The group, if any, and the filter that topics are held against (MQTT 5, 4.8.2)."""
    if not filter.startswith(_SHARED):
        return None, filter
    _, group, shared = filter.split("/", 2)
    return group, shared


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
            self.groups.setdefault(group, ShareGroup()).members[session] = subscription

    def remove(self, session: Session, group: str | None) -> None:
        if group is None:
            del self.direct[session]
            return
        members = self.groups[group].members
        del members[session]
        if not members:
            del self.groups[group]


def merge(matching: Iterable[Subscribers], publisher: Session | None) -> Mapping[Session, Subscription]:
    """What each session that is not of a group gets: one copy, however many filters match (MQTT 5, 3.3.4)."""
    merged: dict[Session, Subscription] = {}
    for subscribers in matching:
        for session, subscription in subscribers.direct.items():
            if subscription.no_local and session is publisher:
                continue
            other = merged.get(session)
            merged[session] = subscription if other is None else _join(subscription, other)
    return merged


def _join(one: Subscription, other: Subscription) -> Subscription:
    return Subscription(
        one.filter,
        max(one.qos, other.qos),
        retain_as_published=one.retain_as_published or other.retain_as_published,
    )


@dataclass(frozen=True, slots=True)
class Share:
    """Where a message that was given to one member of a group came from: the shared ``filter``, ``$share`` and all."""

    filter: str
    published: Message


class ShareGroup:
    """A shared subscription: each message goes to one member. The one whose turn it is stands first."""

    __slots__ = ("members",)

    def __init__(self) -> None:
        self.members: OrderedDict[Session, Subscription] = OrderedDict()

    def send(self, published: Message, size: int, expires_at: float | None) -> bool:
        """To a member that it flows to, else at QoS 1 to one whom it waits for. False if no member had room."""
        refused = False
        for flowing in (True, False) if published.qos else (True,):
            for _ in range(len(self.members)):
                session, subscription = next(iter(self.members.items()))
                self.members.move_to_end(session)
                if session.flowing is not flowing:
                    continue
                message = shown(published, subscription)
                if not flowing and not message.qos:
                    continue
                share = Share(subscription.filter, published) if message.qos else None
                if session.send(message, size, expires_at, share):
                    return True
                refused = True
        return not refused
