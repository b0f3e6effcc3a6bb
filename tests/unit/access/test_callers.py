"""What a caller may do, and where."""

from __future__ import annotations

import pytest

from thingmint.access.callers import Caller
from thingmint.identity.errors import Denied, Invalid
from thingmint.identity.registration import Scope

ARN = "arn:aws:iam::123456789012:user/elf"


def caller(*permissions: str) -> Caller:
    return Caller("123456789012", ("us-east-1", "eu-central-1"), "aje0", ARN, "AKIAEXAMPLE", frozenset(permissions))


@pytest.mark.parametrize(
    ("permissions", "allowed"),
    [
        ((), False),
        (("*",), True),
        (("iot:CreateKeysAndCertificate",), True),
        (("iot:DescribeCertificate", "iot:CreateKeysAndCertificate"), True),
        (("iot:DescribeCertificate",), False),
        (("iot:createkeysandcertificate",), False),
        (("iot:*",), False),
        (("CreateKeysAndCertificate",), False),
    ],
)
def test_permissions(permissions: tuple[str, ...], allowed: bool) -> None:
    action = "iot:CreateKeysAndCertificate"
    if allowed:
        caller(*permissions).require(action)
        return
    with pytest.raises(Denied) as refused:
        caller(*permissions).require(action)
    assert (refused.value.principal, refused.value.action) == (ARN, action)


@pytest.mark.parametrize(
    ("region", "scope"),
    [
        (None, Scope("123456789012", "us-east-1")),
        ("us-east-1", Scope("123456789012", "us-east-1")),
        ("eu-central-1", Scope("123456789012", "eu-central-1")),
    ],
)
def test_regions(region: str | None, scope: Scope) -> None:
    assert caller().scope(region) == scope


@pytest.mark.parametrize("region", ["", "us-east-2", "US-EAST-1", "us-east-1 "])
def test_other_regions(region: str) -> None:
    with pytest.raises(Invalid) as refused:
        caller().scope(region)
    assert str(refused.value) == "region must be one that this account has: us-east-1, eu-central-1"
