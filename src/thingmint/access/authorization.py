"""Authorization: decides by a caller's policies, or by an assumed role's, whether an action is allowed.

The caller learns little about a refusal. The log has everything: the statement that denies the action, or else the
statements that came closest to allowing it.
"""

from __future__ import annotations

import functools
from ipaddress import ip_address
from typing import TYPE_CHECKING

import structlog

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

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.access.context import Caller, Outcome, RequestContext
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
    known = _global_conditions(context, caller) | dict(conditions or {})
    requests = [Request(action, resource, known) for resource in resources]
    decision = caller.decide(requests)
    if isinstance(decision, Deny):
        _explain(context, caller, decision, requests[0])
        raise Denied(caller.arn, action, resources[0], explicit=decision.explicit)


def is_allowed(context: RequestContext, action: str, resources: Sequence[str], scope: Scope) -> bool:
    """True if ``authorize`` would not raise. For what to show: it is no refusal, and nothing is recorded."""
    caller = context.caller
    assert caller is not None, "callers are authenticated first"
    known = _global_conditions(context, caller) | {"aws:RequestedRegion": scope.region}
    return not isinstance(caller.decide([Request(action, resource, known) for resource in resources]), Deny)


def _explain(context: RequestContext, caller: Caller, decision: Deny, request: Request) -> None:
    """Logs why the action was refused. The rate is limited, because this costs more than the refusal itself."""
    try:
        _explanations.take(f"{caller.account} {caller.principal}", "principal")
        _explanations.take(caller.account, "account")
    except Throttled:
        return
    findings = [finding for group in caller.groups for finding in explain(group, request)]
    _log.warning(
        "refused",
        action=request.action,
        resource=request.resource,
        principal=caller.arn,
        why=str(decision),
        closest=[str(finding) for finding in findings[:MAX_FINDINGS]] or f"no policy names {request.action}",
        request_id=context.id,
    )


def authorizer(context: RequestContext, outcome: Outcome, scope: Scope | None = None) -> Authorize:
    """A function that authorizes by the caller's policies, in the region of ``scope`` if the API has regions.

    The resource that it was called with last is the audit record's resource.
    """
    region: dict[str, ContextValue] = {"aws:RequestedRegion": scope.region} if scope is not None else {}

    def check(action: str, resources: Sequence[str], conditions: Mapping[str, ContextValue]) -> None:
        outcome.resource = resources[0]
        authorize(context, action, resources, region | dict(conditions))

    return check


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
        try:
            account, name = parse_role_arn(role, "role")
        except Invalid:
            account, name = "", ""
        if account != scope.account:
            raise _refused(role, source, "it is not a role of this account", context)
        found = await self._directory.role(scope.account, name)
        if found is None:
            raise _refused(role, source, "there is no such role, or it is disabled", context)
        caller = found.caller
        if not trusts_service(found, _SERVICE, scope, source):
            raise _refused(role, source, f"its trust policy does not allow {_SERVICE} to assume it", context)

        def check(action: str, resources: Sequence[str], conditions: Mapping[str, ContextValue]) -> None:
            known = {"aws:RequestedRegion": scope.region, "aws:SourceArn": source, **conditions}
            authorize(context, action, resources, known, caller=caller)

        return caller, check


def _refused(role: str, source: str, why: str, context: RequestContext) -> Denied:
    _log.warning("role_not_assumed", role=role, source=source, why=why, request_id=context.id)
    return Denied(role, "sts:AssumeRole", role, explicit=False)
