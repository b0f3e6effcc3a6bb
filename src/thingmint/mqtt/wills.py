"""Wills: published after a device is gone, if it still may (MQTT 5, 3.1.2.5; delays: 3.1.3.2.2)."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.errors import Unavailable
from thingmint.mqtt.admission import Admitted

if TYPE_CHECKING:
    from thingmint.domain.arns import Scope
    from thingmint.mqtt.admission import Admission
    from thingmint.mqtt.broker.interface import Broker, Message
    from thingmint.mqtt.connection_log import ConnectionLog
    from thingmint.mqtt.peer import Peer


_log = structlog.get_logger("thingmint.gateway")

_MAX_WAITING = 100_000
_RESERVED = "$"  # as the first character: topics of the service's own, where nobody's word but ours is to be heard


@dataclass(frozen=True, slots=True)
class Will:
    """``delay`` is in seconds."""

    message: Message
    delay: float


class Wills:
    def __init__(self, admission: Admission, broker: Broker, connection_log: ConnectionLog) -> None:
        self._admission = admission
        self._broker = broker
        self._connection_log = connection_log
        self._waiting: dict[tuple[Scope, str], tuple[asyncio.Task[None], asyncio.Event]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def leave(self, scope: Scope, client_id: str, peer: Peer, will: Will) -> None:
        """The connection ended without a DISCONNECT that takes the will back."""
        if len(self._tasks) >= _MAX_WAITING:
            _log.error("a will was dropped: too many wait", client_id=client_id)
            return
        ended = asyncio.Event()
        task = asyncio.create_task(self._publish(scope, client_id, peer, will, ended))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if will.delay > 0:
            self._waiting[scope, client_id] = (task, ended)

    def came_back(self, scope: Scope, client_id: str, *, resumed: bool) -> None:
        """The device is there again. Unless it ``resumed`` its session, that has ended, and its will is due."""
        task, ended = self._waiting.pop((scope, client_id), (None, None))
        if ended is not None and not resumed:
            ended.set()
        elif task is not None:
            task.cancel()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _publish(self, scope: Scope, client_id: str, peer: Peer, will: Will, ended: asyncio.Event) -> None:
        if will.delay > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), will.delay)
            if not ended.is_set():
                self._waiting.pop((scope, client_id), None)
        # Judged now and not when the device connected: whoever was deactivated meanwhile has no last word.
        message = will.message
        try:
            judged = await self._admission.judge(peer, client_id, scope)
        except Unavailable:
            _log.error("a will was not published: the store cannot be read", client_id=client_id)
            return
        if not isinstance(judged, Admitted):
            return
        if message.topic.startswith(_RESERVED):
            resource = judged.rights.resource("Publish", message.topic)
            why = "the topic is reserved for the service itself"
            self._connection_log.refused(peer, judged.caller, "Publish", resource, why)
            return
        for action in ("Publish", "RetainPublish") if message.retain else ("Publish",):
            if not judged.rights.allows(action, message.topic):
                rights = judged.rights
                self._connection_log.refused(
                    peer,
                    judged.caller,
                    action,
                    rights.resource(action, message.topic),
                    rights.why(action, message.topic),
                    rights.explanation(action, message.topic),
                )
                return
        self._broker.publish(scope, message)
