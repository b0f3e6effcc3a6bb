"""The certificates of a fleet of devices, and their registration at a server."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from thingmint.domain.arns import Scope
from thingmint.domain.certificates import Certificate
from thingmint.domain.ids import TimeOrderedIds
from thingmint.domain.status import Status
from thingmint.services.certificate_contents import keep_content
from thingmint.services.certificates import Registration, insert_registration
from thingmint.store.sqlite import SQLiteStore
from thingmint.store.table import to_micros

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from thingmint.store.engine import Transaction
    from thingmint.testing import RunningServer

__all__ = ["DeviceFleet", "csr_pem", "key_pem", "make_fleet", "register"]

_BATCH = 500
_ATTACH = (
    "INSERT INTO device_policy_attachments (account, region, certificate, thing_group, policy, attached_at) "
    "VALUES ($1, $2, $3, '', $4, $5)"
)

# Typical for fleets: the permissions of a device depend on its name.
_POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:*:*:client/${iot:ClientId}"},
        {
            "Effect": "Allow",
            "Action": ["iot:Publish", "iot:Receive"],
            "Resource": "arn:aws:iot:*:*:topic/bench/${iot:ClientId}/*",
        },
        {
            "Effect": "Allow",
            "Action": "iot:Subscribe",
            "Resource": "arn:aws:iot:*:*:topicfilter/bench/${iot:ClientId}/*",
        },
    ],
}


@dataclass(frozen=True, slots=True)
class DeviceFleet:
    """``identities`` are files with a certificate and its key; ``server`` is one for localhost, of the same CA."""

    ca: Path
    server: Path
    identities: Sequence[Path]
    certificates: Sequence[Certificate]


def make_fleet(folder: Path, count: int) -> DeviceFleet:
    """A fleet with P-256 keys. All devices have the same key, which does not matter here."""
    folder.mkdir()
    key, ca_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    template = x509.CertificateBuilder().issuer_name(_name("Benchmark CA"))
    template = template.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + timedelta(days=30))
    ca = template.subject_name(_name("Benchmark CA")).public_key(ca_key.public_key())
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    server = template.subject_name(_name("localhost")).public_key(key.public_key())
    server = server.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    private = key_pem(key)

    def issued(builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.serial_number(x509.random_serial_number()).sign(ca_key, hashes.SHA256())

    def kept(name: str, certificate: x509.Certificate, private: str = "") -> Path:
        path = folder / name
        path.write_text(certificate.public_bytes(Encoding.PEM).decode() + private)
        return path

    devices = [
        issued(template.subject_name(_name(f"bench-{number}")).public_key(key.public_key())) for number in range(count)
    ]
    return DeviceFleet(
        kept("ca.pem", issued(ca)),
        kept("server.pem", issued(server), private),
        [kept(f"{number}.pem", device, private) for number, device in enumerate(devices)],
        [Certificate.of(device) for device in devices],
    )


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def csr_pem(key: ec.EllipticCurvePrivateKey) -> str:
    request = x509.CertificateSigningRequestBuilder().subject_name(_name("bench")).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def register(server: RunningServer, fleet: DeviceFleet, policy: Mapping[str, Any] = _POLICY) -> None:
    """Registers the certificates as ACTIVE, with a policy. Writes to the database: the API would take a minute."""
    client: Any = boto3.session.Session().client("iot", **server.boto3_arguments())
    name = f"fleet-{uuid.uuid4()}"
    policy_arn = client.create_policy(policyName=name, policyDocument=json.dumps(policy))["policyArn"]
    _, _, _, region, account, _ = policy_arn.split(":")
    asyncio.run(_insert(server.data_dir / "thingmint.db", Scope(account, region), fleet.certificates, name))
    # The server reads one snapshot until it writes. This write makes it see the registrations.
    client.create_policy(policyName=f"{name}-seen", policyDocument=json.dumps(policy))
    client.close()


async def _insert(database: Path, scope: Scope, certificates: Sequence[Certificate], policy: str) -> None:
    now = datetime.now(UTC)
    store = SQLiteStore(database)
    new_id = TimeOrderedIds(lanes=store.spreads_keys)
    try:
        for start in range(0, len(certificates), _BATCH):

            async def body(
                tx: Transaction, batch: Sequence[Certificate] = certificates[start : start + _BATCH]
            ) -> None:
                for certificate in batch:
                    fingerprint = certificate.fingerprint
                    id = await keep_content(tx, new_id(now), certificate)
                    registration = Registration(
                        scope, id, fingerprint, Status.ACTIVE, "DEFAULT", "registered", now, now, str(uuid.uuid4())
                    )
                    await insert_registration(tx, registration, certificate)
                    await tx.execute(_ATTACH, *scope, id, policy, to_micros(now))

            await store.write(body)
    finally:
        await store.close()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
