"""Searches an account's certificates by filters: along indexes, page by page.

One filter chooses the index. The others are evaluated for at most _EXAMINED of its rows, so a page can be short, or
empty, though it has a next one.
"""

# ruff: noqa: S608 - SQL statements consist of constants of the code
from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from thingmint.domain.errors import Invalid
from thingmint.domain.status import Status
from thingmint.services.certificate_activity import read_last_seen
from thingmint.services.certificate_contents import split_content, with_content
from thingmint.services.certificates import REGISTRATIONS
from thingmint.services.pages import Cursor, Page
from thingmint.services.things import AFTER_NAMES
from thingmint.store.key_lists import FIRST_FURTHER, KeyList
from thingmint.store.search_keys import MAX_NAME, folded_name, name_key, search_key, serial_and_common_name
from thingmint.store.table import fetch_in_order, fingerprint_bytes, id_of, to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from thingmint.domain.certificates import Certificate
    from thingmint.services.certificate_activity import LastSeen
    from thingmint.services.certificates import Registration
    from thingmint.services.change import Query
    from thingmint.services.page_tokens import Position
    from thingmint.store.engine import Transaction, Value

    _Bounds = Sequence[tuple[Literal[">=", "<"], Value]]

MIN_PREFIX = 4
"""Digits. With fewer, most of the rows that a search examines would be other accounts'."""

_EXAMINED = 1000
_BY_AGE = ("created_at", "certificate")
_HEX = re.compile(r"[0-9a-f]{1,64}")
SEARCHED = ("id_prefix", "serial", "subject", "subject_prefix", "thing", "thing_prefix", "device")
"""The fields of a filter of which a search has one at most, as each has an index of its own."""

_READ = KeyList(
    f"{with_content(REGISTRATIONS, 'registrations')}"
    f"WHERE r.certificate IN ({{keys}}) AND r.account = ${FIRST_FURTHER} AND r.region = ${FIRST_FURTHER + 1}"
)
_READ_STATES = KeyList(
    "SELECT r.certificate, c.fingerprint, r.status FROM registrations AS r "
    "JOIN certificates AS c ON c.id = r.certificate "
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
    ``subject_prefix`` (its beginning), ``thing`` (a name), ``thing_prefix`` (its beginning) and ``device`` (the id of a
    Yandex device, registry or broker) may be set. Common names match whatever the case of their letters. ``ca`` is the
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
    subject_prefix: str | None = None
    thing: str | None = None
    thing_prefix: str | None = None
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

    @property
    def fingerprint(self) -> str:
        return self.registration.fingerprint


class CertificateState(NamedTuple):
    """What a change of many certificates needs of each. It is read quicker than what lists show."""

    fingerprint: str
    status: Status


class _Index(NamedTuple):
    """The rows to examine: a table with a condition, and the columns of its order, the certificate's id last.

    ``values`` are the condition's parameters, from $1. ``bounds`` compare the first column of the order with values.
    """

    table: str
    condition: str
    values: Sequence[Value]
    order: tuple[str, ...]
    bounds: _Bounds = ()
    exact: bool = True  # each row is a certificate of the account

    def beyond(self, *, ascending: bool) -> _Index:
        """The same rows for a page that begins after a position.

        The position implies one of the bounds. SQLite would go along the index from that bound, not from the position.
        """
        implied = ">=" if ascending else "<"
        return self._replace(bounds=[bound for bound in self.bounds if bound[0] != implied])

    def where(self) -> tuple[str, list[Value]]:
        conditions, values = [self.condition] if self.condition else [], [*self.values]
        for comparison, value in self.bounds:
            values.append(value)
            conditions.append(f"{self.order[0]} {comparison} ${len(values)}")
        return " AND ".join(conditions), values


async def search_certificates(
    tx: Transaction, query: Query, cursor: Cursor, wanted: CertificateFilter, *, ascending: bool = False
) -> Page[FoundCertificate]:
    """Return a page of certificates that satisfy ``wanted``.

    Sorted by name with ``subject_prefix`` and ``thing_prefix``; by id with ``id_prefix``, ``serial``, ``subject`` or
    ``thing``; else by last seen or by expiry if the filter is about that; else by age. A certificate with several
    things can be on several pages with ``thing_prefix``. Raises Invalid for a filter that cannot be, and for a token of
    another search.
    """
    taken, following = await _search(tx, query, cursor, wanted, ascending=ascending)
    return Page(await read_found(tx, query, taken, wanted), following)


async def search_states(
    tx: Transaction, query: Query, cursor: Cursor, wanted: CertificateFilter, *, ascending: bool = False
) -> Page[CertificateState]:
    """Return the same certificates as ``search_certificates``, with less of each."""
    if not _has_exact_key(wanted):
        page = await search_certificates(tx, query, cursor, wanted, ascending=ascending)
        states = [CertificateState(each.registration.fingerprint, each.registration.status) for each in page.items]
        return Page(states, page.next_token)
    taken, following = await _search(tx, query, cursor, wanted, ascending=ascending)
    found = {
        id: CertificateState(fingerprint.hex(), Status(status))
        for id, fingerprint, status in await _READ_STATES.fetch(tx, taken, *query.scope)
    }
    return Page([found[id] for id in taken], following)


async def _search(
    tx: Transaction, query: Query, cursor: Cursor, wanted: CertificateFilter, *, ascending: bool
) -> tuple[list[int], str | None]:
    """Return the ids of the certificates of a page, and the token of the next one."""
    if not all(map(is_storable, (wanted.thing, wanted.thing_prefix, wanted.device))):
        return [], None
    index, rest = _index_for(query, wanted)
    tokens, scope = query.environment.page_tokens, query.scope
    listing = f"{wanted.name} {'ascending' if ascending else 'descending'}"
    after = None if not cursor.token else tokens.open(listing, scope, cursor.token, cursor.field)
    examined = cursor.limit if index.exact and not rest else _EXAMINED
    beyond: tuple[Value, ...] = ()
    if after is not None:
        index, beyond = index.beyond(ascending=ascending), _values_of(after, index.order)
    statement, values = _statement(query, index, rest)
    rows = await fetch_in_order(tx, statement, values, index.order, beyond, examined + 1, ascending=ascending)
    taken: dict[int, None] = {}
    last = None
    for number, row in enumerate(rows[:examined], 1):
        if row[-1]:
            taken[row[-2]] = None
        if len(taken) == cursor.limit or number == examined:
            last = row if number < len(rows) else None
            break
    return list(taken), None if last is None else tokens.seal(listing, scope, _position(last))


def _index_for(query: Query, wanted: CertificateFilter) -> tuple[_Index, CertificateFilter | None]:
    """Return the index to go along, and the filter for its rows; None if all rows satisfy it. Raises Invalid."""
    scope, own = query.scope, "account = $1 AND region = $2"
    searched = [name for name in SEARCHED if getattr(wanted, name)]
    if len(searched) > 1:
        raise Invalid(searched[1], f"cannot be combined with {searched[0]}")
    index = None
    done: dict[str, Any] = dict.fromkeys(searched)
    match searched:
        case ["id_prefix"]:
            index = _by_prefix(wanted.id_prefix or "")
        case ["serial"]:
            values = search_key(" ".join(scope), "serial", _serial(wanted.serial)), *scope
            condition = "serial_key = $1 AND account = $2 AND region = $3"
            index = _Index("registrations", condition, values, ("certificate",))
        case ["subject"]:
            # A name of which nothing is left when it is folded has no key.
            condition, key = f"{own} AND common_name = $3", name_key(wanted.subject or "") or b""
            index = _Index("registrations", condition, (*scope, key), ("certificate",))
        case ["subject_prefix"]:
            beginning = name_key(wanted.subject_prefix or "") or b""
            # UTF-8 does not have the byte 0xff, so this follows all names with the beginning.
            bounds = _bounds(beginning, beginning + b"\xff")
            index = _Index("registrations", own, scope, ("common_name", "certificate"), bounds)
        case ["thing"]:
            index = _Index("thing_principals", f"{own} AND thing = $3", (*scope, wanted.thing), ("certificate",))
        case ["thing_prefix"]:
            bounds = _bounds(wanted.thing_prefix, f"{wanted.thing_prefix}{AFTER_NAMES}")
            index = _Index("thing_principals", own, scope, ("thing", "certificate"), bounds)
        case ["device"]:
            condition = "owner = $1 AND account = $2 AND region = $3"
            index = _Index("bindings", condition, (wanted.device, *scope), _BY_AGE)
    if index is None and (wanted.seen_from or wanted.seen_before):
        order = ("seen_at", "certificate")
        index = _Index("certificate_activity", own, scope, order, _between(wanted.seen_from, wanted.seen_before))
        done = {"seen_from": None, "seen_before": None}
    elif index is None and (wanted.ends_from or wanted.ends_before):
        order = ("not_after", "certificate")
        index = _Index("registrations", own, scope, order, _between(wanted.ends_from, wanted.ends_before))
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
    first, last = (bytes.fromhex(prefix.ljust(64, digit)) for digit in "0f")
    return _Index("certificates", "", (), ("fingerprint",), _bounds(first, last + b"\0"), exact=False)


def _serial(text: str | None) -> str:
    digits = (text or "").lower().replace(":", "").removeprefix("0x")
    return digits.lstrip("0") or "0"


def _between(first: datetime | None, before: datetime | None) -> _Bounds:
    return _bounds(to_micros(first) if first else None, to_micros(before) if before else None)


def _bounds(first: Value, before: Value) -> _Bounds:
    bounds: _Bounds = ((">=", first), ("<", before))
    return [bound for bound in bounds if bound[1] is not None]


def _statement(query: Query, index: _Index, rest: CertificateFilter | None) -> tuple[str, Sequence[Value]]:
    """SQL without ORDER BY that reads the columns of the order, the certificate's id, and 1 if it is to be taken."""
    id = f"{index.table}.{'id' if index.table == 'certificates' else 'certificate'}"
    columns = [f"{index.table}.{column}" for column in index.order]
    condition, values = index.where()
    if index.exact and rest is None:
        return f"SELECT {', '.join(columns)}, {id} AS id, 1 FROM {index.table} WHERE {condition}", values

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
    return f"SELECT {', '.join(columns)}, {id} AS id, {taken} FROM {index.table} WHERE {condition}", values


def _position(row: Sequence[Value]) -> Position:
    first, *further = row[:-2]
    if isinstance(first, int):
        return first, str(further[0]) if further else ""
    return int(further[0] or 0) if further else 0, first.hex() if isinstance(first, bytes) else str(first)


def _values_of(position: Position, order: tuple[str, ...]) -> tuple[Value, ...]:
    number, text = position
    match order[0]:
        case "fingerprint":
            return (bytes.fromhex(text),)
        case "common_name":
            return bytes.fromhex(text), number
        case "thing":
            return text, number
        case _:
            return (number,) if len(order) == 1 else (number, int(text))


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
        # Two numbers can have the same search key, once in many thousand millions. Keys of long names are cut.
        if (wanted.serial and serial != _serial(wanted.serial)) or not _is_named(common_name or "", wanted):
            continue
        thing, kind, owner = links[id]
        bound = (kind, owner) if owner is not None else None
        found.append(
            FoundCertificate(
                registration, certificate, serial, common_name, thing, bound, last_seen.get(registration.fingerprint)
            )
        )
    return found


def _has_exact_key(wanted: CertificateFilter) -> bool:
    """False if only the contents of certificates tell whether they match, as different texts can have the same key."""
    name = folded_name(wanted.subject or wanted.subject_prefix or "").encode("utf-8", "replace")
    return not wanted.serial and len(name) < MAX_NAME and b"?" not in name  # which also stands for surrogates


def _is_named(common_name: str, wanted: CertificateFilter) -> bool:
    if wanted.subject:
        return folded_name(common_name) == folded_name(wanted.subject)
    return not wanted.subject_prefix or folded_name(common_name).startswith(folded_name(wanted.subject_prefix))
