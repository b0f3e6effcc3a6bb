"""Stores the content of each certificate once for all accounts and regions, as long as a row references it."""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.domain.certificates import Certificate
from thingmint.store.table import Fingerprint, Table, fingerprint_bytes, fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thingmint.store.engine import Row, Transaction

CERTIFICATES = Table(
    Certificate, "certificates", "certificate", key=("fingerprint",), types={"fingerprint": Fingerprint}
)

_INSERT = (
    "INSERT INTO certificates (id, der, fingerprint, not_before, not_after) VALUES ($1, $2, $3, $4, $5) "
    "ON CONFLICT (fingerprint) DO NOTHING"
)
# Older versions deleted the content of CA certificates that certificates were registered under.
_COMPLETE = (
    "UPDATE certificates SET der = $1, not_before = $3, not_after = $4 WHERE fingerprint = $2 AND length(der) = 0"
)
_ID = "SELECT id FROM certificates WHERE fingerprint = $1"
_REFERENCES = (
    ("registrations", "certificate"),
    ("registrations", "ca"),
    ("ca_certificates", "certificate"),
    ("ca_owners", "certificate"),
    ("revoked_certificates", "ca"),
)
_DROP = "DELETE FROM certificates WHERE fingerprint = $1" + "".join(
    f" AND NOT EXISTS (SELECT 1 FROM {table} AS r WHERE r.{column} = certificates.id)" for table, column in _REFERENCES
)


def with_content(table: Table[Any], name: str) -> str:
    """Return a SELECT of the rows of ``table`` (r), each joined with its certificate (c), for ``split_content``."""
    known = {fingerprint_of("r.certificate"): "c.fingerprint"}
    own = [known.get(column, column) for column in table.reads("r")]
    joined = f"FROM {name} AS r JOIN certificates AS c ON c.id = r.certificate "
    return f"SELECT {', '.join([*own, *CERTIFICATES.reads('c')])} {joined}"


def split_content(row: Row) -> tuple[Row, Certificate]:
    return row[:-4], CERTIFICATES.load(row[-4:])


async def keep_content(tx: Transaction, id: int, certificate: Certificate) -> int:
    """Store a certificate. Returns its id in the store: ``id``, which must be new, or the existing one."""
    content = CERTIFICATES.dump(certificate)
    if await tx.execute(_INSERT, id, *content) == 1:
        return id
    await tx.execute(_COMPLETE, *content)
    found = await tx.fetch_one(_ID, fingerprint_bytes(certificate.fingerprint))
    assert found is not None, "the INSERT found a conflict"
    known: int = found[0]
    return known


async def insert_contents(tx: Transaction, contents: Iterable[tuple[int, Certificate]]) -> None:
    """Store certificates that are not there, with their new ids."""
    await tx.execute_many(_INSERT, [(id, *CERTIFICATES.dump(certificate)) for id, certificate in contents])


async def drop_content(tx: Transaction, fingerprint: str) -> None:
    """Delete the content of a certificate unless a row still references it."""
    await tx.execute(_DROP, fingerprint_bytes(fingerprint))
