"""The server's side of the MQTT protocol, sans I/O: bytes in, events out; answers in, bytes out."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from thingmint.domain.messages import NO_PROPERTIES
from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode, encode_puback
from thingmint.mqtt.protocol.events import ConnectRequested, Disconnected, Failed
from thingmint.mqtt.protocol.limits import (
    AWS_LIMITS,
    check_connect,
    check_publish,
    request_subscribe,
    request_unsubscribe,
)
from thingmint.mqtt.protocol.packets import (
    ConnAck,
    Connect,
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
from thingmint.mqtt.protocol.sending import Sender
from thingmint.mqtt.protocol.topic_aliases import InboundAliases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from thingmint.domain.messages import MessageProperties
    from thingmint.mqtt.protocol.events import Event
    from thingmint.mqtt.protocol.limits import Limits
    from thingmint.mqtt.protocol.packets import Packet, Version


CONNECT_TIMEOUT: Final = 10.0  # seconds
# Per call: the smallest packets have two bytes. More than the receive maximum, so that a client that exceeds it gets
# the reason.
MAX_PACKETS: Final = 128
_KEEP_ALIVE_FACTOR = 1.5  # MQTT-3.1.2-22
_CONNACK_3_1_1 = (encode(ConnAck(), 4), encode(ConnAck(session_present=True), 4))
_PINGRESP = encode(PingResp(), 5)
_NO_ALIASES = InboundAliases(0)  # shared: it never stores any
_NONE: set[int] = set()  # shared: messages of MQTT 3.1.1 clients are not counted


class _State(Enum):
    WAITING = "for CONNECT"
    DECIDING = "about CONNECT"
    OPEN = "open"
    CLOSED = "closed"


class ServerConnection:
    """Times are seconds of a monotonic clock, the same one in each call.

    The connection is over after the event Failed or Disconnected, and after ``refuse`` or ``disconnect``: send the rest
    of ``outgoing`` and close. Further calls do nothing.

    ``has_more``: packets of earlier data are left; call ``receive`` with no data to get them. ``new_client_id`` returns
    an id for clients that send none. ``connack_refusals``: answer refused MQTT 3.1.1 clients with CONNACK and a return
    code; AWS IoT closes without an answer.
    """

    def __init__(
        self,
        now: float,
        *,
        new_client_id: Callable[[], str],
        limits: Limits = AWS_LIMITS,
        connect_timeout: float = CONNECT_TIMEOUT,
        connack_refusals: bool = False,
    ) -> None:
        self._limits = limits
        self._new_client_id = new_client_id
        self._connack_refusals = connack_refusals
        self._state = _State.WAITING
        self._decoder = Decoder(limits.maximum_packet_size)
        self._sender = Sender()
        self._deadline: float | None = now + connect_timeout
        self._silence = 0.0  # seconds without a packet from the client that are allowed
        self._version: Version = 4
        self._connect: Connect | None = None  # until it is answered
        self._is_lasting = False  # CONNECT asked for a session that outlives the connection
        self._assigned = False
        self.has_more = False
        self._unanswered = _NONE  # QoS 1 messages of a client of MQTT 5
        self._inbound = _NO_ALIASES

    @property
    def version(self) -> Version | None:
        """None until CONNECT is read."""
        return self._decoder.version

    @property
    def closed(self) -> bool:
        return self._state is _State.CLOSED

    @property
    def deadline(self) -> float | None:
        """When to check ``expired`` next; None while CONNECT is not answered. Each ``receive`` moves it."""
        return self._deadline

    def expired(self, now: float) -> bool:
        """True if CONNECT, or any packet within the keep-alive, did not come in time. Call ``disconnect`` then."""
        return self._deadline is not None and now >= self._deadline

    def idle(self, now: float) -> float:
        """Returns the seconds since the last whole packet of an accepted client."""
        return 0.0 if self._deadline is None else max(0.0, now - (self._deadline - self._silence))

    def heard(self, now: float) -> None:
        """Restarts the time-out: the client may have sent bytes that were not read."""
        if self._state is _State.OPEN:
            self._deadline = now + self._silence

    @property
    def held(self) -> int:
        """The number of bytes that were received, but not returned as events yet."""
        return self._decoder.held

    def hold(self, data: bytes) -> None:
        """Stores ``data`` for the next ``receive``."""
        if self._state is not _State.CLOSED:
            self._decoder.feed(data)
            self.has_more = True

    def outgoing(self) -> bytes:
        """Returns the bytes to send, once."""
        return self._sender.drain()

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Returns the events of up to MAX_PACKETS packets.

        Until CONNECT is answered, data is stored, up to the maximum packet size. ``accept`` returns its events.
        """
        if self._state is _State.CLOSED:
            return []
        packets = self._decoder.feed(data)
        if self._state is not _State.DECIDING:
            return self._take(packets, now)
        if self._decoder.held <= self._limits.maximum_packet_size:
            return []
        return [self._fail(ProtocolError(Reason.QUOTA_EXCEEDED, "too many bytes before CONNECT was answered"))]

    def accept(
        self,
        now: float,
        *,
        session_present: bool,
        limits: Limits | None = None,
        keep_alive: int | None = None,
        session_expiry: int | None = None,
    ) -> list[Event]:
        """Answers CONNECT. Returns the events of packets that the client sent after CONNECT.

        ``keep_alive`` and ``session_expiry``, in seconds: by default the client's values within the limits.
        """
        if self._state is _State.CLOSED:
            return []
        assert self._state is _State.DECIDING and self._connect is not None  # noqa: PT018  # one state
        connect = self._connect
        self._limits = limits = limits or self._limits
        keep_alive = limits.keep_alive_for(connect) if keep_alive is None else keep_alive
        expiry = limits.session_expiry_for(connect) if session_expiry is None else session_expiry
        assigned = connect.client_id if self._assigned else None
        if connect.version == 4:
            self._sender.raw(_CONNACK_3_1_1[session_present])
        else:
            self._sender.send(limits.connack(session_present, expiry, keep_alive, assigned))
        self._state = _State.OPEN
        self._decoder.max_packet_size = limits.maximum_packet_size
        if connect.version == 5:
            self._unanswered = set()
            self._inbound = InboundAliases(limits.topic_alias_maximum)
            self._sender.use_aliases(min(connect.topic_alias_maximum, limits.topic_alias_maximum))
        self._is_lasting = connect.session_expiry > 0
        self._connect = None
        self._silence = keep_alive * _KEEP_ALIVE_FACTOR
        self._deadline = now + self._silence
        return self._take(self._decoder.feed(b""), now)

    def refuse(self, reason: Reason, reason_string: str | None = None) -> None:
        """Answers CONNECT with a failure."""
        if self._state is not _State.CLOSED:
            self._sender.refuse(self._decoder.version, reason, reason_string, in_old=self._connack_refusals)
            self._close()

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        packet_id: int | None = None,
        retain: bool = False,
        dup: bool = False,
        properties: MessageProperties = NO_PROPERTIES,
    ) -> bool:
        """Sends a message, with QoS 1 if it has a packet identifier, else 0.

        False if the message is larger than the client accepts. It is not sent and counts as delivered (MQTT-3.1.2-25).
        """
        if self._state is not _State.OPEN:
            return True  # not False: the caller would acknowledge a message that was never sent
        return self._sender.publish(topic, payload, packet_id, retain, dup, properties)

    def puback(self, packet_id: int, reason: Reason = Reason.SUCCESS, reason_string: str | None = None) -> None:
        """Answers PUBLISH. MQTT 3.1.1 cannot report a failure, so none is sent: close the connection then."""
        if self._state is not _State.OPEN:
            return
        self._unanswered.discard(packet_id)
        if self._version == 4:
            if not reason.failed:
                self._sender.raw(encode_puback(packet_id))
        elif reason is Reason.SUCCESS and reason_string is None:
            self._sender.raw(encode_puback(packet_id))
        else:
            self._sender.send(PubAck(packet_id, reason, reason_string))

    def suback(self, packet_id: int, reasons: Sequence[Reason], reason_string: str | None = None) -> None:
        """Answers SUBSCRIBE, with a reason for each request, in order. In MQTT 3.1.1 each failure is 0x80."""
        if self._state is _State.OPEN:
            self._sender.send(SubAck(packet_id, tuple(reasons), reason_string))

    def unsuback(self, packet_id: int, reasons: Sequence[Reason], reason_string: str | None = None) -> None:
        """Answers UNSUBSCRIBE, with a reason for each filter, in order. MQTT 3.1.1 sends no reasons."""
        if self._state is _State.OPEN:
            self._sender.send(UnsubAck(packet_id, tuple(reasons), reason_string))

    def disconnect(self, reason: Reason, reason_string: str | None = None) -> None:
        """Sends DISCONNECT, if the protocol allows it: not in MQTT 3.1.1, and not before CONNACK."""
        if self._state is _State.OPEN and self._version == 5:
            self._sender.disconnect(reason, reason_string)
        self._close()

    def _take(self, packets: Iterable[Packet], now: float) -> list[Event]:
        events: list[Event] = []
        self.has_more = False
        try:
            for number, packet in enumerate(packets, 1):
                if self._state is _State.OPEN:
                    self._deadline = now + self._silence  # only whole packets restart the time-out
                    self._handle(packet, events)
                else:
                    events.append(self._on_connect(packet))
                if self._state is not _State.OPEN:
                    break
                if number >= MAX_PACKETS:
                    self.has_more = True
                    break
        except ProtocolError as error:
            events.append(self._fail(error))
        return events

    def _handle(self, packet: Packet, events: list[Event]) -> None:
        match packet:
            case Publish():
                self._on_publish(packet, events)
            case PubAck():
                events.append(packet)
            case PingReq():
                self._sender.raw(_PINGRESP)
            case Subscribe():
                events.append(request_subscribe(packet, self._limits, self._version))
            case Unsubscribe():
                events.append(request_unsubscribe(packet, self._limits, self._version))
            case Disconnect():
                events.append(self._on_disconnect(packet))
            case _:
                raise ProtocolError(Reason.PROTOCOL_ERROR, "a packet that a client must not send")

    def _on_connect(self, packet: Packet) -> Event:
        assert isinstance(packet, Connect)  # the decoder refuses other first packets
        self._version = packet.version
        self._sender.obey(packet)
        check_connect(packet, self._limits)
        if not packet.client_id:
            self._assigned = True
            packet = replace(packet, client_id=self._new_client_id())
        self._connect = packet
        self._state = _State.DECIDING
        self._deadline = None
        return ConnectRequested(packet, self._assigned)

    def _on_publish(self, packet: Publish, events: list[Event]) -> None:
        packet_id = packet.packet_id
        counted = packet_id is not None and self._version == 5
        if counted and packet_id in self._unanswered:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "a packet identifier is in use")  # MQTT-2.2.1-4
        if counted and len(self._unanswered) >= self._limits.receive_maximum:
            raise ProtocolError(Reason.RECEIVE_MAXIMUM_EXCEEDED, "the receive maximum is exceeded")  # 3.3.4
        check_publish(packet, self._limits)
        if not self._limits.takes_topic(packet.topic):  # first: an alias would keep the topic in memory
            if packet_id is None or not counted:
                raise ProtocolError(Reason.TOPIC_NAME_INVALID, "a topic is too long or has too many levels")
            self._sender.send(PubAck(packet_id, Reason.TOPIC_NAME_INVALID))
            return
        if packet.topic_alias is not None:
            topic = self._inbound.resolve(packet.topic, packet.topic_alias)
            packet = replace(packet, topic=topic, topic_alias=None)
        if packet_id is not None and counted:
            self._unanswered.add(packet_id)
        events.append(packet)

    def _on_disconnect(self, packet: Disconnect) -> Event:
        expiry = packet.session_expiry
        if packet.server_reference is not None:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "a client's DISCONNECT has a server reference")  # 3.14.2.2.5
        if expiry and not self._is_lasting:
            raise ProtocolError(Reason.PROTOCOL_ERROR, "DISCONNECT sets an expiry, but CONNECT's was 0")  # 3.14.2.2.2
        self._close()
        if expiry is not None:
            expiry = min(expiry, self._limits.session_expiry)
        return Disconnected(packet.reason, will=packet.reason is not Reason.SUCCESS, session_expiry=expiry)

    def _fail(self, error: ProtocolError) -> Failed:
        if self._state is _State.OPEN:
            self.disconnect(error.reason, str(error))
        else:
            self._sender.refuse(self._decoder.version, error.reason, str(error), in_old=self._connack_refusals)
            self._close()
        return Failed(error.reason, str(error))

    def _close(self) -> None:
        self.has_more = False
        self._state = _State.CLOSED
        self._deadline = None
