"""How many things of a kind there may be."""

from __future__ import annotations

from dataclasses import dataclass

from thingmint.domain.errors import LimitExceeded

__all__ = ["MAX_PROBED", "NO_QUOTAS", "Quotas", "exceeded"]

MAX_PROBED = 100_000
"""Above this, finding out whether a quota is used up by stepping through an index takes more than milliseconds."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """None is no quota. The defaults only keep a runaway script from filling the disk with principals.

    Devices and certificates have none by default: a fleet's size is what the operator has the machine for, and
    counting them would be a write to one row for each, where many processes would wait for one another.
    """

    users: int | None = 10_000
    roles: int | None = 10_000
    service_accounts: int | None = 10_000
    policies: int | None = 10_000
    folders: int | None = 1_000
    registries: int | None = 10_000  # in a folder
    devices: int | None = None  # in a registry
    certificates: int | None = None  # in all regions of an account together


NO_QUOTAS = Quotas(None, None, None, None, None, None, None, None)


def exceeded(kind: str, id: str, quota: int, things: str) -> LimitExceeded:
    """``kind`` and ``id`` are what holds too many ``things``."""
    return LimitExceeded(kind, id, f"The quota of {quota} {things} for each {kind} is used up")
