"""Malformed packets, written as bytes, with the reason code that the peer gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tables import each_row
from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import Auth, ConnAck, Connect, Publish, Subscribe, SubscriptionRequest
from thingmint.mqtt.protocol.reasons import ProtocolError, Reason

if TYPE_CHECKING:
    from thingmint.mqtt.protocol.packets import Packet, Version

MALFORMED, PROTOCOL = Reason.MALFORMED_PACKET, Reason.PROTOCOL_ERROR
VERSION, ALIAS = Reason.UNSUPPORTED_PROTOCOL_VERSION, Reason.TOPIC_ALIAS_INVALID

CONNECTS = [
    ("name", b"\x00\x04MQTS\x04\x02\x00\x00\x00\x01a", VERSION),
    ("name in lower case", b"\x00\x04mqtt\x04\x02\x00\x00\x00\x01a", VERSION),
    ("3.1", b"\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01a", VERSION),
    ("3.1's name with level 4", b"\x00\x06MQIsdp\x04\x02\x00\x00\x00\x01a", VERSION),
    ("level 3", b"\x00\x04MQTT\x03\x02\x00\x00\x00\x01a", VERSION),
    ("level 6", b"\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x01a", VERSION),
    ("bridge's level", b"\x00\x04MQTT\x84\x02\x00\x00\x00\x01a", VERSION),
    ("reserved flag", b"\x00\x04MQTT\x04\x03\x00\x00\x00\x01a", MALFORMED),
    ("password alone", b"\x00\x04MQTT\x04\x42\x00\x00\x00\x01a\x00\x00", MALFORMED),
    ("will QoS without a will", b"\x00\x04MQTT\x04\x0a\x00\x00\x00\x01a", MALFORMED),
    ("will retain without a will", b"\x00\x04MQTT\x04\x22\x00\x00\x00\x01a", MALFORMED),
    ("will QoS 3", b"\x00\x04MQTT\x04\x1e\x00\x00\x00\x01a\x00\x01w\x00\x00", MALFORMED),
    ("will topic empty", b"\x00\x04MQTT\x04\x06\x00\x00\x00\x01a\x00\x00\x00\x00", MALFORMED),
    ("will topic with a wildcard", b"\x00\x04MQTT\x04\x06\x00\x00\x00\x01a\x00\x02a+\x00\x00", MALFORMED),
    ("NUL in the client id", b"\x00\x04MQTT\x04\x02\x00\x00\x00\x01\x00", MALFORMED),
    ("surrogate in the client id", b"\x00\x04MQTT\x04\x02\x00\x00\x00\x03\xed\xa0\x80", MALFORMED),
    ("overlong UTF-8", b"\x00\x04MQTT\x04\x02\x00\x00\x00\x02\xc1\x81", MALFORMED),
    ("beyond Unicode", b"\x00\x04MQTT\x04\x02\x00\x00\x00\x04\xf4\x90\x80\x80", MALFORMED),
    ("trailing byte", b"\x00\x04MQTT\x04\x02\x00\x00\x00\x01ab", MALFORMED),
    ("property of another packet", b"\x00\x04MQTT\x05\x02\x00\x00\x02\x24\x01\x00\x01a", MALFORMED),
    ("unknown property", b"\x00\x04MQTT\x05\x02\x00\x00\x02\x7f\x01\x00\x01a", MALFORMED),
    ("property twice", b"\x00\x04MQTT\x05\x02\x00\x00\x06\x22\x00\x01\x22\x00\x01\x00\x01a", PROTOCOL),
    ("receive maximum 0", b"\x00\x04MQTT\x05\x02\x00\x00\x03\x21\x00\x00\x00\x01a", PROTOCOL),
    ("maximum packet size 0", b"\x00\x04MQTT\x05\x02\x00\x00\x05\x27\x00\x00\x00\x00\x00\x01a", PROTOCOL),
    ("flag of 2", b"\x00\x04MQTT\x05\x02\x00\x00\x02\x17\x02\x00\x01a", PROTOCOL),
    ("authentication data alone", b"\x00\x04MQTT\x05\x02\x00\x00\x04\x16\x00\x01d\x00\x01a", PROTOCOL),
    ("properties beyond the packet", b"\x00\x04MQTT\x05\x02\x00\x00\x20\x22\x00\x01\x00\x01a", MALFORMED),
    ("property beyond the properties", b"\x00\x04MQTT\x05\x02\x00\x00\x02\x22\x00\x01\x00\x01a", MALFORMED),
    ("length of properties too long", b"\x00\x04MQTT\x05\x02\x00\x00\x80\x00\x00\x01a", MALFORMED),
    ("will delay without a will", b"\x00\x04MQTT\x05\x02\x00\x00\x05\x18\x00\x00\x00\x01\x00\x01a", MALFORMED),
]

OTHERS: list[tuple[str, Version, bytes, Reason]] = [
    ("type 0", 4, b"\x00\x00", MALFORMED),
    ("flags of PUBACK", 4, b"\x41\x02\x00\x01", MALFORMED),
    ("flags of PUBREL", 4, b"\x60\x02\x00\x01", MALFORMED),
    ("flags of SUBSCRIBE", 4, b"\x80\x06\x00\x01\x00\x01a\x00", MALFORMED),
    ("flags of UNSUBSCRIBE", 4, b"\xa3\x05\x00\x01\x00\x01a", MALFORMED),
    ("flags of PINGREQ", 4, b"\xc8\x00", MALFORMED),
    ("flags of DISCONNECT", 5, b"\xe1\x00", MALFORMED),
    ("AUTH in 3.1.1", 4, b"\xf0\x00", MALFORMED),
    ("second CONNECT", 4, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a", PROTOCOL),
    ("remaining length of five bytes", 4, b"\x30\x80\x80\x80\x80\x01", MALFORMED),
    ("remaining length too long", 4, b"\xc0\x80\x00", MALFORMED),
    ("body of PINGREQ", 4, b"\xc0\x01\x00", MALFORMED),
    ("PUBLISH of nothing", 4, b"\x30\x00", MALFORMED),
    ("PUBLISH of one byte", 4, b"\x30\x01\x00", MALFORMED),
    ("topic beyond the packet", 4, b"\x30\x03\x00\x02a", MALFORMED),
    ("topic empty", 4, b"\x30\x03\x00\x00x", PROTOCOL),
    ("topic empty without alias", 5, b"\x30\x04\x00\x00\x00x", PROTOCOL),
    ("topic empty without alias, with a property", 5, b"\x30\x06\x00\x00\x02\x01\x01x", PROTOCOL),
    ("topic with +", 4, b"\x30\x05\x00\x03a/+", MALFORMED),
    ("topic with #", 4, b"\x30\x03\x00\x01#", MALFORMED),
    ("topic with NUL", 4, b"\x30\x03\x00\x01\x00", MALFORMED),
    ("topic with a surrogate", 4, b"\x30\x05\x00\x03\xed\xbf\xbf", MALFORMED),
    ("QoS 3", 4, b"\x36\x05\x00\x01a\x00\x01", MALFORMED),
    ("DUP at QoS 0", 4, b"\x38\x03\x00\x01a", MALFORMED),
    ("packet id 0 of PUBLISH", 4, b"\x32\x05\x00\x01a\x00\x00", MALFORMED),
    ("packet id missing in PUBLISH", 4, b"\x32\x04\x00\x01a\x00", MALFORMED),
    ("properties missing in PUBLISH", 5, b"\x30\x03\x00\x01a", MALFORMED),
    ("alias 0", 5, b"\x30\x07\x00\x01a\x03\x23\x00\x00", ALIAS),
    ("subscription id 0", 5, b"\x30\x06\x00\x01a\x02\x0b\x00", PROTOCOL),
    ("subscription id of five bytes", 5, b"\x30\x0a\x00\x01a\x06\x0b\xff\xff\xff\xff\x01", MALFORMED),
    ("subscription id too long", 5, b"\x30\x07\x00\x01a\x03\x0b\x81\x00", MALFORMED),
    ("payload format 2", 5, b"\x30\x06\x00\x01a\x02\x01\x02", PROTOCOL),
    ("response topic with a wildcard", 5, b"\x30\x08\x00\x01a\x04\x08\x00\x01#", PROTOCOL),
    ("response topic empty", 5, b"\x30\x07\x00\x01a\x03\x08\x00\x00", PROTOCOL),
    ("content type twice", 5, b"\x30\x0a\x00\x01a\x06\x03\x00\x00\x03\x00\x00", PROTOCOL),
    ("will delay in PUBLISH", 5, b"\x30\x09\x00\x01a\x05\x18\x00\x00\x00\x01", MALFORMED),
    ("packet id 0 of PUBACK", 4, b"\x40\x02\x00\x00", MALFORMED),
    ("PUBACK too long for 3.1.1", 4, b"\x40\x03\x00\x01\x00", MALFORMED),
    ("PUBACK with a strange reason", 5, b"\x40\x03\x00\x01\x8e", MALFORMED),
    ("PUBACK with an unknown reason", 5, b"\x40\x03\x00\x01\x42", MALFORMED),
    ("PUBACK with trailing bytes", 5, b"\x40\x05\x00\x01\x00\x00\x00", MALFORMED),
    ("PUBREL with PUBACK's reason", 5, b"\x62\x03\x00\x01\x87", MALFORMED),
    ("packet id 0 of SUBSCRIBE", 4, b"\x82\x06\x00\x00\x00\x01a\x00", MALFORMED),
    ("no filter", 4, b"\x82\x02\x00\x01", PROTOCOL),
    ("no filter", 5, b"\x82\x03\x00\x01\x00", PROTOCOL),
    ("subscription QoS 3", 4, b"\x82\x06\x00\x01\x00\x01a\x03", MALFORMED),
    ("options in 3.1.1", 4, b"\x82\x06\x00\x01\x00\x01a\x04", MALFORMED),
    ("reserved options", 5, b"\x82\x07\x00\x01\x00\x00\x01a\x40", MALFORMED),
    ("retain handling 3", 5, b"\x82\x07\x00\x01\x00\x00\x01a\x30", PROTOCOL),
    ("two subscription ids", 5, b"\x82\x0b\x00\x01\x04\x0b\x01\x0b\x02\x00\x01a\x00", PROTOCOL),
    ("nothing to unsubscribe", 4, b"\xa2\x02\x00\x01", PROTOCOL),
    ("packet id 0 of UNSUBSCRIBE", 5, b"\xa2\x06\x00\x00\x00\x00\x01a", MALFORMED),
    ("CONNACK's reserved flags", 4, b"\x20\x02\x02\x00", MALFORMED),
    ("unknown return code", 4, b"\x20\x02\x00\x06", MALFORMED),
    ("refusal with a session", 4, b"\x20\x02\x01\x05", PROTOCOL),
    ("refusal with a session", 5, b"\x20\x03\x01\x87\x00", PROTOCOL),
    ("maximum QoS 2", 5, b"\x20\x05\x00\x00\x02\x24\x02", PROTOCOL),
    ("answers to nothing", 4, b"\x90\x02\x00\x01", PROTOCOL),
    ("reason of SUBACK", 4, b"\x90\x03\x00\x01\x87", MALFORMED),
    ("reason of SUBACK", 5, b"\x90\x04\x00\x01\x00\x11", MALFORMED),
    ("reason of UNSUBACK", 5, b"\xb0\x04\x00\x01\x00\x01", MALFORMED),
    ("reasons of UNSUBACK in 3.1.1", 4, b"\xb0\x03\x00\x01\x00", MALFORMED),
    ("reason of DISCONNECT", 5, b"\xe0\x01\x01", MALFORMED),
    ("DISCONNECT of 3.1.1 with a reason", 4, b"\xe0\x01\x00", MALFORMED),
    ("reason of AUTH", 5, b"\xf0\x01\x04", MALFORMED),
]


@each_row(("case", "body", "reason"), CONNECTS)
def test_malformed_connect_is_refused(case: str, body: bytes, reason: Reason) -> None:
    with pytest.raises(ProtocolError) as caught:
        list(Decoder(1024).feed(bytes([0x10, len(body)]) + body))
    assert caught.value.reason is reason


@each_row(("case", "version", "data", "reason"), OTHERS)
def test_malformed_packets_are_refused(case: str, version: Version, data: bytes, reason: Reason) -> None:
    with pytest.raises(ProtocolError) as caught:
        list(Decoder(1024, version).feed(data))
    assert caught.value.reason is reason


@each_row("first", [byte for byte in range(256) if byte != 0x10])
def test_a_first_byte_other_than_connect_is_refused(first: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        list(Decoder().feed(bytes([first])))
    assert caught.value.reason is Reason.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("packet", "version"),
    [
        (Publish("t" * 65_536, b""), 4),
        (Publish("a\0b", b""), 4),
        (Publish("\ud800", b""), 4),
        (Publish("t", b"", 1), 4),
        (Auth(), 4),
        (ConnAck(Reason.QOS_NOT_SUPPORTED), 4),
        (Connect(4, "a", password=b"p"), 4),
        (Subscribe(1, (SubscriptionRequest("a"),), subscription_id=268_435_456), 5),
    ],
)
def test_unencodable_packets_raise_value_error(packet: Packet, version: Version) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # with a different text for each
        encode(packet, version)
