"""The audit log: a search by who did it, what it was about, event, outcome and time, and files of what it found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from shlex import quote
from typing import TYPE_CHECKING, Any

import orjson

from thingmint.access.audit_records import AuditFilter
from thingmint.console import exports
from thingmint.console.events import moment_of, resources_of
from thingmint.console.exports import csv_lines, with_next
from thingmint.console.page import page, url
from thingmint.console.pages.access import tabs_of
from thingmint.console.pages.audit_verification import may_verify
from thingmint.console.rendering import query_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.store.audit import AuditRow

    _Records = Sequence[tuple[AuditRow, Mapping[str, Any]]]

_ROWS = 50
_FILE_ROWS, _FILE_ROWS_AT_ONCE = 10_000, 250
_FILES = {"jsonl": "Download JSON lines", "csv": "Download CSV"}
_MAX_RESOURCES = 5  # of a row
_COLUMNS = ("time", "event", "outcome", "error", "reason", "principal", "credential", "address", "resource", "request")
_OUTCOMES = [("", "Any outcome"), ("success", "Done"), ("refused", "Refused")]
_SPANS = [("", "Any time"), ("1", "Last day"), ("7", "Last 7 days"), ("30", "Last 30 days")]
_ABOUT = [
    ("about", "Principal or resource"),
    ("certificate", "Certificate"),
    ("client_id", "Client id"),
]


@dataclass(frozen=True, slots=True)
class _Row:
    """``about`` are the resources. ``why`` is the reason of a refusal. Damaged records have no ``moment``."""

    moment: datetime | None
    event: str
    is_refused: bool
    who: str
    about: list[str]
    why: str
    address: str


@page("/access/audit", "ListAudit")
async def audit(call: Call) -> Answer:
    call.may("thingmint:ListAudit")
    fields, marker = _fields(call), call.cursor(_ROWS).token
    found = await call.parts.audit.list(call.caller.account, _wanted(call, fields), limit=_ROWS, marker=marker or None)
    here, options = url("/access/audit"), _options(fields)
    return call.render(
        "audit.html",
        rows=[_row(record) for record in found.items],
        fields=fields,
        outcomes=_OUTCOMES,
        spans=_SPANS,
        abouts=_ABOUT,
        is_filtered=any(value for name, value in fields.items() if name != "by"),
        tabs=tabs_of(call, "/access/audit"),
        first=here + query_of(**fields) if marker else None,
        next=here + query_of(**fields, page=found.next_token) if found.next_token else None,
        files=[(title, f"{here}.{ending}{query_of(**fields, page=marker)}") for ending, title in _FILES.items()],
        may_verify=await may_verify(call),
        command=f"thingmint audit list{options}\nthingmint audit export{options} > audit.jsonl\nthingmint audit verify",
    )


@page("/access/audit.jsonl", "ListAudit", entry="/access")
async def audit_lines(call: Call) -> Answer:
    """The records as `thingmint audit export` writes them."""
    return await _file(call, "jsonl", "application/x-ndjson; charset=utf-8", b"", _lines)


@page("/access/audit.csv", "ListAudit", entry="/access")
async def audit_table(call: Call) -> Answer:
    head = csv_lines([[*_COLUMNS, "resources", "stream", "sequence", "hash", "id"]])
    return await _file(call, "csv", "text/csv; charset=utf-8", head, _table)


async def _file(call: Call, ending: str, media: str, head: bytes, written: Callable[[_Records], bytes]) -> Answer:
    """The records, newest first. The header Link has the address of the next file, if there can be more records."""
    call.may("thingmint:ListAudit")
    fields, marker = _fields(call), call.cursor(_FILE_ROWS).token or None
    wanted, content, left = _wanted(call, fields), bytearray(head), _FILE_ROWS
    with call.parts.exports.one_of(call.caller.account) as pace:
        while True:
            most = min(_FILE_ROWS_AT_ONCE, left)
            some = await call.parts.audit.rows(call.caller.account, wanted, limit=most, marker=marker)
            content += written(some.items)
            left, marker = left - len(some.items), some.next_token
            await pace.rest()
            if marker is None or left <= 0 or len(content) >= exports.MAX_BYTES or pace.is_used_up:
                break
    more = f"{url(f'/access/audit.{ending}')}{query_of(**fields, page=marker)}" if marker else None
    return with_next(call.download(bytes(content), f"audit.{ending}", media), more)


def _lines(records: _Records) -> bytes:
    return b"".join(orjson.dumps({**_place(row), "record": record}) + b"\n" for row, record in records)


def _table(records: _Records) -> bytes:
    return csv_lines(_cells(row, record) for row, record in records)


def _cells(row: AuditRow, record: Mapping[str, Any]) -> list[str]:
    resources = record.get("resources")
    cells = [record.get(name) for name in _COLUMNS]
    cells += [" ".join(map(str, resources)) if isinstance(resources, list) else ""]
    cells += [row.stream.name, row.sequence, row.hash.hex() if row.hash else "", row.id]
    return ["" if cell is None else str(cell) for cell in cells]


def _place(row: AuditRow) -> dict[str, Any]:
    """The record's place in its chain."""
    return {
        "id": row.id,
        "stream": row.stream.name,
        "sequence": row.sequence,
        "hash": row.hash.hex() if row.hash else None,
    }


def _fields(call: Call) -> dict[str, str]:
    return {
        "q": call.query.text("q", 2048),
        "by": call.query.choice("by", [name for name, _ in _ABOUT], "about"),
        "event": call.query.text("event", 128),
        "outcome": call.query.choice("outcome", [value for value, _ in _OUTCOMES]),
        "days": call.query.choice("days", [value for value, _ in _SPANS]),
    }


def _wanted(call: Call, fields: Mapping[str, str]) -> AuditFilter:
    since = call.change.now - timedelta(days=int(fields["days"])) if fields["days"] else None
    given = {name: fields[name] or None for name in ("event", "outcome")}
    return replace(AuditFilter(since=since, **given), **{fields["by"]: fields["q"] or None})  # type: ignore[arg-type]


def _options(fields: Mapping[str, str]) -> str:
    named = ((fields["by"], fields["q"]), ("event", fields["event"]), ("outcome", fields["outcome"]))
    since = f" --since=-{fields['days']}d" if fields["days"] else ""
    return "".join(f" --{name.replace('_', '-')} {quote(value)}" for name, value in named if value) + since


def _row(record: Mapping[str, Any]) -> _Row:
    return _Row(
        moment_of(record),
        str(record.get("event") or "unnamed"),
        record.get("outcome") == "refused",
        str(record.get("principal") or ("not signed in" if record.get("address") else "the server's own machine")),
        resources_of(record)[:_MAX_RESOURCES],
        str(record.get("reason") or record.get("error") or ""),
        str(record.get("address") or ""),
    )
