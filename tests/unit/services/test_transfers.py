"""AWS IoT's five operations on transfers of certificates between accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit import vectors
from tests.world import ABROAD, OURS, THEIRS, new_world, pages, unpacked
from thingmint.domain.errors import (
    AlreadyExists,
    Disallowed,
    Invalid,
    InvalidState,
    LimitExceeded,
    NotFound,
    TransferCompleted,
    TransferConflict,
)
from thingmint.services.quotas import Quotas

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.world import World
    from thingmint.domain.arns import Scope

POLICY = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}}'
MESSAGE = "sold with the building"


async def issued(world: World, scope: Scope = OURS) -> str:
    """The id of an INACTIVE certificate that this server issued."""
    world.clock.advance(seconds=1)
    id: str = (await world.aws("CreateKeysAndCertificate", scope))["certificateId"]
    return id


async def transfer(world: World, id: str, scope: Scope = OURS, to: str = THEIRS.account, **more: Any) -> dict[str, Any]:
    return await world.aws("TransferCertificate", scope, certificateId=id, targetAwsAccount=to, **more)


async def describe(world: World, id: str, scope: Scope = OURS) -> dict[str, Any]:
    described: dict[str, Any] = await world.aws("DescribeCertificate", scope, certificateId=id)
    return described["certificateDescription"]  # type: ignore[no-any-return]


async def pending(world: World) -> str:
    id = await issued(world)
    await transfer(world, id)
    return id


async def test_a_pending_transfer_is_seen_in_both_accounts(world: World) -> None:
    id = await issued(world)
    before = await describe(world, id)
    world.clock.advance(seconds=5)
    started = world.clock.now
    arn = f"arn:aws:iot:us-east-1:{OURS.account}:cert/{id}"
    assert await transfer(world, id, transferMessage=MESSAGE) == {"transferredCertificateArn": arn}
    data = {"transferMessage": MESSAGE, "transferDate": started}
    for scope in (OURS, THEIRS):
        described = await describe(world, id, scope)
        assert described["certificateArn"] == f"arn:aws:iot:us-east-1:{scope.account}:cert/{id}"
        assert (described["status"], described["ownedBy"]) == ("PENDING_TRANSFER", OURS.account)
        assert {name: value for name, value in described["transferData"].items() if value is not None} == data
        assert (described["certificatePem"], described["creationDate"]) == (
            before["certificatePem"],
            before["creationDate"],
        )
        (listed,) = (await world.aws("ListCertificates", scope))["certificates"]
        assert (listed["certificateId"], listed["status"]) == (id, "PENDING_TRANSFER")
    with pytest.raises(NotFound):
        await describe(world, id, ABROAD)


async def test_accepting_moves_the_certificate(world: World) -> None:
    id = await issued(world)
    before = await describe(world, id)
    await transfer(world, id, transferMessage=MESSAGE)
    started = world.clock.now
    world.clock.advance(seconds=5)
    assert await world.aws("AcceptCertificateTransfer", THEIRS, certificateId=id) == {}
    with pytest.raises(NotFound):
        await describe(world, id)
    after = await describe(world, id, THEIRS)
    assert (after["status"], after["ownedBy"], after["previousOwnedBy"]) == ("INACTIVE", THEIRS.account, OURS.account)
    assert {name: value for name, value in after["transferData"].items() if value is not None} == {
        "transferMessage": MESSAGE,
        "transferDate": started,
        "acceptDate": world.clock.now,
    }
    assert after["certificatePem"] == before["certificatePem"]
    assert after["generationId"] != before["generationId"]
    assert after["certificateMode"] == "DEFAULT"
    assert (await world.aws("ListCertificates"))["certificates"] == []
    assert (await world.aws("ListOutgoingCertificates"))["outgoingCertificates"] == []
    assert await world.count("pending_transfers") == 0


async def test_accepting_can_activate(world: World) -> None:
    id = await pending(world)
    await world.aws("AcceptCertificateTransfer", THEIRS, certificateId=id, setAsActive=True)
    assert (await describe(world, id, THEIRS))["status"] == "ACTIVE"


async def test_rejecting_returns_the_certificate_with_the_reason(world: World) -> None:
    id = await pending(world)
    world.clock.advance(seconds=5)
    assert await world.aws("RejectCertificateTransfer", THEIRS, certificateId=id, rejectReason="not ours") == {}
    described = await describe(world, id)
    assert described["status"] == "INACTIVE"
    assert (described["transferData"]["rejectReason"], described["transferData"]["rejectDate"]) == (
        "not ours",
        world.clock.now,
    )
    with pytest.raises(NotFound):
        await describe(world, id, THEIRS)
    assert (await world.aws("ListCertificates", THEIRS))["certificates"] == []
    await transfer(world, id)
    assert (await describe(world, id))["transferData"].get("rejectReason") is None


async def test_cancelling_withdraws_the_offer(world: World) -> None:
    id = await pending(world)
    assert await world.aws("CancelCertificateTransfer", certificateId=id) == {}
    described = await describe(world, id)
    assert (described["status"], described["transferData"]) == ("INACTIVE", None)
    with pytest.raises(NotFound):
        await describe(world, id, THEIRS)
    await world.aws("UpdateCertificate", certificateId=id, newStatus="ACTIVE")


async def test_an_ended_transfer_cannot_end_again(world: World) -> None:
    for operation, scope in (
        ("AcceptCertificateTransfer", THEIRS),
        ("RejectCertificateTransfer", THEIRS),
        ("CancelCertificateTransfer", OURS),
    ):
        id = await pending(world)
        await world.aws(operation, scope, certificateId=id)
        for again, of in (
            ("AcceptCertificateTransfer", THEIRS),
            ("RejectCertificateTransfer", THEIRS),
            ("CancelCertificateTransfer", OURS),
        ):
            with pytest.raises(TransferCompleted):
                await world.aws(again, of, certificateId=id)


async def test_without_a_transfer_there_is_nothing_to_end(world: World) -> None:
    id = await issued(world)
    theirs = await issued(world, THEIRS)
    for operation in ("AcceptCertificateTransfer", "RejectCertificateTransfer", "CancelCertificateTransfer"):
        for scope in (OURS, THEIRS):
            for each in (id, theirs, "f" * 64):
                with pytest.raises(NotFound):
                    await world.aws(operation, scope, certificateId=each)
    await transfer(world, id)
    with pytest.raises(NotFound):
        await world.aws("AcceptCertificateTransfer", certificateId=id)  # only the target can
    with pytest.raises(NotFound):
        await world.aws("CancelCertificateTransfer", THEIRS, certificateId=id)  # only the source can
    assert (await describe(world, id))["status"] == "PENDING_TRANSFER"


async def test_neither_account_can_change_a_pending_certificate(world: World) -> None:
    id = await pending(world)
    for scope in (OURS, THEIRS):
        principal = f"arn:aws:iot:us-east-1:{scope.account}:cert/{id}"
        await world.aws("CreateThing", scope, thingName="lamp")
        await world.aws("CreatePolicy", scope, policyName="lamp", policyDocument=POLICY)
        for operation, members in (
            ("UpdateCertificate", {"certificateId": id, "newStatus": "ACTIVE"}),
            ("UpdateCertificate", {"certificateId": id, "newStatus": "REVOKED"}),
            ("DeleteCertificate", {"certificateId": id}),
            ("DeleteCertificate", {"certificateId": id, "forceDelete": True}),
            ("AttachPolicy", {"policyName": "lamp", "target": principal}),
            ("AttachPrincipalPolicy", {"policyName": "lamp", "principal": principal}),
            ("AttachThingPrincipal", {"thingName": "lamp", "principal": principal}),
        ):
            with pytest.raises(InvalidState, match="transfer is pending"):
                await world.aws(operation, scope, **members)
    with pytest.raises(InvalidState):
        await transfer(world, id)


async def test_yandex_devices_cannot_get_a_pending_certificate(world: World) -> None:
    id = await pending(world)
    pem = (await describe(world, id))["certificatePem"]
    device = await world.device(await world.registry())
    with pytest.raises(InvalidState, match="transfer is pending"):
        await world.yandex("DeviceService.AddCertificate", device_id=device, certificate_data=pem)


async def test_what_is_in_use_cannot_be_transferred(world: World) -> None:
    id = await issued(world)
    principal = f"arn:aws:iot:us-east-1:{OURS.account}:cert/{id}"
    await world.aws("UpdateCertificate", certificateId=id, newStatus="ACTIVE")
    with pytest.raises(InvalidState, match="deactivated"):
        await transfer(world, id)
    await world.aws("UpdateCertificate", certificateId=id, newStatus="INACTIVE")
    await world.aws("CreateThing", thingName="lamp")
    await world.aws("AttachThingPrincipal", thingName="lamp", principal=principal)
    with pytest.raises(TransferConflict, match="things"):
        await transfer(world, id)
    await world.aws("DetachThingPrincipal", thingName="lamp", principal=principal)
    await world.aws("CreatePolicy", policyName="lamp", policyDocument=POLICY)
    await world.aws("AttachPolicy", policyName="lamp", target=principal)
    with pytest.raises(TransferConflict, match="policies"):
        await transfer(world, id)
    await world.aws("DetachPolicy", policyName="lamp", target=principal)
    await world.aws("UpdateCertificate", certificateId=id, newStatus="REVOKED")
    with pytest.raises(InvalidState, match="REVOKED"):
        await transfer(world, id)


async def test_the_refusal_names_the_yandex_device_of_a_bound_certificate(world: World) -> None:
    device = await world.device(await world.registry())
    added = await world.yandex(
        "DeviceService.AddCertificate", device_id=device, certificate_data=vectors.certificate_pem()
    )
    id = str(unpacked(added.metadata).fingerprint)
    await world.aws("UpdateCertificate", certificateId=id, newStatus="INACTIVE")
    with pytest.raises(TransferConflict, match=f"removed from device {device}"):
        await transfer(world, id)


async def test_the_target_must_be_another_account_of_the_region(world: World) -> None:
    id = await issued(world)
    with pytest.raises(Invalid):
        await transfer(world, id, to=OURS.account)
    with pytest.raises(NotFound, match="account 999999999999"):
        await transfer(world, id, to="999999999999")
    with pytest.raises(NotFound):
        await transfer(world, "f" * 64)
    abroad = await issued(world, ABROAD)
    with pytest.raises(NotFound, match=f"account {THEIRS.account}"):
        await transfer(world, abroad, ABROAD)  # the other account does not use that region


async def test_an_account_that_has_the_certificate_cannot_get_it(world: World) -> None:
    pem = vectors.certificate_pem()
    id = (await world.aws("RegisterCertificateWithoutCA", certificatePem=pem))["certificateId"]
    await world.aws("RegisterCertificateWithoutCA", THEIRS, certificatePem=pem)
    with pytest.raises(TransferConflict):
        await transfer(world, id)
    assert (await describe(world, id))["status"] == "INACTIVE"


async def test_an_offer_does_not_keep_the_target_from_registering(world: World) -> None:
    """Else an account could offer the certificates of another one's devices, and so keep them from connecting."""
    pem = vectors.certificate_pem()
    id = (await world.aws("RegisterCertificateWithoutCA", certificatePem=pem))["certificateId"]
    await transfer(world, id)
    await world.aws("RegisterCertificateWithoutCA", THEIRS, certificatePem=pem, status="ACTIVE")
    (listed,) = (await world.aws("ListCertificates", THEIRS))["certificates"]
    assert listed["status"] == (await describe(world, id, THEIRS))["status"] == "ACTIVE"
    with pytest.raises(Disallowed):
        await world.aws("AcceptCertificateTransfer", THEIRS, certificateId=id)
    await world.aws("RejectCertificateTransfer", THEIRS, certificateId=id)
    with pytest.raises(AlreadyExists):
        await world.aws("RegisterCertificateWithoutCA", certificatePem=pem)


async def test_a_certificate_from_elsewhere_arrives_in_sni_only_mode(world: World) -> None:
    id = await world.certificate()  # in DEFAULT mode
    await world.execute("UPDATE registrations SET origin = 'registered', status = 'INACTIVE'")
    await transfer(world, id)
    await world.aws("AcceptCertificateTransfer", THEIRS, certificateId=id)
    described = await describe(world, id, THEIRS)
    assert (described["certificateMode"], described["caCertificateId"]) == ("SNI_ONLY", None)


async def test_both_accounts_hear_of_each_step(world: World) -> None:
    for operation, scope in (
        ("AcceptCertificateTransfer", THEIRS),
        ("RejectCertificateTransfer", THEIRS),
        ("CancelCertificateTransfer", OURS),
    ):
        id = await issued(world)
        world.audit_resources()
        await world.published(THEIRS)
        await world.published(OURS)
        await transfer(world, id)
        assert world.audit_resources() == [f"cert/{id}"]
        assert await world.published(OURS) == [("certificate", id)]
        # published() remembers all accounts, so the other account's changes are read from the table.
        await world.aws(operation, scope, certificateId=id)
        assert world.audit_resources(scope) == [f"cert/{id}"]
        rows = await world.rows("SELECT account FROM outbox WHERE name = $1 ORDER BY account", id)
        assert [account for (account,) in rows].count(THEIRS.account) == 2


async def listed_in_pages(world: World, name: str, scope: Scope, limit: int, *, ascending: bool) -> list[Any]:
    async def list_page(members: Mapping[str, Any]) -> dict[str, Any]:
        return await world.aws(name, scope, ascendingOrder=ascending, **members)

    items = "outgoingCertificates" if name == "ListOutgoingCertificates" else "certificates"
    return await pages(list_page, items, limit, size="pageSize", token="marker", next_token="nextMarker")


async def test_outgoing_certificates_are_listed_by_age(world: World) -> None:
    ids = [await issued(world) for _ in range(5)]
    for id in (ids[3], ids[0], ids[4], ids[1]):
        await transfer(world, id, transferMessage=id[:8])
    for ascending in (True, False):
        listed = await listed_in_pages(world, "ListOutgoingCertificates", OURS, 3, ascending=ascending)
        expected = [ids[0], ids[1], ids[3], ids[4]]
        assert [each["certificateId"] for each in listed] == (expected if ascending else expected[::-1])
        assert all(each["transferMessage"] == each["certificateId"][:8] for each in listed)
        assert {each["transferredTo"] for each in listed} == {THEIRS.account}
    assert (await world.aws("ListOutgoingCertificates", THEIRS))["outgoingCertificates"] == []
    assert (await world.aws("ListOutgoingCertificates", ABROAD))["outgoingCertificates"] == []


async def test_incoming_certificates_are_listed_among_the_own_ones(world: World) -> None:
    expected = []
    for number in range(9):
        id = await issued(world, OURS if number % 3 else THEIRS)
        expected.append(id)
        if number % 3:
            await transfer(world, id)
    for ascending in (True, False):
        for limit in (1, 2, 4):
            listed = await listed_in_pages(world, "ListCertificates", THEIRS, limit, ascending=ascending)
            assert [each["certificateId"] for each in listed] == (expected if ascending else expected[::-1])


async def test_accepting_counts_in_the_quota_of_the_target(tmp_path: Path) -> None:
    async with new_world(tmp_path, quotas=Quotas(certificates=2)) as world:
        await issued(world, THEIRS)
        first, second = await pending(world), await pending(world)
        with pytest.raises(LimitExceeded):
            await issued(world)
        await world.aws("AcceptCertificateTransfer", THEIRS, certificateId=first)
        with pytest.raises(LimitExceeded):
            await world.aws("AcceptCertificateTransfer", THEIRS, certificateId=second)
        assert (await describe(world, second))["status"] == "PENDING_TRANSFER"
        await issued(world)  # in place of the transferred one
