"""Names of events that depend on what kind of principal a command is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thingmint.access.administration import PrincipalKind

__all__ = ["Events"]


@dataclass(frozen=True, slots=True)
class Events:
    """A command that the clouds call otherwise where it is about a role, or a service account."""

    user: str
    role: str
    service_account: str

    @classmethod
    def of_keys(cls, verb: str, plural: str = "") -> Events:
        """CloudTrail's name for access keys, and Yandex's for authorized ones."""
        return cls(f"{verb}AccessKey{plural}", f"{verb}AccessKey{plural}", f"{verb}Key{plural}")

    @classmethod
    def of_policies(cls, before: str, after: str) -> Events:
        """CloudTrail's names, and one in their form for service accounts."""
        return cls(f"{before}User{after}", f"{before}Role{after}", f"{before}ServiceAccount{after}")

    def of(self, kind: PrincipalKind) -> str:
        return {"user": self.user, "role": self.role, "service-account": self.service_account}[kind]
