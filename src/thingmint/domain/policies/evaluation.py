"""Decides a request. An explicit Deny wins; otherwise the request is allowed if a statement allows it."""

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
"""How many findings explain a refusal, at most."""

_MAX_EXPLAINED = 50  # statements that are examined for the explanation
_EXPLAIN_STEPS = MAX_STEPS // 5

_NOTHING_ALLOWS = Deny(Reason.IMPLICIT)
_TOO_COSTLY = Deny(Reason.COST)


def evaluate(policies: Iterable[Policy], request: Request) -> Decision:
    """Return the decision. It is Deny if evaluating takes more steps than the request has left."""
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
    """Allow a request only if each group of policies allows it.

    The groups are, for example, a user's policies, its permissions boundary and its session's policies. The Allow is
    the first group's. An explicit Deny, even of a later group, comes before a group that does not allow.
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
    """Evaluate the same request for a resource and for all that contain it.

    An explicit Deny for one of them denies; otherwise an Allow for one of them allows.
    """
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
    """Return findings: the Deny statements that apply, then the Allow statements for this action, best match first.

    Only the first statements that name the action are examined, within a limit of work.
    """
    request = replace(request, steps=_EXPLAIN_STEPS)
    denying: list[Finding] = []
    allowing: list[Finding] = []
    with contextlib.suppress(TooManySteps):
        for statement in islice(naming(policies, request), _MAX_EXPLAINED):
            finding = statement.explain(request)
            if finding.effect == "Allow":
                allowing.append(finding)
            elif finding.applies:
                denying.append(finding)
    allowing.sort(key=lambda f: (not f.resource, not f.principal, len(f.failed)))
    return denying + allowing


def naming(policies: Iterable[Policy], request: Request) -> Iterator[Statement]:
    """Yield the statements that name the request's action."""
    action = request.action.lower()
    for policy in policies:
        for statements in policy.naming(action, request):
            yield from statements
