"""The decision. An explicit Deny wins; without one, some statement has to allow; else it is denied."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from thingmint.domain.policies.decisions import Allow, Deny, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thingmint.domain.policies.decisions import Decision, Finding
    from thingmint.domain.policies.requests import Request
    from thingmint.domain.policies.statements import Policy


_NOTHING_ALLOWS = Deny(Reason.IMPLICIT)


def evaluate(policies: Iterable[Policy], request: Request) -> Decision:
    action = request.action.lower()
    allowed: Decision | None = None
    for policy in policies:
        denying, allowing = policy.naming(action, request)
        for statement in denying:
            if statement.applies(request):
                return statement.decision
        if allowed is None:
            for statement in allowing:
                if statement.applies(request):
                    allowed = statement.decision
                    break
    return _NOTHING_ALLOWS if allowed is None else allowed


def evaluate_all(groups: Iterable[Iterable[Policy]], request: Request) -> Decision:
    """Allowed only if every group allows, and none denies: a user's policies, its boundary, its session's policies.

    The Allow is the first group's. An explicit Deny of a later group is told before what an earlier one lacks.
    """
    allowed: Decision = _NOTHING_ALLOWS
    lacking: Deny | None = None
    for group, policies in enumerate(groups):
        decision = evaluate(policies, request)
        if isinstance(decision, Allow):
            allowed = decision if group == 0 else allowed
        elif decision.explicit:
            return replace(decision, group=group)
        elif lacking is None:
            lacking = replace(decision, group=group)
    return allowed if lacking is None else lacking


def evaluate_any(policies: Iterable[Policy], requests: Iterable[Request]) -> Decision:
    """One request put to a resource and to all that contain it: what is granted, or denied, on any of them counts."""
    policies = tuple(policies)
    allowed: Decision = _NOTHING_ALLOWS
    for request in requests:
        decision = evaluate(policies, request)
        if isinstance(decision, Deny):
            if decision.explicit:
                return decision
        elif isinstance(allowed, Deny):
            allowed = decision
    return allowed


def explain(policies: Iterable[Policy], request: Request) -> list[Finding]:
    """What bears on a decision: every Deny that applies, then the Allows of this action, closest first."""
    action = request.action.lower()
    denying: list[Finding] = []
    allowing: list[Finding] = []
    for policy in policies:
        denies, allows = policy.naming(action, request)
        denying.extend(f for f in (s.explain(request) for s in denies) if f.applies)
        allowing.extend(s.explain(request) for s in allows)
    allowing.sort(key=lambda f: (not f.resource, not f.principal, len(f.failed)))
    return denying + allowing
