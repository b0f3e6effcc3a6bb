"""The bytes of one device's connection: events come out in order, in turns, and no faster than its rates allow."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol, cast

import structlog

from thingmint.domain.errors import Throttled, Unavailable
from thingmint.mqtt.protocol.events import Disconnected, Failed, SubscribeRequested, UnsubscribeRequested
from thingmint.mqtt.protocol.packets import Publish
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.rates import Meter

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from thingmint.mqtt.protocol.connection import ServerConnection
    from thingmint.mqtt.protocol.events import Event
    from thingmint.mqtt.rates import RateLimit
    from thingmint.services.change_feed import ChangeFeed


_MAX_HELD = 16 * 1024  # bytes that wait for an event that takes time, before reading stops
_MAX_UNREAD = 256 * 1024  # bytes of answers that the device does not take, before reading stops
_TURN = 0.005  # seconds for the events of one device, before it is the others' turn
_MAX_UNACCEPTED = 32 * 2**20  # bytes from all connections whose CONNECT was not accepted, while one of them holds more
_FEW_UNACCEPTED = 4 * 1024  # than these
_METERED = 1024  # bytes: a device that sends less at a time, and no messages, needs no meter

_log = structlog.get_logger("thingmint.gateway")


class Handler(Protocol):
    """What the events of a connection are for."""

    @property
    def is_accepted(self) -> bool:
        """CONNECT was accepted."""
        ...

    def suspend(self) -> None:
        """Suspends the connection once CONNECT was accepted."""
        ...

    def opened(self) -> None:
        """The transport is there."""
        ...

    def handle(self, event: Event) -> Coroutine[Any, Any, None] | None:
        """What is left to be waited for before the next one, if anything is."""
        ...

    def writable(self, *, is_writable: bool) -> None:
        """The device takes, or does not take, what is sent to it."""
        ...

    def failed(self, reason: Reason, why: str) -> None:
        """The connection has to end."""
        ...

    def lost(self) -> None:
        """The transport is gone; nothing is called any more."""
        ...


class Connection(asyncio.Protocol):
    """Packets are handled in order. While one takes time (a CONNECT that is authenticated, a provisioning) others wait.
    While more waits than may, or more came than the rates allow, the device is not read; nothing is dropped.

    While the connection is suspended PINGREQ is answered, and all other packets wait, but for the device's DISCONNECT.
    """

    __slots__ = (
        "_busy",
        "_ended",
        "_feed",
        "_flushing",
        "_handler",
        "_is_turn_due",
        "_loop",
        "_meter",
        "_rate_limit",
        "_suspended",
        "_throttled",
        "_transport",
        "_unaccepted",
        "_waiting",
        "authenticated_after",
        "mqtt",
    )

    def __init__(self, mqtt: ServerConnection, rate_limit: RateLimit, feed: ChangeFeed, handler: Handler) -> None:
        self.mqtt = mqtt
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._rate_limit = rate_limit
        self._handler = handler
        self._transport: asyncio.Transport | None = None
        self._waiting: list[Event] = []  # few; an empty deque takes 760 bytes
        self._busy: asyncio.Task[None] | None = None
        self._meter: Meter | None = None
        self._throttled: asyncio.TimerHandle | None = None
        self._unaccepted = 0  # bytes that came before CONNECT was accepted, or while it is suspended
        self._suspended = False
        self.authenticated_after = -1
        """The feed's interruptions before the device was authenticated last."""
        self._is_turn_due = False
        self._flushing = False
        self._ended = False

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._handler.opened()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        now = self._loop.time()
        if self._rate_limit.is_on and (self._meter is not None or len(data) > _METERED):
            self._throttle(self._metered().receive(len(data), now))
        if not self.is_current(now):  # seen here first where the whole process stood still
            self._handler.suspend()
        if self._suspended and not self._is_engaged:
            self._receive_only(data, now)
            return
        if self._handler.is_accepted:
            if self._is_occupied:
                self.mqtt.hold(data)
                self._read_or_wait()
                return
        elif not self._hold_unaccepted(len(data)):
            self._handler.failed(Reason.QUOTA_EXCEEDED, "connections that were not accepted hold too much memory")
            return
        self._flushing = True  # once, at the end, also where handling an event asks for it
        self._waiting.extend(self.mqtt.receive(data, now))
        self._pump()
        self._flush_now()
        self._read_or_wait()

    def pause_writing(self) -> None:
        self._handler.writable(is_writable=False)

    def resume_writing(self) -> None:
        self._handler.writable(is_writable=True)
        self._read_or_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._handler.lost()
        self._transport = None
        del self._handler  # and with it every cycle

    # What the handler calls.

    def flush(self) -> None:
        """Sends what the MQTT connection has to say, soon."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_now)

    def accept(self, *, session_present: bool) -> None:
        """Answers CONNECT. What the device sent behind it is handled before anything that came later."""
        self._release_unaccepted()
        self._waiting[:0] = self.mqtt.accept(self._loop.time(), session_present=session_present)
        self._flush_now()

    def suspend(self) -> None:
        """From now on nothing that the device says has any effect."""
        self._suspended = True

    def resume(self) -> None:
        """What came meanwhile is handled, in order."""
        if self._suspended and not self._ended:
            self._suspended = False
            self._release_unaccepted()
            self._go_on()

    def is_current(self, now: float) -> bool:
        """Whether changes were followed ever since the device was authenticated."""
        feed = self._feed
        return now <= feed.fresh_until and self.authenticated_after == feed.interruptions

    @property
    def is_suspended(self) -> bool:
        return self._suspended

    def is_silent(self, now: float) -> bool:
        """Whether CONNECT did not come, or nothing was heard, in time. A device that is not read is not silent."""
        if not self.mqtt.expired(now):
            return False
        if self._handler.is_accepted and (self._busy is not None or self._throttled is not None or self._suspended):
            self.mqtt.heard(now)
            return False
        return True

    def stop(self) -> None:
        """Nothing that came, or comes, is handled."""
        self._ended = True
        self._waiting.clear()
        self._release_unaccepted()
        if self._throttled is not None:
            self._throttled.cancel()

    def close(self) -> None:
        """Sends what is left to be said, and closes."""
        self._flush_now()
        if self._transport is not None:
            self._transport.close()

    # Events, in order and in turns.

    @property
    def _is_occupied(self) -> bool:
        """Whether what comes now has to wait for what came before."""
        return bool(self._waiting) or self._is_engaged

    @property
    def _is_engaged(self) -> bool:
        """Whether what comes now cannot even be looked at."""
        return self.mqtt.has_more or self._busy is not None or self._throttled is not None

    def _receive_only(self, data: bytes, now: float) -> None:
        self._hold_unaccepted(len(data))
        for event in self.mqtt.receive(data, now):
            if isinstance(event, Disconnected | Failed):
                self._waiting.clear()  # nothing of it was acknowledged
                self._handler.handle(event)
                return
            self._waiting.append(event)
        self._flush_now()
        self._read_or_wait()

    def _go_on(self) -> None:
        if self.mqtt.has_more and self._busy is None and self._throttled is None:
            if self._suspended:
                self._receive_only(b"", self._loop.time())
                return
            if not self._waiting:
                self._waiting.extend(self.mqtt.receive(b"", self._loop.time()))
        self._pump()
        self._flush_now()
        self._read_or_wait()

    def _pump(self) -> None:
        ends: float | None = None
        while self._waiting and self._busy is None and self._throttled is None and not (self._ended or self._suspended):
            event = self._waiting.pop(0)
            if self._rate_limit.is_on:
                self._measure(event)
            work = self._handler.handle(event)
            if work is not None:
                self._busy = self._loop.create_task(self._wait_for(work))
            if self._waiting:  # nearly always it was the only one
                now = time.perf_counter()
                ends = ends or now + _TURN
                if now >= ends:
                    return

    def _read_or_wait(self) -> None:
        transport = self._transport
        if transport is None or self._ended:
            return
        if transport.get_write_buffer_size() > _MAX_UNREAD or self._throttled is not None:
            transport.pause_reading()
        elif self._busy is not None:
            if self.mqtt.held > _MAX_HELD:
                transport.pause_reading()
        elif self.mqtt.has_more or (self._waiting and not self._suspended):
            transport.pause_reading()
            if not self._is_turn_due:
                self._is_turn_due = True
                self._loop.call_soon(self._take_turn)
        elif self._suspended and not self._has_room:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def _take_turn(self) -> None:
        self._is_turn_due = False
        if not self._ended:
            self._go_on()

    async def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Unavailable as error:
            # DISCONNECT has no word for it (MQTT 5, 3.14.2.1).
            self._fail(Reason.SERVER_BUSY if self._has_accepted else Reason.SERVER_UNAVAILABLE, str(error))
        except Throttled as error:
            self._fail(Reason.SERVER_BUSY, str(error))
        except Exception:  # noqa: BLE001 - else the device would wait for an answer for ever
            _log.exception("connection_failed")
            self._fail(Reason.UNSPECIFIED_ERROR, "of an error of our own")
        finally:
            self._busy = None
            if not self._ended:
                self._go_on()

    @property
    def _has_accepted(self) -> bool:
        return not self._ended and self._handler.is_accepted

    def _fail(self, reason: Reason, why: str) -> None:
        if not self._ended:  # else the device may have gone, and the handler with it
            self._handler.failed(reason, why)

    # Rates, and memory.

    def _measure(self, event: Event) -> None:
        if isinstance(event, Publish):
            self._throttle(self._metered().publish(self._loop.time()))
        elif isinstance(event, SubscribeRequested | UnsubscribeRequested):
            self._throttle(self._metered().subscribe(self._loop.time()))

    def _metered(self) -> Meter:
        if self._meter is None:
            self._meter = Meter(self._rate_limit.rates)
        return self._meter

    def _throttle(self, seconds: float) -> None:
        if seconds > 0 and self._throttled is None:
            self._rate_limit.exceeded += 1
            self._throttled = self._loop.call_later(seconds, self._throttle_ended)

    def _throttle_ended(self) -> None:
        self._throttled = None
        if self._meter is not None:
            self._throttle(self._meter.excess(self._loop.time()))  # timers may be early
        self._take_turn()

    def _hold_unaccepted(self, size: int) -> bool:
        """Whether there is room. A certificate may be anyone's until CONNECT is accepted."""
        self._unaccepted += size
        self._rate_limit.unaccepted += size
        return self._has_room

    @property
    def _has_room(self) -> bool:
        return self._unaccepted <= _FEW_UNACCEPTED or self._rate_limit.unaccepted <= _MAX_UNACCEPTED

    def _release_unaccepted(self) -> None:
        self._rate_limit.unaccepted -= self._unaccepted
        self._unaccepted = 0

    def _flush_now(self) -> None:
        self._flushing = False
        data = self.mqtt.outgoing()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
