"""Accounts: their first credentials, regions, folders and switches."""

from __future__ import annotations

import pytest

from tests.administrator import POLICY
from tests.world import OURS, THEIRS, World
from thingmint.access.administration.accounts import extend_instance, list_regions
from thingmint.domain.arns import Scope
from thingmint.domain.errors import AlreadyExists, Invalid, LimitExceeded, NotFound

BAD_NAMES = ["", " ", "a b", "a/b", "a\n", "\u00e9", "a" * 65, "../x", "a:b", "a*"]


async def test_accounts_are_listed_the_oldest_first(world: World) -> None:
    assert await world.admin("account.list") == [
        {"id": OURS.account, "name": "ours", "created_at": "2026-11-21T12:00:00+00:00"},
        {"id": THEIRS.account, "name": "theirs", "created_at": "2026-11-21T12:00:01+00:00"},
    ]


async def test_a_new_account_has_a_folder_and_two_administrators(world: World) -> None:
    folders = [(folder["id"], folder["name"]) for folder in await world.admin("folder.list")]
    assert folders == [(world.ours.folder, "default")]
    for kind in ("user", "service-account"):
        [principal] = await world.admin(f"{kind}.list")
        assert (principal["name"], principal["status"]) == ("administrator", "active")
        attached = await world.admin("policy.attached", principal=f"{kind}/administrator")
        assert attached == [{"policy": "thingmint/Administrator", "resource": "*"}]
    assert await world.admin("role.list") == []
    assert [policy for policy in await world.admin("policy.list") if not policy["ready_made"]] == []


@pytest.mark.parametrize(
    ("principal", "keys", "tokens"),
    [("user/administrator", ["access-key"], ["api-token"]), ("service-account/administrator", ["authorized-key"], [])],
)
async def test_a_new_account_has_credentials_for_both_administrators(
    world: World, principal: str, keys: list[str], tokens: list[str]
) -> None:
    assert [row["kind"] for row in await world.admin("key.list", principal=principal)] == keys
    assert [row["kind"] for row in await world.admin("token.list", principal=principal)] == tokens


async def test_a_new_account_needs_valid_region_names(world: World) -> None:
    new = await world.admin("account.create", name="x", region=["eu-central-1", "us-east-1", "eu-central-1"])
    regions = await world.read(lambda tx: list_regions(tx, new["account"]))
    assert regions == ["eu-central-1", "us-east-1"]
    with pytest.raises(Invalid) as refused:
        await world.admin("account.create", name="x", region=["us-east-1", "Frankfurt"])
    assert refused.value.field == "region.1"


async def test_a_new_region_comes_last(world: World) -> None:
    for _ in range(2):
        added = await world.admin("region.add", THEIRS, name="eu-west-1")
        assert added == {"account": THEIRS.account, "regions": ["us-east-1", "eu-west-1"]}
    assert await world.admin("region.list", THEIRS) == [{"name": "us-east-1"}, {"name": "eu-west-1"}]
    caller, _ = await world.directory.find_access_key(world.theirs.access_key_id, None)
    assert caller.regions == ("us-east-1", "eu-west-1")


async def test_an_account_has_at_most_fifty_regions(world: World) -> None:
    for number in range(49):
        await world.admin("region.add", THEIRS, name=f"eu-west-{number}")
    with pytest.raises(LimitExceeded):
        await world.admin("region.add", THEIRS, name="eu-west-99")


async def test_an_account_can_be_created_with_a_given_number(world: World) -> None:
    new = await world.admin("account.create", name="x", id="012345678901")
    assert new["account"] == "012345678901"
    [user] = await world.admin("user.list", Scope("012345678901", "us-east-1"))
    assert user["name"] == "administrator"
    for number in ("012345678901", OURS.account, THEIRS.account):
        with pytest.raises(AlreadyExists):
            await world.admin("account.create", name="y", id=number)


async def test_extending_adds_missing_regions_to_the_first_account(world: World) -> None:
    regions = ["us-east-1", "eu-west-1", "eu-west-1"]
    for new in ((["a"], ["eu-west-1"]), ([], [])):
        assert await world.write(lambda tx: extend_instance(tx, ["a"], regions, world.clock())) == new
    ours = await world.read(lambda tx: list_regions(tx, OURS.account))
    theirs = await world.read(lambda tx: list_regions(tx, THEIRS.account))
    assert (ours, theirs) == (["us-east-1", "eu-central-1", "eu-west-1"], ["us-east-1"])


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_names_that_iam_would_refuse_are_invalid(world: World, name: str) -> None:
    before = world.dump()
    for command, given in (
        ("account.create", {}),
        ("folder.create", {}),
        ("user.create", {}),
        ("policy.put", {"document": POLICY}),
    ):
        if command == "policy.put" and len(name) > 64:
            name += "a" * 64
        with pytest.raises(Invalid) as refused:
            await world.admin(command, name=name, **given)
        assert refused.value.field == "name"
    assert world.dump() == before


@pytest.mark.parametrize("name", ["a", "A.b@c.d", "+=,.@_-", "a" * 64])
async def test_names_that_iam_accepts_are_valid(world: World, name: str) -> None:
    await world.admin("user.create", name=name)
    folder = await world.admin("folder.create", name=name)
    assert (folder["id"], name) in [(row["id"], row["name"]) for row in await world.admin("folder.list")]
    await world.admin("policy.put", name=name, document=POLICY)
    await world.admin("account.create", name=name)


async def test_a_switch_is_stored_if_not_the_default_and_each_change_is_published(world: World) -> None:
    assert (await world.admin("account.show"))["keys_over_mqtt"] is True
    for value, kept in (("false", 1), ("true", 0)):
        switch = value == "true"
        answer = await world.admin("account.set", name="keys_over_mqtt", value=value)
        assert answer == {"keys_over_mqtt": switch}
        assert (await world.admin("account.show"))["keys_over_mqtt"] is switch
        assert await world.count("account_settings") == kept
        assert await world.published(Scope(OURS.account, "")) == [("account", OURS.account)]


async def test_switches_of_an_unknown_account_are_not_found(world: World) -> None:
    for command, given in (("account.show", {}), ("account.set", {"name": "keys_over_mqtt", "value": "false"})):
        with pytest.raises(NotFound):
            await world.admin(command, THEIRS._replace(account="000000000000"), **given)
