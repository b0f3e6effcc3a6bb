"""Operations are recorded in the transaction of their change, and identical requests are executed once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit import vectors
from tests.world import OURS, THEIRS, unpacked
from thingmint.domain.certificates import parse_certificate
from thingmint.domain.errors import AlreadyExists, Conflict, Denied, Invalid, InvalidCertificate, NotFound
from thingmint.domain.keys import FLEET_KEYS
from thingmint.services.operations import RECORDED_OPERATIONS, delete_expired_operations, forget_idempotency_keys

if TYPE_CHECKING:
    from tests.world import World

WINDOW = timedelta(hours=24)


async def create(world: World, key: str | None = None, **given: Any) -> Any:
    """Create a registry, and return the Operation."""
    return await world.yandex("RegistryService.Create", key=key, **{"folder_id": world.ours.folder} | given)


async def operation(world: World, id: str, **call: Any) -> Any:
    return await world.yandex("OperationService.Get", operation_id=id, **call)


async def test_a_change_returns_its_operation(world: World) -> None:
    made = await create(world, principal="aje2")
    assert made.id.startswith("are")
    assert (made.description, made.created_by, made.done) == ("Create device registry", "aje2", True)
    assert made.created_at == made.modified_at
    assert made.created_at.ToDatetime() == world.clock().replace(tzinfo=None)
    assert made.WhichOneof("result") == "response"


CHANGES = {
    "RegistryService.Create": ("Create device registry", "CreateRegistryMetadata", "Registry"),
    "DeviceService.Create": ("Create device", "CreateDeviceMetadata", "Device"),
    "DeviceService.AddCertificate": ("Add device certificate", "AddDeviceCertificateMetadata", "DeviceCertificate"),
    "DeviceService.DeleteCertificate": ("Delete device certificate", "DeleteDeviceCertificateMetadata", "Empty"),
    "DeviceService.Delete": ("Delete device", "DeleteDeviceMetadata", "Empty"),
    "RegistryService.Delete": ("Delete device registry", "DeleteRegistryMetadata", "Empty"),
}


async def test_every_change_has_its_own_description_and_messages(world: World) -> None:
    registry, pem = await world.registry(), vectors.certificate_pem()
    device = await world.device(registry)
    certificate = parse_certificate(pem, "pem", FLEET_KEYS)[0]
    fields = {
        "RegistryService.Create": {"folder_id": world.ours.folder},
        "DeviceService.Create": {"registry_id": registry},
        "DeviceService.AddCertificate": {"device_id": device, "certificate_data": pem},
        "DeviceService.DeleteCertificate": {"device_id": device, "fingerprint": certificate.fingerprint},
        "DeviceService.Delete": {"device_id": device},
        "RegistryService.Delete": {"registry_id": await world.registry()},
    }
    made = {label: await world.yandex(label, **given) for label, given in fields.items()}
    assert {
        label: (each.description, *(packed.type_url.rpartition(".")[2] for packed in (each.metadata, each.response)))
        for label, each in made.items()
    } == CHANGES
    for label in ("DeviceService.Delete", "RegistryService.Delete"):
        assert {name: getattr(unpacked(made[label].metadata), name) for name in fields[label]} == fields[label]


@pytest.mark.parametrize("method", ["Get", "Cancel"])
async def test_an_operation_is_returned_unchanged_later(world: World, method: str) -> None:
    made = await create(world)
    assert await world.yandex(f"OperationService.{method}", operation_id=made.id) == made


async def test_an_operation_is_found_in_its_own_account_only(world: World) -> None:
    made = await create(world)
    with pytest.raises(NotFound, match=f"operation {made.id} does not exist"):
        await world.yandex("OperationService.Get", THEIRS, operation_id=made.id)


async def test_the_caller_can_read_its_operation_and_others_need_permission(world: World) -> None:
    made = await create(world)
    world.denied.add("yandex:OperationService.Get")
    assert await operation(world, made.id) == made
    with pytest.raises(Denied):
        await operation(world, made.id, principal="aje2")
    assert world.containers[-1] == (f"yandex:cloud/{OURS.account}",)
    world.denied.clear()
    assert await operation(world, made.id, principal="aje2") == made


async def test_times_of_operations_are_cut_to_milliseconds(world: World) -> None:
    world.clock.now = world.clock.now.replace(microsecond=123_999)
    made = await create(world)
    assert made.created_at.nanos == made.modified_at.nanos == 123_000_000
    assert unpacked(made.response).created_at.nanos == 123_999_000


async def test_a_refused_change_records_no_operation_and_no_key(world: World) -> None:
    registry = await world.registry()
    device = await world.device(registry)
    before = await world.count("operations")
    with pytest.raises(Conflict):
        await world.yandex("RegistryService.Delete", registry_id=registry, key="k")
    assert await world.count("operations") == before
    assert await world.count("idempotency_keys") == 0
    await world.yandex("DeviceService.Delete", device_id=device)
    await world.yandex("RegistryService.Delete", registry_id=registry, key="k")


async def test_a_change_is_rolled_back_if_its_operation_cannot_be_recorded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise TypeError("no")

    monkeypatch.setattr(RECORDED_OPERATIONS, "insert", fail)
    with pytest.raises(TypeError):
        await create(world)
    assert await world.count("registries") == 0


async def test_an_identical_request_is_executed_once(world: World) -> None:
    made = await create(world, "k")
    world.clock.advance(seconds=1)
    assert await create(world, "k") == made
    assert await world.count("registries") == 1


OTHERS: list[dict[str, Any]] = [{"key": None}, {"key": "l"}, {"key": "k", "principal": "aje2"}]


@pytest.mark.parametrize("other", OTHERS)
async def test_another_key_or_caller_is_another_request(world: World, other: dict[str, Any]) -> None:
    made = await create(world, "k")
    assert (await create(world, **other)).id != made.id
    assert await world.count("registries") == 2


async def test_another_method_is_another_request(world: World) -> None:
    registry = await world.registry()
    device = await world.device(registry, key="k")
    made = await world.yandex("DeviceService.Delete", device_id=device, key="k")
    assert made.description == "Delete device"


async def test_another_folder_is_another_request(world: World) -> None:
    await world.write(lambda tx: tx.execute("INSERT INTO folders VALUES ('b1g3', $1, 'n', 0)", OURS.account))
    made = await create(world, "k")
    assert (await create(world, "k", folder_id="b1g3")).id != made.id


async def test_other_content_under_the_same_key_is_refused(world: World) -> None:
    made = await create(world, "k")
    with pytest.raises(Invalid, match="idempotency_key"):
        await create(world, "k", name="n")
    assert await world.count("registries") == 1
    assert await create(world, "k") == made, "the first one is remembered still"


async def test_repeated_deletions_succeed(world: World) -> None:
    registry, pem = await world.registry(), vectors.certificate_pem()
    device = await world.device(registry, certificates=[{"certificate_data": pem}])
    fingerprint = parse_certificate(pem, "pem", FLEET_KEYS)[0].fingerprint
    for label, fields in (
        ("DeviceService.DeleteCertificate", {"device_id": device, "fingerprint": fingerprint}),
        ("DeviceService.Delete", {"device_id": device}),
        ("RegistryService.Delete", {"registry_id": registry}),
    ):
        made = await world.yandex(label, key="k", **fields)
        assert await world.yandex(label, key="k", **fields) == made
        with pytest.raises(NotFound):
            await world.yandex(label, key="l", **fields)


async def test_a_repeated_addition_succeeds_after_its_device_was_deleted(world: World) -> None:
    device = await world.device(await world.registry())
    fields = {"device_id": device, "certificate_data": vectors.certificate_pem()}
    made = await world.yandex("DeviceService.AddCertificate", key="k", **fields)
    await world.yandex("DeviceService.Delete", device_id=device)
    assert await world.yandex("DeviceService.AddCertificate", key="k", **fields) == made


async def test_a_repeated_creation_succeeds_after_its_registry_was_deleted(world: World) -> None:
    registry = await world.registry()
    made = await world.yandex("DeviceService.Create", registry_id=registry, key="k")
    await world.yandex("DeviceService.Delete", device_id=unpacked(made.metadata).device_id)
    await world.yandex("RegistryService.Delete", registry_id=registry)
    assert await world.yandex("DeviceService.Create", registry_id=registry, key="k") == made


@pytest.mark.parametrize(("later", "made"), [(WINDOW - timedelta(seconds=5), 1), (WINDOW, 2), (WINDOW * 3, 2)])
async def test_a_key_is_recognized_for_a_day(world: World, later: timedelta, made: int) -> None:
    first = await create(world, "k")
    world.clock.now += later
    for _ in range(2):
        await create(world, "k")
        assert await world.count("registries") == made
    assert await operation(world, first.id) == first, "operations themselves stay"


async def test_old_keys_are_deleted(world: World) -> None:
    for number in range(5):
        await create(world, f"k{number}")
    assert await world.count("idempotency_keys") == 5
    world.clock.now += WINDOW
    await create(world, "new")
    await forget_idempotency_keys(world.store, world.clock())
    assert await world.rows("SELECT key FROM idempotency_keys") == [("new",)]


async def test_concurrent_identical_requests_are_executed_once(world: World) -> None:
    made = await asyncio.gather(*(create(world, "k") for _ in range(50)))
    assert len({each.id for each in made}) == 1
    assert await world.count("registries") == 1


@pytest.mark.parametrize("key", ["", "x" * 257])
async def test_keys_have_1_to_256_characters(world: World, key: str) -> None:
    with pytest.raises(Invalid, match="idempotency_key"):
        await create(world, key)
    world.denied.add("yandex:RegistryService.Create")
    with pytest.raises(Denied):
        await create(world, key)
    world.denied.clear()
    assert (await create(world, "x" * 256)).done


async def test_reads_ignore_keys(world: World) -> None:
    registry = await world.registry()
    for key in ("k", "k", "x" * 1000):
        assert (await world.yandex("RegistryService.Get", registry_id=registry, key=key)).id == registry


async def test_a_repeated_request_parses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    device = await world.device(await world.registry())
    fields = {"device_id": device, "certificate_data": vectors.certificate_pem()}
    made = await world.yandex("DeviceService.AddCertificate", key="k", **fields)
    monkeypatch.setattr("thingmint.yandex.operations.owners.parse_submitted", None)
    assert await world.yandex("DeviceService.AddCertificate", key="k", **fields) == made


async def test_the_input_of_unauthorized_callers_is_not_parsed(world: World) -> None:
    world.denied.add("yandex:DeviceService.AddCertificate")
    with pytest.raises(Denied):
        await world.yandex("DeviceService.AddCertificate", device_id="are0", certificate_data="nothing")


async def test_a_pending_operation_has_metadata_and_later_a_response(world: World) -> None:
    world.pending = timedelta(seconds=5)
    made = await create(world, "k", name="r")
    assert not made.done
    assert made.WhichOneof("result") is None
    registry = unpacked(made.metadata).registry_id
    assert (await world.yandex("RegistryService.Get", registry_id=registry)).name == "r"
    world.clock.advance(seconds=4.999)
    assert await operation(world, made.id) == await create(world, "k", name="r") == made
    world.clock.advance(seconds=0.001)
    finished = await operation(world, made.id)
    assert finished == await create(world, "k", name="r")
    assert (finished.done, unpacked(finished.response).id) == (True, registry)
    assert finished.modified_at == made.modified_at


async def test_with_pending_operations_a_refused_change_is_an_operation(world: World) -> None:
    await create(world, name="taken")
    world.pending = timedelta(seconds=5)
    world.audit_resources()
    made = await create(world, "k", name="taken")
    assert (made.done, made.WhichOneof("result")) == (False, None)
    assert unpacked(made.metadata).registry_id.startswith("are")
    world.clock.advance(seconds=5)
    failed = await operation(world, made.id)
    assert (failed.done, failed.error.code) == (True, 6)
    assert failed.error.message == "registry taken already exists"
    assert [unpacked(detail).request_id for detail in failed.error.details] == ["r"]
    assert failed.WhichOneof("result") == "error"
    assert await create(world, "k", name="taken") == failed, "its key is used up"
    assert await world.count("registries") == 1
    assert world.audit_resources() == []


async def test_with_pending_operations_invalid_requests_are_refused_immediately(
    world: World,
) -> None:
    world.pending = timedelta(seconds=5)
    await create(world, "k")
    add = {"device_id": "are0", "certificate_data": vectors.certificate_pem()}
    with pytest.raises(InvalidCertificate):
        await world.yandex("DeviceService.AddCertificate", **add | {"certificate_data": "nothing"})
    with pytest.raises(Invalid, match="idempotency_key"):
        await create(world, "k", name="n")
    world.denied.add("yandex:DeviceService.AddCertificate")
    with pytest.raises(Denied):
        await world.yandex("DeviceService.AddCertificate", **add)
    assert await world.count("operations") == 1


async def test_refusals_for_two_unknown_ids_can_share_a_key(world: World) -> None:
    """The folders of unknown ids are not known, so the content of the requests tells them apart."""
    world.pending = timedelta(seconds=5)
    made = [await world.yandex("DeviceService.Delete", device_id=f"are{n}", key="k") for n in (1, 2)]
    assert made[0].id != made[1].id
    assert [unpacked(each.metadata).device_id for each in made] == ["are1", "are2"]
    assert await world.yandex("DeviceService.Delete", device_id="are1", key="k") == made[0]


async def test_without_pending_operations_a_refused_change_is_an_error(world: World) -> None:
    await create(world, name="taken")
    with pytest.raises(AlreadyExists):
        await create(world, name="taken")


async def test_operations_are_kept_for_thirty_days(world: World) -> None:
    first = await create(world)
    world.clock.advance(seconds=1)
    second = await create(world)
    world.clock.advance(days=30, seconds=-1)
    await delete_expired_operations(world.store, world.clock())
    with pytest.raises(NotFound):
        await operation(world, first.id)
    assert await operation(world, second.id) == second
    world.clock.advance(seconds=1)
    await delete_expired_operations(world.store, world.clock())
    assert await world.count("operations") == 0
