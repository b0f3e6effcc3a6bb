"""Folders, registries, brokers and devices of Yandex IoT Core as items of an import."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.importing.aws.imports import CREATED, Imports, outcomes
from tests.world import THEIRS
from tests.yandex_exports import certificate_pem
from thingmint.domain.errors import Conflict, Invalid, LimitExceeded, NotFound
from thingmint.domain.ids import FOLDER, IOT, new_id
from thingmint.services import imports as kept
from thingmint.services.imports import forget_old_imports
from thingmint.services.password_hashing import new_password, sha256
from thingmint.services.quotas import Quotas, begin_counting

if TYPE_CHECKING:
    from tests.world import World

pem_of = functools.cache(certificate_pem)  # its signatures are random
FOLDER_ID, REGISTRY = new_id(FOLDER), new_id(IOT)


def folder(id: str = FOLDER_ID) -> dict[str, Any]:
    return {"kind": "folder", "id": id}


def registry(id: str = REGISTRY, **further: Any) -> dict[str, Any]:
    return {"kind": "registry", "id": id, "folder": FOLDER_ID, "name": f"r-{id}", "created_at": CREATED, **further}


def device(name: str, id: str | None = None, **further: Any) -> dict[str, Any]:
    item = {"kind": "device", "id": id or new_id(IOT), "registry": REGISTRY, "name": name, "created_at": CREATED}
    return {**item, "certificates": [], **further}


def certified(name: str, *numbers: int, **further: Any) -> dict[str, Any]:
    certificates = [{"pem": pem_of(number), "created_at": CREATED} for number in numbers]
    return device(name, certificates=certificates, **further)


@pytest.fixture
async def imports(world: World) -> Imports:
    started = Imports(world)
    await started.add(folder(), registry())
    return started


@pytest.mark.sqlite
async def test_the_lookup_of_names_does_not_read_the_registry(imports: Imports) -> None:
    imports.world.store.statements.clear()
    await imports.add(*(certified(f"d-{number}", number) for number in range(3)))
    plans = await imports.world.query_plans()
    (plan,) = (plan for sql, plan in plans.items() if "SELECT name, id FROM devices" in sql)
    assert plan == ["SEARCH devices USING INDEX devices_by_name (registry=? AND name=?)"]


async def test_a_certificate_that_is_registered_keeps_its_status(imports: Imports) -> None:
    world = imports.world
    active, inactive = pem_of(1), pem_of(2)
    for pem, status in ((active, "ACTIVE"), (inactive, "INACTIVE")):
        await world.aws("RegisterCertificateWithoutCA", certificatePem=pem, status=status)
    await imports.add(certified("d", 1, 2, 3))
    rows = await world.rows(
        "SELECT r.status, r.made_by_binding FROM bindings AS b "
        "JOIN registrations AS r ON r.certificate = b.certificate ORDER BY r.status, r.made_by_binding"
    )
    assert rows == [("ACTIVE", 0), ("ACTIVE", 1), ("INACTIVE", 0)]


async def test_certificates_of_others(imports: Imports, world: World) -> None:
    one, two = certified("one", 1), certified("two", 1, 2)
    results = await imports.add(one, two)  # in one batch
    assert outcomes(results) == [
        ("device", "new"), ("certificate", "new"),
        ("device", "new"), ("certificate", "conflict"), ("certificate", "new"),
    ]  # fmt: skip
    assert one["id"] in results[3].reason
    third = await imports.add(certified("three", 2))
    assert outcomes(third) == [("device", "new"), ("certificate", "conflict"), ("device", "noted")]
    theirs = Imports(world, THEIRS.account)
    await theirs.add(folder(new_id(FOLDER)))
    assert outcomes(await theirs.add(one)) == [("device", "conflict")]
    assert await world.count("bindings") == 2


async def test_names_and_aliases_within_a_batch(imports: Imports) -> None:
    def aliased(name: str, alias: str) -> dict[str, Any]:
        id = new_id(IOT)
        return device(name, id, topic_aliases={alias: f"$devices/{id}/events"})

    results = await imports.add(
        aliased("one", "a/b"), aliased("two", "a/bc"), aliased("three", "a"), aliased("four", "b"), device("one")
    )
    about = [(each.kind, each.outcome) for each in results if each.outcome != "noted"]
    assert about == [("device", outcome) for outcome in ("new", "conflict", "conflict", "new", "conflict")]


async def test_the_limit_of_certificates(imports: Imports) -> None:
    results = await imports.add(certified("many", *range(52)))
    counts = [outcome for kind, outcome in outcomes(results) if kind == "certificate"]
    assert (counts.count("new"), counts.count("refused")) == (50, 2)
    ((bound,),) = await imports.world.rows("SELECT bound FROM binding_counts")
    assert bound == 50


async def test_quotas_end_the_batch(imports: Imports) -> None:
    world = imports.world
    world.environment = replace(world.environment, quotas=Quotas(devices=2))
    await begin_counting(world.store, world.environment.quotas)
    with pytest.raises(LimitExceeded):
        await imports.add(*(certified(f"d-{number}", number) for number in range(3)))
    assert (await world.count("devices"), await world.count("certificates")) == (0, 0)
    await imports.add(certified("one", 1), certified("two", 2))


async def test_passwords_must_be_ones_that_cannot_be_guessed(imports: Imports) -> None:
    chosen, made = device("chosen", password="Correct-password-1"), device("made", password=new_password())
    results = await imports.add(chosen, made)
    assert outcomes(results) == [("device", "refused"), ("device", "new")]
    assert chosen["password"] not in results[0].reason
    rows = await imports.world.rows("SELECT owner, hash FROM passwords")
    assert rows == [(made["id"], sha256(made["id"], made["password"]))]


async def test_the_place_of_an_import(imports: Imports) -> None:
    world, importer = imports.world, imports.importer
    with pytest.raises(Conflict, match="Another process"):
        await importer.apply(id=imports.id, after={"n": 17}, place={"n": 18}, items=[device("late")])
    with pytest.raises(Invalid, match="kind"):
        await imports.add({"kind": "ship"})
    with pytest.raises(NotFound):
        await importer.findings(id="no id")
    assert await world.count("devices") == 0
    again = await importer.start(source="aws", origin="AWS", identity="items")
    assert (again["id"], again["continued"], again["place"]) == (imports.id, True, imports.place)
    await importer.finish(id=imports.id)
    with pytest.raises(Conflict):
        await imports.add(device("late"))
    assert not (await importer.start(source="aws", origin="AWS", identity="items"))["continued"]


async def test_a_dry_run_changes_nothing(imports: Imports) -> None:
    before = imports.world.dump()
    results = await imports.add(folder(new_id(FOLDER)), registry(new_id(IOT)), certified("one", 1), dry_run=True)
    assert outcomes(results) == [
        ("folder", "new"), ("registry", "new"), ("device", "new"), ("certificate", "new")
    ]  # fmt: skip
    assert imports.world.dump() == before


async def test_findings_are_kept_up_to_a_limit_and_forgotten(imports: Imports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAX_KEPT", 3)
    await imports.add(*(device(f"d-{number}") for number in range(5)))  # each is noted: it has no certificate
    (shown,) = await imports.importer.all()
    assert (shown["findings"], shown["counts"]["device.noted"]) == (5, 5)
    findings = await imports.importer.findings(id=imports.id)
    assert [finding["number"] for finding in findings] == [1, 2, 3]
    assert len(await imports.importer.findings(id=imports.id, after=2)) == 1
    world = imports.world
    await forget_old_imports(world.store, world.clock())
    assert await world.count("import_findings") == 3
    monkeypatch.setattr(kept, "_KEEP", kept._KEEP * -1)
    await forget_old_imports(world.store, world.clock())
    assert (await world.count("import_findings"), await world.count("imports")) == (0, 0)
    assert await world.count("devices") == 5
