"""Owners that send what MQTT does not allow: the connection ends, and the server goes on."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.mqtt.devices import Device
from tests.e2e.yandex.owners import NAMES, Owners
from thingmint.domain.messages import MessageProperties
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import (
    Connect,
    PingReq,
    PubAck,
    Publish,
    Subscribe,
    SubscriptionRequest,
    Unsubscribe,
)

if TYPE_CHECKING:
    from tests.e2e.yandex.clients import Cloud
    from thingmint.mqtt.protocol.packets import Packet, Version


@pytest.fixture(scope="module")
def owners(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Owners:
    return Owners(cloud, tmp_path_factory.mktemp("owners"), topic_aliases={"my/": "$devices/{id}/"})


TOPICS = st.sampled_from(
    ["$me/device/events", "my/state", "$devices/+/events/#", "#", "a", "", "$", "é/\0", "x" * 1100]
)
IDS = st.integers(0, 3)
PROPERTIES = st.builds(
    MessageProperties,
    content_type=st.none() | st.text(max_size=5),
    response_topic=st.none() | TOPICS,
    user_properties=st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=3).map(tuple),
)
REQUESTS = st.lists(st.builds(SubscriptionRequest, TOPICS, st.sampled_from([0, 1, 2])), max_size=3).map(tuple)
PACKETS = st.one_of(
    st.builds(Publish, TOPICS, st.binary(max_size=20), st.just(0), properties=PROPERTIES),
    st.builds(Publish, TOPICS, st.binary(max_size=20), st.sampled_from([1, 2]), packet_id=IDS, retain=st.booleans()),
    st.builds(Publish, TOPICS, st.just(b"x"), st.just(0), topic_alias=st.none() | st.integers(0, 9)),
    st.builds(Subscribe, IDS, REQUESTS),
    st.builds(Unsubscribe, IDS, st.lists(TOPICS, max_size=3).map(tuple)),
    st.builds(PubAck, IDS),
    st.just(PingReq()),
    st.just(Connect(5, "again")),
)


def encoded(packets: list[Packet], version: Version) -> bytes:
    """Without those that the encoder refuses to write."""
    data = b""
    for packet in packets:
        with contextlib.suppress(ValueError, OverflowError, TypeError):
            data += encode(packet, version)
    return data


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(NAMES),
    version=st.sampled_from([4, 5]),
    packets=st.lists(PACKETS, max_size=6),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3),
    rest=st.binary(max_size=10),
)
def test_damaged_packets_end_the_connection_at_most(
    owners: Owners, name: str, version: Version, packets: list[Packet], changes: list[tuple[float, int]], rest: bytes
) -> None:
    data = bytearray(encoded(packets, version) + rest)
    for place, byte in changes:
        if data:
            data[int(place * (len(data) - 1))] = byte
    with owners.connected(name, "damaged", version) as device:
        device.send_bytes(bytes(data))
        device.send(PingReq())
        device.drop()
    with owners.connected("registry", "sound") as registry, owners.connected("other", "sound") as other:
        assert registry.subscribe("$devices/+/events/sound") == [1]
        assert not other.publish("$me/device/events/sound").failed
        assert registry.receive().topic == f"$devices/{owners.ids['other']}/events/sound"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(version=st.sampled_from([3, 4, 5, 6]), rest=st.binary(max_size=60), length=st.integers(0, 80))
def test_damaged_connects_are_refused(owners: Owners, version: int, rest: bytes, length: int) -> None:
    body = b"\0\4MQTT" + bytes([version]) + rest
    with Device(owners.cloud.server, owners.credentials["device"], 4) as device:
        device.send_bytes(b"\x10" + bytes([length or len(body)]) + body)
        device.send_bytes(b"\xc0\0" * 50)  # PINGREQ, to fill what the length promises
        device.sock.settimeout(0.3)  # the server may wait for more
        with contextlib.suppress(OSError):
            device.sock.recv(100)
    with owners.connected("device", "sound") as sound:
        assert sound.is_open
