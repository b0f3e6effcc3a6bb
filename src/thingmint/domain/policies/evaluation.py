"""The decision. An explicit Deny wins; without one, some statement has to allow; else it is denied."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from thingmint.domain.policies.decisions import MAX_STEPS, Allow, Deny, Reason, TooManySteps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from thingmint.domain.policies.decisions import Decision, Finding, Request
    from thingmint.domain.policies.statements import Policy, Statement


MAX_FINDINGS = 5
"""What a refusal is explained with at most."""

_MAX_EXPLAINED = 50  # statements that are looked at for that
_EXPLAIN_STEPS = MAX_STEPS // 5

_NOTHING_ALLOWS = Deny(Reason.IMPLICIT)
_TOO_COSTLY = Deny(Reason.COST)


def evaluate(policies: Iterable[Policy], request: Request) -> Decision:
    """Denied if it would take more steps than the request has left."""
    try:
        return _evaluate(policies, request)
    except TooManySteps:
        return _TOO_COSTLY


def _evaluate(policies: Iterable[Policy], request: Request) -> Decision:
    action = request.action.lower()
    allowed: Decision | None = None
    for policy in policies:
        denying, allowing = policy.naming(action, request)
        request.spend(16 * (1 + len(denying) + len(allowing)))
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
    """What bears on a decision: the Denies that apply, then the Allows of this action, closest first.

    The first statements that name the action are looked at, and no more of them than are quickly done.
    """
    request = replace(request, steps=_EXPLAIN_STEPS)
    denying: list[Finding] = []
    allowing: list[Finding] = []
    with contextlib.suppress(TooManySteps):
        for statement in islice(_naming(policies, request), _MAX_EXPLAINED):
            finding = statement.explain(request)
            if finding.effect == "Allow":
                allowing.append(finding)
            elif finding.applies:
                denying.append(finding)
    allowing.sort(key=lambda f: (not f.resource, not f.principal, len(f.failed)))
    return denying + allowing


def _naming(policies: Iterable[Policy], request: Request) -> Iterator[Statement]:
    """Their statements that name the action."""
    action = request.action.lower()
    for policy in policies:
        for statements in policy.naming(action, request):
            yield from statements
