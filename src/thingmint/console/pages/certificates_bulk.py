"""Changes all certificates that the filters of the list match, up to a limit, in small transactions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from thingmint.console import certificate_filters as filters
from thingmint.console.certificate_names import names_of
from thingmint.console.exports import Pace
from thingmint.console.fields import Fields
from thingmint.console.page import action, checked_count, page, url
from thingmint.console.pages.certificates import CHANGES, counted, found_in_parts, is_search
from thingmint.console.rendering import shortened, status_words
from thingmint.console.sentences import sentence_of
from thingmint.domain.arns import arn_of
from thingmint.domain.errors import Conflict, DomainError, Invalid, Unavailable
from thingmint.domain.status import Status
from thingmint.services.certificate_search import CertificateState, search_states
from thingmint.services.certificates import update_status
from thingmint.services.pages import Cursor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.services.certificate_search import CertificateFilter
    from thingmint.services.pages import Page
    from thingmint.store.engine import Transaction

LIMIT = 1000
"""Certificates that one form changes, at most."""

_AT_ONCE = 20  # in a transaction; the audit log finds its record by each of so many resources
_READ_AT_ONCE = 500  # only ids and statuses; with a filter, a search examines 1,000 rows anyway
_SEARCHES = 10  # of the store, each of a thousand rows at most
_SHOWN = 20  # certificates that could not be changed


@dataclass(frozen=True, slots=True)
class _Matches:
    """``is_whole`` is False if more certificates match, or were not looked at."""

    found: Sequence[CertificateState]
    is_whole: bool

    @property
    def ids(self) -> list[str]:
        return [each.fingerprint for each in self.found]

    @property
    def digest(self) -> str:
        """The same for the same certificates."""
        return hashlib.sha256("".join(sorted(self.ids)).encode()).hexdigest()

    def by_status(self) -> list[tuple[str, int]]:
        counts: dict[Status, int] = {}
        for each in self.found:
            counts[each.status] = counts.get(each.status, 0) + 1
        return [(status_words(status)[1], number) for status, number in counts.items()]


@dataclass(slots=True)
class _Result:
    """``skipped`` have the status already. ``unreached`` were not tried, because the store failed."""

    changed: int = 0
    skipped: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    unreached: int = 0


@page("/certificates/change-all", "SearchCertificates")
async def confirm_change_of_all(call: Call) -> Answer:
    """Counts what matches, and asks for the number. Nothing is changed yet."""
    call.may("iot:ListCertificates")
    fields, at = filters.read_fields(call.query), filters.time_of_list(Fields([]), call.change.now)
    matches = await _matching(call, fields, at)
    call.may("iot:UpdateCertificate", arn_of(call.scope, matches.ids[0] if matches.found else "*"))
    return call.render(
        "certificates_change_all.html",
        matches=matches,
        count=len(matches.found),
        noun=counted(len(matches.found)),
        filters=_described(fields),
        fields=[*fields.items(), ("at", str(int(at.timestamp()))), ("digest", matches.digest)],
        limit=LIMIT,
        choices=[(status, CHANGES[status][1]) for status in ("INACTIVE", "ACTIVE", "REVOKED")],
        back=url("/certificates", **fields),
        command="aws iot update-certificate --certificate-id ID --new-status INACTIVE  # for each",
    )


@action("/certificates/changed-all", "UpdateCertificate")
async def change_all(call: Call) -> Answer:
    """Changes what matched when the number was asked for. If other certificates match now, nothing is changed."""
    call.may("iot:ListCertificates")
    status = call.form.choice("new_status", CHANGES)
    if not status:
        raise Invalid("new_status", "is missing")
    fields = filters.read_fields(call.form)
    if call.form.number("at") is None:
        raise Invalid("at", "is missing; open the list again")
    matches = await _matching(call, fields, filters.time_of_list(call.form, call.change.now))
    if matches.digest != call.form.text("digest"):
        reason = "Other certificates match the filters now. Open the list again"
        raise Conflict("certificates", "list", reason)
    checked_count(call.form, len(matches.found))
    result = await _changed(call, matches.found, Status(status))
    shown = result.failed[:_SHOWN]
    return call.render(
        "certificates_changed_all.html",
        result=result,
        names=await call.read(lambda tx: names_of(tx, call, (id for id, _ in shown))),
        done=CHANGES[status][2],
        shown=shown,
        is_partial=not matches.is_whole,
        back=url("/certificates", **fields),
        command=f"aws iot update-certificate --certificate-id ID --new-status {status}  # for each",
    )


async def _matching(call: Call, fields: dict[str, str], at: datetime) -> _Matches:
    """The first certificates that match, in the order of the list. On a slow server they are the same ones."""
    wanted, pace = filters.filter_of(fields, at), Pace(is_limited=False)
    if is_search(fields, wanted):
        by_id, is_whole = await found_in_parts(call, fields["q"], wanted, LIMIT, pace, search_states, _READ_AT_ONCE)
        return _Matches([*by_id.values()][:LIMIT], is_whole=len(by_id) <= LIMIT and is_whole)
    found: list[CertificateState] = []
    token = ""
    for _ in range(_SEARCHES):
        cursor = Cursor(min(_READ_AT_ONCE, LIMIT - len(found)), token, "page")
        some = await call.read(partial(_search, call, cursor, wanted))
        found += some.items
        if some.next_token is None:
            return _Matches(found, is_whole=True)
        if len(found) >= LIMIT:
            break
        token = some.next_token
        await pace.rest()
    return _Matches(found, is_whole=False)


async def _search(call: Call, cursor: Cursor, wanted: CertificateFilter, tx: Transaction) -> Page[CertificateState]:
    by_name = wanted.subject_prefix is not None
    return await search_states(tx, call.change, cursor, wanted, ascending=by_name)


async def _changed(call: Call, found: Sequence[CertificateState], status: Status) -> _Result:
    result = _Result()
    wanted: list[str] = []
    for each in found:
        id = each.fingerprint
        if each.status is status:
            result.skipped += 1
            continue
        try:
            call.may("iot:UpdateCertificate", arn_of(call.scope, id))
            wanted.append(id)
        except DomainError as error:
            result.failed.append((id, sentence_of(error)))
    pace = Pace(is_limited=False)
    try:
        for first in range(0, len(wanted), _AT_ONCE):
            await _change_some(call, wanted[first : first + _AT_ONCE], status, result)
            await pace.rest()
    except Unavailable:
        result.unreached = len(found) - result.changed - result.skipped - len(result.failed)
    return result


async def _change_some(call: Call, ids: Sequence[str], status: Status, result: _Result) -> None:
    """Changes all of them in one transaction; if one cannot be changed, each in a transaction of its own."""
    try:
        await call.write(partial(_set_status, call, ids, status), newStatus=status)
        result.changed += len(ids)
    except Unavailable:
        raise
    except DomainError as error:
        if len(ids) == 1:
            result.failed.append((ids[0], sentence_of(error)))
            return
        for id in ids:
            await _change_some(call, [id], status, result)


async def _set_status(call: Call, ids: Sequence[str], status: Status, tx: Transaction) -> None:
    for id in ids:
        await update_status(tx, call.change, id, status)


def _described(fields: dict[str, str]) -> list[tuple[str, str]]:
    """The filters that are set, in the words of their form."""
    words = {"status": filters.STATUSES, "ends": filters.ENDS, "seen": filters.SEEN, "without": filters.WITHOUT}
    names = {
        "q": "Search",
        "status": "Status",
        "ends": "Ends",
        "seen": "Last seen",
        "without": "Missing",
        "ca": "Issuer",
    }
    return [
        (names[name], dict(words[name])[value] if name in words else shortened(value) if name == "ca" else value)
        for name, value in fields.items()
        if value
    ]
