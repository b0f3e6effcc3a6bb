"""Adding up what the same caller does again and again, so that no caller can fill the log or the disk.

The first event of a kind is recorded at once, with all that is known of it. Those that follow are counted, and told of
as one when a window ends: after a minute at first, then after twice as long each time, up to an hour. A kind that was
not seen for an hour is forgotten, and its next event is a first one.

What is held is bounded. Reasons may hold text that callers choose, so one caller has few kinds of its own; what is
beyond them, beyond those of an account, or beyond those of the process, is counted without the details.
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
MAX_ACCOUNTS = 1000  # which have a group of their own for what is beyond their kinds
_MAX_ADDRESSES = 8
_MAX_TEXT = 300  # characters of a fact that is kept

OTHER = "-"


class Kind(NamedTuple):
    """What events have in common that are counted together.

    ``who`` is the id of a credential, or an address where there is none. ``audited``: it is for the audit trail, and
    not for the log alone.
    """

    account: str | None
    who: str | None
    action: str
    code: str | None = None
    reason: str | None = None
    audited: bool = True

    @property
    def wider(self) -> tuple[Kind, Kind, Kind]:
        """What it is counted under where there is no room for itself: of its caller, its account, the process."""
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
        """What was counted, and a longer window for what comes."""
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
        self._accounts = 0  # groups of what is beyond an account's kinds
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
        """Whether the event has to be recorded by itself. Otherwise, and always if ``counted``, it is added up."""
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
        """Those whose window has ended. What was not seen for long is forgotten."""
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
        """Everything that was counted and not told of yet."""
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
