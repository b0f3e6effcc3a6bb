"""The endpoints of the sessions of connected devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.arns import arn
from thingmint.native import fleet_schemas as schemas
from thingmint.native.declaring import Endpoint
from thingmint.services.live_sessions import SessionFilter
from thingmint.services.pages import Cursor
from thingmint.services.sessions import end_session, get_session, list_sessions

if TYPE_CHECKING:
    from thingmint.native.declaring import Call

_OF_SESSION = ("iot:GetConnection", "iot:ListSubscriptions")


async def _list_sessions(call: Call) -> schemas.SessionList:
    call.change.may("thingmint:ListSessions")
    wanted: schemas.SessionsQuery = call.query
    of = SessionFilter(**wanted.model_dump(exclude={"page_size", "marker", "order"}))
    cursor = Cursor(wanted.page_size, wanted.marker, "marker")
    page, missing = await list_sessions(call.change, cursor, of, ascending=wanted.order == "ascending")
    return schemas.SessionList(
        sessions=[schemas.Session.of(each) for each in page.items], missing=missing, next_marker=page.next_token
    )


async def _show_session(call: Call) -> schemas.SessionDetails:
    wanted: schemas.SessionName = call.query
    for action in _OF_SESSION:
        call.change.may(action, _resource(call))
    return schemas.SessionDetails.of(await get_session(call.change, wanted.client_id, wanted.owner))


async def _end_session(call: Call) -> schemas.SessionEnded:
    wanted: schemas.EndSession = call.body
    call.change.may("iot:DeleteConnection", _resource(call))
    was_connected = await end_session(
        call.change, wanted.client_id, wanted.owner, with_will=not wanted.prevent_will, discard=wanted.clean_session
    )
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
        ("thingmint:ListSessions",),
        query=schemas.SessionsQuery,
        result=schemas.SessionList,
    ),
    Endpoint(
        "GET",
        "/v1/session",
        "GetSession",
        "Show one session with its subscriptions",
        _show_session,
        _OF_SESSION,
        query=schemas.SessionName,
        result=schemas.SessionDetails,
    ),
    Endpoint(
        "POST",
        "/v1/session/end",
        "EndSession",
        "Close a device's connection; the device can connect again",
        _end_session,
        ("iot:DeleteConnection",),
        body=schemas.EndSession,
        result=schemas.SessionEnded,
    ),
]
