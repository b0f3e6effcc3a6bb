"""Topic aliases (MQTT 5, 3.3.2.3.4)."""

from __future__ import annotations

from thingmint.mqtt.protocol.reasons import ProtocolError, Reason


class InboundAliases:
    """The topic aliases that the client sets."""

    __slots__ = ("_maximum", "_topics")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._topics: dict[int, str] = {}

    def resolve(self, topic: str, alias: int) -> str:
        """Returns the topic of a PUBLISH with an alias, and stores new aliases. Raises ProtocolError."""
        if alias > self._maximum:
            raise ProtocolError(Reason.TOPIC_ALIAS_INVALID, "a topic alias is above the maximum")  # MQTT-3.3.2-9
        if not topic:
            known = self._topics.get(alias)
            if known is None:
                raise ProtocolError(Reason.PROTOCOL_ERROR, "an unknown topic alias")
            return known
        self._topics[alias] = topic
        return topic


class OutboundAliases:
    """The topic aliases that the server sets: the first topics get one, and keep it."""

    __slots__ = ("_maximum", "_numbers")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._numbers: dict[str, int] = {}

    def known(self, topic: str) -> int | None:
        return self._numbers.get(topic)

    def next(self) -> int | None:
        """Returns a free alias, if any. Call ``keep`` after it was sent to the client."""
        number = len(self._numbers) + 1
        return number if number <= self._maximum else None

    def keep(self, topic: str, alias: int) -> None:
        self._numbers[topic] = alias
