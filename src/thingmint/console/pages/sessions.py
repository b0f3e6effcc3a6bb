"""The sessions of connected devices: the list, which follows by itself, and one session with its subscriptions."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from thingmint.console.page import STOP_UPDATES, action, links_of, page, url
from thingmint.domain.arns import arn
from thingmint.domain.errors import NotFound
from thingmint.services.live_sessions import SessionFilter
from thingmint.services.sessions import end_session, get_session, list_sessions
from thingmint.store.table import from_micros

if TYPE_CHECKING:
    from thingmint.console.page import Call
    from thingmint.http.messages import Answer

_ROWS = 25
_LONGEST_ID = 50


@page("/sessions", "ListSessions")
async def sessions(call: Call) -> Answer:
    call.may("thingmint:ListSessions")
    text, cursor = call.query.text("q"), call.cursor(_ROWS)
    wanted = SessionFilter(text=text or None)
    found, missing = await call.share(
        ("sessions", text, cursor.token), lambda: list_sessions(call.change, cursor, wanted)
    )
    return call.render(
        "sessions.html",
        sessions=found.items,
        missing=missing,
        q=text,
        from_micros=from_micros,
        here=url("/sessions", q=text, page=cursor.token),
        **links_of("/sessions", cursor, found.next_token, q=text),
        command=f"thingmint session list{f' --text {quote(text)}' if text else ''}",
    )


@page("/sessions/one", "GetSession")
async def session(call: Call) -> Answer:
    """The client id is in the query: in a path, one with a slash or two dots would be another path.

    A page that updates itself sends ``update``, and gets an answer that it can show if the session has ended.
    """
    client_id, owner = call.query.exact("client_id"), call.query.text("owner", _LONGEST_ID)
    resource = arn(call.scope, f"client/{client_id}")
    for needed in ("iot:GetConnection", "iot:ListSubscriptions"):
        call.may(needed, resource)
    try:
        key = ("session", client_id, owner)
        found = await call.share(key, lambda: get_session(call.change, client_id, owner or None))
    except NotFound:
        if not call.query.text("update"):
            raise
        return call.render(
            "session_ended.html", status=STOP_UPDATES, client_id=client_id, command="thingmint session list"
        )
    named = f"{quote(client_id)}{f' --owner {quote(owner)}' if owner else ''}"
    return call.render(
        "session.html",
        session=found,
        since=from_micros(found.connected_at),
        may_end=call.allows("iot:DeleteConnection", resource),
        here=url("/sessions/one", client_id=client_id, owner=owner, update=1),
        reload=url("/sessions/one", client_id=client_id, owner=owner),
        simulator=url("/refusals/simulator", device=found.certificate or found.owner, client_id=client_id),
        command=f"thingmint session show {named}\nthingmint session kick {named}",
    )


@action("/sessions/end", "EndSession")
async def end(call: Call) -> Answer:
    client_id, owner = call.form.exact("client_id"), call.form.text("owner", _LONGEST_ID)
    call.may("iot:DeleteConnection", arn(call.scope, f"client/{client_id}"))
    discard, with_will = bool(call.form.text("discard")), not call.form.text("without_will")
    was_connected = await end_session(call.change, client_id, owner or None, with_will=with_will, discard=discard)
    said = "is disconnected" if was_connected else "was not connected"
    return call.done("/sessions", f"{client_id[:200]} {said}{', and its session has ended' if discard else ''}.")
