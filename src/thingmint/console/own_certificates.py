"""The certificates of the server itself, for the page of CAs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """``use`` says what it is for, ``note`` where its key is or who renews it. ``is_ca``: it signs others."""

    name: str
    use: str
    note: str
    begins: datetime
    ends: datetime
    is_ca: bool = False

    def used(self, now: datetime) -> int:
        return part_used(self.begins, self.ends, now)


def part_used(begins: datetime, ends: datetime, now: datetime) -> int:
    """How much of a validity has passed, in percent."""
    whole, passed = (ends - begins).total_seconds(), (now - begins).total_seconds()
    return min(100, max(0, round(100 * passed / whole))) if whole > 0 else 100
