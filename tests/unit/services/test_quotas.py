"""Quotas: what is refused, what makes room again, and that a count costs nothing where nobody asked for one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.administrator import Administrator
from tests.unit.services.fleet_support import Fleet, certificate, with_fleet
from thingmint.access.vault import Vault
from thingmint.domain.errors import LimitExceeded
from thingmint.domain.quotas import Quotas
from thingmint.services.bindings import BindingRegistry
from thingmint.services.certificates import delete_registration
from thingmint.services.fleet import FleetRegistry
from thingmint.services.markers import Markers
from thingmint.services.quotas import begin_counting

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.store.engine import Transaction


def under(fleet: Fleet, quotas: Quotas) -> Fleet:
    """The same store, with quotas."""
    return replace(
        fleet,
        fleet=FleetRegistry(fleet.store, fleet.operations, Markers(b"k" * 32), quotas),
        bindings=BindingRegistry(fleet.store, fleet.operations, quotas),
    )


async def usage(fleet: Fleet) -> dict[tuple[str, str], int]:
    async def body(tx: Transaction) -> list[tuple[Any, ...]]:
        return await tx.fetch_all("SELECT kind, owner, used FROM usage")

    return {(kind, owner): used for kind, owner, used in await fleet.store.read(body)}


def test_registries_of_a_folder(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        few = under(fleet, Quotas(registries=2))
        first, _ = await few.registry(), await few.registry()
        with pytest.raises(LimitExceeded) as refused:
            await few.registry()
        assert refused.value.reason == "The quota of 2 registries for each folder is used up"
        elsewhere = await fleet.administration.create_folder(fleet.scope.account, "elsewhere")
        await few.registry(folder=elsewhere)
        await few.fleet.delete_registry(few.scope.account, first.id, few.receipt())
        await few.registry()
        with pytest.raises(LimitExceeded):
            await few.registry()

    with_fleet(tmp_path, test)


@pytest.mark.parametrize("begun", [False, True])
def test_devices_of_a_registry(tmp_path: Path, begun: bool) -> None:
    async def test(fleet: Fleet) -> None:
        registry, other = await fleet.registry(), await fleet.registry()
        old = [await fleet.device(registry=registry) for _ in range(3)]
        assert await usage(fleet) == {}, "nobody pays who has no quota"
        quotas = Quotas(devices=4)
        if begun:
            await begin_counting(fleet.store, quotas)
            await begin_counting(fleet.store, quotas)
            assert await usage(fleet) == {("devices", registry.id): 3, ("devices", other.id): 0}
        few = under(fleet, quotas)
        await few.device(registry=registry)
        for _ in range(2):
            with pytest.raises(LimitExceeded) as refused:
                await few.device(registry=registry)
        assert refused.value.reason == "The quota of 4 devices for each registry is used up"
        await few.device(registry=other)
        await fleet.fleet.delete_device(few.scope.account, old[0].id, few.receipt())
        await few.device(registry=registry)
        assert (await usage(fleet))["devices", registry.id] == 4
        # Without the quota they go on being counted, or it would be wrong when it is set again.
        await fleet.device(registry=registry)
        assert (await usage(fleet))["devices", registry.id] == 5
        with pytest.raises(LimitExceeded):
            await few.device(registry=registry)

    with_fleet(tmp_path, test)


def test_a_registry_that_is_gone_has_no_count(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        few = under(fleet, Quotas(devices=4))
        device = await few.device()
        assert await usage(fleet) == {("devices", device.registry): 1}
        await few.fleet.delete_device(few.scope.account, device.id, few.receipt())
        await few.fleet.delete_registry(few.scope.account, device.registry, few.receipt())
        assert await usage(fleet) == {}

    with_fleet(tmp_path, test)


def test_certificates_of_an_account(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        quotas = Quotas(certificates=3)
        few = under(fleet, quotas)
        first, second = certificate(), certificate()
        device = await few.device(first)
        await few.bindings.add(few.scope, device.id, second, few.clock.now, few.receipt())
        await few.registry(certificate())
        await begin_counting(fleet.store, quotas)
        for _ in range(2):
            with pytest.raises(LimitExceeded) as refused:
                await few.bindings.add(few.scope, device.id, certificate(), few.clock.now, few.receipt())
        assert refused.value.reason == "The quota of 3 certificates for each account is used up"
        with pytest.raises(LimitExceeded):
            await few.device(certificate())
        assert await few.registration(first) is not None
        await few.bindings.remove(few.scope.account, device.id, second.certificate.fingerprint, few.receipt())
        await few.bindings.add(few.scope, device.id, certificate(), few.clock.now, few.receipt())
        assert (await usage(fleet))["certificates", few.scope.account] == 3
        # Deleting what is not there is no room made.
        gone = second.certificate.fingerprint

        async def delete(tx: Transaction) -> None:
            await delete_registration(tx, few.scope, gone)

        await fleet.store.write(delete)
        assert (await usage(fleet))["certificates", few.scope.account] == 3
        theirs = await few.second()
        await theirs.device(certificate())
        assert (await usage(fleet))["certificates", theirs.scope.account] == 1

    with_fleet(tmp_path, test)


def test_users_roles_policies_and_folders(tmp_path: Path) -> None:
    document = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}}'
    trust = document.replace('"Action": "iot:*", "Resource": "*"', '"Action": "sts:AssumeRole", "Principal": "*"')

    async def test(fleet: Fleet) -> None:
        account = fleet.scope.account
        quotas = Quotas(users=3, roles=2, service_accounts=3, policies=2, folders=3)
        admin = Administrator(fleet.store, Vault(b"m" * 32), lambda: fleet.clock.now, quotas)
        for kind, trusts, things in (
            ("user", None, "3 users"),
            ("role", trust, "2 roles"),
            ("service-account", None, "3 service accounts"),
        ):
            for name in ("a", "b"):
                await admin.create_principal(account, kind, name, trust_policy=trusts)
            with pytest.raises(LimitExceeded) as refused:
                await admin.create_principal(account, kind, "c", trust_policy=trusts)
            assert refused.value.reason == f"The quota of {things} for each account is used up"
            await admin.delete_principal(account, kind, "a")
            await admin.create_principal(account, kind, "c", trust_policy=trusts)
        for name in ("a", "b"):
            await admin.put_policy(account, name, document)
            await admin.create_folder(account, name)
        with pytest.raises(LimitExceeded):
            await admin.put_policy(account, "c", document)
        await admin.put_policy(account, "b", document)  # is there already
        with pytest.raises(LimitExceeded):
            await admin.create_folder(account, "c")
        assert len(await admin.list_folders(account)) == 3
        other = await admin.create_account("other", ["us-east-1"])
        await admin.put_policy(other.account, "c", document)

    with_fleet(tmp_path, test)
