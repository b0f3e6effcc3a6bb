"""Users, roles and service accounts."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from tests.administrator import POLICY, TRUST
from tests.world import OURS, THEIRS, World
from thingmint.access.administration.principals import find_principal
from thingmint.domain.errors import AlreadyExists, Invalid, MalformedPolicy, Unauthenticated
from thingmint.services.jobs import JobRunner
from thingmint.store.table import DELETED_AT_ONCE

KINDS: dict[str, dict[str, Any]] = {"user": {}, "service-account": {}, "role": {"trust_policy": TRUST}}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_a_new_principal_is_active_and_may_do_nothing(world: World, kind: str) -> None:
    made = await world.admin(f"{kind}.create", name="elf", **KINDS[kind])
    assert made == {"id": made["id"], "name": "elf", "status": "active", "created_at": "2026-11-21T12:00:00+00:00"}
    assert made in await world.admin(f"{kind}.list")
    assert await world.admin("policy.attached", principal=f"{kind}/elf") == []


async def test_a_role_keeps_its_trust_policy(world: World) -> None:
    await world.admin("role.create", name="elf", trust_policy=TRUST)
    role = await world.read(lambda tx: find_principal(tx, OURS.account, "role", "elf"))
    assert role is not None
    assert (role.trust_policy, role.created_at) == (TRUST, world.clock.now)


@pytest.mark.parametrize(("longest", "taken"), [("59m", False), ("1h", True), ("12h", True), ("721m", False)])
async def test_the_longest_session_of_a_role_is_1_to_12_hours(world: World, longest: str, taken: bool) -> None:
    with contextlib.nullcontext() if taken else pytest.raises(Invalid, match="between 1 hour and 12 hours"):
        await world.admin("role.create", name="elf", trust_policy=TRUST, max_session_duration=longest)


async def test_a_principal_is_disabled_and_enabled(world: World, kind: str) -> None:
    made = await world.admin(f"{kind}.create", name="elf", **KINDS[kind])
    for verb, status in (("disable", "disabled"), ("enable", "active")):
        assert await world.admin(f"{kind}.{verb}", name="elf") == {"name": "elf", "status": status}
        assert made | {"status": status} in await world.admin(f"{kind}.list")


async def test_deleting_a_principal_deletes_its_credentials_and_attachments(world: World, kind: str) -> None:
    await world.admin(f"{kind}.create", name="elf", **KINDS[kind])
    counts = [await world.count("credentials"), await world.count("policy_attachments")]
    await world.admin("policy.attach", principal=f"{kind}/elf", policy="thingmint/ReadOnly")
    await world.admin("session.create", principal=f"{kind}/elf")
    await world.admin(f"{kind}.delete", name="elf")
    assert [await world.count("credentials"), await world.count("policy_attachments")] == counts
    assert "elf" not in [row["name"] for row in await world.admin(f"{kind}.list")]
    await world.admin(f"{kind}.create", name="elf", **KINDS[kind])


async def test_a_principal_is_deleted_immediately_and_its_many_sessions_in_steps(world: World, kind: str) -> None:
    await world.admin(f"{kind}.create", name="elf", **KINDS[kind])
    await world.admin("policy.attach", principal=f"{kind}/elf", policy="thingmint/ReadOnly")
    new = await world.admin("session.create", principal=f"{kind}/elf")
    counts = [await world.count("credentials") - 1, await world.count("principals")]
    copies = (
        "INSERT INTO credentials (id, kind, principal, secret, status, description, created_at) "
        "SELECT id || $2, kind, principal, secret, status, description, created_at FROM credentials WHERE id = $1"
    )
    ids = [(new["access_key_id"], f"-{number}") for number in range(2 * DELETED_AT_ONCE + 1)]
    await world.write(lambda tx: tx.execute_many(copies, ids))
    listed = await world.admin(f"{kind}.list")

    async def check_gone() -> None:
        assert [row["name"] for row in await world.admin(f"{kind}.list")] == [
            row["name"] for row in listed if row["name"] != "elf"
        ]
        for id in (new["access_key_id"], f"{new['access_key_id']}-{2 * DELETED_AT_ONCE}"):
            with pytest.raises(Unauthenticated):
                await world.directory.find_access_key(id, new["session_token"])

    await world.admin(f"{kind}.delete", name="elf")
    assert await world.count("credentials") == counts[0] + DELETED_AT_ONCE + 2
    await check_gone()
    await world.admin(f"{kind}.create", name="elf", **KINDS[kind])
    assert await world.admin("key.list", principal=f"{kind}/elf") == []
    await world.admin(f"{kind}.delete", name="elf")
    await JobRunner(world.store, world.clock).run_due()
    await check_gone()
    assert [await world.count("credentials"), await world.count("principals")] == [counts[0], counts[1] - 1]


async def test_names_are_unique_for_each_kind_and_account(world: World) -> None:
    for scope in (OURS, THEIRS):
        for kind, given in KINDS.items():
            await world.admin(f"{kind}.create", scope, name="elf", **given)
            with pytest.raises(AlreadyExists):
                await world.admin(f"{kind}.create", scope, name="elf", **given)


@pytest.mark.parametrize("trust", ["", "{", POLICY, TRUST.replace("sts:AssumeRole", "s" * 6200)])
async def test_a_malformed_trust_policy_is_refused(world: World, trust: str) -> None:
    with pytest.raises(MalformedPolicy):
        await world.admin("role.create", name="elf", trust_policy=trust)
    assert await world.admin("role.list") == []
    await world.admin("role.create", name="elf", trust_policy=TRUST)
    with pytest.raises(MalformedPolicy):
        await world.admin("role.trust", name="elf", trust_policy=trust)
    assert await world.rows("SELECT trust_policy FROM principals WHERE kind = 'role'") == [(TRUST,)]


async def test_only_roles_have_and_need_a_trust_policy(world: World) -> None:
    for command, given in (
        ("user.create", {"trust_policy": TRUST}),
        ("service-account.create", {"trust_policy": TRUST}),
        ("role.create", {}),
    ):
        with pytest.raises(Invalid) as refused:
            await world.admin(command, name="elf", **given)
        assert refused.value.field == "trust_policy"
