"""Where things are registered: in one account and region."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Scope", "arn_of"]


class Scope(NamedTuple):
    """Whose registrations are meant: ids are unique, and seen, within an account and region only."""

    account: str
    region: str


def arn_of(scope: Scope, fingerprint: str) -> str:
    """A certificate's ARN, as AWS forms it."""
    return f"arn:aws:iot:{scope.region}:{scope.account}:cert/{fingerprint}"
