"""Finds certificates by what a person knows of one: a bounded number of reads along indexes."""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from thingmint.domain.arns import arn
from thingmint.services.certificate_search import (
    MIN_PREFIX,
    CertificateFilter,
    is_storable,
    search_certificates,
)
from thingmint.services.pages import Cursor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thingmint.services.certificate_search import FoundCertificate
    from thingmint.services.change import Query
    from thingmint.store.engine import Transaction

Searched = Literal["id", "serial", "subject", "thing", "device"]

_MAX_PLACES = 1000  # registries in which a device's name is looked for
_MAX_OWNERS = 25
_HEX = re.compile(r"[0-9a-f]{1,64}")
_DECIMAL = re.compile(r"[0-9]{1,49}")  # a serial number has 20 bytes at most (RFC 5280 section 4.1.2.2)

_IN_FOLDERS = "folder IN (SELECT id FROM folders WHERE account = $1)"
_PLACES = f"SELECT id FROM registries WHERE {_IN_FOLDERS} LIMIT {_MAX_PLACES}"
_OWNERS = (
    f"SELECT id FROM devices WHERE registry IN ({_PLACES}) AND name = $2 AND name <> '' LIMIT {_MAX_OWNERS}",
    f"SELECT id FROM registries WHERE {_IN_FOLDERS} AND name = $2 AND name <> '' LIMIT {_MAX_OWNERS}",
    f"SELECT id FROM brokers WHERE {_IN_FOLDERS} AND name = $2 AND name <> '' LIMIT {_MAX_OWNERS}",
)


class Finding(NamedTuple):
    """Certificates, each with what it was found by. ``is_whole`` is False if there can be more."""

    certificates: Sequence[tuple[Searched, FoundCertificate]]
    is_whole: bool


async def find_certificates(
    tx: Transaction, query: Query, text: str, limit: int = 25, wanted: CertificateFilter | None = None
) -> Finding:
    """Return certificates that ``text`` may be about, at most ``limit`` for each way to find them.

    Looks for the beginning of an id, also with an ellipsis, and an ARN; a serial number, hexadecimal or decimal; the
    beginning of a common name, also as ``CN=...``; the beginning of a thing's name; and the id or name of a Yandex
    device, registry or broker. All must satisfy ``wanted``, which searches for no text of its own.
    """
    found: dict[int, tuple[Searched, FoundCertificate]] = {}
    is_whole = True
    for by, search in await searches_for(tx, query, text, wanted or CertificateFilter()):
        page = await search_certificates(tx, query, Cursor(limit), search, ascending=True)
        for each in page.items:
            found.setdefault(each.registration.certificate, (by, each))
        is_whole = is_whole and page.next_token is None
    return Finding(list(found.values()), is_whole)


async def searches_for(
    tx: Transaction, query: Query, text: str, wanted: CertificateFilter
) -> list[tuple[Searched, CertificateFilter]]:
    """Return the searches that together find what ``text`` may be about, each ascending."""
    text = text.strip()
    if not text or not is_storable(text):
        return []
    searches = [*_searches(query, text, wanted)]
    for statement in _OWNERS:
        owners = await tx.fetch_all(statement, query.account, text)
        searches += [("device", replace(wanted, device=owner)) for (owner,) in owners]
    return searches


def common_name_in(text: str) -> str | None:
    """The last common name of a subject such as ``CN=pump-7,O=Plant``; None if the text is no subject."""
    parts = [part.partition("=") for part in text.replace("/", ",").replace("+", ",").split(",")]
    names = [value.strip() for kind, _, value in parts if kind.strip().upper() == "CN" and value.strip()]
    return names[-1] if names else None


def id_prefix_in(query: Query, text: str) -> str | None:
    """The digits of an id, its beginning, or an ARN of the account and region; None if the text is none of these."""
    digits = text.removeprefix(arn(query.scope, "cert/")).lower()
    digits = digits.removesuffix("\N{HORIZONTAL ELLIPSIS}").rstrip(".")
    digits = re.sub(r"[:\s]", "", digits).removeprefix("0x")
    return digits if _HEX.fullmatch(digits) else None


def _searches(query: Query, text: str, wanted: CertificateFilter) -> Iterator[tuple[Searched, CertificateFilter]]:
    """The searches of indexes of certificates, the most specific first."""
    digits = id_prefix_in(query, text)
    if digits is not None and len(digits) >= MIN_PREFIX:
        yield "id", replace(wanted, id_prefix=digits)
    if digits is not None:
        yield "serial", replace(wanted, serial=digits)
    if _DECIMAL.fullmatch(text):
        yield "serial", replace(wanted, serial=f"{int(text):x}")
    for name in dict.fromkeys((text, common_name_in(text) or text)):
        yield "subject", replace(wanted, subject_prefix=name)
    if text.isascii():
        yield "thing", replace(wanted, thing_prefix=text)
    yield "device", replace(wanted, device=text)
