"""Turns the bytes of one device's connection into events: in order, at most at its rates, fairly between devices."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol, cast

import structlog

from thingmint.domain.errors import Throttled, Unavailable
from thingmint.domain.names import plain_address
from thingmint.mqtt.protocol.events import Disconnected, Failed, SubscribeRequested, UnsubscribeRequested
from thingmint.mqtt.protocol.packets import Publish
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.rates import Meter

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from thingmint.mqtt.protocol.connection import ServerConnection
    from thingmint.mqtt.protocol.events import Event
    from thingmint.mqtt.protocol.limits import Limits
    from thingmint.mqtt.rates import RateLimit
    from thingmint.services.change_feed import ChangeFeed


_MAX_HELD = 16 * 1024  # bytes that wait while an event is handled; with more, reading stops
_MAX_UNREAD = 256 * 1024  # bytes of answers that the device does not read; with more, reading stops
_TURN = 0.005  # seconds for the events of one device; then other devices get their turn
_MAX_UNACCEPTED = 32 * 2**20  # bytes from all connections without an accepted CONNECT
_FEW_UNACCEPTED = 4 * 1024  # bytes that each of these connections may send even if the total is exceeded
_METERED = 1024  # bytes: a device that sends less at a time, and no messages, needs no meter

_log = structlog.get_logger("thingmint.gateway")


class Handler(Protocol):
    """Handles the events of a connection."""

    @property
    def is_accepted(self) -> bool:
        """True if CONNECT was accepted."""
        ...

    def suspend(self) -> None:
        """Suspends the connection once CONNECT was accepted."""
        ...

    def opened(self) -> None:
        """The transport is connected."""
        ...

    def handle(self, event: Event) -> Coroutine[Any, Any, None] | None:
        """Returns None, or a coroutine to await before the next event."""
        ...

    def writable(self, *, is_writable: bool) -> None:
        """The device reads again, or has stopped reading."""
        ...

    def failed(self, reason: Reason, why: str) -> None:
        """The handler has to end the connection."""
        ...

    def lost(self) -> None:
        """The transport is closed. This is the last call."""
        ...


class Connection(asyncio.Protocol):
    """Handles packets in order. While one takes time (authentication, provisioning), the next packets wait.

    While too much waits, or the device exceeds its rates, the device is not read; nothing is dropped.
    While the connection is suspended, PINGREQ is answered, DISCONNECT is handled, and all other packets wait.
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
        self._unaccepted = 0  # bytes that came before CONNECT was accepted, or while the connection is suspended
        self._suspended = False
        self.authenticated_after = -1
        """The change feed's number of interruptions when the device was last authenticated."""
        self._is_turn_due = False
        self._flushing = False
        self._ended = False

    # The interface for the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._handler.opened()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        now = self._loop.time()
        if self._rate_limit.is_on and (self._meter is not None or len(data) > _METERED):
            self._throttle(self._metered().receive(len(data), now))
        if not self.is_current(now):  # if the whole process was stopped, ConnectionMonitor has not run yet
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
            self._handler.failed(Reason.QUOTA_EXCEEDED, "connections without an accepted CONNECT use too much memory")
            return
        self._flushing = True  # so that handlers do not flush: it is done once, below
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
        del self._handler  # breaks the reference cycles

    # The interface for the handler.

    def flush(self) -> None:
        """Sends the MQTT connection's outgoing bytes soon."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_now)

    def accept(self, *, session_present: bool, limits: Limits) -> None:
        """Answers CONNECT. Packets that the device sent together with CONNECT are handled before later ones."""
        self._release_unaccepted()
        self._waiting[:0] = self.mqtt.accept(self._loop.time(), session_present=session_present, limits=limits)
        self._flush_now()

    def suspend(self) -> None:
        """Holds the packets of the device, except PINGREQ and DISCONNECT, until ``resume``."""
        self._suspended = True

    def resume(self) -> None:
        """Handles the packets that came meanwhile, in order."""
        if self._suspended and not self._ended:
            self._suspended = False
            self._release_unaccepted()
            self._go_on()

    def is_current(self, now: float) -> bool:
        """True if changes were followed without a gap since the device was last authenticated."""
        feed = self._feed
        return now <= feed.fresh_until and self.authenticated_after == feed.interruptions

    @property
    def own_address(self) -> tuple[str, int]:
        """The server's address and port; ("", 0) on a Unix socket, or if the connection is lost."""
        name = self._transport.get_extra_info("sockname") if self._transport is not None else None
        return (plain_address(name[0]), name[1]) if isinstance(name, tuple) else ("", 0)

    @property
    def is_suspended(self) -> bool:
        return self._suspended

    def is_silent(self, now: float) -> bool:
        """True if CONNECT, or any packet within the keep-alive, did not come in time; not while reading is stopped."""
        if not self.mqtt.expired(now):
            return False
        if self._handler.is_accepted and (self._busy is not None or self._throttled is not None or self._suspended):
            self.mqtt.heard(now)
            return False
        return True

    def idle(self, now: float) -> float:
        """Returns the seconds since the last packet of the client."""
        return self.mqtt.idle(now)

    def stop(self) -> None:
        """Handles no more packets, also those that wait."""
        self._ended = True
        self._waiting.clear()
        self._release_unaccepted()
        if self._throttled is not None:
            self._throttled.cancel()

    def close(self) -> None:
        """Sends the remaining bytes and closes."""
        self._flush_now()
        if self._transport is not None:
            self._transport.close()

    # Events, in order and in turns.

    @property
    def _is_occupied(self) -> bool:
        """True if new packets have to wait for earlier ones."""
        return bool(self._waiting) or self._is_engaged

    @property
    def _is_engaged(self) -> bool:
        """True if new bytes cannot even be decoded now."""
        return self.mqtt.has_more or self._busy is not None or self._throttled is not None

    def _receive_only(self, data: bytes, now: float) -> None:
        self._hold_unaccepted(len(data))
        for event in self.mqtt.receive(data, now):
            if isinstance(event, Disconnected | Failed):
                self._waiting.clear()  # none of these packets was acknowledged
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
            # SERVER_UNAVAILABLE is not a reason code of DISCONNECT (MQTT 5, 3.14.2.1).
            self._fail(Reason.SERVER_BUSY if self._has_accepted else Reason.SERVER_UNAVAILABLE, str(error))
        except Throttled as error:
            self._fail(Reason.SERVER_BUSY, str(error))
        except Exception:  # noqa: BLE001 - else the device would wait for an answer forever
            _log.exception("connection_failed")
            self._fail(Reason.UNSPECIFIED_ERROR, "an internal error")
        finally:
            self._busy = None
            if not self._ended:
                self._go_on()

    @property
    def _has_accepted(self) -> bool:
        return not self._ended and self._handler.is_accepted

    def _fail(self, reason: Reason, why: str) -> None:
        if not self._ended:  # else the connection may be lost, and the handler deleted
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
        """Counts bytes that wait until the device is authenticated. False if there is no room for them."""
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
