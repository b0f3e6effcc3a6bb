"""What of this server needs its operator."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

_SOON = timedelta(days=30)
_LITTLE_SPACE = 0.05
"""The free part of a disk below which it needs attention."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """``subject`` is one word or two for a pill, ``title`` a sentence, ``note`` what to do."""

    kind: Literal["bad", "warn"]
    subject: str
    title: str
    note: str


@dataclass(frozen=True, slots=True)
class Health:
    troubles: Sequence[Trouble] = ()

    @property
    def is_bad(self) -> bool:
        return any(each.kind == "bad" for each in self.troubles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """How to find out. ``store`` and ``broker`` return why they cannot be used, or None.

    ``ends`` are certificates of the server with their ends. ``free`` is the free part of the data directory's disk.
    ``audit_lost`` is how many audit records were dropped.
    """

    store: Callable[[], str | None]
    broker: Callable[[], str | None]
    ends: Callable[[], Iterable[tuple[str, datetime]]]
    free: Callable[[], float]
    audit_lost: Callable[[], int]
    clock: Callable[[], datetime]

    def health(self) -> Health:
        return Health([*self._stopped(), *self._expiring(), *self._short()])

    def _stopped(self) -> Iterable[Trouble]:
        if (why := self.store()) is not None:
            yield Trouble("bad", "Database", "Changes are refused", f"{why}. Connected devices stay connected.")
        if (why := self.broker()) is not None:
            yield Trouble("bad", "Broker", "Devices are refused", f"The broker cannot be used: {why}.")
        if lost := self.audit_lost():
            title = f"{lost:,} audit records were lost"
            yield Trouble("bad", "Audit log", title, "They waited for the database for too long.")

    def _expiring(self) -> Iterable[Trouble]:
        now = self.clock()
        for name, ends in self.ends():
            if ends <= now:
                yield Trouble("bad", "Expiry", f"{name} has ended", "Clients that check its validity refuse it.")
            elif ends - now < _SOON:
                yield Trouble("warn", "Expiry", f"{name} ends in {(ends - now).days} days", "Replace it before.")

    def _short(self) -> Iterable[Trouble]:
        free = self.free()
        if free < _LITTLE_SPACE:
            note = "Changes are refused when it is full. Make room, or move the data directory."
            yield Trouble("warn", "Disk", f"{free:.0%} of the disk is free", note)
