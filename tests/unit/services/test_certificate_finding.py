"""Finding certificates by what a person knows of one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from tests.unit import vectors
from tests.world import OURS, THEIRS
from thingmint.domain.arns import arn_of
from thingmint.services import certificate_finding
from thingmint.services.certificate_finding import find_certificates

if TYPE_CHECKING:
    import pytest

    from tests.world import World
    from thingmint.domain.arns import Scope


async def found(world: World, text: str, scope: Scope = OURS) -> list[str]:
    rows = await world.read(lambda tx: find_certificates(tx, world.query(scope), text))
    return [each.registration.fingerprint for _, each in rows]


async def registered(world: World, name: str, scope: Scope = OURS) -> str:
    world.clock.advance(seconds=1)
    return await world.certificate(scope, vectors.certificate_pem(common_name=name))


async def test_every_form_in_which_a_person_has_it(world: World) -> None:
    id = await registered(world, "Pump-7")
    await registered(world, "Lamp-7")
    await world.aws("CreateThing", thingName="station-7")
    await world.aws("AttachThingPrincipal", thingName="station-7", principal=arn_of(OURS, id))
    (row,) = await world.read(lambda tx: find_certificates(tx, world.query(), id))
    serial = row[1].serial
    assert serial is not None
    colons = ":".join(id[at : at + 2] for at in range(0, 64, 2))
    for text in (
        id,
        id[:4],
        id.upper(),
        colons,
        f"{id[:12]}\N{HORIZONTAL ELLIPSIS}",
        f"{id[:12]}...",
        arn_of(OURS, id),
        serial,
        str(int(serial, 16)),
        "Pump-7",
        "pump-7",
        "PUMP",
        "pu",
        "CN=Pump-7",
        "cn = pump",
        "O=Plant, CN=Pump-7",
        "/O=Plant/CN=Pump-7",
        "station-7",
        "stat",
        "  station-7 ",
    ):
        assert await found(world, text) == [id], text
        assert await found(world, text, THEIRS) == [], text
    for text in ("", " ", "p", "ump", arn_of(THEIRS, id), "\0", "\ud800", "%", "_", "CN=", "Pump-7 x"):
        assert await found(world, text) == [], text


async def test_the_name_of_a_yandex_device_or_registry(world: World) -> None:
    registry = await world.registry(name="greenhouse")
    device = await world.device(registry, name="lamp-7")
    ids = []
    for owner, kind in ((registry, "Registry"), (device, "Device")):
        pem = vectors.certificate_pem(common_name=kind, not_after=vectors.NOW + timedelta(days=9))
        await world.yandex(f"{kind}Service.AddCertificate", **{f"{kind.lower()}_id": owner}, certificate_data=pem)
        ((listed,),) = await world.shown(
            "SELECT c.fingerprint FROM bindings AS b JOIN certificates AS c ON c.id = b.certificate WHERE b.owner = $1",
            owner,
        )
        ids.append(listed)
    assert await found(world, "greenhouse") == [ids[0]]
    assert await found(world, "lamp-7") == [ids[1]]
    assert await found(world, device) == [ids[1]]
    assert await found(world, "lamp-7", THEIRS) == []


async def test_beginnings_of_names_are_looked_for_among_the_newest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate_finding, "NEWEST", 2)
    ids = [await registered(world, f"pump-{number}") for number in range(3)]
    assert await found(world, "pump") == ids[:0:-1]
    assert await found(world, "pump-0") == ids[:1]
    assert await found(world, "PUMP-2") == ids[2:]
    assert await found(world, "pUmp-0") == ids[:1]
