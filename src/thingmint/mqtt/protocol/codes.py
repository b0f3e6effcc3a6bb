"""Which reason codes a packet may carry (MQTT 5, 2.4), and 3.1.1's return codes (3.2.2.3)."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.protocol.wire import PacketType

if TYPE_CHECKING:
    from collections.abc import Mapping


def _codes(text: str) -> Mapping[int, Reason]:
    return MappingProxyType({int(code, 16): Reason(int(code, 16)) for code in text.split()})


_PUBLISH_ANSWER = _codes("00 10 80 83 87 90 91 97 99")
_RELEASE_ANSWER = _codes("00 92")

ALLOWED: Final[Mapping[PacketType, Mapping[int, Reason]]] = MappingProxyType(
    {
        PacketType.CONNACK: _codes("00 80 81 82 83 84 85 86 87 88 89 8A 8C 90 95 97 99 9A 9B 9C 9D 9F"),
        PacketType.PUBACK: _PUBLISH_ANSWER,
        PacketType.PUBREC: _PUBLISH_ANSWER,
        PacketType.PUBREL: _RELEASE_ANSWER,
        PacketType.PUBCOMP: _RELEASE_ANSWER,
        PacketType.SUBACK: _codes("00 01 02 80 83 87 8F 91 97 9E A1 A2"),
        PacketType.UNSUBACK: _codes("00 11 80 83 87 8F 91"),
        PacketType.DISCONNECT: _codes(
            "00 04 80 81 82 83 87 89 8B 8D 8E 8F 90 93 94 95 96 97 98 99 9A 9B 9C 9D 9E 9F A0 A1 A2"
        ),
        PacketType.AUTH: _codes("00 18 19"),
    }
)

SUBACK_3: Final = _codes("00 01 02 80")

FROM_RETURN_CODE: Final[Mapping[int, Reason]] = MappingProxyType(
    {
        0: Reason.SUCCESS,
        1: Reason.UNSUPPORTED_PROTOCOL_VERSION,
        2: Reason.CLIENT_IDENTIFIER_NOT_VALID,
        3: Reason.SERVER_UNAVAILABLE,
        4: Reason.BAD_USER_NAME_OR_PASSWORD,
        5: Reason.NOT_AUTHORIZED,
    }
)

TO_RETURN_CODE: Final[Mapping[Reason, int]] = MappingProxyType(
    {
        **{reason: code for code, reason in FROM_RETURN_CODE.items()},
        Reason.BAD_AUTHENTICATION_METHOD: 5,
        Reason.BANNED: 5,
        Reason.CONNECTION_RATE_EXCEEDED: 3,
        Reason.QUOTA_EXCEEDED: 3,
        Reason.SERVER_BUSY: 3,
        Reason.SERVER_SHUTTING_DOWN: 3,
    }
)
"""For the others 3.1.1 has no word: the connection is closed without one."""
