"""Search keys: what the indexes of searches have for a text.

Most are numbers of a few bytes, which take less space than the text: a hash of the account, the kind of text and the
text. So the records of one account do not slow down the search of another. Two texts have the same number once in many
thousand millions, so a search must compare the text that it finds.

Common names are searched by their beginning, too. Their key is the folded text itself, up to MAX_NAME bytes.
"""

from __future__ import annotations

import functools
import hashlib
import unicodedata
from typing import TYPE_CHECKING, Literal, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.store.engine import Row, Transaction, Value

_ROWS_AT_ONCE = 500
_MAX_FURTHER = 20

Searched = Literal["event", "principal", "resource"]
"""The parts of an audit record that can be searched."""

MAX_NAME = 256
"""Bytes of a common name in its index: 64 characters (X.520) of any script. PostgreSQL limits the rows of an index."""

_MAX_FOLDED = 2 * MAX_NAME  # characters; to put combining characters into order takes time with their number squared

_COMMON_NAME = b"\x55\x04\x03"  # the OID 2.5.4.3 in DER, without its tag and length
_OID = 0x06
_ENCODINGS = {0x1C: "utf-32-be", 0x1E: "utf-16-be"}  # UniversalString, BMPString; the rest is ASCII or UTF-8


def search_key(account: str, kind: str, text: str) -> int:
    digest = hashlib.sha256(f"{account}\0{kind}\0{text}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") >> 1  # SQLite stores 47 bits and a sign in 6 bytes


_frequent_key = functools.lru_cache(4096)(search_key)


def certificate_keys(scope: tuple[str, str], der: bytes) -> tuple[int | None, bytes | None]:
    """The keys of the serial number (in hex) and of the subject's last common name; None if one cannot be read."""
    serial, name = serial_and_common_name(der)
    return (
        search_key(" ".join(scope), "serial", serial) if serial is not None else None,
        name_key(name) if name is not None else None,
    )


def name_key(name: str) -> bytes | None:
    """The key of a common name, in UTF-8; None if nothing is left of the name. Longer names are cut."""
    return folded_name(name).encode("utf-8", "replace")[:MAX_NAME] or None


def folded_name(name: str) -> str:
    """The name without differences of case, of Unicode's forms, and of the number of spaces.

    Certificates compare names so (RFC 5280 section 7.1). Of the forms of a longer name only the beginning is folded.
    """
    name = " ".join(name.split())
    if name.isascii():
        return name.lower()
    beginning, rest = name[:_MAX_FOLDED], name[_MAX_FOLDED:]
    beginning = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", beginning).casefold())
    return " ".join(f"{beginning}{rest.casefold()}".split())


def audit_keys(account: str | None, record: str, kinds: tuple[Searched, ...]) -> list[int | None]:
    """The keys of the given kinds in an audit record: its event, its principal, its first resource."""
    try:
        facts = orjson.loads(record)
        facts["resource"] = next(iter(facts.get("resources") or ()), None) or facts.get("resource")
        texts = [facts.get(kind) for kind in kinds]
    except (orjson.JSONDecodeError, AttributeError, TypeError):  # inserted by hand
        return [None] * len(kinds)
    return [_audit_key(account or "", kind, text) for kind, text in zip(kinds, texts, strict=True)]


def further_resource_keys(account: str | None, record: str) -> set[int]:
    """The keys of the resources after the first in an audit record, at most _MAX_FURTHER."""
    try:
        resources = orjson.loads(record).get("resources")
    except (orjson.JSONDecodeError, AttributeError, TypeError):  # inserted by hand
        return set()
    further = resources[1 : _MAX_FURTHER + 1] if isinstance(resources, list) else []
    return {search_key(account or "", "resource", each) for each in further if isinstance(each, str)}


def _audit_key(account: str, kind: Searched, text: object) -> int | None:
    if not isinstance(text, str):
        return None
    return search_key(account, kind, text) if kind == "resource" else _frequent_key(account, kind, text)


class Backfill(NamedTuple):
    """Fills new columns of existing rows during a migration.

    ``select`` begins with the columns of the ``key``. ``values`` turns one of its rows into parameters of ``update``.
    """

    key: tuple[str, ...]
    select: str
    update: str
    values: Callable[[Row], tuple[Value, ...]]

    async def run(self, tx: Transaction) -> None:
        """Updates all rows, a bounded number at a time."""
        key, size = ", ".join(self.key), len(self.key)
        beyond = ", ".join(f"${number}" for number in range(2, size + 2))
        statement, after = f"{self.select} ORDER BY {key} LIMIT $1", ()
        while rows := await tx.fetch_all(statement, _ROWS_AT_ONCE, *after):
            await tx.execute_many(self.update, [self.values(row) for row in rows])
            statement, after = f"{self.select} WHERE ({key}) > ({beyond}) ORDER BY {key} LIMIT $1", rows[-1][:size]


def _ends_and_serial(row: Row) -> tuple[Value, ...]:
    certificate, account, region, not_after, der = row
    return (certificate, account, region, not_after, certificate_keys((account, region), der)[0])


def _common_name(row: Row) -> tuple[Value, ...]:
    certificate, account, region, _, der = row
    return (certificate, account, region, certificate_keys((account, region), der)[1])


def _of_registrations(sets: str, values: Callable[[Row], tuple[Value, ...]]) -> Backfill:
    return Backfill(
        ("r.certificate", "r.account", "r.region"),
        "SELECT r.certificate, r.account, r.region, c.not_after, c.der "
        "FROM registrations AS r JOIN certificates AS c ON c.id = r.certificate",
        f"UPDATE registrations SET {sets} WHERE certificate = $1 AND account = $2 AND region = $3",  # noqa: S608
        values,
    )


def _of_audit(table: str, *kinds: Searched) -> Backfill:
    sets = ", ".join(f"{kind}_key = ${number}" for number, kind in enumerate(kinds, 2))
    return Backfill(
        ("id",),
        f"SELECT id, account, record FROM {table}",  # noqa: S608
        f"UPDATE {table} SET {sets} WHERE id = $1",  # noqa: S608
        lambda row: (row[0], *audit_keys(row[1], row[2], kinds)),
    )


class FurtherResources:
    """Fills the table of further resources of existing audit records during a migration."""

    async def run(self, tx: Transaction) -> None:
        statement, after = "SELECT id, account, record FROM audit_records ORDER BY id LIMIT $1", ()
        while rows := await tx.fetch_all(statement, _ROWS_AT_ONCE, *after):
            found = [(key, id) for id, account, record in rows for key in further_resource_keys(account, record)]
            await tx.execute_many(INSERT_FURTHER, found)
            statement = "SELECT id, account, record FROM audit_records WHERE id > $2 ORDER BY id LIMIT $1"
            after = rows[-1][:1]


INSERT_FURTHER = (
    "INSERT INTO audit_further_resources (resource_key, id) VALUES ($1, $2) ON CONFLICT (resource_key, id) DO NOTHING"
)

BACKFILLS: dict[int, tuple[Backfill | FurtherResources, ...]] = {
    12: (
        _of_registrations("not_after = $4, serial_key = $5", _ends_and_serial),
        _of_audit("audit_records", "event", "principal", "resource"),
        _of_audit("audit_activity", "event", "principal"),
    ),
    35: (FurtherResources(),),
    38: (_of_registrations("common_name = $4", _common_name),),
}


def serial_and_common_name(der: bytes) -> tuple[str | None, str | None]:
    """The serial number in hex, and the subject's last common name; None for what cannot be read.

    The DER has, in this order: version, serial, algorithm, issuer, validity, subject (RFC 5280 section 4.1).
    """
    try:
        _, at, _ = _element(der, 0)
        _, at, _ = _element(der, at)
        tag, start, end = _element(der, at)
        if tag == 0xA0:  # the version
            tag, start, end = _element(der, end)
        serial = f"{int.from_bytes(der[start:end], 'big', signed=True):x}"
        for _ in range(4):
            _, start, end = _element(der, end)
        return serial, _last_common_name(der, start, end)
    except IndexError:
        return None, None


def _last_common_name(der: bytes, start: int, end: int) -> str | None:
    """The last common name in the name at ``start``, which has sets of pairs of a type and a text."""
    found = None
    try:
        while start < end:
            _, pair, start = _element(der, start)
            while pair < start:
                _, at, pair = _element(der, pair)
                tag, at, value = _element(der, at)
                if tag == _OID and der[at:value] == _COMMON_NAME:
                    found = _element(der, value)
    except IndexError:  # the rest cannot be read
        pass
    if found is None:
        return None
    tag, start, end = found
    return der[start:end].decode(_ENCODINGS.get(tag, "utf-8"), "replace")


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """The tag of the element at ``at``, and where its content begins and ends. Raises IndexError."""
    size, start = der[at + 1], at + 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(der[at + 2 : start], "big")
    return der[at], start, start + size
