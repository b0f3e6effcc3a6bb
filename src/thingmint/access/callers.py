"""A caller: who stands behind a request, once that is established, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Invalid
from thingmint.domain.policies import Deny, evaluate_all, evaluate_any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.domain.policies import Decision, Policy, Request


@dataclass(frozen=True, slots=True)
class Caller:
    """``policies`` are the principal's, ``narrowed`` those of the session or token, which can only take away.

    ``principal`` is the id, ``credential`` the id of what proved it. The first region is the account's home.
    """

    account: str
    regions: Sequence[str]
    principal: str
    name: str
    arn: str
    credential: str
    policies: tuple[Policy, ...]
    narrowed: tuple[Policy, ...] | None = None

    @property
    def groups(self) -> tuple[tuple[Policy, ...], ...]:
        """Every group has to allow."""
        return (self.policies,) if self.narrowed is None else (self.policies, self.narrowed)

    def decide(self, requests: Sequence[Request]) -> Decision:
        """Whether the policies allow it, put to a resource or to any of those that contain it."""
        if len(requests) == 1:
            return evaluate_all(self.groups, requests[0])
        for group in self.groups:
            decision = evaluate_any(group, requests)
            if isinstance(decision, Deny):
                break
        return decision

    def scope(self, region: str | None = None) -> Scope:
        """The account's ``region``, or its home. Raises Invalid for one that it does not have."""
        if region is None:
            return Scope(self.account, self.regions[0])
        if region not in self.regions:
            raise Invalid("region", f"must be one that this account has: {', '.join(self.regions)}")
        return Scope(self.account, region)
