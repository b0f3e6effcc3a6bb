"""The work for a decision and for its explanation is bounded, whatever the policies contain."""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import pytest

from tests.tables import each_row
from tests.unit.domain.policies.helpers import policy, statement
from thingmint.domain.policies import (
    Allow,
    Deny,
    Kind,
    Policy,
    Reason,
    Request,
    compile_policy,
    document_size,
    evaluate,
    evaluate_all,
    evaluate_any,
    explain,
)
from thingmint.domain.policies.decisions import MAX_STEPS

if TYPE_CHECKING:
    from collections.abc import Callable

# IAM's limit for a user, and twice the limit for a device's certificate.
MANY, SIZE = 20, 6144
LONGEST = 0.4  # seconds of processor time; 5 to 20 ms are usual, and without the limits it took 0.5 to 6 s

RESOURCE = "arn:aws:iot:us-east-1:111111111111:policy/" + "a" * 128
CONTEXT = {"name": "noisy" * 10, "arn": f"arn:aws:iam::1:user/{'n' * 60}", "ip": "10.0.0.1", "long": "a" * 60_000}
CONTEXT |= {"tags": ["a" * 128] * 50}  # type: ignore[dict-item]


def resources(*patterns: str) -> list[dict[str, Any]]:
    return [statement(Resource=list(patterns))]


def condition(operator: str, key: str, *values: object) -> list[dict[str, Any]]:
    return [statement(Condition={operator: {key: list(values)}})]


WORST: dict[str, Callable[[range], list[dict[str, Any]]]] = {
    "question marks": lambda some: resources(*(f"a*:*?{n % 10}*z" for n in some)),
    "asterisks": lambda some: resources(*(f"a*:*{n % 10}*a" for n in some)),
    "one long pattern": lambda some: resources("a:" + "*a" * len(some) + "b"),
    "one long pattern with question marks": lambda some: resources("a:" + "*a?" * len(some) + "b"),
    "statements": lambda some: [statement(Resource="a*:*?z") for _ in some],
    "statements for all resources": lambda some: [statement(Resource=None, NotResource="a*:*a?") for _ in some],
    "conditions": lambda some: [statement(Condition={"StringLike": {f"k{n}": "*?" for n in some}})],
    "conditions that are met": lambda some: [
        statement(Condition={"Null": {f"k{n}": True for n in some}, "Bool": {"k": True}})
    ],
    "values": lambda some: condition("StringLike", "name", *(f"*{n % 10}?*b" for n in some)),
    "many values": lambda some: condition("ForAnyValue:StringLike", "tags", *(f"*{n % 10}?*b" for n in some)),
    "a long value": lambda some: condition("StringLike", "long", *(f"*{n % 10}?*b" for n in some)),
    "a long value, many times": lambda some: [
        statement(Condition={"StringNotLike": {"long": "*b?"}, "StringEqualsIgnoreCase": {"long": "b"}}) for _ in some
    ],
    "ARNs": lambda some: condition("ArnLike", "arn", *(f"arn:*:*:*:*:*?{n % 10}" for n in some)),
    "addresses": lambda some: condition("IpAddress", "ip", *(f"10.{n % 10}.2.3" for n in some)),
    "dates": lambda some: condition("DateEquals", "ip", *("2026-11-28T00:00:00Z" for n in some)),
    "variables": lambda some: resources(*(f"a*${{name}}:*{n % 10}" for n in some)),
    "variables with question marks": lambda some: resources(*(f"a*?${{name}}:*{n % 10}" for n in some)),
    "defaults": lambda some: resources(*(f"a*${{x,'a'}}*:?{n % 10}*" for n in some)),
    "variables in one pattern": lambda some: resources("a:" + "*${long}" * len(some)),
    "question marks and variables in one pattern": lambda some: resources("a:?" + "*${name}" * len(some)),
    "variables without case": lambda some: condition("StringEqualsIgnoreCase", "long", *("${long}b" for _ in some)),
    "ARNs with variables": lambda some: condition("ArnLike", "arn", *(f"arn:*:*:*:*:${{name}}{n}?" for n in some)),
}


def largest(worst: str, kind: Kind) -> str:
    """Return the document with the largest number of items that is allowed."""

    def document(count: int) -> str:
        return json.dumps({"Version": "2012-10-17", "Statement": WORST[worst](range(count))}, separators=(",", ":"))

    count = bisect_right(range(1, 500), SIZE, key=lambda count: document_size(document(count)))
    return document(count) if kind is Kind.IDENTITY else document(max(1, count // 3))


@each_row("worst", list(WORST))
@each_row("kind", [Kind.IDENTITY, Kind.DEVICE])
def test_the_largest_policies_are_decided_and_explained_in_a_few_milliseconds(worst: str, kind: Kind) -> None:
    document = largest(worst, kind)
    policies = [compile_policy(document, kind=kind, name=f"p{number}") for number in range(MANY)]
    fastest = 1.0
    for attempt in range(3):
        request = Request("iot:CreatePolicy", f"{RESOURCE[:-1]}{attempt}", CONTEXT)
        before = time.thread_time()
        evaluate(policies, request)
        for finding in explain(policies, request)[:5]:
            str(finding)
        fastest = min(fastest, time.thread_time() - before)
    assert fastest < LONGEST


@each_row("worst", list(WORST))
def test_the_largest_policy_is_compiled_in_a_few_milliseconds(worst: str) -> None:
    document = largest(worst, Kind.IDENTITY)
    before = time.thread_time()
    compile_policy(document, kind=Kind.IDENTITY)
    assert time.thread_time() - before < LONGEST


def costly(effect: str = "Allow") -> Policy:
    return policy(statement(effect, Resource=[f"a*?${{name}}:{number}" for number in range(400)]), name="costly")


def test_requests_that_cost_too_much_are_denied_with_the_reason() -> None:
    policies, everything = [costly()] * 20, policy(statement())
    request = Request("iot:GetPolicy", RESOURCE, {"name": "aa"})
    assert evaluate([*policies, everything], request) == Deny(Reason.COST)
    assert str(evaluate(policies, request)) == "the policies make more work than a request may"
    again = Request("iot:GetPolicy", RESOURCE, {"name": "aa"})
    assert evaluate_all([[everything], policies], again) == Deny(Reason.COST, group=1)
    assert evaluate_any(policies, [Request("iot:GetPolicy", RESOURCE, {"name": "aa"})]) == Deny(Reason.IMPLICIT)
    # A Deny that evaluation does not reach must not lead to an Allow.
    request = Request("iot:GetPolicy", RESOURCE, {"name": "aa"})
    assert isinstance(evaluate([everything, *[costly("Deny")] * 20], request), Deny)


def test_ordinary_policies_use_few_steps() -> None:
    own = "arn:aws:iot:us-east-1:111111111111:topic/${iot:Connection.Thing.ThingName}/*/dev-????"
    policies = [policy(*(statement(Resource=f"{own}/{n}") for n in range(20)), kind=Kind.DEVICE) for _ in range(10)]
    request = Request("iot:Publish", RESOURCE.replace("policy", "topic"), {"iot:Connection.Thing.ThingName": "a" * 128})
    evaluate(policies, request)
    assert request.steps > MAX_STEPS * 4 // 5


@pytest.mark.parametrize("steps", [0, 1, 1000])
def test_without_steps_left_the_decision_is_deny(steps: int) -> None:
    document = policy(statement(Resource=["b:?" + "a*" * 100, "a*:*?z"]), statement(Resource="*"))
    decision = evaluate([document], Request("iot:GetPolicy", RESOURCE, steps=steps))
    assert isinstance(decision, Allow if steps == 1000 else Deny) or decision == Deny(Reason.COST)


def test_an_explanation_examines_only_the_first_statements() -> None:
    given = policy(*(statement(Resource=f"a:{number}") for number in range(80)))
    assert len(explain([given], Request("iot:GetPolicy", RESOURCE))) == 50
    many = policy(statement(Condition={"StringEquals": {f"k{number}": "a" for number in range(200)}}))
    (finding,) = explain([many], Request("iot:GetPolicy", RESOURCE))
    assert len(finding.failed) == 5


def test_white_space_is_not_counted_and_is_fast() -> None:
    for space in (" ", "\t", "\n", "\u2003", "\u3000"):
        assert document_size(f"{space}a{space}{space}b") == 2
    before = time.thread_time()
    assert document_size("a " * 200_000) == 200_000
    assert time.thread_time() - before < LONGEST
