"""The connections that are open, found by whatever may change about them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from thingmint.gateway.mqtt.reasons import Reason

__all__ = ["Dependency", "Hub", "Member"]

Dependency = tuple[str, str, str, str]
"""Account, region ('' for all), kind and name, as a notice has them."""


class Member(Protocol):
    """A connection, from before its certificate is judged until it is closed."""

    def reconsider(self) -> None:
        """Something that it depends on changed: read again, and go on, or close."""
        ...

    def throw_out(self, reason: Reason, why: str) -> None:
        """Closes it; its will is not published."""
        ...

    def check(self, now: float) -> None:
        """Looks at what only time changes; ``now`` is the event loop's."""
        ...


class Hub:
    def __init__(self) -> None:
        self._members: dict[Member, frozenset[Dependency]] = {}
        self._dependents: defaultdict[Dependency, set[Member]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members))

    def follow(self, member: Member, dependencies: Iterable[Dependency]) -> None:
        """From now on ``member`` is told of changes to ``dependencies``, and of no others."""
        wanted = frozenset(dependencies)
        self._let_go(member, self._members.get(member, frozenset()) - wanted)
        for dependency in wanted:
            self._dependents[dependency].add(member)
        self._members[member] = wanted

    def remove(self, member: Member) -> None:
        self._let_go(member, self._members.pop(member, frozenset()))

    def changed(self, dependencies: Iterable[Dependency]) -> None:
        """Each connection is told once, however many of its dependencies changed."""
        concerned: dict[Member, None] = {}
        for dependency in dependencies:
            concerned.update(dict.fromkeys(self._dependents.get(dependency, ())))
        for member in concerned:
            member.reconsider()

    def _let_go(self, member: Member, dependencies: Iterable[Dependency]) -> None:
        for dependency in dependencies:
            members = self._dependents[dependency]
            members.discard(member)
            if not members:
                del self._dependents[dependency]
