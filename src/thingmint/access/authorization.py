"""May they: one place where a caller's policies meet what they ask for.

The caller learns little of a refusal, the operator everything: the log names the statement, or says that none allows
it and what would have.
"""

from __future__ import annotations

import functools
from ipaddress import ip_address
from typing import TYPE_CHECKING

import structlog

from thingmint.access.throttle import Rate, Throttle
from thingmint.domain.errors import Denied, Throttled
from thingmint.domain.policies import MAX_FINDINGS, Deny, Request, explain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.access.callers import Caller
    from thingmint.access.context import Outcome, RequestContext
    from thingmint.domain.arns import Scope
    from thingmint.domain.policies import ContextValue
    from thingmint.services.change import Authorize


# Explanations in the log.
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
    """Raises Denied unless the request's caller may, or ``caller`` in its place.

    ``resources`` are one thing and all that contain it, the narrowest first; ``conditions`` add to the condition keys
    that every request has (AWS's global ones).
    """
    caller = caller or context.caller
    assert caller is not None, "callers are authenticated first"
    known = _global_conditions(context, caller) | dict(conditions or {})
    requests = [Request(action, resource, known) for resource in resources]
    decision = caller.decide(requests)
    if isinstance(decision, Deny):
        _explain(context, caller, decision, requests[0])
        raise Denied(caller.arn, action, resources[0], explicit=decision.explicit)


def _explain(context: RequestContext, caller: Caller, decision: Deny, request: Request) -> None:
    """For the operator's log, now and then: it costs more than the refusal, and the audit trail counts those."""
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
    """Authorizes what a request asks for by its caller's policies, in the region of ``scope`` if the API has regions.

    What was asked for last is the audit record's resource.
    """
    region: dict[str, ContextValue] = {"aws:RequestedRegion": scope.region} if scope is not None else {}

    def check(action: str, resources: Sequence[str], conditions: Mapping[str, ContextValue]) -> None:
        outcome.resource = resources[0]
        authorize(context, action, resources, region | dict(conditions))

    return check


def authorize_nothing(caller: Caller) -> Authorize:
    """For devices, which act by no policies of the account's users and roles."""

    def check(action: str, resources: Sequence[str], _conditions: Mapping[str, ContextValue]) -> None:
        raise Denied(caller.arn, action, resources[0], explicit=False)

    return check


# The same clients call again and again, and reading an address costs more than evaluating a policy.
_address = functools.lru_cache(maxsize=1024)(ip_address)


def _global_conditions(context: RequestContext, caller: Caller) -> dict[str, ContextValue]:
    return {
        "aws:CurrentTime": context.now,
        "aws:PrincipalAccount": caller.account,
        "aws:PrincipalArn": caller.arn,
        "aws:SourceIp": _address(context.address) if context.address else None,
        "aws:userid": caller.principal,
        "aws:username": caller.name,
    }
