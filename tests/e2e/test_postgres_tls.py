"""Database URLs that require TLS, with Debian's PostgreSQL: the tests' own PostgreSQL has no TLS."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from tests.e2e import material
from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.databases import served
from tests.e2e.upstream.brokers import free_port
from thingmint.testing.postgres import NoPostgres, Postgres, debians_programs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def certificate(name: str) -> str:
    """A self-signed certificate for ``name`` and 127.0.0.1."""
    key, now = material.key("secp256r1"), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=365))
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    return signed.public_bytes(Encoding.PEM).decode()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with the certificate that the server has."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_text(certificate("db.example.org"))
    return path


@pytest.fixture(scope="module")
def port(root: Path) -> Iterator[int]:
    """The port of a PostgreSQL server that accepts only TLS."""
    number = free_port()
    settings = {"listen_addresses": "127.0.0.1", "port": str(number), "ssl": "on"}
    try:
        server = Postgres(settings, programs_of=debians_programs)
    except NoPostgres:
        pytest.skip("there is no PostgreSQL in /usr/lib/postgresql")
    settings["ssl_cert_file"] = str(server.own_file("server.pem", root.read_text()))
    settings["ssl_key_file"] = str(server.own_file("server.key", material.key_pem(material.key("secp256r1"))))
    settings["hba_file"] = str(server.own_file("hba.conf", "hostssl all all 127.0.0.1/32 trust\n"))
    with server:
        yield number


def url(port: int, **options: object) -> str:
    given = "&".join(f"{name}={value}" for name, value in options.items())
    return f"postgresql://thingmint@127.0.0.1:{port}/postgres?{given}"


def test_an_instance_is_served_over_tls(tmp_path: Path, root: Path, port: int) -> None:
    with served(tmp_path / "data", url(port, sslmode="verify-full", sslrootcert=root)) as server:
        iot_client(server).create_thing(thingName="lamp")
    # Two hosts, of which the first does not answer.
    both = url(port, sslmode="verify-full", sslrootcert=root).replace("@", f"@127.0.0.1:{free_port()},")
    with served(tmp_path / "data", f"{both}&target_session_attrs=primary") as server:
        assert iot_client(server).describe_thing(thingName="lamp")["thingName"] == "lamp"


def test_a_server_with_another_certificate_or_without_tls_is_refused(tmp_path: Path, root: Path, port: int) -> None:
    other = tmp_path / "other.pem"
    other.write_text(certificate("other.example.org"))
    refused = {
        "CERTIFICATE_VERIFY_FAILED": url(port, sslmode="verify-full", sslrootcert=other),
        "no encryption": url(port, sslmode="disable"),
    }
    for reason, wrong in refused.items():
        done = in_process("init", "--data-dir", tmp_path / "data", env={"THINGMINT_STORE": wrong})
        assert (done.returncode, reason in done.stderr) == (2, True), done
