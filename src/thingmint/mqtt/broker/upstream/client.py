"""The client's side of the MQTT protocol, sans I/O: bytes in, events out; requests in, bytes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode, encode_puback, encode_publish
from thingmint.mqtt.protocol.packets import (
    ConnAck,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
)
from thingmint.mqtt.protocol.reasons import ProtocolError, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from thingmint.domain.messages import MessageProperties
    from thingmint.mqtt.protocol.packets import Connect, Packet, SubscriptionRequest, Version


Done = Callable[[Sequence[Reason]], None]
"""Called once, with a reason for each message or filter of a request."""

MAX_PACKET_SIZE: Final = 256 * 1024  # bytes; devices send and receive no packet above 146 KiB
_WINDOW = 100  # unacknowledged QoS 1 messages at most, even if the broker allows more
_MAX_UNANSWERED = 200  # requests: unacknowledged messages, messages that are not sent yet, and subscriptions
_MAX_WAITING_BYTES = 256 * 1024
_PING_TIMEOUT = 20.0  # seconds
_MAX_PACKET_ID = 65_535
_PINGREQ = encode(PingReq(), 5)


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a request: call ``done``, the function given with the request, with ``reasons``."""

    done: Done
    reasons: Sequence[Reason]


Event = ConnAck | Publish | Answered | Disconnect


@dataclass(frozen=True, slots=True)
class _Request:
    answer: type[Packet]
    count: int
    done: Done


class ClientConnection:
    """Times are seconds of a monotonic clock.

    Requests made while ``congested`` is True are refused: check it first.
    """

    def __init__(self, connect: Connect, now: float) -> None:
        self._version: Version = connect.version
        self._decoder = Decoder(MAX_PACKET_SIZE, connect.version)
        self._out = [encode(connect, connect.version)]
        self._connect = connect
        self._open = False
        self._requests: dict[int, _Request] = {}
        self._in_flight = 0  # requests that the broker's receive maximum limits
        self._waiting: dict[int, tuple[bytes, _Request]] = {}  # in order, until there is room in the window
        self._waiting_bytes = 0
        self._last_id = 0
        self._unacknowledged: set[int] = set()
        self._window = _WINDOW
        self._limit = MAX_PACKET_SIZE
        self._retain = True
        self._interval = connect.keep_alive / 2
        self._sent = now
        self._pinged: float | None = None

    @property
    def congested(self) -> bool:
        unanswered = len(self._requests) + len(self._waiting)
        return unanswered >= _MAX_UNANSWERED or self._waiting_bytes >= _MAX_WAITING_BYTES

    def outgoing(self, now: float) -> bytes:
        """Returns the bytes to send, once."""
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        self._sent = now
        return data

    def receive(self, data: bytes) -> Iterator[Event]:
        """Returns an iterator of events. Events not taken come with the next call. It raises ProtocolError."""
        self._pinged = None if data else self._pinged
        return self._events(self._decoder.feed(data))

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int,
        retain: bool,
        properties: MessageProperties,
        done: Done,
    ) -> None:
        """Sends a message. ``done`` is called now if it is refused or of QoS 0; else it comes back in Answered."""
        if retain and not self._retain:
            done((Reason.IMPLEMENTATION_SPECIFIC_ERROR,))
            return
        packet_id = self._free_id() if qos else None
        data = encode_publish(
            self._version, topic, payload, qos=qos, retain=retain, packet_id=packet_id, properties=properties
        )
        if len(data) > self._limit:
            done((Reason.IMPLEMENTATION_SPECIFIC_ERROR,))
        elif self.congested:
            done((Reason.QUOTA_EXCEEDED,))
        elif packet_id is None:
            self._out.append(data)
            done((Reason.SUCCESS,))
        else:
            self._waiting[packet_id] = data, _Request(PubAck, 1, done)
            self._waiting_bytes += len(data)
            self._send_waiting()

    def subscribe(self, requests: Sequence[SubscriptionRequest], done: Done) -> None:
        self._ask(SubAck, len(requests), lambda packet_id: Subscribe(packet_id, tuple(requests)), done)

    def unsubscribe(self, filters: Sequence[str], done: Done) -> None:
        self._ask(UnsubAck, len(filters), lambda packet_id: Unsubscribe(packet_id, tuple(filters)), done)

    def acknowledge(self, packet_id: int) -> None:
        if packet_id in self._unacknowledged:
            self._unacknowledged.remove(packet_id)
            self._out.append(encode_puback(packet_id))

    def disconnect(self, reason: Reason = Reason.SUCCESS, session_expiry: int | None = None) -> None:
        """``session_expiry``, in seconds, replaces CONNECT's. MQTT 3.1.1 sends neither argument."""
        if not self._connect.session_expiry:
            session_expiry = None  # DISCONNECT cannot set an expiry if CONNECT's was 0 (MQTT 5, 3.14.2.2.2)
        if self._open:
            self._out.append(encode(Disconnect(reason, session_expiry), self._version))

    def abandoned(self) -> list[Answered]:
        """Returns failures for all unanswered requests: the connection has ended."""
        requests = [*self._requests.values(), *(request for _, request in self._waiting.values())]
        self._requests.clear()
        self._waiting.clear()
        self._waiting_bytes = 0
        return [Answered(request.done, (Reason.UNSPECIFIED_ERROR,) * request.count) for request in requests]

    def tick(self, now: float, *, reading: bool) -> bool:
        """Sends PINGREQ when due; call it every few seconds. False if PINGRESP did not come in time."""
        if not self._open or not self._interval:
            return True
        if self._pinged is not None and not reading:
            self._pinged = now  # the answer may have arrived, but is not read
        if self._pinged is not None and now - self._pinged >= _PING_TIMEOUT:
            return False
        if now - self._sent >= self._interval:
            self._out.append(_PINGREQ)
            self._sent = now
            self._pinged = now if self._pinged is None else self._pinged
        return True

    def _events(self, packets: Iterable[Packet]) -> Iterator[Event]:
        for packet in packets:
            if not self._open:
                yield self._on_connack(packet)
                continue
            match packet:
                case Publish():
                    if self._is_new(packet):
                        yield packet
                case PubAck() | SubAck() | UnsubAck():
                    yield self._on_answer(packet)
                case PingResp():
                    pass
                case Disconnect() if self._version == 5:
                    yield packet
                case _:
                    raise ProtocolError(Reason.PROTOCOL_ERROR, "a packet that a broker must not send")

    def _on_connack(self, packet: Packet) -> ConnAck:
        if not isinstance(packet, ConnAck):
            raise ProtocolError(Reason.PROTOCOL_ERROR, "the first packet is not CONNACK")  # MQTT-3.2.0-1
        if packet.reason.failed:
            return packet
        if packet.session_present and self._connect.clean_start:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "session present after a clean start")  # MQTT-3.2.2-2
        if packet.maximum_qos < 1:
            raise ProtocolError(Reason.QOS_NOT_SUPPORTED, "the broker does not support QoS 1")
        self._open = True
        self._window = min(packet.receive_maximum, _WINDOW)
        self._limit = min(packet.maximum_packet_size or self._limit, self._limit)
        self._retain = packet.retain_available
        if packet.server_keep_alive is not None:
            self._interval = packet.server_keep_alive / 2
        return packet

    def _is_new(self, packet: Publish) -> bool:
        if packet.topic_alias is not None:
            raise ProtocolError(Reason.TOPIC_ALIAS_INVALID, "a topic alias, but the topic alias maximum is 0")
        if packet.qos > 1:
            raise ProtocolError(Reason.QOS_NOT_SUPPORTED, "a quality of service above that of every subscription")
        if packet.packet_id is None:
            return True
        if packet.packet_id in self._unacknowledged:
            if packet.dup and self._version == 4:
                return False  # MQTT 3.1.1 lets a server repeat a message that is not acknowledged yet (4.4)
            raise ProtocolError(Reason.PACKET_IDENTIFIER_IN_USE, "a packet identifier is in use")
        if self._version == 5 and len(self._unacknowledged) >= self._connect.receive_maximum:
            raise ProtocolError(Reason.RECEIVE_MAXIMUM_EXCEEDED, "the receive maximum is exceeded")
        self._unacknowledged.add(packet.packet_id)
        return True

    def _on_answer(self, packet: PubAck | SubAck | UnsubAck) -> Answered:
        request = self._requests.get(packet.packet_id)
        if request is None or request.answer is not type(packet):
            raise ProtocolError(Reason.PROTOCOL_ERROR, "an answer without a request")
        reasons = (packet.reason,) if isinstance(packet, PubAck) else packet.reasons
        if isinstance(packet, UnsubAck) and self._version == 4:
            reasons = (Reason.SUCCESS,) * request.count
        if len(reasons) != request.count or Reason.GRANTED_QOS_2 in reasons:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "an answer that does not match the request")
        del self._requests[packet.packet_id]
        if isinstance(packet, PubAck):
            self._in_flight -= 1
            self._send_waiting()
        return Answered(request.done, reasons)

    def _ask(
        self,
        answer: type[Packet],
        count: int,
        make: Callable[[int], Packet],
        done: Done,
    ) -> None:
        packet_id = self._free_id()
        data = encode(make(packet_id), self._version)
        if self.congested or len(data) > self._limit:
            done((Reason.QUOTA_EXCEEDED,) * count)
            return
        self._requests[packet_id] = _Request(answer, count, done)
        self._out.append(data)

    def _send_waiting(self) -> None:
        while self._waiting and self._in_flight < self._window:
            packet_id = next(iter(self._waiting))
            data, self._requests[packet_id] = self._waiting.pop(packet_id)
            self._waiting_bytes -= len(data)
            self._in_flight += 1
            self._out.append(data)

    def _free_id(self) -> int:
        while True:
            self._last_id = self._last_id % _MAX_PACKET_ID + 1
            if self._last_id not in self._requests and self._last_id not in self._waiting:
                return self._last_id
