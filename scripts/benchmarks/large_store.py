"""A store with many certificates, things and attachments: rows are made from those of one real certificate."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from benchmarks.measuring import SERVE
from thingmint.store.search_keys import certificate_keys
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Known", "fill_store"]

_FIRST = "unit-000000000"
_REGISTRY = f"are{'0' * 16}r"
_DAY = 24 * 60 * 60 * 1_000_000  # microseconds
_AGE, _VALIDITY = 700, (365, 730, 900, 3650)  # days
_AT_ONCE = 20_000
_TABLES = {
    "certificates": "WHERE id = (SELECT certificate FROM registrations)",  # the CA's is there, too
    "registrations": "",
    "things": "",
    "thing_principals": "",
    "device_policy_attachments": "",
}
_POLICY = {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}

# What the migration does that introduces the counts.
_COUNTS = """
DELETE FROM certificate_counts;
INSERT INTO certificate_counts (account, region, kind, day, status, lane, amount)
    SELECT account, region, 'status', 0, status, 0, count(*) FROM registrations GROUP BY account, region, status;
INSERT INTO certificate_counts (account, region, kind, day, status, lane, amount)
    SELECT account, region, 'expiry', day, status, 0, count(*)
    FROM (SELECT account, region, status, not_after / 86400000000 AS day FROM registrations) AS ends
    GROUP BY account, region, day, status;
INSERT INTO certificate_counts (account, region, kind, day, status, lane, amount)
    SELECT account, region, 'added', day, origin, 0, count(*)
    FROM (SELECT account, region, origin, created_at / 86400000000 AS day FROM registrations) AS added
    GROUP BY account, region, day, origin;
"""


@dataclass(frozen=True, slots=True)
class Known:
    """The id of a certificate in the middle, the common name that is also its thing's, and the id of the CA.

    ``registry`` has all devices of Yandex IoT Core, ``device`` is one of them.
    """

    certificate: str
    name: str
    ca: str
    registry: str
    device: str


def fill_store(data: Path, count: int) -> Known:
    """Makes ``count`` certificates in a new data directory, each attached to a thing and to a policy.

    95 % are ACTIVE and one in 1,000 is REVOKED. Half have connected. One in two was signed by a registered CA. One
    registry has a tenth as many devices.
    """
    with running_server(data, arguments=SERVE) as server:
        _make_first(server.boto3_arguments())
        server.stop()
    with contextlib.closing(sqlite3.connect(data / "thingmint.db")) as db:
        db.executescript("PRAGMA synchronous = OFF; PRAGMA cache_size = -500000; PRAGMA temp_store = MEMORY;")
        known = _multiply(db, count)
        db.executescript(_COUNTS)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return known


def _make_first(arguments: dict[str, Any]) -> None:
    iot: Any = boto3.session.Session().client("iot", **arguments)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    iot.register_ca_certificate(
        caCertificate=_signed("Bench CA", key, now, is_ca=True), certificateMode="SNI_ONLY", setAsActive=True
    )
    pem = _signed(_FIRST, key, now)
    made = iot.register_certificate_without_ca(certificatePem=pem, status="ACTIVE")["certificateArn"]
    iot.create_thing(thingName=_FIRST, attributePayload={"attributes": {"site": "north"}})
    iot.attach_thing_principal(thingName=_FIRST, principal=made)
    document = json.dumps({"Version": "2012-10-17", "Statement": [_POLICY]})
    iot.create_policy(policyName="everything", policyDocument=document)
    iot.attach_policy(policyName="everything", target=made)
    iot.close()


def _signed(name: str, key: ec.EllipticCurvePrivateKey, now: datetime, *, is_ca: bool = False) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=3650))
    builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


def _multiply(db: sqlite3.Connection, count: int) -> Known:
    first = {table: _only_row(db, table) for table in _TABLES}
    ca, ca_id = db.execute(
        "SELECT c.id, hex(c.fingerprint) FROM ca_certificates AS a JOIN certificates AS c ON c.id = a.certificate"
    ).fetchone()
    now, found = int(time.time() * 1_000_000), None
    for begin in range(1, count + 1, _AT_ONCE):
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in (*first, "certificate_activity")}
        for number in range(begin, min(begin + _AT_ONCE, count + 1)):
            for table, row in _of_unit(first, number, count, now, ca):
                rows[table].append(row)
            if number == count // 2:
                found = rows["certificates"][-1]["fingerprint"].hex()
        with db:
            for table, made in rows.items():
                if made:
                    db.executemany(_insert(table, made[0]), made)
    assert found is not None
    device = _add_devices(db, count // 10, now)
    return Known(found, f"unit-{count // 2:09}", ca_id.lower(), _REGISTRY, device)


def _add_devices(db: sqlite3.Connection, count: int, now: int) -> str:
    """Makes a registry with devices of Yandex IoT Core, and returns the id of one in the middle."""
    folder, account = db.execute("SELECT id, account FROM folders").fetchone()
    with db:
        db.execute(
            "INSERT INTO registries (id, account, folder, name, description, labels, log_options, created_at) "
            "VALUES (?, ?, ?, 'bench', '', '{}', '{}', ?)",
            (_REGISTRY, account, folder, now),
        )
        db.executemany(
            "INSERT INTO devices (id, account, folder, registry, name, description, labels, topic_aliases, created_at) "
            "VALUES (?, ?, ?, ?, ?, '', '{}', '{}', ?)",
            ((_device(n), account, folder, _REGISTRY, f"unit-{n:09}", now - count + n) for n in range(count)),
        )
    return _device(count // 2)


def _device(number: int) -> str:
    return f"are{number:017}"


def _of_unit(
    first: dict[str, dict[str, Any]], number: int, count: int, now: int, ca: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of one certificate, with their tables. ``number`` begins with 1; the last was added just now."""
    id, name = 1_000 + number, f"unit-{number:09}"
    content, registration = first["certificates"], first["registrations"]
    der = content["der"].replace(_FIRST.encode(), name.encode())
    added = now - (count - number) * (_AGE * _DAY // count)
    ends = added + _VALIDITY[number * 7 % 4] * _DAY
    status = "REVOKED" if number % 1000 == 7 else "INACTIVE" if number % 20 == 3 else "ACTIVE"
    scope = (registration["account"], registration["region"])
    _, common_name = certificate_keys(scope, der)
    digest = hashlib.sha256(b"%d" % number).digest()
    link = {"certificate": id, "account": scope[0], "region": scope[1]}
    yield "certificates", content | {"id": id, "fingerprint": digest, "der": der, "not_after": ends}
    yield "registrations", registration | link | {
        "status": status, "origin": "registered", "created_at": added, "modified_at": added, "not_after": ends,
        "generation": digest[:16], "serial_key": int.from_bytes(digest[:6], "big") >> 1, "common_name": common_name,
        "ca": ca if number % 2 else None,
    }  # fmt: skip
    yield "things", first["things"] | {"name": name, "id": digest[16:], "created_at": added}
    yield "thing_principals", first["thing_principals"] | link | {"thing": name, "attached_at": added}
    yield "device_policy_attachments", first["device_policy_attachments"] | link | {"attached_at": added}
    if number % 2:
        seen = now - int.from_bytes(digest[:4], "big") % (90 * _DAY)
        yield "certificate_activity", link | {
            "client_id": name, "address": "192.0.2.1", "connected_at": seen, "disconnected_at": seen, "seen_at": seen
        }  # fmt: skip


def _only_row(db: sqlite3.Connection, table: str) -> dict[str, Any]:
    """The row of the first certificate."""
    found = db.execute(f"SELECT * FROM {table} {_TABLES[table]}")
    return dict(zip([column[0] for column in found.description], found.fetchone(), strict=True))


def _insert(table: str, row: dict[str, Any]) -> str:
    names = ", ".join(row)
    return f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in row)})"
