"""A connection to an upstream broker: ClientConnection on an asyncio transport, with back-pressure both ways."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.mqtt.broker.upstream.client import Answered, ClientConnection
from thingmint.mqtt.protocol.packets import ConnAck, Disconnect, Publish
from thingmint.mqtt.protocol.reasons import ProtocolError, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from thingmint.mqtt.broker.upstream.client import Event
    from thingmint.mqtt.protocol.packets import Connect


_LINGER = 2.0  # seconds for the broker to close the connection after DISCONNECT
_TURN = 0.005  # seconds for the events of one connection; then other connections get their turn
# DISCONNECT has no reason code "unavailable" (MQTT 5, 3.14.2.1). After this one, clients wait before they reconnect.
_BROKER_GONE = Reason.SERVER_BUSY

_log = structlog.get_logger("thingmint.gateway")


class UpstreamConnection(asyncio.Protocol):
    """``opened`` gets the broker's CONNACK, or Unavailable. ``accepted``: CONNACK accepted the connection.

    ``ended`` is True as soon as the connection must not be used any more. When it is closed, ``gone`` is set and
    ``on_gone`` is called. Between CONNACK and ``resume``, and while paused, nothing is read: messages wait at the
    broker.
    """

    def __init__(self, connect: Connect, on_gone: Callable[[UpstreamConnection], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._connect = connect
        self._client = ClientConnection(connect, self._loop.time())
        self._on_gone = on_gone
        self._transport: asyncio.Transport | None = None
        self._session_present = False
        self._expiry: int | None = None
        self._flowing = False
        self._reading = True
        self._writable = True
        self._processing = False
        self._is_turn_due = False
        self._flushing = False
        self._uncongested: asyncio.Future[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self.ended = False
        self.accepted = False
        self.opened: asyncio.Future[ConnAck] = self._loop.create_future()
        self.gone = asyncio.Event()

    # The interface for subclasses.

    def _on_publish(self, packet: Publish) -> None:
        raise NotImplementedError

    def _on_end(self, reason: Reason | None) -> None:
        """``reason`` is None if this side ended the connection."""
        raise NotImplementedError

    def _catch_up(self) -> bool:
        """Called before more is read. Returns whether more may be read."""
        return True

    @property
    def _full(self) -> bool:
        return False

    @property
    def session_present(self) -> bool:
        return self._session_present

    @property
    def congested(self) -> bool:
        return not self._writable or self._client.congested

    def congestion(self) -> Coroutine[Any, Any, None] | None:
        return None if self.ended or not self.congested else self._wait_for_room()

    def pause(self) -> None:
        self._flowing = False
        self._read_if_wanted()

    def resume(self) -> None:
        self._flowing = True
        self._process(b"")

    def abandon(self) -> None:
        """Aborts the connection: it was not opened in time."""
        self.ended = True
        if self._transport is not None:
            self._transport.abort()
        else:
            self._closed()

    def tick(self, now: float) -> None:
        if self.ended:
            return
        if self._client.tick(now, reading=self._reading):
            self._flush_now()
        else:
            self._lose(_BROKER_GONE, "the broker is silent")

    # The interface for the transport.

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
        self._closed()
        self._lose(_BROKER_GONE, "the broker closed the connection")

    def _process(self, data: bytes) -> None:
        """Handles events one by one: each may pause or close this link."""
        if self.ended and self.opened.done():
            return
        if self._processing:  # called from inside the loop below, which continues with the new state
            return
        self._processing = True
        try:
            events = self._client.receive(data)
            ends = time.perf_counter() + _TURN
            while self._goes_on() and (event := next(events, None)) is not None:
                self._handle(event)
                if time.perf_counter() >= ends:
                    self._go_on_later()
                    break
        except ProtocolError as error:
            self._client.disconnect(error.reason)
            self._flush_now()
            self._lose(_BROKER_GONE, f"the broker broke the protocol: {error}")
        finally:
            self._processing = False
        self._read_if_wanted()
        self._wake()
        self._flush_now()

    def _go_on_later(self) -> None:
        if not self._is_turn_due:
            self._is_turn_due = True
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._is_turn_due = False
        self._process(b"")

    def _goes_on(self) -> bool:
        return not self.opened.done() or (self._flowing and not self.ended and self._catch_up())

    def _takes_more(self) -> bool:
        return self._flowing and not self.ended and not self._full

    def _handle(self, event: Event) -> None:
        match event:
            case ConnAck():
                self._session_present = event.session_present
                self.accepted = not event.reason.failed
                self.opened.set_result(event)
            case Answered():
                event.done(event.reasons)
            case Publish():
                self._on_publish(event)
            case Disconnect():
                taken = event.reason is Reason.SESSION_TAKEN_OVER
                self._lose(event.reason if taken else _BROKER_GONE, f"the broker disconnected: {event.reason.name}")

    # The end.

    def end(self, reason: Reason | None = None) -> None:
        """Sends DISCONNECT; the broker then closes. ``reason`` is None if the device's connection ended."""
        if self.ended:
            return
        self.ended = True
        if self.opened.done():  # else UpstreamBroker.open does this: the broker may have received CONNECT already
            self.finish()
        self._on_end(reason)
        self._fail_all()

    def finish(self) -> None:
        self._client.disconnect(session_expiry=self._expiry)
        self._flush_now()
        if self._transport is None:
            self._closed()
            return
        self._abort_later(self._transport)
        self._read_if_wanted()

    def _lose(self, reason: Reason, why: str) -> None:
        opened = self.opened.done()
        if not opened:
            self.opened.set_exception(Unavailable(why))
            self.opened.exception()  # marks it as retrieved: the caller may have given up waiting
        if self.ended:
            return
        self.ended = True
        if self._transport is not None:
            self._transport.close()
            self._abort_later(self._transport)
        _log.debug("broker_connection_lost", reason=reason.name, why=why)
        self._on_end(reason if opened else None)
        self._fail_all()

    def _abort_later(self, transport: asyncio.Transport) -> None:
        if self._linger is None and not self.gone.is_set():
            self._linger = self._loop.call_later(_LINGER, transport.abort)

    def _closed(self) -> None:
        if not self.gone.is_set():
            self.gone.set()
            self._on_gone(self)

    def _fail_all(self) -> None:
        """Fails all requests. Called after the device is disconnected: it must repeat them, not see them refused."""
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
        wanted = self.ended or not self.opened.done() or (self._takes_more() and not self._is_turn_due)
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
