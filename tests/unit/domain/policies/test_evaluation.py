"""Decisions by statements, policies and groups of policies, and their explanations."""

from typing import Any

import pytest

from thingmint.domain.policies import (
    Allow,
    Deny,
    FailedCondition,
    Kind,
    Policy,
    Principal,
    Reason,
    Request,
    StatementRef,
    evaluate,
    evaluate_all,
    evaluate_any,
    explain,
)

from .helpers import ARN, allows, policy, statement

READ = policy(statement(Action="iot:Get*", Resource=f"{ARN}policy/*", Sid="Read"), name="read")
BAR = policy(statement("Deny", Action="iot:*Policy", Resource=f"{ARN}policy/secret", Sid="Bar"), name="bar")
ALL = policy(statement(), name="all")
NOTHING = Deny(Reason.IMPLICIT)


def get(name: str, action: str = "iot:GetPolicy") -> Request:
    return Request(action, f"{ARN}policy/{name}")


def explicit(name: str, sid: str | None, group: int = 0) -> Deny:
    return Deny(Reason.EXPLICIT, StatementRef(name, 0, sid), group)


@pytest.mark.parametrize(
    ("policies", "request_", "expected"),
    [
        ([], get("x"), NOTHING),
        ([READ], get("x"), Allow(StatementRef("read", 0, "Read"))),
        ([READ], get("x", "iot:DeletePolicy"), NOTHING),
        ([READ], Request("iot:GetPolicy", "*"), NOTHING),
        ([BAR], get("x"), NOTHING),
        ([BAR], get("secret"), explicit("bar", "Bar")),
        ([ALL, BAR], get("secret"), explicit("bar", "Bar")),
        ([BAR, ALL], get("secret"), explicit("bar", "Bar")),
        ([BAR, ALL], get("x"), Allow(StatementRef("all", 0, None))),
        ([READ, ALL], get("x"), Allow(StatementRef("read", 0, "Read"))),
        ([READ, ALL], get("x", "iot:DeletePolicy"), Allow(StatementRef("all", 0, None))),
    ],
)
def test_deny_wins_and_is_the_default(policies: list[Policy], request_: Request, expected: Allow | Deny) -> None:
    assert evaluate(policies, request_) == expected
    assert evaluate(iter(policies), request_) == expected


@pytest.mark.parametrize("order", [1, -1])
def test_order_of_statements_does_not_matter(order: int) -> None:
    both = [statement(), statement("Deny", Action="iot:Delete*")][::order]
    decision = evaluate([policy(*both)], get("x", "iot:DeletePolicy"))
    assert decision == Deny(Reason.EXPLICIT, StatementRef("p", 1 if order == 1 else 0, None))


@pytest.mark.parametrize(
    ("elements", "action", "expected"),
    [
        ({"Action": "iot:GetPolicy"}, "iot:GetPolicy", True),
        ({"Action": "IOT:getpolicy"}, "iot:GetPolicy", True),
        ({"Action": "iot:GetPolicy"}, "IoT:GETPOLICY", True),
        ({"Action": "iot:GetPolicy"}, "iot:GetPolicyVersion", False),
        ({"Action": "iot:Get?olicy"}, "iot:GetPolicy", True),
        ({"Action": "iot:*Policy*"}, "iot:GetPolicyVersion", True),
        ({"Action": "*:*"}, "iot:GetPolicy", True),
        ({"Action": "*"}, "anything", True),
        ({"Action": ["iam:*", "iot:Get*"]}, "iot:GetPolicy", True),
        ({"Action": None, "NotAction": "iot:GetPolicy"}, "iot:getPolicy", False),
        ({"Action": None, "NotAction": ["iam:*", "iot:Delete*"]}, "iot:GetPolicy", True),
        ({"Action": None, "NotAction": ["iam:*", "iot:Delete*"]}, "iot:DeletePolicy", False),
        ({"Action": None, "NotAction": "*"}, "iot:GetPolicy", False),
    ],
)
def test_actions(elements: dict[str, Any], action: str, expected: bool) -> None:
    assert allows(elements, action, "*") is expected


@pytest.mark.parametrize(
    ("elements", "resource", "expected"),
    [
        ({"Resource": "*"}, "*", True),
        ({"Resource": f"{ARN}thing/a"}, f"{ARN}thing/a", True),
        ({"Resource": f"{ARN}thing/a"}, f"{ARN}thing/A", False),
        ({"Resource": f"{ARN}thing/a*"}, f"{ARN}thing/a/b/c", True),
        ({"Resource": f"{ARN}thing/?"}, f"{ARN}thing/ab", False),
        ({"Resource": "arn:aws:iot:*/a"}, f"{ARN}thing/a", True),
        ({"Resource": f"{ARN}topicfilter/a/+/#"}, f"{ARN}topicfilter/a/+/#", True),
        ({"Resource": f"{ARN}topicfilter/a/+/#"}, f"{ARN}topicfilter/a/b/c", False),
        ({"Resource": f"{ARN}topic/a/#"}, f"{ARN}topic/a/b", False),
        ({"Resource": ["a:b", "c:d"]}, "c:d", True),
        ({"Resource": None, "NotResource": ["a:b", "c:*"]}, "c:d", False),
        ({"Resource": None, "NotResource": ["a:b", "c:*"]}, "a:c", True),
    ],
)
def test_resources(elements: dict[str, Any], resource: str, expected: bool) -> None:
    assert allows(elements, "iot:Publish", resource) is expected


def test_deny_with_not_action_denies_the_other_actions() -> None:
    only_own = policy(statement(), statement("Deny", Action=None, NotAction="iot:Get*", Resource="*"))
    assert isinstance(evaluate([only_own], get("x")), Allow)
    assert evaluate([only_own], get("x", "iot:DeletePolicy")) == Deny(Reason.EXPLICIT, StatementRef("p", 1, None))


def test_the_cache_of_actions_is_bounded_and_correct() -> None:
    """Decides more actions than the cache keeps, twice."""
    given = policy(statement(Action="x:A1*"), statement("Deny", Action="x:A19*"))
    for _ in range(2):
        for i in range(600):
            decision = evaluate([given], Request(f"x:a{i}", "r"))
            text = str(i)
            if text.startswith("19"):
                assert decision == Deny(Reason.EXPLICIT, StatementRef("p", 1, None))
            else:
                assert isinstance(decision, Allow) is text.startswith("1")
    assert 0 < len(given._by_action) <= 256


@pytest.mark.parametrize(
    ("groups", "name", "expected"),
    [
        ([], "x", NOTHING),
        ([[]], "x", NOTHING),
        ([[READ]], "x", Allow(StatementRef("read", 0, "Read"))),
        ([[READ], [ALL]], "x", Allow(StatementRef("read", 0, "Read"))),
        ([[ALL], [READ]], "x", Allow(StatementRef("all", 0, None))),
        ([[READ], []], "x", Deny(Reason.IMPLICIT, None, 1)),
        ([[], [ALL], []], "x", Deny(Reason.IMPLICIT, None, 0)),
        ([[], [ALL, BAR]], "secret", explicit("bar", "Bar", 1)),
        ([[BAR, ALL], [ALL]], "secret", explicit("bar", "Bar", 0)),
    ],
)
def test_every_group_must_allow(groups: list[list[Policy]], name: str, expected: Allow | Deny) -> None:
    assert evaluate_all(groups, get(name)) == expected


def test_a_grant_on_a_containing_resource_counts() -> None:
    folder = policy(statement(Resource="yandex:folder/f"), name="folder")
    barred = policy(statement("Deny", Resource="yandex:registry/r"), name="barred")
    requests = [Request("yandex:DeviceService.Get", r) for r in ("yandex:registry/r", "yandex:folder/f", "*")]
    assert evaluate_any([folder], requests) == Allow(StatementRef("folder", 0, None))
    assert evaluate_any([folder], requests[:1]) == NOTHING
    assert evaluate_any([folder, barred], requests) == explicit("barred", None)
    assert evaluate_any([folder, barred], requests[::-1]) == explicit("barred", None)
    assert evaluate_any(iter([ALL, folder]), iter(requests)) == Allow(StatementRef("all", 0, None))
    assert evaluate_any([ALL], []) == NOTHING


USER = Principal("AWS", ("arn:aws:iam::123456789012:user/ann",), "123456789012")
SESSION = Principal(
    "AWS", ("arn:aws:sts::123456789012:assumed-role/r/s", "arn:aws:iam::123456789012:role/r"), "123456789012"
)
OTHER = Principal("AWS", ("arn:aws:iam::999999999999:user/ann",), "999999999999")
SERVICE = Principal("Service", ("iot.amazonaws.com",), "123456789012")


@pytest.mark.parametrize(
    ("named", "selected"),
    [
        ("*", [USER, SESSION, OTHER, SERVICE, None]),
        ({"AWS": "*"}, [USER, SESSION, OTHER, SERVICE, None]),
        ({"AWS": "123456789012"}, [USER, SESSION]),
        ({"AWS": "arn:aws:iam::123456789012:root"}, [USER, SESSION]),
        ({"AWS": "arn:aws:iam::123456789012:user/ann"}, [USER]),
        ({"AWS": "arn:aws:iam::123456789012:user/Ann"}, []),
        ({"AWS": "arn:aws:iam::123456789012:role/r"}, [SESSION]),
        ({"AWS": ["999999999999", "arn:aws:sts::123456789012:assumed-role/r/s"]}, [SESSION, OTHER]),
        ({"Service": "iot.amazonaws.com"}, [SERVICE]),
        ({"Service": "iot.amazonaws.com", "AWS": "999999999999"}, [OTHER, SERVICE]),
        ({"Federated": "iot.amazonaws.com"}, []),
        ({"Service": "123456789012"}, []),
        ({"CanonicalUser": "0a1b"}, []),
        ({"AWS": "AIDAABCDEFGHIJKLMNOP"}, []),
    ],
)
def test_principals(named: Any, selected: list[Principal | None]) -> None:
    principals = [USER, SESSION, OTHER, SERVICE, None]
    trusted = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": named}
    barred = {"Effect": "Deny", "Action": "sts:AssumeRole", "NotPrincipal": named}
    for principal in principals:
        request = Request("sts:AssumeRole", "arn:aws:iam::1:role/r", principal=principal)
        for document in ([trusted], [{**trusted, "Principal": "*"}, barred]):
            decision = evaluate([policy(*document, kind=Kind.TRUST)], request)
            assert isinstance(decision, Allow) is (principal in selected)


def test_explanations_list_the_closest_statements_first() -> None:
    given = policy(
        statement(Action="iot:Publish", Resource=f"{ARN}topic/b", Sid="Elsewhere"),
        statement(
            Action="iot:Publish", Sid="Two", Condition={"Bool": {"a:B": True}, "StringEquals": {"c:D": "${e:F}"}}
        ),
        statement(Action="iot:Publish", Sid="One", Condition={"NumericLessThan": {"n": 5}, "Null": {"n": False}}),
        statement(Action="iot:Connect", Sid="Unrelated"),
        statement("Deny", Resource=f"{ARN}topic/c", Sid="Idle"),
        statement(Action="iot:*", Resource=f"{ARN}topic/${{iot:ClientId}}", Sid="Own"),
        kind=Kind.DEVICE,
        name="dev",
    )
    request = Request("iot:Publish", f"{ARN}topic/a", {"n": 9, "c:D": "x", "iot:ClientId": "a*"})
    assert evaluate([given], request) == NOTHING
    findings = explain([given], request)
    assert [f.statement.sid for f in findings] == ["One", "Two", "Elsewhere", "Own"]
    assert not any(f.applies for f in findings)
    assert findings[0].failed == (FailedCondition("NumericLessThan", "n", True, ()),)
    assert findings[1].failed == (
        FailedCondition("Bool", "a:B", False, ()),
        FailedCondition("StringEquals", "c:D", True, ("e:F",)),
    )
    assert [f.resource for f in findings] == [True, True, False, False]
    assert findings[3].unresolved == ("iot:ClientId",)
    assert [str(f) for f in findings] == [
        "statement One of policy dev: would allow it, but condition not met: NumericLessThan of n",
        (
            "statement Two of policy dev: would allow it, but condition not met: Bool of a:B, which the request lacks; "
            "condition not met: StringEquals of c:D: no usable value for e:F"
        ),
        "statement Elsewhere of policy dev: would allow it, but the resource does not match",
        (
            "statement Own of policy dev: would allow it, but the resource does not match "
            "(no usable value for iot:ClientId)"
        ),
    ]


def test_explanations_name_the_explicit_deny() -> None:
    findings = explain([ALL, BAR, READ], get("secret"))
    assert [str(f) for f in findings] == [
        "statement Bar of policy bar: denies it",
        "statement 1 of policy all: allows it",
        "statement Read of policy read: allows it",
    ]
    assert str(evaluate([ALL, BAR], get("secret"))) == "explicit deny in statement Bar of policy bar"
    assert str(NOTHING) == "no statement allows it"


def test_explanations_report_a_principal_that_does_not_match() -> None:
    trusted = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "999999999999"}}
    [finding] = explain([policy(trusted, kind=Kind.TRUST)], Request("sts:assumerole", "r", principal=USER))
    assert str(finding) == "statement 1 of policy p: would allow it, but the principal does not match"


def test_explanations_name_unmet_conditions() -> None:
    given = policy(statement("Deny", Condition={"Bool": {"k": True}}))
    assert explain([given], get("x")) == []
    [finding] = explain([given], Request("iot:GetPolicy", "r", {"k": True}))
    assert finding.applies
