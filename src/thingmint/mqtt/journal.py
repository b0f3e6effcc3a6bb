"""What is told of devices: a line of log for each connection's beginning and end, and for each refusal; the refusals
and connections in the audit trail too, with what would have allowed what was refused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from thingmint.access.exchange import Exchange
from thingmint.mqtt.limits import source_of
from thingmint.mqtt.refusals import RefusalLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.access.audit import AuditTrail
    from thingmint.access.callers import Caller
    from thingmint.metrics import Metrics
    from thingmint.mqtt.peer import Peer

__all__ = ["DoorJournal", "exchange_of"]

_log = structlog.get_logger("thingmint.gateway")


def exchange_of(peer: Peer, caller: Caller | None, operation: str, resource: str | None = None) -> Exchange:
    """Something that a device does, as the audit trail tells of it."""
    return Exchange(
        face="mqtt", method="MQTT", operation=operation, source=peer.address, caller=caller, resource=resource
    )


class DoorJournal:
    def __init__(self, metrics: Metrics, trail: AuditTrail) -> None:
        self.strangers = RefusalLog()
        self._metrics = metrics
        self._trail = trail

    def connected(self, peer: Peer, caller: Caller, client_id: str, **facts: object) -> None:
        _log.info("connected", client_id=client_id, **_who(peer, caller), **facts)
        self._record(exchange_of(peer, caller, "Connect", client_id))

    def disconnected(self, peer: Peer, caller: Caller, client_id: str, why: str) -> None:
        _log.info("disconnected", client_id=client_id, why=why, **_who(peer, caller))
        self._metrics.observe("mqtt", "Disconnect", 0, 0.0)

    def ended_early(self, peer: Peer, why: str) -> None:
        """A connection that ended before anybody could be let in or refused."""
        self.strangers.note("a connection came to nothing", source_of(peer.address), why)

    def refused(
        self,
        peer: Peer,
        caller: Caller | None,
        action: str,
        resource: str | None,
        why: str,
        findings: Sequence[str] = (),
    ) -> None:
        """``action`` without ``iot:``; ``findings`` are what denied it, or what would have allowed it."""
        if caller is None:
            self.strangers.note("a stranger was refused", source_of(peer.address), why)
        else:
            who = _who(peer, caller)
            _log.warning("refused", action=f"iot:{action}", resource=resource, why=why, closest=findings, **who)
        exchange = exchange_of(peer, caller, action, resource)
        exchange.error_code = "NotAuthorized"
        exchange.details = {"reason": why, "closest": list(findings)}
        self._record(exchange)

    def provisioned(self, exchange: Exchange, **facts: object) -> None:
        """A request on a provisioning topic that was answered, in whichever way."""
        seconds = time.perf_counter() - exchange.started
        caller = exchange.caller
        tell = _log.info if exchange.error_code is None else _log.warning
        tell(
            "provisioning",
            operation=exchange.operation,
            status=exchange.status,
            code=exchange.error_code,
            ms=round(seconds * 1000, 2),
            account=caller and caller.account,
            certificate=caller and caller.credential,
            client=exchange.source,
            request_id=exchange.id,
            **exchange.details,
            **facts,
        )
        self._metrics.observe("mqtt", exchange.operation, exchange.status, seconds)
        self._trail.add(exchange)

    def _record(self, exchange: Exchange) -> None:
        exchange.status = 0 if exchange.error_code is None else 0x87
        self._metrics.observe("mqtt", exchange.operation, exchange.status, 0.0)
        self._trail.add(exchange)


def _who(peer: Peer, caller: Caller | None) -> dict[str, str | None]:
    return {
        "account": caller.account if caller else None,
        "certificate": caller.credential if caller else peer.fingerprint,
        "client": peer.address,
    }
