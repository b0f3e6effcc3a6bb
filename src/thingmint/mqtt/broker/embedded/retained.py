"""The retained messages of one scope."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import partial
from itertools import islice
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING

from thingmint.domain.mqtt_topics import matches
from thingmint.mqtt.broker.messages import expires_at, size_of, with_remaining_expiry
from thingmint.mqtt.broker.topics import is_wildcard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from thingmint.domain.messages import Message
    from thingmint.mqtt.broker.embedded.deadlines import Deadlines
    from thingmint.mqtt.broker.interface import Aged
    from thingmint.mqtt.broker.limits import Budget


_OVERHEAD = 400  # bytes, roughly: the entries of a message in these collections
_SLACK = 64
_BLOCK = 16  # messages that are compared with a filter in one step

_number = attrgetter("number")
_first = itemgetter(0)


@dataclass(frozen=True, slots=True, eq=False)
class Retained:
    """``number`` grows with each message that is kept."""

    message: Message
    size: int
    kept_at: float
    expires_at: float | None
    publisher: str | None  # the client id; None for a message of the gateway
    number: int


class RetainedMessages:
    """``emptied`` is called when the last message has expired. ``deadlines`` removes expired messages."""

    __slots__ = ("_budget", "_by_age", "_by_topic", "_deadlines", "_emptied", "_levels", "_number")

    def __init__(self, budget: Budget, deadlines: Deadlines, levels: int, emptied: Callable[[], None]) -> None:
        self._budget = budget
        self._deadlines = deadlines
        self._levels = levels
        self._emptied = emptied
        self._by_topic: dict[str, Retained] = {}
        self._by_age: list[tuple[int, str]] = []  # numbers and topics, the oldest first; also of removed messages
        self._number = 0

    def __len__(self) -> int:
        return len(self._by_topic)

    @property
    def newest(self) -> int:
        """The number of the last message that was kept."""
        return self._number

    def keep(self, message: Message, now: float, publisher: str | None) -> bool:
        """Replaces the retained message of the topic. An empty payload only removes it (MQTT 5, 3.3.1.3).

        Returns False, and changes nothing, if there is no room.
        """
        topic = message.topic
        former = self._by_topic.get(topic)
        if not message.payload or message.properties.message_expiry == 0:  # 0: it would expire immediately
            if former is not None:
                self._remove(former)
            return True
        if topic.count("/") >= self._levels:
            return False
        size = size_of(message) + _OVERHEAD
        if former is not None:
            self._budget.give_back(former.size)
        if not self._budget.take(size):
            if former is not None:
                self._budget.take(former.size)
            return False
        if former is not None:
            self._deadlines.clear(former)
        self._number += 1
        until = expires_at(message, now)
        retained = self._by_topic[topic] = Retained(message, size, now, until, publisher, self._number)
        self._by_age.append((self._number, topic))
        self._compact()
        if until is not None:
            self._deadlines.set(retained, until, partial(self._remove_expired, retained))
        return True

    def of_topic(self, topic: str, now: float) -> Aged | None:
        retained = self._by_topic.get(topic)
        return None if retained is None or not _is_alive(retained, now) else _aged(retained, now)

    def after(self, topic: str, limit: int, now: float) -> list[Aged]:
        """Returns the messages after ``topic``, in order of topic. An account has few enough for one step."""
        topics = sorted(name for name in self._by_topic if name > topic)
        alive = (each for name in topics if _is_alive(each := self._by_topic[name], now))
        return [_aged(retained, now) for retained in islice(alive, limit)]

    def matching(self, filter: str, newest: int, now: Callable[[], float]) -> Iterator[Retained | None]:
        """Yields the messages that match ``filter``, the oldest first, and None after each block to end a step.

        Messages may be kept, replaced or removed between two steps: no message is skipped or yielded twice. Messages
        with a number above ``newest`` are left out: the subscriber gets them when they are published.
        """
        if not is_wildcard(filter):
            exact = self._by_topic.get(filter)
            if exact is not None and exact.number <= newest and _is_alive(exact, now()):
                yield exact
            return
        number = 0
        while True:
            start = bisect_right(self._by_age, number, key=_first)
            block = self._by_age[start : start + _BLOCK]
            if not block:
                return
            for number, topic in block:
                if number > newest:
                    return
                retained = self._by_topic.get(topic)
                if retained is None or retained.number != number:
                    continue
                if matches(filter, topic) and _is_alive(retained, now()):
                    yield retained
            yield None

    def _compact(self) -> None:
        if len(self._by_age) > 2 * len(self._by_topic) + _SLACK:
            kept = sorted(self._by_topic.values(), key=_number)
            self._by_age = [(retained.number, retained.message.topic) for retained in kept]

    def _remove(self, retained: Retained) -> None:
        del self._by_topic[retained.message.topic]
        self._compact()
        self._budget.give_back(retained.size)
        self._deadlines.clear(retained)

    def _remove_expired(self, retained: Retained) -> None:
        self._remove(retained)
        if not self._by_topic:
            self._emptied()


def _aged(retained: Retained, now: float) -> Aged:
    return with_remaining_expiry(retained.message, retained.expires_at, now), now - retained.kept_at


def _is_alive(retained: Retained, now: float) -> bool:
    return retained.expires_at is None or retained.expires_at > now
