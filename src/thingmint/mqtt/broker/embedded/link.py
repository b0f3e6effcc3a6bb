"""One device's connection to the embedded broker."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from thingmint.domain.messages import Message
    from thingmint.mqtt.broker.embedded.router import Router
    from thingmint.mqtt.broker.embedded.session import Session
    from thingmint.mqtt.broker.interface import Opening, Subscriber, Subscription


class EmbeddedLink:
    """Implements Link. After the link is closed or lost, requests fail with UNSPECIFIED_ERROR and change nothing.

    The link is congested while a message of the device is delivered to the subscribers. So the device's messages keep
    their order, and few of them wait.
    """

    __slots__ = ("_answered", "_router", "_session", "_session_present", "_unanswered")

    def __init__(self, router: Router, session: Session, *, session_present: bool) -> None:
        self._router = router
        self._session = session
        self._session_present = session_present
        self._unanswered = 0
        self._answered: asyncio.Future[None] | None = None

    @classmethod
    def open(cls, router: Router, opening: Opening, subscriber: Subscriber) -> EmbeddedLink:
        """Opens a session, or takes it over from its current connection. Raises Throttled."""
        former = router.subscriber(opening.client_id)
        session, present = router.session_for(opening)
        link = cls(router, session, session_present=present)
        session.attach(link, subscriber, opening.receive_maximum)
        router.set_expiry(session, opening.expiry)
        if former is not None:
            former.lost(Reason.SESSION_TAKEN_OVER)
        return link

    @property
    def session_present(self) -> bool:
        return self._session_present

    def publish(self, message: Message, done: Callable[[Reason], None]) -> None:
        if self._session.link is not self:
            done(Reason.UNSPECIFIED_ERROR)
        elif (reason := self._router.publish_at_once(message, self._session)) is not None:
            done(reason)
        else:
            self._unanswered += 1
            self._router.publish(message, self._session, partial(self._publish_answered, done))

    def subscribe(self, subscriptions: Sequence[Subscription], done: Callable[[Sequence[Reason]], None]) -> None:
        if self._session.link is not self:
            done([Reason.UNSPECIFIED_ERROR] * len(subscriptions))
            return
        reasons, send_retained = self._router.subscribe(self._session, subscriptions)
        done(reasons)
        self._router.run_for(self._session, send_retained)

    def unsubscribe(self, filters: Sequence[str], done: Callable[[Sequence[Reason]], None]) -> None:
        if self._session.link is self:
            done([self._router.unsubscribe(self._session, filter) for filter in filters])
        else:
            done([Reason.UNSPECIFIED_ERROR] * len(filters))

    def congestion(self) -> Coroutine[Any, Any, None] | None:
        return self._until_answered() if self._unanswered else None

    def acknowledge(self, packet_id: int) -> None:
        if self._session.link is self:
            self._session.acknowledge(packet_id)

    def pause(self) -> None:
        if self._session.link is self:
            self._session.pause()

    def resume(self) -> None:
        if self._session.link is self:
            self._session.resume()

    def set_expiry(self, seconds: int) -> None:
        if self._session.link is self:
            self._router.set_expiry(self._session, seconds)

    def close(self, *, discard: bool = False) -> None:
        if self._session.link is self:
            self._router.close(self._session, discard=discard)

    def _publish_answered(self, done: Callable[[Reason], None], reason: Reason) -> None:
        self._unanswered -= 1
        done(reason)
        if self._answered is not None and not self._unanswered:
            self._answered.set_result(None)
            self._answered = None

    async def _until_answered(self) -> None:
        while self._unanswered:
            if self._answered is None:
                self._answered = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._answered)
