"""The audit log: a search by who did it, what it was about, event, outcome and time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from thingmint.access.audit_records import AuditFilter
from thingmint.console.page import page, url
from thingmint.console.pages.access import tabs_of
from thingmint.console.rendering import query_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.console.page import Call
    from thingmint.http.messages import Answer

_ROWS = 50
_OUTCOMES = [("", "Any outcome"), ("success", "Done"), ("refused", "Refused")]
_SPANS = [("", "Any time"), ("1", "Last day"), ("7", "Last 7 days"), ("30", "Last 30 days")]
_ABOUT = [
    ("about", "Principal or resource"),
    ("certificate", "Certificate"),
    ("client_id", "Client id"),
]


@dataclass(frozen=True, slots=True)
class _Row:
    """``about`` are the resources. ``why`` is the reason of a refusal."""

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
    fields = {
        "q": call.query.text("q", 2048),
        "by": call.query.choice("by", [name for name, _ in _ABOUT], "about"),
        "event": call.query.text("event", 128),
        "outcome": call.query.choice("outcome", [value for value, _ in _OUTCOMES]),
        "days": call.query.choice("days", [value for value, _ in _SPANS]),
    }
    marker = call.query.text("page", 2000)
    since = call.change.now - timedelta(days=int(fields["days"])) if fields["days"] else None
    given = {name: fields[name] or None for name in ("event", "outcome")}
    wanted = replace(AuditFilter(since=since, **given), **{fields["by"]: fields["q"] or None})  # type: ignore[arg-type]
    found = await call.parts.audit.list(call.caller.account, wanted, limit=_ROWS, marker=marker or None)
    options = "".join(
        f" --{name.replace('_', '-')} '{value}'"
        for name, value in ((fields["by"], fields["q"]), ("event", fields["event"]), ("outcome", fields["outcome"]))
        if value and "'" not in value
    )
    return call.render(
        "audit.html",
        rows=[_row(record) for record in found.items],
        fields=fields,
        outcomes=_OUTCOMES,
        spans=_SPANS,
        abouts=_ABOUT,
        is_filtered=any(value for name, value in fields.items() if name != "by"),
        tabs=tabs_of(call, "/access/audit"),
        first=url("/access/audit") + query_of(**fields) if marker else None,
        next=url("/access/audit") + query_of(**fields, page=found.next_token) if found.next_token else None,
        command=f"thingmint audit list{options}",
    )


def _row(record: Mapping[str, Any]) -> _Row:
    """Records that are damaged have no time."""
    try:
        moment = datetime.fromisoformat(str(record.get("time"))).astimezone(UTC)
    except ValueError:
        moment = None
    resources = record.get("resources")
    about = [record.get("resource"), *(resources if isinstance(resources, list) else [])]
    return _Row(
        moment,
        str(record.get("event") or "unnamed"),
        record.get("outcome") == "refused",
        str(record.get("principal") or ("not signed in" if record.get("address") else "the server's own machine")),
        list(dict.fromkeys(str(each) for each in about if each and each != "*"))[:5],
        str(record.get("reason") or record.get("error") or ""),
        str(record.get("address") or ""),
    )
