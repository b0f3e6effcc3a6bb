"""Counts repeated events of the same caller, so that no caller can fill the log or the disk.

The first event of a kind is recorded immediately, with all its facts. Later events of that kind are counted, and
reported together when a window ends. The first window lasts a minute, each next one twice as long, up to an hour. After
an hour without an event the kind is forgotten, and its next event is a first one again.

Memory is bounded. A reason can contain text that the caller chose, so the number of kinds per caller is small. Events
beyond the limits of a caller, an account or the process are counted without their details.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime


_FIRST_WINDOW = 60.0  # seconds
_LONGEST_WINDOW = 3600.0  # seconds

MAX_OF_CALLER = 16  # kinds
MAX_OF_ACCOUNT = 1000
MAX_KINDS = 10_000
MAX_ACCOUNTS = 1000  # with a group for the events beyond MAX_OF_ACCOUNT
_MAX_ADDRESSES = 8
_MAX_TEXT = 300  # characters of a fact that is kept

OTHER = "-"


class Kind(NamedTuple):
    """The facts that are equal in events that are counted together.

    ``who`` is the id of a principal, or an address if there is none. ``audited``: the events are recorded in the audit
    log too, not only in the server's log.
    """

    account: str | None
    who: str | None
    action: str
    code: str | None = None
    reason: str | None = None
    audited: bool = True

    @property
    def wider(self) -> tuple[Kind, Kind, Kind]:
        """The kinds to count under if there is no room for this one: the caller's, the account's, the process's."""
        audited = self.audited
        return (
            Kind(self.account, self.who, OTHER, audited=audited),
            Kind(self.account, None, OTHER, audited=audited),
            Kind(None, None, OTHER, audited=audited),
        )


@dataclass(frozen=True, slots=True)
class Repeated:
    """``count`` events of a kind since a time; ``facts`` are those of the last."""

    kind: Kind
    facts: Mapping[str, Any]
    since: datetime
    count: int
    addresses: tuple[str, ...]


@dataclass(slots=True)
class _Group:
    seen: float
    due: float = 0.0
    window: float = _FIRST_WINDOW
    since: datetime | None = None
    count: int = 0
    facts: Mapping[str, Any] | None = None
    addresses: tuple[str, ...] = ()

    def add(self, moment: float, now: datetime, address: str | None, facts: Mapping[str, Any]) -> None:
        if not self.count:
            self.since, self.due = now, moment + self.window
        self.count += 1
        self.facts = {name: _clipped(value) for name, value in facts.items()}
        if address is not None and address not in self.addresses:
            self.addresses = (*self.addresses, address)[-_MAX_ADDRESSES:]

    def take(self, kind: Kind) -> Repeated:
        """Returns the count and starts again, with a longer window."""
        assert self.since is not None
        repeated = Repeated(kind, self.facts or {}, self.since, self.count, self.addresses)
        self.count, self.since, self.facts, self.addresses = 0, None, None, ()
        self.window = min(2 * self.window, _LONGEST_WINDOW)
        return repeated


class Repeats:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` is in seconds, from any beginning."""
        self._clock = clock
        self._groups: dict[Kind, _Group] = {}
        self._of_caller: Counter[tuple[str | None, str | None]] = Counter()
        self._of_account: Counter[str | None] = Counter()
        self._accounts = 0  # groups for the events beyond MAX_OF_ACCOUNT
        self.counted = 0

    def __len__(self) -> int:
        return len(self._groups)

    def is_first(
        self,
        kind: Kind,
        now: datetime,
        address: str | None,
        facts: Callable[[], Mapping[str, Any]],
        *,
        counted: bool = False,
    ) -> bool:
        """True if the event must be recorded. Otherwise, and always if ``counted``, it is counted."""
        moment = self._clock()
        kind = self._kind_of(kind)
        group = self._groups.get(kind)
        first = group is None and not counted
        if group is None:
            group = self._groups[kind] = _Group(moment)
            self._count(kind, 1)
        group.seen = moment
        if not first:
            self.counted += 1
            group.add(moment, now, address, facts())
        return first

    def due(self, at_most: int) -> list[Repeated]:
        """The counts whose window has ended. Forgets the kinds that had no event for long."""
        moment = self._clock()
        ended: list[Repeated] = []
        forgotten: list[Kind] = []
        for kind, group in self._groups.items():
            if group.count:
                if group.due <= moment and len(ended) < at_most:
                    ended.append(group.take(kind))
            elif group.seen + _LONGEST_WINDOW < moment:
                forgotten.append(kind)
        for kind in forgotten:
            del self._groups[kind]
            self._count(kind, -1)
        return ended

    def all(self) -> Iterator[Repeated]:
        """All counts that were not reported yet."""
        for kind, group in self._groups.items():
            if group.count:
                yield group.take(kind)

    def _kind_of(self, kind: Kind) -> Kind:
        if kind in self._groups or self._has_room(kind):
            return kind
        of_caller, of_account, of_all = kind.wider
        for wider, room in ((of_caller, self._account_has_room(kind)), (of_account, self._accounts < MAX_ACCOUNTS)):
            if wider in self._groups or room:
                return wider
        return of_all

    def _has_room(self, kind: Kind) -> bool:
        return self._of_caller[kind.account, kind.who] < MAX_OF_CALLER and self._account_has_room(kind)

    def _account_has_room(self, kind: Kind) -> bool:
        return self._of_account[kind.account] < MAX_OF_ACCOUNT and len(self._groups) < MAX_KINDS

    def _count(self, kind: Kind, step: int) -> None:
        if kind.who is None:
            self._accounts += step
            return
        counters: tuple[tuple[Counter[Any], Any], ...] = (
            (self._of_caller, (kind.account, kind.who)),
            (self._of_account, kind.account),
        )
        for counter, key in counters:
            counter[key] += step
            if not counter[key]:
                del counter[key]


def _clipped(value: Any) -> Any:
    return value[:_MAX_TEXT] if isinstance(value, str) else value
