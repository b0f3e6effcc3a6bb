"""The material of an old store's clients: keys and certificates of devices and CAs, credentials of accounts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.e2e.material import key_pem
from tests.e2e.mqtt.devices import Credential
from tests.issuers import Issuer, fingerprint, name, new_issuer, pem

if TYPE_CHECKING:
    from pathlib import Path

BEGINS, ENDS = datetime(2020, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Material:
    """Files in ``folder``, in the form that clients need. ``packed`` is all of them as one document."""

    folder: Path

    @property
    def packed(self) -> dict[str, Any]:
        return {
            "credentials": self.credentials,
            "devices": {name: self._file(name).read_text() for name in self.devices},
        }

    @staticmethod
    def unpack(packed: dict[str, Any], folder: Path) -> Material:
        material = Material(folder)
        (folder / "devices").mkdir(parents=True)
        material.keep_credentials(**packed["credentials"])
        for device, text in packed["devices"].items():
            material._file(device).write_text(text)
        return material

    def keep(self, device: str, certificate_pem: str, private_pem: str) -> Credential:
        file = self._file(device)
        file.parent.mkdir(exist_ok=True)
        file.write_text(private_pem + certificate_pem)
        return self.device(device)

    def device(self, device: str) -> Credential:
        file = self._file(device)
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        return Credential(fingerprint(certificate), pem(certificate), file)

    @property
    def devices(self) -> list[str]:
        return sorted(file.stem for file in (self.folder / "devices").iterdir())

    def self_signed(self, device: str, *, ends: datetime = ENDS) -> Credential:
        made = new_issuer(device, now=BEGINS, begins=BEGINS, ends=ends, extensions=())
        return self.keep(device, made.pem, key_pem(made.key))

    def csr(self, device: str, iot: Any, **further: Any) -> Credential:
        """A certificate issued by the AWS API for a new key."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = iot.create_certificate_from_csr(certificateSigningRequest=csr_for(key, device), **further)
        return self.keep(device, made["certificatePem"], key_pem(key))

    def under(self, device: str, issuer: Issuer) -> Credential:
        """A certificate issued by a customer's CA."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self.keep(device, pem(issuer.sign(device, key, begins=BEGINS, ends=ENDS)), key_pem(key))

    @property
    def credentials(self) -> dict[str, Any]:
        file = self.folder / "credentials.json"
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found

    def keep_credentials(self, **credentials: Any) -> None:
        text = json.dumps(self.credentials | credentials, indent=1, sort_keys=True)
        (self.folder / "credentials.json").write_text(f"{text}\n")

    def _file(self, device: str) -> Path:
        return self.folder / "devices" / f"{device}.pem"


def customer_ca(common_name: str) -> Issuer:
    return new_issuer(common_name, now=BEGINS, begins=BEGINS, ends=ENDS)


def csr_for(key: ec.EllipticCurvePrivateKey, common_name: str) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(name(common_name))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
