"""Policies, managed policies, and attachments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.administrator import POLICY, TRUST
from tests.world import OURS, THEIRS, World
from thingmint.access.administration.policies import MANAGED_POLICIES
from thingmint.domain.errors import Conflict, Invalid, LimitExceeded, MalformedPolicy, NotFound
from thingmint.domain.policies.managed import TOKEN_CREATOR

if TYPE_CHECKING:
    from thingmint.domain.errors import DomainError

ADMINISTRATOR = {"principal": "administrator"}


async def own_policies(world: World) -> list[dict[str, Any]]:
    return [row for row in await world.admin("policy.list") if not row["ready_made"]]


async def attached(world: World, principal: str = "administrator") -> list[str]:
    return [row["policy"] for row in await world.admin("policy.attached", principal=principal)]


async def test_putting_a_policy_again_replaces_its_document(world: World) -> None:
    await world.admin("policy.put", name="p", document=POLICY)
    created = world.clock.now
    world.clock.advance(seconds=1)
    other = POLICY.replace("iot:*", "iot:Get*")
    assert await world.admin("policy.put", name="p", document=other) == {"name": "p"}
    assert await world.admin("policy.show", name="p") == {"name": "p", "document": other}
    listed = {"name": "p", "ready_made": False, "modified_at": "2026-11-21T12:00:01+00:00"}
    assert await own_policies(world) == [listed]
    [row] = await world.rows("SELECT created_at, modified_at FROM policies")
    assert row == (int(created.timestamp() * 1_000_000), int(world.clock.now.timestamp() * 1_000_000))


async def test_attaching_a_policy_twice_changes_nothing(world: World) -> None:
    await world.admin("policy.put", name="p", document=POLICY)
    for _ in range(2):
        await world.admin("policy.attach", **ADMINISTRATOR, policy="p")
    assert await attached(world) == ["p", "thingmint/Administrator"]
    await world.admin("policy.detach", **ADMINISTRATOR, policy="p")
    with pytest.raises(NotFound):
        await world.admin("policy.detach", **ADMINISTRATOR, policy="p")
    assert await attached(world) == ["thingmint/Administrator"]


async def test_an_attached_policy_cannot_be_deleted(world: World) -> None:
    await world.admin("policy.put", name="p", document=POLICY)
    await world.admin("policy.attach", **ADMINISTRATOR, policy="p")
    # A policy of the same name in another account is a different one.
    await world.admin("policy.put", THEIRS, name="p", document=POLICY)
    await world.admin("policy.delete", THEIRS, name="p")
    with pytest.raises(Conflict):
        await world.admin("policy.delete", name="p")
    await world.admin("policy.detach", **ADMINISTRATOR, policy="p")
    await world.admin("policy.delete", name="p")
    for command in ("policy.show", "policy.delete"):
        with pytest.raises(NotFound):
            await world.admin(command, name="p")


@pytest.mark.parametrize(
    "document",
    ["", "{", "[]", "{}", POLICY.replace("Allow", "allow"), TRUST, POLICY.replace("iot:*", "a" * 6200)],
)
async def test_a_document_that_is_not_a_policy_is_malformed(world: World, document: str) -> None:
    before = world.dump()
    for command, given in (
        ("policy.put", {"name": "p", "document": document}),
        ("token.create", {**ADMINISTRATOR, "policy": document}),
        ("session.create", {**ADMINISTRATOR, "policy": document}),
        ("token.restrict", {"id": world.ours.token.split("_")[1], "policy": document}),
    ):
        with pytest.raises(MalformedPolicy):
            await world.admin(command, **given)
    assert world.dump() == before


@pytest.mark.parametrize("name", MANAGED_POLICIES)
async def test_a_managed_policy_is_shown_and_attached_but_not_changed(world: World, name: str) -> None:
    orjson.loads((await world.admin("policy.show", name=name))["document"])
    await world.admin("user.create", name="elf")
    await world.admin("policy.attach", principal="elf", policy=name)
    if name.startswith("yandex/"):
        is_on_folders = not name.endswith(TOKEN_CREATOR)
        resource = f"yandex:folder/{world.ours.folder}" if is_on_folders else "yandex:service-account/aje"
        await world.admin("policy.attach", principal="elf", policy=name, resource=resource)
    assert await attached(world, "elf") == [name] * (2 if name.startswith("yandex/") else 1)
    await world.admin("policy.detach", principal="elf", policy=name)
    with pytest.raises(Invalid):
        await world.admin("policy.put", name=name, document=POLICY)
    with pytest.raises(NotFound):
        await world.admin("policy.delete", name=name)


async def test_an_unknown_managed_policy_is_not_found(world: World) -> None:
    for name in ("thingmint/Missing", "yandex/missing", "other/x"):
        with pytest.raises(NotFound):
            await world.admin("policy.show", name=name)


@pytest.mark.parametrize(
    ("policy", "resource", "error"),
    [
        ("missing", "*", NotFound),
        ("thingmint/Missing", "*", NotFound),
        ("yandex/missing", "*", NotFound),
        ("other/x", "*", NotFound),
        ("/", "*", NotFound),
        ("p", "yandex:folder/b1g", Invalid),
        ("thingmint/ReadOnly", "yandex:folder/b1g", Invalid),
        ("yandex/viewer", "", Invalid),
        ("yandex/viewer", "yandex:folder/*", Invalid),
        ("yandex/viewer", "arn:aws:iot:us-east-1:1:thing/x", Invalid),
        ("yandex/viewer", f"yandex:cloud/{THEIRS.account}", NotFound),
    ],
)
async def test_wrong_policies_and_resources_cannot_be_attached(
    world: World, policy: str, resource: str, error: type[DomainError]
) -> None:
    await world.admin("policy.put", name="p", document=POLICY)
    before = world.dump()
    with pytest.raises(error):
        await world.admin("policy.attach", **ADMINISTRATOR, policy=policy, resource=resource)
    assert world.dump() == before


async def test_a_yandex_role_can_be_attached_on_the_accounts_cloud(world: World) -> None:
    given = {"policy": "yandex/viewer", "resource": f"yandex:cloud/{OURS.account}"}
    assert await world.admin("policy.attach", **ADMINISTRATOR, **given) == {**ADMINISTRATOR, **given}


async def test_at_most_twenty_policies_can_be_attached(world: World) -> None:
    for number in range(20):
        await world.admin("policy.put", name=f"p{number}", document=POLICY)
    for number in range(19):
        await world.admin("policy.attach", **ADMINISTRATOR, policy=f"p{number}")
    with pytest.raises(LimitExceeded):
        await world.admin("policy.attach", **ADMINISTRATOR, policy="p19")
    assert len(await attached(world)) == 20
    await world.admin("policy.attach", **ADMINISTRATOR, policy="p0")
