"""Calls from the playground: the answer, the audit record that the call left, and files of what is shown once."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import orjson

from thingmint.access.audit_events import event_name, facts_of
from thingmint.access.audit_records import AuditFilter
from thingmint.console.events import resources_of
from thingmint.console.page import action, page, url
from thingmint.console.pages.playground import page_values
from thingmint.console.playground.answers import shown
from thingmint.console.playground.catalogue import catalogue_of
from thingmint.console.playground.diagrams import operation_diagram, state_of, types_of
from thingmint.console.playground.given import GRPC, Given
from thingmint.domain.errors import DomainError, Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.access.audit_records import Record
    from thingmint.console.page import Call
    from thingmint.console.playground.operations import Operation
    from thingmint.http.invoking import Invoked
    from thingmint.http.messages import Answer

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MOMENT = re.compile(r"[0-9]{10,17}")
_WINDOW = timedelta(minutes=1)  # in which a call's record is written
_EARLY = timedelta(seconds=5)
_WAIT = timedelta(seconds=20)  # then the page does not look for the record by itself any more
_ROWS = 1000
_NOT_YET = "The record is written within a second."
_NO_RECORD = "There is no record of this call. Refusals that repeat are counted, and recorded together after a while."


@dataclass(frozen=True, slots=True)
class _Trace:
    """What a call left in the audit log. ``facts`` are known from the call itself, ``record`` is what was written.

    ``address`` is where the page looks for a record that is not there yet; None if it need not look. ``note`` says why
    there is no record to see.
    """

    facts: Mapping[str, Any]
    record: str | None
    address: str | None
    note: str
    search: str | None

    @property
    def is_refused(self) -> bool:
        return self.facts.get("outcome") == "refused"

    @property
    def resources(self) -> list[str]:
        return resources_of(self.facts)


@action("/playground/{api}/{id}", "CallOperation")
async def call_operation(call: Call) -> Answer:
    """Runs the operation as the caller of the page. The answer's page is the only place that shows its secrets.

    The API's steps authorize the call, and record it: this request has no audit record of its own.
    """
    catalogue = await catalogue_of(call.parts.contracts)
    operation = catalogue.find(call.path["api"], call.path["id"])
    given = Given.parse(operation, call.form, catalogue.schemas[operation.api].resolved)
    values = await page_values(call, catalogue, given)
    try:
        request = given.request()
        api = f"{operation.api}-grpc" if request.method == GRPC else operation.api
        invoked = await call.parts.invoke(call.context, api, operation.id, request)
    except Invalid as error:
        wrong = dict(given.errors) or {error.field: f"{error}."}
        page = call.render("playground_unsent.html", status=400, **values | {"wrong": wrong, "unsent": str(error)})
        return replace(page, code="Invalid")
    call.outcome.recorded = True
    sent = f"{request.path}{'?' if request.query else ''}{request.query}"
    answer = shown(operation, catalogue.schemas[operation.api], invoked, call.scope.region)
    return call.render(
        "playground_answer.html",
        **values,
        shown=answer,
        sent=None if "PRIVATE KEY" in unquote(sent) else f"{request.method} {sent}",
        **_state(operation, answer.value),
        trace=await _trace(call, invoked),
    )


@page("/playground/record/{request}/{at}", "ListAudit", entry="/playground")
async def record(call: Call) -> Answer:
    """The audit record of a call. The page of the call asks for it until it is there."""
    call.may("thingmint:ListAudit")
    request, at = call.path["request"], call.path["at"]
    if not _ID.fullmatch(request) or not _MOMENT.fullmatch(at):
        raise Invalid("address", "is not that of an audit record")
    try:
        moment = datetime.fromtimestamp(int(at) / 1_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        raise Invalid("address", "is not that of an audit record") from None
    event = call.query.text("event", 128)
    found = await _find(call, request, moment, event or None)
    if found is not None:
        # The page of the call has its facts above the part that asks: the whole record takes the place of both.
        headers = [(b"hx-retarget", b"#record"), (b"hx-reselect", b"#record")] if call.is_update else []
        return call.render("playground_record.html", trace=_of_record(found), headers=headers)
    is_late = not -_EARLY < call.change.now - moment < _WAIT
    address = None if is_late else url(f"/playground/record/{request}/{at}", event=event)
    trace = _Trace({}, None, address, _NO_RECORD if is_late else _NOT_YET, url("/access/audit"))
    return call.render("playground_record.html", trace=trace)


def _state(operation: Operation, value: Any) -> dict[str, Any]:
    """The Operation in the answer as a diagram of its states, and where to look at it again while it runs."""
    types = types_of(operation.answer)
    if types is None or not isinstance(value, dict) or "metadata" not in value:
        return {"state": None, "again": None}
    state = state_of(value)
    # Operations that are read can be those of any method.
    metadata, response = (
        _name(value.get(part)) or known for part, known in zip(("metadata", "response"), types, strict=True)
    )
    again = url("/playground/yandex/OperationService.Get", operation_id=value.get("id"))
    return {
        "state": operation_diagram(state, metadata=metadata, response=response, id="called"),
        "again": again if state == "running" else None,
    }


def _name(message: Any) -> str:
    """The name of the message that an Any holds."""
    return str(message.get("@type", "")).rpartition(".")[2] if isinstance(message, dict) else ""


async def _trace(call: Call, invoked: Invoked) -> _Trace:
    context, outcome = invoked.context, invoked.outcome
    facts = facts_of(context, outcome)
    search = url("/access/audit", q=facts["principal"], event=facts["event"])
    if facts["account"] != call.caller.account:
        return _Trace(facts, None, None, "The call had no caller of this account, whose log does not have it.", None)
    if not call.allows("thingmint:ListAudit"):
        return _Trace(facts, None, None, "Your policies do not allow you to read the audit log.", None)
    is_own = facts["principal"] == call.caller.arn
    event = None if is_own else event_name(context)
    if outcome.recorded:
        # The call is done, and its secrets are on this page only: the page is shown if the log cannot be read, too.
        with contextlib.suppress(DomainError):
            found = await _find(call, context.id, context.now, event)
            if found is not None:
                return _of_record(found)
    at = int(context.now.timestamp() * 1_000_000)
    address = url(f"/playground/record/{context.id}/{at}", event=event)
    return _Trace(facts, None, address, _NOT_YET, search)


async def _find(call: Call, request: str, moment: datetime, event: str | None) -> Record | None:
    """The record of the request, which was made at that moment: the caller's own, or one of the event."""
    who = {"event": event} if event is not None else {"principal": call.caller.arn}
    wanted = AuditFilter(since=moment - _EARLY, until=moment + _WINDOW, **who)
    found = await call.parts.audit.list(call.caller.account, wanted, limit=_ROWS, marker=None)
    return next((each for each in found.items if each.get("request") == request), None)


def _of_record(record: Record) -> _Trace:
    search = url("/access/audit", q=record.get("principal"), event=record.get("event"))
    return _Trace(record, orjson.dumps(record, option=orjson.OPT_INDENT_2).decode(), None, "", search)
