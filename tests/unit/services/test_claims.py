"""AWS IoT's CreateProvisioningClaim: claim certificates for five minutes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.unit.services.test_templates import LAMPS, create
from tests.world import OURS, THEIRS
from thingmint.domain.errors import NotFound
from thingmint.services.claims import delete_expired_claims

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope


async def claim(world: World, scope: Scope = OURS) -> dict[str, Any]:
    """Create a template and a claim for it."""
    await create(world, scope)
    world.audit_resources()
    return await world.aws("CreateProvisioningClaim", scope, **LAMPS)


async def claims(world: World) -> list[str]:
    return [row[0] for row in await world.shown("SELECT fingerprint FROM provisioning_claims")]


async def test_a_claim_certificate_is_valid_for_five_minutes(world: World) -> None:
    made = await claim(world)
    assert world.audit_resources() == ["provisioningtemplate/lamps"]
    certificate = x509.load_pem_x509_certificate(made["certificatePem"].encode())
    now = world.clock.now.replace(microsecond=0)
    assert certificate.not_valid_after_utc == made["expiration"] == now + timedelta(minutes=5)
    assert certificate.not_valid_before_utc == now - timedelta(minutes=2)
    certificate.verify_directly_issued_by(world.environment.claim_ca.certificate)
    (row,) = await world.shown("SELECT account, region, fingerprint, template FROM provisioning_claims")
    assert row == (*OURS, made["certificateId"], "lamps")


async def test_a_claim_is_returned_with_its_keys(world: World) -> None:
    made = await claim(world)
    certificate = x509.load_pem_x509_certificate(made["certificatePem"].encode())
    private_key: Any = load_pem_private_key(made["keyPair"]["PrivateKey"].encode(), None)
    assert private_key.public_key() == certificate.public_key()
    assert made["keyPair"]["PublicKey"].startswith("-----BEGIN PUBLIC KEY-----\n")


async def test_a_claim_is_not_registered(world: World) -> None:
    await claim(world)
    for table in ("registrations", "certificates"):
        assert await world.count(table) == 0


@pytest.mark.sqlite
async def test_the_private_key_of_a_claim_is_not_stored(world: World) -> None:
    made = await claim(world)
    stored = b"".join(path.read_bytes() for path in world.folder.iterdir())
    assert bytes.fromhex(made["certificateId"]) in stored
    assert "".join(made["keyPair"]["PrivateKey"].splitlines()[1:3])[:32].encode() not in stored


async def test_expired_claims_are_deleted(world: World) -> None:
    first = await claim(world)
    world.clock.advance(minutes=2)
    second = await claim(world, THEIRS)
    ends = first["expiration"]
    await delete_expired_claims(world.store, ends - timedelta(microseconds=1))
    assert sorted(await claims(world)) == sorted([first["certificateId"], second["certificateId"]])
    await delete_expired_claims(world.store, ends)
    assert await claims(world) == [second["certificateId"]]


async def test_no_transaction_is_written_without_expired_claims(world: World) -> None:
    await claim(world)
    changes = world.store.writes
    await delete_expired_claims(world.store, world.clock.now)
    assert world.store.writes == changes


async def test_an_unknown_template_takes_no_key_from_the_pool(world: World) -> None:
    await world.environment.keys.close()
    with pytest.raises(NotFound):
        await world.aws("CreateProvisioningClaim", **LAMPS)
