"""Feeds the MQTT codec and the server's end of a connection with damaged packets until a check fails.

    python scripts/fuzz_mqtt.py --seconds 60           # random changes to valid packets; prints its seed
    python scripts/fuzz_mqtt.py --atheris CORPUS ...   # guided by coverage; the other arguments are libFuzzer's

The checks: the only error raised is ProtocolError; at most the maximum size of a packet is buffered; a decoded packet
is the same after encoding and decoding it again; the result does not depend on how the bytes are split into pieces. If
a check fails, the script prints the input and exits with status 1.

atheris is not a dependency of Thingmint: ``python -m pip install atheris`` (on Linux, with a Python that it supports).
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from thingmint.domain.messages import MessageProperties
from thingmint.mqtt.protocol.connection import ServerConnection
from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.events import ConnectRequested, Failed, SubscribeRequested, UnsubscribeRequested
from thingmint.mqtt.protocol.packets import (
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    SubscriptionRequest,
    UnsubAck,
    Unsubscribe,
    Will,
)
from thingmint.mqtt.protocol.reasons import ProtocolError, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.mqtt.protocol.events import Event
    from thingmint.mqtt.protocol.packets import Packet, Version

MAX_PACKET = 4096
USER = (("k", "v"), ("k", ""))
MESSAGE = MessageProperties(True, 1, "text", "r/t", b"c", USER)
SEEDS: Sequence[tuple[Version, Packet]] = (
    (4, Connect(4, "c", username="u", password=b"p", will=Will("w", b"", 1, retain=True))),
    (5, Connect(5, "", session_expiry=9, topic_alias_maximum=3, will=Will("w", b"x", 0, False, 5, MESSAGE))),
    (5, Connect(5, "c", maximum_packet_size=40, request_problem_information=False, user_properties=USER)),
    (
        5,
        ConnAck(
            Reason.SUCCESS, True, 1, 2, 1, False, 3, "i", 4, "w", False, False, False, 5, "r", "s", "m", b"d", USER
        ),
    ),
    (4, Publish("a/b", b"x" * 150, 1, packet_id=1)),
    (5, Publish("a", b"x", 1, packet_id=2, properties=MESSAGE, topic_alias=1)),
    (5, Publish("", b"", topic_alias=1, subscription_ids=(1, 300))),
    (5, PubAck(1, Reason.NOT_AUTHORIZED, "r", USER)),
    (4, Subscribe(1, (SubscriptionRequest("a/#", 1), SubscriptionRequest("$share/g/+", 2)))),
    (5, Subscribe(1, (SubscriptionRequest("a", 1, True, True, 2),), 7, USER)),
    (5, SubAck(1, (Reason.SUCCESS, Reason.QUOTA_EXCEEDED), "r", USER)),
    (5, Unsubscribe(1, ("a", "b/+"), USER)),
    (5, UnsubAck(1, (Reason.SUCCESS,), "r")),
    (5, PingReq()),
    (5, Disconnect(Reason.DISCONNECT_WITH_WILL, 5, "r", None, USER)),
)


def check(octets: bytes) -> None:
    """Checks the input. Its first byte chooses what is checked, and how the rest is split."""
    if not octets:
        return
    mode, octets = octets[0], octets[1:]
    version: Version = 5 if mode & 1 else 4
    piece = mode >> 3 or len(octets) + 1
    if mode & 2:
        _check_connection(version, octets, piece, greet=bool(mode & 4))
    else:
        _check_codec(None if mode & 4 else version, octets, piece)


def _check_codec(version: Version | None, octets: bytes, piece: int) -> None:
    whole, whole_failed = _decode(Decoder(MAX_PACKET, version), octets, len(octets) + 1)
    parts, parts_failed = _decode(Decoder(MAX_PACKET, version), octets, piece)
    assert (whole, whole_failed) == (parts, parts_failed), "the result depends on the pieces"
    for packet in whole:
        if isinstance(packet, Connect):
            version = packet.version
        assert version is not None
        again = Decoder(version=None if isinstance(packet, Connect) else version)
        assert list(again.feed(encode(packet, version))) == [packet], "encoding changed a packet"


def _decode(decoder: Decoder, octets: bytes, piece: int) -> tuple[list[Packet], Reason | None]:
    packets: list[Packet] = []
    for at in range(0, len(octets), piece):
        try:
            packets.extend(decoder.feed(octets[at : at + piece]))
        except ProtocolError as error:
            return packets, error.reason
        assert decoder.held <= MAX_PACKET, "more than a packet is buffered"
    return packets, None


def _check_connection(version: Version, octets: bytes, piece: int, *, greet: bool) -> None:
    server = ServerConnection(0.0, new_client_id=lambda: "$GEN/1", connack_refusals=True)
    if greet:
        octets = encode(Connect(version, "c", topic_alias_maximum=2, session_expiry=1), version) + octets
    answers = Decoder()
    for at in range(0, len(octets), piece):
        events = server.receive(octets[at : at + piece], float(at))
        while events:
            events = [more for event in events for more in _answer(server, event)]
        answers.version = server.version
        list(answers.feed(server.outgoing()))


def _answer(server: ServerConnection, event: Event) -> list[Event]:
    match event:
        case ConnectRequested():
            return server.accept(0.0, session_present=False)
        case Publish():
            server.publish(event.topic, event.payload, packet_id=event.packet_id, properties=event.properties)
            if event.packet_id is not None:
                server.puback(event.packet_id, Reason.NOT_AUTHORIZED if event.retain else Reason.SUCCESS, "reason")
        case SubscribeRequested():
            server.suback(event.packet_id, [refusal or Reason.SUCCESS for refusal in event.refusals])
        case UnsubscribeRequested():
            server.unsuback(event.packet_id, [refusal or Reason.SUCCESS for refusal in event.refusals])
        case Failed():
            assert server.closed, "the connection is open after a failure"
    return []


def mutate(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    data = bytearray(b"".join(chance.choices(seeds, k=chance.randint(1, 4))))
    for _ in range(chance.choice((0, 1, 1, 2, 4, 16))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                data[at : at + 1] = bytes([chance.choice((0, 1, 2, 0x7F, 0x80, 0xFF, chance.randrange(256)))])
            case 1:
                del data[at : at + chance.randint(1, 4)]
            case 2:
                data[at:at] = chance.randbytes(chance.randint(1, 4))
            case 3:
                data[at:at] = data[at : at + chance.randint(1, 40)]
            case _ if at < len(data):
                data[at] = (data[at] + chance.choice((-1, 1))) % 256
    return bytes([chance.randrange(256)]) + data


def run(seconds: float, seed: int) -> int:
    print(f"seed {seed}")
    chance = random.Random(seed)
    seeds = [encode(packet, version) for version, packet in SEEDS]
    end = time.monotonic() + seconds
    inputs = 0
    while time.monotonic() < end:
        octets = mutate(chance, seeds)
        inputs += 1
        try:
            check(octets)
        except Exception:  # noqa: BLE001  # any error is a finding
            traceback.print_exc()
            print(f"input {inputs}: {octets.hex()}")
            return 1
    print(f"{inputs} inputs passed")
    return 0


def run_atheris(arguments: list[str]) -> int:
    try:
        atheris: Any = importlib.import_module("atheris")
    except ModuleNotFoundError:
        print("atheris is not installed: python -m pip install atheris. Without it: --seconds 60", file=sys.stderr)
        return 2
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], *arguments], check)
    atheris.Fuzz()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the MQTT codec and the server's end of a connection.")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to mutate (default: 10)")
    parser.add_argument("--seed", type=int, default=None, help="to repeat a run")
    parser.add_argument("--atheris", action="store_true", help="fuzz with atheris; all other arguments are libFuzzer's")
    options, rest = parser.parse_known_args()
    if options.atheris:
        return run_atheris(rest)
    if rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    return run(options.seconds, random.SystemRandom().randrange(2**32) if options.seed is None else options.seed)


if __name__ == "__main__":
    sys.exit(main())
