"""CA certificates of accounts, their registration codes, and what is registered under them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.issuers import fingerprint, pem, rewritten
from tests.unit import vectors
from tests.unit.services.authority_support import JITP_BODY, MARKERS, ROLE, Office, in_office, issuer
from tests.unit.services.door_support import ABROAD, OURS, THEIRS, UNKNOWN, House
from thingmint.domain.authorities import AuthorityStatus, RegistrationConfig
from thingmint.domain.errors import (
    AlreadyExists,
    Ambiguous,
    Disallowed,
    Invalid,
    InvalidState,
    InvalidTemplate,
    LimitExceeded,
    NotFound,
    UnverifiedCertificate,
    WrongRegistrationCode,
)
from thingmint.domain.quotas import Quotas
from thingmint.domain.status import Status
from thingmint.domain.template import Kind
from thingmint.services.issued import IssuedRegistry
from thingmint.services.tags import TagRegistry

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.domain.registration import Scope


def test_codes(tmp_path: Path) -> None:
    async def test(_house: House, office: Office) -> None:
        codes = {scope: await office.authorities.code(scope) for scope in (OURS, ABROAD, THEIRS)}
        assert len(set(codes.values())) == 3
        assert all(len(code) == 64 and int(code, 16) for code in codes.values())
        assert await office.authorities.code(OURS) == codes[OURS]
        await office.authorities.delete_code(OURS)
        with pytest.raises(NotFound):
            await office.authorities.delete_code(OURS)
        assert await office.authorities.code(OURS) != codes[OURS]
        assert await office.authorities.code(THEIRS) == codes[THEIRS]

    in_office(tmp_path, test)


def test_registering_one(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made = issuer()
        ca = await office.prove(made, active=False, tags={"a": "b"})
        kept = await office.authorities.describe(OURS, ca)
        assert (kept.fingerprint, kept.status, kept.mode) == (made.fingerprint, AuthorityStatus.INACTIVE, "DEFAULT")
        assert (kept.auto_registration, kept.config, kept.version) == (False, None, 1)
        assert kept.arn == f"arn:aws:iot:us-east-1:111111111111:cacert/{ca}"
        assert house.store.subjects[-1] == [kept.arn]
        assert await house.notices() == [(OURS, "ca", ca)]
        assert await TagRegistry(house.store).list(OURS, "cacert", ca) == {"a": "b"}
        for scope in (ABROAD, THEIRS):
            with pytest.raises(NotFound):
                await office.authorities.describe(scope, ca)

    in_office(tmp_path, test)


def test_the_verification_has_to_be_ours_and_of_now(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made = issuer()
        theirs, old = await office.authorities.code(THEIRS), await office.authorities.code(OURS)
        await office.authorities.delete_code(OURS)
        for code in (old, theirs):  # the first while there is no code at all
            with pytest.raises(WrongRegistrationCode):
                await office.take(made, mode="DEFAULT", verification=pem(made.sign(code)))
            await office.authorities.code(OURS)
        forged = issuer().sign(await office.authorities.code(OURS))
        with pytest.raises(UnverifiedCertificate):
            await office.take(made, mode="DEFAULT", verification=pem(forged))
        assert await house.rows("SELECT 1 FROM ca_certificates UNION SELECT 1 FROM certificates") == []

    in_office(tmp_path, test)


@pytest.mark.parametrize(("mode", "verification"), [("DEFAULT", None), ("SNI_ONLY", "x")])
def test_a_mode_needs_or_forbids_a_verification(tmp_path: Path, mode: str, verification: str | None) -> None:
    async def test(_house: House, office: Office) -> None:
        with pytest.raises(Disallowed, match="verification certificate for registering CA Certificates in " + mode):
            await office.take(issuer(), mode=mode, verification=verification)

    in_office(tmp_path, test)


def test_one_account_of_a_region_owns_it(tmp_path: Path) -> None:
    async def test(_house: House, office: Office) -> None:
        made = issuer()
        ca = await office.prove(made)
        for scope in (OURS, THEIRS):
            with pytest.raises(AlreadyExists) as refused:
                await office.prove(made, scope)
            assert (refused.value.id, refused.value.arn) == (ca, f"arn:aws:iot:us-east-1:{scope.account}:cacert/{ca}")
        with pytest.raises(AlreadyExists):
            await office.take(made)
        await office.prove(made, ABROAD)
        await office.take(made, THEIRS)
        await office.change(ca, status=AuthorityStatus.INACTIVE)
        await office.authorities.delete(OURS, ca)
        await office.take(made)

    in_office(tmp_path, test)


def test_ten_of_one_subject(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        for _ in range(10):
            await office.take(issuer())
        with pytest.raises(LimitExceeded):
            await office.take(issuer())
        assert await house.rows("SELECT count(*) FROM ca_certificates") == [(10,)]
        await office.take(issuer("Another"))
        await office.take(issuer(), THEIRS)

    in_office(tmp_path, test)


def test_configurations(tmp_path: Path) -> None:
    async def test(_house: House, office: Office) -> None:
        await office.template("jitp")
        await office.template("fleet", Kind.FLEET)
        for refused, config in (
            (NotFound, RegistrationConfig(template_name="missing")),
            (Invalid, RegistrationConfig(template_name="fleet")),
            (InvalidTemplate, RegistrationConfig(template_body="{}", role_arn=ROLE)),
        ):
            with pytest.raises(refused):
                await office.take(issuer(), config=config)
        by_name = RegistrationConfig(template_name="jitp")
        ca = await office.take(issuer(), config=by_name)
        assert (await office.authorities.describe(OURS, ca)).config == by_name
        with pytest.raises(NotFound):
            await office.change(ca, config=RegistrationConfig(template_name="missing"))
        by_body = RegistrationConfig(template_body=JITP_BODY, role_arn=ROLE)
        await office.change(ca, config=by_body, auto_registration=True)
        kept = await office.authorities.describe(OURS, ca)
        assert (kept.config, kept.auto_registration, kept.version) == (by_body, True, 2)
        await office.change(ca, remove_registration=True)
        kept = await office.authorities.describe(OURS, ca)
        assert (kept.config, kept.auto_registration, kept.version) == (None, False, 3)

    in_office(tmp_path, test)


def test_changes(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        ca = await office.take(issuer())
        before = await office.authorities.describe(OURS, ca)
        await house.notices()
        await office.change(ca)
        await office.change(ca, status=AuthorityStatus.ACTIVE, auto_registration=False)
        assert await office.authorities.describe(OURS, ca) == before
        house.clock.advance(seconds=5)
        await office.change(ca, auto_registration=True)
        assert await house.notices() == []
        await office.change(ca, status=AuthorityStatus.INACTIVE)
        assert await house.notices() == [(OURS, "ca", ca)]
        after = await office.authorities.describe(OURS, ca)
        assert (after.version, after.created_at, after.modified_at) == (3, before.created_at, house.clock())
        for contradiction in (
            {"auto_registration": True},
            {"config": RegistrationConfig(template_body=JITP_BODY, role_arn=ROLE)},
        ):
            with pytest.raises(Invalid):
                await office.change(ca, remove_registration=True, **contradiction)
        for scope in (THEIRS, ABROAD):
            with pytest.raises(NotFound):
                await office.change(ca, scope, status=AuthorityStatus.ACTIVE)

    in_office(tmp_path, test)


def test_deletion(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made = issuer()
        ca = await office.take(made, tags={"a": "b"})
        with pytest.raises(InvalidState, match="must be deactivated"):
            await office.authorities.delete(OURS, ca)
        await office.change(ca, status=AuthorityStatus.INACTIVE)
        with pytest.raises(NotFound):
            await office.authorities.delete(THEIRS, ca)
        await house.notices()
        await office.authorities.delete(OURS, ca)
        assert await house.notices() == [(OURS, "ca", ca)]
        assert await house.rows("SELECT key FROM tags") == []
        assert await house.rows("SELECT fingerprint FROM certificates") == []
        with pytest.raises(NotFound):
            await office.authorities.describe(OURS, ca)

    in_office(tmp_path, test)


def test_content_stays_while_anybody_has_a_claim_on_it(tmp_path: Path) -> None:
    """The same certificate as an authority of two accounts, and as a device's certificate of one."""

    async def test(house: House, office: Office) -> None:
        made = issuer()
        ca = await office.take(made, active=False)
        await office.take(made, THEIRS, active=False)
        assert await house.certificate(pem=made.pem) == ca
        await house.certificates.delete(OURS, ca)
        await office.authorities.delete(THEIRS, ca)
        assert (await office.authorities.describe(OURS, ca)).certificate.pem == made.pem
        await house.certificate(pem=made.pem)
        await office.authorities.delete(OURS, ca)
        assert (await house.certificates.describe(OURS, ca)).certificate.pem == made.pem
        await house.certificates.delete(OURS, ca)
        assert await house.rows("SELECT fingerprint FROM certificates") == []

    in_office(tmp_path, test)


def test_lists(tmp_path: Path) -> None:
    async def test(_house: House, office: Office) -> None:
        await office.template("jitp")
        config = RegistrationConfig(template_name="jitp")
        made = [await office.take(issuer(str(n)), config=config if n % 2 else None) for n in range(5)]
        await office.take(issuer(), THEIRS)
        authorities = office.authorities

        async def pages(template: str | None, *, ascending: bool) -> list[str]:
            found, marker = [], None
            while True:
                page, marker = await authorities.list(
                    OURS, template=template, limit=2, ascending=ascending, marker=marker
                )
                assert 0 < len(page) <= 2
                found += [authority.fingerprint for authority in page]
                if marker is None:
                    return found

        assert await pages(None, ascending=True) == made
        assert await pages(None, ascending=False) == made[::-1]
        assert await pages("jitp", ascending=True) == made[1::2]
        _, marker = await authorities.list(OURS, template=None, limit=2, ascending=True, marker=None)
        for scope, template, ascending in ((THEIRS, None, True), (OURS, None, False), (OURS, "jitp", True)):
            with pytest.raises(Invalid):
                await authorities.list(scope, template=template, limit=2, ascending=ascending, marker=marker)

    in_office(tmp_path, test)


def test_registering_a_leaf(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made = issuer()
        ca = await office.take(made)
        leaf = made.sign(serial=0xABC)
        for given in (None, made.pem):
            registration = await office.issued.register(OURS, pem(leaf), given, status=Status.ACTIVE)
            described = (await house.certificates.describe(OURS, fingerprint(leaf))).registration
            assert described == registration
            assert (registration.ca, registration.serial, registration.mode) == (ca, "abc", "SNI_ONLY")
            with pytest.raises(AlreadyExists) as refused:
                await office.issued.register(OURS, pem(leaf), given, status=Status.ACTIVE)
            assert refused.value.id == fingerprint(leaf)
            await house.certificates.set_status(OURS, fingerprint(leaf), Status.INACTIVE)
            await house.certificates.delete(OURS, fingerprint(leaf))
        proven = issuer("proven")
        await office.prove(proven)
        registration = await office.issued.register(OURS, pem(proven.sign()), None, status=Status.INACTIVE)
        assert (registration.mode, registration.status) == ("DEFAULT", Status.INACTIVE)
        with pytest.raises(InvalidState, match="PENDING_ACTIVATION"):
            await office.issued.register(OURS, pem(proven.sign()), None, status=Status.PENDING_ACTIVATION)

    in_office(tmp_path, test)


def test_an_authority_that_does_not_vouch(tmp_path: Path) -> None:
    async def refusal(office: Office, leaf: str, given: str | None = None, scope: Scope = OURS) -> str:
        with pytest.raises((InvalidState, UnverifiedCertificate, Ambiguous)) as refused:
            await office.issued.register(scope, leaf, given, status=Status.ACTIVE)
        error: Any = refused.value
        return f"{type(error).__name__}: {error.reason}"

    async def test(house: House, office: Office) -> None:
        made, twin, other = issuer(), issuer(), issuer("Another")
        leaf, unknown = pem(made.sign()), "InvalidState: No CA certificate exists for the given certificate"
        mismatch = (
            "UnverifiedCertificate: The issuer of the certificate did not match the subject of the provided CA "
            "certificate."
        )
        forged = (
            "UnverifiedCertificate: The signature of the certificate failed verification against the provided CA "
            "certificate."
        )
        assert await refusal(office, leaf) == await refusal(office, leaf, made.pem) == unknown
        await office.take(made, THEIRS)
        assert await refusal(office, leaf) == await refusal(office, leaf, made.pem) == unknown
        ca = await office.take(made)
        assert await refusal(office, leaf, other.pem) == mismatch
        assert await refusal(office, leaf, twin.pem) == forged
        assert await refusal(office, pem(twin.sign())) == forged
        assert await refusal(office, pem(twin.sign()), made.pem) == forged
        assert await refusal(office, vectors.certificate_pem()) == unknown
        await office.take(twin)
        assert (await refusal(office, leaf)).startswith("Ambiguous: ")
        await office.change(ca, status=AuthorityStatus.INACTIVE)
        assert await refusal(office, leaf, made.pem) == "InvalidState: The CA certificate is not active"
        assert await house.rows("SELECT 1 FROM registrations") == []
        await office.change(ca, status=AuthorityStatus.ACTIVE)
        await office.issued.register(OURS, leaf, made.pem, status=Status.ACTIVE)

    in_office(tmp_path, test)


def test_a_serial_number_is_given_once(tmp_path: Path) -> None:
    async def test(_house: House, office: Office) -> None:
        made, other = issuer(), issuer("Another")
        await office.take(made)
        await office.take(other)
        first = made.sign(serial=7)
        await office.issued.register(OURS, pem(first), None, status=Status.INACTIVE)
        for again in (made.sign(serial=7), rewritten(first)):
            with pytest.raises(AlreadyExists) as refused:
                await office.issued.register(OURS, pem(again), None, status=Status.INACTIVE)
            assert refused.value.id == fingerprint(first)
        await office.issued.register(OURS, pem(other.sign(serial=7)), None, status=Status.INACTIVE)
        await office.take(made, THEIRS)
        await office.issued.register(THEIRS, pem(first), None, status=Status.INACTIVE)

    in_office(tmp_path, test)


def test_leaves_of_an_authority(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made = issuer()
        ca = await office.take(made)
        await office.take(made, THEIRS)
        leaves = []
        for _ in range(5):
            house.clock.advance(seconds=1)
            registration = await office.issued.register(OURS, pem(made.sign()), None, status=Status.INACTIVE)
            leaves.append(registration.fingerprint)
        await house.certificate(pem=pem(made.sign()))
        for ascending, expected in ((True, leaves), (False, leaves[::-1])):
            found: list[str] = []
            marker = None
            while len(found) < 5:
                page = await office.issued.list(OURS, ca, limit=2, ascending=ascending, marker=marker)
                found += [registration.fingerprint for registration in page.registrations]
                marker = page.next_marker
            assert (found, marker) == (expected, None)
        for scope, whose in ((OURS, UNKNOWN), (THEIRS, ca)):
            assert (await office.issued.list(scope, whose, limit=9, ascending=True, marker=None)).registrations == []
        marker = (await office.issued.list(OURS, ca, limit=2, ascending=True, marker=None)).next_marker
        for scope, whose in ((OURS, UNKNOWN), (THEIRS, ca)):
            with pytest.raises(Invalid):
                await office.issued.list(scope, whose, limit=2, ascending=True, marker=marker)

    in_office(tmp_path, test)


def test_an_account_has_as_many_certificates_as_it_may(tmp_path: Path) -> None:
    async def test(house: House, office: Office) -> None:
        made = issuer()
        await office.take(made)
        issued = IssuedRegistry(house.store, MARKERS, quotas=Quotas(certificates=1), clock=house.clock)
        await issued.register(OURS, pem(made.sign()), None, status=Status.INACTIVE)
        with pytest.raises(LimitExceeded):
            await issued.register(OURS, pem(made.sign()), None, status=Status.INACTIVE)

    in_office(tmp_path, test)


def test_pages_run_along_an_index(tmp_path: Path) -> None:
    async def test(house: House, _office: Office) -> None:
        plan = await house.rows(
            "EXPLAIN QUERY PLAN SELECT fingerprint FROM registrations WHERE account = 'a' AND region = 'r' "
            "AND ca = 'c' ORDER BY created_at DESC, fingerprint DESC LIMIT 5"
        )
        assert [row[3] for row in plan] == [
            "SEARCH registrations USING COVERING INDEX registrations_by_ca (account=? AND region=? AND ca=?)"
        ]

    in_office(tmp_path, test)
