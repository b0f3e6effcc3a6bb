"""Every use case, with a real store and a real authority."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.unit import vectors
from thingmint.domain.errors import (
    AlreadyExists,
    Conflict,
    Invalid,
    InvalidCertificate,
    InvalidSigningRequest,
    InvalidState,
    NotFound,
)
from thingmint.domain.registration import Scope
from thingmint.domain.status import Status
from thingmint.domain.things import Thing
from thingmint.services.certificates import CertificateRegistry, RegisteredCertificate
from thingmint.services.keypool import KeyPool
from thingmint.services.markers import Markers
from thingmint.services.principals import attach_principal, detach_principal
from thingmint.services.things import create_thing
from thingmint.store import access
from thingmint.store import certificates as sql
from thingmint.store.sqlite import SQLiteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from thingmint.domain.issuing_ca import CertificateAuthority
    from thingmint.store.engine import Store, Transaction

OURS = Scope("111111111111", "us-east-1")
ABROAD = Scope("111111111111", "eu-central-1")
THEIRS = Scope("222222222222", "us-east-1")
UNKNOWN = "0" * 64
PEM = vectors.certificate_pem()


@dataclass
class House:
    certificates: CertificateRegistry
    store: Store
    clock: vectors.FakeClock
    authority: CertificateAuthority

    async def register(self, scope: Scope = OURS, pem: str = PEM, status: Status = Status.INACTIVE) -> str:
        registered = await self.certificates.register(scope, pem, status=status, field="certificatePem")
        return registered.registration.fingerprint

    async def contents(self) -> int:
        async def body(tx: Transaction) -> int:
            row = await tx.fetch_one("SELECT count(*) FROM certificates")
            assert row is not None
            count: int = row[0]
            return count

        return await self.store.read(body)

    async def force(self, fingerprint: str, status: Status) -> None:
        """A status that no caller may set, as later work will."""
        current = await self.certificates.describe(OURS, fingerprint)

        async def body(tx: Transaction) -> None:
            await sql.update_registration(tx, replace(current.registration, status=status))

        await self.store.write(body)


@contextlib.asynccontextmanager
async def house(tmp_path: Path, **options: Any) -> AsyncIterator[House]:
    database = tmp_path / "thingmint.db"
    database.touch()
    store, clock, authority = SQLiteStore(database), vectors.FakeClock(), vectors.authority()

    async def accounts(tx: Transaction) -> None:
        for account in (OURS.account, THEIRS.account):
            await access.insert_account(tx, account, "", 0)

    await store.write(accounts)
    keys = KeyPool(0, threads=1, generate=vectors.cheap_key_pair)
    keys.start()
    registry = CertificateRegistry(store, authority, keys, Markers(b"k" * 32), clock=clock, **options)
    try:
        yield House(registry, store, clock, authority)
    finally:
        await keys.close()
        await store.close()


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    """Runs a scenario in a house of its own."""

    def run_in_house(scenario: Callable[[House], Coroutine[Any, Any, None]], **options: Any) -> None:
        async def main() -> None:
            async with house(tmp_path, **options) as made:
                await scenario(made)

        asyncio.run(main())

    return run_in_house


Run = Any


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_new(registered: RegisteredCertificate, house: House, scope: Scope, **expected: object) -> None:
    registration = registered.registration
    assert registration.scope == scope
    assert registration.fingerprint == registered.certificate.fingerprint
    assert registration.arn == f"arn:aws:iot:{scope.region}:{scope.account}:cert/{registration.fingerprint}"
    assert registration.created_at == registration.modified_at == house.clock.now
    assert registration.version == 1
    assert {name: getattr(registration, name) for name in expected} == expected


class TestIssuing:
    @pytest.mark.parametrize("active", [True, False])
    def test_keys_and_certificate(self, run: Run, active: bool) -> None:
        async def scenario(house: House) -> None:
            registered, keys = await house.certificates.create_keys_and_certificate(OURS, active=active)
            status = Status.ACTIVE if active else Status.INACTIVE
            check_new(registered, house, OURS, status=status, mode="DEFAULT", origin="keys")
            certificate = x509.load_der_x509_certificate(registered.certificate.der)
            private: Any = load_pem_private_key(keys.private_pem.encode(), None)
            assert private.public_key() == certificate.public_key()
            assert certificate.subject.rfc4514_string() == "CN=AWS IoT Certificate"
            certificate.verify_directly_issued_by(house.authority.certificate)
            assert certificate.not_valid_before_utc == house.clock.now.replace(microsecond=0) - timedelta(minutes=2)
            assert await house.certificates.describe(OURS, registered.registration.fingerprint) == registered

        run(scenario)

    @pytest.mark.parametrize("active", [True, False])
    def test_from_a_request(self, run: Run, active: bool) -> None:
        async def scenario(house: House) -> None:
            issue = house.certificates.create_from_csr
            csr = vectors.csr_pem()
            registered = await issue(OURS, csr, active=active, field="csr")
            status = Status.ACTIVE if active else Status.INACTIVE
            check_new(registered, house, OURS, status=status, mode="DEFAULT", origin="csr")
            certificate = x509.load_der_x509_certificate(registered.certificate.der)
            assert certificate.subject == vectors.name("thermostat-7")
            assert certificate.public_key() == vectors.ec_key().public_key()
            again = await issue(OURS, csr, active=active, field="csr")
            assert again.registration.fingerprint != registered.registration.fingerprint
            assert again.registration.generation != registered.registration.generation
            assert await house.certificates.describe(OURS, registered.registration.fingerprint) == registered

        run(scenario)

    @pytest.mark.parametrize("csr", ["", PEM, vectors.csr_pem(vectors.rsa_key(1024)), vectors.csr_pem() * 2])
    def test_a_bad_request_stores_nothing(self, run: Run, csr: str) -> None:
        async def scenario(house: House) -> None:
            with pytest.raises(InvalidSigningRequest) as refused:
                await house.certificates.create_from_csr(OURS, csr, active=True, field="csr")
            assert refused.value.field == "csr"
            assert await house.contents() == 0

        run(scenario)

    def test_a_private_key_that_was_given_out_is_in_no_file(self, run: Run, tmp_path: Path) -> None:
        async def scenario(house: House) -> None:
            _, keys = await house.certificates.create_keys_and_certificate(OURS, active=True)
            numbers = vectors.rsa_key().private_numbers()
            secrets = [keys.private_pem.splitlines()[5].encode()]
            secrets += [number.to_bytes(128, "big") for number in (numbers.p, numbers.q)]
            files = contents_of(tmp_path)
            assert {"thingmint.db", "thingmint.db-wal"} <= set(files)
            assert not [name for name, content in files.items() for secret in secrets if secret in content]

        run(scenario)


class TestRegistering:
    @pytest.mark.parametrize("status", [Status.ACTIVE, Status.INACTIVE, Status.REVOKED])
    def test_one_that_a_device_has(self, run: Run, status: Status) -> None:
        async def scenario(house: House) -> None:
            registered = await house.certificates.register(OURS, PEM, status=status, field="pem")
            check_new(registered, house, OURS, status=status, mode="SNI_ONLY", origin="registered")
            assert registered.certificate.pem == PEM
            assert await house.certificates.describe(OURS, registered.registration.fingerprint) == registered

        run(scenario)

    def test_however_it_was_written(self, run: Run) -> None:
        async def scenario(house: House) -> None:
            fingerprint = await house.register(pem="Certificate:\n" + PEM.replace("\n", "\r\n"))
            assert (await house.certificates.describe(OURS, fingerprint)).certificate.pem == PEM

        run(scenario)

    def test_what_stands_around_it_is_not_kept(self, run: Run, tmp_path: Path) -> None:
        # A key without boundaries, as somebody may paste it; no pattern can find every form.
        key = "".join(vectors.cheap_key_pair().private_pem.splitlines()[1:-1])

        async def scenario(house: House) -> None:
            with contextlib.suppress(InvalidCertificate):
                await house.register(pem=f"{PEM}\n{key}\n")
            assert key[100:200].encode() not in b"".join(contents_of(tmp_path).values())

        run(scenario)

    def test_twice_is_once_too_often(self, run: Run) -> None:
        async def scenario(house: House) -> None:
            fingerprint = await house.register()
            before = await house.certificates.describe(OURS, fingerprint)
            house.clock.advance(hours=1)
            with pytest.raises(AlreadyExists) as refused:
                await house.register(pem=PEM.replace("\n", "\r\n"), status=Status.ACTIVE)
            assert (refused.value.kind, refused.value.id) == ("certificate", fingerprint)
            assert await house.certificates.describe(OURS, fingerprint) == before

        run(scenario)

    def test_again_after_deletion(self, run: Run) -> None:
        async def scenario(house: House) -> None:
            fingerprint = await house.register()
            first = await house.certificates.describe(OURS, fingerprint)
            await house.certificates.delete(OURS, fingerprint)
            await house.register()
            second = await house.certificates.describe(OURS, fingerprint)
            assert second.registration.generation != first.registration.generation

        run(scenario)

    @pytest.mark.parametrize(
        ("pem", "status", "error"),
        [
            ("", Status.ACTIVE, InvalidCertificate),
            (vectors.csr_pem(), Status.ACTIVE, InvalidCertificate),
            (PEM + vectors.cheap_key_pair().private_pem, Status.ACTIVE, InvalidCertificate),
            (vectors.certificate_pem(vectors.rsa_key(1024).public_key()), Status.ACTIVE, InvalidCertificate),
            (PEM, Status.PENDING_ACTIVATION, InvalidState),
            (PEM, Status.PENDING_TRANSFER, InvalidState),
            (PEM, Status.REGISTER_INACTIVE, InvalidState),
        ],
    )
    def test_what_is_refused_is_not_stored(self, run: Run, pem: str, status: Status, error: type[Exception]) -> None:
        async def scenario(house: House) -> None:
            with pytest.raises(error):
                await house.register(pem=pem, status=status)
            assert await house.contents() == 0

        run(scenario)

    def test_at_the_same_time(self, run: Run) -> None:
        async def scenario(house: House) -> None:
            outcomes = await asyncio.gather(*(house.register() for _ in range(10)), return_exceptions=True)
            assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AlreadyExists"] * 9 + ["str"]

        run(scenario)


class TestStatus:
    def test_a_change_is_counted_and_dated(self, run: Run) -> None:
        async def scenario(house: House) -> None:
            fingerprint = await house.register()
            created = house.clock.now
            house.clock.advance(minutes=5)
            changed = await house.certificates.set_status(OURS, fingerprint, Status.ACTIVE)
            assert (changed.status, changed.version) == (Status.ACTIVE, 2)
            assert (changed.created_at, changed.modified_at) == (created, house.clock.now)
            assert (await house.certificates.describe(OURS, fingerprint)).registration == changed

        run(scenario)

    def test_the_same_again_is_no_change(self, run: Run) -> None:
        async def scenario(house: House) -> None:
            fingerprint = await house.register(status=Status.ACTIVE)
            before = await house.certificates.describe(OURS, fingerprint)
            house.clock.advance(minutes=5)
            assert await house.certificates.set_status(OURS, fingerprint, Status.ACTIVE) == before.registration
            assert await house.certificates.describe(OURS, fingerprint) == before

        run(scenario)

    @pytest.mark.parametrize("reinstate", [True, False])
    def test_a_revoked_one(self, run: Run, reinstate: bool) -> None:
        async def scenario(house: House) -> None:
            fingerprint = await house.register(status=Status.REVOKED)
            if reinstate:
                changed = await house.certificates.set_status(OURS, fingerprint, Status.ACTIVE)
                assert changed.status is Status.ACTIVE
                return
            with pytest.raises(InvalidState):
                await house.certificates.set_status(OURS, fingerprint, Status.ACTIVE)
            described = await house.certificates.describe(OURS, fingerprint)
            assert (described.registration.status, described.registration.version) == (Status.REVOKED, 1)

        run(scenario, reinstate_revoked=reinstate)

    def test_of_none(self, run: Run) -> None:
        async def scenario(house: House) -> None:
            with pytest.raises(NotFound) as refused:
                await house.certificates.set_status(OURS, UNKNOWN, Status.ACTIVE)
            assert (refused.value.kind, refused.value.id) == ("certificate", UNKNOWN)

        run(scenario)


class TestDeleting:
    @pytest.mark.parametrize("status", list(Status))
    def test_by_status(self, run: Run, status: Status) -> None:
        async def scenario(house: House) -> None:
            fingerprint = await house.register()
            await house.force(fingerprint, status)
            if status in ("ACTIVE", "PENDING_TRANSFER"):
                with pytest.raises(InvalidState, match="must be deactivated"):
                    await house.certificates.delete(OURS, fingerprint)
                await house.certificates.describe(OURS, fingerprint)
                return
            await house.certificates.delete(OURS, fingerprint)
            with pytest.raises(NotFound):
                await house.certificates.describe(OURS, fingerprint)
            with pytest.raises(NotFound):
                await house.certificates.delete(OURS, fingerprint)
            assert await house.contents() == 0

        run(scenario)

    def test_not_while_it_is_a_things(self, run: Run) -> None:
        async def scenario(house: House) -> None:
            fingerprint = await house.register()
            await house.register(THEIRS)
            thing = Thing.begin(OURS, "t", id="i", type=None, attributes={}, now=house.clock.now)

            async def attach(tx: Transaction) -> None:
                await create_thing(tx, thing)
                await attach_principal(tx, OURS, "t", fingerprint, house.clock.now)

            async def detach(tx: Transaction) -> None:
                await detach_principal(tx, OURS, "t", fingerprint, house.clock.now)

            await house.store.write(attach)
            before = await house.certificates.describe(OURS, fingerprint)
            with pytest.raises(Conflict) as refused:
                await house.certificates.delete(OURS, fingerprint)
            told = f"Things must be detached before deletion (arn: {before.registration.arn})"
            assert refused.value.reason == told
            await house.certificates.delete(THEIRS, fingerprint)
            assert await house.certificates.describe(OURS, fingerprint) == before
            await house.store.write(detach)
            await house.certificates.delete(OURS, fingerprint)

        run(scenario)


class TestIsolation:
    def test_each_account_and_region_has_a_registration_of_its_own(self, run: Run) -> None:
        async def scenario(house: House) -> None:
            fingerprint = await house.register(OURS)
            before = await house.certificates.describe(OURS, fingerprint)
            for scope in (THEIRS, ABROAD):
                house.clock.advance(hours=1)
                pem = PEM.replace("\n", "\r\n")
                assert await house.register(scope, pem, Status.ACTIVE) == fingerprint
                described = await house.certificates.describe(scope, fingerprint)
                check_new(described, house, scope, status=Status.ACTIVE)
                await house.certificates.set_status(scope, fingerprint, Status.REVOKED)
                await house.certificates.delete(scope, fingerprint)
                with pytest.raises(NotFound):
                    await house.certificates.describe(scope, fingerprint)
            assert await house.certificates.describe(OURS, fingerprint) == before

        run(scenario)

    def test_the_content_goes_with_the_last_claim(self, run: Run) -> None:
        async def scenario(house: House) -> None:
            scopes = (OURS, THEIRS, ABROAD)
            for scope in scopes:
                fingerprint = await house.register(scope)
            for left, scope in zip((1, 1, 0), scopes, strict=True):
                await house.certificates.delete(scope, fingerprint)
                assert await house.contents() == left

        run(scenario)

    def test_nothing_of_another_can_be_reached(self, run: Run) -> None:
        async def scenario(house: House) -> None:
            registered, _ = await house.certificates.create_keys_and_certificate(OURS, active=False)
            fingerprint = registered.registration.fingerprint
            for scope in (THEIRS, ABROAD):
                for attempt in (
                    house.certificates.describe(scope, fingerprint),
                    house.certificates.set_status(scope, fingerprint, Status.REVOKED),
                    house.certificates.delete(scope, fingerprint),
                ):
                    with pytest.raises(NotFound):
                        await attempt
                page = await house.certificates.list(scope, limit=250, ascending=True, marker=None)
                assert page.registrations == []
            assert await house.certificates.describe(OURS, fingerprint) == registered

        run(scenario)

    def test_an_account_that_does_not_exist_can_have_none(self, run: Run) -> None:
        async def scenario(house: House) -> None:
            with pytest.raises(Exception, match="FOREIGN KEY"):
                await house.register(Scope("333333333333", "us-east-1"))
            assert await house.contents() == 0

        run(scenario)


async def all_pages(house: House, scope: Scope, *, limit: int, ascending: bool) -> list[list[str]]:
    pages, marker = [], None
    while True:
        page = await house.certificates.list(scope, limit=limit, ascending=ascending, marker=marker)
        pages.append([registration.fingerprint for registration in page.registrations])
        marker = page.next_marker
        if marker is None:
            return pages


class TestListing:
    @pytest.mark.parametrize("ascending", [True, False])
    @pytest.mark.parametrize(
        ("count", "limit", "sizes"),
        [(0, 5, [0]), (1, 5, [1]), (5, 5, [5]), (6, 5, [5, 1]), (7, 1, [1] * 7), (7, 3, [3, 3, 1])],
    )
    def test_pages(self, run: Run, count: int, limit: int, sizes: list[int], ascending: bool) -> None:
        async def scenario(house: House) -> None:
            made = []
            for number in range(count):
                # Two at a time have the same age; their ids tell them apart then.
                house.clock.advance(microseconds=number % 2)
                fingerprint = await house.register(pem=vectors.certificate_pem(common_name=f"{number}"))
                made.append((house.clock.now, fingerprint))
                await house.register(THEIRS, vectors.certificate_pem())
            expected = [fingerprint for _, fingerprint in sorted(made, reverse=not ascending)]
            pages = await all_pages(house, OURS, limit=limit, ascending=ascending)
            assert [fingerprint for page in pages for fingerprint in page] == expected
            assert [len(page) for page in pages] == sizes

        run(scenario)

    @pytest.mark.parametrize("ascending", [True, False])
    def test_what_goes_and_comes_meanwhile_moves_nothing(self, run: Run, ascending: bool) -> None:
        async def scenario(house: House) -> None:
            made = []
            for _ in range(6):
                house.clock.advance(seconds=1)
                made.append(await house.register(pem=vectors.certificate_pem()))
            order = made if ascending else made[::-1]
            list_page = house.certificates.list
            first = await list_page(OURS, limit=3, ascending=ascending, marker=None)
            await house.certificates.delete(OURS, order[2])  # the one that the marker is about
            await house.certificates.delete(OURS, order[4])
            house.clock.advance(seconds=1)
            new = await house.register(pem=vectors.certificate_pem())
            second = await list_page(OURS, limit=3, ascending=ascending, marker=first.next_marker)
            expected = [order[3], order[5]] + ([new] if ascending else [])
            assert [registration.fingerprint for registration in second.registrations] == expected
            assert second.next_marker is None

        run(scenario)

    def test_a_marker_is_good_for_its_own_list_only(self, run: Run) -> None:
        async def scenario(house: House) -> None:
            for scope in (OURS, THEIRS, ABROAD):
                for _ in range(2):
                    await house.register(scope, vectors.certificate_pem())
            marker = (await house.certificates.list(OURS, limit=1, ascending=True, marker=None)).next_marker
            assert marker is not None
            middle = len(marker) // 2
            changed = marker[:middle] + ("A" if marker[middle] != "A" else "B") + marker[middle + 1 :]
            for scope, ascending, word in (
                (THEIRS, True, marker),
                (ABROAD, True, marker),
                (OURS, False, marker),
                (OURS, True, changed),
                (OURS, True, ""),
                (OURS, True, marker + marker),
            ):
                with pytest.raises(Invalid) as refused:
                    await house.certificates.list(scope, limit=1, ascending=ascending, marker=word)
                assert refused.value.field == "marker"
            page = await house.certificates.list(OURS, limit=1, ascending=True, marker=marker)
            assert len(page.registrations) == 1

        run(scenario)
