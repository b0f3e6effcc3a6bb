"""What is wrong with what a peer sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thingmint.mqtt.protocol.reasons import Reason


class ProtocolError(Exception):
    """The peer broke the protocol or a limit, so the connection has to end. The text never quotes its input."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
