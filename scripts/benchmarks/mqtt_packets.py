"""Packets of MQTT 3.1.1, as the load on the MQTT gateway needs them."""

from __future__ import annotations

DISCONNECT = b"\xe0\x00"

_KEEP_ALIVE = 1200  # seconds, so that idle devices send no PINGREQ


def packet(first: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    length, size = bytearray(), len(body)
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes((first, *length)) + body


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def connect_packet(client_id: str, user_name: str | None = None, password: str | None = None) -> bytes:
    """With a clean session, and with a password if there is a user name."""
    flags = b"\x04\x02" if user_name is None else b"\x04\xc2"
    login = [text(part) for part in (user_name, password) if part is not None]
    return packet(0x10, text("MQTT"), flags, _KEEP_ALIVE.to_bytes(2, "big"), text(client_id), *login)


def publish_packet(topic: str, payload: bytes, id: int) -> bytes:
    return packet(0x32, text(topic), id.to_bytes(2, "big"), payload)


def subscribe_packet(id: int, *filters: str) -> bytes:
    return packet(0x82, id.to_bytes(2, "big"), *(text(filter) + b"\x01" for filter in filters))


def puback_for(publish: bytes) -> bytes:
    """The answer to a PUBLISH of QoS 1."""
    position = body_of(publish)
    position += 2 + int.from_bytes(publish[position : position + 2], "big")
    return b"\x40\x02" + publish[position : position + 2]


def topic_and_payload(publish: bytes) -> tuple[str, bytes]:
    start = body_of(publish) + 2
    end = start + int.from_bytes(publish[start - 2 : start], "big")
    return publish[start:end].decode(), publish[end + 2 * bool(publish[0] & 0x06) :]


def body_of(whole: bytes) -> int:
    position = 1
    while whole[position] & 0x80:
        position += 1
    return position + 1
