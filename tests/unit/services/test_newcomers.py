"""Which certificates that nobody registered are registered all the same, where, and which never again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.issuers import fingerprint, pem, rewritten
from tests.unit import vectors
from tests.unit.services.authority_support import DAY, JITP_BODY, ROLE, Office, in_office, issuer
from tests.unit.services.door_support import ABROAD, OURS, THEIRS, House
from tests.unit.vectors import NOW
from thingmint.domain.ca_certificates import RegistrationConfig
from thingmint.domain.certificates import read_issued_certificate
from thingmint.domain.errors import Denied, Disallowed, InvalidParameters, LimitExceeded
from thingmint.domain.status import Status
from thingmint.services.ca_certificates import CaStatus
from thingmint.services.newcomers import Arrival, NewcomerRegistry
from thingmint.services.quotas import Quotas

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from thingmint.domain.certificates import IssuedCertificate
    from thingmint.domain.policy import ContextValue
    from thingmint.domain.registration import Scope
    from thingmint.services.certificates import Registration
    from thingmint.services.change import Authorize

BY_BODY = RegistrationConfig(template_body=JITP_BODY, role_arn=ROLE)


def leaf_of(certificate: x509.Certificate) -> IssuedCertificate:
    return read_issued_certificate(certificate.public_bytes(Encoding.DER))


class Door(NewcomerRegistry):
    """``asked`` are the roles and what wanted them, ``effects`` what was done as them; ``forbidden`` is refused."""

    def __init__(self, house: House, **further: Any) -> None:
        super().__init__(house.store, vectors.authority(), clock=house.clock, **further)
        self.asked: list[tuple[str, str]] = []
        self.effects: list[tuple[str, str]] = []
        self.forbidden = ""

    async def as_role(self, role: str, source: str) -> Authorize:
        self.asked.append((role, source))

        def check(action: str, resources: Sequence[str], _context: Mapping[str, ContextValue]) -> None:
            (resource,) = resources
            if action == self.forbidden:
                raise Denied(role, action, resource, explicit=False)
            self.effects.append((action, resource))

        return check

    async def come(self, certificate: x509.Certificate, scope: Scope | None = OURS) -> Registration | None:
        """None if nobody vouches for it."""
        leaf = leaf_of(certificate)
        arrival = await self.find(scope, leaf)
        return None if arrival is None else await self.register(arrival, leaf, self.as_role)

    async def refused(self, certificate: x509.Certificate, scope: Scope | None = OURS) -> str:
        with pytest.raises(Disallowed) as refused:
            await self.come(certificate, scope)
        return refused.value.reason


def test_a_newcomer(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made, door = issuer(), Door(house)
        ca = await office.prove(made, auto_registration=True)
        await house.notices()
        came = made.sign("lamp", serial=9)
        registration = await door.come(came)
        assert registration is not None
        assert registration == (await house.certificates.describe(OURS, fingerprint(came))).registration
        assert (registration.status, registration.mode) == (Status.PENDING_ACTIVATION, "DEFAULT")
        assert (registration.ca, registration.serial) == (ca, "9")
        assert house.store.subjects[-1] == [registration.arn]
        assert await house.notices() == [(OURS, "certificate", registration.fingerprint)]
        house.clock.advance(seconds=3)
        arrival = await door.find(OURS, leaf_of(came))
        assert arrival == Arrival((await office.authorities.describe(OURS, ca)).registration, registration)
        assert await door.register(arrival, leaf_of(came), door.as_role) == registration, "nothing is done twice"
        assert door.asked == []

    in_office(tmp_path, test)


def test_only_what_waits_is_told_of_again(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made, door = issuer(), Door(house)
        ca = await office.take(made, auto_registration=True)
        came = made.sign()
        await door.come(came)
        await office.change(ca, auto_registration=False)
        with pytest.raises(Disallowed):
            await door.find(OURS, leaf_of(came))
        await office.change(ca, auto_registration=True)
        for status in (Status.ACTIVE, Status.INACTIVE, Status.REVOKED):
            await house.certificates.set_status(OURS, fingerprint(came), status)
            assert await door.find(OURS, leaf_of(came)) is None
        # One that another registered, without an authority, is none of this.
        alone = made.sign()
        await house.certificate(pem=pem(alone))
        await house.run("UPDATE registrations SET status = 'PENDING_ACTIVATION' WHERE ca IS NULL")
        assert await door.find(OURS, leaf_of(alone)) is None

    in_office(tmp_path, test)


@pytest.mark.parametrize(
    "changes",
    [{"status": CaStatus.INACTIVE}, {"auto_registration": False}, {"remove_registration": True}],
)
def test_an_authority_that_does_not_register_by_itself(tmp_path: Path, changes: dict[str, Any]) -> None:
    async def test(house: House, office: Office) -> None:
        made, door = issuer(), Door(house)
        ca = await office.prove(made, auto_registration=True)
        await office.change(ca, **changes)
        for scope in (OURS, None):
            assert "does not register devices by itself" in await door.refused(made.sign(), scope)

    in_office(tmp_path, test)


def test_strangers(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made, door = issuer(), Door(house)
        await office.prove(made, auto_registration=True)
        for scope in (OURS, None):
            for stranger in (issuer("Unknown").sign(), issuer().sign()):
                assert await door.come(stranger, scope) is None
        for scope in (ABROAD, THEIRS):
            assert await door.come(made.sign(), scope) is None
        assert await house.rows("SELECT 1 FROM registrations") == []

    in_office(tmp_path, test)


def test_flaws(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made, door = issuer(), Door(house)
        await office.take(made, auto_registration=True)
        assert "ended on" in await door.refused(made.sign(begins=NOW - 2 * DAY, ends=NOW - DAY))
        assert "is not valid before" in await door.refused(made.sign(begins=NOW + DAY / 2, ends=NOW + DAY))
        assert "authority, not of a device" in await door.refused(made.certificate)
        came = made.sign(ends=NOW + 9 * DAY)
        house.clock.advance(days=2)  # beyond the authority's end
        assert "is not valid now" in await door.refused(came)

    in_office(tmp_path, test)


def test_which_account_without_an_endpoint(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made, door = issuer(), Door(house)
        theirs = await office.take(made, THEIRS, auto_registration=True)
        came = await door.come(made.sign(), None)
        assert came is not None
        assert came.scope == THEIRS, "of those that have it the only one"
        await office.take(made, ABROAD, auto_registration=True)
        assert "has to name an endpoint" in await door.refused(made.sign(), None)
        came = await door.come(made.sign(), THEIRS)
        assert came is not None
        # Who has shown that the key is theirs comes before all others, and not only while they want newcomers.
        ours = await office.prove(made, OURS, auto_registration=True)
        assert ours == theirs
        came = await door.come(made.sign(), None)
        assert came is not None
        assert came.scope == OURS
        await office.change(ours, auto_registration=False)
        assert "does not register" in await door.refused(made.sign(), None)

    in_office(tmp_path, test)


def test_the_newest_of_an_account(tmp_path: Path) -> None:
    """A renewed CA certificate of the same key vouches for the same devices."""

    async def test(house: House, office: Office) -> None:
        old, door = issuer(), Door(house)
        await office.take(old, auto_registration=True)
        renewed = replace(old, certificate=issuer(key=old.key).certificate)
        newer = await office.take(renewed, auto_registration=True)
        came = await door.come(old.sign())
        assert came is not None
        assert came.ca == newer

    in_office(tmp_path, test)


async def _revoke(house: House, fp: str) -> None:
    await house.certificates.set_status(OURS, fp, Status.REVOKED)
    await house.certificates.delete(OURS, fp)


@pytest.mark.parametrize("registered", ["just in time", "under the authority", "without it"])
@pytest.mark.parametrize("deleted", [True, False])
def test_revoked_ones_stay_out_under_whatever_fingerprint(tmp_path: Path, registered: str, deleted: bool) -> None:
    async def test(house: House, office: Office) -> None:
        made, door = issuer(), Door(house)
        await office.take(made, auto_registration=True)
        came = made.sign()
        if registered == "just in time":
            await door.come(came)
        elif registered == "without it":
            await house.certificate(pem=pem(came))
        else:
            await office.authorities.register_issued(OURS, pem(came), Status.INACTIVE)
        if deleted:
            await _revoke(house, fingerprint(came))
            assert await door.refused(came) == "it was revoked"
            assert await door.refused(rewritten(came)) == "it was revoked"
        else:
            await house.certificates.set_status(OURS, fingerprint(came), Status.REVOKED)
            assert await door.come(came) is None
            assert f"registered as {fingerprint(came)}" in await door.refused(rewritten(came))
        # It is the account that revoked it; others may think otherwise.
        await office.take(made, THEIRS, auto_registration=True)
        assert await door.come(came, THEIRS) is not None

    in_office(tmp_path, test)


def test_a_tombstone_outlives_its_authority(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made, door = issuer(), Door(house)
        ca = await office.take(made, auto_registration=True)
        came = made.sign(serial=5)
        await door.come(came)
        await _revoke(house, fingerprint(came))
        await office.change(ca, status=CaStatus.INACTIVE)
        await office.authorities.delete(OURS, ca)
        await office.take(made, auto_registration=True)
        for again in (came, rewritten(came), made.sign(serial=5)):
            assert await door.refused(again) == "it was revoked"
        await office.take(replace(made, certificate=issuer(key=made.key).certificate), auto_registration=True)
        for again in (came, rewritten(came)):
            assert await door.refused(again) == "it was revoked"

    in_office(tmp_path, test)


def test_what_was_deleted_otherwise_comes_again(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made, door = issuer(), Door(house)
        await office.take(made, auto_registration=True)
        came = made.sign()
        await door.come(came)
        await house.certificates.set_status(OURS, fingerprint(came), Status.INACTIVE)
        await house.certificates.delete(OURS, fingerprint(came))
        assert await door.come(came) is not None

    in_office(tmp_path, test)


def test_a_serial_number_is_given_once(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made, door = issuer(), Door(house)
        await office.take(made, auto_registration=True)
        first = made.sign(serial=7)
        await door.come(first)
        for again in (made.sign(serial=7), rewritten(first)):
            assert f"registered as {fingerprint(first)}" in await door.refused(again)
        assert len(await house.rows("SELECT 1 FROM registrations")) == 1

    in_office(tmp_path, test)


def test_an_authority_that_changes_meanwhile(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made, door = issuer(), Door(house)
        ca = await office.take(made, auto_registration=True)
        leaf = leaf_of(made.sign())
        arrival = await door.find(OURS, leaf)
        assert arrival is not None
        await office.change(ca, status=CaStatus.INACTIVE)
        with pytest.raises(Disallowed, match="changed meanwhile"):
            await door.register(arrival, leaf, door.as_role)
        await office.authorities.delete(OURS, ca)
        with pytest.raises(Disallowed, match="changed meanwhile"):
            await door.register(arrival, leaf, door.as_role)

    in_office(tmp_path, test)


def test_as_many_as_there_may_be(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made, door = issuer(), Door(house, quotas=Quotas(certificates=1))
        await office.take(made, auto_registration=True)
        await door.come(made.sign())
        with pytest.raises(LimitExceeded):
            await door.come(made.sign())

    in_office(tmp_path, test)


@pytest.mark.parametrize("by", ["body", "name", "name and role"])
def test_provisioning(tmp_path: Path, by: str) -> None:
    async def test(house: House, office: Office) -> None:
        await office.template("jitp")
        made, door = issuer(), Door(house)
        own = "arn:aws:iam::111111111111:role/another"
        config = {
            "body": BY_BODY,
            "name": RegistrationConfig(template_name="jitp"),
            "name and role": RegistrationConfig(template_name="jitp", role_arn=own),
        }[by]
        ca = await office.take(made, auto_registration=True, config=config)
        came = made.sign("lamp-1")
        came_id = fingerprint(came)
        registration = await door.come(came)
        assert registration is not None
        assert registration.status is Status.ACTIVE
        kind, name = ("cacert", ca) if by == "body" else ("provisioningtemplate", "jitp")
        role = own if by == "name and role" else ROLE
        assert door.asked == [(role, f"arn:aws:iot:us-east-1:111111111111:{kind}/{name}")]
        cert, thing = (f"arn:aws:iot:us-east-1:111111111111:{kind}" for kind in (f"cert/{came_id}", "thing/lamp-1"))
        assert door.effects == [
            ("iot:UpdateCertificate", cert),
            ("iot:CreateThing", thing),
            ("iot:AttachThingPrincipal", cert),
        ]
        assert await house.rows("SELECT thing, fingerprint FROM thing_principals") == [("lamp-1", came_id)]
        assert {registration.arn, thing} <= set(house.store.subjects[-1])

    in_office(tmp_path, test)


def test_provisioning_that_fails_leaves_nothing(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made, door = issuer(), Door(house)
        await office.take(made, auto_registration=True, config=BY_BODY)
        await house.notices()
        came = made.sign("lamp")
        for door.forbidden in ("iot:UpdateCertificate", "iot:CreateThing", "iot:AttachThingPrincipal"):
            with pytest.raises(Denied):
                await door.come(came)
        with pytest.raises(InvalidParameters, match="CommonName"):
            await door.come(made.sign(x509.Name([])))
        for table in ("registrations", "things", "thing_principals"):
            assert await house.rows(f"SELECT 1 FROM {table}") == []
        assert await house.notices() == []
        door.forbidden = ""
        registration = await door.come(came)
        assert registration is not None, "and the next time is its first again"
        assert registration.status is Status.ACTIVE

    in_office(tmp_path, test)


def test_who_waits_already_is_not_provisioned(tmp_path: Path) -> None:
    """AWS provisions at the first connection only; who was to have a look at it still is."""

    async def test(house: House, office: Office) -> None:
        made, door = issuer(), Door(house)
        ca = await office.take(made, auto_registration=True)
        came = made.sign()
        await door.come(came)
        await office.change(ca, config=BY_BODY)
        registration = await door.come(came)
        assert registration is not None
        assert (registration.status, door.asked) == (Status.PENDING_ACTIVATION, [])

    in_office(tmp_path, test)


def test_a_template_that_is_switched_off(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        await office.template("jitp")
        made, door = issuer(), Door(house)
        await office.take(made, auto_registration=True, config=RegistrationConfig(template_name="jitp"))
        await house.run("UPDATE provisioning_templates SET enabled = 0")
        assert await door.refused(made.sign()) == "Template jitp is not enabled."
        assert door.asked == []

    in_office(tmp_path, test)
