"""A session: the messages that wait for one client id, and those that it has not acknowledged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from thingmint.mqtt.broker.limits import Budget
from thingmint.mqtt.broker.messages import size_of, with_remaining_expiry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from thingmint.domain.messages import Message
    from thingmint.mqtt.broker.embedded.deadlines import Deadlines
    from thingmint.mqtt.broker.interface import Subscriber, Subscription
    from thingmint.mqtt.broker.limits import EmbeddedLimits
    from thingmint.mqtt.slices import Slices


_MAX_PACKET_ID = 65_535
_SWEEP_INTERVAL = 30.0  # seconds; expired messages take memory until the next sweep


@dataclass(frozen=True, slots=True)
class Parts:
    """The objects that all sessions of an account share."""

    account: str
    limits: EmbeddedLimits
    queued: Budget
    deadlines: Deadlines
    slices: Slices
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Share:
    """The origin of a message that one member of a group got. ``filter`` has its ``$share/GROUP/`` prefix."""

    filter: str
    published: Message


class Pending:
    """A message for one session. It has a ``packet_id`` from its first delivery on."""

    __slots__ = ("expires_at", "message", "packet_id", "share", "size")

    def __init__(self, message: Message, size: int, expires_at: float | None, share: Share | None) -> None:
        self.message = message
        self.size = size
        self.expires_at = expires_at
        self.share = share
        self.packet_id: int | None = None


class Follower(Protocol):
    """Follows whether messages flow to a session."""

    def flow_changed(self, session: Session) -> None:
        """Messages begin to flow to ``session``, or stop."""
        ...


class Session:
    """The session ends ``expiry`` seconds after its connection.

    If there is no room for a message, it is refused, as in Mosquitto and VerneMQ: accepted messages stay in order and
    without gaps, and the publisher can be informed. The subscriber may call back from ``deliver``, so the state must be
    consistent before each call of it.
    """

    __slots__ = (
        "_budget",
        "_in_flight",
        "_last_id",
        "_parts",
        "_pumping",
        "_sweeping",
        "_unnumbered",
        "_waiting",
        "_window",
        "client_id",
        "ended",
        "expiry",
        "flowing",
        "groups",
        "link",
        "reached",
        "subscriber",
        "subscriptions",
    )

    def __init__(self, client_id: str, parts: Parts) -> None:
        self.client_id = client_id
        self.subscriptions: dict[str, Subscription] = {}
        self.groups: tuple[Follower, ...] = ()  # the groups of its shared subscriptions
        self.reached = 0  # the number of the last FanOut that reached this session
        self.expiry = 0
        self.ended = False
        self.link: object | None = None  # the current connection
        self.subscriber: Subscriber | None = None
        self.flowing = False  # connected, resumed and not paused
        self._budget = Budget(parts.limits.queued_per_session, parts.queued)
        self._parts = parts
        # Lists are bounded here, and nearly always empty. An empty deque takes 760 bytes.
        self._waiting: list[Pending] = []  # QoS 1; messages that were delivered before come first
        self._unnumbered: list[Pending] = []  # QoS 0, mostly retained messages: the window does not limit them
        self._in_flight: dict[int, Pending] = {}  # delivered on this connection, in this order
        self._last_id = 0
        self._window = 0
        self._pumping = False
        self._sweeping = False  # True while the next sweep has a deadline

    @property
    def queued(self) -> int:
        """The number of messages that wait, or were delivered and not acknowledged."""
        return self._budget.count

    def attach(self, link: object, subscriber: Subscriber, window: int) -> None:
        """Sets a new connection. Nothing is delivered to it before ``resume``."""
        self.link = link
        self.subscriber = subscriber
        self._window = min(window, _MAX_PACKET_ID)

    def detach(self) -> None:
        self.link = self.subscriber = None
        self._flow(False)
        self._waiting[:0] = self._in_flight.values()
        self._in_flight.clear()
        self._give_back_all(self._unnumbered)
        self._unnumbered.clear()

    def end(self) -> list[Pending]:
        """Ends the session, and returns the messages that were not acknowledged."""
        self.detach()
        self.ended = True
        self._parts.deadlines.clear((self, "sweep"))
        left, self._waiting = self._waiting, []
        self._give_back_all(left)
        return left

    def send(
        self,
        message: Message,
        size: int,
        expires_at: float | None,
        share: Share | None = None,
        *,
        retained: bool = False,
    ) -> bool:
        """Delivers or queues a message. False if there is no room.

        A QoS 0 message is dropped if no messages flow now, unless it is ``retained``. ``size`` is the result of
        ``size_of``; 0 is allowed at QoS 0.
        """
        if message.qos == 0:
            return self._send_unnumbered(message, size, expires_at, retained=retained)
        if self.ended:
            return True
        if not self._budget.take(size):
            return False
        pending = Pending(message, size, expires_at, share)
        if self.flowing and not self._waiting and len(self._in_flight) < self._window:
            self._deliver(pending, message)
        else:
            self._waiting.append(pending)
            if expires_at is not None and not self._sweeping:
                self._sweep_later()
        return True

    def acknowledge(self, packet_id: int) -> None:
        pending = self._in_flight.pop(packet_id, None)
        if pending is None:
            return
        self._budget.give_back(pending.size)
        if self._waiting:
            self._pump()

    def pause(self) -> None:
        self._flow(False)

    def resume(self) -> None:
        self._flow(True)
        self._pump()

    def _flow(self, flowing: bool) -> None:
        self.flowing = flowing
        for group in self.groups:
            group.flow_changed(self)

    def _give_back_all(self, pendings: list[Pending]) -> None:
        if pendings:
            self._budget.give_back(sum(pending.size for pending in pendings), len(pendings))

    def _send_unnumbered(self, message: Message, size: int, expires_at: float | None, *, retained: bool) -> bool:
        if self.flowing and not self._unnumbered:
            assert self.subscriber is not None
            self.subscriber.deliver(message, None, again=False)
        elif self.subscriber is not None and (retained or self.flowing):
            size = size or size_of(message)
            if not self._budget.take(size):
                return False
            self._unnumbered.append(Pending(message, size, expires_at, None))
        return True

    def _pump(self) -> None:
        """Delivers waiting messages. Runs once at a time: the work also delivers what becomes possible meanwhile."""
        if not self._pumping and (self._waiting or self._unnumbered):
            self._pumping = True
            self._parts.slices.run(self._parts.account, self, self._deliver_waiting())

    def _deliver_waiting(self) -> Iterator[None]:
        try:
            while self.flowing:
                if self._unnumbered:
                    pending = self._unnumbered.pop(0)
                    self._budget.give_back(pending.size)
                elif self._waiting and len(self._in_flight) < self._window:
                    pending = self._waiting.pop(0)
                else:
                    return
                self._deliver_late(pending)
                yield
        finally:
            self._pumping = False

    def _deliver_late(self, pending: Pending) -> None:
        message = pending.message
        if pending.expires_at is not None:
            now = self._parts.clock()
            # A message that was delivered before is delivered again, even if it has expired (MQTT 5, 4.4).
            if pending.expires_at <= now and pending.packet_id is None:
                if message.qos:
                    self._budget.give_back(pending.size)
                return
            message = with_remaining_expiry(message, pending.expires_at, now)
        if message.qos:
            self._deliver(pending, message)
        else:
            assert self.subscriber is not None
            self.subscriber.deliver(message, None, again=False)

    def _deliver(self, pending: Pending, message: Message) -> None:
        assert self.subscriber is not None
        packet_id = pending.packet_id
        again = packet_id is not None
        if packet_id is None:
            packet_id = pending.packet_id = self._free_id()
        self._in_flight[packet_id] = pending
        self.subscriber.deliver(message, packet_id, again=again)

    def _sweep_later(self) -> None:
        self._sweeping = True
        self._parts.deadlines.set((self, "sweep"), self._parts.clock() + _SWEEP_INTERVAL, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        now = self._parts.clock()
        kept: list[Pending] = []
        for pending in self._waiting:
            if pending.packet_id is not None or pending.expires_at is None:
                kept.append(pending)
            elif pending.expires_at > now:
                kept.append(pending)
                self._sweeping = True
            else:
                self._budget.give_back(pending.size)
        self._waiting = kept
        if self._sweeping:
            self._sweep_later()

    def _free_id(self) -> int:
        # Messages to be delivered again are first in the queue, so their packet ids are in flight before a new message
        # gets one.
        packet_id = self._last_id
        while True:
            packet_id = packet_id % _MAX_PACKET_ID + 1
            if packet_id not in self._in_flight:
                self._last_id = packet_id
                return packet_id
