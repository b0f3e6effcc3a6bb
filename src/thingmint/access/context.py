"""A request's facts and its outcome, from which log line, metrics and audit record are made."""

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

    from thingmint.domain.policies import ContextValue, Decision, Policy, Request


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated principal. ``principal`` and ``credential`` are ids.

    ``policies`` are the principal's; ``narrowed`` are the session's or token's, which can only restrict. The first
    region is the account's home region. ``until`` is the end of a token with which another caller acts as this one.
    ``session`` is the name of the session if the principal is a role. ``conditions`` are condition keys of all its
    requests. ``is_device``: a device got the credentials by its certificate.
    """

    account: str
    regions: Sequence[str]
    principal: str
    name: str
    arn: str
    credential: str
    policies: tuple[Policy, ...]
    narrowed: tuple[Policy, ...] | None = None
    until: datetime | None = None
    session: str | None = None
    conditions: Mapping[str, ContextValue] = field(default_factory=dict)
    is_device: bool = False

    @property
    def identity(self) -> str:
        """The caller's ARN as STS shows it: for the session of a role, that of the session."""
        if self.session is None:
            return self.arn
        return f"arn:aws:sts::{self.account}:assumed-role/{self.name}/{self.session}"

    @property
    def groups(self) -> tuple[tuple[Policy, ...], ...]:
        """The policies in groups. An action is allowed if every group allows it."""
        return (self.policies,) if self.narrowed is None else (self.policies, self.narrowed)

    def decide(self, requests: Sequence[Request]) -> Decision:
        """The decision on an action. ``requests`` name a resource and those that contain it: one may allow it."""
        if len(requests) == 1:
            return evaluate_all(self.groups, requests[0])
        for group in self.groups:
            decision = evaluate_any(group, requests)
            if isinstance(decision, Deny):
                break
        return decision

    def scope(self, region: str | None = None) -> Scope:
        """The account with ``region`` or, without one, its home region. Raises Invalid for a region that it lacks."""
        if region is None:
            return Scope(self.account, self.regions[0])
        if region not in self.regions:
            raise Invalid("region", f"must be one that this account has: {', '.join(self.regions)}")
        return Scope(self.account, region)


LOCAL_ADMIN = "admin"
"""The API of the command line. It has no caller: access to the data directory is the permission."""


@dataclass(frozen=True, kw_only=True)  # without slots: _extended() copies the dict, which is fast
class RequestContext:
    """The known facts of a request. Each step of its API that learns more makes a new context.

    ``operation`` is the contract's name, ``address`` the client's. ``scope`` is the account and region of the request,
    once the caller is known; ``account`` is the account of a local administrator's command. ``parameters`` are the
    fields of the input that the audit record shows. ``now`` is when the request arrived, by the instance's clock;
    ``started`` is the same moment for measuring durations.
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
    """Does what dataclasses.replace() does, which takes some microseconds more, twice in each request."""
    extended = object.__new__(RequestContext)
    extended.__dict__.update(context.__dict__, **facts)
    return extended


@dataclass(slots=True)
class Outcome:
    """How a request ended; filled in while it is served.

    ``status`` and ``code`` (of an error) are the API's. ``resource`` is the one that was authorized last. ``caller`` is
    set if the operation itself authenticated the caller, as issuing a token does. ``details`` are further fields of the
    audit record. ``explain`` returns the statements that came closest to allowing a refused action, for the record of
    the first refusal of its kind. ``recorded``: the audit record was written in the transaction of the change.
    ``throttled``: the caller is unauthenticated and its address fails too often, so the log counts such requests.
    ``is_update``: the answer brings a page up to date that has a record already; it has no record unless it is refused.
    """

    status: int = 0
    code: str | None = None
    resource: str | None = None
    caller: Caller | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    explain: Callable[[], Sequence[str]] | None = None
    recorded: bool = False
    throttled: bool = False
    is_update: bool = False
