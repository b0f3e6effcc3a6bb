"""Just-in-time registration of devices whose certificate was issued by a CA that their account registered."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson
import structlog

from thingmint.access.authorization import authorize_nothing
from thingmint.access.context import Outcome
from thingmint.access.operations import Operation, run
from thingmint.access.throttle import Rate, Throttle
from thingmint.domain.certificates import read_issued_certificate
from thingmint.domain.errors import DomainError, InvalidCertificate, Throttled, Unavailable
from thingmint.domain.messages import Message
from thingmint.domain.status import Status
from thingmint.mqtt.connection_log import context_of, device_caller
from thingmint.services.authentication_decisions import Rejected, RejectionReason
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
    from thingmint.access.authorization import Roles
    from thingmint.access.throttle import LimitsProfile
    from thingmint.domain.arns import Scope
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.services.authentication_decisions import AuthenticationRequest
    from thingmint.services.certificates import Registration
    from thingmint.services.change import Environment
    from thingmint.services.device_facts import NoHostName
    from thingmint.services.hostnames import HostNames
    from thingmint.services.jit_registration import JitCandidate


# Per certificate: a device that waits for activation and reconnects again and again publishes few events. Per CA
# certificate and account: enough for a whole fleet that is switched on, but a stolen CA key must not register devices
# faster than its owner can notice.
_RATES = {"certificate": Rate(0.5, 3), "authority": Rate(50, 200), "account": Rate(100, 400)}

REGISTER_CERTIFICATE = Operation(
    name="RegisterCertificate",
    writes=True,
    find=look_up_candidate,
    prepare=prepare_registration,
    apply=register_candidate,
)

_NOT_AUTHORIZED, _RECONNECT = RejectionReason.NOT_AUTHORIZED, RejectionReason.RECONNECT

_log = structlog.get_logger("thingmint.gateway")


def jit_throttle(profile: LimitsProfile, clock: Callable[[], float] = time.monotonic) -> Throttle:
    return Throttle(None, {} if profile == "none" else _RATES, clock)


class JitRegistration:
    """Registers a certificate that is unknown; publishes an event for one that waits for activation.

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

    async def __call__(self, request: AuthenticationRequest, where: Scope | NoHostName) -> Rejected | None:
        """Returns None if no account in ``where`` has the CA certificate. Raises Unavailable."""
        if request.certificate is None:  # a TLS proxy forwarded only the fingerprint
            return None
        try:
            certificate = read_issued_certificate(request.certificate)
        except InvalidCertificate as error:
            return Rejected(_NOT_AUTHORIZED, f"{error}; no certificate {request.fingerprint} is registered")
        try:
            own = self._environment.own_authorities
            candidate = await find_candidate(self._store, own, where, certificate, self._clock())
        except OnlyByHostName as error:
            why = f"the certificate is not registered just in time: {error}: {self._host_names.advice(error.scopes)}"
            return Rejected(_NOT_AUTHORIZED, why, facts={"certificate": certificate.fingerprint})
        except DomainError as error:
            return _rejected(error, None)
        if candidate is None:
            return None
        try:
            return await self._take(request, candidate, certificate.fingerprint)
        except DomainError as error:
            return _rejected(error, candidate.ca.scope)

    async def _take(self, request: AuthenticationRequest, candidate: JitCandidate, fingerprint: str) -> Rejected:
        ca = candidate.ca
        try:
            self._throttle.take(f"{ca.scope} {fingerprint}", "certificate")
        except Throttled:
            return Rejected(RejectionReason.TOO_MANY, "it attempts just-in-time registration too often", ca.scope)
        known = candidate.registration
        if known is not None and known.status is Status.ACTIVE:
            return Rejected(_RECONNECT, "it became ACTIVE meanwhile: the device has to reconnect", ca.scope)
        if known is not None:
            await self._publish(request, known, is_new=False)
            return Rejected(_RECONNECT, f"it waits for activation under the CA certificate {ca.fingerprint}", ca.scope)
        self._throttle.take(f"{ca.scope} {ca.fingerprint}", "authority")
        self._throttle.take(ca.scope.account, "account")
        registration = await self._register(request, candidate, fingerprint)
        _log.info(
            "registered_just_in_time",
            account=ca.scope.account,
            certificate=registration.fingerprint,
            ca=ca.fingerprint,
            status=registration.status,
            provisioned=ca.config is not None,
            client=request.address,
        )
        if registration.status is Status.PENDING_ACTIVATION:
            await self._publish(request, registration, is_new=True)
        why = f"it was registered just in time and is {registration.status}: the device has to reconnect"
        return Rejected(_RECONNECT, why, ca.scope)

    async def _register(
        self, request: AuthenticationRequest, candidate: JitCandidate, fingerprint: str
    ) -> Registration:
        ca = candidate.ca
        caller = device_caller(ca.scope, fingerprint, request.client_id or fingerprint)
        context = context_of(request.address, caller, REGISTER_CERTIFICATE.name, self._clock())
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

    async def _publish(self, request: AuthenticationRequest, registration: Registration, *, is_new: bool) -> None:
        """Publishes the event of the AWS IoT guide, "Just-in-time registration", if the account has it enabled."""
        if "CA_CERTIFICATE" not in await self._environment.events.enabled(registration.scope):
            return
        registered_at = None if is_new else str(_milliseconds(registration.created_at))
        event = {
            "certificateId": registration.fingerprint,
            "caCertificateId": registration.ca,
            "timestamp": _milliseconds(self._clock()),
            "certificateStatus": registration.status,
            "awsAccountId": registration.scope.account,
            "certificateRegistrationTimestamp": registered_at,
            "sourceIp": request.address,
        }
        topic = f"$aws/events/certificates/registered/{registration.ca}"
        self._broker.publish(registration.scope, Message(topic, orjson.dumps(event), qos=1))


def _rejected(error: DomainError, scope: Scope | None) -> Rejected:
    """Raises Unavailable."""
    if isinstance(error, Unavailable):
        raise error
    if isinstance(error, Throttled):
        return Rejected(RejectionReason.TOO_MANY, "too many just-in-time registrations at once", scope)
    return Rejected(_NOT_AUTHORIZED, f"the certificate is not registered just in time: {error}", scope)


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)
