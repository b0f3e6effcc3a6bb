"""AWS IoT's five operations on role aliases."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.world import ABROAD, OURS, THEIRS, pages
from thingmint.domain.errors import AlreadyExists, CrossAccountRole, Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.world import World
    from thingmint.domain.arns import Scope

ROLE = f"arn:aws:iam::{OURS.account}:role/uploader"
OTHER_ROLE = f"arn:aws:iam::{OURS.account}:role/devices/reader"
LAMP = {"roleAlias": "lamp"}
LAMP_ARN = f"arn:aws:iot:us-east-1:{OURS.account}:rolealias/lamp"


async def test_a_new_alias_is_described_as_given(world: World) -> None:
    made = await world.aws("CreateRoleAlias", **LAMP, roleArn=ROLE, credentialDurationSeconds=900)
    assert made == {"roleAlias": "lamp", "roleAliasArn": LAMP_ARN}
    assert world.audit_resources() == ["rolealias/lamp"]
    assert await world.aws("DescribeRoleAlias", **LAMP) == {
        "roleAliasDescription": {
            **made,
            "roleArn": ROLE,
            "owner": OURS.account,
            "credentialDurationSeconds": 900,
            "creationDate": world.clock.now,
            "lastModifiedDate": world.clock.now,
        }
    }


async def test_the_duration_is_an_hour_by_default(world: World) -> None:
    await world.aws("CreateRoleAlias", **LAMP, roleArn=ROLE)
    described = (await world.aws("DescribeRoleAlias", **LAMP))["roleAliasDescription"]
    assert described["credentialDurationSeconds"] == 3600


async def test_creating_an_existing_alias_conflicts_even_with_the_same_properties(world: World) -> None:
    await world.aws("CreateRoleAlias", **LAMP, roleArn=ROLE)
    world.audit_resources()
    with pytest.raises(AlreadyExists) as caught:
        await world.aws("CreateRoleAlias", **LAMP, roleArn=ROLE)
    assert (caught.value.id, caught.value.arn) == ("lamp", LAMP_ARN)
    assert await world.unchanged()


async def test_an_update_changes_only_the_given_properties(world: World) -> None:
    await world.aws("CreateRoleAlias", **LAMP, roleArn=ROLE, credentialDurationSeconds=900)
    created_at = world.clock.now
    world.clock.now += timedelta(minutes=1)
    for changes in ({"roleArn": OTHER_ROLE}, {"credentialDurationSeconds": 43200}, {}):
        world.audit_resources()
        assert (await world.aws("UpdateRoleAlias", **LAMP, **changes))["roleAliasArn"] == LAMP_ARN
        assert world.audit_resources() == ["rolealias/lamp"]
    described = (await world.aws("DescribeRoleAlias", **LAMP))["roleAliasDescription"]
    assert (described["roleArn"], described["credentialDurationSeconds"]) == (OTHER_ROLE, 43200)
    assert (described["creationDate"], described["lastModifiedDate"]) == (created_at, world.clock.now)


@pytest.mark.parametrize(
    ("role", "error"),
    [
        (f"arn:aws:iam::{THEIRS.account}:role/uploader", CrossAccountRole),
        (f"arn:aws:iam::{OURS.account}:user/uploader", Invalid),
        (f"arn:aws:iot:us-east-1:{OURS.account}:role/uploader", Invalid),
        (f"arn:aws:iam::{OURS.account}:role/", Invalid),
        ("uploader-of-this-account", Invalid),
    ],
)
async def test_only_a_role_of_the_account_is_accepted(world: World, role: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await world.aws("CreateRoleAlias", **LAMP, roleArn=role)
    await world.aws("CreateRoleAlias", **LAMP, roleArn=ROLE)
    world.audit_resources()
    with pytest.raises(error):
        await world.aws("UpdateRoleAlias", **LAMP, roleArn=role)
    assert await world.unchanged()


async def test_a_deleted_alias_is_gone_with_its_tags(world: World) -> None:
    for tags in ([{"Key": "a", "Value": "1"}], []):
        await world.aws("CreateRoleAlias", **LAMP, roleArn=ROLE, tags=tags)
        assert (await world.aws("ListTagsForResource", resourceArn=LAMP_ARN))["tags"] == tags
        world.audit_resources()
        await world.aws("DeleteRoleAlias", **LAMP)
        assert world.audit_resources() == ["rolealias/lamp"]
    for operation in ("DescribeRoleAlias", "UpdateRoleAlias", "DeleteRoleAlias"):
        with pytest.raises(NotFound):
            await world.aws(operation, **LAMP)


@pytest.mark.parametrize("ascending", [True, False])
async def test_aliases_are_listed_in_alphabetical_order(world: World, ascending: bool) -> None:
    names = ["a", "a=b", "b", "c", "d"]
    for name in ("d", "c", "a", "a=b", "b"):
        await world.aws("CreateRoleAlias", roleAlias=name, roleArn=ROLE)

    async def list_page(members: Mapping[str, Any]) -> dict[str, Any]:
        return await world.aws("ListRoleAliases", ascendingOrder=ascending, **members)

    keywords = {"size": "pageSize", "token": "marker", "next_token": "nextMarker"}
    listed = await pages(list_page, "roleAliases", 2, **keywords)
    assert listed == (names if ascending else names[::-1])


async def test_a_marker_is_only_for_its_own_order(world: World) -> None:
    for name in ("a", "b"):
        await world.aws("CreateRoleAlias", roleAlias=name, roleArn=ROLE)
    marker = (await world.aws("ListRoleAliases", pageSize=1, ascendingOrder=True))["nextMarker"]
    with pytest.raises(Invalid, match="marker"):
        await world.aws("ListRoleAliases", pageSize=1, marker=marker)


@pytest.mark.parametrize("other", [ABROAD, THEIRS])
async def test_other_accounts_and_regions_see_nothing(world: World, other: Scope) -> None:
    await world.aws("CreateRoleAlias", **LAMP, roleArn=ROLE)
    assert (await world.aws("ListRoleAliases", other))["roleAliases"] == []
    for operation in ("DescribeRoleAlias", "UpdateRoleAlias", "DeleteRoleAlias"):
        with pytest.raises(NotFound):
            await world.aws(operation, other, **LAMP)
