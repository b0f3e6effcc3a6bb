"""Certificates that devices get over MQTT, and their ownership tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.unit.services.provisioning_support import CLAIM, Provisioning, body
from tests.world import FINGERPRINT, OURS, THEIRS, new_world
from thingmint.domain.errors import InvalidSigningRequest, LimitExceeded, ProvisioningRefused
from thingmint.domain.status import Status
from thingmint.services.ownership_tokens import delete_unclaimed
from thingmint.services.quotas import Quotas

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.world import World


async def certificates(world: World) -> set[str]:
    return {row[0] for row in await world.shown(f"SELECT {FINGERPRINT} FROM registrations")}


async def test_a_new_certificate_is_pending_activation(provisioning: Provisioning) -> None:
    made, token = await provisioning.create()
    assert token.startswith("tmo_")
    assert len(token) < 512
    assert provisioning.world.audit_resources() == [f"cert/{made}"]
    (row,) = await provisioning.world.shown(
        f"SELECT account, region, {FINGERPRINT}, status, mode, origin FROM registrations"
    )
    assert row == (*OURS, made, Status.PENDING_ACTIVATION, "DEFAULT", "csr")


async def test_new_keys_match_their_certificate(provisioning: Provisioning) -> None:
    made = await provisioning.create_keys()
    certificate = x509.load_pem_x509_certificate(made["certificatePem"].encode())
    private_key = load_pem_private_key(made["privateKey"].encode(), None)
    assert private_key.public_key() == certificate.public_key()
    assert await provisioning.world.shown(f"SELECT {FINGERPRINT}, origin FROM registrations") == [
        (made["certificateId"], "keys")
    ]


@pytest.mark.sqlite
async def test_token_and_private_key_are_not_stored(provisioning: Provisioning) -> None:
    made = await provisioning.create_keys()
    stored = b"".join(path.read_bytes() for path in provisioning.world.folder.iterdir())
    assert bytes.fromhex(made["certificateId"]) in stored
    assert made["certificateOwnershipToken"].encode() not in stored
    assert made["privateKey"].splitlines()[5].encode() not in stored


async def test_an_invalid_signing_request_changes_nothing(provisioning: Provisioning) -> None:
    with pytest.raises(InvalidSigningRequest, match="certificateSigningRequest"):
        await provisioning.create("nonsense")
    assert await certificates(provisioning.world) == set()


async def test_an_account_can_forbid_keys_over_mqtt(provisioning: Provisioning) -> None:
    world = provisioning.world
    await world.execute("INSERT INTO account_settings VALUES ($1, 'keys_over_mqtt', 'false')", OURS.account)
    await world.environment.keys.close()  # no key is taken
    with pytest.raises(ProvisioningRefused) as refused:
        await provisioning.create_keys()
    assert refused.value.step == "key"
    assert await provisioning.create()


async def test_keys_over_mqtt_are_forbidden_for_one_account(provisioning: Provisioning) -> None:
    insert = "INSERT INTO account_settings VALUES ($1, 'keys_over_mqtt', 'false')"
    await provisioning.world.execute(insert, OURS.account)
    assert await provisioning.create_keys(THEIRS)


@pytest.fixture
async def used_up(tmp_path: Path) -> AsyncIterator[Provisioning]:
    """An account whose quota of one certificate is used up."""
    async with new_world(tmp_path, quotas=Quotas(certificates=1)) as world:
        provisioning = Provisioning(world)
        await provisioning.create()
        yield provisioning


async def test_certificates_count_against_the_quota(used_up: Provisioning) -> None:
    for attempt in (used_up.create(), used_up.create_keys()):
        with pytest.raises(LimitExceeded) as exceeded:
            await attempt
        assert exceeded.value.reason == "The quota of 1 certificates for each account is used up"
    assert await used_up.world.count("ownership_tokens") == 1
    assert await used_up.world.count("certificates") == 1
    assert used_up.world.environment.counts["certificates_discarded"] == 2
    await used_up.create(scope=THEIRS)


async def test_deleting_an_unclaimed_certificate_frees_its_quota(used_up: Provisioning) -> None:
    used_up.world.clock.advance(minutes=60)
    await delete_unclaimed(used_up.world.store, used_up.world.clock())
    await used_up.create()


async def test_unclaimed_certificates_are_deleted_after_an_hour(provisioning: Provisioning) -> None:
    world = provisioning.world
    early = [(await provisioning.create())[0] for _ in range(120)]
    world.clock.advance(minutes=30)
    late, _ = await provisioning.create()
    assert await delete_unclaimed(world.store, world.clock()) == 0
    world.clock.advance(minutes=30)
    assert await delete_unclaimed(world.store, world.clock()) == len(early)
    assert await certificates(world) == {late}
    for table in ("certificates", "ownership_tokens"):
        assert await world.shown(f"SELECT fingerprint FROM {table}") == [(late,)]
    assert await world.published() == sorted(("certificate", fingerprint) for fingerprint in early)


async def test_a_used_certificate_is_kept_when_its_token_expires(provisioning: Provisioning) -> None:
    world = provisioning.world
    registered, token = await provisioning.create()
    await provisioning.register(await provisioning.template(body()), token)
    activated, with_policy, of_thing, bound = [(await provisioning.create())[0] for _ in range(4)]
    await world.aws("UpdateCertificate", certificateId=activated, newStatus="ACTIVE")
    arn = f"arn:aws:iot:us-east-1:{OURS.account}:cert/"
    await world.aws("AttachPolicy", policyName="all", target=f"{arn}{with_policy}")
    await world.aws("CreateThing", thingName="lamp")
    await world.aws("AttachThingPrincipal", thingName="lamp", principal=f"{arn}{of_thing}")
    binding = "SELECT id, $1, $2, 'device', 'd', NULL, 0 FROM certificates WHERE fingerprint = $3"
    await world.execute(f"INSERT INTO bindings {binding}", *OURS, bytes.fromhex(bound))
    world.clock.advance(minutes=60)
    assert await delete_unclaimed(world.store, world.clock()) == 0
    assert await certificates(world) == {CLAIM, registered, activated, with_policy, of_thing, bound}
    assert await world.count("ownership_tokens") == 0


async def test_no_transaction_is_written_without_expired_tokens(provisioning: Provisioning) -> None:
    await provisioning.create()
    changes = provisioning.world.store.writes
    assert await delete_unclaimed(provisioning.world.store, provisioning.world.clock()) == 0
    assert provisioning.world.store.writes == changes
