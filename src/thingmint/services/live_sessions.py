"""Lists the sessions of connected devices, over all processes that share the database.

A process knows its own sessions only. For a page, it publishes a question; each process answers with the few sessions
of its own that belong on that page. Nothing is stored unless a caller asks. A process that does not answer in time is
named in the result.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import structlog

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Unavailable
from thingmint.services.leases import PROCESS
from thingmint.store.outbox import publish_change
from thingmint.store.table import BoundedDelete, to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from thingmint.services.leases import LeaseKeeper
    from thingmint.services.page_tokens import Position
    from thingmint.store.engine import PublishedChange, Store

_PATIENCE = 3.0  # seconds: a process polls the published changes every 0.25 s
_LOOK_EVERY = 0.05  # seconds
_KEPT = 10 * 60 * 1_000_000  # microseconds, for answers that were too late

_ANSWER = (
    "INSERT INTO session_answers (request, process, answer, created_at) VALUES ($1, $2, $3, $4) "
    "ON CONFLICT (request, process) DO NOTHING"
)
_ANSWERS = "SELECT process, answer FROM session_answers WHERE request = $1"
_FORGET = BoundedDelete("session_answers", ("request", "process"), "request = $1")
_OLD = BoundedDelete("session_answers", ("request", "process"), "created_at < $1")

_log = structlog.get_logger("thingmint.connections")


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Sessions must satisfy all that is set.

    ``client_id`` and ``owner`` are exact. ``text`` is part of the client id, thing, owner or address, or the beginning
    of the certificate's id. ``details``: with the topic filters of the sessions.
    """

    client_id: str | None = None
    owner: str | None = None
    certificate: str | None = None
    thing: str | None = None
    address: str | None = None
    text: str | None = None
    details: bool = False

    def matches(self, session: LiveSession) -> bool:
        return (
            self.client_id in (None, session.client_id)
            and (self.owner in (None, session.owner))
            and self.certificate in (None, session.certificate)
            and self.thing in (None, session.thing)
            and self.address in (None, session.address)
            and (self.text is None or session.has(self.text))
        )


class LiveSession(NamedTuple):
    """A connected device. ``name`` is the session's, which is unique in its account.

    Times are microseconds since 1970; ``idle`` is in seconds, since its last packet.
    ``owner`` is the Yandex device, registry or broker. ``certificate`` is empty for a device with a password.
    ``address`` is empty and ``port`` 0 if they are not known. ``keep_alive`` and ``expiry`` are what the device asked
    for. ``subscriptions`` are those of the session; with the operator's own broker only those of the connection.
    ``queued`` messages wait for the device; None if the operator's own broker keeps them. ``received`` and ``sent`` are
    messages since it connected, as seen from the server. ``filters`` are the topic filters, if they were asked for.
    """

    name: str
    client_id: str
    owner: str | None
    certificate: str
    thing: str | None
    address: str
    port: int
    protocol: str
    connected_at: int
    idle: float
    keep_alive: int
    expiry: int
    subscriptions: int
    queued: int | None
    received: int
    sent: int
    process: str
    filters: Sequence[str] = ()

    @property
    def position(self) -> Position:
        return self.connected_at, self.name

    def has(self, text: str) -> bool:
        if self.certificate and self.certificate.startswith(text.lower()):
            return True
        return any(text in part for part in (self.client_id, self.thing, self.owner, self.address) if part)


@dataclass(frozen=True, slots=True)
class SessionPage:
    """``missing`` are the processes that did not answer in time."""

    sessions: list[LiveSession]
    missing: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SessionQuestion:
    wanted: SessionFilter
    after: Position | None
    limit: int
    ascending: bool


LocalSessions = Callable[[Scope, SessionQuestion], Awaitable[list[LiveSession]]]
"""Returns sessions of this process after a position, in the order of the positions."""

AllSessions = Callable[[Scope, SessionQuestion], Awaitable[SessionPage]]
"""Returns sessions of all processes. Raises Unavailable."""


@dataclass(slots=True)
class SharedSessions:
    """Asks the other processes for their sessions, and answers them. ``process`` is the name of this one."""

    store: Store
    process: str
    leases: LeaseKeeper
    local: LocalSessions
    clock: Callable[[], datetime]
    patience: float = _PATIENCE
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __call__(self, scope: Scope, question: SessionQuestion) -> SessionPage:
        others = set(self.leases.others(PROCESS))
        own = await self.local(scope, question)
        if not others:
            return SessionPage(own)
        request = os.urandom(16).hex()
        asked = orjson.dumps([request, self.process, asdict(question)]).decode()
        await self.store.write(lambda tx: publish_change(tx, scope, "sessions", asked, self.clock()))
        answers = await self._answers(request, others)
        await _FORGET.run(self.store, request)
        found = own + [LiveSession(*each) for answer in answers.values() for each in orjson.loads(answer)]
        found.sort(key=lambda each: each.position, reverse=not question.ascending)
        return SessionPage(found[: question.limit], sorted(others - answers.keys()))

    async def _answers(self, request: str, others: set[str]) -> dict[str, str]:
        """The answers by process. Returns as soon as all are there, or after some seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.patience
        while True:
            answers: dict[str, str] = dict(await self.store.fetch_all(_ANSWERS, request))
            if others <= answers.keys() or loop.time() >= until:
                return answers
            await asyncio.sleep(_LOOK_EVERY)

    def changed(self, changes: Sequence[PublishedChange]) -> None:
        """Answers the questions of other processes. Follows the change feed."""
        for change in changes:
            if change.kind == "sessions":
                request, process, asked = orjson.loads(change.name)
                if process != self.process:
                    scope = Scope(change.account, change.region)
                    task = asyncio.get_running_loop().create_task(self._answer(request, scope, asked))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: str, scope: Scope, asked: dict[str, Any]) -> None:
        # Read here: an error in the change feed would keep other changes, such as revocations, from who follows it.
        sessions = await self.local(scope, _question(asked))
        answer = orjson.dumps([[*each] for each in sessions]).decode()
        row = (request, self.process, answer, to_micros(self.clock()))
        try:
            await self.store.write(lambda tx: tx.execute(_ANSWER, *row))
        except Unavailable as error:
            _log.warning("sessions_not_told", error=str(error))


def _question(asked: dict[str, Any]) -> SessionQuestion:
    after = asked.pop("after")
    wanted = SessionFilter(**asked.pop("wanted"))
    return SessionQuestion(wanted=wanted, after=None if after is None else (after[0], after[1]), **asked)


async def delete_old_answers(store: Store, now: datetime) -> None:
    """Delete answers that came too late, or whose process has ended."""
    await _OLD.run(store, to_micros(now) - _KEPT)


def only_here(local: LocalSessions) -> AllSessions:
    """Return the sessions of the only process on its database."""

    async def sessions(scope: Scope, question: SessionQuestion) -> SessionPage:
        return SessionPage(await local(scope, question))

    return sessions
