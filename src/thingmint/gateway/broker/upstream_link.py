"""One device's connection to an upstream broker: a socket of its own, under a client id of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import structlog

from thingmint.gateway.broker.client import Answered, ClientConnection
from thingmint.gateway.broker.interface import Message
from thingmint.gateway.mqtt.errors import ProtocolError
from thingmint.gateway.mqtt.packets import NO_PROPERTIES, ConnAck, Disconnect, Publish, SubscriptionRequest
from thingmint.gateway.mqtt.reasons import Reason
from thingmint.identity.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from thingmint.gateway.broker.client import Event
    from thingmint.gateway.broker.interface import Subscriber, Subscription
    from thingmint.gateway.broker.names import Names
    from thingmint.gateway.mqtt.packets import Connect

__all__ = ["UpstreamLink"]

_MAX_HELD = 128  # messages above the device's receive maximum, which 3.1.1 does not let us pass on
_LINGER = 2.0  # seconds for the broker to close a connection that we are done with
# DISCONNECT has no word for "unavailable" (MQTT 5, 3.14.2.1); to this one clients wait before they come back.
_BROKER_GONE = Reason.SERVER_BUSY

_log = structlog.get_logger("thingmint.gateway")


class UpstreamLink(asyncio.Protocol):
    """Once it is closed or lost, what it is asked for fails with UNSPECIFIED_ERROR.

    ``opened`` has the broker's CONNACK, or Unavailable; ``gone`` is set, and ``on_gone`` called, when there is no
    connection any more. Nothing is read behind CONNACK until ``resume``, and nothing while paused: what waits, waits
    at the broker. ``must_discard``: the session is to end with this link, and 3.1.1 has no other way to say so than a
    clean one after it.
    """

    def __init__(
        self,
        connect: Connect,
        names: Names,
        subscriber: Subscriber,
        on_gone: Callable[[UpstreamLink], None],
        *,
        must_discard: bool = False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connect = connect
        self._client = ClientConnection(connect, self._loop.time())
        self._names = names
        self._subscriber = subscriber
        self._on_gone = on_gone
        self._transport: asyncio.Transport | None = None
        self._session_present = False
        self._expiry: int | None = None
        self._flowing = False
        self._reading = True
        self._writable = True
        self._processing = False
        self._flushing = False
        self._under_way: set[int] = set()
        self._held: deque[tuple[Message, int, bool]] = deque()
        self._uncongested: asyncio.Future[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self.must_discard = must_discard
        self.ended = False
        self.opened: asyncio.Future[ConnAck] = self._loop.create_future()
        self.gone = asyncio.Event()

    # The interface.

    @property
    def session_present(self) -> bool:
        return self._session_present

    @property
    def congested(self) -> bool:
        return not self._writable or self._client.congested

    def publish(self, message: Message, done: Callable[[Reason], None]) -> None:
        topic = self._names.topic(message.topic)
        if topic is None:
            done(Reason.TOPIC_NAME_INVALID)
        else:
            self.send(topic, message, self._names, lambda reasons: done(reasons[0]))

    def send(self, topic: str, message: Message, names: Names, done: Callable[[Sequence[Reason]], None]) -> None:
        """``topic`` is the broker's name for the message's."""
        properties = names.outward(message.properties) if self._connect.version == 5 else NO_PROPERTIES
        if self.ended:
            done((Reason.UNSPECIFIED_ERROR,))
        elif properties is None:
            done((Reason.IMPLEMENTATION_SPECIFIC_ERROR,))
        elif not self._writable and not message.qos:
            done((Reason.QUOTA_EXCEEDED,))
        else:
            self._client.publish(
                topic, message.payload, qos=message.qos, retain=message.retain, properties=properties, done=done
            )
            self._flush_soon()

    def subscribe(self, subscriptions: Sequence[Subscription], done: Callable[[Sequence[Reason]], None]) -> None:
        requests: list[SubscriptionRequest] = []
        refusals: list[Reason | None] = []
        for s in subscriptions:
            name = self._names.filter(s.filter)
            if name is None:
                refusals.append(self._names.why_not(s.filter))
            else:
                refusals.append(None)
                requests.append(SubscriptionRequest(name, s.qos, s.no_local, s.retain_as_published, s.retain_handling))
        self._ask(requests, refusals, self._client.subscribe, done)

    def unsubscribe(self, filters: Sequence[str], done: Callable[[Sequence[Reason]], None]) -> None:
        names = [self._names.filter(filter) for filter in filters]
        refusals = [Reason.NO_SUBSCRIPTION_EXISTED if name is None else None for name in names]
        self._ask([name for name in names if name is not None], refusals, self._client.unsubscribe, done)

    def congestion(self) -> Coroutine[Any, Any, None] | None:
        return None if self.ended or not self.congested else self._wait_for_room()

    def acknowledge(self, packet_id: int) -> None:
        if self.ended or packet_id not in self._under_way:
            return
        self._under_way.remove(packet_id)
        self._client.acknowledge(packet_id)
        self._flush_soon()
        if self._held:
            self._process(b"")

    def pause(self) -> None:
        self._flowing = False
        self._read_if_wanted()

    def resume(self) -> None:
        self._flowing = True
        self._process(b"")

    def set_expiry(self, seconds: int) -> None:
        self._expiry = seconds
        if self._connect.version == 4:
            self.must_discard = seconds == 0 and not self._connect.clean_start

    def close(self, *, discard: bool = False) -> None:
        if self.ended:
            return
        if discard:
            self.set_expiry(0)
        self._end()

    # The broker's own.

    def take_over(self) -> None:
        """Another connection of this client id comes."""
        if not self.ended:
            self._end()
            self._subscriber.lost(Reason.SESSION_TAKEN_OVER)

    def shut_down(self, reason: Reason) -> None:
        if not self.ended:
            self._end()
            self._subscriber.lost(reason)

    def abandon(self) -> None:
        """It was not opened in time."""
        self.ended = True
        if self._transport is not None:
            self._transport.abort()
        else:
            self._be_gone()

    def tick(self, now: float) -> None:
        if self.ended:
            return
        if self._client.tick(now, reading=self._reading):
            self._flush_now()
        else:
            self._lose(_BROKER_GONE, "the broker is silent")

    # The transport's.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self.gone.is_set():
            self._transport.abort()
        else:
            self._flush_now()

    def data_received(self, data: bytes) -> None:
        self._process(data)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._linger is not None:
            self._linger.cancel()
        self._lose(_BROKER_GONE, "the broker closed the connection")
        self._be_gone()

    def _process(self, data: bytes) -> None:
        """Takes events one by one: any of them may pause or close this link."""
        if self.ended and self.opened.done():
            return
        if self._processing:  # called from inside: the loop below goes on with what changed
            return
        self._processing = True
        try:
            events = self._client.receive(data)
            while self._hand_over() and (event := next(events, None)) is not None:
                self._handle(event)
        except ProtocolError as error:
            self._client.disconnect(error.reason)
            self._flush_now()
            self._lose(_BROKER_GONE, f"the broker broke the protocol: {error}")
        finally:
            self._processing = False
        self._read_if_wanted()
        self._wake()
        self._flush_now()

    def _hand_over(self) -> bool:
        """Delivers what was held; whether to go on with what the broker sent."""
        if not self.opened.done():
            return True
        while self._flowing and not self.ended and self._held and self._has_room():
            self._deliver(*self._held.popleft())
        return self._takes_more()

    def _takes_more(self) -> bool:
        return self._flowing and not self.ended and len(self._held) < _MAX_HELD

    def _has_room(self) -> bool:
        return len(self._under_way) < self._connect.receive_maximum

    def _handle(self, event: Event) -> None:
        match event:
            case ConnAck():
                self._session_present = event.session_present
                self.opened.set_result(event)
            case Answered():
                event.done(event.reasons)
            case Publish():
                self._on_publish(event)
            case Disconnect():
                taken = event.reason is Reason.SESSION_TAKEN_OVER
                self._lose(event.reason if taken else _BROKER_GONE, f"the broker disconnected: {event.reason.name}")

    def _on_publish(self, packet: Publish) -> None:
        topic, packet_id = self._names.local(packet.topic), packet.packet_id
        if topic is None:
            _log.warning("the broker sent a message of another's topic", topic=packet.topic)
            if packet_id is not None:
                self._client.acknowledge(packet_id)
            return
        properties = self._names.inward(packet.properties)
        message = Message(topic, packet.payload, 0 if packet_id is None else 1, packet.retain, properties)
        if packet_id is None:
            self._subscriber.deliver(message, None, again=False)
        elif self._held or not self._has_room():
            self._held.append((message, packet_id, packet.dup))
        else:
            self._deliver(message, packet_id, packet.dup)

    def _deliver(self, message: Message, packet_id: int, again: bool) -> None:
        self._under_way.add(packet_id)
        self._subscriber.deliver(message, packet_id, again=again)

    def _ask(
        self,
        wanted: list[Any],
        refusals: list[Reason | None],
        ask: Callable[[list[Any], Callable[[Sequence[Reason]], None]], None],
        done: Callable[[Sequence[Reason]], None],
    ) -> None:
        def answered(reasons: Sequence[Reason]) -> None:
            theirs = iter(reasons)
            done([next(theirs) if refusal is None else refusal for refusal in refusals])

        if self.ended:
            answered([Reason.UNSPECIFIED_ERROR] * len(wanted))
        elif wanted:
            ask(wanted, answered)
            self._flush_soon()
        else:
            answered(())

    # The end.

    def _end(self) -> None:
        """DISCONNECT, so that nothing is published in anybody's name, and then the broker is to close."""
        self.ended = True
        self._held.clear()
        if self.opened.done():  # else the caller of ``opened`` closes: the broker may have the CONNECT already
            self.finish()
        self._fail_all()

    def finish(self) -> None:
        self._client.disconnect(session_expiry=self._expiry)
        self._flush_now()
        if self._transport is None:
            self._be_gone()
            return
        self._linger = self._loop.call_later(_LINGER, self._transport.abort)
        self._read_if_wanted()

    def _lose(self, reason: Reason, why: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(Unavailable(why))
            self.opened.exception()  # it may be that nobody waits for it any more
        if self.ended:
            return
        self.ended = True
        self._held.clear()
        if self._transport is not None:
            self._transport.close()
        _log.debug("a link was lost", reason=reason.name, why=why)
        self._subscriber.lost(reason)
        self._fail_all()

    def _be_gone(self) -> None:
        if not self.gone.is_set():
            self.gone.set()
            self._on_gone(self)

    def _fail_all(self) -> None:
        """After the device was told: a failure would have it drop what it should send again."""
        for answered in self._client.abandoned():
            answered.done(answered.reasons)
        self._wake()

    async def _wait_for_room(self) -> None:
        while self.congested and not self.ended:
            if self._uncongested is None:
                self._uncongested = self._loop.create_future()
            await asyncio.shield(self._uncongested)

    def _wake(self) -> None:
        if self._uncongested is not None and (self.ended or not self.congested):
            self._uncongested.set_result(None)
            self._uncongested = None

    def _read_if_wanted(self) -> None:
        wanted = self.ended or not self.opened.done() or self._takes_more()
        if wanted != self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = False
        if self._transport is None or self._transport.is_closing():
            return
        data = self._client.outgoing(self._loop.time())
        if data:
            self._transport.write(data)
