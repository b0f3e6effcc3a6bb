"""Makes exports of Yandex IoT Core, as its migration guide has people write them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from thingmint.domain.ids import FOLDER, IOT, new_id

if TYPE_CHECKING:
    from pathlib import Path

_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
_BEGAN = datetime(2021, 3, 4, 5, 6, 7, 891000, tzinfo=UTC)
# One key for all certificates of an export: making keys takes longer than all the rest.
_KEY = ec.generate_private_key(ec.SECP256R1())
KEY_PEM = _KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

Row = dict[str, Any]


def certificate_pem(number: int, key_pem: str = KEY_PEM) -> str:
    """A self-signed certificate as such fleets have them: for localhost, and long expired."""
    key = load_pem_private_key(key_pem.encode(), None) if key_pem != KEY_PEM else _KEY
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    builder = x509.CertificateBuilder(_NAME, _NAME, key.public_key(), number + 1)
    builder = builder.not_valid_before(_BEGAN).not_valid_after(_BEGAN + timedelta(days=365))
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


def certificate_row(pem: str, **owner: str) -> Row:
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    return {
        **owner,
        "fingerprint": hashlib.sha1(der).hexdigest(),
        "sha256": hashlib.sha256(der).hexdigest(),
        "certificate_data": pem,
        "created_at": "2021-03-04T05:06:07.891Z",
    }


@dataclass
class Export:
    """``write`` writes the files. Change the rows before, to make an odd export."""

    folder: str = field(default_factory=lambda: new_id(FOLDER))
    registries: list[Row] = field(default_factory=list)
    brokers: list[Row] = field(default_factory=list)
    devices: dict[str, list[Row]] = field(default_factory=dict)
    aliases: dict[str, list[Row]] = field(default_factory=dict)
    certificates: dict[str, list[Row]] = field(default_factory=dict)
    """Of registries, brokers and devices, by their ids."""
    _made: int = 0

    def add_registry(self, name: str, *, certificates: int = 1, **fields: Any) -> str:
        id = new_id(IOT)
        self.registries.append(self._row(id, name, folder_id=self.folder, status="ACTIVE", **fields))
        self.devices[id], self.aliases[id] = [], []
        self._certify(id, certificates, registry_id=id)
        return id

    def add_broker(self, name: str, *, certificates: int = 1) -> str:
        id = new_id(IOT)
        self.brokers.append(self._row(id, name, folder_id=self.folder, status="ACTIVE"))
        self._certify(id, certificates, broker_id=id)
        return id

    def add_device(self, registry: str, name: str, *, certificates: int = 1, **fields: Any) -> str:
        id = new_id(IOT)
        self.devices[registry].append(self._row(id, name, registry_id=registry, **fields))
        self._certify(id, certificates, device_id=id)
        return id

    def add_devices(self, registry: str, count: int, *, with_alias: int = 10) -> list[str]:
        """Devices with a certificate each; every tenth has an alias in its row, every tenth in the list of aliases."""
        made = []
        for number in range(count):
            id = self.add_device(registry, f"device-{number}", labels={"line": str(number % 7)})
            if number % with_alias == 0:
                self.devices[registry][-1]["topic_aliases"] = {f"a/{number}/": f"$devices/{id}/events/"}
            elif number % with_alias == 1:
                row = {"device_id": id, "topic_prefix": f"$devices/{id}/commands", "alias": f"b/{number}/"}
                self.aliases[registry].append(row)
            made.append(id)
        return made

    def write(self, root: Path) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        _write(root / "registries.json", self.registries)
        _write(root / "brokers.json", self.brokers)
        for broker in self.brokers:
            _write(root / f"broker-certs-{broker['id']}.json", self.certificates[broker["id"]])
        for registry, devices in self.devices.items():
            _write(root / f"devices-{registry}.json", devices)
            _write(root / f"registry-certs-{registry}.json", self.certificates[registry])
            _write(root / f"aliases-{registry}.json", self.aliases[registry])
            of_devices = root / f"device-certs-{registry}"
            of_devices.mkdir(exist_ok=True)
            for device in devices:
                _write(of_devices / f"{device['id']}.json", self.certificates.get(device["id"], []))
        return root

    def _row(self, id: str, name: str, **fields: Any) -> Row:
        return {"id": id, "created_at": "2021-03-04T05:06:07.891Z", "name": name, **fields}

    def _certify(self, id: str, count: int, **owner: str) -> None:
        made = self._made
        self._made += count
        self.certificates[id] = [certificate_row(certificate_pem(made + n), **owner) for n in range(count)]


def _write(path: Path, rows: list[Row]) -> None:
    exported = [{key: value for key, value in row.items() if key != "sha256"} for row in rows]
    path.write_text(json.dumps(exported))
