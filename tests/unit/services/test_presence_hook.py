"""The presence hook: what waits while it fails, and what happens when the settings change."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from structlog.testing import capture_logs

from tests.unit.vectors import NOW
from thingmint.domain.arns import Scope
from thingmint.services import presence_hook as module
from thingmint.services.authentication_decisions import Rejected, RejectionReason
from thingmint.services.client_ids import Vanished
from thingmint.services.function_calls import CallFailed, Function
from thingmint.services.presence import ConnectionRecord
from thingmint.services.presence_hook import PresenceHook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SCOPE = Scope("123456789012", "us-east-1")
RECORD = ConnectionRecord(SCOPE, "lamp", "id", "3f" * 32, "192.0.2.1")


def function(url: str) -> Function:
    return Function("presence", None, url, secret=b"x")


class Caller:
    """Calls fail while ``failing``; the URL ``never`` does not answer."""

    failing = False
    called: list[str]
    accepted: list[tuple[str, dict[str, Any]]]

    def __init__(self, _: Function, url: str) -> None:
        self.url = url

    async def __call__(self, body: bytes, release: Any) -> bytes:
        del release
        self.called.append(self.url)
        if self.url == "never":
            await asyncio.Event().wait()
        if self.url == "broken":
            raise KeyError("a bug")
        if Caller.failing:
            raise CallFailed("status", "it answered with status 500")
        self.accepted += [(self.url, event) for event in orjson.loads(body)["events"]]
        return b""


@pytest.fixture
async def hook(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PresenceHook]:
    monkeypatch.setattr(module, "RemoteCaller", Caller)
    Caller.failing, Caller.called, Caller.accepted = False, [], []
    made = PresenceHook(function("first"), lambda: NOW, timeout=0.01, pauses=(0, 0))
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def settle(turns: int = 30) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_events_of_a_moment_share_a_call(hook: PresenceHook) -> None:
    for number in range(150):
        hook.connected(ConnectionRecord(SCOPE, f"c{number}", "id", None, ""))
    await asyncio.wait_for(hook.drain(), 5)
    assert (Caller.called, hook.sent, len(Caller.accepted)) == (["first"] * 2, 150, 150)


async def test_a_batch_is_sent_until_it_is_accepted(hook: PresenceHook) -> None:
    Caller.failing = True
    hook.connected(RECORD)
    with capture_logs() as logs:
        await settle()
        hook.disconnected(RECORD, "CONNECTION_LOST", "lost")
        Caller.failing = False
        await asyncio.wait_for(hook.drain(), 5)
    assert [event["event"] for _, event in Caller.accepted] == ["connected", "disconnected"]
    assert hook.failures == len(Caller.called) - 2 > 0
    assert [line["event"] for line in logs] == ["presence_hook_failing", "presence_hook_works_again"]


@pytest.mark.parametrize("url", ["never", "broken"])
async def test_a_call_that_hangs_or_meets_an_error_of_the_server_fails(hook: PresenceHook, url: str) -> None:
    hook.replace(function(url))
    hook.connected(RECORD)
    while hook.failures < 2:  # noqa: ASYNC110 - the hook has no event for this
        await asyncio.sleep(0.01)
    hook.replace(function("second"))
    await asyncio.wait_for(hook.drain(), 5)
    assert [url for url, _ in Caller.accepted] == ["second"]


async def test_a_new_hook_gets_what_waits_at_once(hook: PresenceHook) -> None:
    hook._first_pause = hook._longest_pause = 3600
    Caller.failing = True
    hook.connected(RECORD)
    await settle()
    assert Caller.called == ["first"]
    Caller.failing = False
    hook.replace(function("second"))
    await asyncio.wait_for(hook.drain(), 5)
    assert [url for url, _ in Caller.accepted] == ["second"]


async def test_without_a_hook_nothing_waits(hook: PresenceHook) -> None:
    Caller.failing = True
    hook.connected(RECORD)
    await settle()
    hook.replace(None)
    await asyncio.wait_for(hook.drain(), 5)
    hook.connected(RECORD)
    hook.refused(RECORD, Rejected(RejectionReason.NOT_AUTHORIZED, "no"))
    hook.vanished([Vanished(SCOPE, "lamp", 1, RECORD.about())])
    assert (hook.waiting, hook.dropped, hook.sent) == (0, 0, 0)


async def test_refusals_leave_room_for_connections(hook: PresenceHook) -> None:
    Caller.failing = True
    for _ in range(100):
        hook.refused(RECORD, Rejected(RejectionReason.NOT_AUTHORIZED, "no"))
    hook.connected(RECORD)
    assert (hook.waiting, hook.dropped) == (51, 50)


async def test_the_ends_of_vanished_connections(hook: PresenceHook) -> None:
    hook.vanished([Vanished(SCOPE, "lamp", 1, RECORD.about())])
    await asyncio.wait_for(hook.drain(), 5)
    ((_, event),) = Caller.accepted
    assert (event["event"], event["reason"], event["connection_id"]) == ("disconnected", "SERVER_ERROR", "id")
