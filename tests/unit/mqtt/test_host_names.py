"""Which names stand for an account and region, and what the operator is told of them."""

from __future__ import annotations

import pytest

from tests.world import ABROAD, OURS, THEIRS
from thingmint.mqtt.host_names import HostNames
from thingmint.mqtt.peer import Peer

NAMES = HostNames({"iot.example": OURS, "y.example": OURS, "theirs.example": THEIRS})


@pytest.mark.parametrize(
    ("sni", "expected"),
    [
        ("iot.example", OURS),
        ("y.example", OURS),
        ("theirs.example", THEIRS),
        ("localhost", None),
        ("", None),
        (None, None),
    ],
)
def test_a_name_stands_for_one_account_and_region(sni: str | None, expected: object) -> None:
    assert NAMES.scope_of(Peer("192.0.2.1", 1, sni=sni)) == expected


def test_the_operator_is_told_the_names() -> None:
    told = NAMES.advice([OURS, ABROAD])
    assert told == (
        "the device has to name a host (SNI): iot.example or y.example (account 111111111111, us-east-1); "
        "one that the setting endpoints has yet to give to (account 111111111111, eu-central-1)"
    )
