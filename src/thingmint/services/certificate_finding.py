"""Finds certificates by what a person knows of one: a bounded number of reads along indexes."""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from thingmint.domain.arns import arn
from thingmint.services.certificate_search import (
    MIN_PREFIX,
    CertificateFilter,
    is_storable,
    read_found,
    search_certificates,
)
from thingmint.services.pages import Cursor
from thingmint.services.things import AFTER_NAMES
from thingmint.store.search_keys import serial_and_common_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.services.certificate_search import FoundCertificate
    from thingmint.services.change import Query
    from thingmint.store.engine import Transaction

Searched = Literal["id", "serial", "subject", "thing", "device"]

NEWEST = 1000
"""Certificates whose common names are read, to find one by its beginning: no index has the names."""

_MIN_NAME = 2  # characters of a beginning that is looked for
_MAX_PLACES = 1000  # registries in which a device's name is looked for
_MAX_OWNERS = 25
_HEX = re.compile(r"[0-9a-f]{1,64}")
_DECIMAL = re.compile(r"[0-9]{1,49}")  # a serial number has 20 bytes at most (RFC 5280 section 4.1.2.2)

_OF_THINGS = (
    "SELECT certificate FROM thing_principals WHERE account = $1 AND region = $2 AND thing >= $3 AND thing < $4 "
    "ORDER BY thing, certificate LIMIT $5"
)
_IN_FOLDERS = "folder IN (SELECT id FROM folders WHERE account = $1)"
_PLACES = f"SELECT id FROM registries WHERE {_IN_FOLDERS} LIMIT {_MAX_PLACES}"
_OWNERS = (
    f"SELECT id FROM devices WHERE registry IN ({_PLACES}) AND name = $2 AND name <> '' LIMIT {_MAX_OWNERS}",
    f"SELECT id FROM registries WHERE {_IN_FOLDERS} AND name = $2 AND name <> '' LIMIT {_MAX_OWNERS}",
    f"SELECT id FROM brokers WHERE {_IN_FOLDERS} AND name = $2 AND name <> '' LIMIT {_MAX_OWNERS}",
)
_NEWEST = (
    "SELECT r.certificate, c.der FROM registrations AS r JOIN certificates AS c ON c.id = r.certificate "
    "WHERE r.account = $1 AND r.region = $2 ORDER BY r.created_at DESC, r.certificate DESC LIMIT $3"
)


async def find_certificates(
    tx: Transaction, query: Query, text: str, limit: int = 25
) -> list[tuple[Searched, FoundCertificate]]:
    """Return certificates that ``text`` may be about, each with what it was found by, at most ``limit`` of each kind.

    Looks for the beginning of an id, also with an ellipsis, and an ARN; a serial number, hexadecimal or decimal; a
    common name, also as ``CN=...``, whole, or its beginning among the newest certificates; the beginning of a thing's
    name; and the id or name of a Yandex device, registry or broker.
    """
    text = text.strip()
    if not text or not is_storable(text):
        return []
    found: dict[int, tuple[Searched, FoundCertificate]] = {}

    def keep(by: Searched, certificates: list[FoundCertificate]) -> None:
        for each in certificates:
            found.setdefault(each.registration.certificate, (by, each))

    for by, wanted in _searches(query, text):
        keep(by, (await search_certificates(tx, query, Cursor(limit), wanted, ascending=True)).items)
    if text.isascii():
        rows = await tx.fetch_all(_OF_THINGS, *query.scope, text, f"{text}{AFTER_NAMES}", limit)
        keep("thing", await _read(tx, query, list(dict.fromkeys(row[0] for row in rows))))
    for statement in _OWNERS:
        for (owner,) in await tx.fetch_all(statement, query.account, text):
            wanted = CertificateFilter(device=owner)
            keep("device", (await search_certificates(tx, query, Cursor(limit), wanted, ascending=True)).items)
    name = common_name_in(text)
    if len(found) < limit and len(name) >= _MIN_NAME:
        keep("subject", await _read(tx, query, await _newest(tx, query, name, limit)))
    return list(found.values())


def common_name_in(text: str) -> str:
    """The last common name of a subject such as ``CN=pump-7,O=Plant``; the text itself if it names none."""
    parts = [part.partition("=") for part in text.replace("/", ",").replace("+", ",").split(",")]
    names = [value.strip() for kind, _, value in parts if kind.strip().upper() == "CN" and value.strip()]
    return names[-1] if names else text


def id_prefix_in(query: Query, text: str) -> str | None:
    """The digits of an id, its beginning, or an ARN of the account and region; None if the text is none of these."""
    digits = text.removeprefix(arn(query.scope, "cert/")).lower()
    digits = digits.removesuffix("\N{HORIZONTAL ELLIPSIS}").rstrip(".")
    digits = re.sub(r"[:\s]", "", digits).removeprefix("0x")
    return digits if _HEX.fullmatch(digits) else None


def _searches(query: Query, text: str) -> Iterator[tuple[Searched, CertificateFilter]]:
    """The searches of indexes of certificates, the most specific first."""
    digits = id_prefix_in(query, text)
    if digits is not None and len(digits) >= MIN_PREFIX:
        yield "id", CertificateFilter(id_prefix=digits)
    if digits is not None:
        yield "serial", CertificateFilter(serial=digits)
    if _DECIMAL.fullmatch(text):
        yield "serial", CertificateFilter(serial=f"{int(text):x}")
    name = common_name_in(text)
    for each in dict.fromkeys((text, name, name.lower(), name.upper(), name.capitalize())):
        yield "subject", CertificateFilter(subject=each)
    yield "thing", CertificateFilter(thing=text)
    yield "device", CertificateFilter(device=text)


async def _newest(tx: Transaction, query: Query, beginning: str, limit: int) -> list[int]:
    """Those of the newest certificates whose common names begin with the text, whatever the case of its letters."""
    beginning, found = beginning.casefold(), []
    for certificate, der in await tx.fetch_all(_NEWEST, *query.scope, NEWEST):
        _, name = serial_and_common_name(der)
        if name is not None and name.casefold().startswith(beginning):
            found.append(certificate)
    return found[:limit]


async def _read(tx: Transaction, query: Query, certificates: list[int]) -> list[FoundCertificate]:
    return await read_found(tx, query, certificates, CertificateFilter())
