"""Giving one message to all who are subscribed to its topic, however many they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.mqtt.broker.embedded.subscribers import joined
from thingmint.mqtt.broker.messages import expires_at, shown, size_of
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from thingmint.domain.messages import Message
    from thingmint.mqtt.broker.embedded.session import Session
    from thingmint.mqtt.broker.embedded.subscribers import Subscribers
    from thingmint.mqtt.broker.interface import Subscription


class FanOut:
    """``number`` is another one than that of any message of the scope before it.

    Each session gets one copy, for the subscriptions that it had when this began: ``reach`` it before it gets another.
    """

    __slots__ = ("_expires_at", "_matching", "_message", "_number", "_publisher", "_refused", "_size", "_taken")

    def __init__(
        self, message: Message, number: int, matching: Sequence[Subscribers], publisher: Session | None, now: float
    ) -> None:
        self._message = message
        self._number = number
        self._matching = matching
        self._publisher = publisher
        self._size = size_of(message) if message.qos else 0  # at QoS 0 hardly ever needed
        self._expires_at = expires_at(message, now)
        self._taken = self._refused = False

    @property
    def answer(self) -> Reason:
        """QUOTA_EXCEEDED if there were subscribers, and none of them had room."""
        if self._taken or not self._message.qos:
            return Reason.SUCCESS
        return Reason.QUOTA_EXCEEDED if self._refused else Reason.NO_MATCHING_SUBSCRIBERS

    def run(self) -> Iterator[None]:
        """A step for each session and each group."""
        for subscribers in self._matching:
            # As they are now: who is subscribed may change between two steps, and through a delivery.
            for session in tuple(subscribers.direct):
                if session in subscribers.direct:
                    self.reach(session)
                yield
        for subscribers in self._matching:
            for group in tuple(subscribers.groups.values()):
                self._count(group.send(self._message, self._size, self._expires_at))
                yield

    def run_for(self, few: Iterable[tuple[Session, Subscription]]) -> None:
        """At once, to all who have subscribed with the only filter that matches."""
        for session, subscription in few:
            if not (subscription.no_local and session is self._publisher):
                self._count(session.send(shown(self._message, subscription), self._size, self._expires_at))

    def reach(self, session: Session) -> None:
        if session.reached == self._number:
            return
        session.reached = self._number
        subscription = joined(self._matching, session, self._publisher)
        if subscription is not None:
            self._count(session.send(shown(self._message, subscription), self._size, self._expires_at))

    def _count(self, taken: bool) -> None:
        if taken:
            self._taken = True
        else:
            self._refused = True
