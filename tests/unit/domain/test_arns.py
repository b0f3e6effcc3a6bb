"""Formatting ARNs, and parsing those that callers send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thingmint.domain.arns import Scope, arn, parse_arn
from thingmint.domain.errors import Invalid, NotFound

SCOPE = Scope("123456789012", "us-east-1")
OURS = "arn:aws:iot:us-east-1:123456789012:"


@given(st.sampled_from(["thing", "thinggroup"]), st.from_regex(r"[a-zA-Z0-9:_-]{1,128}", fullmatch=True))
def test_formatted_arns_are_parsed(kind: str, name: str) -> None:
    assert parse_arn(SCOPE, arn(SCOPE, f"{kind}/{name}"), "f", "thing", "thinggroup") == (kind, name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "thing/x",
        OURS,
        f"{OURS}thing",
        f"{OURS}thing/",
        f"{OURS}thing/a/b",
        f"{OURS}thing/a b",
        f"{OURS}thing/a\n",
        f"{OURS}thing/*",
        f"{OURS}thing/{'x' * 129}",
        f"{OURS}cert/x",
        f" {OURS}thing/x",
        "arn:aws-cn:iot:us-east-1:123456789012:thing/x",
        "arn:aws:iotx:us-east-1:123456789012:thing/x",
        "arn:aws:iot::123456789012:thing/x",
        "arn:aws:iot:us-east-1::thing/x",
        "arn:aws:iot:us-east-1:\u066123456789012:thing/x",
    ],
)
def test_texts_that_are_not_arns_are_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_arn(SCOPE, text, "resourceArn", "thing", "thinggroup")
    assert str(refused.value) == "resourceArn must be the ARN of a thing or thinggroup"


@pytest.mark.parametrize("other", ["us-east-2:123456789012", "us-east-1:123456789013"])
def test_an_arn_of_another_account_or_region_is_not_found(other: str) -> None:
    with pytest.raises(NotFound) as refused:
        parse_arn(SCOPE, f"arn:aws:iot:{other}:thing/x", "f", "thing")
    assert str(refused.value) == "thing x does not exist"
