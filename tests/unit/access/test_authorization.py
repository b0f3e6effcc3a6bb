"""Authorization: the texts of a refusal in the log and in the answer, and the condition keys of requests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from structlog.testing import capture_logs

from tests.unit.vectors import NOW
from thingmint.access import authorization
from thingmint.access.authorization import authorize, authorizer
from thingmint.access.context import Caller, Outcome, RequestContext
from thingmint.access.throttle import Throttle
from thingmint.aws.errors import aws_error_of
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Denied
from thingmint.domain.policies import Kind, compile_policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ARN = "arn:aws:iam::123456789012:user/elf"
THING = "arn:aws:iot:us-east-1:123456789012:thing/x"
ACTION = "iot:DescribeThing"


@pytest.fixture(autouse=True)
def explanations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resets the limit of explanations in the log."""
    monkeypatch.setattr(authorization, "_explanations", Throttle(None, authorization._explanations._rates, lambda: 0.0))


def request(*statements: Mapping[str, Any], source: str | None = "192.0.2.1", narrowed: bool = False) -> RequestContext:
    named = [{"Sid": f"secretsid{number}", **statement} for number, statement in enumerate(statements)]
    document = orjson.dumps({"Version": "2012-10-17", "Statement": named})
    policies = (compile_policy(document, kind=Kind.IDENTITY, name="secret-policy"),) if statements else ()
    nothing = (compile_policy(document.replace(b"iot:", b"x:"), kind=Kind.SESSION),) if narrowed else None
    caller = Caller("123456789012", ("us-east-1",), "aje0", "elf", ARN, "AKIAEXAMPLE", policies, nothing)
    return RequestContext(now=NOW, caller=caller, address=source)


def allow(action: str = ACTION, resource: str = "*", **condition: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement


def deny(action: str = ACTION, resource: str = "*") -> dict[str, Any]:
    return {"Effect": "Deny", "Action": action, "Resource": resource}


def refused(
    asked: RequestContext, resources: Sequence[str] = (THING,), **context: Any
) -> tuple[Denied, dict[str, Any]]:
    """The error that is raised, and the line in the log."""
    with capture_logs() as logs, pytest.raises(Denied) as caught:
        authorize(asked, ACTION, resources, context)
    [line] = logs
    return caught.value, dict(line)


def test_explanations_in_the_log_are_limited() -> None:
    asked = request(deny())
    with capture_logs() as logs:
        for _ in range(1000):
            with pytest.raises(Denied):
                authorize(asked, ACTION)
    assert len(logs) == 10


def test_conditions_use_the_time_of_the_request() -> None:
    """The request's time is that of the instance's clock, which is not the machine's in tests."""
    asked = request(allow(DateLessThan={"aws:CurrentTime": "2020-01-01T00:00:00Z"}))
    refused(asked)
    authorize(replace(asked, now=datetime(2019, 12, 31, tzinfo=UTC)), ACTION, (THING,))


@pytest.mark.parametrize(
    ("statements", "narrowed", "explicit", "words"),
    [
        ([], False, False, "because no identity-based policy allows the iot:DescribeThing action"),
        (
            [allow("iot:CreateThing")],
            False,
            False,
            "because no identity-based policy allows the iot:DescribeThing action",
        ),
        ([allow(resource=THING + "y")], False, False, "because no identity-based policy allows"),
        ([allow(), deny()], False, True, "with an explicit deny in an identity-based policy"),
        ([deny("iot:*", THING)], False, True, "with an explicit deny in an identity-based policy"),
        ([allow()], True, False, "because no identity-based policy allows"),
    ],
)
def test_refusals_name_policies_in_the_log_only(
    statements: list[dict[str, Any]], narrowed: bool, explicit: bool, words: str
) -> None:
    asked = request(*statements, narrowed=narrowed)
    error, line = refused(asked)
    assert (error.principal, error.action, error.resource, error.explicit) == (ARN, ACTION, THING, explicit)
    message = aws_error_of(error, Scope("123456789012", "us-east-1")).message
    assert message.startswith(f"User: {ARN} is not authorized to perform: {ACTION} on resource: {THING} ")
    assert words in message
    assert "secret" not in message + str(error), "the answer does not name the policy"
    assert (line["event"], line["log_level"], line["request_id"]) == ("refused", "warning", asked.id)
    assert (line["principal"], line["action"], line["resource"]) == (ARN, ACTION, THING)
    if explicit:
        assert "secretsid" in line["why"] or "secret-policy" in line["why"]


def test_the_log_has_the_statements_that_came_closest() -> None:
    _, line = refused(request())
    assert line["closest"] == f"no policy names {ACTION}"
    _, line = refused(request(allow(StringEquals={"aws:username": "troll"})))
    assert "secret-policy" in str(line["closest"])
    many = [allow(resource=f"{THING}{number}") for number in range(20)]
    _, line = refused(request(*many))
    assert 1 <= len(line["closest"]) <= 5


@pytest.mark.parametrize(
    ("condition", "context", "allowed"),
    [
        ({"StringEquals": {"aws:username": "elf"}}, {}, True),
        ({"StringEquals": {"aws:username": "troll"}}, {}, False),
        ({"StringEquals": {"aws:userid": "aje0"}}, {}, True),
        ({"StringEquals": {"aws:PrincipalAccount": "123456789012"}}, {}, True),
        ({"ArnEquals": {"aws:PrincipalArn": ARN}}, {}, True),
        ({"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}, {}, True),
        ({"IpAddress": {"aws:SourceIp": "198.51.100.0/24"}}, {}, False),
        ({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, {}, True),
        ({"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, {}, False),
        ({"StringEquals": {"aws:RequestedRegion": "us-east-1"}}, {"aws:RequestedRegion": "us-east-1"}, True),
        ({"StringEquals": {"aws:RequestedRegion": "us-east-1"}}, {}, False),
        ({"StringEquals": {"aws:username": "elf"}}, {"iot:x": "y"}, True),
    ],
)
def test_condition_keys_of_a_request(condition: dict[str, Any], context: dict[str, Any], allowed: bool) -> None:
    asked = request(allow(**condition))
    if allowed:
        authorize(asked, ACTION, (THING,), context)
    else:
        refused(asked, **context)


def test_a_caller_without_an_address_matches_no_address_condition() -> None:
    authorize(request(allow(), source=None), ACTION)
    refused(request(allow(IpAddress={"aws:SourceIp": "0.0.0.0/0"}), source=None))


def test_a_containing_resource_can_allow_and_the_resource_can_deny() -> None:
    inner, outer = "yandex:registry/r", "yandex:folder/f"
    outcome = Outcome()
    authorizer(request(allow(resource=outer)), outcome)(ACTION, (inner, outer), {})
    assert outcome.resource == inner, "the record names the narrowest resource"
    error, _ = refused(request(allow(resource=outer), deny(resource=inner)), (inner, outer))
    assert error.resource == inner
    assert error.explicit
    error, _ = refused(request(allow(resource="yandex:folder/other")), (inner, outer))
    assert not error.explicit


def test_allowed_actions_are_not_logged() -> None:
    with capture_logs() as logs:
        authorize(request(allow()), ACTION, (THING,))
    assert logs == []
