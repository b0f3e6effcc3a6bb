"""Verifies the audit log. The work goes on in the server, and the page follows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from thingmint.access.audit_records import AuditFilter
from thingmint.access.audit_verification import VERIFIED
from thingmint.console.events import moment_of
from thingmint.console.page import action, page, url
from thingmint.domain.errors import Denied

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from thingmint.console.page import Call
    from thingmint.http.messages import Answer

_PATH = "/access/audit/verification"
_EVENT = "VerifyAuditLog"
_LOOKED_AT = 50  # records of verifications, each of which has one of its beginning, too
_FOLLOWED = timedelta(minutes=10)
"""For so long after its beginning, the page follows a verification of another process, or waits for its record."""


@dataclass(frozen=True, slots=True)
class _Result:
    moment: datetime
    who: str
    found: Mapping[str, Any]


async def may_verify(call: Call) -> bool:
    """True if the caller may verify the log: the chains run through all accounts, so only the operator's may."""
    return call.allows(f"thingmint:{_EVENT}") and await call.parts.verification.may(call.caller.account)


@page(_PATH, "GetAuditVerification")
async def verification(call: Call) -> Answer:
    call.may(f"thingmint:{_EVENT}")
    progress = call.parts.verification.progress
    if not await call.parts.verification.may(call.caller.account):
        raise Denied(call.caller.arn, f"thingmint:{_EVENT}", "*", explicit=False)
    last, begun = await _last(call)
    return call.render(
        "audit_verification.html",
        progress=progress,
        last=last,
        begun=None if progress else begun,
        follows=progress is not None or (begun is not None and call.change.now - begun < _FOLLOWED),
        here=url(_PATH),
        may_see_audit=call.allows("thingmint:ListAudit"),
    )


@action(_PATH, _EVENT, entry="/access")
async def verify(call: Call) -> Answer:
    call.may(f"thingmint:{_EVENT}")
    started = await call.parts.verification.start(call.context)
    return call.done(_PATH, "The verification has begun." if started else "A verification is running already.")


async def _last(call: Call) -> tuple[_Result | None, datetime | None]:
    """The result of the last verification that has ended, in any process, and when a later one began."""
    wanted = AuditFilter(event=_EVENT)
    found = await call.parts.audit.list(call.caller.account, wanted, limit=_LOOKED_AT, marker=None)
    begun: datetime | None = None
    for record in found.items:
        if record.get("outcome") == "refused":
            continue
        moment, result = moment_of(record), record.get(VERIFIED)
        if moment is not None and isinstance(result, dict):
            # Records of the same moment have no order.
            return _Result(moment, str(record.get("principal")), result), begun if begun and begun > moment else None
        begun = begun or moment
    return None, begun
