"""Logs the beginning and the end of each device's connection, and each refusal.

The audit log gets a record of each as well; the record of a refusal names the closest policy statements.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

import structlog

from thingmint.access.audit_events import DISCONNECT, NOT_AUTHORIZED
from thingmint.access.context import Caller, Outcome, RequestContext
from thingmint.access.request_log import RefusalLog
from thingmint.domain.arns import Scope, arn_of
from thingmint.domain.names import source_of
from thingmint.services.refusals import general

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from thingmint.access.audit import AuditLog
    from thingmint.metrics import Metrics
    from thingmint.mqtt.peer import Peer
    from thingmint.services.authentication_decisions import AcceptedOwner
    from thingmint.services.certificate_activity import CertificateActivity
    from thingmint.services.device_permissions import DevicePermissions, Refusal
    from thingmint.services.refusals import Refusals


_YANDEX = "yandex:"
_TOO_MANY = 429  # and higher statuses: the device may try again as it is
_STATUS = 0x87  # the reason code "Not authorized" (MQTT 5, 2.4)

_log = structlog.get_logger("thingmint.gateway")


def device_caller(scope: Scope, fingerprint: str, client_id: str) -> Caller:
    """Returns a device as a caller, for the audit log. It has no policies for the operations of an API."""
    return Caller(
        account=scope.account,
        regions=(scope.region,),
        principal=fingerprint,
        name=client_id,
        arn=arn_of(scope, fingerprint),
        credential=fingerprint,
        policies=(),
    )


def owner_caller(accepted: AcceptedOwner, client_id: str) -> Caller:
    """Returns a device, registry or broker of Yandex IoT Core as a caller of the audit log."""
    scope, topics = accepted.scope, accepted.topics
    return Caller(
        account=scope.account,
        regions=(scope.region,),
        principal=topics.id,
        name=client_id,
        arn=f"{_YANDEX}{topics.kind}/{topics.id}",
        credential=accepted.fingerprint or accepted.password_id or "",
        policies=(),
    )


def scope_of(caller: Caller) -> Scope:
    """Returns the account and region of a device's caller."""
    return Scope(caller.account, caller.regions[0])


def context_of(address: str, caller: Caller | None, operation: str, now: datetime) -> RequestContext:
    """Returns the context of an operation of a device, for its audit record."""
    return RequestContext(api="mqtt", method="MQTT", operation=operation, address=address, caller=caller, now=now)


class ConnectionLog:
    """``activity`` and ``groups`` store what operators ask about later. Without them it is not stored."""

    def __init__(
        self,
        metrics: Metrics,
        trail: AuditLog,
        clock: Callable[[], datetime],
        activity: CertificateActivity | None = None,
        groups: Refusals | None = None,
    ) -> None:
        self.refusals = RefusalLog()
        self._metrics = metrics
        self._trail = trail
        self._activity = activity
        self._groups = groups
        self.now = clock

    def connected(
        self, peer: Peer, caller: Caller, client_id: str, resource: str, started: float, **facts: object
    ) -> bool:
        """Returns True if the connection got its own log line and record; False if it was only counted.

        ``started`` is the time when CONNECT came.
        """
        seconds = time.perf_counter() - started
        context = context_of(peer.address, caller, "Connect", self.now())
        logged = self._record(context, Outcome(resource=resource, details={"clientId": client_id}), seconds)
        if self._activity is not None and peer.fingerprint is not None:
            self._activity.connected(scope_of(caller), peer.fingerprint, client_id, peer.address)
        if logged:
            _log.info("connected", client_id=client_id, **_who(peer, caller), **facts)
        return logged

    def disconnected(
        self, peer: Peer, caller: Caller, client_id: str, resource: str, why: str, *, logged: bool
    ) -> None:
        """``logged``: the result of ``connected``. A connection has lines for its beginning and its end, or none."""
        if logged:
            _log.info("disconnected", client_id=client_id, why=why, **_who(peer, caller))
        outcome = Outcome(resource=resource, details={"clientId": client_id, "reason": why})
        self._trail.add(context_of(peer.address, caller, DISCONNECT, self.now()), outcome, counted=not logged)
        self._metrics.observe("mqtt", DISCONNECT, 0, None)
        if self._activity is not None and peer.fingerprint is not None:
            self._activity.disconnected(scope_of(caller), peer.fingerprint, client_id, peer.address)

    def warn(self, peer: Peer, caller: Caller, event: str, **facts: object) -> None:
        """Logs a warning about a device. Repetitions are only counted, and the count is logged later."""
        facts |= _who(peer, caller)
        if not self._trail.is_repeated(caller, event, peer.address, self.now(), facts):
            _log.warning(event, **facts)

    def ended_early(self, peer: Peer, why: str) -> None:
        """Logs a connection that ended before it was accepted or refused."""
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
        scope: Scope | None = None,
        claimed: tuple[Scope, str] | None = None,
    ) -> None:
        """Logs a refused action. ``action`` has no ``iot:`` prefix. ``client_id``: by default the caller's name.

        ``scope`` is the account and region, if they are known though the caller is not. ``claimed`` are those and the
        resource of the owner whose password was wrong: only the operator's list of refusals has them.

        ``explain`` returns the policy statements that denied the action, or that come closest to allowing it.
        ``facts`` go into the log and the audit record. Facts without a caller mean: the certificate is registered, but
        only for devices that send a host name (SNI).
        """
        facts, explain = facts or {}, functools.cache(explain)  # called for the record and for the log line
        outcome = Outcome(
            status=_STATUS,
            code=NOT_AUTHORIZED,
            resource=resource,
            details={"clientId": client_id or (caller.name if caller else None), "reason": why, **facts},
            explain=explain,
        )
        first = self._record(context_of(peer.address, caller, action, self.now()), outcome)
        if self._groups is not None and claimed is not None:
            claimed_scope, owner = claimed
            self._groups.note(claimed_scope, None, client_id, action, owner, why, peer.address, subject=owner)
        elif self._groups is not None:
            self._groups.note(
                scope_of(caller) if caller is not None else scope,
                peer.fingerprint,
                client_id or (caller.name if caller else None),
                action if caller is not None and caller.arn.startswith(_YANDEX) else f"iot:{action}",
                resource,
                why,
                peer.address,
                explain,
            )
        if caller is None and facts:
            self.refusals.note("host_name_needed", str(facts["certificate"]), why)
        elif caller is None:
            self.refusals.note("unauthenticated_connection_refused", source_of(peer.address), why)
        elif first:
            who = {**_who(peer, caller), **facts}
            _log.warning("refused", action=f"iot:{action}", resource=resource, why=why, closest=explain(), **who)

    def denied(self, peer: Peer, caller: Caller, permissions: DevicePermissions, refusal: Refusal) -> None:
        """Logs what a connected device may not do."""
        resource = permissions.resource(refusal.action, refusal.name)
        explain = functools.partial(permissions.explain, refusal)
        self.refused(peer, caller, refusal.action, resource, str(refusal.decision), explain)

    def provisioned(self, context: RequestContext, outcome: Outcome, **facts: object) -> None:
        """Logs a request on a provisioning topic, accepted or rejected."""
        seconds = time.perf_counter() - context.started
        caller = context.caller
        if self._groups is not None and caller is not None and 400 <= outcome.status < _TOO_MANY:
            why = str(outcome.details.get("reason"))
            cause, action = (
                general(why.partition(" on arn:")[0]),
                f"iot:{context.operation}",
            )  # without the thing's name
            named = (caller.credential, caller.name, action, outcome.resource)
            self._groups.note(scope_of(caller), *named, cause, context.address or "", lambda: [why])
        self._metrics.observe("mqtt", context.operation, outcome.status, seconds)
        if not self._trail.add(context, outcome):
            return
        log = _log.info if outcome.code is None else _log.warning
        log(
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
