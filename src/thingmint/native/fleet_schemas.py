"""The models of the endpoints that tell about a fleet."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from thingmint.native.schemas import Input

if TYPE_CHECKING:
    from thingmint.services import certificate_counts


class CountsQuery(Input):
    weeks: int = Field(26, ge=1, le=1000, description="How many weeks, from the current one on.")
    days: int = Field(30, ge=1, le=1000, description="How many days, up to today.")


class ExpiryWeek(BaseModel):
    begins: date = Field(description="A Monday.")
    by_status: dict[str, int]


class AddedOnDay(BaseModel):
    day: date
    by_origin: dict[str, int] = Field(
        description="`keys` and `csr`: issued for a key pair made here, or for a CSR. `registered`: issued elsewhere."
    )


class CertificateCounts(BaseModel):
    """Days and weeks are in UTC. `expired` and `expiring` count ACTIVE certificates only."""

    total: int
    by_status: dict[str, int]
    expired: int = Field(description="Ended before today.")
    expiring: dict[int, int] = Field(description="End within so many days: 7, 30 and 90.")
    weeks: list[ExpiryWeek]
    added: list[AddedOnDay] = Field(description="Added on each day, also those that were deleted since.")

    @classmethod
    def of(cls, counts: certificate_counts.CertificateCounts) -> CertificateCounts:
        return cls(
            total=counts.total,
            by_status=dict(counts.by_status),
            expired=counts.expired,
            expiring=dict(counts.expiring),
            weeks=[ExpiryWeek(begins=week.begins, by_status=dict(week.by_status)) for week in counts.weeks],
            added=[AddedOnDay(day=day, by_origin=dict(origins)) for day, origins in counts.added],
        )
