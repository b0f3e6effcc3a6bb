"""Yandex IoT Core's methods for registries and devices: names, pages, deletion and authorization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit import vectors
from tests.world import ABROAD, OURS, THEIRS, pages, unpacked
from thingmint.domain.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound
from thingmint.services.device_registry import DEVICES, REGISTRIES, get_by_name
from thingmint.services.pages import MAX_SIZE
from thingmint.yandex.contract import load
from thingmint.yandex.operations.declaring import cursor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.world import World
    from thingmint.services.device_registry import Device
    from thingmint.store.engine import Transaction

ListDevicesRequest: Any = load().methods["/yandex.cloud.iot.devices.v1.DeviceService/List"].request_class


async def test_a_new_registry_is_returned_as_given(world: World) -> None:
    fields: dict[str, Any] = {"name": "r", "description": "Реестр", "labels": {"a": "b"}}
    log_options = {"folder_id": "b1g", "min_level": "WARN"}
    made = await world.yandex("RegistryService.Create", folder_id=world.ours.folder, **fields, log_options=log_options)
    registry = unpacked(made.response)
    assert made.metadata.type_url.endswith("CreateRegistryMetadata")
    assert unpacked(made.metadata).registry_id == registry.id
    assert (registry.folder_id, registry.name, registry.description) == (world.ours.folder, "r", "Реестр")
    assert (dict(registry.labels), registry.log_options.folder_id) == ({"a": "b"}, "b1g")
    assert registry.created_at.ToDatetime() == world.clock().replace(tzinfo=None)
    assert await world.yandex("RegistryService.Get", registry_id=registry.id) == registry
    assert world.audit_resources() == [f"yandex:registry/{registry.id}"]


async def test_a_new_device_is_returned_as_given(world: World) -> None:
    registry = await world.registry()
    fields: dict[str, Any] = {
        "name": "d",
        "description": "д",
        "labels": {"c": "d"},
        "topic_aliases": {"x": "$devices/{id}/events"},
    }
    world.audit_resources()
    made = await world.yandex("DeviceService.Create", registry_id=registry, **fields)
    device = unpacked(made.response)
    assert unpacked(made.metadata).device_id == device.id
    assert (device.registry_id, device.name, device.description) == (registry, "d", "д")
    assert (dict(device.labels), dict(device.topic_aliases)) == ({"c": "d"}, {"x": f"$devices/{device.id}/events"})
    assert device.created_at.ToDatetime() == world.clock().replace(tzinfo=None)
    assert await world.yandex("DeviceService.Get", device_id=device.id) == device
    assert await world.yandex("DeviceService.GetByName", registry_id=registry, device_name="d") == device
    assert world.audit_resources() == [f"yandex:device/{device.id}"]


async def test_ids_are_valid_for_their_kind_only(world: World) -> None:
    registry = await world.registry()
    device = await world.device(registry)
    with pytest.raises(NotFound, match=f"device {registry}"):
        await world.yandex("DeviceService.Get", device_id=registry)
    with pytest.raises(NotFound, match=f"registry {device}"):
        await world.yandex("RegistryService.Get", registry_id=device)


async def test_registry_names_are_unique_in_a_folder(world: World) -> None:
    registry = await world.registry(name="a")
    await world.registry(name="b")
    await world.registry(THEIRS, name="a")
    with pytest.raises(AlreadyExists, match="registry a"):
        await world.registry(name="a")
    await world.yandex("RegistryService.Delete", registry_id=registry)
    await world.registry(name="a")


async def test_device_names_are_unique_in_a_registry(world: World) -> None:
    first, second = await world.registry(), await world.registry()
    device = await world.device(first, name="d")
    await world.device(first, name="D")
    await world.device(second, name="d")
    with pytest.raises(AlreadyExists, match="device d"):
        await world.device(first, name="d")
    await world.yandex("DeviceService.Delete", device_id=device)
    await world.device(first, name="d")


async def test_names_are_optional(world: World) -> None:
    registry = await world.registry()
    await world.registry()
    await world.device(registry)
    await world.device(registry)

    async def by_name(tx: Transaction) -> Device:
        return await get_by_name(tx, DEVICES, await REGISTRIES.get(tx, OURS.account, registry), "")

    with pytest.raises(NotFound):
        await world.read(by_name)


async def test_a_registry_with_devices_cannot_be_deleted(world: World) -> None:
    registry = await world.registry(certificates=[{"certificate_data": vectors.certificate_pem()}])
    device = await world.device(registry)
    world.audit_resources()
    with pytest.raises(Conflict, match=registry):
        await world.yandex("RegistryService.Delete", registry_id=registry)
    assert await world.count("bindings") == 1, "nothing was done by halves"
    await world.yandex("DeviceService.Delete", device_id=device)
    assert world.audit_resources() == [f"yandex:device/{device}"]
    await world.yandex("RegistryService.Delete", registry_id=registry)
    assert world.audit_resources()[-1] == f"yandex:registry/{registry}"
    assert await world.count("registrations") == 0


GONE: dict[str, dict[str, str]] = {
    "RegistryService.Get": {"registry_id": "are0"},
    "RegistryService.List": {"folder_id": "b1g0"},
    "RegistryService.Create": {"folder_id": "b1g0"},
    "RegistryService.Delete": {"registry_id": "are0"},
    "DeviceService.Get": {"device_id": "are0"},
    "DeviceService.GetByName": {"registry_id": "are0", "device_name": "d"},
    "DeviceService.Create": {"registry_id": "are0"},
    "DeviceService.Delete": {"device_id": "are0"},
    "DeviceService.ListCertificates": {"device_id": "are0"},
    "DeviceService.AddCertificate": {"device_id": "are0", "certificate_data": vectors.certificate_pem()},
    "DeviceService.DeleteCertificate": {"device_id": "are0", "fingerprint": "f"},
    "OperationService.Get": {"operation_id": "are0"},
    "OperationService.Cancel": {"operation_id": "are0"},
}


@pytest.mark.parametrize("label", GONE)
async def test_unknown_ids_are_not_found(world: World, label: str) -> None:
    with pytest.raises(NotFound, match=r"(are|b1g)0 does not exist"):
        await world.yandex(label, **GONE[label])


@pytest.mark.parametrize("parent", ["registry_id", "folder_id"])
async def test_devices_of_unknown_parents_are_not_found(world: World, parent: str) -> None:
    with pytest.raises(NotFound, match=f"{parent[:-3]} x does not exist"):
        await world.yandex("DeviceService.List", **{parent: "x"})


@pytest.mark.parametrize("label", [label for label in GONE if not label.startswith("OperationService")])
async def test_unauthorized_callers_do_not_learn_which_ids_exist(world: World, label: str) -> None:
    world.denied.add(f"yandex:{label}")
    registry = await world.registry() if label != "RegistryService.Create" else ""
    device = await world.device(registry) if registry and label != "DeviceService.Create" else ""
    there = {"registry_id": registry, "device_id": device, "folder_id": world.ours.folder}
    for fields in (GONE[label], GONE[label] | {name: there[name] for name in GONE[label] if name in there}):
        with pytest.raises(Denied):
            await world.yandex(label, **fields)


async def test_calls_are_authorized_on_the_resource_and_its_containers(world: World) -> None:
    registry = await world.registry()
    device = await world.device(registry)
    cloud, folder = f"yandex:cloud/{OURS.account}", f"yandex:folder/{world.ours.folder}"
    asked = {
        ("RegistryService.List", "folder_id", world.ours.folder): (folder, cloud),
        ("RegistryService.Create", "folder_id", world.ours.folder): (folder, cloud),
        ("RegistryService.Get", "registry_id", registry): (f"yandex:registry/{registry}", folder, cloud),
        ("RegistryService.Get", "registry_id", "x"): ("yandex:registry/x", cloud),
        ("DeviceService.List", "registry_id", registry): (f"yandex:registry/{registry}", folder, cloud),
        ("DeviceService.List", "folder_id", world.ours.folder): (folder, cloud),
        ("DeviceService.Create", "registry_id", registry): (f"yandex:registry/{registry}", folder, cloud),
        ("DeviceService.Get", "device_id", device): (
            f"yandex:device/{device}",
            f"yandex:registry/{registry}",
            folder,
            cloud,
        ),
        ("DeviceService.Get", "device_id", "x"): ("yandex:device/x", cloud),
    }
    for (label, field, id), resources in asked.items():
        world.asked.clear()
        world.containers.clear()
        world.denied = {f"yandex:{label}"}
        with pytest.raises(Denied):
            await world.yandex(label, **{field: id})
        assert world.asked == [(f"yandex:{label}", resources[0])]
        assert world.containers == [resources]


async def test_a_refused_creation_is_rolled_back(world: World) -> None:
    taken, new = ({"certificate_data": vectors.certificate_pem()} for _ in range(2))
    await world.registry(certificates=[taken])
    before = [await world.count(table) for table in ("registries", "registrations", "operations")]
    with pytest.raises(AlreadyExists, match="certificate"):
        await world.registry(name="r", certificates=[new, taken])
    assert [await world.count(table) for table in ("registries", "registrations", "operations")] == before
    await world.registry(name="r", certificates=[new])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"description": "a\0b"}, "description"),
        ({"topic_aliases": {"a": "foo"}}, "topic_aliases"),
        ({"certificates": [{"certificate_data": ""}]}, "certificates[0].certificate_data"),
    ],
)
async def test_invalid_fields_are_named(world: World, fields: dict[str, Any], field: str) -> None:
    registry = await world.registry()
    with pytest.raises(Invalid) as caught:
        await world.yandex("DeviceService.Create", registry_id=registry, **fields)
    assert caught.value.field == field
    if "topic_aliases" not in fields:
        with pytest.raises(Invalid):
            await world.yandex("RegistryService.Create", folder_id=world.ours.folder, **fields)


LISTS: dict[str, tuple[str, str]] = {
    "registries": ("RegistryService.List", "folder_id"),
    "devices of a folder": ("DeviceService.List", "folder_id"),
    "devices of a registry": ("DeviceService.List", "registry_id"),
}


async def page_of(world: World, kind: str, registry: str, page: Mapping[str, Any], **folder: str) -> dict[str, Any]:
    label, parent = LISTS[kind]
    fields = {"folder_id": world.ours.folder, "registry_id": registry} | folder
    answer = await world.yandex(label, **{parent: fields[parent]}, **page)
    items = answer.registries if kind == "registries" else answer.devices
    return {"ids": [item.id for item in items], "next_page_token": answer.next_page_token or None}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
async def test_lists_have_every_item_once_oldest_first(world: World, kind: str, limit: int) -> None:
    registry = await world.registry()
    made = [(world.clock(), registry)] if kind == "registries" else []
    for number in range(6 - len(made)):
        world.clock.advance(seconds=-(number % 2))  # some items at the same time
        id = await world.registry() if kind == "registries" else await world.device(registry)
        made.append((world.clock(), id))
    elsewhere = await world.registry(THEIRS)
    await world.device(elsewhere, THEIRS)

    async def page(fields: Mapping[str, Any]) -> Mapping[str, Any]:
        return await page_of(world, kind, registry, fields)

    sizes = {"size": "page_size", "token": "page_token", "next_token": "next_page_token"}
    assert await pages(page, "ids", limit, **sizes) == [id for _, id in sorted(made)]


async def test_a_page_has_100_items_by_default(world: World) -> None:
    registry = await world.registry()
    for _ in range(101):
        await world.device(registry)
    assert len((await page_of(world, "devices of a registry", registry, {}))["ids"]) == 100
    whole = await page_of(world, "devices of a registry", registry, {"page_size": 101})
    assert (len(set(whole["ids"])), whole["next_page_token"]) == (101, None)


async def test_a_page_of_large_devices_is_shorter(world: World) -> None:
    """So that an answer takes milliseconds, whatever page size is requested."""
    registry = await world.registry()
    made = []
    for number in range(110):
        aliases = {f"{number:03}{n}".ljust(1024, "x"): "$devices/{id}/".ljust(1007, "t") for n in range(5)}
        made.append(await world.device(registry, topic_aliases=aliases))
    page = await page_of(world, "devices of a registry", registry, {"page_size": 20_000})
    assert page["ids"] == made[: MAX_SIZE // 10_240 + 1]
    rest = {"page_size": 20_000, "page_token": page["next_page_token"]}
    page = await page_of(world, "devices of a registry", registry, rest)
    assert (page["ids"], page["next_page_token"]) == (made[MAX_SIZE // 10_240 + 1 :], None)


def test_at_most_1000_items_are_read_for_a_page() -> None:
    assert [cursor(ListDevicesRequest(page_size=size)).limit for size in (0, 7, 1000, 20_000)] == [100, 7, 1000, 1000]


async def test_page_tokens_are_valid_for_their_own_list_only(world: World) -> None:
    registry, other = await world.registry(), await world.registry()
    for each in (registry, registry, other, other):
        await world.device(each)
    tokens = {}
    for kind in LISTS:
        tokens[kind] = (await page_of(world, kind, registry, {"page_size": 1}))["next_page_token"]
        assert (await page_of(world, kind, registry, {"page_token": tokens[kind]}))["ids"]
    for kind in LISTS:
        for foreign in tokens.keys() - {kind}:
            with pytest.raises(Invalid, match="page_token"):
                await page_of(world, kind, registry, {"page_token": tokens[foreign]})
    folder = (await world.admin("folder.create", name="another"))["id"]
    for kind in ("registries", "devices of a folder"):
        with pytest.raises(Invalid, match="page_token"):
            await page_of(world, kind, registry, {"page_token": tokens[kind]}, folder_id=folder)
    token = tokens["devices of a registry"]
    for scope, id in ((OURS, other), (ABROAD, registry), (THEIRS, registry)):
        with pytest.raises(Invalid, match="page_token"):
            await world.yandex("DeviceService.List", scope, registry_id=id, page_token=token)


async def test_resources_are_not_found_in_another_account(world: World) -> None:
    """The error is the same as for an id that does not exist."""
    registry = await world.registry(name="r")
    device = await world.device(registry, name="d")
    ours = {"registry_id": registry, "device_id": device, "folder_id": world.ours.folder}
    before = await world.yandex("DeviceService.Get", device_id=device)
    lists = [("DeviceService.List", {"registry_id": "are0"}), ("DeviceService.List", {"folder_id": "b1g0"})]
    for label, fields in [*GONE.items(), *lists]:
        if label.startswith("OperationService"):
            continue
        messages = []
        for given in (fields, fields | {name: ours[name] for name in fields if name in ours}):
            with pytest.raises(NotFound) as caught:
                await world.yandex(label, THEIRS, **given)
            messages.append(str(caught.value).replace(next(iter(given.values())), ""))
        assert messages[0] == messages[1]
    assert await world.yandex("DeviceService.Get", device_id=device) == before
