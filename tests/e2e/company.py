"""A company's CA, and server certificates from it in files, as an operator has them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests import issuers
from tests.e2e import material

if TYPE_CHECKING:
    from pathlib import Path

    from tests.issuers import Issuer

_CA = (x509.BasicConstraints(ca=True, path_length=None),)


@dataclass(frozen=True)
class Pair:
    """The files of a certificate with its chain, and of its key."""

    certificate: Path
    key: Path

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).serial_number

    @property
    def toml(self) -> str:
        return f'certificate = "{self.certificate}"\nkey = "{self.key}"\n'

    @property
    def toml_of_all(self) -> str:
        return f'server_certificate = "{self.certificate}"\nserver_key = "{self.key}"\n'

    def replace_by(self, other: Pair) -> None:
        """Renames the other's files to these, as programs that renew certificates do."""
        other.certificate.rename(self.certificate)
        other.key.rename(self.key)


class Company:
    """A root and an intermediate CA, whose root is in the file ``root``."""

    def __init__(self, folder: Path, name: str = "Company") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.now = folder, datetime.now(UTC)
        self.root_ca = issuers.new_issuer(f"{name} Root", now=self.now)
        self.intermediate = self._intermediate(f"{name} CA")
        self.root = folder / "root.pem"
        self.root.write_text(self.root_ca.pem)

    def _intermediate(self, name: str) -> Issuer:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.root_ca.sign(name, key, extensions=_CA)
        return issuers.Issuer(key, certificate, self.now)

    def chain(self, *names: str, key: Any = None, begins: Any = None, ends: Any = None) -> tuple[str, str]:
        """The PEM of a new server certificate, and that of its issuer."""
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        extensions = (alternatives, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]))
        key = key or material.key("secp256r1")
        begins = begins or self.now - timedelta(days=2)
        made = self.intermediate.sign(names[0], key, begins=begins, ends=ends, extensions=extensions)
        return issuers.pem(made), self.intermediate.pem

    def pair(self, *names: str, kind: str = "secp256r1", ends: datetime | None = None) -> Pair:
        """Files of a new certificate, with a full chain."""
        key = material.key(kind)
        chain = "".join(self.chain(*names, key=key, ends=ends))
        stem = secrets.token_hex(4)
        pair = Pair(self.folder / f"{stem}.pem", self.folder / f"{stem}.key")
        pair.certificate.write_text(chain)
        pair.key.touch(0o600)
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
