"""One scope's retained messages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from thingmint.mqtt.broker.messages import size_of
from thingmint.mqtt.broker.topics import TopicTree

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.mqtt.broker.deadlines import Deadlines
    from thingmint.mqtt.broker.interface import Message
    from thingmint.mqtt.broker.limits import Budget


_LEVEL_SIZE = 400  # bytes of a level's node in the tree, roughly


@dataclass(frozen=True, slots=True, eq=False)
class Retained:
    message: Message
    size: int
    expires_at: float | None
    publisher: str | None  # its client id, or None for the gateway's own


class RetainedMessages:
    """``emptied`` is called when the last one has expired; ``deadlines`` ends them."""

    __slots__ = ("_budget", "_count", "_deadlines", "_emptied", "_levels", "_tree")

    def __init__(self, budget: Budget, deadlines: Deadlines, levels: int, emptied: Callable[[], None]) -> None:
        self._budget = budget
        self._deadlines = deadlines
        self._levels = levels
        self._emptied = emptied
        self._tree: TopicTree[Retained] = TopicTree()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def keep(self, message: Message, expires_at: float | None, publisher: str | None) -> bool:
        """In place of the topic's former one, which an empty payload only removes (MQTT 5, 3.3.1.3).

        False if there is no room; the former one is kept then.
        """
        topic = message.topic
        former = self._tree.get(topic)
        if not message.payload or message.properties.message_expiry == 0:  # which is over as soon as it is kept
            if former is not None:
                self._remove(former)
            return True
        levels = topic.count("/") + 1
        if levels > self._levels:
            return False
        size = size_of(message) + levels * _LEVEL_SIZE
        if former is not None:
            self._budget.give_back(former.size)
        if not self._budget.take(size):
            if former is not None:
                self._budget.take(former.size)
            return False
        if former is None:
            self._count += 1
        else:
            self._deadlines.clear(former)
        retained = Retained(message, size, expires_at, publisher)
        self._tree.put(topic, retained)
        if expires_at is not None:
            self._deadlines.set(retained, expires_at, partial(self._expire, retained))
        return True

    def matching(self, filter: str, now: float) -> list[Retained]:
        return [
            retained
            for retained in self._tree.matching(filter)
            if retained.expires_at is None or retained.expires_at > now
        ]

    def _remove(self, retained: Retained) -> None:
        self._tree.remove(retained.message.topic)
        self._count -= 1
        self._budget.give_back(retained.size)
        self._deadlines.clear(retained)

    def _expire(self, retained: Retained) -> None:
        self._remove(retained)
        if not self._count:
            self._emptied()
