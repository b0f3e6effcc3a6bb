"""The codec: compared with bytes written by hand, with truncated and damaged packets, and with arbitrary pieces."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tables import each_row
from tests.unit.mqtt.protocol.samples import SAMPLES, Sample, decoder_version
from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import Connect, PingReq, Publish, SubAck, Subscribe, UnsubAck, Unsubscribe, Will
from thingmint.mqtt.protocol.reasons import ProtocolError, Reason

if TYPE_CHECKING:
    from thingmint.mqtt.protocol.packets import Packet, Version

each_sample = each_row("sample", SAMPLES)


def stream(version: Version) -> tuple[list[Packet], bytes]:
    """Returns all samples of a version in a row, with one CONNECT at the start."""
    chosen = [sample for sample in SAMPLES if sample[1] == version]
    chosen = [s for s in chosen if isinstance(s[2], Connect)][-1:] + [
        s for s in chosen if not isinstance(s[2], Connect)
    ]
    return [packet for _, _, packet, _ in chosen], b"".join(data for *_, data in chosen)


@each_sample
def test_encoding_matches_the_specification(sample: Sample) -> None:
    _, version, packet, data = sample
    assert encode(packet, version) == data


@each_sample
def test_decoding_matches_the_specification(sample: Sample) -> None:
    _, version, packet, data = sample
    decoder = Decoder(1024, decoder_version(version, packet))
    assert list(decoder.feed(data)) == [packet]
    assert decoder.version == version
    assert decoder.held == 0


@each_sample
def test_truncated_packets_wait_for_more_bytes(sample: Sample) -> None:
    _, version, packet, data = sample
    for size in range(len(data)):
        decoder = Decoder(1024, decoder_version(version, packet))
        assert list(decoder.feed(data[:size])) == []
        assert decoder.held == size
        assert list(decoder.feed(data[size:])) == [packet]


@each_sample
def test_truncated_bodies_are_malformed_or_valid_packets(sample: Sample) -> None:
    _, version, packet, data = sample
    start = 3 if data[1] >= 0x80 else 2
    for size in range(len(data) - start):
        decoder = Decoder(1024, decoder_version(version, packet))
        length = bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, 1])
        try:
            decoded = list(decoder.feed(data[:1] + length + data[start : start + size] + b"\xc0\x00"))
        except ProtocolError as error:
            assert error.reason.failed  # noqa: PT017  # either outcome is right
        else:
            assert [type(one) for one in decoded] == [type(packet), PingReq]  # the next packet is intact


@each_sample
def test_bytes_after_the_last_field_are_refused(sample: Sample) -> None:
    _, version, packet, data = sample
    if isinstance(packet, Publish | Subscribe | SubAck | Unsubscribe) or (
        isinstance(packet, UnsubAck) and version == 5
    ):
        return  # these packets have no last field: their payload ends with the packet
    start = 3 if data[1] >= 0x80 else 2
    size = len(data) - start + 3
    padded = data[:1] + bytes([size]) + data[start:] + b"\x00\x00\x00"
    with pytest.raises(ProtocolError):
        list(Decoder(1024, decoder_version(version, packet)).feed(padded))


@pytest.mark.parametrize("version", [4, 5])
def test_single_bytes_give_the_same_packets(version: Version) -> None:
    packets, data = stream(version)
    assert list(Decoder().feed(data)) == packets
    decoder = Decoder()
    assert [packet for at in range(len(data)) for packet in decoder.feed(data[at : at + 1])] == packets


@given(version=st.sampled_from([4, 5]), cuts=st.lists(st.integers(0, 600)))
def test_arbitrary_pieces_give_the_same_packets(version: Version, cuts: list[int]) -> None:
    packets, data = stream(version)
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    decoder = Decoder()
    pieces = [data[start:end] for start, end in pairwise(places)]
    assert [packet for piece in pieces for packet in decoder.feed(piece)] == packets


@given(data=st.data())
def test_packets_not_taken_come_with_the_next_call(data: st.DataObject) -> None:
    packets, octets = stream(5)
    decoder, got = Decoder(), []
    for at in range(0, len(octets), 7):
        found = decoder.feed(octets[at : at + 7])
        for _ in range(data.draw(st.integers(0, 2))):
            got += [packet for packet in [next(found, None)] if packet is not None]
    got += decoder.feed(b"")
    assert got == packets


def test_small_pieces_are_not_copied_repeatedly() -> None:
    data = encode(Publish("t", bytes(120_000)), 4)
    decoder = Decoder(200_000, 4)
    for at in range(0, len(data) - 10, 10):
        assert list(decoder.feed(data[at : at + 10])) == []
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    assert list(decoder.feed(data[:1])) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - before < 10_000


@given(octets=st.binary(max_size=300), version=st.sampled_from([None, 4, 5]))
def test_random_bytes_are_decoded_or_refused(octets: bytes, version: Version | None) -> None:
    decoder = Decoder(200, version)
    for at in range(0, len(octets), 17):
        try:
            list(decoder.feed(octets[at : at + 17]))
        except ProtocolError:
            assert decoder.held == 0  # either outcome is right
        assert decoder.held <= 200


@given(sample=st.sampled_from(SAMPLES), data=st.data())
def test_damaged_packets_are_decoded_or_refused(sample: Sample, data: st.DataObject) -> None:
    _, version, packet, octets = sample
    damaged = bytearray(octets)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    decoder = Decoder(1024, decoder_version(version, packet))
    try:
        got = list(decoder.feed(bytes(damaged)))
    except ProtocolError:
        return
    for one in got:
        level: Version = one.version if isinstance(one, Connect) else version
        again = Decoder(1024, decoder_version(level, one))
        assert list(again.feed(encode(one, level))) == [one]


def test_a_failed_decoder_stays_failed() -> None:
    decoder = Decoder(1024, 4)
    found = decoder.feed(b"\xc0\x00\x00\x00\xc0\x00")
    assert next(found) == PingReq()
    with pytest.raises(ProtocolError):
        next(found)
    for _ in range(2):
        with pytest.raises(ProtocolError):
            next(decoder.feed(b"\xc0\x00"))
    assert decoder.held == 0


def test_oversized_packets_are_refused_when_the_length_is_read() -> None:
    at_limit = encode(Publish("t", bytes(94)), 4)
    assert len(at_limit) == 99
    assert len(list(Decoder(99, 4).feed(at_limit))) == 1
    with pytest.raises(ProtocolError, match="larger") as caught:
        list(Decoder(98, 4).feed(at_limit[:2]))
    assert caught.value.reason is Reason.PACKET_TOO_LARGE
    with pytest.raises(ProtocolError) as caught:
        list(Decoder(149_504).feed(b"\x10\xff\xff\xff\x7f"))
    assert caught.value.reason is Reason.PACKET_TOO_LARGE


def test_repr_hides_secrets() -> None:
    connect = Connect(
        5, "c", username="u", password=b"secret", will=Will("w", b"secret"), authentication_data=b"secret"
    )
    assert "secret" not in repr(connect)
    assert "secret" not in repr(Publish("t", b"secret"))


def test_errors_do_not_contain_the_input() -> None:
    with pytest.raises(ProtocolError) as caught:
        list(Decoder().feed(b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x00\x00\x03ab\xff"))
    assert caught.value.__context__ is None
    with pytest.raises(ProtocolError) as caught:
        list(Decoder(version=4).feed(b"\x30\x04\x00\x02a\xff"))
    assert caught.value.__context__ is None
