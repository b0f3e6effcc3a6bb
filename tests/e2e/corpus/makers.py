"""Makes certificates and signing requests in PEM with other programs, which may not be installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from tests import odd_certificates as odd
from tests.e2e import material
from tests.unit.vectors import to_pem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_HERE = Path(__file__).parent
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----\n", re.DOTALL)

_KINDS = ("secp256r1", "rsa2048", "ed25519")
_MASKS = ("default", "pkix", "nombstr", "utf8only")
_SUBJECTS = (
    "/C=DE/O=Plant & Co/CN=device_1",
    "/CN=unit@plant/emailAddress=unit@plant.example",
    "/CN=Zürich/OU=first/OU=second",
    "/CN=*.plant/L=Plant_7+OU=x",
)


class Missing(Exception):
    """The required program is not installed."""


def _run(*command: str | Path, **options: object) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, timeout=120, env=environment, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise AssertionError(f"{command}: {done.stderr.decode(errors='replace')}")
    text: str = done.stdout.decode()
    return text


@dataclass(frozen=True)
class Workspace:
    """``folder`` is a scratch folder."""

    folder: Path

    @cached_property
    def keys(self) -> Mapping[str, Path]:
        """Return the files with private keys in PKCS #8, by kind."""
        made = {}
        for kind in _KINDS:
            made[kind] = self.folder / f"{kind}.key"
            made[kind].write_text(material.key_pem(material.key(kind)))
        return made


def _openssl(workspace: Workspace) -> Iterator[str]:
    _needs("openssl")
    for mask in _MASKS:
        (workspace.folder / f"{mask}.cnf").write_text(
            f"[req]\nstring_mask = {mask}\ndistinguished_name = dn\n[dn]\n"
            "[device]\nbasicConstraints = CA:FALSE\nsubjectAltName = DNS:device.example, URI:urn:x, IP:192.0.2.1\n"
        )
    commands = []
    for kind, mask, subject in product(_KINDS, _MASKS, _SUBJECTS):
        config = workspace.folder / f"{mask}.cnf"
        common = ["openssl", "req", "-new", "-utf8", "-config", config, "-key", workspace.keys[kind], "-subj", subject]
        commands += [common, [*common, "-x509", "-days", "9000", "-extensions", "device"]]
    plain = ["openssl", "req", "-new", "-subj", "/CN=device", "-days", "9000", "-key"]
    for digest in ("sha224", "sha384", "sha512", "sha1", "md5"):
        commands.append([*plain, workspace.keys["rsa2048"], "-x509", f"-{digest}"])
    pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"]
    commands += [[*plain, workspace.keys["rsa2048"], *pss], [*plain, workspace.keys["rsa2048"], *pss, "-x509"]]
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(lambda command: _run(*command), commands)


def _java(workspace: Workspace) -> Iterator[str]:
    _needs("keytool")

    store = workspace.folder / "java.p12"
    common: list[str | Path] = ["-keystore", store, "-storepass", "secret", "-alias", "device"]
    start: list[str | Path] = ["keytool", "-J-Xshare:auto", "-J-XX:TieredStopAtLevel=1"]
    subject = "CN=device_1, O=Plant & Co, OU=датчик, C=DE"
    _run(*start, "-genkeypair", *common, "-keyalg", "EC", "-dname", subject, "-validity", "9000")
    _, certificate, _ = pkcs12.load_key_and_certificates(store.read_bytes(), b"secret")
    assert certificate is not None
    yield certificate.public_bytes(Encoding.PEM).decode()
    yield _run(*start, "-certreq", *common)


def _gnutls(workspace: Workspace) -> Iterator[str]:
    _needs("certtool")
    for number, name in enumerate(("device_1", "unit@plant", "датчик", "*.plant"), start=1):
        template = workspace.folder / f"{number}.template"
        template.write_text(f'cn = "{name}"\norganization = "Plant & Co"\ncountry = DE\nserial = {number}\n')
        for kind in _KINDS:
            common: list[str | Path] = ["--template", template, "--load-privkey", workspace.keys[kind]]
            yield _run("certtool", "--generate-self-signed", *common)
            yield _run("certtool", "--generate-request", *common)


def _go(workspace: Workspace) -> Iterator[str]:
    _needs("go")
    program = workspace.folder / "go_writer"
    home = workspace.folder
    settings = [f"GOCACHE={home / 'cache'}", f"HOME={home}", "GO111MODULE=off", "GOFLAGS="]
    _run("env", *settings, "go", "build", "-o", program, _HERE / "go_writer.go")
    for kind in _KINDS:
        yield _run(program, workspace.keys[kind], "device_1", "unit@plant", "датчик", "*.plant")


def _mbedtls(workspace: Workspace) -> Iterator[str]:
    _needs("gcc")
    if not Path("/usr/include/mbedtls/x509_crt.h").exists():
        raise Missing("mbedTLS's headers")
    program = workspace.folder / "mbedtls_writer"
    _run("gcc", _HERE / "mbedtls_writer.c", "-o", program, "-lmbedx509", "-lmbedcrypto")
    subjects = ("CN=device_1,O=Plant & Co,C=DE", "CN=unit@plant", "CN=датчик", "CN=*.plant,serialNumber=SN_0001")
    for kind in ("secp256r1", "rsa2048"):
        yield _run(program, workspace.keys[kind], *subjects)


def _own_odd_encodings(workspace: Workspace) -> Iterator[str]:
    del workspace
    for der in (*odd.certificates().values(), *odd.without_seconds().values()):
        yield to_pem(der, "CERTIFICATE")
    for der in odd.requests().values():
        yield to_pem(der, "CERTIFICATE REQUEST")


def _needs(program: str) -> None:
    if shutil.which(program) is None:
        raise Missing(program)


MAKERS: Mapping[str, Callable[[Workspace], Iterator[str]]] = {
    "OpenSSL": _openssl,
    "mbedTLS": _mbedtls,
    "Go": _go,
    "Java": _java,
    "GnuTLS": _gnutls,
    "own odd encodings": _own_odd_encodings,
}


def made_by(maker: str, folder: Path) -> list[str]:
    """Return the certificates and requests of a maker. Raises Missing."""
    return [match[0] for text in MAKERS[maker](Workspace(folder)) for match in _BLOCK.finditer(text)]
