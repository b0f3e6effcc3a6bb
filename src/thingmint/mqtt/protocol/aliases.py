"""Topic aliases (MQTT 5, 3.3.2.3.4): numbers that stand for topics within one direction of one connection."""

from __future__ import annotations

from thingmint.mqtt.protocol.errors import ProtocolError
from thingmint.mqtt.protocol.reasons import Reason


class InboundAliases:
    """Those that the client sets."""

    __slots__ = ("_maximum", "_topics")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._topics: dict[int, str] = {}

    def resolve(self, topic: str, alias: int) -> str:
        """The topic that is meant. Raises ProtocolError."""
        if alias > self._maximum:
            raise ProtocolError(Reason.TOPIC_ALIAS_INVALID, "a topic alias is above the maximum")  # MQTT-3.3.2-9
        if not topic:
            known = self._topics.get(alias)
            if known is None:
                raise ProtocolError(Reason.PROTOCOL_ERROR, "a topic alias stands for nothing")
            return known
        self._topics[alias] = topic
        return topic


class OutboundAliases:
    """Those that we set: the first topics get them, and keep them."""

    __slots__ = ("_maximum", "_numbers")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._numbers: dict[str, int] = {}

    def known(self, topic: str) -> int | None:
        return self._numbers.get(topic)

    def next(self) -> int | None:
        """One that is free. It is taken only by ``keep``, once the client was told."""
        number = len(self._numbers) + 1
        return number if number <= self._maximum else None

    def keep(self, topic: str, alias: int) -> None:
        self._numbers[topic] = alias
