"""One device's connection to the embedded broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thingmint.mqtt.broker.interface import Message, Subscription
    from thingmint.mqtt.broker.router import Router
    from thingmint.mqtt.broker.session import Session


class EmbeddedLink:
    """Once it is closed or lost, what it is asked for fails with UNSPECIFIED_ERROR and changes nothing."""

    __slots__ = ("_router", "_session", "_session_present")

    def __init__(self, router: Router, session: Session, *, session_present: bool) -> None:
        self._router = router
        self._session = session
        self._session_present = session_present

    @property
    def session_present(self) -> bool:
        return self._session_present

    def publish(self, message: Message, done: Callable[[Reason], None]) -> None:
        if self._session.link is self:
            done(self._router.publish(message, self._session))
        else:
            done(Reason.UNSPECIFIED_ERROR)

    def subscribe(self, subscriptions: Sequence[Subscription], done: Callable[[Sequence[Reason]], None]) -> None:
        if self._session.link is not self:
            done([Reason.UNSPECIFIED_ERROR] * len(subscriptions))
            return
        reasons, retained = self._router.subscribe(self._session, subscriptions)
        done(reasons)
        for message, size, expires_at in retained:
            if self._session.link is not self:
                return
            self._session.send(message, size, expires_at, retained=True)

    def unsubscribe(self, filters: Sequence[str], done: Callable[[Sequence[Reason]], None]) -> None:
        if self._session.link is self:
            done([self._router.unsubscribe(self._session, filter) for filter in filters])
        else:
            done([Reason.UNSPECIFIED_ERROR] * len(filters))

    def congestion(self) -> None:
        """Everything is answered at once."""

    def acknowledge(self, packet_id: int) -> None:
        if self._session.link is self:
            self._session.acknowledge(packet_id)

    def pause(self) -> None:
        if self._session.link is self:
            self._session.flowing = False

    def resume(self) -> None:
        if self._session.link is self:
            self._session.resume()

    def set_expiry(self, seconds: int) -> None:
        if self._session.link is self:
            self._router.set_expiry(self._session, seconds)

    def close(self, *, discard: bool = False) -> None:
        if self._session.link is self:
            self._router.close(self._session, discard=discard)
