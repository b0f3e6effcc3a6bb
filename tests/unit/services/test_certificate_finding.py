"""Finding certificates by what a person knows of one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from tests.unit import vectors
from tests.unit.store.test_search_keys import der, pem_of
from tests.world import OURS, THEIRS
from thingmint.domain.arns import arn_of
from thingmint.domain.status import Status
from thingmint.services.certificate_finding import find_certificates
from thingmint.services.certificate_search import CertificateFilter, search_certificates
from thingmint.services.pages import Cursor

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope


async def found(world: World, text: str, scope: Scope = OURS) -> list[str]:
    rows = await world.read(lambda tx: find_certificates(tx, world.query(scope), text))
    return [each.registration.fingerprint for _, each in rows.certificates]


async def registered(world: World, name: str, scope: Scope = OURS) -> str:
    world.clock.advance(seconds=1)
    return await world.certificate(scope, vectors.certificate_pem(common_name=name))


async def test_every_form_in_which_a_person_has_it(world: World) -> None:
    id = await registered(world, "Pump-7")
    await registered(world, "Lamp-7")
    await world.aws("CreateThing", thingName="station-7")
    await world.aws("AttachThingPrincipal", thingName="station-7", principal=arn_of(OURS, id))
    ((_, row),) = (await world.read(lambda tx: find_certificates(tx, world.query(), id))).certificates
    serial = row.serial
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
        "p",
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
    for text in ("", " ", "ump", arn_of(THEIRS, id), "\0", "\ud800", "%", "_", "CN=", "Pump-7 x"):
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


async def test_beginnings_of_names_are_found_among_all_certificates(world: World) -> None:
    ids = {name: await registered(world, name) for name in ("pump-2", "Pump-1", "PUMP", "pumq", "lamp", "датчик Й")}
    assert await found(world, "pump") == [ids[name] for name in ("PUMP", "Pump-1", "pump-2")]
    assert await found(world, "p") == [ids[name] for name in ("PUMP", "Pump-1", "pump-2", "pumq")]
    assert await found(world, "PUMP-2") == [ids["pump-2"]]
    for text in ("ДАТЧИК", "cn=датчик", "датчик  и\u0306"):
        assert await found(world, text) == [ids["датчик Й"]], text
    result = await world.read(lambda tx: find_certificates(tx, world.query(), "pump", 2))
    assert (len(result.certificates), result.is_whole) == (2, False)
    result = await world.read(lambda tx: find_certificates(tx, world.query(), "pump", 3))
    assert (len(result.certificates), result.is_whole) == (3, True)


async def test_unusual_names_are_found(world: World) -> None:
    """Long ones are longer than the index has them; PostgreSQL refuses texts with U+0000 and long rows in an index."""
    long = "й" * 2000
    names = {
        ("\U0001f4a1" * 64,): ("\U0001f4a1", "\U0001f4a1" * 64),
        ("nul\0inside",): ("nul", "NUL"),
        (f"{long}1",): ("й", f"{long}1", f"{long.upper()}1"),
        ("first", "last"): ("last", "CN=first,CN=last", "LA"),
        ("\U0010ffff\U0010ffff",): ("\U0010ffff",),
        ("%",): ("%",),
    }
    ids = {}
    for number, several in enumerate([*names, ()], 1):
        ids[several] = await world.certificate(pem=pem_of(der(number, *several)))
    for several, texts in names.items():
        for text in texts:
            assert await found(world, text) == [ids[several]], text
            assert await found(world, text, THEIRS) == []
    for text in ("first", f"{long}2", f"{long}11", "\U0001f4a1" * 65, "_"):
        assert await found(world, text) == [], text
    everything = await world.read(
        lambda tx: search_certificates(tx, world.query(), Cursor(100), CertificateFilter(subject_prefix=" "))
    )
    assert {each.registration.fingerprint for each in everything.items} == {ids[several] for several in names}


async def test_a_filter_holds_for_whatever_finds_them(world: World) -> None:
    id, revoked = await registered(world, "pump-1"), await registered(world, "pump-2")
    await world.aws("UpdateCertificate", certificateId=revoked, newStatus="REVOKED")
    for each in (id, revoked):
        await world.aws("CreateThing", thingName=f"pump-{each[:8]}")
        await world.aws("AttachThingPrincipal", thingName=f"pump-{each[:8]}", principal=arn_of(OURS, each))
    wanted = CertificateFilter(status=Status.REVOKED)
    for text in ("pump", "cn=pump", f"pump-{revoked[:6]}", revoked[:8]):
        rows = await world.read(lambda tx, text=text: find_certificates(tx, world.query(), text, 9, wanted))  # type: ignore[misc]
        assert [each.registration.fingerprint for _, each in rows.certificates] == [revoked], text
    rows = await world.read(lambda tx: find_certificates(tx, world.query(), id[:8], 9, wanted))
    assert rows.certificates == []
