"""The streams of events that tell open pages that what they show has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from thingmint.access.authorization import is_allowed
from thingmint.access.directory import DEVELOPER
from thingmint.console.answers import stream_answer
from thingmint.console.cookies import SESSION
from thingmint.console.page import page, scope_of_action
from thingmint.console.updates import CERTIFICATES, TASKS
from thingmint.domain.errors import NotFound
from thingmint.services.live_changes import CONNECTIONS, REFUSALS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.access.context import Caller
    from thingmint.console.page import Call
    from thingmint.http.messages import Answer


class _Stream(NamedTuple):
    """The action that a stream needs, and the names of its events.

    ``of_yandex``: on the resource that stands for the account. The events are those of its home region.
    """

    action: str
    names: Sequence[str]
    of_yandex: bool = False


STREAMS: Mapping[str, _Stream] = {
    "overview": _Stream("iot:ListCertificates", (CONNECTIONS, REFUSALS, CERTIFICATES)),
    "sessions": _Stream("thingmint:ListSessions", (CONNECTIONS,)),
    "session": _Stream("iot:GetConnection", (CONNECTIONS,)),
    "connect": _Stream("iot:DescribeEndpoint", (CONNECTIONS,)),
    "device": _Stream("yandex:DeviceService.Get", (CONNECTIONS,), of_yandex=True),
    "tasks": _Stream("iot:ListThingRegistrationTasks", (TASKS,)),
    "task": _Stream("iot:DescribeThingRegistrationTask", (TASKS,)),
    "imports": _Stream("thingmint:ListImports", (TASKS,)),
}


@page("/updates/{name}", "ConsoleUpdates", is_stream=True)
async def updates(call: Call) -> Answer:
    """One record is left for each stream, and none for an event."""
    wanted = STREAMS.get(call.path["name"])
    if wanted is None:
        raise NotFound("stream", call.path["name"])
    scope, resource = call.scope, "*"
    if wanted.of_yandex:
        scope, resource = call.caller.scope(), f"yandex:cloud/{call.caller.account}"
    call.may(wanted.action, resource)
    context, asked = call.context, scope_of_action(wanted.action, scope)

    def may_still(caller: Caller) -> bool:
        has_region = caller.account == scope.account and scope.region in caller.regions
        return has_region and is_allowed(context.by(caller, scope), wanted.action, (resource,), asked)

    session = None
    if call.caller.credential != DEVELOPER:
        session = (call.cookies.get(SESSION) or "").partition(".")[0]
    return stream_answer(call.parts.updates.open(scope, wanted.names, session, may_still))
