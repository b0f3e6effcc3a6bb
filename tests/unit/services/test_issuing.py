"""AWS IoT's operations that issue certificates, and what becomes of those that are not registered."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from structlog.testing import capture_logs

from tests.unit import vectors
from tests.world import OURS, new_world
from thingmint.domain.arns import arn_of
from thingmint.domain.errors import (
    InvalidSigningRequest,
    LimitExceeded,
    Unavailable,
)
from thingmint.domain.status import Status
from thingmint.services.issuing import discard, issue_for_csr, prepare_own
from thingmint.services.quotas import Quotas

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world import World

PEM = vectors.certificate_pem()
CSR = {"certificateSigningRequest": vectors.csr_pem()}


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def describe(world: World, id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await world.aws("DescribeCertificate", certificateId=id))["certificateDescription"]
    return found


@pytest.mark.parametrize(
    ("members", "status"), [({}, "INACTIVE"), ({"setAsActive": False}, "INACTIVE"), ({"setAsActive": True}, "ACTIVE")]
)
async def test_an_issued_certificate_is_described_as_created(
    world: World, members: dict[str, bool], status: str
) -> None:
    for name, given in (("CreateKeysAndCertificate", {}), ("CreateCertificateFromCsr", CSR)):
        made = await world.aws(name, **given, **members)
        arn = arn_of(OURS, made["certificateId"])
        certificate = x509.load_pem_x509_certificate(made["certificatePem"].encode())
        described = await describe(world, made["certificateId"])
        assert described.pop("generationId")
        assert described == {
            "certificateArn": arn,
            "certificateId": made["certificateId"],
            "caCertificateId": None,
            "status": status,
            "certificatePem": made["certificatePem"],
            "ownedBy": OURS.account,
            "previousOwnedBy": None,
            "transferData": None,
            "creationDate": world.clock.now,
            "lastModifiedDate": world.clock.now,
            "customerVersion": 1,
            "validity": {
                "notBefore": certificate.not_valid_before_utc,
                "notAfter": certificate.not_valid_after_utc,
            },
            "certificateMode": "DEFAULT",
        }
        assert made["certificateArn"] == arn
        assert (world.audit_resources(), await world.published()) == ([f"cert/{made['certificateId']}"], [])


async def test_the_new_key_pair_matches_the_certificate(world: World) -> None:
    made = await world.aws("CreateKeysAndCertificate")
    certificate = x509.load_pem_x509_certificate(made["certificatePem"].encode())
    private: Any = load_pem_private_key(made["keyPair"]["PrivateKey"].encode(), None)
    assert private.public_key() == certificate.public_key()
    assert certificate.subject.rfc4514_string() == "CN=AWS IoT Certificate"
    certificate.verify_directly_issued_by(world.environment.device_ca.certificate)
    assert certificate.not_valid_before_utc == world.clock.now.replace(microsecond=0) - timedelta(minutes=2)


async def test_a_certificate_has_the_key_and_subject_of_its_csr(world: World) -> None:
    made = await world.aws("CreateCertificateFromCsr", **CSR)
    assert "keyPair" not in made
    certificate = x509.load_pem_x509_certificate(made["certificatePem"].encode())
    assert certificate.subject == vectors.name("thermostat-7")
    assert certificate.public_key() == vectors.ec_key().public_key()
    certificate.verify_directly_issued_by(world.environment.device_ca.certificate)


async def test_the_same_csr_twice_gives_two_certificates(world: World) -> None:
    first, second = [await world.aws("CreateCertificateFromCsr", **CSR) for _ in range(2)]
    assert first["certificateId"] != second["certificateId"]
    generations = {(await describe(world, made["certificateId"]))["generationId"] for made in (first, second)}
    assert len(generations) == 2


@pytest.mark.parametrize("csr", ["", PEM, vectors.csr_pem(vectors.rsa_key(1024)), vectors.csr_pem() * 2])
async def test_a_bad_csr_is_refused_and_stores_nothing(world: World, csr: str) -> None:
    with pytest.raises(InvalidSigningRequest) as refused:
        await world.aws("CreateCertificateFromCsr", certificateSigningRequest=csr)
    assert refused.value.field == "certificateSigningRequest"
    assert await world.count("certificates") == 0


@pytest.mark.sqlite
async def test_generated_private_keys_are_not_written_to_files(world: World, tmp_path: Path) -> None:
    made = await world.aws("CreateKeysAndCertificate")
    numbers = vectors.rsa_key().private_numbers()
    secrets = [made["keyPair"]["PrivateKey"].splitlines()[5].encode()]
    secrets += [number.to_bytes(128, "big") for number in (numbers.p, numbers.q)]
    files = contents_of(tmp_path)
    assert {"thingmint.db", "thingmint.db-wal"} <= set(files)
    assert not [name for name, content in files.items() for secret in secrets if secret in content]


async def test_discarded_certificates_are_logged_and_counted(tmp_path: Path) -> None:
    async with new_world(tmp_path, quotas=Quotas(certificates=0)) as world:
        for count, (name, given) in enumerate(
            (("CreateKeysAndCertificate", {}), ("CreateCertificateFromCsr", CSR)), start=1
        ):
            with capture_logs() as logs, pytest.raises(LimitExceeded):
                await world.aws(name, **given)
            [entry] = logs
            assert (entry["event"], entry["account"]) == ("certificate_discarded", OURS.account)
            assert entry["reason"] == "LimitExceeded"
            assert (len(entry["fingerprint"]), len(entry["serial"])) == (64, 40)
            assert world.environment.counts["certificates_discarded"] == count
        assert await world.count("certificates") == 0
        with capture_logs() as logs, pytest.raises(LimitExceeded):
            await world.aws("RegisterCertificateWithoutCA", certificatePem=PEM)
        assert logs == [], "nothing was signed"


async def test_the_log_names_discarded_certificates_by_fingerprint_and_serial_number(world: World) -> None:
    change = world.change()
    new = issue_for_csr(change, vectors.csr_pem(), "csr")
    serial = f"{x509.load_der_x509_certificate(new.certificate.der).serial_number:x}"
    with capture_logs() as logs:
        discard(change, prepare_own(change, PEM, Status.ACTIVE, "pem"), Unavailable("the store"))
    assert logs == [], "nothing was signed"
    for error, reason in ((Unavailable("the store"), "Unavailable"), (None, "repeated call")):
        with capture_logs() as logs:
            discard(change, new, error)
        [entry] = logs
        logged = (entry["fingerprint"], entry["serial"], entry["reason"])
        assert logged == (new.certificate.fingerprint, serial, reason)
