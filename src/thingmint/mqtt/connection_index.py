"""The connections that are open, found by whatever may change about them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Protocol

from thingmint.mqtt.slices import Slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from thingmint.mqtt.protocol.reasons import Reason
    from thingmint.services.device_facts import Dependency
    from thingmint.store.engine import PublishedChange

_WAIT_AT_MOST = 1.0  # seconds: by then the outbox has told every process
_LOOK_EVERY = 0.01  # seconds, whether those that are told a few at a time are done
_FEW = 100  # connections that are told at once, and waited for; of more, those whose certificate changed
_AT_ONCE = 32  # of the others, those that are authenticated again at the same time


class Member(Protocol):
    """A session, from before its device is authenticated until it has ended."""

    def reauthorize(self) -> asyncio.Future[None] | None:
        """Something that it depends on changed: read again, and go on, or close.

        Returns what is done once it has; None if nothing is open yet, or any more.
        """
        ...

    def suspend(self) -> None:
        """Nothing passes in either direction until it was authenticated again by ``reauthorize``."""
        ...

    def disconnect(self, reason: Reason, why: str, *, with_will: bool = False) -> None:
        """Closes it; its will is published only ``with_will``."""
        ...

    def check_deadlines(self, now: float) -> None:
        """Looks at what only time changes; ``now`` is the event loop's."""
        ...


class ConnectionIndex:
    """Most certificates and things have one connection: sets, which take 216 bytes, are for what several share.

    ``generation`` counts the times that anything changed. Where many connections depend on what changed, they are told
    a few at a time.
    """

    def __init__(self, slices: Slices | None = None) -> None:
        self.slices = slices or Slices()
        self.generation = 0
        self._members: dict[Member, tuple[Dependency, ...]] = {}
        self._sole: dict[Dependency, Member] = {}  # whatever has one dependent
        self._dependents: dict[Dependency, set[Member]] = {}  # and two or more, or had once
        self._untold: OrderedDict[Member, None] = OrderedDict()
        self._underway: set[Member] = set()  # of those that were told a few at a time

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

    def depending_on(self, dependency: Dependency) -> Sequence[Member]:
        return tuple(self._concerned((dependency,)))

    def remove(self, member: Member) -> None:
        self._untold.pop(member, None)
        self._let_go(member, self._members.pop(member, ()))

    async def close(self, changes: Sequence[PublishedChange]) -> None:
        """A Messages: acts at once on what this process published."""
        dependencies = list(concerned_by(changes))
        underway = self.changed(dependencies)
        if underway:
            await asyncio.wait(underway, timeout=_WAIT_AT_MOST)
        if self._untold or self._underway:
            await self._wait_for(_of_certificates(dependencies))

    def reauthorize(self, changes: Sequence[PublishedChange]) -> None:
        """A Messages: the same for what another process changed, without waiting."""
        self.changed(concerned_by(changes))

    async def _wait_for(self, dependencies: Sequence[Dependency]) -> None:
        """Until those who follow them are told of nothing any more, which others' changes must not draw out."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _WAIT_AT_MOST
        while loop.time() < deadline and any(  # noqa: ASYNC110 - a look costs a pass over all: now and then is enough
            member in self._untold or member in self._underway for member in self._concerned(dependencies)
        ):
            await asyncio.sleep(_LOOK_EVERY)

    def changed(self, dependencies: Iterable[Dependency]) -> list[asyncio.Future[None]]:
        """Each connection is told once, however many of its dependencies changed. When those that are told at once, and
        read again, have done so."""
        self.generation += 1
        dependencies = list(dependencies)
        concerned = self._concerned(dependencies)
        if len(concerned) > _FEW:
            self._untold.update(concerned)
            concerned = self._concerned(_of_certificates(dependencies))
            if len(concerned) > _FEW:
                for member in concerned:
                    self._untold.move_to_end(member, last=False)
                concerned = {}
            self._go_on_telling()
        for member in concerned:
            self._untold.pop(member, None)
        told = (member.reauthorize() for member in concerned)
        return [done for done in told if done is not None]

    def reauthorize_all(self) -> None:
        """Goes on behind the call."""
        self.generation += 1
        self._untold.update(dict.fromkeys(self._members))
        self._go_on_telling()

    def _go_on_telling(self) -> None:
        self.slices.run("", self, self._tell_some())

    def _tell_some(self) -> Iterator[None]:
        while self._untold and len(self._underway) < _AT_ONCE:
            member, _ = self._untold.popitem(last=False)
            done = member.reauthorize()
            if done is not None:
                self._underway.add(member)
                done.add_done_callback(partial(self._one_done, member))
            yield

    def _one_done(self, member: Member, _: asyncio.Future[None]) -> None:
        self._underway.discard(member)
        if self._untold:
            self._go_on_telling()

    def _concerned(self, dependencies: Iterable[Dependency]) -> dict[Member, None]:
        concerned: dict[Member, None] = {}
        for dependency in dependencies:
            if dependency in self._sole:
                concerned[self._sole[dependency]] = None
            else:
                concerned.update(dict.fromkeys(self._dependents.get(dependency, ())))
        return concerned

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


def _of_certificates(dependencies: Iterable[Dependency]) -> list[Dependency]:
    return [each for each in dependencies if each[2] == "certificate"]


def concerned_by(changes: Iterable[PublishedChange]) -> Iterator[Dependency]:
    for change in changes:
        yield change.account, change.region, change.kind, change.name
        # Before a connection's account is known, it follows its certificate in all of them.
        if change.kind == "certificate":
            yield "", "", change.kind, change.name
