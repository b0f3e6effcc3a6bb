"""Registries and devices: names, pages, deletion, and whose they are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.services.fleet_support import Fleet, certificate, with_fleet
from thingmint.domain.errors import AlreadyExists, Conflict, Invalid, NotFound
from thingmint.domain.registration import Scope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


def test_what_is_made_is_found(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        registry = await fleet.registry(
            name="r", description="Реестр", labels={"a": "b"}, log_options={"folder_id": "b1g", "min_level": "WARN"}
        )
        device = await fleet.device(
            registry=registry, name="d", description="д", labels={"c": "d"}, topic_aliases={"x": "$devices/1/events"}
        )
        assert fleet.results == [registry, device], "what the operation tells"
        account = fleet.scope.account
        assert await fleet.fleet.get_registry(account, registry.id) == registry
        assert await fleet.fleet.get_device(account, device.id) == device
        assert await fleet.fleet.get_device_by_name(account, registry.id, "d") == device
        assert await fleet.fleet.find_device(account, device.id) == device
        assert await fleet.fleet.find_registry(account, registry.id) == registry
        assert await fleet.fleet.find_device(account, registry.id) is None
        assert await fleet.fleet.find_registry(account, device.id) is None

    with_fleet(tmp_path, test)


def test_names(tmp_path: Path) -> None:
    """Unique in the folder or registry, where there is one; free again after deletion."""

    async def test(fleet: Fleet) -> None:
        account = fleet.scope.account
        first, second = await fleet.registry(name="a"), await fleet.registry(name="b")
        for _ in range(2):
            await fleet.registry()
            await fleet.device(registry=first)
        device = await fleet.device(registry=first, name="d")
        await fleet.device(registry=second, name="d")
        with pytest.raises(AlreadyExists) as refused:
            await fleet.registry(name="a")
        assert (refused.value.kind, refused.value.id) == ("registry", "a")
        with pytest.raises(AlreadyExists) as refused:
            await fleet.device(registry=first, name="d")
        assert (refused.value.kind, refused.value.id) == ("device", "d")
        await fleet.fleet.delete_device(account, device.id, fleet.receipt())
        await fleet.device(registry=first, name="d")
        await fleet.device(registry=first, name="D")

    with_fleet(tmp_path, test)


def test_no_device_is_found_by_an_empty_name(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        device = await fleet.device()
        with pytest.raises(NotFound):
            await fleet.fleet.get_device_by_name(fleet.scope.account, device.registry, "")

    with_fleet(tmp_path, test)


def test_a_registry_goes_last(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        account, bound = fleet.scope.account, certificate()
        registry = await fleet.registry(bound)
        device = await fleet.device(registry=registry)
        with pytest.raises(Conflict) as refused:
            await fleet.fleet.delete_registry(account, registry.id, fleet.receipt())
        assert refused.value.id == registry.id
        assert await fleet.registration(bound) is not None, "nothing was done by halves"
        await fleet.fleet.delete_device(account, device.id, fleet.receipt())
        await fleet.fleet.delete_registry(account, registry.id, fleet.receipt())
        assert await fleet.registration(bound) is None
        for gone in (
            fleet.fleet.get_registry(account, registry.id),
            fleet.fleet.get_device(account, device.id),
            fleet.fleet.delete_registry(account, registry.id, fleet.receipt()),
            fleet.fleet.delete_device(account, device.id, fleet.receipt()),
            fleet.fleet.create_device(fleet.scope, fleet.new_device(registry), (), fleet.receipt()),
        ):
            with pytest.raises(NotFound):
                await gone

    with_fleet(tmp_path, test)


def test_a_creation_is_whole_or_nothing(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        taken, new = certificate(), certificate()
        await fleet.device(taken)
        registry = fleet.new_registry(name="r")
        with pytest.raises(AlreadyExists):
            await fleet.fleet.create_registry(fleet.scope, registry, (new, taken), fleet.receipt())
        assert await fleet.registration(new) is None
        await fleet.registry(new, name="r")

    with_fleet(tmp_path, test)


Listing = "Callable[[Fleet, str, str, int, str], Awaitable[tuple[list[Any], str]]]"


async def registries_of(fleet: Fleet, folder: str, _: str, limit: int, token: str) -> tuple[list[Any], str]:
    return await fleet.fleet.list_registries(fleet.scope, folder, limit=limit, token=token)


async def devices_of_folder(fleet: Fleet, folder: str, _: str, limit: int, token: str) -> tuple[list[Any], str]:
    return await fleet.fleet.list_devices(fleet.scope, registry=None, folder=folder, limit=limit, token=token)


async def devices_of_registry(fleet: Fleet, _: str, registry: str, limit: int, token: str) -> tuple[list[Any], str]:
    return await fleet.fleet.list_devices(fleet.scope, registry=registry, folder=None, limit=limit, token=token)


LISTINGS = [registries_of, devices_of_folder, devices_of_registry]


@pytest.mark.parametrize("listing", LISTINGS)
@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
def test_pages(tmp_path: Path, listing: Callable[..., Awaitable[tuple[list[Any], str]]], limit: int) -> None:
    """Oldest first, each once, also where several are of the same moment."""

    async def test(fleet: Fleet) -> None:
        registry = await fleet.registry()
        made: list[Any] = [registry] if listing is registries_of else []
        for number in range(6 - len(made)):
            same_moment = {"created_at": fleet.clock.now} if number % 2 else {}
            if listing is registries_of:
                made.append(await fleet.registry(**same_moment))
            else:
                made.append(await fleet.device(registry=registry, **same_moment))
        pages = []
        token = ""
        while True:
            page, token = await listing(fleet, fleet.folder, registry.id, limit, token)
            pages.append(page)
            if not token:
                break
        assert [len(page) for page in pages] == [limit] * (6 // limit) + ([6 % limit] if 6 % limit else [])
        listed = [each for page in pages for each in page]
        assert listed == sorted(made, key=lambda each: (each.created_at, each.id))

    with_fleet(tmp_path, test)


def test_page_tokens_belong_to_their_list(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        registry = await fleet.registry()
        other = await fleet.registry()
        for each in (registry, other):
            for _ in range(2):
                await fleet.device(registry=each)
        tokens = {listing: (await listing(fleet, fleet.folder, registry.id, 1, ""))[1] for listing in LISTINGS}
        assert all(tokens.values())
        for listing in LISTINGS:
            for made_for, token in tokens.items():
                if listing is made_for:
                    assert (await listing(fleet, fleet.folder, registry.id, 1, token))[0]
                    continue
                with pytest.raises(Invalid):
                    await listing(fleet, fleet.folder, registry.id, 1, token)
        foreign = await fleet.second()
        elsewhere = replace(fleet, scope=Scope(fleet.scope.account, "eu-west-1"))
        for fleet_of, registry_id in ((fleet, other.id), (foreign, registry.id), (elsewhere, registry.id)):
            with pytest.raises(Invalid):
                await devices_of_registry(fleet_of, "", registry_id, 1, tokens[devices_of_registry])

    with_fleet(tmp_path, test)


def test_another_account_finds_nothing(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        registry = await fleet.registry(name="r")
        device = await fleet.device(registry=registry, name="d")
        other = await fleet.second()
        account = other.scope.account
        for foreign in (
            other.fleet.get_registry(account, registry.id),
            other.fleet.get_device(account, device.id),
            other.fleet.get_device_by_name(account, registry.id, "d"),
            other.fleet.delete_registry(account, registry.id, other.receipt()),
            other.fleet.delete_device(account, device.id, other.receipt()),
            other.fleet.create_device(other.scope, other.new_device(registry), (), other.receipt()),
            other.fleet.create_registry(other.scope, other.new_registry(folder=fleet.folder), (), other.receipt()),
            registries_of(other, fleet.folder, "", 1, ""),
            devices_of_folder(other, fleet.folder, "", 1, ""),
            devices_of_registry(other, "", registry.id, 1, ""),
        ):
            with pytest.raises(NotFound):
                await foreign
        assert await other.fleet.find_device(account, device.id) is None
        assert await other.fleet.find_registry(account, registry.id) is None
        assert await fleet.fleet.get_device(fleet.scope.account, device.id) == device
        await other.registry(name="r")

    with_fleet(tmp_path, test)
