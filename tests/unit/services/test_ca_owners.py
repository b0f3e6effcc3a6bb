"""The account that owns a CA in DEFAULT mode: who gets it, for how long, and how older stores are migrated."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from tests.issuers import Issuer, new_issuer, pem
from tests.unit import vectors
from tests.unit.services.test_ca_certificates import delete, describe, issuer, prove, register, take, update
from tests.unit.vectors import NOW
from tests.world import ABROAD, OURS, THEIRS
from thingmint.domain.errors import AlreadyExists, InvalidCertificate, InvalidState, NotFound, ProvisioningFailed
from thingmint.domain.issuing_ca import OwnAuthorities
from thingmint.services import ca_owners
from thingmint.services.ca_owners import settle_ca_owners
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.world import World
    from thingmint.domain.arns import Scope


async def end(world: World, root: Issuer, scope: Scope = OURS) -> None:
    """Delete the CA certificate."""
    await update(world, root.fingerprint, scope, newStatus="INACTIVE")
    await delete(world, root.fingerprint, scope)


async def drop(world: World, id: str, scope: Scope = OURS) -> None:
    await world.aws("UpdateCertificate", scope, certificateId=id, newStatus="INACTIVE")
    await world.aws("DeleteCertificate", scope, certificateId=id)


def reissued(root: Issuer, **facts: Any) -> Issuer:
    """Return another certificate of the same key."""
    return replace(root, certificate=issuer(key=root.key, **facts).certificate)


# -- the owner ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("common_name", ["A Maker's Root", "Another Name"])
async def test_a_ca_key_belongs_to_one_account_in_every_certificate(world: World, common_name: str) -> None:
    root = issuer()
    await prove(world, root)
    again = replace(root, certificate=issuer(common_name, key=root.key).certificate)
    with pytest.raises(AlreadyExists):
        await prove(world, again, THEIRS)
    await prove(world, again)
    await prove(world, again, ABROAD)
    await take(world, again, THEIRS)


async def test_deleting_a_ca_without_devices_ends_its_ownership(world: World) -> None:
    root = issuer()
    await prove(world, root)
    await end(world, root)
    assert await world.count("ca_owners") == 0
    await prove(world, root, THEIRS)
    with pytest.raises(AlreadyExists):
        await prove(world, root)


async def test_an_account_owns_a_ca_while_a_device_is_registered_under_it(world: World) -> None:
    root = issuer()
    await prove(world, root)
    device = await register(world, pem(root.sign()))
    await end(world, root)
    for again in (root, reissued(root)):
        with pytest.raises(AlreadyExists):
            await prove(world, again, THEIRS)
    await drop(world, device)
    await prove(world, root, THEIRS)
    assert await world.rows("SELECT account, region FROM ca_owners") == [THEIRS]


async def test_an_account_can_register_its_ca_again(world: World) -> None:
    root = issuer()
    await prove(world, root)
    await register(world, pem(root.sign()))
    await end(world, root)
    await prove(world, root)
    assert await world.rows("SELECT account, region FROM ca_owners") == [OURS]


async def test_a_refused_registration_does_not_make_an_owner(world: World) -> None:
    root = issuer()
    await take(world, root)
    with pytest.raises(AlreadyExists):
        await prove(world, root)
    assert await world.count("ca_owners") == 0
    await prove(world, root, THEIRS)


# -- this server's own CAs ----------------------------------------------------------------------------------------


def own_certificates() -> dict[str, Issuer]:
    """Return certificates with the keys of this server's own CAs, which every caller can make."""
    key = vectors.ca_key()
    return {
        "with its names": Issuer(key, vectors.authority(key).certificate, NOW),
        "with other names": new_issuer("A Maker's Root", key, now=NOW),
        "signed by another": Issuer(key, cross_signed(key), NOW),
    }


def cross_signed(key: Any) -> Any:
    basic = x509.BasicConstraints(ca=True, path_length=None)
    return new_issuer(now=NOW).sign("A Maker's Root", key, extensions=(basic,))


async def _add(world: World, own: Issuer) -> None:
    device = await world.device(await world.registry())
    await world.yandex("DeviceService.AddCertificate", device_id=device, certificate_data=own.pem)


async def _create(world: World, own: Issuer) -> None:
    await world.device(await world.registry(), certificates=[{"certificate_data": own.pem}])


async def _thing(world: World, properties: dict[str, str]) -> None:
    resources = {"c": {"Type": "AWS::IoT::Certificate", "Properties": properties}}
    await world.aws("RegisterThing", templateBody=json.dumps({"Resources": resources}))


WAYS: dict[str, Callable[[World, Issuer], Awaitable[Any]]] = {
    "RegisterCACertificate, DEFAULT": prove,
    "RegisterCACertificate, SNI_ONLY": take,
    "RegisterCertificate": lambda world, own: world.aws("RegisterCertificate", certificatePem=own.pem),
    "RegisterCertificate, given": lambda world, own: world.aws(
        "RegisterCertificate", certificatePem=pem(own.sign(key=vectors.ec_key())), caCertificatePem=own.pem
    ),
    "RegisterCertificateWithoutCA": lambda world, own: world.aws(
        "RegisterCertificateWithoutCA", certificatePem=own.pem
    ),
    "AddCertificate": _add,
    "DeviceService.Create": _create,
    "RegistryService.Create": lambda world, own: world.yandex(
        "RegistryService.Create", folder_id=world.ours.folder, certificates=[{"certificate_data": own.pem}]
    ),
    "RegisterThing": lambda world, own: _thing(world, {"CertificatePem": own.pem}),
    "RegisterThing, given": lambda world, own: _thing(
        world, {"CertificatePem": pem(own.sign(key=vectors.ec_key())), "CACertificatePem": own.pem}
    ),
}


@pytest.mark.parametrize("form", own_certificates())
@pytest.mark.parametrize("way", WAYS)
async def test_every_api_refuses_the_keys_of_our_own_cas(world: World, way: str, form: str) -> None:
    with pytest.raises((InvalidCertificate, ProvisioningFailed), match="this server's own certificate authorities"):
        await WAYS[way](world, own_certificates()[form])
    assert await world.count("ca_certificates") == 0
    assert await world.count("registrations") == 0


# -- older stores -------------------------------------------------------------------------------------------------


async def forget_owners(world: World) -> None:
    """Make the store look like an older one after the migration that adds owners."""
    await world.execute("UPDATE ca_owners SET key_id = ''")


async def as_before(world: World, root: Issuer, scope: Scope, *, devices: int = 0) -> list[str]:
    """Register a CA as DEFAULT even if another account has it, with devices under it, and return their ids."""
    kept = await world.rows("SELECT certificate, account, region, key_id, since FROM ca_owners")
    await world.execute("DELETE FROM ca_owners")
    await prove(world, root, scope)
    ids = [await register(world, pem(root.sign()), scope) for _ in range(devices)]
    for row in kept:
        await world.execute("INSERT INTO ca_owners VALUES ($1, $2, $3, $4, $5)", *row)
    return ids


async def modes(world: World, table: str = "registrations") -> dict[str, set[str]]:
    rows = await world.rows(f"SELECT account, mode FROM {table}")
    return {account: {mode for of, mode in rows if of == account} for account, _ in rows}


async def settle(world: World) -> list[dict[str, Any]]:
    with capture_logs() as logs:
        await settle_ca_owners(world.store, world.environment.own_authorities)
    return [dict(entry) for entry in logs]


async def test_the_first_account_keeps_its_ca(world: World) -> None:
    root = issuer()
    await as_before(world, root, OURS, devices=1)
    await as_before(world, root, THEIRS, devices=2)
    await forget_owners(world)
    (entry,) = await settle(world)
    assert (entry["event"], entry["account"], entry["ca"], entry["certificates"]) == (
        "ca_certificate_made_sni_only",
        THEIRS.account,
        root.fingerprint,
        2,
    )
    expected = {OURS.account: {"DEFAULT"}, THEIRS.account: {"SNI_ONLY"}}
    assert await modes(world) == expected
    assert await modes(world, "ca_certificates") == expected
    assert await settle(world) == []
    with pytest.raises(AlreadyExists):
        await prove(world, reissued(root), THEIRS)


async def test_the_owner_is_found_for_other_certificates_of_the_key_too(world: World) -> None:
    root = issuer()
    await as_before(world, root, THEIRS)
    await as_before(world, reissued(root), OURS)
    await forget_owners(world)
    (entry,) = await settle(world)
    assert entry["account"] == OURS.account
    assert (await describe(world, root.fingerprint, THEIRS))["certificateMode"] == "DEFAULT"


async def test_the_owner_of_a_deleted_ca_is_found_by_its_fingerprint(world: World) -> None:
    """Its content was deleted too."""
    root = issuer()
    await as_before(world, root, THEIRS, devices=1)
    await end(world, root, THEIRS)
    await as_before(world, root, OURS, devices=1)
    await end(world, root)
    await forget_owners(world)
    (entry,) = await settle(world)
    assert entry["account"] == OURS.account
    with pytest.raises(AlreadyExists):
        await prove(world, root)
    await prove(world, root, THEIRS)


async def test_all_certificates_of_a_large_fleet_become_sni_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In transactions of limited size."""
    monkeypatch.setattr("thingmint.services.ca_owners._NEXT_UNDER", _smaller_batches())
    root = issuer()
    await as_before(world, root, OURS)
    await as_before(world, root, THEIRS, devices=7)
    await forget_owners(world)
    (entry,) = await settle(world)
    assert entry["certificates"] == 7
    assert await modes(world) == {THEIRS.account: {"SNI_ONLY"}}


def _smaller_batches() -> str:
    return ca_owners._NEXT_UNDER.replace("LIMIT 1000", "LIMIT 3")


@pytest.mark.parametrize("mode", ["DEFAULT", "SNI_ONLY"])
async def test_registrations_of_our_own_cas_are_deleted(world: World, mode: str) -> None:
    """Certificates registered under it stay, without a proof of ownership."""
    root = issuer()
    if mode == "DEFAULT":
        ids = await as_before(world, root, THEIRS, devices=1)
    else:
        await take(world, root, THEIRS)
        ids = [await register(world, pem(root.sign()), THEIRS)]
        await world.execute(
            "INSERT INTO ca_owners SELECT id, $2, $3, '', $4 FROM certificates WHERE fingerprint = $1",
            bytes.fromhex(root.fingerprint),
            *THEIRS,
            to_micros(world.clock()),
        )
    await forget_owners(world)
    with capture_logs() as logs:
        await settle_ca_owners(world.store, OwnAuthorities([root.certificate]))
    assert [(entry["event"], entry["account"]) for entry in logs] == [("ca_certificate_deleted", THEIRS.account)]
    with pytest.raises(NotFound):
        await describe(world, root.fingerprint, THEIRS)
    with pytest.raises(InvalidState):
        await register(world, pem(root.sign()), THEIRS)
    described = await world.aws("DescribeCertificate", THEIRS, certificateId=ids[0])
    assert described["certificateDescription"]["certificateMode"] == "SNI_ONLY"
    assert await world.count("ca_owners") == 0


async def test_cas_without_proof_get_no_owner(world: World) -> None:
    root = issuer()
    await take(world, root)
    await world.execute("INSERT INTO ca_owners SELECT id, $1, $2, '', 1 FROM certificates", *OURS)
    assert await settle(world) == []
    assert await world.count("ca_owners") == 0
