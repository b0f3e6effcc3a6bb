"""What a certificate must be rid of before it is deleted, what others learn, and what stays of a revoked one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit import vectors
from tests.unit.services.door_support import OURS, THEIRS, House, in_house
from thingmint.domain.device_policies import Target
from thingmint.domain.errors import Conflict, InvalidState
from thingmint.domain.status import Status

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.domain.registration import Scope


def arn(fingerprint: str) -> str:
    return f"arn:aws:iot:us-east-1:111111111111:cert/{fingerprint}"


async def attached(house: House) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in await house.rows("SELECT target, policy FROM device_policy_attachments")]


async def tombstones(house: House, scope: Scope = OURS) -> list[tuple[str | int | None, ...]]:
    return await house.rows(
        "SELECT fingerprint, ca, serial, revoked_at FROM revoked_certificates WHERE account = $1 AND region = $2",
        *scope,
    )


def test_policies_first_unless_it_is_forced(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        doomed, other = await house.certificate(), await house.certificate()
        for name in ("p", "q"):
            await house.policy(name)
            await house.policies.attach(OURS, name, Target("cert", doomed))
        await house.policies.attach(OURS, "p", Target("cert", other))
        await house.notices()
        with pytest.raises(Conflict) as refused:
            await house.certificates.delete(OURS, doomed)
        assert refused.value.reason == f"Certificate policies must be detached before deletion (arn: {arn(doomed)})"
        assert (len(await attached(house)), await house.notices()) == (3, [])
        await house.certificates.delete(OURS, doomed, force=True)
        assert await attached(house) == [(other, "p")]
        assert await house.notices() == [(OURS, "certificate", doomed)]
        assert house.store.subjects[-1] == [arn(doomed)]
        await house.policies.delete(OURS, "q")

    in_house(tmp_path, test)


@pytest.mark.parametrize("force", [True, False])
def test_things_first_even_if_it_is_forced(tmp_path: Path, force: bool) -> None:
    async def test(house: House) -> None:
        fingerprint = await house.certificate()
        await house.thing("t")
        await house.principal("t", fingerprint)
        await house.policy("p")
        await house.policies.attach(OURS, "p", Target("cert", fingerprint))
        with pytest.raises(Conflict) as refused:
            await house.certificates.delete(OURS, fingerprint, force=force)
        assert refused.value.reason == f"Things must be detached before deletion (arn: {arn(fingerprint)})"
        assert await attached(house) == [(fingerprint, "p")], "nothing was detached"
        await house.run("DELETE FROM thing_principals")
        await house.certificates.delete(OURS, fingerprint, force=True)

    in_house(tmp_path, test)


def test_an_active_one_keeps_its_policies_however_it_is_forced(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        fingerprint = await house.certificate(status=Status.ACTIVE)
        await house.policy("p")
        await house.policies.attach(OURS, "p", Target("cert", fingerprint))
        with pytest.raises(InvalidState):
            await house.certificates.delete(OURS, fingerprint, force=True)
        assert await attached(house) == [(fingerprint, "p")]

    in_house(tmp_path, test)


def test_what_holds_it_elsewhere_does_not_count(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        pem = vectors.certificate_pem()
        for scope in (OURS, THEIRS):
            fingerprint = await house.certificate(scope, pem=pem)
        await house.policy("p", THEIRS)
        await house.policies.attach(THEIRS, "p", Target("cert", fingerprint))
        await house.thing("t", scope=THEIRS)
        await house.principal("t", fingerprint, scope=THEIRS)
        await house.certificates.delete(OURS, fingerprint)
        assert await attached(house) == [(fingerprint, "p")]

    in_house(tmp_path, test)


@pytest.mark.parametrize("status", [Status.INACTIVE, Status.REVOKED])
def test_a_revoked_one_is_remembered(tmp_path: Path, status: Status) -> None:
    async def test(house: House) -> None:
        pem = vectors.certificate_pem()
        fingerprint = await house.certificate(pem=pem)
        await house.certificate(THEIRS, pem=pem)
        house.clock.advance(seconds=7)
        await house.certificates.set_status(OURS, fingerprint, status)
        [(modified_at,)] = await house.rows("SELECT modified_at FROM registrations WHERE account = $1", OURS.account)
        house.clock.advance(seconds=7)
        await house.certificates.delete(OURS, fingerprint)
        assert await tombstones(house) == ([(fingerprint, None, None, modified_at)] if status is Status.REVOKED else [])
        assert await tombstones(house, THEIRS) == []

    in_house(tmp_path, test)


def test_who_a_revoked_one_was_under_its_authority_is_not_forgotten(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        pem = vectors.certificate_pem()
        for ca, serial in (("ca", "07"), (None, None)):
            fingerprint = await house.certificate(pem=pem, status=Status.REVOKED)
            await house.run("UPDATE registrations SET ca = $1, serial = $2", ca, serial)
            await house.certificates.delete(OURS, fingerprint)
            [stone] = await tombstones(house)
            assert stone[:3] == (fingerprint, "ca", "07")

    in_house(tmp_path, test)


def test_a_status_is_announced_where_it_changes(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        fingerprint = await house.certificate()
        for status, notices in (
            (Status.ACTIVE, [(OURS, "certificate", fingerprint)]),
            (Status.ACTIVE, []),
            (Status.REVOKED, [(OURS, "certificate", fingerprint)]),
        ):
            await house.certificates.set_status(OURS, fingerprint, status)
            assert await house.notices() == notices
        with pytest.raises(InvalidState):
            await house.certificates.set_status(OURS, fingerprint, Status.ACTIVE)
        assert await house.notices() == []

    in_house(tmp_path, test)
