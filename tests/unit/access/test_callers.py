"""A caller's decisions, by its policies, and its scope."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from thingmint.access.context import Caller
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Invalid
from thingmint.domain.policies import Deny, Kind, Policy, Request, compile_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

ARN = "arn:aws:iam::123456789012:user/elf"


ACTION, RESOURCE = "iot:DescribeCertificate", "arn:aws:iot:us-east-1:123456789012:cert/a"


def policy(effect: str, action: str, resource: str = "*") -> Policy:
    statement = {"Effect": effect, "Action": action, "Resource": resource}
    return compile_policy(orjson.dumps({"Version": "2012-10-17", "Statement": [statement]}), kind=Kind.IDENTITY)


def caller(policies: Sequence[Policy] = (), narrowed: Sequence[Policy] | None = None) -> Caller:
    return Caller(
        "123456789012",
        ("us-east-1", "eu-central-1"),
        "aje0",
        "elf",
        ARN,
        "AKIAEXAMPLE",
        tuple(policies),
        tuple(narrowed) if narrowed is not None else None,
    )


ALL, NOTHING, FORBIDDEN = policy("Allow", "*"), policy("Allow", "iot:Other"), policy("Deny", "iot:*")
DESCRIBE = policy("Allow", ACTION)
ON_FOLDER = policy("Allow", "*", "yandex:folder/f")


@pytest.mark.parametrize(
    ("policies", "narrowed", "verdict"),
    [
        ([], None, "implicit"),
        ([ALL], None, "allow"),
        ([NOTHING], None, "implicit"),
        ([NOTHING, DESCRIBE], None, "allow"),
        ([ALL, FORBIDDEN], None, "explicit"),
        ([FORBIDDEN], None, "explicit"),
        ([ALL], [], "implicit"),
        ([ALL], [DESCRIBE], "allow"),
        ([DESCRIBE], [ALL], "allow"),
        ([ALL], [NOTHING], "implicit"),
        ([NOTHING], [ALL], "implicit"),
        ([], [ALL], "implicit"),
        ([ALL], [ALL, FORBIDDEN], "explicit"),
    ],
)
def test_a_session_policy_restricts_and_never_extends(
    policies: list[Policy], narrowed: list[Policy] | None, verdict: str
) -> None:
    decision = caller(policies, narrowed).decide([Request(ACTION, RESOURCE)])
    if isinstance(decision, Deny):
        assert verdict == ("explicit" if decision.explicit else "implicit")
    else:
        assert verdict == "allow"


@pytest.mark.parametrize(
    ("policies", "narrowed", "allowed"),
    [
        ([ON_FOLDER], None, True),
        ([ALL], None, True),
        ([NOTHING], None, False),
        ([ON_FOLDER, policy("Deny", "*", "yandex:registry/r")], None, False),
        ([ON_FOLDER, policy("Deny", "*", "yandex:cloud/c")], None, False),
        ([ON_FOLDER], [policy("Allow", "*", "yandex:registry/r")], True),
        ([ON_FOLDER], [policy("Allow", "*", "yandex:registry/other")], False),
        ([policy("Allow", "*", "yandex:registry/other")], [ALL], False),
        ([ON_FOLDER], [], False),
    ],
)
def test_containing_resources_can_allow_and_deny(
    policies: list[Policy], narrowed: list[Policy] | None, allowed: bool
) -> None:
    requests = [Request("yandex:Get", f"yandex:{resource}") for resource in ("registry/r", "folder/f", "cloud/c")]
    assert isinstance(caller(policies, narrowed).decide(requests), Deny) != allowed


@pytest.mark.parametrize(
    ("region", "scope"),
    [
        (None, Scope("123456789012", "us-east-1")),
        ("us-east-1", Scope("123456789012", "us-east-1")),
        ("eu-central-1", Scope("123456789012", "eu-central-1")),
    ],
)
def test_the_scope_is_the_given_region_or_the_home_region(region: str | None, scope: Scope) -> None:
    assert caller().scope(region) == scope


@pytest.mark.parametrize("region", ["", "us-east-2", "US-EAST-1", "us-east-1 "])
def test_a_region_that_the_account_lacks_is_invalid(region: str) -> None:
    with pytest.raises(Invalid) as refused:
        caller().scope(region)
    assert str(refused.value) == "region must be one that this account has: us-east-1, eu-central-1"
