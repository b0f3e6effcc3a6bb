"""An index of the open connections by their dependencies: certificate, thing, policies, account and more."""

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

_WAIT_AT_MOST = 1.0  # seconds: by then every process has read the change from the outbox
_POLL_EVERY = 0.01  # seconds, while waiting for queued connections
_FEW = 100  # connections that are reauthorized immediately, and waited for; if a change concerns more, they are queued
_AT_ONCE = 32  # queued connections that are authenticated again at the same time


class Member(Protocol):
    """A session, from before its device is authenticated until it has ended."""

    @property
    def is_accepted(self) -> bool:
        """True if CONNECT was accepted."""
        ...

    def reauthorize(self) -> asyncio.Future[None] | None:
        """Authenticates again, because a dependency changed, and closes the connection if the device is rejected.

        Returns a future that is done afterwards; None if the connection is not accepted yet, or has ended.
        """
        ...

    def suspend(self) -> None:
        """Stops all traffic, in both directions, until the device is authenticated again."""
        ...

    def disconnect(self, reason: Reason, why: str, *, with_will: bool = False) -> None:
        """Closes the connection. The will is published only if ``with_will``."""
        ...

    def check_deadlines(self, now: float) -> None:
        """Closes the connection after a time-out, or if the certificate expired. ``now`` is the event loop's time."""
        ...


class ConnectionIndex:
    """Finds the connections that a change concerns, and has them authenticated again.

    ``generation`` counts the changes. If a change concerns many connections, they are queued and reauthorized a few at
    a time. Only dependencies of several connections have a set, which takes 216 bytes: most certificates and things
    have one connection.
    """

    def __init__(self, slices: Slices | None = None) -> None:
        self.slices = slices or Slices()
        self.generation = 0
        self._members: dict[Member, tuple[Dependency, ...]] = {}
        self._sole: dict[Dependency, Member] = {}  # dependencies of one connection
        self._dependents: dict[Dependency, set[Member]] = {}  # dependencies of several connections, now or before
        self._queued: OrderedDict[Member, None] = OrderedDict()
        self._underway: set[Member] = set()  # taken from the queue, not authenticated yet

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members))

    def follow(self, member: Member, dependencies: Iterable[Dependency]) -> None:
        """Replaces the dependencies of ``member``: it is reauthorized if one of them changes."""
        wanted = tuple(set(dependencies))
        former = self._members.get(member, ())
        for dependency in wanted:
            if dependency not in former:
                self._add(member, dependency)
        self._discard(member, [dependency for dependency in former if dependency not in wanted])
        self._members[member] = wanted

    def followed_by(self, member: Member) -> Sequence[Dependency]:
        return self._members.get(member, ())

    def depending_on(self, dependency: Dependency) -> Sequence[Member]:
        return tuple(self._concerned((dependency,)))

    def remove(self, member: Member) -> None:
        self._queued.pop(member, None)
        self._discard(member, self._members.pop(member, ()))

    async def close(self, changes: Sequence[PublishedChange]) -> None:
        """Implements Messages: reauthorizes after changes that this process published, and waits for the result."""
        dependencies = list(concerned_by(changes))
        underway = self.changed(dependencies)
        if underway:
            await asyncio.wait(underway, timeout=_WAIT_AT_MOST)
        if self._queued or self._underway:
            await self._wait_for(_of_certificates(dependencies))

    def reauthorize(self, changes: Sequence[PublishedChange]) -> None:
        """Implements Messages: the same for changes by other processes, without waiting."""
        self.changed(concerned_by(changes))

    async def _wait_for(self, dependencies: Sequence[Dependency]) -> None:
        """Waits until no connection with one of ``dependencies`` is queued or under way, up to _WAIT_AT_MOST."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _WAIT_AT_MOST
        while loop.time() < deadline and any(  # noqa: ASYNC110 - a check iterates over all: an event would cost more
            member in self._queued or member in self._underway for member in self._concerned(dependencies)
        ):
            await asyncio.sleep(_POLL_EVERY)

    def changed(self, dependencies: Iterable[Dependency]) -> list[asyncio.Future[None]]:
        """Reauthorizes each connection with one of ``dependencies`` once, or queues it.

        Returns futures for the connections that were not queued.
        """
        self.generation += 1
        dependencies = list(dependencies)
        concerned = self._concerned(dependencies)
        if len(concerned) > _FEW:
            self._queued.update(concerned)
            concerned = self._concerned(_of_certificates(dependencies))
            if len(concerned) > _FEW:
                for member in concerned:
                    self._queued.move_to_end(member, last=False)
                concerned = {}
            self._run_queue()
        for member in concerned:
            self._queued.pop(member, None)
        results = (member.reauthorize() for member in concerned)
        return [done for done in results if done is not None]

    def reauthorize_all(self) -> None:
        """Queues all connections; returns before they are reauthorized."""
        self.generation += 1
        self._queued.update(dict.fromkeys(self._members))
        self._run_queue()

    def _run_queue(self) -> None:
        self.slices.run("", self, self._reauthorize_queued())

    def _reauthorize_queued(self) -> Iterator[None]:
        while self._queued and len(self._underway) < _AT_ONCE:
            member, _ = self._queued.popitem(last=False)
            done = member.reauthorize()
            if done is not None:
                self._underway.add(member)
                done.add_done_callback(partial(self._reauthorized, member))
            yield

    def _reauthorized(self, member: Member, _: asyncio.Future[None]) -> None:
        self._underway.discard(member)
        if self._queued:
            self._run_queue()

    def _concerned(self, dependencies: Iterable[Dependency]) -> dict[Member, None]:
        concerned: dict[Member, None] = {}
        for dependency in dependencies:
            if dependency in self._sole:
                concerned[self._sole[dependency]] = None
            else:
                concerned.update(dict.fromkeys(self._dependents.get(dependency, ())))
        return concerned

    def _add(self, member: Member, dependency: Dependency) -> None:
        members = self._dependents.get(dependency)
        if members is not None:
            members.add(member)
        elif dependency in self._sole:
            self._dependents[dependency] = {self._sole.pop(dependency), member}
        else:
            self._sole[dependency] = member

    def _discard(self, member: Member, dependencies: Iterable[Dependency]) -> None:
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
        # Before the account of a connection is known, it depends on its certificate in all accounts.
        if change.kind == "certificate":
            yield "", "", change.kind, change.name
