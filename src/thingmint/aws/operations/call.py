"""What every operation is handed, and the shapes that several of them share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thingmint.services.pages import PageRequest

if TYPE_CHECKING:
    from thingmint.domain.registration import Scope
    from thingmint.services.change import Authorize
    from thingmint.services.provisioning import ProvisioningRegistry

__all__ = ["PAGE_SIZE", "Call", "Operations", "Registries"]

# AWS's guide: pages hold 25 items unless pageSize says otherwise.
PAGE_SIZE = 25


@dataclass(frozen=True, slots=True)
class Registries:
    """The use cases that operations are made of."""

    provisioning: ProvisioningRegistry


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose caller was found to be allowed, and whose members the model's rules."""

    may: Authorize
    scope: Scope
    members: dict[str, Any]
    registries: Registries

    def flag(self, member: str) -> bool:
        value: bool = self.members.get(member, False)
        return value

    def page(self) -> PageRequest:
        """For the operations whose pages are told by nextToken and maxResults."""
        return PageRequest(self.members.get("maxResults", PAGE_SIZE), self.members.get("nextToken"))

    def authorize(self, action: str, resource: str = "*") -> None:
        """An effect besides the operation's own, on the caller's behalf. Raises Denied."""
        self.may(action, (resource,), {})


# One small function for each operation, from members to members.
Operations = Mapping[str, Callable[[Call], Awaitable[dict[str, Any]]]]
