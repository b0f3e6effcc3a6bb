"""AWS IoT's operations on certificates: issuing, registering, statuses, lists and deletion."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.unit import vectors
from tests.world import ABROAD, FINGERPRINT, OURS, THEIRS, THIS_CERTIFICATE, new_world, pages
from thingmint.domain.arns import Scope
from thingmint.domain.certificates import parse_certificate
from thingmint.domain.errors import (
    AlreadyExists,
    Conflict,
    DomainError,
    Invalid,
    InvalidCertificate,
    InvalidState,
    NotFound,
)
from thingmint.domain.keys import OWN_KEYS
from thingmint.domain.status import Status
from thingmint.services.certificate_contents import drop_content
from thingmint.services.certificates import REGISTRATIONS, update_status, was_revoked
from thingmint.store.engine import ForeignKeyViolated, KeyTaken
from thingmint.store.table import fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.world import World

UNKNOWN = "0" * 64
CA = "c" * 64
PEM = vectors.certificate_pem()
ID = parse_certificate(PEM, "pem", OWN_KEYS)[0].fingerprint
PRIVATE = vectors.cheap_key_pair().private_pem
POLICY = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}}'
CSR = {"certificateSigningRequest": vectors.csr_pem()}
SCOPES = (OURS, ABROAD, THEIRS)


async def register(world: World, scope: Scope = OURS, pem: str = PEM, status: str = "INACTIVE") -> str:
    """Register a certificate, and return its id."""
    made = await world.aws("RegisterCertificateWithoutCA", scope, certificatePem=pem, status=status)
    id: str = made["certificateId"]
    return id


async def describe(world: World, id: str, scope: Scope = OURS) -> dict[str, Any]:
    described: dict[str, Any] = (await world.aws("DescribeCertificate", scope, certificateId=id))[
        "certificateDescription"
    ]
    return described


async def update(world: World, id: str, status: str, scope: Scope = OURS) -> None:
    await world.aws("UpdateCertificate", scope, certificateId=id, newStatus=status)


async def delete(world: World, id: str, scope: Scope = OURS, **members: Any) -> None:
    await world.aws("DeleteCertificate", scope, certificateId=id, **members)


async def force_status(world: World, id: str, status: Status) -> None:
    """Set a status, also one that callers cannot set."""
    current = await world.read(lambda tx: REGISTRATIONS.get(tx, *OURS, id))
    await world.write(lambda tx: REGISTRATIONS.update(tx, replace(current, status=status)))


def arn_of(id: str, scope: Scope = OURS) -> str:
    return f"arn:aws:iot:{scope.region}:{scope.account}:cert/{id}"


async def attach_thing(world: World, id: str, scope: Scope = OURS) -> None:
    await world.aws("CreateThing", scope, thingName="t")
    await world.aws("AttachThingPrincipal", scope, thingName="t", principal=arn_of(id, scope))


async def attach_policies(world: World, id: str, *names: str, scope: Scope = OURS) -> None:
    for name in names:
        with contextlib.suppress(AlreadyExists):
            await world.aws("CreatePolicy", scope, policyName=name, policyDocument=POLICY)
        await world.aws("AttachPolicy", scope, policyName=name, target=arn_of(id, scope))


async def attached_policies(world: World) -> list[Any]:
    return await world.shown(f"SELECT {FINGERPRINT}, policy FROM device_policy_attachments ORDER BY 1, 2")


async def other_content(world: World) -> None:
    """Store the content of a CA certificate with the id 1."""
    await world.execute("INSERT INTO certificates VALUES (1, $1, $1, 0, 0)", bytes.fromhex(CA))


async def revoked_certificates(world: World, scope: Scope = OURS) -> list[Any]:
    columns = f"fingerprint, {fingerprint_of('ca')}, serial, revoked_at"
    rows = f"SELECT {columns} FROM revoked_certificates WHERE account = $1 AND region = $2"
    return await world.shown(rows, *scope)


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# -- registering --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["ACTIVE", "INACTIVE", "REVOKED", None])
async def test_a_registered_certificate_is_described_as_given(world: World, status: str | None) -> None:
    members = {} if status is None else {"status": status}
    made = await world.aws("RegisterCertificateWithoutCA", certificatePem=PEM, **members)
    described = await describe(world, made["certificateId"])
    expected = {
        **made,
        "status": status or "INACTIVE",
        "certificateMode": "SNI_ONLY",
        "certificatePem": PEM,
        "customerVersion": 1,
        "creationDate": world.clock.now,
        "lastModifiedDate": world.clock.now,
        "caCertificateId": None,
    }
    assert {name: described[name] for name in expected} == expected
    assert (world.audit_resources(), await world.published()) == ([f"cert/{made['certificateId']}"], [])


async def test_the_layout_of_pem_is_not_stored(world: World) -> None:
    id = await register(world, pem="Certificate:\n" + PEM.replace("\n", "\r\n"))
    assert (await describe(world, id))["certificatePem"] == PEM


async def test_text_around_pem_is_not_stored(world: World, tmp_path: Path) -> None:
    # A key without boundaries, as a caller might paste it: no pattern can find every form.
    key = "".join(PRIVATE.splitlines()[1:-1])
    with contextlib.suppress(InvalidCertificate):
        await register(world, pem=f"{PEM}\n{key}\n")
    assert key[100:200].encode() not in b"".join(contents_of(tmp_path).values())


async def test_registering_twice_conflicts(world: World) -> None:
    id = await register(world)
    before = await describe(world, id)
    world.audit_resources()
    world.clock.advance(hours=1)
    with pytest.raises(AlreadyExists) as refused:
        await register(world, pem=PEM.replace("\n", "\r\n"), status="ACTIVE")
    assert (refused.value.kind, refused.value.id) == ("certificate", id)
    assert await describe(world, id) == before
    assert await world.unchanged()


async def test_an_issued_certificate_cannot_be_registered_again(world: World) -> None:
    made = await world.aws("CreateCertificateFromCsr", **CSR)
    with pytest.raises(AlreadyExists):
        await register(world, pem=made["certificatePem"])


async def test_registering_again_after_deletion_makes_a_new_generation(world: World) -> None:
    id = await register(world)
    first = await describe(world, id)
    await delete(world, id)
    await register(world)
    assert (await describe(world, id))["generationId"] != first["generationId"]


@pytest.mark.parametrize(
    ("pem", "status", "error"),
    [
        ("", "ACTIVE", InvalidCertificate),
        (vectors.csr_pem(), "ACTIVE", InvalidCertificate),
        (PEM + PRIVATE, "ACTIVE", InvalidCertificate),
        (vectors.certificate_pem(vectors.rsa_key(1024).public_key()), "ACTIVE", InvalidCertificate),
        (PEM, "PENDING_ACTIVATION", InvalidState),
        (PEM, "PENDING_TRANSFER", InvalidState),
        (PEM, "REGISTER_INACTIVE", InvalidState),
        ("", "PENDING_ACTIVATION", InvalidState),
    ],
)
async def test_refused_certificates_are_not_stored(
    world: World, pem: str, status: str, error: type[DomainError]
) -> None:
    with pytest.raises(error):
        await register(world, pem=pem, status=status)
    assert await world.count("certificates") == 0


async def test_one_of_many_concurrent_registrations_succeeds(world: World) -> None:
    outcomes = await asyncio.gather(*(register(world) for _ in range(10)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AlreadyExists"] * 9 + ["str"]


# -- statuses -----------------------------------------------------------------------------------------------------


async def test_a_status_change_sets_version_and_time_and_is_published(world: World) -> None:
    id = await register(world)
    before = await describe(world, id)
    world.audit_resources()
    world.clock.advance(minutes=5)
    await update(world, id, "ACTIVE")
    changed = {"status": "ACTIVE", "customerVersion": 2, "lastModifiedDate": world.clock.now}
    assert await describe(world, id) == {**before, **changed}
    assert (world.audit_resources(), await world.published()) == ([f"cert/{id}"], [("certificate", id)])


async def test_a_status_change_returns_the_stored_registration(world: World) -> None:
    id = await register(world)
    world.clock.advance(minutes=5)
    changed = await world.write(lambda tx: update_status(tx, world.change(), id, Status.ACTIVE))
    assert changed == await world.read(lambda tx: REGISTRATIONS.get(tx, *OURS, id))


async def test_setting_the_same_status_is_no_change(world: World) -> None:
    id = await register(world, status="ACTIVE")
    before = await describe(world, id)
    world.audit_resources()
    world.clock.advance(minutes=5)
    await update(world, id, "ACTIVE")
    assert await describe(world, id) == before
    assert await world.unchanged()


async def test_a_revoked_certificate_stays_revoked(world: World) -> None:
    id = await register(world, status="REVOKED")
    before = await describe(world, id)
    world.audit_resources()
    with pytest.raises(InvalidState):
        await update(world, id, "ACTIVE")
    assert await describe(world, id) == before
    assert await world.unchanged()


async def test_a_setting_allows_revoked_certificates_to_become_active(tmp_path: Path) -> None:
    async with new_world(tmp_path, reinstate_revoked=True) as world:
        id = await register(world, status="REVOKED")
        await update(world, id, "ACTIVE")
        assert (await describe(world, id))["status"] == "ACTIVE"


# -- deletion -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", list(Status))
async def test_active_certificates_cannot_be_deleted(world: World, status: Status) -> None:
    id = await register(world)
    await force_status(world, id, status)
    world.audit_resources()
    if status in (Status.ACTIVE, Status.PENDING_TRANSFER):
        reason = (
            r"must be deactivated \(not ACTIVE\) before deletion" if status is Status.ACTIVE else "transfer is pending"
        )
        with pytest.raises(InvalidState, match=rf"{reason}\. Id: {id}"):
            await delete(world, id)
        assert await world.unchanged()
        assert (await describe(world, id))["status"] == status
        return
    await delete(world, id)
    assert (world.audit_resources(), await world.published()) == ([f"cert/{id}"], [("certificate", id)])
    for again in (describe(world, id), delete(world, id)):
        with pytest.raises(NotFound):
            await again
    assert await world.count("certificates") == 0


async def test_policies_must_be_detached_before_deletion_or_by_force(world: World) -> None:
    doomed, other = await register(world), await register(world, pem=vectors.certificate_pem())
    await attach_policies(world, doomed, "p", "q")
    await attach_policies(world, other, "p")
    before = await attached_policies(world)
    await world.published()
    with pytest.raises(Conflict) as refused:
        await delete(world, doomed)
    assert refused.value.reason == f"Certificate policies must be detached before deletion (arn: {arn_of(doomed)})"
    assert await attached_policies(world) == before
    assert await world.published() == []
    await delete(world, doomed, forceDelete=True)
    assert await attached_policies(world) == [(other, "p")]
    assert await world.published() == [("certificate", doomed)]


@pytest.mark.parametrize("force", [True, False])
async def test_things_must_be_detached_before_deletion_even_by_force(world: World, force: bool) -> None:
    id = await register(world)
    await attach_thing(world, id)
    await attach_policies(world, id, "p")
    with pytest.raises(Conflict) as refused:
        await delete(world, id, forceDelete=force)
    assert refused.value.reason == f"Things must be detached before deletion (arn: {arn_of(id)})"
    assert await attached_policies(world) == [(id, "p")], "nothing was detached"
    await world.aws("DetachThingPrincipal", thingName="t", principal=arn_of(id))
    await delete(world, id, forceDelete=True)


async def test_refused_forced_deletion_keeps_the_policies(world: World) -> None:
    id = await register(world, status="ACTIVE")
    await attach_policies(world, id, "p")
    with pytest.raises(InvalidState):
        await delete(world, id, forceDelete=True)
    assert await attached_policies(world) == [(id, "p")]


@pytest.mark.parametrize("force", [True, False])
async def test_a_bound_certificate_cannot_be_deleted(world: World, force: bool) -> None:
    for scope in SCOPES:
        id = await register(world, scope)
    binding = "INSERT INTO bindings (account, region, certificate, kind, owner, created_at) "
    await world.execute(f"{binding}SELECT $1, $2, id, 'device', 'are1', 0 FROM certificates", *OURS)
    with pytest.raises(Conflict) as refused:
        await delete(world, id, forceDelete=force)
    assert refused.value.reason == f"Certificate must be removed from device are1 first. Id: {id}"
    for scope in (ABROAD, THEIRS):
        await delete(world, id, scope, forceDelete=force)


async def test_references_in_other_scopes_do_not_prevent_deletion(world: World) -> None:
    for scope in (OURS, THEIRS):
        id = await register(world, scope)
    await attach_policies(world, id, "p", scope=THEIRS)
    await attach_thing(world, id, THEIRS)
    await delete(world, id)
    assert await attached_policies(world) == [(id, "p")]
    assert await world.count("thing_principals") == 1


@pytest.mark.parametrize("status", ["INACTIVE", "REVOKED"])
async def test_deleting_a_revoked_certificate_records_that_it_was_revoked(world: World, status: str) -> None:
    for scope in (OURS, THEIRS):
        id = await register(world, scope)
    world.clock.advance(seconds=7)
    await update(world, id, status)
    [(modified_at,)] = await world.rows("SELECT modified_at FROM registrations WHERE account = $1", OURS.account)
    world.clock.advance(seconds=7)
    await delete(world, id)
    assert await revoked_certificates(world) == ([(id, None, None, modified_at)] if status == "REVOKED" else [])
    assert await revoked_certificates(world, THEIRS) == []


async def test_a_revoked_certificate_stays_recorded_under_its_ca(world: World) -> None:
    await other_content(world)
    for ca, serial in ((1, "07"), (None, None)):
        id = await register(world, status="REVOKED")
        await world.execute("UPDATE registrations SET ca = $1, serial = $2", ca, serial)
        await delete(world, id)
        [stone] = await revoked_certificates(world)
        assert stone[:3] == (id, CA, "07")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((OURS, CA, "07", UNKNOWN, UNKNOWN), True),
        ((OURS, UNKNOWN, "07", UNKNOWN, UNKNOWN), False),
        ((OURS, CA, "08", UNKNOWN, UNKNOWN), False),
        ((OURS, CA, "08", ID, UNKNOWN), True),
        ((OURS, CA, "08", UNKNOWN, ID), True),
        ((ABROAD, CA, "07", ID, ID), False),
        ((THEIRS, CA, "07", ID, ID), False),
    ],
)
async def test_revoked_certificates_are_found_by_fingerprint_or_by_ca_and_serial_number(
    world: World, asked: tuple[Any, ...], expected: bool
) -> None:
    assert await register(world, status="REVOKED") == ID
    await other_content(world)
    await world.execute("UPDATE registrations SET ca = 1, serial = '07'")
    assert not await world.read(lambda tx: was_revoked(tx, *asked))
    await delete(world, ID)
    assert await world.read(lambda tx: was_revoked(tx, *asked)) == expected


# -- ids ----------------------------------------------------------------------------------------------------------


def use_ids(world: World, *ids: int) -> None:
    left = list(ids)
    world.environment = replace(world.environment, certificate_ids=cast("Any", lambda _: left.pop(0)))


async def test_a_call_retries_with_new_ids_at_most_three_times(world: World) -> None:
    use_ids(world, 7, 7, 7, 8, 7, 7, 7)
    ids = [await register(world, pem=vectors.certificate_pem()) for _ in range(2)]
    assert [row[0] for row in await world.rows("SELECT id FROM certificates ORDER BY id")] == [7, 8]
    assert world.audit_resources() == [f"cert/{id}" for id in ids]
    with pytest.raises(KeyTaken):
        await register(world, pem=vectors.certificate_pem())
    assert await world.count("certificates") == 2


async def test_existing_content_keeps_its_id(world: World) -> None:
    use_ids(world, 7, 8)
    for scope in (OURS, THEIRS):
        id = await register(world, scope)
    assert await world.rows("SELECT id FROM certificates") == [(7,)]
    assert await world.rows("SELECT certificate FROM registrations") == [(7,), (7,)]
    assert (await describe(world, id, THEIRS))["certificatePem"] == PEM


async def test_ca_content_stays_while_a_certificate_is_registered_under_it(world: World) -> None:
    """It is deleted with the last certificate under it."""
    await other_content(world)
    id = await register(world)
    await world.execute(f"UPDATE registrations SET ca = 1, serial = '07' WHERE {THIS_CERTIFICATE}", bytes.fromhex(id))
    await world.write(lambda tx: drop_content(tx, CA))
    assert (await world.aws("DescribeCertificate", certificateId=id))["certificateDescription"]["caCertificateId"] == CA
    await delete(world, id)
    assert await world.count("certificates") == 0


# -- accounts and regions -----------------------------------------------------------------------------------------


async def test_each_scope_has_its_own_registration(world: World) -> None:
    id = await register(world, OURS)
    before = await describe(world, id)
    for scope in (THEIRS, ABROAD):
        world.clock.advance(hours=1)
        assert await register(world, scope, PEM.replace("\n", "\r\n"), "ACTIVE") == id
        described = await describe(world, id, scope)
        assert (described["status"], described["creationDate"]) == ("ACTIVE", world.clock.now)
        assert described["certificateArn"] == arn_of(id, scope)
        await update(world, id, "REVOKED", scope)
        await delete(world, id, scope)
        with pytest.raises(NotFound):
            await describe(world, id, scope)
    assert await describe(world, id) == before


async def test_the_content_is_deleted_with_the_last_registration(world: World) -> None:
    for scope in SCOPES:
        id = await register(world, scope)
    for left, scope in zip((1, 1, 0), SCOPES, strict=True):
        await delete(world, id, scope)
        assert await world.count("certificates") == left


@pytest.mark.parametrize("scope", [THEIRS, ABROAD])
async def test_a_certificate_exists_in_its_scope_only(world: World, scope: Scope) -> None:
    id = await register(world)
    before = await describe(world, id)
    for attempt in (
        describe(world, id, scope),
        update(world, id, "REVOKED", scope),
        delete(world, id, scope),
        describe(world, UNKNOWN),
        update(world, UNKNOWN, "ACTIVE"),
        delete(world, UNKNOWN),
    ):
        with pytest.raises(NotFound, match=r"certificate [0-9a-f]{64} does not exist"):
            await attempt
    assert await world.aws("ListCertificates", scope) == {"certificates": [], "nextMarker": None}
    assert await describe(world, id) == before


async def test_certificate_ids_can_be_in_upper_case(world: World) -> None:
    id = await register(world)
    before = await describe(world, id)
    for written in (id.upper(), f"0x{id}"):
        assert await describe(world, written) == before
    await update(world, id.upper(), "REVOKED")
    await delete(world, id.upper())
    with pytest.raises(Invalid, match="certificateId must be 64 hexadecimal digits"):
        await describe(world, "0x" + id[2:])


async def test_certificates_cannot_be_registered_in_an_unknown_account(world: World) -> None:
    with pytest.raises(ForeignKeyViolated):
        await register(world, Scope("333333333333", "us-east-1"))
    assert await world.count("certificates") == 0


# -- lists --------------------------------------------------------------------------------------------------------


async def ids_of_pages(world: World, limit: int, **members: Any) -> list[str]:
    async def page(further: Mapping[str, Any]) -> Mapping[str, Any]:
        return await world.aws("ListCertificates", OURS, **members, **further)

    found = await pages(page, "certificates", limit, size="pageSize", token="marker", next_token="nextMarker")
    return [certificate["certificateId"] for certificate in found]


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize(("count", "limit"), [(0, 5), (1, 5), (5, 5), (6, 5), (7, 1), (7, 3)])
async def test_lists_have_every_certificate_once_by_age(world: World, count: int, limit: int, ascending: bool) -> None:
    made = []
    for number in range(count):
        # Two certificates at a time have the same age.
        world.clock.advance(microseconds=number % 2)
        made.append(await register(world, pem=vectors.certificate_pem()))
        await register(world, THEIRS, vectors.certificate_pem())
    found = await ids_of_pages(world, limit, ascendingOrder=ascending)
    assert sorted(found) == sorted(made)
    ages = [(made.index(id) + 1) // 2 for id in found]
    assert ages == sorted(ages, reverse=not ascending)


async def test_lists_and_descriptions_agree(world: World) -> None:
    ids = [await register(world, pem=vectors.certificate_pem(), status=status) for status in ("ACTIVE", "INACTIVE")]
    for item in (await world.aws("ListCertificates"))["certificates"]:
        described = await describe(world, item["certificateId"])
        assert item == {name: described[name] for name in item}
        assert set(item) == {"certificateArn", "certificateId", "status", "certificateMode", "creationDate"}
        ids.remove(item["certificateId"])
    assert ids == []


@pytest.mark.parametrize("ascending", [True, False])
async def test_pages_continue_after_changes_between_them(world: World, ascending: bool) -> None:
    made = []
    for _ in range(6):
        world.clock.advance(seconds=1)
        made.append(await register(world, pem=vectors.certificate_pem()))
    order = made if ascending else made[::-1]
    first = await world.aws("ListCertificates", pageSize=3, ascendingOrder=ascending)
    await delete(world, order[2])  # the one at the marker's position
    await delete(world, order[4])
    world.clock.advance(seconds=1)
    new = await register(world, pem=vectors.certificate_pem())
    second = await world.aws("ListCertificates", pageSize=3, ascendingOrder=ascending, marker=first["nextMarker"])
    expected = [order[3], order[5]] + ([new] if ascending else [])
    assert [item["certificateId"] for item in second["certificates"]] == expected
    assert second["nextMarker"] is None


async def test_markers_are_valid_for_their_own_list_only(world: World) -> None:
    for scope in SCOPES:
        for _ in range(2):
            await register(world, scope, vectors.certificate_pem())
    marker: str = (await world.aws("ListCertificates", pageSize=1, ascendingOrder=True))["nextMarker"]
    middle = len(marker) // 2
    changed = marker[:middle] + ("A" if marker[middle] != "A" else "B") + marker[middle + 1 :]
    for scope, ascending, word in (
        (THEIRS, True, marker),
        (ABROAD, True, marker),
        (OURS, False, marker),
        (OURS, True, changed),
        (OURS, True, marker + marker),
    ):
        with pytest.raises(Invalid, match="marker is not one that this list returned"):
            await world.aws("ListCertificates", scope, pageSize=1, ascendingOrder=ascending, marker=word)
    page = await world.aws("ListCertificates", pageSize=1, ascendingOrder=True, marker=marker)
    assert len(page["certificates"]) == 1
