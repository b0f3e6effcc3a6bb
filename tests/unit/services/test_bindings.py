"""Binding a certificate: what registration it makes or takes, and what is left when it ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.unit.services.fleet_support import Fleet, certificate, certificate_pem, with_fleet
from thingmint.domain.errors import AlreadyExists, Invalid, InvalidCertificate, LimitExceeded, NotFound
from thingmint.domain.quotas import NO_QUOTAS
from thingmint.domain.status import Status
from thingmint.services import certificates
from thingmint.services import device_policies as policies
from thingmint.services.bindings import submitted
from thingmint.services.certificates import REGISTRATIONS, Registration
from thingmint.store.outbox import notices_since
from thingmint.store.times import from_micros

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from thingmint.services.bindings import SubmittedCertificate
    from thingmint.services.operations import RecordedOperation
    from thingmint.store.engine import Transaction


async def add(fleet: Fleet, device: str, submitted: SubmittedCertificate) -> RecordedOperation:
    return await fleet.bindings.add(fleet.scope, device, submitted, fleet.clock.advance(), fleet.receipt())


async def remove(fleet: Fleet, device: str, fingerprint: str) -> RecordedOperation:
    return await fleet.bindings.remove(fleet.scope.account, device, fingerprint, fleet.receipt())


async def register(fleet: Fleet, submitted: SubmittedCertificate, status: Status) -> Registration:
    """As another face would have done it."""
    now = fleet.clock.advance()
    registration = Registration(
        scope=fleet.scope,
        fingerprint=submitted.certificate.fingerprint,
        status=status,
        mode="DEFAULT",
        origin="keys",
        created_at=now,
        modified_at=now,
        generation="g",
        version=3,
    )

    async def body(tx: Transaction) -> None:
        assert await certificates.register(tx, registration, submitted.certificate, NO_QUOTAS)

    await fleet.store.write(body)
    return registration


def test_a_new_certificate_becomes_an_active_registration(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        device, new = (await fleet.device()).id, certificate()
        await add(fleet, device, new)
        registration = await fleet.registration(new)
        assert registration is not None
        assert (registration.status, registration.origin, registration.version) == (Status.ACTIVE, "registered", 1)
        assert registration.generation == new.generation
        [binding] = await fleet.bindings.list(fleet.scope.account, device)
        assert fleet.results[-1] == binding
        assert (binding.kind, binding.owner, binding.scope) == ("device", device, fleet.scope)
        assert (binding.fingerprint, binding.sha1) == (new.certificate.fingerprint, new.certificate.sha1)
        assert binding.made_registration

    with_fleet(tmp_path, test)


@pytest.mark.parametrize("spell", [str, str.rstrip, lambda pem: pem.replace("\n", "\r\n"), lambda pem: f"x\n{pem}y"])
def test_the_text_is_kept_as_it_was_sent(tmp_path: Path, spell: Callable[[str], str]) -> None:
    async def test(fleet: Fleet) -> None:
        device, pem = (await fleet.device()).id, spell(certificate_pem())
        await add(fleet, device, submitted(pem, "f"))
        [binding] = await fleet.bindings.list(fleet.scope.account, device)
        assert binding.pem == pem

    with_fleet(tmp_path, test)


@pytest.mark.parametrize("status", Status)
def test_an_existing_registration_is_taken_as_it_is(tmp_path: Path, status: Status) -> None:
    async def test(fleet: Fleet) -> None:
        device, known = (await fleet.device()).id, certificate()
        registration = await register(fleet, known, status)
        await add(fleet, device, known)
        assert await fleet.registration(known) == registration
        [binding] = await fleet.bindings.list(fleet.scope.account, device)
        assert not binding.made_registration
        await remove(fleet, device, known.certificate.fingerprint)
        assert await fleet.registration(known) == registration

    with_fleet(tmp_path, test)


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.INACTIVE, Status.REVOKED])
def test_the_registration_that_binding_made_ends_with_it(tmp_path: Path, status: Status) -> None:
    async def test(fleet: Fleet) -> None:
        device, new = (await fleet.device()).id, certificate()
        await add(fleet, device, new)
        registration = await fleet.registration(new)
        assert registration is not None

        async def body(tx: Transaction) -> None:
            await REGISTRATIONS.update(tx, replace(registration, status=status))

        await fleet.store.write(body)
        await remove(fleet, device, new.certificate.sha1)
        assert await fleet.registration(new) is None
        assert await fleet.bindings.list(fleet.scope.account, device) == []

    with_fleet(tmp_path, test)


@pytest.mark.parametrize("held_by", ["a policy", "a thing"])
@pytest.mark.parametrize("whole", [False, True])
def test_what_something_else_holds_stays(tmp_path: Path, held_by: str, whole: bool) -> None:
    """When it is unbound, and when its device is deleted."""

    async def test(fleet: Fleet) -> None:
        held, free = certificate(), certificate()
        device = await fleet.device(held, free)
        await (attach_policy if held_by == "a policy" else attach_thing)(fleet, held.certificate.fingerprint)
        registration = await fleet.registration(held)
        assert registration is not None
        if whole:
            await fleet.fleet.delete_device(fleet.scope.account, device.id, fleet.receipt())
        else:
            for each in (held, free):
                await remove(fleet, device.id, each.certificate.fingerprint)
        assert await fleet.registration(free) is None
        assert await fleet.registration(held) == registration
        other = await fleet.device(held)
        [binding] = await fleet.bindings.list(fleet.scope.account, other.id)
        assert not binding.made_registration

    with_fleet(tmp_path, test)


def test_binding_and_unbinding_are_announced(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        first, second = certificate(), certificate()
        notices = [(*fleet.scope, "certificate", each.certificate.fingerprint) for each in (first, second)]
        registry = await fleet.registry(first)
        device = await fleet.device(second, registry=registry)
        assert await announced(fleet) == notices
        await remove(fleet, device.id, second.certificate.fingerprint)
        assert await announced(fleet) == notices[1:]
        await add(fleet, device.id, second)
        assert await announced(fleet) == notices[1:]
        await fleet.fleet.delete_device(fleet.scope.account, device.id, fleet.receipt())
        assert await announced(fleet) == notices[1:]
        await fleet.fleet.delete_registry(fleet.scope.account, registry.id, fleet.receipt())
        assert await announced(fleet) == notices[:1]

    with_fleet(tmp_path, test)


async def announced(fleet: Fleet) -> list[tuple[str, ...]]:
    """Since the last time that this was asked."""

    async def body(tx: Transaction) -> list[tuple[str, ...]]:
        notices = await notices_since(tx, from_micros(0))
        await tx.execute("DELETE FROM outbox")
        return [notice[2:] for notice in notices]

    return await fleet.store.write(body)


async def attach_policy(fleet: Fleet, fingerprint: str) -> None:
    async def body(tx: Transaction) -> None:
        await tx.execute("INSERT INTO device_policies VALUES ($1, $2, 'p', 1, 1, '', 0, 0)", *fleet.scope)
        await policies.attach_policy(tx, fleet.scope, "p", policies.Target("cert", fingerprint), fleet.clock.now)

    await fleet.store.write(body)


async def attach_thing(fleet: Fleet, fingerprint: str) -> None:
    async def body(tx: Transaction) -> None:
        await tx.execute(
            "INSERT INTO things (account, region, name, id, attributes, version, created_at) "
            "VALUES ($1, $2, 't', 'i', '{}', 1, 0)",
            *fleet.scope,
        )
        await tx.execute(
            "INSERT INTO thing_principals (account, region, thing, fingerprint, exclusive, attached_at) "
            "VALUES ($1, $2, 't', $3, 0, 0)",
            *fleet.scope,
            fingerprint,
        )

    await fleet.store.write(body)


def test_bound_once_in_an_account(tmp_path: Path) -> None:
    """To a device or to a registry."""

    async def test(fleet: Fleet) -> None:
        of_device, of_registry = certificate(), certificate()
        device = await fleet.device(of_device)
        await fleet.registry(of_registry)
        other = await fleet.device()
        for bound in (of_device, of_registry):
            for owner in (device, other):
                with pytest.raises(AlreadyExists) as refused:
                    await add(fleet, owner.id, bound)
                assert refused.value.id == bound.certificate.fingerprint
            with pytest.raises(AlreadyExists):
                await fleet.registry(bound)
        assert await fleet.bindings.list(fleet.scope.account, other.id) == []
        foreign = await fleet.second()
        await add(foreign, (await foreign.device()).id, of_device)

    with_fleet(tmp_path, test)


def test_the_same_certificate_twice_in_one_creation(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        new = certificate()
        with pytest.raises(AlreadyExists):
            await fleet.registry(new, new)
        assert await fleet.registration(new) is None

    with_fleet(tmp_path, test)


def test_another_accounts_registration_stays(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        shared, other = certificate(), await fleet.second()
        mine, theirs = await fleet.device(shared), await other.device(shared)
        await remove(fleet, mine.id, shared.certificate.fingerprint)
        assert await fleet.registration(shared) is None
        assert await other.registration(shared) is not None
        [binding] = await other.bindings.list(other.scope.account, theirs.id)
        assert binding.pem == shared.pem

    with_fleet(tmp_path, test)


def test_what_is_not_found(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        bound, loose = certificate(), certificate()
        device = (await fleet.device(bound)).id
        other = (await fleet.device()).id
        fingerprint = bound.certificate.fingerprint
        for missing in (loose.certificate.fingerprint, "", fingerprint[:-1], fingerprint.upper()):
            with pytest.raises(NotFound) as refused:
                await remove(fleet, device, missing)
            assert refused.value.kind == "certificate"
        with pytest.raises(NotFound):
            await remove(fleet, other, fingerprint)
        for nobody in ("are1", device[:-1]):
            with pytest.raises(NotFound) as refused:
                await remove(fleet, nobody, fingerprint)
            assert refused.value.kind == "device"
            with pytest.raises(NotFound):
                await add(fleet, nobody, loose)
            with pytest.raises(NotFound):
                await fleet.bindings.list(fleet.scope.account, nobody)
        foreign = await fleet.second()
        with pytest.raises(NotFound):
            await remove(foreign, device, fingerprint)
        with pytest.raises(NotFound):
            await foreign.bindings.list(foreign.scope.account, device)
        assert await fleet.registration(loose) is None
        assert len(await fleet.bindings.list(fleet.scope.account, device)) == 1

    with_fleet(tmp_path, test)


def test_deleting_the_owner(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        made, known = certificate(), certificate()
        registration = await register(fleet, known, Status.INACTIVE)
        device = await fleet.device(made, known)
        await fleet.fleet.delete_device(fleet.scope.account, device.id, fleet.receipt())
        assert await fleet.registration(made) is None
        assert await fleet.registration(known) == registration
        await fleet.device(made, known)

    with_fleet(tmp_path, test)


def test_how_many_one_owner_can_have(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        many = [certificate() for _ in range(51)]
        device = await fleet.device(*many[:49])
        await add(fleet, device.id, many[49])
        with pytest.raises(LimitExceeded):
            await add(fleet, device.id, many[50])
        assert await fleet.registration(many[50]) is None
        assert len(await fleet.bindings.list(fleet.scope.account, device.id)) == 50

    with_fleet(tmp_path, test)


def test_at_the_same_time(tmp_path: Path) -> None:
    async def test(fleet: Fleet) -> None:
        new = certificate()
        devices = [await fleet.device() for _ in range(20)]
        outcomes = await asyncio.gather(*(add(fleet, each.id, new) for each in devices), return_exceptions=True)
        assert sum(isinstance(each, AlreadyExists) for each in outcomes) == 19

    with_fleet(tmp_path, test)


@pytest.mark.parametrize("field", ["certificate_data", "certificates[0].certificate_data"])
def test_what_is_no_certificate_is_named(field: str) -> None:
    with pytest.raises(InvalidCertificate) as refused:
        submitted("", field)
    assert refused.value.field == field
    assert isinstance(refused.value, Invalid)
