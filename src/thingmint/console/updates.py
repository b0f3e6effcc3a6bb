"""Tells open pages that what they show has changed. Each page has one stream of events.

An event has only a name: the page then asks for its part again, as any reader does, with the policies of that moment.
The events of an account and region come together, and so rarely that all pages cost a bounded part of the server's
time. What pages read after the same event is read once (``share``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Throttled, Unavailable
from thingmint.services.live_changes import CERTIFICATES, CONNECTIONS, REFUSALS, name_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from thingmint.access.console_sessions import ConsoleSessions
    from thingmint.access.context import Caller
    from thingmint.store.engine import PublishedChange

T = TypeVar("T")

TASKS = "tasks"
NAMES = frozenset((CONNECTIONS, REFUSALS, CERTIFICATES, TASKS))

MAX_OF_SESSION = 4
"""A browser opens six connections to a server over HTTP/1.1: some must be left for the pages."""
MAX_OF_ACCOUNT = 100
MAX_OF_PROCESS = 400

_HEARTBEAT = 15.0  # seconds
_LIFETIME = 600.0  # seconds; the browser then opens the stream again
_GATHER = 0.05  # seconds for changes that belong together
_QUIET = 1.0  # seconds between two events
_APART = 0.02  # seconds between two pages that get the same event
_CHECK_EVERY = 10.0  # seconds
_CHECK_APART = 0.2  # seconds between two checks, when many things change
_LOOK_EVERY = 2.0  # seconds between two looks at the tasks, while a page shows some
_SHARED_FOR = 2.0  # seconds
_MAX_SHARED = 200

_BEAT = b":\n\n"
_END = b"event: end\ndata: 1\n\n"


class PageStream:
    """The events of one page, as the body of an answer. It keeps only the names that wait."""

    def __init__(
        self,
        updates: Updates,
        scope: Scope,
        page: str,
        names: Collection[str],
        session: str | None,
        is_allowed: Callable[[Caller], bool],
    ) -> None:
        self.scope = scope
        self.page = page
        self.names = frozenset(names)
        self.session = session
        self.is_allowed = is_allowed
        self._updates = updates
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + _LIFETIME
        self._waiting: set[str] = set()
        self._wake = asyncio.Event()
        self._last: bytes | None = None

    async def next(self) -> bytes | None:
        if self._loop.time() >= self._ends:
            return None
        if not self._waiting and self._last is None:
            try:
                async with asyncio.timeout(_HEARTBEAT):
                    await self._wake.wait()
            except TimeoutError:
                return _BEAT
        self._wake.clear()
        if self._last is not None:
            self._ends, last = 0.0, self._last
            return last or None
        names, self._waiting = sorted(self._waiting), set()
        return b"".join(b"event: %b\ndata: 1\n\n" % name.encode() for name in names)

    def close(self) -> None:
        self._updates.closed(self)

    def tell(self, names: Collection[str]) -> None:
        self._waiting |= {each.partition(" ")[0] for each in self.names.intersection(names)}
        self._wake.set()

    def end(self, *, tell: bool) -> None:
        """Ends the stream. ``tell``: the page must not open it again, as its session has ended."""
        self._last = _END if tell else b""
        self._wake.set()


class _Events:
    """The names that wait for the streams of one account and region."""

    def __init__(self) -> None:
        self.streams: dict[PageStream, None] = {}
        self.followed: Counter[str] = Counter()
        self.waiting: set[str] = set()
        self.told_at = 0.0
        self.timer: asyncio.TimerHandle | None = None


class Updates:
    """The streams of this process. ``tasks`` returns how far the running tasks and imports are, by account."""

    def __init__(
        self, sessions: ConsoleSessions, tasks: Callable[[], Awaitable[Mapping[str, object]]] | None = None
    ) -> None:
        self._sessions = sessions
        self._tasks = tasks
        self._scopes: dict[Scope, _Events] = {}
        self._of_session: Counter[str] = Counter()
        self._of_account: Counter[str] = Counter()
        self._of_page: Counter[str] = Counter()
        self.refused: Counter[str] = Counter({"session": 0, "account": 0, "server": 0})
        """How many streams were not opened, by what had too many."""
        self._count = 0
        self._is_closed = False
        self._check = asyncio.Event()
        self._seen_tasks: Mapping[str, object] | None = None
        self._shared: dict[tuple[Scope, Any], tuple[float, asyncio.Task[Any]]] = {}

    @property
    def count(self) -> int:
        """How many streams are open."""
        return self._count

    @property
    def by_page(self) -> Mapping[str, int]:
        """How many streams are open, by the kind of page."""
        return self._of_page

    def open(
        self,
        scope: Scope,
        page: str,
        names: Collection[str],
        session: str | None,
        is_allowed: Callable[[Caller], bool],
    ) -> PageStream:
        """A new stream, which counts until it is closed. Raises Throttled and Unavailable.

        ``page`` is one of a few kinds of pages. The page gets an event by the first word of each of the ``names``.
        ``session`` is the id of a session; None for the developer's. ``is_allowed`` is asked again from time to time.
        """
        if self._is_closed:
            raise Unavailable("The server stops")
        key = session or ""
        for what, count, most in (
            ("session", self._of_session[key], MAX_OF_SESSION),
            ("account", self._of_account[scope.account], MAX_OF_ACCOUNT),
            ("server", self._count, MAX_OF_PROCESS),
        ):
            if count >= most:
                self.refused[what] += 1
                raise Throttled(f"This {what} already has {most} pages that follow at once", retry_after=60)
        stream = PageStream(self, scope, page, names, session, is_allowed)
        events = self._scopes.setdefault(scope, _Events())
        events.streams[stream] = None
        events.followed.update(stream.names)
        self._of_session[key] += 1
        self._of_account[scope.account] += 1
        self._of_page[page] += 1
        self._count += 1
        return stream

    def closed(self, stream: PageStream) -> None:
        events = self._scopes.get(stream.scope)
        if events is None or stream not in events.streams:
            return
        del events.streams[stream]
        events.followed -= Counter(stream.names)
        self._of_page[stream.page] -= 1
        if not events.streams:
            del self._scopes[stream.scope]
            if events.timer is not None:
                events.timer.cancel()
        for counts, key in ((self._of_session, stream.session or ""), (self._of_account, stream.scope.account)):
            counts[key] -= 1
            if not counts[key]:
                del counts[key]
        self._count -= 1

    def changed(self, scope: Scope, name: str) -> None:
        """Something changed. Follows LiveChanges, and is fast: a fleet can connect thousands of devices in a second."""
        events = self._scopes.get(scope)
        if events is None or name not in events.followed:
            return
        events.waiting.add(name)
        if events.timer is None:
            loop = asyncio.get_running_loop()
            quiet = max(_QUIET, self._count * _APART)
            events.timer = loop.call_at(max(loop.time() + _GATHER, events.told_at + quiet), self._tell, scope)

    def published(self, changes: Sequence[PublishedChange]) -> None:
        """Takes changes of stored data. Follows the change feed."""
        for change in changes:
            if change.kind == "access":
                self._check.set()
            elif change.kind == "certificate":
                scope = Scope(change.account, change.region)
                self.changed(scope, CERTIFICATES)
                self.changed(scope, name_of(CERTIFICATES, change.name))
            elif change.kind == "owner" and change.account in self._of_account:
                for scope in [each for each in self._scopes if each.account == change.account]:  # it has no region
                    self.changed(scope, CERTIFICATES)

    def check_soon(self) -> None:
        """A session has ended in this process."""
        self._check.set()

    def share(self, scope: Scope, key: Any, read: Callable[[], Awaitable[T]]) -> Awaitable[T]:
        """What ``read`` returns, or what it returned to another page since the last event, some seconds ago at most.

        ``key`` names all that the result depends on, the caller's rights included.
        """
        now = asyncio.get_running_loop().time()
        known = self._shared.get((scope, key))
        if known is None or known[0] + _SHARED_FOR <= now or _has_failed(known[1]):
            for old in [each for each, (at, _) in self._shared.items() if at + _SHARED_FOR <= now]:
                del self._shared[old]
            task = asyncio.ensure_future(_run(read))
            task.add_done_callback(_has_failed)
            if len(self._shared) < _MAX_SHARED:
                self._shared[(scope, key)] = now, task
            return asyncio.shield(task)
        return asyncio.shield(known[1])

    async def run(self) -> None:
        """Ends the streams of ended sessions, and looks at the tasks, until cancelled."""
        loop = asyncio.get_running_loop()
        check_at = loop.time() + _CHECK_EVERY
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._check.wait()
            with contextlib.suppress(Unavailable):  # an event tells nothing, and what pages ask for is refused
                if self._check.is_set() or loop.time() >= check_at:
                    check_at = loop.time() + _CHECK_EVERY
                    self._check.clear()
                    await self.check()
                await self._look_at_tasks()
            await asyncio.sleep(_CHECK_APART)

    async def check(self) -> None:
        """Ends the streams whose session has ended, or whose caller may not see the page now. Raises Unavailable."""
        streams = [each for events in self._scopes.values() for each in events.streams if each.session is not None]
        callers = await self._sessions.still_open({each.session for each in streams if each.session is not None})
        for each in streams:
            assert each.session is not None, "others were left out"
            caller = callers.get(each.session)
            if caller is None or not each.is_allowed(caller):
                each.end(tell=True)

    def close(self) -> None:
        """Ends all streams, because the server stops. No further one is opened."""
        self._is_closed = True
        for events in self._scopes.values():
            for stream in events.streams:
                stream.end(tell=False)

    def _tell(self, scope: Scope) -> None:
        events = self._scopes[scope]
        loop = asyncio.get_running_loop()
        events.timer, events.told_at = None, loop.time()
        names, events.waiting = events.waiting, set()
        for key in [each for each in self._shared if each[0] == scope]:
            del self._shared[key]
        wanted = [each for each in events.streams if not each.names.isdisjoint(names)]
        for number, stream in enumerate(wanted):
            loop.call_later(number * _APART, stream.tell, names)

    async def _look_at_tasks(self) -> None:
        """Compares the tasks of all accounts with those of the look before, while a page shows some."""
        watched = [
            scope for scope, events in self._scopes.items() if any(TASKS in each.names for each in events.streams)
        ]
        if self._tasks is None or not watched:
            self._seen_tasks = None
            return
        found, before = await self._tasks(), self._seen_tasks
        self._seen_tasks = found
        for scope in watched if before is not None else ():
            if before is not None and found.get(scope.account) != before.get(scope.account):
                self.changed(scope, TASKS)


async def _run(read: Callable[[], Awaitable[T]]) -> T:
    return await read()


def _has_failed(task: asyncio.Task[Any]) -> bool:
    """True if there is no result. Also keeps asyncio from reporting an error that no page waits for any more."""
    return task.done() and (task.cancelled() or task.exception() is not None)
