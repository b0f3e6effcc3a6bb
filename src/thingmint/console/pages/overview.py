"""The overview: what the fleet does now, and what needs its operator."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from thingmint.console.answers import redirect
from thingmint.console.charts import Bar, bars
from thingmint.console.cookies import REGION
from thingmint.console.page import action, page, url
from thingmint.console.rendering import grouped, status_words
from thingmint.console.yandex_owners import allows_yandex, registries_of
from thingmint.domain.status import Status
from thingmint.services.certificate_counts import count_certificates
from thingmint.services.pages import Cursor
from thingmint.services.refusals import count_refusals, list_refusals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from thingmint.console.page import Call
    from thingmint.http.messages import Answer
    from thingmint.services.certificate_counts import CertificateCounts
    from thingmint.services.health import Check
    from thingmint.services.refusals import RefusalGroup
    from thingmint.store.engine import Transaction

_HOUR = timedelta(hours=1)
_ROWS = 5
_SOON = 2  # weeks that may have an end within 7 days
_NEAR = 5  # weeks that begin within the next 30 days
_DAYS_OF_MEAN = 7
_PILLS = {"ok": "ok", "unknown": "mute", "warning": "warn", "error": "bad"}
_CHECKS = {"authorities": "CAs", "store": "Database", "listeners": "TLS certificates", "jobs": "Background jobs"}
_TROUBLES = ("warning", "error")


@dataclass(frozen=True, slots=True)
class _Facts:
    """``refused`` is the number of refusals by reason; None if the caller may not see them."""

    counts: CertificateCounts
    refused: Mapping[str, int] | None
    groups: Sequence[RefusalGroup]


@dataclass(frozen=True, slots=True)
class _Task:
    """What needs the operator: a pill, a sentence with a link, and a note."""

    kind: str
    subject: str
    title: str
    note: str
    address: str = ""


@page("/", "ConsoleOverview")
async def overview(call: Call) -> Answer:
    if not call.allows("iot:ListCertificates") and await _has_registries(call):
        return redirect(url("/devices"))  # for roles of Yandex IoT Core only
    call.may("iot:ListCertificates")
    may_see_refusals = call.allows("thingmint:ListRefusals")
    facts = await call.share(
        ("overview", may_see_refusals),
        lambda: call.read(lambda tx: _read(tx, call, may_see_refusals=may_see_refusals)),
    )
    checks = (await call.parts.health()).checks if call.allows("thingmint:GetHealth") else None
    added = [sum(origins.values()) for _, origins in facts.counts.added]
    active = facts.counts.by_status.get(Status.ACTIVE, 0)
    connected = call.parts.connected(call.scope)
    return call.render(
        "overview.html",
        counts=facts.counts,
        refused=facts.refused,
        most_refused=_sentence(next(iter(facts.refused or ()), "")),
        groups=facts.groups,
        connected=connected,
        connect=_where_to_connect(call),
        share=f"{connected / active:.1%} of active" if connected and active else "No device is connected",
        added_today=added[-1] if added else 0,
        mean=round(sum(added[-_DAYS_OF_MEAN:]) / _DAYS_OF_MEAN),
        expiry=_expiry(facts.counts),
        daily=_daily(facts.counts),
        statuses=[(status, *status_words(Status(status)), n) for status, n in facts.counts.by_status.items()],
        tasks=_tasks(call, facts, checks),
        checks=[(_title(each.name), _PILLS[each.state], each.state, each.message) for each in checks or ()],
    )


@action("/region", "ConsoleRegion")
async def choose_region(call: Call) -> Answer:
    """Shows another region of the account from now on, in this browser."""
    region = call.form.choice("region", call.caller.regions)
    return redirect(url("/"), headers=[call.cookies.set(REGION, region or call.scope.region)])


async def _has_registries(call: Call) -> bool:
    registries = await call.read(lambda tx: registries_of(tx, call))
    return bool(registries)


def _where_to_connect(call: Call) -> str:
    """The address of the page that makes a device; empty if the caller may make none."""
    if call.allows("iot:CreateThing") and call.allows("iot:CreateKeysAndCertificate"):
        return url("/connect")
    return url("/connect/yandex/new") if allows_yandex(call, "DeviceService.Create") else ""


async def _read(tx: Transaction, call: Call, *, may_see_refusals: bool) -> _Facts:
    now = call.change.now
    counts = await count_certificates(tx, call.scope, now)
    if not may_see_refusals:
        return _Facts(counts, None, ())
    groups = await list_refusals(tx, call.change, Cursor(_ROWS), since=now - _HOUR)
    return _Facts(counts, await count_refusals(tx, call.scope, now, _HOUR), groups.items)


def _expiry(counts: CertificateCounts) -> Markup | None:
    """The chart, or None if it would be empty."""
    if not any(week.active for week in counts.weeks):
        return None
    return bars(_weeks(counts), "Active certificates by week of expiry", narrow=13)


def _weeks(counts: CertificateCounts) -> list[Bar]:
    kinds = ["soon"] * _SOON + ["near"] * (_NEAR - _SOON)
    return [
        Bar(
            week.active,
            f"{week.begins:%d %b}",
            f"Week of {week.begins:%d %B %Y}: {week.active:,}",
            kinds[number] if number < len(kinds) else "",
        )
        for number, week in enumerate(counts.weeks)
    ]


def _days(counts: CertificateCounts) -> list[Bar]:
    amounts = [(day, sum(origins.values())) for day, origins in counts.added]
    return [Bar(amount, f"{day:%d %b}", f"{day:%d %B %Y}: {amount:,}") for day, amount in amounts]


def _daily(counts: CertificateCounts) -> Markup | None:
    """The chart, or None if it would be empty."""
    days = _days(counts)
    if not any(day.value for day in days):
        return None
    return bars(days, "Certificates added by day", narrow=14, id="added", last=True)


def _title(check: str) -> str:
    return _CHECKS.get(check, check.capitalize())


def _sentence(reason: str) -> str:
    """A reason in its general form, such as that of counts, without the places of ids."""
    words = " ".join(reason.replace("...", " ").split())
    return f"{words[:1].upper()}{words[1:]}"


def _tasks(call: Call, facts: _Facts, checks: Sequence[Check] | None) -> list[_Task]:
    """``checks`` of the server's health are None if the caller may not see them."""
    tasks = [
        _Task(_PILLS[each.state], _title(each.name), each.message, "")
        for each in checks or ()
        if each.state in _TROUBLES
    ]
    if checks is None and call.frame.health in _TROUBLES:
        note = "An operator who may use thingmint:GetHealth sees more."
        tasks.append(_Task(_PILLS[call.frame.health], "Server", "The server needs attention", note))
    for group in facts.groups[:2]:
        who = group.client_id or group.certificate[:12] or "Several devices"
        title = f"{who} may not {_verb(group.action)}"
        since = group.first_at.astimezone(UTC).strftime("%H:%M")
        times = "once" if group.count == 1 else f"{group.count:,} times since {since} UTC"
        where = url(f"/refusals/{group.id}")
        tasks.append(_Task("bad", "Refused", title, f"{group.reason[:1].upper()}{group.reason[1:]}, {times}.", where))
    counts = facts.counts
    if counts.expired:
        title = f"{_certificates(counts.expired)} active, but ended"
        where = url("/certificates", status=Status.ACTIVE, ends="past")
        note = "Deactivate them. Devices that Yandex's rules apply to may still use them."
        tasks.append(_Task("warn", "Expiry", title, note, where))
    if soon := counts.expiring.get(7, 0):
        title = f"{_certificates(soon)} ending in 7 days"
        where = url("/certificates", status=Status.ACTIVE, ends="7")
        tasks.append(_Task("warn", "Expiry", title, "Renew them, or their devices cannot connect.", where))
    if pending := counts.by_status.get(Status.PENDING_ACTIVATION, 0):
        title = f"{_certificates(pending)} waiting for activation"
        where = url("/certificates", status=Status.PENDING_ACTIVATION)
        tasks.append(_Task("warn", "Pending", title, "Their devices were registered just in time.", where))
    return tasks


def _verb(action: str) -> str:
    return action.rpartition(":")[2].lower()


def _certificates(number: int) -> str:
    return f"{grouped(number)} {'certificate is' if number == 1 else 'certificates are'}"
