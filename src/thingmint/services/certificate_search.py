"""Searches an account's certificates by filters: along indexes, page by page.

One filter chooses the index. The others are evaluated for at most _EXAMINED of its rows, so a page can be short, or
empty, though it has a next one.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from thingmint.domain.errors import Invalid
from thingmint.services.certificate_activity import read_last_seen
from thingmint.services.certificate_contents import split_content, with_content
from thingmint.services.certificates import REGISTRATIONS
from thingmint.services.pages import Cursor, Page
from thingmint.store.key_lists import FIRST_FURTHER, KeyList
from thingmint.store.search_keys import search_key, serial_and_common_name
from thingmint.store.table import fetch_in_order, fingerprint_bytes, id_of, to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from thingmint.domain.certificates import Certificate
    from thingmint.domain.status import Status
    from thingmint.services.certificate_activity import LastSeen
    from thingmint.services.certificates import Registration
    from thingmint.services.change import Query
    from thingmint.services.page_tokens import Position
    from thingmint.store.engine import Transaction, Value

MIN_PREFIX = 4
"""Digits. With fewer, most of the rows that a search examines would be other accounts'."""

_EXAMINED = 1000
_BY_AGE = ("created_at", "certificate")
_HEX = re.compile(r"[0-9a-f]{1,64}")

_READ = KeyList(
    f"{with_content(REGISTRATIONS, 'registrations')}"
    f"WHERE r.certificate IN ({{keys}}) AND r.account = ${FIRST_FURTHER} AND r.region = ${FIRST_FURTHER + 1}"
)
_OF_R = "certificate = r.certificate AND account = r.account AND region = r.region"
_READ_LINKS = KeyList(
    f"SELECT r.certificate, (SELECT thing FROM thing_principals WHERE {_OF_R} ORDER BY thing LIMIT 1), "
    f"(SELECT kind FROM bindings WHERE {_OF_R} LIMIT 1), (SELECT owner FROM bindings WHERE {_OF_R} LIMIT 1) "
    "FROM registrations AS r "
    f"WHERE r.certificate IN ({{keys}}) AND r.account = ${FIRST_FURTHER} AND r.region = ${FIRST_FURTHER + 1}"
)


@dataclass(frozen=True, slots=True)
class CertificateFilter:
    """Certificates must satisfy all that is set.

    At most one of ``id_prefix`` (hexadecimal digits), ``serial`` (the same), ``subject`` (the last common name),
    ``thing`` (a name) and ``device`` (the id of a Yandex device, registry or broker) may be set. ``ca`` is the
    fingerprint of the CA certificate that a certificate is registered under. ``..._from`` are inclusive,
    ``..._before`` exclusive. A certificate that never connected satisfies neither ``seen_from`` nor ``seen_before``.
    """

    status: Status | None = None
    ca: str | None = None
    ends_from: datetime | None = None
    ends_before: datetime | None = None
    seen_from: datetime | None = None
    seen_before: datetime | None = None
    never_seen: bool = False
    without_policy: bool = False
    without_thing: bool = False
    id_prefix: str | None = None
    serial: str | None = None
    subject: str | None = None
    thing: str | None = None
    device: str | None = None

    @property
    def name(self) -> str:
        """A short name, which differs for filters that differ."""
        text = "\0".join(f"{field.name} {getattr(self, field.name)}" for field in fields(self))
        return f"certificates {search_key('', 'filter', text)}"


@dataclass(frozen=True, slots=True)
class FoundCertificate:
    """A certificate with what lists show of it.

    ``thing`` is the first of its things by name. ``owner`` is the kind and id of the Yandex device, registry or broker
    that it is bound to. ``serial`` and ``common_name`` are None if they cannot be read.
    """

    registration: Registration
    certificate: Certificate
    serial: str | None
    common_name: str | None
    thing: str | None
    owner: tuple[str, str] | None
    last_seen: LastSeen | None


class _Index(NamedTuple):
    """The rows to examine: a table with a condition, and the columns of its order, the certificate's id last.

    ``values`` are the condition's parameters, from $1.
    """

    table: str
    condition: str
    values: Sequence[Value]
    order: tuple[str, ...]
    exact: bool = True  # each row is a certificate of the account


async def search_certificates(
    tx: Transaction, query: Query, cursor: Cursor, wanted: CertificateFilter, *, ascending: bool = False
) -> Page[FoundCertificate]:
    """Return a page of certificates that satisfy ``wanted``.

    Sorted by id with ``id_prefix``, ``serial``, ``subject`` or ``thing``; else by last seen or by expiry if the filter
    is about that; else by age. Raises Invalid for a filter that cannot be, and for a token of another search.
    """
    if not all(map(is_storable, (wanted.subject, wanted.thing, wanted.device))):
        return Page([], None)
    index, rest = _index_for(query, wanted)
    tokens, scope = query.environment.page_tokens, query.scope
    listing = f"{wanted.name} {'ascending' if ascending else 'descending'}"
    after = None if not cursor.token else tokens.open(listing, scope, cursor.token, cursor.field)
    statement, values = _statement(query, index, rest)
    examined = cursor.limit if index.exact and not rest else _EXAMINED
    beyond = () if after is None else _values_of(after, len(index.order), is_bytes=not index.exact)
    rows = await fetch_in_order(tx, statement, values, index.order, beyond, examined + 1, ascending=ascending)
    taken: list[int] = []
    last = None
    for number, row in enumerate(rows[:examined], 1):
        if row[-1]:
            taken.append(row[-2])
        if len(taken) == cursor.limit or number == examined:
            last = row if number < len(rows) else None
            break
    found = await read_found(tx, query, taken, wanted)
    return Page(found, None if last is None else tokens.seal(listing, scope, _position(last)))


def _index_for(query: Query, wanted: CertificateFilter) -> tuple[_Index, CertificateFilter | None]:
    """Return the index to go along, and the filter for its rows; None if all rows satisfy it. Raises Invalid."""
    scope, own = query.scope, "account = $1 AND region = $2"
    searched = [name for name in ("id_prefix", "serial", "subject", "thing", "device") if getattr(wanted, name)]
    if len(searched) > 1:
        raise Invalid(searched[1], f"cannot be combined with {searched[0]}")
    index = None
    done: dict[str, Any] = {}
    match searched:
        case ["id_prefix"]:
            index = _by_prefix(wanted.id_prefix or "")
            done = {"id_prefix": None}
        case ["serial"] | ["subject"]:
            kind, text = ("serial", _serial(wanted.serial)) if wanted.serial else ("common name", wanted.subject or "")
            column = "serial_key" if wanted.serial else "subject_key"
            key = search_key(" ".join(scope), kind, text)
            condition = f"{column} = $1 AND account = $2 AND region = $3"
            index = _Index("registrations", condition, (key, *scope), ("certificate",))
            done = {"serial": None, "subject": None}
        case ["thing"]:
            index = _Index("thing_principals", f"{own} AND thing = $3", (*scope, wanted.thing), ("certificate",))
            done = {"thing": None}
        case ["device"]:
            condition = "owner = $1 AND account = $2 AND region = $3"
            index = _Index("bindings", condition, (wanted.device, *scope), _BY_AGE)
            done = {"device": None}
    if index is None and (wanted.seen_from or wanted.seen_before):
        condition, values = _between(own, scope, "seen_at", wanted.seen_from, wanted.seen_before)
        index = _Index("certificate_activity", condition, values, ("seen_at", "certificate"))
        done = {"seen_from": None, "seen_before": None}
    elif index is None and (wanted.ends_from or wanted.ends_before):
        condition, values = _between(own, scope, "not_after", wanted.ends_from, wanted.ends_before)
        index = _Index("registrations", condition, values, ("not_after", "certificate"))
        done = {"ends_from": None, "ends_before": None}
    elif index is None and wanted.ca:
        condition = f"{own} AND ca = {id_of('$3')}"
        index = _Index("registrations", condition, (*scope, fingerprint_bytes(wanted.ca)), _BY_AGE)
        done = {"ca": None}
    elif index is None and wanted.status:
        index = _Index("registrations", f"{own} AND status = $3", (*scope, wanted.status), _BY_AGE)
        done = {"status": None}
    elif index is None:
        index = _Index("registrations", own, scope, _BY_AGE)
    rest = replace(wanted, **done)
    return index, None if rest == CertificateFilter() else rest


def is_storable(text: str | None) -> bool:
    """Return False if no row can have the text."""
    return text is None or ("\0" not in text and text == text.encode("utf-8", "ignore").decode())


def _by_prefix(prefix: str) -> _Index:
    prefix = prefix.lower()
    if not _HEX.fullmatch(prefix) or len(prefix) < MIN_PREFIX:
        raise Invalid("id_prefix", f"must be {MIN_PREFIX} to 64 hexadecimal digits")
    values = [bytes.fromhex(prefix.ljust(64, digit)) for digit in "0f"]
    return _Index("certificates", "fingerprint >= $1 AND fingerprint <= $2", values, ("fingerprint",), exact=False)


def _serial(text: str | None) -> str:
    digits = (text or "").lower().replace(":", "").removeprefix("0x")
    return digits.lstrip("0") or "0"


def _between(
    own: str, scope: Sequence[Value], column: str, first: datetime | None, before: datetime | None
) -> tuple[str, list[Value]]:
    values = [*scope]
    for comparison, moment in ((">=", first), ("<", before)):
        if moment is not None:
            values.append(to_micros(moment))
            own += f" AND {column} {comparison} ${len(values)}"
    return own, values


def _statement(query: Query, index: _Index, rest: CertificateFilter | None) -> tuple[str, Sequence[Value]]:
    """SQL without ORDER BY that reads the columns of the order, the certificate's id, and 1 if it is to be taken."""
    id = f"{index.table}.{'id' if index.table == 'certificates' else 'certificate'}"
    columns = [f"{index.table}.{column}" for column in index.order]
    if index.exact and rest is None:
        return f"SELECT {', '.join(columns)}, {id} AS id, 1 FROM {index.table} WHERE {index.condition}", index.values
    values = [*index.values]

    def mark(value: Value) -> str:
        values.append(value)
        return f"${len(values)}"

    account, region = map(mark, query.scope)
    this = f"o.certificate = {id} AND o.account = {account} AND o.region = {region}"
    own, conditions = "", []
    if rest is not None:
        if rest.status:
            own += f" AND o.status = {mark(rest.status)}"
        if rest.ca:
            own += f" AND o.ca = {id_of(mark(fingerprint_bytes(rest.ca)))}"
        for column, comparison, moment in (("not_after", ">=", rest.ends_from), ("not_after", "<", rest.ends_before)):
            if moment is not None:
                own += f" AND o.{column} {comparison} {mark(to_micros(moment))}"
        for comparison, moment in ((">=", rest.seen_from), ("<", rest.seen_before)):
            if moment is not None:
                seen = f"o.seen_at {comparison} {mark(to_micros(moment))}"
                conditions.append(f"EXISTS (SELECT 1 FROM certificate_activity AS o WHERE {this} AND {seen})")
        absent = {
            "certificate_activity": rest.never_seen,
            "device_policy_attachments": rest.without_policy,
            "thing_principals": rest.without_thing,
        }
        for table, is_wanted in absent.items():
            if is_wanted:
                group = " AND o.thing_group = ''" if table == "device_policy_attachments" else ""
                conditions.append(f"NOT EXISTS (SELECT 1 FROM {table} AS o WHERE {this}{group})")
    conditions.append(f"EXISTS (SELECT 1 FROM registrations AS o WHERE {this}{own})")
    taken = f"CASE WHEN {' AND '.join(conditions)} THEN 1 ELSE 0 END"
    return f"SELECT {', '.join(columns)}, {id} AS id, {taken} FROM {index.table} WHERE {index.condition}", values


def _position(row: Sequence[Value]) -> Position:
    first, *further = row[:-2]
    if isinstance(first, bytes):
        return 0, first.hex()
    return int(first or 0), str(further[0]) if further else ""


def _values_of(position: Position, size: int, *, is_bytes: bool) -> tuple[Value, ...]:
    if is_bytes:
        return (bytes.fromhex(position[1]),)
    return (position[0],) if size == 1 else (position[0], int(position[1]))


async def read_found(
    tx: Transaction, query: Query, certificates: Sequence[int], wanted: CertificateFilter
) -> list[FoundCertificate]:
    """Return what lists show of the certificates with these ids, in their order."""
    links = {id: row for id, *row in await _READ_LINKS.fetch(tx, certificates, *query.scope)}
    contents = {}
    for row in await _READ.fetch(tx, certificates, *query.scope):
        own, certificate = split_content(row)
        registration = REGISTRATIONS.load(own)
        contents[registration.certificate] = registration, certificate
    last_seen = await read_last_seen(tx, query.scope, [each.fingerprint for each, _ in contents.values()])
    found = []
    for id in certificates:
        registration, certificate = contents[id]
        serial, common_name = serial_and_common_name(certificate.der)
        # Two texts can have the same search key, once in many thousand millions.
        if (wanted.serial and serial != _serial(wanted.serial)) or (wanted.subject and common_name != wanted.subject):
            continue
        thing, kind, owner = links[id]
        bound = (kind, owner) if owner is not None else None
        found.append(
            FoundCertificate(
                registration, certificate, serial, common_name, thing, bound, last_seen.get(registration.fingerprint)
            )
        )
    return found
