"""Host names can be added, are never changed, and keep their order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.world import ABROAD, OURS, THEIRS
from thingmint.domain.errors import Invalid
from thingmint.services.hostnames import HostNames, add_hostnames, list_hostnames

if TYPE_CHECKING:
    from tests.world import World

NAMES = HostNames({"iot.example": OURS, "y.example": OURS, "theirs.example": THEIRS})


async def test_added_host_names_follow_the_known_ones(world: World) -> None:
    assert await world.read(list_hostnames) == []
    assert await world.write(lambda tx: add_hostnames(tx, ["b", "a", "b"])) == ["b", "a"]
    assert await world.write(lambda tx: add_hostnames(tx, ["a", "c", "b"])) == ["c"]
    assert await world.write(lambda tx: add_hostnames(tx, [])) == []
    assert await world.read(list_hostnames) == ["b", "a", "c"]


async def test_the_endpoint_is_the_assigned_name_else_the_first(world: World) -> None:
    await world.write(lambda tx: add_hostnames(tx, ["iot.example", "localhost"]))
    world.environment = replace(world.environment, endpoints={OURS: "devices.example"})
    for scope, endpoint in ((OURS, "devices.example"), (ABROAD, "iot.example"), (THEIRS, "iot.example")):
        assert await world.aws("DescribeEndpoint", scope) == {"endpointAddress": endpoint}


async def test_endpoints_are_of_the_documented_types(world: World) -> None:
    await world.write(lambda tx: add_hostnames(tx, ["iot.example"]))
    for type in ("iot:Data", "iot:Data-ATS", "iot:CredentialProvider", "iot:Jobs"):
        assert await world.aws("DescribeEndpoint", endpointType=type) == {"endpointAddress": "iot.example"}
    with pytest.raises(Invalid, match="endpointType must be one of iot:CredentialProvider, iot:Data, iot:Data-ATS"):
        await world.aws("DescribeEndpoint", endpointType="iot:data")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("iot.example", OURS),
        ("y.example", OURS),
        ("theirs.example", THEIRS),
        ("localhost", None),
        ("", None),
        (None, None),
    ],
)
def test_an_assigned_name_selects_its_account_and_region(name: str | None, expected: object) -> None:
    assert NAMES.scope_of(name) == expected


def test_advice_lists_the_assigned_names() -> None:
    advice = NAMES.advice([OURS, ABROAD])
    assert advice == (
        "the device must send a host name (SNI): iot.example or y.example (account 111111111111, us-east-1); "
        "one that you must first give to it (thingmint access hostname add) (account 111111111111, eu-central-1)"
    )
