"""The connections that are open, found by whatever may change about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from thingmint.mqtt.protocol.reasons import Reason


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
    """Most certificates and things have one connection: sets, which take 216 bytes, are for what several share."""

    def __init__(self) -> None:
        self._members: dict[Member, tuple[Dependency, ...]] = {}
        self._sole: dict[Dependency, Member] = {}  # whatever has one dependent
        self._dependents: dict[Dependency, set[Member]] = {}  # and two or more, or had once

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members))

    def follow(self, member: Member, dependencies: Iterable[Dependency]) -> None:
        """From now on ``member`` is told of changes to ``dependencies``, and of no others."""
        wanted = tuple(set(dependencies))
        former = self._members.get(member, ())
        for dependency in wanted:
            if dependency not in former:
                self._take_on(member, dependency)
        self._let_go(member, [dependency for dependency in former if dependency not in wanted])
        self._members[member] = wanted

    def followed_by(self, member: Member) -> Sequence[Dependency]:
        return self._members.get(member, ())

    def remove(self, member: Member) -> None:
        self._let_go(member, self._members.pop(member, ()))

    def changed(self, dependencies: Iterable[Dependency]) -> None:
        """Each connection is told once, however many of its dependencies changed."""
        concerned: dict[Member, None] = {}
        for dependency in dependencies:
            if dependency in self._sole:
                concerned[self._sole[dependency]] = None
            else:
                concerned.update(dict.fromkeys(self._dependents.get(dependency, ())))
        for member in concerned:
            member.reconsider()

    def _take_on(self, member: Member, dependency: Dependency) -> None:
        members = self._dependents.get(dependency)
        if members is not None:
            members.add(member)
        elif dependency in self._sole:
            self._dependents[dependency] = {self._sole.pop(dependency), member}
        else:
            self._sole[dependency] = member

    def _let_go(self, member: Member, dependencies: Iterable[Dependency]) -> None:
        for dependency in dependencies:
            if self._sole.pop(dependency, None) is not None:
                continue
            members = self._dependents[dependency]
            members.discard(member)
            if not members:
                del self._dependents[dependency]
