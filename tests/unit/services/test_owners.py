"""Devices, registries and brokers of Yandex IoT Core: the methods that all kinds of owners have, and disabling."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.unit import vectors
from tests.world import THEIRS, unpacked
from thingmint.domain.certificates import parse_certificate
from thingmint.domain.errors import AlreadyExists, Denied, Invalid, LimitExceeded, NotFound
from thingmint.domain.keys import FLEET_KEYS
from thingmint.services.quotas import Quotas

if TYPE_CHECKING:
    from tests.world import World


class Kind(NamedTuple):
    """How the methods of one kind of owner are called."""

    noun: str
    service: str
    plural: str
    parent: str

    async def new(self, world: World, **fields: Any) -> str:
        if self.noun == "device":
            registry = fields.pop("registry_id", None) or await world.registry()
            return await world.device(registry, **fields)
        world.clock.advance(seconds=1)
        folder = fields.pop("folder_id", world.ours.folder)
        made = await world.yandex(f"{self.service}.Create", folder_id=folder, **fields)
        return str(getattr(unpacked(made.metadata), f"{self.noun}_id"))

    async def call(self, world: World, method: str, id: str, *scope: Any, **fields: Any) -> Any:
        return await world.yandex(f"{self.service}.{method}", *scope, **{f"{self.noun}_id": id}, **fields)

    async def get(self, world: World, id: str) -> Any:
        return await self.call(world, "Get", id)

    async def parent_of(self, world: World, id: str) -> dict[str, str]:
        return {self.parent: getattr(await self.get(world, id), self.parent)}


KINDS = [
    Kind("device", "DeviceService", "devices", "registry_id"),
    Kind("registry", "RegistryService", "registries", "folder_id"),
    Kind("broker", "BrokerService", "brokers", "folder_id"),
]
IN_FOLDERS = KINDS[1:]

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
each_in_folder = pytest.mark.parametrize("kind", IN_FOLDERS, ids=lambda kind: kind.noun)


def mask(*paths: str) -> dict[str, Any]:
    return {"update_mask": {"paths": list(paths)}}


def fingerprint_of(pem: str) -> str:
    return parse_certificate(pem, "pem", FLEET_KEYS)[0].fingerprint


FULL: dict[str, Any] = {"name": "before", "description": "old", "labels": {"a": "1", "b": "2"}}


@each_kind
async def test_an_update_with_a_mask_changes_only_what_it_names(world: World, kind: Kind) -> None:
    id = await kind.new(world, **FULL)
    before = await kind.get(world, id)
    world.audit_resources()
    made = await kind.call(world, "Update", id, **mask("description"), name="x", description="new", labels={"c": "3"})
    after = unpacked(made.response)
    assert (after.name, after.description, dict(after.labels)) == ("before", "new", FULL["labels"])
    assert (after.id, after.created_at) == (before.id, before.created_at)
    assert await kind.get(world, id) == after
    assert world.audit_resources() == [f"yandex:{kind.noun}/{id}"]
    title = f"Update{kind.noun.title()}Metadata"
    assert made.metadata.type_url.endswith(title)
    assert getattr(unpacked(made.metadata), f"{kind.noun}_id") == id


@each_kind
async def test_a_field_that_the_mask_names_and_that_is_not_sent_becomes_empty(world: World, kind: Kind) -> None:
    id = await kind.new(world, **FULL)
    await kind.call(world, "Update", id, **mask("labels", "description"))
    after = await kind.get(world, id)
    assert (after.name, after.description, dict(after.labels)) == ("before", "", {})


@each_kind
async def test_an_update_without_a_mask_sets_every_field(world: World, kind: Kind) -> None:
    id = await kind.new(world, **FULL)
    await kind.call(world, "Update", id, name="after")
    after = await kind.get(world, id)
    assert (after.name, after.description, dict(after.labels)) == ("after", "", {})


@each_in_folder
async def test_log_options_are_updated(world: World, kind: Kind) -> None:
    id = await kind.new(world, log_options={"folder_id": "b1g"})
    for path in ("log_options", "logOptions"):
        await kind.call(world, "Update", id, **mask(path), log_options={"log_group_id": path.lower(), "disabled": True})
        options = (await kind.get(world, id)).log_options
        assert (options.folder_id, options.log_group_id, options.disabled) == ("", path.lower(), True)
    await kind.call(world, "Update", id, **mask("name"), name="n")
    assert (await kind.get(world, id)).log_options.disabled
    await kind.call(world, "Update", id)
    assert not (await kind.get(world, id)).HasField("log_options")


@each_kind
@pytest.mark.parametrize(
    "path", ["", "id", "created_at", "labels.a", "status", "certificates", "update_mask", "x" * 999]
)
async def test_an_update_of_another_field_is_refused(world: World, kind: Kind, path: str) -> None:
    id = await kind.new(world, **FULL)
    for paths in ([path], ["name", path], [f"{kind.noun}_id"]):
        with pytest.raises(
            Invalid, match=r"^update_mask names what cannot be updated; it may name description, "
        ) as error:
            await kind.call(world, "Update", id, **mask(*paths), name="x")
        assert error.value.field == "update_mask"
    assert (await kind.get(world, id)).name == "before"


@each_kind
async def test_an_update_cannot_take_a_name_that_another_one_has(world: World, kind: Kind) -> None:
    first = await kind.new(world, name="a")
    second = await kind.new(world, **await kind.parent_of(world, first), name="b")
    with pytest.raises(AlreadyExists, match=f"{kind.noun} a already exists"):
        await kind.call(world, "Update", second, **mask("name"), name="a")
    await kind.call(world, "Update", second, **mask("name"), name="b")
    for id in (first, second):  # several may have no name
        await kind.call(world, "Update", id, **mask("name"))
    await kind.call(world, "Update", second, **mask("name"), name="a")


@each_kind
async def test_owners_that_are_not_there_cannot_be_updated(world: World, kind: Kind) -> None:
    id = await kind.new(world)
    with pytest.raises(NotFound):
        await kind.call(world, "Update", id, THEIRS, name="x")
    with pytest.raises(NotFound):
        await kind.call(world, "Update", "are00000000000000000", name="x")


async def test_topic_aliases_are_replaced_as_a_whole(world: World) -> None:
    registry = await world.registry()
    device, other = await world.device(registry, topic_aliases={"a/": "$devices/{id}/"}), await world.device(registry)
    for path in ("topic_aliases", "topicAliases"):
        given = {f"{path}/": "$devices/{id}/state"}
        await world.yandex("DeviceService.Update", device_id=device, **mask(path), topic_aliases=given)
        found = await world.yandex("DeviceService.Get", device_id=device)
        assert dict(found.topic_aliases) == {f"{path}/": f"$devices/{device}/state"}
    # What it had before is free for another one; what it has now is not.
    await world.yandex("DeviceService.Update", device_id=other, topic_aliases={"a/": "$devices/{id}/events"})
    with pytest.raises(AlreadyExists, match="topic alias"):
        await world.yandex("DeviceService.Update", device_id=other, topic_aliases={"topicA": "$devices/{id}/events"})
    assert set((await world.yandex("DeviceService.Get", device_id=other)).topic_aliases) == {"a/"}
    # A longer alias of its own may take the place of a shorter one.
    await world.yandex("DeviceService.Update", device_id=other, topic_aliases={"a/b": "$devices/{id}/events"})
    with pytest.raises(Invalid, match="topics of the device itself"):
        await world.yandex("DeviceService.Update", device_id=other, topic_aliases={"c": f"$devices/{device}/events"})
    await world.yandex("DeviceService.Delete", device_id=other)
    await world.yandex("DeviceService.Update", device_id=device, topic_aliases={"a/b/c": "$devices/{id}/events"})


async def test_the_aliases_of_a_registry_are_listed_in_pages(world: World) -> None:
    registry, expected = await world.registry(), []
    for name in "bca":
        given = {f"{name}{n}": f"$devices/{{id}}/{n}" for n in range(3)}
        device = await world.device(registry, topic_aliases=given)
        expected += [(f"{name}{n}", device, f"$devices/{device}/{n}") for n in range(3)]
    await world.device(await world.registry(), topic_aliases={"other": "$devices/{id}/events"})
    found, token = [], ""
    while True:
        page = await world.yandex(
            "RegistryService.ListDeviceTopicAliases", registry_id=registry, page_size=4, page_token=token
        )
        found += [(each.alias, each.device_id, each.topic_prefix) for each in page.aliases]
        token = page.next_page_token
        if not token:
            break
    assert found == sorted(expected)


@each_in_folder
async def test_a_broker_is_made_and_listed_as_a_registry_is(world: World, kind: Kind) -> None:
    pem = vectors.certificate_pem()
    first = await kind.new(world, **FULL, certificates=[{"certificate_data": pem}], log_options={"folder_id": "f"})
    second = await kind.new(world)
    made = await kind.get(world, first)
    assert (made.folder_id, made.name, made.log_options.folder_id, made.status) == (world.ours.folder, "before", "f", 2)
    for size, expected in ((1, [[first], [second]]), (2, [[first, second]])):
        token, found = "", []
        for _ in expected:
            page = await world.yandex(
                f"{kind.service}.List", folder_id=world.ours.folder, page_size=size, page_token=token
            )
            found.append([each.id for each in getattr(page, kind.plural)])
            token = page.next_page_token
        assert (found, token) == (expected, "")
    await kind.call(world, "Delete", first)
    with pytest.raises(NotFound):
        await kind.get(world, first)
    assert await world.count("bindings") == 0
    with pytest.raises(NotFound, match="folder"):
        await kind.new(world, folder_id="b1g00000000000000000")


@each_in_folder
async def test_there_may_be_so_many_of_a_kind_in_a_folder(world: World, kind: Kind) -> None:
    world.environment = replace(world.environment, quotas=Quotas(**{kind.plural: 1}))
    await kind.new(world)
    with pytest.raises(LimitExceeded):
        await kind.new(world)


@each_kind
async def test_certificates_are_added_listed_and_deleted(world: World, kind: Kind) -> None:
    id, pems = await kind.new(world), [vectors.certificate_pem() for _ in range(2)]
    for pem in pems:
        world.clock.advance(seconds=1)
        made = await kind.call(world, "AddCertificate", id, certificate_data=pem)
        assert made.description == f"Add {kind.noun} certificate"
        assert unpacked(made.metadata).fingerprint == unpacked(made.response).fingerprint == fingerprint_of(pem)
    listed = (await kind.call(world, "ListCertificates", id)).certificates
    assert [each.certificate_data for each in listed] == pems
    assert {getattr(each, f"{kind.noun}_id") for each in listed} == {id}
    for other in KINDS:
        with pytest.raises(AlreadyExists):
            await other.call(world, "AddCertificate", await other.new(world), certificate_data=pems[0])
    await kind.call(world, "DeleteCertificate", id, fingerprint=fingerprint_of(pems[0]))
    assert len((await kind.call(world, "ListCertificates", id)).certificates) == 1
    with pytest.raises(NotFound):
        await kind.call(world, "DeleteCertificate", id, fingerprint=fingerprint_of(pems[0]))


@each_kind
async def test_the_operations_of_an_owner_are_listed_the_newest_first(world: World, kind: Kind) -> None:
    id = await kind.new(world, name="a")
    for name in "bcd":
        world.clock.advance(seconds=1)
        await kind.call(world, "Update", id, name=name)
    await kind.new(world)
    token, found = "", []
    while True:
        page = await kind.call(world, "ListOperations", id, page_size=3, page_token=token)
        found += page.operations
        token = page.next_page_token
        if not token:
            break
    assert [each.description.replace("device registry", "registry") for each in found] == [
        *[f"Update {kind.noun}"] * 3,
        f"Create {kind.noun}",
    ]
    assert [unpacked(each.response).name for each in found] == ["d", "c", "b", "a"]
    assert await world.yandex("OperationService.Get", operation_id=found[0].id) == found[0]
    with pytest.raises(NotFound):
        await kind.call(world, "ListOperations", id, THEIRS)
    world.denied.add(f"yandex:{kind.service}.ListOperations")
    with pytest.raises(Denied):
        await kind.call(world, "ListOperations", id)


async def test_a_registry_is_found_by_its_name(world: World) -> None:
    registry = await world.registry(name="r")
    await world.registry(THEIRS, name="theirs")
    folder = world.ours.folder
    found = await world.yandex("RegistryService.GetByName", folder_id=folder, registry_name="r")
    assert found == await world.yandex("RegistryService.Get", registry_id=registry)
    with pytest.raises(NotFound, match="registry theirs does not exist"):
        await world.yandex("RegistryService.GetByName", folder_id=folder, registry_name="theirs")
    with pytest.raises(NotFound, match="folder"):
        await world.yandex("RegistryService.GetByName", THEIRS, folder_id=folder, registry_name="r")


async def test_a_registry_is_disabled_and_enabled(world: World) -> None:
    registry = await world.registry(name="r", labels={"a": "b"})
    device = await world.device(registry)
    for method, status in (("Disable", 4), ("Disable", 4), ("Enable", 2), ("Enable", 2)):
        world.audit_resources()
        made = await world.yandex(f"RegistryService.{method}", registry_id=registry)
        found = unpacked(made.response)
        assert (found.status, found.name, dict(found.labels)) == (status, "r", {"a": "b"})
        assert made.metadata.type_url.endswith(f"{method}RegistryMetadata")
        assert unpacked(made.metadata).registry_id == registry
        assert await world.yandex("RegistryService.Get", registry_id=registry) == found
        assert world.audit_resources() == [f"yandex:registry/{registry}"]
        assert (await world.yandex("DeviceService.Get", device_id=device)).status == 2, "devices have no such status"
    with pytest.raises(NotFound):
        await world.yandex("RegistryService.Disable", THEIRS, registry_id=registry)


async def test_an_update_keeps_a_registry_disabled(world: World) -> None:
    registry = await world.registry()
    await world.yandex("RegistryService.Disable", registry_id=registry)
    await world.yandex("RegistryService.Update", registry_id=registry, name="n")
    assert (await world.yandex("RegistryService.Get", registry_id=registry)).status == 4
