"""The streams of events that tell open pages that what they show has changed.

The stream of a page about one session, device or certificate has its id in ``of``. It needs what the page needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.access.authorization import is_allowed
from thingmint.access.directory import DEVELOPER
from thingmint.console.answers import stream_answer
from thingmint.console.cookies import SESSION
from thingmint.console.page import page, scope_of_action
from thingmint.console.updates import TASKS
from thingmint.domain.arns import Scope, arn, arn_of
from thingmint.domain.certificates import parse_fingerprint
from thingmint.domain.errors import NotFound
from thingmint.services.authentication_decisions import session_name
from thingmint.services.device_registry import DEVICES
from thingmint.services.live_changes import CERTIFICATES, CONNECTIONS, REFUSALS, names_about
from thingmint.services.things import thing_arn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from thingmint.access.context import Caller
    from thingmint.console.page import Call
    from thingmint.http.messages import Answer

_LONGEST_ID = 50


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The scope and names of a stream's events. ``needed`` are actions, each with the resources that it is asked on."""

    scope: Scope
    names: Sequence[str]
    needed: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class _Stream:
    """``names`` are those of the events. ``about`` returns what a stream about one session, device or certificate is.

    Without it, the stream is about an account in a region, and needs the ``action``.
    """

    names: Sequence[str]
    action: str = ""
    about: Callable[[Call, str], Awaitable[_Wanted]] | None = None


async def _session(call: Call, client_id: str) -> _Wanted:
    name = session_name(client_id, call.query.text("owner", _LONGEST_ID) or None)
    needed = [("iot:GetConnection", [arn(call.scope, f"client/{client_id}")])]
    return _Wanted(call.scope, names_about(CONNECTIONS, name), needed)


async def _thing(call: Call, name: str) -> _Wanted:
    needed = [("iot:DescribeEndpoint", ["*"]), ("iot:DescribeThing", [thing_arn(call.scope, name)])]
    return _Wanted(call.scope, names_about(CONNECTIONS, name), needed)


async def _device(call: Call, id: str) -> _Wanted:
    """Its sessions are in the account's home region, whichever region the browser chose."""
    id = id[:_LONGEST_ID]
    found = await call.read(lambda tx: DEVICES.find(tx, call.caller.account, id))
    resources = found.resources if found is not None else (f"yandex:device/{id}",)
    needed = [("yandex:DeviceService.Get", [*resources, f"yandex:cloud/{call.caller.account}"])]
    return _Wanted(call.caller.scope(), names_about(CONNECTIONS, session_name(id, id)), needed)


async def _certificate(call: Call, id: str) -> _Wanted:
    id = parse_fingerprint(id, "of")
    needed = [("iot:DescribeCertificate", [arn_of(call.scope, id)])]
    return _Wanted(call.scope, names_about(CERTIFICATES, id), needed)


STREAMS: Mapping[str, _Stream] = {
    "overview": _Stream((CONNECTIONS, REFUSALS, CERTIFICATES), "iot:ListCertificates"),
    "certificates": _Stream((CERTIFICATES,), "iot:ListCertificates"),
    "certificate": _Stream((CERTIFICATES,), about=_certificate),
    "sessions": _Stream((CONNECTIONS,), "thingmint:ListSessions"),
    "session": _Stream((CONNECTIONS,), about=_session),
    "connect": _Stream((CONNECTIONS,), about=_thing),
    "device": _Stream((CONNECTIONS,), about=_device),
    "tasks": _Stream((TASKS,), "iot:ListThingRegistrationTasks"),
    "task": _Stream((TASKS,), "iot:DescribeThingRegistrationTask"),
    "imports": _Stream((TASKS,), "thingmint:ListImports"),
}


@page("/updates/{name}", "ConsoleUpdates", is_stream=True)
async def updates(call: Call) -> Answer:
    """One record is left for each stream, and none for an event."""
    name = call.path["name"]
    stream = STREAMS.get(name)
    if stream is None:
        raise NotFound("stream", name)
    wanted = await _wanted(call, stream)
    for action, resources in wanted.needed:
        call.may(action, *resources)
    context, scope = call.context, wanted.scope

    def may_still(caller: Caller) -> bool:
        by = context.by(caller, scope)
        return (
            caller.account == scope.account
            and scope.region in caller.regions
            and all(is_allowed(by, action, on, scope_of_action(action, scope)) for action, on in wanted.needed)
        )

    session = None
    if call.caller.credential != DEVELOPER:
        session = (call.cookies.get(SESSION) or "").partition(".")[0]
    return stream_answer(call.parts.updates.open(scope, name, wanted.names, session, may_still))


async def _wanted(call: Call, stream: _Stream) -> _Wanted:
    if stream.about is None:
        return _Wanted(call.scope, stream.names, [(stream.action, ["*"])])
    return await stream.about(call, call.query.exact("of"))
