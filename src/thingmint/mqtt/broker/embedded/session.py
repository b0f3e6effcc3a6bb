"""A session: what waits for one client id, and what is under way to it."""

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
_SWEEP_INTERVAL = 30.0  # seconds for which what has expired may still take room


@dataclass(frozen=True, slots=True)
class Parts:
    """What all sessions of an account share. Work in slices is ``account``'s."""

    account: str
    limits: EmbeddedLimits
    queued: Budget
    deadlines: Deadlines
    slices: Slices
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Share:
    """Where a message that was given to one member of a group came from: the shared ``filter``, ``$share`` and all."""

    filter: str
    published: Message


class Pending:
    """A message on its way to one session. It has a ``packet_id`` from the first time that it was delivered."""

    __slots__ = ("expires_at", "message", "packet_id", "share", "size")

    def __init__(self, message: Message, size: int, expires_at: float | None, share: Share | None) -> None:
        self.message = message
        self.size = size
        self.expires_at = expires_at
        self.share = share
        self.packet_id: int | None = None


class Follower(Protocol):
    """Depends on whether messages flow to a session."""

    def flow_changed(self, session: Session) -> None:
        """They begin to flow, or cease to."""
        ...


class Session:
    """``expiry`` is how long it outlives its connection, in seconds.

    A message that finds no room is refused, as in Mosquitto and VerneMQ: what was taken stays in order and without
    gaps, and the publisher can be told. The subscriber may call back from ``deliver``: whatever has to hold then is
    in place before each call of it.
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
        self.groups: tuple[Follower, ...] = ()  # those that it is a member of
        self.reached = 0  # the number of the last message that was given out to subscribers as far as this one
        self.expiry = 0
        self.ended = False
        self.link: object | None = None  # the connection that it has now
        self.subscriber: Subscriber | None = None
        self.flowing = False  # connected, resumed and not paused
        self._budget = Budget(parts.limits.queued_per_session, parts.queued)
        self._parts = parts
        # Lists, as what waits is bounded, and nearly always nothing does: an empty deque takes 760 bytes.
        self._waiting: list[Pending] = []  # QoS 1; those that were delivered before come first
        self._unnumbered: list[Pending] = []  # retained messages of QoS 0, which no window holds back
        self._in_flight: dict[int, Pending] = {}  # delivered on this connection, in that order
        self._last_id = 0
        self._window = 0
        self._pumping = False
        self._sweeping = False  # whether there is a deadline for it

    def attach(self, link: object, subscriber: Subscriber, window: int) -> None:
        """A new connection, to which nothing flows before ``resume``."""
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
        """Forgets everything, and gives back what was not acknowledged."""
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
        """False if it was refused for lack of room. A live message of QoS 0 is dropped where nothing flows.

        ``size`` is that of ``size_of``, and may be 0 at QoS 0.
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
        """Delivers what may be delivered. Once at a time: the work goes on with what was freed meanwhile."""
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
            # One that was delivered before is delivered again, expired or not (MQTT 5, 4.4).
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
        # Those to be delivered again stand at the head of the line, so no id of theirs is taken before it is in flight.
        packet_id = self._last_id
        while True:
            packet_id = packet_id % _MAX_PACKET_ID + 1
            if packet_id not in self._in_flight:
                self._last_id = packet_id
                return packet_id
