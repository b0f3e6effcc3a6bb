"""The endpoints of the sessions of connected devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.arns import arn
from thingmint.domain.errors import NotFound
from thingmint.native import fleet_schemas as schemas
from thingmint.native.declaring import Endpoint
from thingmint.services.live_sessions import SessionFilter, SessionQuestion
from thingmint.services.pages import Cursor, page_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.native.declaring import Call
    from thingmint.services.live_sessions import LiveSession
    from thingmint.services.page_tokens import Position


async def _list_sessions(call: Call) -> schemas.SessionList:
    call.change.may("thingmint:ListSessions")
    wanted: schemas.SessionsQuery = call.query
    of = SessionFilter(**wanted.model_dump(exclude={"page_size", "marker", "order"}))
    ascending = wanted.order == "ascending"
    missing: set[str] = set()

    async def fetch(after: Position | None, limit: int) -> list[LiveSession]:
        question = SessionQuestion(of, after, limit, ascending)
        page = await call.change.environment.messages.sessions(call.change.scope, question)
        missing.update(page.missing)
        return page.sessions

    cursor = Cursor(wanted.page_size, wanted.marker, "marker")
    page = await page_of(call.change, cursor, f"sessions {wanted.order} {of}", fetch, lambda each: each.position)
    return schemas.SessionList(
        sessions=[schemas.Session.of(each) for each in page.items], missing=sorted(missing), next_marker=page.next_token
    )


async def _show_session(call: Call) -> schemas.SessionDetails:
    wanted: schemas.SessionName = call.query
    for action in ("iot:GetConnection", "iot:ListSubscriptions"):
        call.change.may(action, _resource(call))
    found = await _find(call, wanted)
    if not found:
        raise NotFound("session of client", wanted.client_id)
    return schemas.SessionDetails.of(found[0])


async def _find(call: Call, wanted: schemas.SessionName) -> Sequence[LiveSession]:
    of = SessionFilter(client_id=wanted.client_id, owner=wanted.owner, details=True)
    page = await call.change.environment.messages.sessions(call.change.scope, SessionQuestion(of, None, 1, False))
    return page.sessions


async def _end_session(call: Call) -> schemas.SessionEnded:
    wanted: schemas.EndSession = call.body
    call.change.may("iot:DeleteConnection", _resource(call))
    messages, scope = call.change.environment.messages, call.change.scope
    was_connected = await messages.close_client(
        scope, wanted.client_id, wanted.owner, with_will=not wanted.prevent_will, discard=wanted.clean_session
    )
    if not was_connected and not wanted.clean_session:
        raise NotFound("session of client", wanted.client_id)
    return schemas.SessionEnded(was_connected=was_connected)


def _resource(call: Call) -> str:
    named: schemas.SessionName = call.query if call.query.model_fields_set else call.body
    return arn(call.change.scope, f"client/{named.client_id}")


SESSIONS = [
    Endpoint(
        "GET",
        "/v1/sessions",
        "ListSessions",
        "List the sessions of connected devices, of all processes",
        _list_sessions,
        query=schemas.SessionsQuery,
        result=schemas.SessionList,
    ),
    Endpoint(
        "GET",
        "/v1/session",
        "GetSession",
        "Show one session with its subscriptions",
        _show_session,
        query=schemas.SessionName,
        result=schemas.SessionDetails,
    ),
    Endpoint(
        "POST",
        "/v1/session/end",
        "EndSession",
        "Close a device's connection; the device can connect again",
        _end_session,
        body=schemas.EndSession,
        result=schemas.SessionEnded,
    ),
]
