"""Generated packets of all kinds, encoded and decoded again."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.mqtt.protocol.samples import decoder_version
from thingmint.domain.messages import MessageProperties
from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
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
from thingmint.mqtt.protocol.wire import ALLOWED, FROM_RETURN_CODE, SUBACK_3, PacketType

if TYPE_CHECKING:
    from thingmint.mqtt.protocol.packets import Packet, Version

U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)
IDS, VARINTS = st.integers(1, 0xFFFF), st.integers(1, 268_435_455)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
TOPIC = st.text(st.characters(codec="utf-8", exclude_characters="\0+#"), min_size=1, max_size=20)
BINARY = st.binary(max_size=20)
FLAG = st.booleans()
QOS = st.integers(0, 2)
USER = st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


EXPLAINED = {"reason_string": optional(TEXT), "user_properties": USER}
AUTHENTICATED = {"authentication_method": optional(TEXT), "authentication_data": optional(BINARY)}
MESSAGES = st.builds(
    MessageProperties, optional(FLAG), optional(U32), optional(TEXT), optional(TOPIC), optional(BINARY), USER
)  # fmt: skip


def reasons(kind: PacketType) -> st.SearchStrategy[Reason]:
    return st.sampled_from(sorted(ALLOWED[kind].values()))


def wills(version: Version) -> st.SearchStrategy[Will]:
    more = {"delay": U32, "properties": MESSAGES} if version == 5 else {}
    return st.builds(Will, TOPIC, BINARY, QOS, FLAG, **more)


def publishes(version: Version) -> st.SearchStrategy[Publish]:
    def complete(packet: tuple[Publish, int, bool, str]) -> Publish:
        publish, packet_id, dup, topic = packet
        if publish.qos:
            publish = replace(publish, packet_id=packet_id, dup=dup)
        return replace(publish, topic=topic) if publish.topic_alias is None else publish

    more: dict[str, Any] = {}
    if version == 5:
        ids = st.lists(VARINTS, max_size=3).map(tuple)
        more = {"properties": MESSAGES, "topic_alias": optional(IDS), "subscription_ids": ids}
    name = TOPIC | st.just("") if version == 5 else TOPIC
    made = st.builds(Publish, topic=name, payload=st.binary(max_size=300), qos=QOS, retain=FLAG, **more)
    return st.tuples(made, IDS, FLAG, TOPIC).map(complete)


def answers(make: type, kind: PacketType, version: Version) -> st.SearchStrategy[Any]:
    return st.builds(make, IDS, reasons(kind), **EXPLAINED) if version == 5 else st.builds(make, IDS)


def connects(version: Version) -> st.SearchStrategy[Connect]:
    if version == 4:
        secret = {"username": TEXT, "password": optional(BINARY)}
        common = {"client_id": TEXT, "clean_start": FLAG, "keep_alive": U16, "will": optional(wills(4))}
        return st.builds(Connect, st.just(4), **common) | st.builds(Connect, st.just(4), **common, **secret)
    return st.builds(
        Connect, st.just(5), TEXT, FLAG, U16, optional(TEXT), optional(BINARY), optional(wills(5)), U32, IDS,
        optional(st.integers(1, 0xFFFF_FFFF)), U16, FLAG, FLAG, TEXT, optional(BINARY), USER,
    )  # fmt: skip


def connacks(version: Version) -> st.SearchStrategy[ConnAck]:
    if version == 4:
        return st.builds(ConnAck, st.sampled_from(sorted(FROM_RETURN_CODE.values()))) | st.just(
            ConnAck(Reason(0), True)
        )
    more = st.builds(
        ConnAck, st.just(Reason.SUCCESS), FLAG, optional(U32), IDS, QOS, FLAG, optional(st.integers(1, 0xFFFF_FFFF)),
        optional(TEXT), U16, optional(TEXT), FLAG, FLAG, FLAG, optional(U16), optional(TEXT), optional(TEXT),
        optional(TEXT), optional(BINARY), USER,
    )  # fmt: skip
    return more | st.builds(ConnAck, reasons(PacketType.CONNACK))


def subscribes(version: Version) -> st.SearchStrategy[Subscribe]:
    options = (FLAG, FLAG, QOS) if version == 5 else ()
    requests = st.lists(st.builds(SubscriptionRequest, TEXT, QOS, *options), min_size=1, max_size=4).map(tuple)
    more = {"subscription_id": optional(VARINTS), "user_properties": USER} if version == 5 else {}
    return st.builds(Subscribe, IDS, requests, **more)


def subacks(version: Version) -> st.SearchStrategy[SubAck]:
    known = reasons(PacketType.SUBACK) if version == 5 else st.sampled_from(sorted(SUBACK_3.values()))
    more = EXPLAINED if version == 5 else {}
    return st.builds(SubAck, IDS, st.lists(known, min_size=1, max_size=4).map(tuple), **more)


def unsubscribes(version: Version) -> st.SearchStrategy[Unsubscribe]:
    more = {"user_properties": USER} if version == 5 else {}
    return st.builds(Unsubscribe, IDS, st.lists(TEXT, min_size=1, max_size=4).map(tuple), **more)


def unsubacks(version: Version) -> st.SearchStrategy[UnsubAck]:
    if version == 4:
        return st.builds(UnsubAck, IDS)
    known = st.lists(reasons(PacketType.UNSUBACK), min_size=1, max_size=4).map(tuple)
    return st.builds(UnsubAck, IDS, known, **EXPLAINED)


def disconnects(version: Version) -> st.SearchStrategy[Disconnect]:
    if version == 4:
        return st.just(Disconnect())
    return st.builds(Disconnect, reasons(PacketType.DISCONNECT), optional(U32), optional(TEXT), optional(TEXT), USER)


def packets(version: Version) -> dict[str, st.SearchStrategy[Any]]:
    made = {
        "connect": connects(version),
        "connack": connacks(version),
        "publish": publishes(version),
        "puback": answers(PubAck, PacketType.PUBACK, version),
        "pubrec": answers(PubRec, PacketType.PUBREC, version),
        "pubrel": answers(PubRel, PacketType.PUBREL, version),
        "pubcomp": answers(PubComp, PacketType.PUBCOMP, version),
        "subscribe": subscribes(version),
        "suback": subacks(version),
        "unsubscribe": unsubscribes(version),
        "unsuback": unsubacks(version),
        "disconnect": disconnects(version),
    }
    if version == 5:
        made["auth"] = st.builds(Auth, reasons(PacketType.AUTH), **AUTHENTICATED, **EXPLAINED)
    return made


VERSIONS: tuple[Version, ...] = (4, 5)
PACKETS = {(kind, version): made for version in VERSIONS for kind, made in packets(version).items()}


@pytest.mark.parametrize(("kind", "version"), PACKETS)
@given(data=st.data())
def test_packets_survive_encoding_and_decoding(kind: str, version: Version, data: st.DataObject) -> None:
    packet: Packet = data.draw(PACKETS[kind, version])
    octets = encode(packet, version)
    decoder = Decoder(version=decoder_version(version, packet))
    (decoded,) = decoder.feed(octets)
    assert decoded == packet
    assert type(decoded) is type(packet)
    assert encode(decoded, version) == octets


@given(packet=publishes(5))
def test_mqtt_3_1_1_omits_the_properties_of_mqtt_5(packet: Publish) -> None:
    if not packet.topic:
        return
    (decoded,) = Decoder(version=4).feed(encode(packet, 4))
    kept = {"topic", "payload", "qos", "retain", "dup", "packet_id"}
    for field in fields(Publish):
        value = getattr(decoded, field.name)
        assert value == (getattr(packet, field.name) if field.name in kept else field.default)
