"""The streams of events by which open pages hear that what they show has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.access.authorization import is_allowed
from thingmint.access.directory import DEVELOPER
from thingmint.console.answers import stream_answer
from thingmint.console.cookies import SESSION
from thingmint.console.page import page
from thingmint.console.updates import CERTIFICATES, TASKS
from thingmint.domain.errors import NotFound
from thingmint.services.live_changes import CONNECTIONS, REFUSALS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.access.context import Caller
    from thingmint.console.page import Call
    from thingmint.http.messages import Answer

STREAMS: Mapping[str, tuple[str, Sequence[str]]] = {
    "overview": ("iot:ListCertificates", (CONNECTIONS, REFUSALS, CERTIFICATES)),
    "sessions": ("thingmint:ListSessions", (CONNECTIONS,)),
    "session": ("iot:GetConnection", (CONNECTIONS,)),
    "connect": ("iot:DescribeEndpoint", (CONNECTIONS,)),
    "refusals": ("thingmint:ListRefusals", (REFUSALS,)),
    "tasks": ("iot:ListThingRegistrationTasks", (TASKS,)),
}
"""The action that a stream needs, and the names of its events."""


@page("/updates/{name}", "ConsoleUpdates", is_stream=True)
async def updates(call: Call) -> Answer:
    """One record is left for each stream, and none for an event."""
    action, names = STREAMS.get(call.path["name"], ("", ()))
    if not names:
        raise NotFound("stream", call.path["name"])
    call.may(action)
    context, scope = call.context, call.scope

    def may_still(caller: Caller) -> bool:
        regions = caller.account == scope.account and scope.region in caller.regions
        return regions and is_allowed(context.by(caller, scope), action, ("*",), scope)

    session = None
    if call.caller.credential != DEVELOPER:
        session = (call.cookies.get(SESSION) or "").partition(".")[0]
    return stream_answer(call.parts.updates.open(scope, names, session, may_still))
