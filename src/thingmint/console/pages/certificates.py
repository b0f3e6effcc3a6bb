"""The list of certificates: search, filters, a file of it, and changes of several at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from thingmint.console import certificate_filters as filters
from thingmint.console import exports
from thingmint.console.certificate_names import names_of
from thingmint.console.exports import csv_lines, with_next
from thingmint.console.page import action, checked_count, page, url
from thingmint.console.rendering import exact, shortened
from thingmint.console.sentences import sentence_of
from thingmint.console.yandex_owners import find_owners, names_of_owners
from thingmint.domain.arns import arn_of
from thingmint.domain.certificates import parse_fingerprint
from thingmint.domain.errors import DomainError, Invalid, Unavailable
from thingmint.domain.status import Status
from thingmint.services.ca_certificates import list_ca_certificates
from thingmint.services.certificate_counts import WEEKS, count_by_status, monday_of
from thingmint.services.certificate_finding import common_name_in, find_certificates, id_prefix_in, searches_for
from thingmint.services.certificate_search import MIN_PREFIX, CertificateFilter, search_certificates
from thingmint.services.certificates import update_status
from thingmint.services.pages import Cursor, Page

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from thingmint.console.exports import Pace
    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.services.certificate_search import FoundCertificate
    from thingmint.services.owners import Owner
    from thingmint.store.engine import Transaction

_ROWS = 25
_FILE_ROWS, _FILE_ROWS_AT_ONCE = 10_000, 200
_MAX_FOUND = 1_000  # for each way to find them, in a file of a search
_COLUMNS = ["id", "common name", "serial", "status", "thing", "device", "added", "ends", "last seen"]
_SEARCHES = 3  # of the store, each of a thousand rows at most, for a page of such a filter
_PARTS = 10  # of a search, each of a thousand rows at most
_MAX_CAS = 50  # in the filter

CHANGES = {
    "ACTIVE": ("activate", "Activate", "activated"),
    "INACTIVE": ("deactivate", "Deactivate", "deactivated"),
    "REVOKED": ("revoke", "Revoke", "revoked"),
}
"""Statuses that a person can set: the verb, the button, and what was done."""


class _Identified(Protocol):
    @property
    def fingerprint(self) -> str: ...


F = TypeVar("F", bound=_Identified)


@dataclass(frozen=True, slots=True)
class _Listed:
    """``next`` is the token of the next page. ``has_more``: a search has found more than it returns.

    ``at`` is the time by which the filters were understood: the token is of no other list.
    ``owners`` are Yandex devices, registries and brokers by their ids.
    """

    found: Sequence[FoundCertificate]
    next: str | None
    at: datetime
    has_more: bool = False
    owners: Mapping[str, Owner] = field(default_factory=dict)


@page("/certificates", "SearchCertificates")
async def certificates(call: Call) -> Answer:
    call.may("iot:ListCertificates")
    fields, at = filters.read_fields(call.query), filters.time_of_list(call.query, call.change.now)
    cursor = call.cursor(_ROWS)
    # Without the time: what was read for another page a second ago is as good.
    listed = await call.share(
        ("certificates", *fields.values(), cursor.token), lambda: _with_owners(call, fields, at, cursor)
    )
    counts = await call.share("counts by status", lambda: call.read(lambda tx: count_by_status(tx, call.scope)))
    digits = id_prefix_in(call.change, fields["q"])
    return call.render(
        "certificates.html",
        total=_total(fields, counts),
        has_any=bool(listed.found) or counts.total() > 0,
        is_short=digits is not None and len(digits) < MIN_PREFIX,
        shortest=MIN_PREFIX,
        named=_named(fields, listed),
        fields=fields,
        listed=listed,
        owner_names=names_of_owners(call, listed.owners),
        choices=filters,
        cas=await _cas(call),
        changes=CHANGES,
        is_filtered=any(fields.values()),
        is_filtered_besides=any(value for name, value in fields.items() if name != "q"),
        follows=not fields["q"],  # a search examines more rows than an event is worth
        here=url("/certificates", **fields, at=_written(at) if cursor.token else None, page=cursor.token),
        may_change=call.allows("iot:UpdateCertificate", arn_of(call.scope, "*")),
        all=url("/certificates/change-all", **fields),
        first=url("/certificates", **fields) if cursor.token else None,
        next=url("/certificates", **fields, at=_written(listed.at), page=listed.next) if listed.next else None,
        file=url("/certificates.csv", **fields),
        command=_command(fields, at, filters.filter_of(fields, at)),
    )


async def _with_owners(call: Call, fields: dict[str, str], at: datetime, cursor: Cursor) -> _Listed:
    """Certificates of Yandex devices often have the common name "localhost": a person knows the device's name."""
    listed = await _listed(call, fields, at, cursor)
    owners = [each.owner for each in listed.found if each.owner is not None]
    return replace(listed, owners=await call.read(lambda tx: find_owners(tx, call.scope.account, owners)))


def _named(fields: dict[str, str], listed: _Listed) -> str | None:
    """The address of the whole list of names that begin so, for a search that does not return all."""
    name = f"CN={fields['q']}"
    is_clear = common_name_in(name) == fields["q"]
    return url("/certificates", **fields | {"q": name}) if listed.has_more and is_clear else None


def _total(fields: dict[str, str], counts: Counter[str]) -> int | None:
    """How many certificates the filters match; None if that is not counted, as for all but the status."""
    if any(value for name, value in fields.items() if name != "status"):
        return None
    return counts[fields["status"]] if fields["status"] else counts.total()


@page("/certificates.csv", "SearchCertificates", entry="/certificates")
async def certificates_file(call: Call) -> Answer:
    """The header Link has the address of the next file, if there can be more certificates."""
    call.may("iot:ListCertificates")
    fields, at = filters.read_fields(call.query), filters.time_of_list(call.query, call.change.now)
    wanted, token, left = filters.filter_of(fields, at), call.cursor(_FILE_ROWS).token, _FILE_ROWS
    content = bytearray(csv_lines([_COLUMNS]))
    with call.parts.exports.one_of(call.caller.account) as pace:
        while True:
            if is_search(fields, wanted):
                read = _LineReader(exports.MAX_BYTES)
                lines, _ = await found_in_parts(call, fields["q"], wanted, _MAX_FOUND, pace, read, _FILE_ROWS_AT_ONCE)
                content += b"".join(line.text for line in lines.values())
                break
            some = await call.read(partial(search, call, Cursor(min(_FILE_ROWS_AT_ONCE, left), token, "page"), wanted))
            token = some.next_token or ""
            content += csv_lines(map(_row, some.items))
            left -= len(some.items)
            await pace.rest()
            if not token or left <= 0 or len(content) >= exports.MAX_BYTES or pace.is_used_up:
                break
    more = url("/certificates.csv", **fields, at=_written(at), page=token) if token else None
    return with_next(call.download(bytes(content), "certificates.csv", "text/csv; charset=utf-8"), more)


@action("/certificates/change", "UpdateCertificate")
async def confirm_change(call: Call) -> Answer:
    """Asks for the number of the certificates that were chosen. Nothing is changed yet."""
    ids, status = _chosen(call)
    _, button, _ = CHANGES[status]
    call.may("iot:UpdateCertificate", arn_of(call.scope, ids[0]))
    return call.render(
        "certificates_change.html",
        ids=ids,
        names=await call.read(lambda tx: names_of(tx, call, ids)),
        new=status,
        button=button,
        noun=counted(len(ids)),
        back=url("/certificates"),
        command="\n".join(f"aws iot update-certificate --certificate-id {id} --new-status {status}" for id in ids),
    )


@action("/certificates/changed", "UpdateCertificate", form=confirm_change)
async def change(call: Call) -> Answer:
    """Changes each certificate in a transaction of its own: one that cannot be changed does not hinder the others.

    Raises Denied if the caller may change none of them.
    """
    ids, status = _chosen(call)
    checked_count(call.form, len(ids))
    failed: list[str] = []
    if not any(call.allows("iot:UpdateCertificate", arn_of(call.scope, id)) for id in ids):
        call.may("iot:UpdateCertificate", arn_of(call.scope, ids[0]))
    for id in ids:
        try:
            call.may("iot:UpdateCertificate", arn_of(call.scope, id))
            await call.write(partial(_set_status, call, id, Status(status)), certificateId=id, newStatus=status)
        except Unavailable:
            raise
        except DomainError as error:
            failed.append(f"{shortened(id)}: {sentence_of(error)}")
    said = f"{counted(len(ids) - len(failed))} {CHANGES[status][2]}."
    if failed:
        said += f" {len(failed)} not: {'; '.join(failed[:3])}{' …' if len(failed) > 3 else ''}"
    return call.done("/certificates", said, "warn" if failed else "ok")


async def _set_status(call: Call, id: str, status: Status, tx: Transaction) -> None:
    await update_status(tx, call.change, id, status)


async def _listed(call: Call, fields: dict[str, str], at: datetime, cursor: Cursor) -> _Listed:
    wanted = filters.filter_of(fields, at)
    if is_search(fields, wanted):
        found_by_text = await call.read(lambda tx: find_certificates(tx, call.change, fields["q"], _ROWS, wanted))
        return _Listed([each for _, each in found_by_text.certificates], None, at, not found_by_text.is_whole)
    found: list[FoundCertificate] = []
    for _ in range(_SEARCHES):
        # Each of these reads a limited number of rows: a page of a filter that few certificates satisfy takes several.
        some = await call.read(partial(search, call, cursor, wanted))
        found += some.items
        if some.next_token is None or len(some.items) == cursor.limit:
            return _Listed(found, some.next_token, at)
        cursor = Cursor(cursor.limit - len(some.items), some.next_token, cursor.field)
        await asyncio.sleep(0)  # for other requests
    return _Listed(found, cursor.token, at)


def is_search(fields: dict[str, str], wanted: CertificateFilter) -> bool:
    """True for a text that can be found in several ways: the answer is a list without further pages."""
    return bool(fields["q"]) and wanted.subject_prefix is None


async def search(call: Call, cursor: Cursor, wanted: CertificateFilter, tx: Transaction) -> Page[FoundCertificate]:
    by_name = wanted.subject_prefix is not None
    return await search_certificates(tx, call.change, cursor, wanted, ascending=by_name)


async def found_in_parts(
    call: Call,
    text: str,
    wanted: CertificateFilter,
    limit: int,
    pace: Pace,
    read: Callable[..., Awaitable[Page[F]]],
    at_once: int,
) -> tuple[dict[str, F], bool]:
    """What a search finds, by id, and whether that is all: at most ``limit`` for each way to find them.

    Reads ``at_once`` at a time, and leaves the event loop to others in between: _PARTS times at most for each way, as
    few may satisfy a filter. ``read`` searches by a filter.
    """
    found: dict[str, F] = {}
    is_whole = True
    for _, each in await call.read(lambda tx: searches_for(tx, call.change, text, wanted)):
        token: str | None = ""
        left = limit
        for _ in range(_PARTS):
            if not left or token is None or pace.is_used_up:
                break
            cursor = Cursor(min(at_once, left), token, "page")
            some = await call.read(partial(read, query=call.change, cursor=cursor, wanted=each, ascending=True))
            found |= {one.fingerprint: one for one in some.items}
            token, left = some.next_token, left - len(some.items)
            await pace.rest()
        is_whole = is_whole and token is None
    return found, is_whole


class _Line(NamedTuple):
    fingerprint: str
    text: bytes


class _LineReader:
    """Searches for certificates, and keeps only their lines of the file: a certificate can have 64 KB.

    Finds no more once all lines together have ``left`` bytes.
    """

    def __init__(self, left: int) -> None:
        self._left = left

    async def __call__(self, tx: Transaction, **search: Any) -> Page[_Line]:
        if self._left <= 0:
            return Page([], None)
        some = await search_certificates(tx, **search)
        lines = [_Line(each.fingerprint, csv_lines([_row(each)])) for each in some.items]
        self._left -= sum(len(line.text) for line in lines)
        return Page(lines, some.next_token)


async def _cas(call: Call) -> list[tuple[str, str]]:
    """The registered CAs, for the filter; none if the caller may not list them."""
    if not call.allows("iot:ListCACertificates"):
        return []
    cursor = Cursor(_MAX_CAS)
    found = await call.read(lambda tx: list_ca_certificates(tx, call.change, cursor, ascending=False, template=None))
    return [("", "Any issuer"), *((ca.fingerprint, f"CA {shortened(ca.fingerprint)}") for ca in found.items)]


def _chosen(call: Call) -> tuple[list[str], str]:
    """The certificates that were ticked, and the status to set. Raises Invalid."""
    ids = [parse_fingerprint(id, "id") for id in dict.fromkeys(call.form.all("id"))]
    if not ids:
        raise Invalid("id", "Tick at least one certificate")
    if len(ids) > _ROWS:
        raise Invalid("id", f"Tick at most {_ROWS} certificates")
    return ids, call.form.choice("status", CHANGES) or "INACTIVE"


def _written(at: datetime) -> int:
    return int(at.timestamp())


def counted(number: int) -> str:
    return "1 certificate" if number == 1 else f"{number:,} certificates"


def _row(each: FoundCertificate) -> list[str]:
    owner = f"{each.owner[0]} {each.owner[1]}" if each.owner else ""
    return [
        each.registration.fingerprint,
        each.common_name or "",
        each.serial or "",
        each.registration.status,
        each.thing or "",
        owner,
        exact(each.registration.created_at),
        exact(each.certificate.not_after),
        exact(each.last_seen.seen_at) if each.last_seen else "",
    ]


def _command(fields: dict[str, str], now: datetime, wanted: CertificateFilter) -> str:
    """The command that lists the same."""
    if is_search(fields, wanted):
        return f"thingmint certificate find {quote(fields['q'])}"
    monday, after = monday_of(now), monday_of(now) + timedelta(weeks=WEEKS)
    ends = {
        "past": "--ends-before 0d",
        "later": "--ends-from 90d",
        "weeks": f"--ends-from {monday:%Y-%m-%d} --ends-before {after:%Y-%m-%d}",
        "": "",
    }.get(fields["ends"], f"--ends-from 0d --ends-before {fields['ends']}d")
    days = fields["seen"].removeprefix("not-")
    seen = {"never": "--never-seen", "day": "--seen-from=-1d", "": ""}.get(fields["seen"], f"--seen-before=-{days}d")
    without = f"--without-{fields['without']}" if fields["without"] else ""
    status = f"--status {fields['status']}" if fields["status"] else ""
    ca = f"--ca {fields['ca']}" if fields["ca"] else ""
    name = f"--subject-prefix={quote(wanted.subject_prefix)} --order ascending" if wanted.subject_prefix else ""
    parts = ["thingmint certificate list", name, status, ends, seen, without, ca]
    return " ".join(part for part in parts if part)
