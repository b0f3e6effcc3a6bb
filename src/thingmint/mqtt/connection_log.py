"""What is told of devices: a line of log for each connection's beginning and end, and for each refusal; the refusals
and connections in the audit trail too, with what would have allowed what was refused."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

import structlog

from thingmint.access.audit import DISCONNECT, NOT_AUTHORIZED
from thingmint.access.context import Caller, Outcome, RequestContext
from thingmint.access.request_log import RefusalLog
from thingmint.domain.arns import arn_of
from thingmint.domain.names import source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from thingmint.access.audit import AuditTrail
    from thingmint.domain.arns import Scope
    from thingmint.metrics import Metrics
    from thingmint.mqtt.peer import Peer


_STATUS = 0x87  # MQTT 5, 2.4: the reason code

_log = structlog.get_logger("thingmint.gateway")


def device_caller(scope: Scope, fingerprint: str, client_id: str) -> Caller:
    """A device as the audit trail knows it. Its policies are not asked for the operations of an API."""
    return Caller(
        account=scope.account,
        regions=(scope.region,),
        principal=fingerprint,
        name=client_id,
        arn=arn_of(scope, fingerprint),
        credential=fingerprint,
        policies=(),
    )


def context_of(address: str, caller: Caller | None, operation: str, now: datetime) -> RequestContext:
    """Something that a device does, as the audit record tells of it."""
    return RequestContext(api="mqtt", method="MQTT", operation=operation, address=address, caller=caller, now=now)


class ConnectionLog:
    def __init__(self, metrics: Metrics, trail: AuditTrail, clock: Callable[[], datetime]) -> None:
        self.refusals = RefusalLog()
        self._metrics = metrics
        self._trail = trail
        self.now = clock

    def connected(
        self, peer: Peer, caller: Caller, client_id: str, resource: str, started: float, **facts: object
    ) -> bool:
        """Whether the connection is logged by itself, and its end is to be; else it is counted.

        ``started`` is when CONNECT came.
        """
        seconds = time.perf_counter() - started
        context = context_of(peer.address, caller, "Connect", self.now())
        logged = self._record(context, Outcome(resource=resource, details={"clientId": client_id}), seconds)
        if logged:
            _log.info("connected", client_id=client_id, **_who(peer, caller), **facts)
        return logged

    def disconnected(
        self, peer: Peer, caller: Caller, client_id: str, resource: str, why: str, *, logged: bool
    ) -> None:
        """``logged`` is what ``connected`` returned: the lines and records of a connection are a pair."""
        if logged:
            _log.info("disconnected", client_id=client_id, why=why, **_who(peer, caller))
        outcome = Outcome(resource=resource, details={"clientId": client_id, "reason": why})
        self._trail.add(context_of(peer.address, caller, DISCONNECT, self.now()), outcome, counted=not logged)
        self._metrics.observe("mqtt", DISCONNECT, 0, None)

    def warn(self, peer: Peer, caller: Caller, event: str, **facts: object) -> None:
        """What an operator may want to know of a device: a line at once, and then how often it was so."""
        facts |= _who(peer, caller)
        if not self._trail.is_repeated(caller, event, peer.address, self.now(), facts):
            _log.warning(event, **facts)

    def ended_early(self, peer: Peer, why: str) -> None:
        """A connection that ended before it was accepted or refused."""
        self.refusals.note("connection_closed_before_connect", source_of(peer.address), why)

    def refused(
        self,
        peer: Peer,
        caller: Caller | None,
        action: str,
        resource: str | None,
        why: str,
        explain: Callable[[], Sequence[str]] = tuple,
        facts: Mapping[str, object] | None = None,
        client_id: str | None = None,
    ) -> None:
        """``action`` without ``iot:``; ``explain`` tells what denied it, or what would have allowed it.

        ``facts`` are told besides, in the log and in the audit record; without a caller they name a certificate that
        is registered, but not where a device belongs that names no host. ``client_id`` is the caller's name, if not
        given.
        """
        facts, explain = facts or {}, functools.cache(explain)  # for the record and the log, if this is not repeated
        outcome = Outcome(
            status=_STATUS,
            code=NOT_AUTHORIZED,
            resource=resource,
            details={"clientId": client_id or (caller.name if caller else None), "reason": why, **facts},
            explain=explain,
        )
        first = self._record(context_of(peer.address, caller, action, self.now()), outcome)
        if caller is None and facts:
            self.refusals.note("host_name_needed", str(facts["certificate"]), why)
        elif caller is None:
            self.refusals.note("unauthenticated_connection_refused", source_of(peer.address), why)
        elif first:
            who = {**_who(peer, caller), **facts}
            _log.warning("refused", action=f"iot:{action}", resource=resource, why=why, closest=explain(), **who)

    def provisioned(self, context: RequestContext, outcome: Outcome, **facts: object) -> None:
        """A request on a provisioning topic that was answered, in whichever way."""
        seconds = time.perf_counter() - context.started
        caller = context.caller
        self._metrics.observe("mqtt", context.operation, outcome.status, seconds)
        if not self._trail.add(context, outcome):
            return
        tell = _log.info if outcome.code is None else _log.warning
        tell(
            "provisioning",
            operation=context.operation,
            status=outcome.status,
            code=outcome.code,
            ms=round(seconds * 1000, 2),
            account=caller and caller.account,
            certificate=caller and caller.credential,
            client=context.address,
            request_id=context.id,
            **outcome.details,
            **facts,
        )

    def _record(self, context: RequestContext, outcome: Outcome, seconds: float | None = None) -> bool:
        self._metrics.observe("mqtt", context.operation, outcome.status, seconds)
        return self._trail.add(context, outcome)


def _who(peer: Peer, caller: Caller | None) -> dict[str, str | None]:
    return {
        "account": caller.account if caller else None,
        "certificate": caller.credential if caller else peer.fingerprint,
        "client": peer.address,
    }
