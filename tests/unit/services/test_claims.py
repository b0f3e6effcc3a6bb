"""Provisioning claims, with a real store and a real authority."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from tests.unit import vectors
from tests.unit.services.template_support import OURS, THEIRS, Workshop, new_template, with_workshop
from thingmint.domain.errors import NotFound

if TYPE_CHECKING:
    from pathlib import Path


def _contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_a_claim_is_a_certificate_of_five_minutes(tmp_path: Path) -> None:
    async def scenario(workshop: Workshop) -> None:
        await workshop.templates.create(OURS, new_template())
        issued = await workshop.claims.create(OURS, "lamps")
        claim, certificate = issued.claim, x509.load_der_x509_certificate(issued.certificate.der)
        assert (claim.scope, claim.template, claim.fingerprint) == (OURS, "lamps", issued.certificate.fingerprint)
        now = workshop.clock.now
        assert certificate.not_valid_after_utc == claim.expires_at == now.replace(microsecond=0) + timedelta(minutes=5)
        assert certificate.not_valid_before_utc == now.replace(microsecond=0) - timedelta(minutes=2)
        assert certificate.public_key() == issued.keys.public_key
        certificate.verify_directly_issued_by(vectors.authority().certificate)
        assert await workshop.claims.find(claim.fingerprint) == [claim]
        assert claim.created_at == now

    with_workshop(tmp_path, scenario)


def test_a_claim_is_no_registration_and_its_key_is_kept_nowhere(tmp_path: Path) -> None:
    async def scenario(workshop: Workshop) -> None:
        await workshop.templates.create(OURS, new_template())
        issued = await workshop.claims.create(OURS, "lamps")
        for table in ("registrations", "certificates"):
            assert await workshop.rows(f"SELECT count(*) FROM {table}") == [(0,)]
        secret = "".join(issued.keys.private_pem.splitlines()[1:3]).encode()
        stored = _contents(tmp_path)
        assert issued.claim.fingerprint.encode() in stored
        assert secret[:32] not in stored

    with_workshop(tmp_path, scenario)


def test_claims_expire_and_are_forgotten(tmp_path: Path) -> None:
    async def scenario(workshop: Workshop) -> None:
        for scope in (OURS, THEIRS):
            await workshop.templates.create(scope, new_template())
        first = (await workshop.claims.create(OURS, "lamps")).claim
        workshop.clock.advance(minutes=2)
        second = (await workshop.claims.create(THEIRS, "lamps")).claim
        assert await workshop.claims.prune() == 0
        workshop.clock.now = first.expires_at - timedelta(microseconds=1)
        assert await workshop.claims.find(first.fingerprint) == [first]
        workshop.clock.now = first.expires_at
        assert await workshop.claims.find(first.fingerprint) == []
        assert await workshop.claims.prune() == 1
        assert await workshop.rows("SELECT fingerprint FROM provisioning_claims") == [(second.fingerprint,)]
        assert await workshop.claims.find(second.fingerprint) == [second]

    with_workshop(tmp_path, scenario)


def test_no_key_is_spent_on_a_template_that_is_not_there(tmp_path: Path) -> None:
    async def scenario(workshop: Workshop) -> None:
        await workshop.keys.close()
        with pytest.raises(NotFound):
            await workshop.claims.create(OURS, "lamps")

    with_workshop(tmp_path, scenario)
