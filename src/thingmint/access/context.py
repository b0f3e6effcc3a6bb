"""Who asks for what, from where and when; and how it ended. Log, metrics and audit record are made from these two."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Invalid
from thingmint.domain.ids import new_uuid
from thingmint.domain.policies import Deny, evaluate_all, evaluate_any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

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


LOCAL_ADMIN = "admin"
"""The API of the command line, for those who may read the data directory: it has no caller, and needs none."""


@dataclass(frozen=True, kw_only=True)  # without slots, as a dict is copied at once
class RequestContext:
    """A request, as far as it is understood: each step of its API that finds out more makes a new one.

    ``api`` names the API, ``operation`` is the contract's name, ``address`` the client's. ``scope`` is the account and
    region that it is for, once the caller is known; ``account`` the one that a command of the local administrator is
    about. ``parameters`` are what the audit record may tell of the input. ``now`` is when it came, by the instance's
    clock; ``started`` the same for measuring.
    """

    api: str = "-"
    operation: str = "-"
    method: str = "-"
    address: str | None = None
    user_agent: str | None = None
    caller: Caller | None = None
    scope: Scope | None = None
    account: str | None = None
    parameters: Mapping[str, str] | None = None
    now: datetime
    id: str = field(default_factory=new_uuid)
    started: float = field(default_factory=time.perf_counter)

    def of(self, operation: str, *, api: str | None = None) -> RequestContext:
        """The same request, now known to be for ``operation``."""
        return _extended(self, operation=operation, api=api or self.api)

    def by(self, caller: Caller, scope: Scope | None = None) -> RequestContext:
        """The same request, now known to be ``caller``'s."""
        return _extended(self, caller=caller, scope=scope)


def _extended(context: RequestContext, **facts: Any) -> RequestContext:
    """As dataclasses.replace, which takes some microseconds, twice in each request."""
    extended = object.__new__(RequestContext)
    extended.__dict__.update(context.__dict__, **facts)
    return extended


@dataclass(slots=True)
class Outcome:
    """How a request ended; filled in while it is served.

    ``status`` and ``code`` (of an error) are the API's. ``resource`` is what was authorized last. ``caller`` is there
    if only the operation itself found out who called, as one that issues a token does. ``details`` are what the audit
    record tells besides, and ``explain`` gives the statements that came closest to allowing what was refused, for the
    record of the first refusal of its kind. ``recorded``: it was written already, in the transaction of the change.
    ``throttled``: the caller is not known, and the address fails too often, so the log counts such requests.
    """

    status: int = 0
    code: str | None = None
    resource: str | None = None
    caller: Caller | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    explain: Callable[[], Sequence[str]] | None = None
    recorded: bool = False
    throttled: bool = False
