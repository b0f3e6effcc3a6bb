"""Data stream exports: their methods, the filters that they may have, and what is deleted with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.world import OURS, THEIRS, unpacked
from thingmint.domain.arns import Scope
from thingmint.domain.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound
from thingmint.services.export_queue import ExportMessage, first_messages, put_messages
from thingmint.services.jobs import JobRunner
from thingmint.yandex.contract.validation import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.world import World

ACCOUNT = Scope(OURS.account, "")


async def add(world: World, registry: str, scope: Scope = OURS, **fields: Any) -> Any:
    given = {"database": "/ru/b1g/etn", "stream": "s", "service_account_id": await account_id(world, scope)} | fields
    return await world.yandex("RegistryService.AddDataStreamExport", scope, registry_id=registry, **given)


async def added(world: World, registry: str, **fields: Any) -> str:
    return str(unpacked((await add(world, registry, **fields)).response).id)


async def account_id(world: World, scope: Scope = OURS) -> str:
    """The id of a service account."""
    rows = await world.rows(
        "SELECT id FROM principals WHERE account = $1 AND kind = 'service-account' ORDER BY id", scope.account
    )
    return str(rows[0][0])


async def listed(world: World, registry: str, scope: Scope = OURS) -> list[Any]:
    answer = await world.yandex("RegistryService.ListDataStreamExports", scope, registry_id=registry)
    return list(answer.data_stream_exports)


async def delete(world: World, registry: str, export: str) -> Any:
    return await world.yandex(
        "RegistryService.DeleteDataStreamExport", registry_id=registry, data_stream_export_id=export
    )


async def test_an_export_is_added_listed_and_deleted(world: World) -> None:
    registry = await world.registry()
    assert await listed(world, registry) == []
    await world.published()
    world.audit_resources()
    made = await add(world, registry, name="to-stream", mqtt_topic_filter="$devices/+/events/#")
    export, metadata = unpacked(made.response), unpacked(made.metadata)
    assert made.description == "Add data stream export"
    assert (metadata.registry_id, metadata.data_stream_export_id) == (registry, export.id)
    assert (export.name, export.registry_id, export.mqtt_topic_filter) == ("to-stream", registry, "$devices/+/events/#")
    assert (export.database, export.stream) == ("/ru/b1g/etn", "s")
    assert export.service_account_id == await account_id(world)
    assert export.created_at.ToDatetime() == world.clock().replace(tzinfo=None)
    assert await listed(world, registry) == [export]
    assert world.audit_resources() == [f"yandex:registry/{registry}"]
    assert await world.published(ACCOUNT) == [("export", registry)]
    gone = await delete(world, registry, export.id)
    assert gone.description == "Delete data stream export"
    assert unpacked(gone.metadata).data_stream_export_id == export.id
    assert await listed(world, registry) == []
    assert world.audit_resources() == [f"yandex:registry/{registry}"]
    assert await world.published(ACCOUNT) == [("export", registry)]
    with pytest.raises(NotFound):
        await delete(world, registry, export.id)


async def test_a_registry_has_one_export(world: World) -> None:
    registry = await world.registry()
    export = await added(world, registry)
    with pytest.raises(Conflict, match=export):
        await add(world, registry, stream="another")
    await delete(world, registry, export)
    assert await added(world, registry) != export


async def test_names_are_unique_in_a_folder(world: World) -> None:
    one, two, three = await world.registry(), await world.registry(), await world.registry()
    await added(world, one, name="same")
    with pytest.raises(AlreadyExists, match="same"):
        await add(world, two, name="same")
    await added(world, two)
    await added(world, three)  # names may be left out
    theirs = await world.registry(THEIRS)
    await add(world, theirs, THEIRS, name="same")


async def test_the_registry_and_the_service_account_have_to_exist(world: World) -> None:
    registry = await world.registry()
    theirs = await world.registry(THEIRS)
    users = await world.rows("SELECT id FROM principals WHERE kind = 'user' AND account = $1", OURS.account)
    for id in ("aje00000000000000000", users[0][0], await account_id(world, THEIRS)):
        with pytest.raises(NotFound, match="service account"):
            await add(world, registry, service_account_id=id)
    for missing in ("are00000000000000000", theirs):
        with pytest.raises(NotFound, match="registry"):
            await add(world, missing)
        with pytest.raises(NotFound, match="registry"):
            await listed(world, missing)
        with pytest.raises(NotFound, match="registry"):
            await delete(world, missing, "are00000000000000000")
    assert await world.count("data_stream_exports") == await world.count("export_queues") == 0


async def test_an_export_is_deleted_through_its_own_registry_only(world: World) -> None:
    one, two = await world.registry(), await world.registry()
    export = await added(world, one)
    with pytest.raises(NotFound, match="export"):
        await delete(world, two, export)
    assert len(await listed(world, one)) == 1


async def test_methods_are_authorized_on_the_registry(world: World) -> None:
    registry = await world.registry()
    export = await added(world, registry)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "AddDataStreamExport": lambda: add(world, registry),
        "ListDataStreamExports": lambda: listed(world, registry),
        "DeleteDataStreamExport": lambda: delete(world, registry, export),
    }
    for name, call in calls.items():
        world.denied = {f"yandex:RegistryService.{name}"}
        with pytest.raises(Denied):
            await call()
        assert world.asked[-1] == (f"yandex:RegistryService.{name}", f"yandex:registry/{registry}")


TAKEN = [
    "",
    "$devices/+/events",
    "$devices/+/events/#",
    "$devices/+/commands/a/+/c/#",
    "$devices/DEVICE/events",
    "$devices/DEVICE/commands/#",
    "$registries/REGISTRY/events/#",
    "$registries/+/commands",
    "$devices/+/events//",
]
REFUSED = [
    *("#", "+", "$devices", "$devices/#", "$devices/+", "$devices/+/#", "$devices/+/+", "$devices//events"),
    *("$devices/+/state", "$devices/+/config/#", "$devices/+/events#", "$devices/+/event", "$devices/+/Events"),
    *("devices/+/events", "$me/device/events", "$monitoring/+/json", "my/alias/events", "events"),
    *(
        "$devices/+/events/#/a",
        "$devices/+/events/a#",
        "$devices/+/events/+a",
        "$devices/a+/events",
        "$devices/#/events",
    ),
    *("$devices/+/events/\0", "$devices/are00000000000000000/events", "$registries/are00000000000000000/events"),
    *("$devices/THEIRS/events", "$devices/OTHER/events", "$devices/REGISTRY/events", "$registries/DEVICE/events"),
]


@pytest.fixture
async def ids(world: World) -> dict[str, str]:
    registry = await world.registry()
    other = await world.registry()
    return {
        "REGISTRY": registry,
        "DEVICE": await world.device(registry),
        "OTHER": await world.device(other),
        "THEIRS": await world.device(await world.registry(THEIRS), THEIRS),
    }


def with_ids(filter: str, ids: dict[str, str]) -> str:
    for name, id in ids.items():
        filter = filter.replace(name, id)
    return filter


async def test_filters_of_events_and_commands_are_taken(world: World, ids: dict[str, str]) -> None:
    for filter in TAKEN:
        await delete(
            world, ids["REGISTRY"], await added(world, ids["REGISTRY"], mqtt_topic_filter=with_ids(filter, ids))
        )


async def test_other_filters_are_refused(world: World, ids: dict[str, str]) -> None:
    for filter in REFUSED:
        with pytest.raises(Invalid) as refused:
            await add(world, ids["REGISTRY"], mqtt_topic_filter=with_ids(filter, ids))
        assert refused.value.field == "mqtt_topic_filter", filter


@pytest.mark.parametrize("field", ["database", "stream", "service_account_id"])
async def test_fields_that_are_missing_or_cannot_be_kept_are_refused(world: World, field: str) -> None:
    registry = await world.registry()
    with pytest.raises(InvalidRequest):
        await add(world, registry, OURS, **{field: ""})
    with pytest.raises(Invalid, match=field):
        await add(world, registry, OURS, **{field: "a\0b"})


async def test_an_export_is_deleted_with_its_registry(world: World) -> None:
    registry = await world.registry()
    await added(world, registry, name="n")
    await world.yandex("RegistryService.Delete", registry_id=registry)
    assert await world.count("data_stream_exports") == await world.count("export_queues") == 0
    await added(world, await world.registry(), name="n")


@pytest.mark.parametrize("count", [0, 99, 100, 350])
async def test_messages_are_deleted_with_their_export(world: World, count: int) -> None:
    registry = await world.registry()
    export = await added(world, registry)
    messages = [ExportMessage("", "$registries/r/events", b"x")] * count
    await world.write(lambda tx: put_messages(tx, export, messages, 10**9))
    assert await world.count("export_messages") == count
    await delete(world, registry, export)
    assert await world.count("export_messages") == max(0, count - 100)
    assert await world.read(lambda tx: first_messages(tx, export, 10)) == [], "those that are left are not sent"
    await JobRunner(world.store, world.clock).run_due()
    assert await world.count("export_messages") == await world.count("jobs") == 0
    await world.write(lambda tx: put_messages(tx, export, messages, 10**9))
    assert await world.count("export_messages") == 0, "a process that does not know of the deletion yet queues nothing"


async def test_a_repeated_call_has_the_same_export(world: World) -> None:
    registry = await world.registry()
    fields = {"database": "d", "stream": "s", "service_account_id": await account_id(world)}
    first, second = [
        await world.yandex("RegistryService.AddDataStreamExport", key="k", registry_id=registry, **fields)
        for _ in range(2)
    ]
    assert first == second
