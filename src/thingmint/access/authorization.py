"""Authorization: decides by a caller's policies, or by an assumed role's, whether an action is allowed.

The caller learns little about a refusal. The log has everything: the statement that denies the action, or else the
statements that came closest to allowing it.
"""

from __future__ import annotations

import functools
from ipaddress import ip_address
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import structlog

from thingmint.access.context import RequestContext
from thingmint.access.throttle import Rate, Throttle
from thingmint.domain.arns import parse_role_arn
from thingmint.domain.errors import Denied, Invalid, Throttled
from thingmint.domain.policies import (
    MAX_FINDINGS,
    Allow,
    ContextValue,
    Deny,
    Kind,
    Principal,
    Request,
    evaluate,
    explain,
)
from thingmint.services.compiled_policies import POLICIES
from thingmint.services.role_trials import RoleTrial, TriedAction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from thingmint.access.context import Caller, Outcome
    from thingmint.access.directory import AssumableRole, Directory
    from thingmint.domain.arns import Scope
    from thingmint.services.change import Authorize


# Limits how often the log explains refusals.
_explanations = Throttle(None, {"principal": Rate(1 / 60, 10), "account": Rate(1, 300)})

_log = structlog.get_logger("thingmint.access")


def authorize(
    context: RequestContext,
    action: str,
    resources: Sequence[str] = ("*",),
    conditions: Mapping[str, ContextValue] | None = None,
    *,
    caller: Caller | None = None,
) -> None:
    """Raises Denied unless the policies of the request's caller, or of ``caller`` if given, allow the action.

    ``resources`` are the resource and all resources that contain it, the narrowest first. ``conditions`` are added to
    the condition keys of every request (AWS's global condition keys).
    """
    caller = caller or context.caller
    assert caller is not None, "callers are authenticated first"
    requests = _requests(context, caller, action, resources, conditions or {})
    decision = caller.decide(requests)
    if isinstance(decision, Deny):
        _explain(context, caller, decision, requests[0])
        raise Denied(caller.arn, action, resources[0], explicit=decision.explicit)


def is_allowed(
    context: RequestContext,
    action: str,
    resources: Sequence[str],
    scope: Scope | None,
    conditions: Mapping[str, ContextValue] = MappingProxyType({}),
) -> bool:
    """True if a function that ``authorizer`` made with this scope would not raise.

    For what to show: it is no refusal, and nothing is recorded.
    """
    caller = context.caller
    assert caller is not None, "callers are authenticated first"
    requests = _requests(context, caller, action, resources, {**_region_of(scope), **conditions})
    return not isinstance(caller.decide(requests), Deny)


def _requests(
    context: RequestContext,
    caller: Caller,
    action: str,
    resources: Sequence[str],
    conditions: Mapping[str, ContextValue],
) -> list[Request]:
    known = _global_conditions(context, caller) | dict(conditions)
    return [Request(action, resource, known) for resource in resources]


Extent = Literal["all", "some", "none"]


def extent_of(context: RequestContext, action: str, scope: Scope | None) -> Extent:
    """Whether the caller's policies allow the action on all resources, on some or under conditions, or on none.

    For what to show, as ``is_allowed``. ``scope`` is None if the action's API has no regions.
    """
    caller = context.caller
    assert caller is not None, "callers are authenticated first"
    if is_allowed(context, action, ("*",), scope):
        return "all"
    known = _global_conditions(context, caller) | _region_of(scope)
    findings = [explain(group, Request(action, "*", known)) for group in caller.groups]
    if any(each.effect == "Deny" and each.applies for group in findings for each in group):
        return "none"
    return "some" if all(any(each.effect == "Allow" for each in group) for group in findings) else "none"


def _explain(context: RequestContext, caller: Caller, decision: Deny, request: Request) -> None:
    """Logs why the action was refused. The rate is limited, because this costs more than the refusal itself."""
    try:
        _explanations.take(f"{caller.account} {caller.principal}", "principal")
        _explanations.take(caller.account, "account")
    except Throttled:
        return
    closest = _closest(caller, request)
    _log.warning(
        "refused",
        action=request.action,
        resource=request.resource,
        principal=caller.arn,
        why=str(decision),
        closest=list(closest) or f"no policy names {request.action}",
        request_id=context.id,
    )


def _closest(caller: Caller, request: Request) -> tuple[str, ...]:
    """The statements that deny the request, then those that came closest to allowing it."""
    findings = [finding for group in caller.groups for finding in explain(group, request)]
    return tuple(map(str, findings[:MAX_FINDINGS]))


def authorizer(context: RequestContext, outcome: Outcome, scope: Scope | None = None) -> Authorize:
    """A function that authorizes by the caller's policies, in the region of ``scope`` if the API has regions.

    The resource that it was called with last is the audit record's resource.
    """
    region = _region_of(scope)

    def check(action: str, resources: Sequence[str], conditions: Mapping[str, ContextValue]) -> None:
        outcome.resource = resources[0]
        authorize(context, action, resources, region | dict(conditions))

    return check


def _region_of(scope: Scope | None) -> dict[str, ContextValue]:
    return {"aws:RequestedRegion": scope.region} if scope is not None else {}


def authorize_nothing(caller: Caller) -> Authorize:
    """A function that refuses every action: the policies of users and roles do not apply to devices."""

    def check(action: str, resources: Sequence[str], _conditions: Mapping[str, ContextValue]) -> None:
        raise Denied(caller.arn, action, resources[0], explicit=False)

    return check


# The same clients call repeatedly, and parsing an address costs more than evaluating a policy.
_address = functools.lru_cache(maxsize=1024)(ip_address)


def _global_conditions(context: RequestContext, caller: Caller) -> dict[str, ContextValue]:
    return {
        "aws:CurrentTime": context.now,
        "aws:PrincipalAccount": caller.account,
        "aws:PrincipalArn": caller.arn,
        "aws:SourceIp": _address(context.address) if context.address else None,
        "aws:userid": caller.principal,
        "aws:username": caller.name,
        **caller.conditions,
    }


_SERVICE = "iot.amazonaws.com"


def trusts_service(role: AssumableRole, service: str, scope: Scope, source: str) -> bool:
    """True if the role's trust policy allows the service of AWS to assume it, on behalf of ``source`` (an ARN)."""
    trust = POLICIES.get(Kind.TRUST, f"trust of {role.caller.name}", role.trust_policy)
    conditions: dict[str, ContextValue] = {"aws:SourceAccount": scope.account, "aws:SourceArn": source}
    principal = Principal("Service", (service,))
    return isinstance(evaluate([trust], Request("sts:AssumeRole", role.caller.arn, conditions, principal)), Allow)


class Roles:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def effects(self, context: RequestContext, scope: Scope, role: str, source: str) -> Authorize:
        """A function that authorizes by the policies of ``role`` (an ARN), on behalf of ``source`` (an ARN too).

        The role must belong to the account, and its trust policy must allow the service, as AWS requires. Raises
        Denied.
        """
        return (await self.assume(context, scope, role, source))[1]

    async def assume(self, context: RequestContext, scope: Scope, role: str, source: str) -> tuple[Caller, Authorize]:
        """The role as a caller, and what ``effects`` returns. Raises Denied."""
        caller = await self._find(scope, role, source)
        if isinstance(caller, str):
            _log.warning("role_not_assumed", role=role, source=source, why=caller, request_id=context.id)
            raise Denied(role, "sts:AssumeRole", role, explicit=False)

        def check(action: str, resources: Sequence[str], conditions: Mapping[str, ContextValue]) -> None:
            authorize(context, action, resources, _of_role(scope, source, conditions), caller=caller)

        return caller, check

    async def try_role(
        self, scope: Scope, role: str, source: str, now: datetime, address: str | None = None
    ) -> RoleTrial:
        """What the role may do, as ``effects`` decides it for a device at ``address``. Nothing is logged."""
        caller = await self._find(scope, role, source)
        if isinstance(caller, str):
            why = f"the role cannot be assumed: {caller}"
            return RoleTrial(caller, lambda action, resources, _: TriedAction(action, resources[0], False, why))
        context = RequestContext(now=now, scope=scope, address=address)

        def decide(action: str, resources: Sequence[str], conditions: Mapping[str, ContextValue]) -> TriedAction:
            requests = _requests(context, caller, action, resources, _of_role(scope, source, conditions))
            decision = caller.decide(requests)
            if isinstance(decision, Allow):
                return TriedAction(action, resources[0], True, f"{decision.statement} allows it")
            return TriedAction(action, resources[0], False, str(decision), _closest(caller, requests[0]))

        return RoleTrial(None, decide)

    async def _find(self, scope: Scope, role: str, source: str) -> Caller | str:
        """The role as a caller, or why it cannot be assumed."""
        try:
            account, name = parse_role_arn(role, "role")
        except Invalid:
            account, name = "", ""
        if account != scope.account:
            return "it is not a role of this account"
        found = await self._directory.role(scope.account, name)
        if found is None:
            return "there is no such role, or it is disabled"
        if not trusts_service(found, _SERVICE, scope, source):
            return f"its trust policy does not allow {_SERVICE} to assume it"
        return found.caller


def _of_role(scope: Scope, source: str, conditions: Mapping[str, ContextValue]) -> dict[str, ContextValue]:
    return {"aws:RequestedRegion": scope.region, "aws:SourceArn": source, **conditions}
