"""Just-in-time registration of devices that connect with a certificate of a CA that their account registered."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson
import structlog

from thingmint.access.authorization import authorize_nothing
from thingmint.access.callers import Caller
from thingmint.access.context import Outcome
from thingmint.access.operations import Operation, run
from thingmint.access.throttle import Rate, Throttle
from thingmint.domain.arns import arn_of
from thingmint.domain.certificates import read_issued_certificate
from thingmint.domain.errors import DomainError, InvalidCertificate, Throttled, Unavailable
from thingmint.domain.messages import Message
from thingmint.domain.status import Status
from thingmint.mqtt.admission import Refused
from thingmint.mqtt.connection_log import context_of
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.services.change import Change
from thingmint.services.jit_registration import (
    EarlierRegistration,
    JitRequest,
    OnlyByHostName,
    find_candidate,
    look_up_candidate,
    prepare_registration,
    register_candidate,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from thingmint.access.audit import AuditedStore
    from thingmint.access.roles import Roles
    from thingmint.access.throttle import LimitsProfile
    from thingmint.domain.arns import Scope
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.mqtt.host_names import HostNames
    from thingmint.mqtt.peer import Peer
    from thingmint.services.certificates import Registration
    from thingmint.services.change import Environment
    from thingmint.services.doorkeeping import NoHostName
    from thingmint.services.jit_registration import JitCandidate


# Devices that wait and connect again and again are told of now and then; a fleet that is switched on has to get
# through, and a stolen CA key must not fill the registry faster than its owner can look.
_RATES = {"certificate": Rate(0.5, 3), "authority": Rate(50, 200), "account": Rate(100, 400)}

REGISTER_CERTIFICATE = Operation(
    name="RegisterCertificate",
    writes=True,
    look=look_up_candidate,
    prepare=prepare_registration,
    apply=register_candidate,
)

_log = structlog.get_logger("thingmint.gateway")


def jit_throttle(profile: LimitsProfile, clock: Callable[[], float] = time.monotonic) -> Throttle:
    return Throttle(None, {} if profile == "none" else _RATES, clock)


class JitRegistration:
    """What Admission asks about a certificate that is unknown, or that waits for activation under a CA certificate.

    After registering the device, close without a CONNACK (as AWS does); the device reconnects.
    """

    def __init__(
        self,
        store: AuditedStore,
        environment: Environment,
        broker: Broker,
        roles: Roles,
        throttle: Throttle,
        clock: Callable[[], datetime],
        host_names: HostNames,
    ) -> None:
        self._store = store
        self._environment = environment
        self._broker = broker
        self._roles = roles
        self._throttle = throttle
        self._clock = clock
        self._host_names = host_names

    async def __call__(self, peer: Peer, where: Scope | NoHostName) -> Refused | None:
        """None if no account has the CA certificate there. Raises Unavailable."""
        if peer.leaf is None:  # an edge handed only the fingerprint over
            return None
        try:
            certificate = read_issued_certificate(peer.leaf)
        except InvalidCertificate as error:
            return Refused(Reason.NOT_AUTHORIZED, f"{error}; nor is {peer.fingerprint} registered")
        try:
            own = self._environment.own_authorities
            candidate = await find_candidate(self._store, own, where, certificate, self._clock())
        except OnlyByHostName as error:
            why = f"it is not registered just in time: {error}: {self._host_names.advice(error.scopes)}"
            return Refused(Reason.NOT_AUTHORIZED, why, facts={"certificate": certificate.fingerprint})
        except DomainError as error:
            return _refused(error, None)
        if candidate is None:
            return None
        caller = _caller(candidate.ca.scope, certificate.fingerprint)
        try:
            return await self._take(peer, candidate, caller)
        except DomainError as error:
            return _refused(error, caller)

    async def _take(self, peer: Peer, candidate: JitCandidate, caller: Caller) -> Refused:
        ca = candidate.ca
        self._throttle.take(f"{ca.scope} {caller.credential}", "certificate")
        if candidate.registration is not None:
            self._publish(peer, candidate.registration, is_new=False)
            return _silently(f"it waits for activation under the CA certificate {ca.fingerprint}", caller)
        self._throttle.take(f"{ca.scope} {ca.fingerprint}", "authority")
        self._throttle.take(ca.scope.account, "account")
        registration = await self._register(peer, candidate, caller)
        _log.info(
            "registered just in time",
            account=ca.scope.account,
            certificate=registration.fingerprint,
            ca=ca.fingerprint,
            status=registration.status,
            provisioned=ca.config is not None,
            client=peer.address,
        )
        if registration.status is Status.PENDING_ACTIVATION:
            self._publish(peer, registration, is_new=True)
        return _silently(f"it was registered just in time and is {registration.status}: it has to come again", caller)

    async def _register(self, peer: Peer, candidate: JitCandidate, caller: Caller) -> Registration:
        ca = candidate.ca
        context = context_of(peer, caller, REGISTER_CERTIFICATE.name, self._clock())
        details = {"ca": ca.fingerprint, "provisioned": ca.config is not None}
        outcome = Outcome(resource=caller.arn, details=details)
        change = Change(ca.scope, context.now, self._environment, authorize_nothing(caller))

        async def as_role(role: str, source: str) -> Change:
            return replace(change, authorize=await self._roles.effects(context, ca.scope, role, source))

        store = self._store.of(context, outcome)
        registration: Registration = await run(
            REGISTER_CERTIFICATE, store, change, JitRequest(candidate, as_role), EarlierRegistration()
        )
        return registration

    def _publish(self, peer: Peer, registration: Registration, *, is_new: bool) -> None:
        """AWS's guide, "Just-in-time registration": the event's topic and members."""
        registered_at = None if is_new else str(_milliseconds(registration.created_at))
        event = {
            "certificateId": registration.fingerprint,
            "caCertificateId": registration.ca,
            "timestamp": _milliseconds(self._clock()),
            "certificateStatus": registration.status,
            "awsAccountId": registration.scope.account,
            "certificateRegistrationTimestamp": registered_at,
            "sourceIp": peer.address,
        }
        topic = f"$aws/events/certificates/registered/{registration.ca}"
        self._broker.publish(registration.scope, Message(topic, orjson.dumps(event), qos=1))


def _refused(error: DomainError, caller: Caller | None) -> Refused:
    """Raises Unavailable."""
    if isinstance(error, Unavailable):
        raise error
    if isinstance(error, Throttled):
        return Refused(Reason.SERVER_BUSY, "too many just-in-time registrations at once", caller=caller, silent=True)
    return Refused(Reason.NOT_AUTHORIZED, f"it is not registered just in time: {error}", caller=caller)


def _silently(why: str, caller: Caller) -> Refused:
    return Refused(Reason.NOT_AUTHORIZED, why, caller=caller, silent=True)


def _caller(scope: Scope, fingerprint: str) -> Caller:
    """The device as the audit trail knows it, though it may do nothing yet."""
    return Caller(
        account=scope.account,
        regions=(scope.region,),
        principal=fingerprint,
        name=fingerprint,
        arn=arn_of(scope, fingerprint),
        credential=fingerprint,
        policies=(),
    )


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)
