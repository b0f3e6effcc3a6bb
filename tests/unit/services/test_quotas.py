"""Quotas: refusals above a quota, deletions that free it, and no counts without a quota."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.administrator import POLICY, TRUST
from tests.unit import vectors
from tests.world import ABROAD, OURS, THEIRS
from thingmint.domain.certificates import parse_certificate
from thingmint.domain.errors import LimitExceeded
from thingmint.domain.keys import FLEET_KEYS
from thingmint.services.certificates import REGISTRATIONS, delete_registration
from thingmint.services.quotas import NO_QUOTAS, Quotas, begin_counting, give_back, take

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.store.engine import Transaction


def limit(world: World, quotas: Quotas) -> None:
    world.environment = replace(world.environment, quotas=quotas)


async def usage(world: World) -> dict[tuple[str, str], int]:
    """Return the number of counted resources."""
    rows = await world.rows("SELECT kind, owner, max(quota), sum(room) FROM quota_shares GROUP BY kind, owner")
    return {(kind, owner): quota - int(room) for kind, owner, quota, room in rows}


async def test_quota_of_registries_in_a_folder(world: World) -> None:
    limit(world, Quotas(registries=2))
    first, _ = await world.registry(), await world.registry()
    with pytest.raises(LimitExceeded) as caught:
        await world.registry()
    assert caught.value.reason == "The quota of 2 registries for each folder is used up"
    await world.registry(THEIRS)
    await world.yandex("RegistryService.Delete", registry_id=first)
    await world.registry()
    with pytest.raises(LimitExceeded):
        await world.registry()


@pytest.mark.parametrize("begun", [False, True])
async def test_quota_of_devices_in_a_registry(world: World, begun: bool) -> None:
    registry, other = await world.registry(), await world.registry()
    old = [await world.device(registry) for _ in range(3)]
    assert await usage(world) == {}
    limit(world, Quotas(devices=4))
    if begun:
        for _ in range(2):
            await begin_counting(world.store, world.environment.quotas)
        assert await usage(world) == {("devices", registry): 3, ("devices", other): 0}
    await world.device(registry)
    for _ in range(2):
        with pytest.raises(LimitExceeded) as caught:
            await world.device(registry)
        assert caught.value.reason == "The quota of 4 devices for each registry is used up"
    await world.device(other)
    await world.yandex("DeviceService.Delete", device_id=old[0])
    await world.device(registry)
    assert (await usage(world))["devices", registry] == 4


async def test_counting_continues_while_no_quota_is_set(world: World) -> None:
    """Otherwise the count would be wrong when a quota is set again."""
    registry = await world.registry()
    limit(world, Quotas(devices=1))
    await world.device(registry)
    limit(world, NO_QUOTAS)
    await world.device(registry)
    assert (await usage(world))["devices", registry] == 2
    limit(world, Quotas(devices=2))
    with pytest.raises(LimitExceeded):
        await world.device(registry)


async def test_deleting_a_registry_deletes_its_count(world: World) -> None:
    limit(world, Quotas(devices=4))
    registry = await world.registry()
    device = await world.device(registry)
    assert await usage(world) == {("devices", registry): 1}
    await world.yandex("DeviceService.Delete", device_id=device)
    await world.yandex("RegistryService.Delete", registry_id=registry)
    assert await usage(world) == {}


async def test_quota_of_certificates_in_an_account(world: World) -> None:
    limit(world, Quotas(certificates=2))
    pems = [vectors.certificate_pem() for _ in range(3)]
    registry = await world.registry(certificates=[{"certificate_data": pems[0]}])
    device = await world.device(registry)
    add = {"device_id": device, "certificate_data": pems[1]}
    await world.yandex("DeviceService.AddCertificate", **add)
    await begin_counting(world.store, world.environment.quotas)
    for _ in range(2):
        with pytest.raises(LimitExceeded) as caught:
            await world.yandex("DeviceService.AddCertificate", **add | {"certificate_data": pems[2]})
        assert caught.value.reason == "The quota of 2 certificates for each account is used up"
    with pytest.raises(LimitExceeded):
        await world.device(registry, certificates=[{"certificate_data": pems[2]}])
    fingerprint = parse_certificate(pems[1], "pem", FLEET_KEYS)[0].fingerprint
    deleted = await world.read(lambda tx: REGISTRATIONS.get(tx, *OURS, fingerprint))
    await world.yandex("DeviceService.DeleteCertificate", device_id=device, fingerprint=fingerprint)
    await world.yandex("DeviceService.AddCertificate", **add | {"certificate_data": pems[2]})
    assert (await usage(world))["certificates", OURS.account] == 2
    # Deleting an unknown certificate frees nothing.
    await world.write(lambda tx: delete_registration(tx, deleted))
    assert (await usage(world))["certificates", OURS.account] == 2
    await world.registry(THEIRS, certificates=[{"certificate_data": pems[0]}])
    assert (await usage(world))["certificates", THEIRS.account] == 1


@pytest.mark.parametrize(
    ("kind", "trust", "things"),
    [
        ("user", {}, "3 users"),
        ("role", {"trust_policy": TRUST}, "2 roles"),
        ("service-account", {}, "3 service accounts"),
    ],
)
async def test_quotas_of_principals_in_an_account(world: World, kind: str, trust: dict[str, str], things: str) -> None:
    """A new account has an administrator and a service account."""
    limit(world, Quotas(users=3, roles=2, service_accounts=3))
    for name in ("a", "b"):
        await world.admin(f"{kind}.create", name=name, **trust)
    with pytest.raises(LimitExceeded) as caught:
        await world.admin(f"{kind}.create", name="c", **trust)
    assert caught.value.reason == f"The quota of {things} for each account is used up"
    await world.admin(f"{kind}.create", THEIRS, name="c", **trust)
    await world.admin(f"{kind}.delete", name="a")
    await world.admin(f"{kind}.create", name="c", **trust)


async def alias(world: World, name: str, scope: Scope = OURS) -> None:
    role = f"arn:aws:iam::{scope.account}:role/r"
    await world.aws("CreateRoleAlias", scope, roleAlias=name, roleArn=role)


async def billing_group(world: World, name: str, scope: Scope = OURS) -> None:
    await world.aws("CreateBillingGroup", scope, billingGroupName=name)


@pytest.mark.parametrize(
    ("quotas", "create", "things", "delete"),
    [
        (Quotas(role_aliases=2), alias, "role aliases", ("DeleteRoleAlias", "roleAlias")),
        (Quotas(billing_groups=2), billing_group, "billing groups", ("DeleteBillingGroup", "billingGroupName")),
    ],
)
async def test_quotas_in_a_region_of_an_account(
    world: World, quotas: Quotas, create: Any, things: str, delete: tuple[str, str]
) -> None:
    limit(world, quotas)
    for name in ("a", "b"):
        await create(world, name)
    with pytest.raises(LimitExceeded) as caught:
        await create(world, "c")
    assert caught.value.reason == f"The quota of 2 {things} for each region of an account is used up"
    for scope in (THEIRS, ABROAD):
        await create(world, "c", scope)
    await world.aws(delete[0], **{delete[1]: "a"})
    await create(world, "c")


async def test_quota_of_policies_in_an_account(world: World) -> None:
    limit(world, Quotas(policies=2))
    for name in ("a", "b"):
        await world.admin("policy.put", name=name, document=POLICY)
    with pytest.raises(LimitExceeded):
        await world.admin("policy.put", name="c", document=POLICY)
    await world.admin("policy.put", name="b", document=POLICY)  # exists already
    await world.admin("policy.put", THEIRS, name="c", document=POLICY)


async def test_quota_of_folders_in_an_account(world: World) -> None:
    """A new account has one folder."""
    limit(world, Quotas(folders=2))
    await world.admin("folder.create", name="a")
    with pytest.raises(LimitExceeded):
        await world.admin("folder.create", name="b")
    await world.admin("folder.create", THEIRS, name="b")


async def create_devices(world: World, registry: str, count: int) -> int:
    """Create devices concurrently, and return how many succeed."""
    calls = (world.yandex("DeviceService.Create", registry_id=registry) for _ in range(count))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, LimitExceeded) for each in outcomes if isinstance(each, BaseException))
    return sum(not isinstance(each, BaseException) for each in outcomes)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("quota", [1, 7, 70])
async def test_a_quota_is_exact_under_concurrency(world: World, quota: int, begun: bool) -> None:
    limit(world, Quotas(devices=quota))
    registry = await world.registry()
    if begun:
        await begin_counting(world.store, world.environment.quotas)
    assert await create_devices(world, registry, quota + 20) == quota
    assert (await usage(world))["devices", registry] == await world.count("devices") == quota
    ((id,), *_) = await world.rows("SELECT id FROM devices ORDER BY id")
    await world.yandex("DeviceService.Delete", device_id=id)
    assert await create_devices(world, registry, 5) == 1


async def test_lanes_use_what_another_lane_has_left(world: World) -> None:
    registry = await world.registry()
    limit(world, Quotas(devices=100))
    await begin_counting(world.store, world.environment.quotas)
    lanes = itertools.cycle(range(1, 18))

    async def insert(tx: Transaction) -> None:
        tx.lane = next(lanes)
        await take(tx, world.environment.quotas, "devices", registry)

    async def taken() -> int:
        for count in itertools.count():
            try:
                await world.write(insert)
            except LimitExceeded:
                return count
        raise AssertionError

    assert await taken() == 100
    await world.write(lambda tx: give_back(tx, "devices", registry))
    assert await taken() == 1


async def test_a_lowered_quota_refuses_until_enough_are_deleted(world: World) -> None:
    registry = await world.registry()
    limit(world, Quotas(devices=200))
    await begin_counting(world.store, world.environment.quotas)
    ids = [await world.device(registry) for _ in range(8)]
    limit(world, Quotas(devices=5))
    await begin_counting(world.store, world.environment.quotas)
    for id in ids[:3]:
        assert await create_devices(world, registry, 1) == 0
        await world.yandex("DeviceService.Delete", device_id=id)
    assert await create_devices(world, registry, 1) == 0, "there are 5"
    await world.yandex("DeviceService.Delete", device_id=ids[3])
    assert await create_devices(world, registry, 3) == 1
    limit(world, Quotas(devices=7))
    await begin_counting(world.store, world.environment.quotas)
    assert await create_devices(world, registry, 3) == 2


async def test_without_a_quota_no_counts_are_stored(world: World) -> None:
    registry = await world.registry()
    limit(world, Quotas(devices=5))
    await begin_counting(world.store, world.environment.quotas)
    await world.device(registry)
    await begin_counting(world.store, NO_QUOTAS)
    assert await usage(world) == {}
