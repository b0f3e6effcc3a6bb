"""One packet of each kind and form, with its bytes, written by hand from the specification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.messages import MessageProperties
from thingmint.mqtt.protocol.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    UnsubAck,
    Unsubscribe,
    Will,
)
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from thingmint.mqtt.protocol.packets import Packet, Version

Sample = tuple[str, "Version", "Packet", bytes]

_USER = (("k", "v"), ("k", "w"))
_USER_BYTES = b"\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w"  # 14 bytes

SAMPLES: list[Sample] = [
    ("connect", 4, Connect(4, "ab", keep_alive=60), b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02ab"),
    (
        "connect with everything",
        4,
        Connect(4, "a", False, 0, "user", b"\x00\xff", Will("w/t", b"bye", qos=1, retain=True)),
        b"\x10\x21\x00\x04MQTT\x04\xec\x00\x00\x00\x01a\x00\x03w/t\x00\x03bye\x00\x04user\x00\x02\x00\xff",
    ),
    ("connect", 5, Connect(5, ""), b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00"),
    (
        "connect with everything",
        5,
        Connect(
            5, "a", False, 10, None, b"pw",
            Will("w", b"", 2, False, 7, MessageProperties(True, 9, "t", "r", b"c", (("k", "v"),))),
            session_expiry=3600, receive_maximum=20, maximum_packet_size=1024, topic_alias_maximum=8,
            request_response_information=True, request_problem_information=False,
            authentication_method="m", authentication_data=b"d", user_properties=_USER,
        ),
        b"\x10\x61\x00\x04MQTT\x05\x54\x00\x0a"
        b"\x2a\x11\x00\x00\x0e\x10\x21\x00\x14\x27\x00\x00\x04\x00\x22\x00\x08\x19\x01\x17\x00\x15\x00\x01m\x16\x00\x01d"
        + _USER_BYTES
        + b"\x00\x01a"
        b"\x1f\x01\x01\x02\x00\x00\x00\x09\x03\x00\x01t\x08\x00\x01r\x09\x00\x01c\x26\x00\x01k\x00\x01v\x18\x00\x00\x00\x07"
        b"\x00\x01w\x00\x00\x00\x02pw",
    ),
    ("connack", 4, ConnAck(session_present=True), b"\x20\x02\x01\x00"),
    ("connack refused", 4, ConnAck(Reason.NOT_AUTHORIZED), b"\x20\x02\x00\x05"),
    ("connack", 5, ConnAck(), b"\x20\x03\x00\x00\x00"),
    (
        "connack with everything",
        5,
        ConnAck(
            Reason.SUCCESS, True, 3600, 100, 1, False, 149504, "id", 8, "why", False, False, False, 1200, "i", "s", "m",
            b"d", _USER,
        ),
        b"\x20\x49\x01\x00\x46\x11\x00\x00\x0e\x10\x21\x00\x64\x24\x01\x25\x00\x27\x00\x02\x48\x00\x12\x00\x02id"
        b"\x22\x00\x08"
        b"\x1f\x00\x03why\x28\x00\x29\x00\x2a\x00\x13\x04\xb0\x1a\x00\x01i\x1c\x00\x01s\x15\x00\x01m\x16\x00\x01d"
        + _USER_BYTES,
    ),
    ("publish QoS 0", 4, Publish("a/b", b"hi"), b"\x30\x07\x00\x03a/bhi"),
    ("publish QoS 1", 4, Publish("a", b"", 1, True, True, 10), b"\x3b\x05\x00\x01a\x00\x0a"),
    ("publish QoS 2", 4, Publish("a", b"x", 2, packet_id=258), b"\x34\x06\x00\x01a\x01\x02x"),
    ("publish of 130 bytes", 4, Publish("a", b"x" * 125), b"\x30\x80\x01\x00\x01a" + b"x" * 125),
    ("publish QoS 0", 5, Publish("é", b"hi"), b"\x30\x07\x00\x02\xc3\xa9\x00hi"),
    (
        "publish by alias",
        5,
        Publish("", b"x", 1, packet_id=1, topic_alias=3),
        b"\x32\x09\x00\x00\x00\x01\x03\x23\x00\x03x",
    ),
    (
        "publish with everything",
        5,
        Publish("t", b"p", 1, False, False, 1, MessageProperties(False, 1, "c", "r", b"", _USER), 2, (1, 16383)),
        b"\x32\x2f\x00\x01t\x00\x01\x28\x01\x00\x02\x00\x00\x00\x01\x03\x00\x01c\x08\x00\x01r\x09\x00\x00"
        + _USER_BYTES
        + b"\x23\x00\x02\x0b\x01\x0b\xff\x7fp",
    ),
    ("puback", 4, PubAck(1), b"\x40\x02\x00\x01"),
    ("puback", 5, PubAck(65535), b"\x40\x02\xff\xff"),
    ("puback refused", 5, PubAck(1, Reason.NOT_AUTHORIZED), b"\x40\x03\x00\x01\x87"),
    (
        "puback with everything",
        5,
        PubAck(1, Reason.NO_MATCHING_SUBSCRIBERS, "w", _USER),
        b"\x40\x16\x00\x01\x10\x12\x1f\x00\x01w" + _USER_BYTES,
    ),
    ("pubrec", 4, PubRec(2), b"\x50\x02\x00\x02"),
    ("pubrec refused", 5, PubRec(2, Reason.QUOTA_EXCEEDED), b"\x50\x03\x00\x02\x97"),
    ("pubrel", 4, PubRel(2), b"\x62\x02\x00\x02"),
    ("pubrel unknown", 5, PubRel(2, Reason.PACKET_IDENTIFIER_NOT_FOUND), b"\x62\x03\x00\x02\x92"),
    ("pubcomp", 4, PubComp(2), b"\x70\x02\x00\x02"),
    ("pubcomp with a reason", 5, PubComp(2, reason_string="r"), b"\x70\x08\x00\x02\x00\x04\x1f\x00\x01r"),
    (
        "subscribe",
        4,
        Subscribe(1, (SubscriptionRequest("a/#"), SubscriptionRequest("+", 2))),
        b"\x82\x0c\x00\x01\x00\x03a/#\x00\x00\x01+\x02",
    ),
    (
        "subscribe with everything",
        5,
        Subscribe(1, (SubscriptionRequest("a", 1, True, True, 2),), 268435455, (("k", "v"),)),
        b"\x82\x13\x00\x01\x0c\x0b\xff\xff\xff\x7f\x26\x00\x01k\x00\x01v\x00\x01a\x2d",
    ),
    (
        "suback",
        4,
        SubAck(1, (Reason.SUCCESS, Reason.GRANTED_QOS_2, Reason.UNSPECIFIED_ERROR)),
        b"\x90\x05\x00\x01\x00\x02\x80",
    ),
    (
        "suback",
        5,
        SubAck(1, (Reason.GRANTED_QOS_1, Reason.TOPIC_FILTER_INVALID), "r", (("k", "v"),)),
        b"\x90\x10\x00\x01\x0b\x1f\x00\x01r\x26\x00\x01k\x00\x01v\x01\x8f",
    ),
    ("unsubscribe", 4, Unsubscribe(3, ("a", "b/c")), b"\xa2\x0a\x00\x03\x00\x01a\x00\x03b/c"),
    ("unsubscribe", 5, Unsubscribe(3, ("a",), (("k", "v"),)), b"\xa2\x0d\x00\x03\x07\x26\x00\x01k\x00\x01v\x00\x01a"),
    ("unsuback", 4, UnsubAck(3), b"\xb0\x02\x00\x03"),
    (
        "unsuback",
        5,
        UnsubAck(3, (Reason.SUCCESS, Reason.NO_SUBSCRIPTION_EXISTED), "r"),
        b"\xb0\x09\x00\x03\x04\x1f\x00\x01r\x00\x11",
    ),
    ("pingreq", 4, PingReq(), b"\xc0\x00"),
    ("pingreq", 5, PingReq(), b"\xc0\x00"),
    ("pingresp", 4, PingResp(), b"\xd0\x00"),
    ("pingresp", 5, PingResp(), b"\xd0\x00"),
    ("disconnect", 4, Disconnect(), b"\xe0\x00"),
    ("disconnect", 5, Disconnect(), b"\xe0\x00"),
    ("disconnect with a will", 5, Disconnect(Reason.DISCONNECT_WITH_WILL), b"\xe0\x01\x04"),
    (
        "disconnect with everything",
        5,
        Disconnect(Reason.SERVER_MOVED, 5, "r", "s", (("k", "v"),)),
        b"\xe0\x16\x9d\x14\x11\x00\x00\x00\x05\x1f\x00\x01r\x1c\x00\x01s\x26\x00\x01k\x00\x01v",
    ),
    ("auth", 5, Auth(), b"\xf0\x00"),
    (
        "auth with everything",
        5,
        Auth(Reason.CONTINUE_AUTHENTICATION, "m", b"d", "r", (("k", "v"),)),
        b"\xf0\x15\x18\x13\x15\x00\x01m\x16\x00\x01d\x1f\x00\x01r\x26\x00\x01k\x00\x01v",
    ),
]  # fmt: skip
"""Name, version, packet, bytes."""


def decoder_version(version: Version, packet: Packet) -> Version | None:
    """Returns the version for a decoder of the packet: None for CONNECT, which has the version."""
    return None if isinstance(packet, Connect) else version
