"""At the door: certificates that nobody registered, and what becomes of those whose authority somebody did."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import orjson
import structlog

from thingmint.access.audit import CURRENT
from thingmint.access.callers import Caller
from thingmint.access.context import Outcome
from thingmint.access.throttle import Rate, Throttle
from thingmint.domain.certificates import read_issued_certificate
from thingmint.domain.errors import DomainError, InvalidCertificate, Throttled, Unavailable
from thingmint.domain.registration import arn_of
from thingmint.domain.status import Status
from thingmint.mqtt.admission import Refused
from thingmint.mqtt.broker.interface import Message
from thingmint.mqtt.connection_log import context_of
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from thingmint.access.roles import Roles
    from thingmint.access.throttle import LimitsProfile
    from thingmint.domain.certificates import IssuedCertificate
    from thingmint.domain.registration import Scope
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.mqtt.peer import Peer
    from thingmint.services.certificates import Registration
    from thingmint.services.newcomers import Arrival, NewcomerRegistry

__all__ = ["Newcomers", "newcomer_throttle"]

# A device that keeps coming back while it waits is heard of now and then; a fleet that is switched on has to get
# through, and a stolen authority's key must not fill the registry faster than somebody can look.
_RATES = {"certificate": Rate(0.5, 3), "authority": Rate(50, 200), "account": Rate(100, 400)}

_log = structlog.get_logger("thingmint.gateway")


def newcomer_throttle(profile: LimitsProfile) -> Throttle:
    return Throttle(None, {} if profile == "none" else _RATES)


class Newcomers:
    """What Admission asks about a certificate that is unknown, or that waits for activation under an authority.

    Whoever was registered or provisioned is closed upon silently, as AWS does, and comes again.
    """

    def __init__(
        self,
        registry: NewcomerRegistry,
        broker: Broker,
        roles: Roles,
        throttle: Throttle,
        clock: Callable[[], datetime],
    ) -> None:
        self._registry = registry
        self._broker = broker
        self._roles = roles
        self._throttle = throttle
        self._clock = clock

    async def __call__(self, peer: Peer, scope: Scope | None) -> Refused | None:
        """None if no authority vouches for the certificate. Raises Unavailable."""
        if peer.leaf is None:  # an edge handed only the fingerprint over
            return None
        try:
            leaf = read_issued_certificate(peer.leaf)
        except InvalidCertificate as error:
            return Refused(Reason.NOT_AUTHORIZED, f"{error}; nor is {peer.fingerprint} registered")
        try:
            arrival = await self._registry.find(scope, leaf)
        except DomainError as error:
            return _refused(error, None)
        if arrival is None:
            return None
        caller = _caller(arrival.ca.scope, leaf.fingerprint)
        try:
            return await self._welcome(peer, arrival, leaf, caller)
        except DomainError as error:
            return _refused(error, caller)

    async def _welcome(self, peer: Peer, arrival: Arrival, leaf: IssuedCertificate, caller: Caller) -> Refused:
        authority = arrival.ca
        self._throttle.take(f"{authority.scope} {leaf.fingerprint}", "certificate")
        if arrival.registration is not None:
            self._tell(peer, arrival.registration, is_new=False)
            return _silently(f"it waits for activation under the CA certificate {authority.fingerprint}", caller)
        self._throttle.take(f"{authority.scope} {authority.fingerprint}", "authority")
        self._throttle.take(authority.scope.account, "account")
        registration = await self._register(peer, arrival, leaf, caller)
        _log.info(
            "registered just in time",
            account=authority.scope.account,
            certificate=leaf.fingerprint,
            ca=authority.fingerprint,
            status=registration.status,
            provisioned=authority.config is not None,
            client=peer.address,
        )
        if registration.status is Status.PENDING_ACTIVATION:
            self._tell(peer, registration, is_new=True)
        return _silently(f"it was registered just in time and is {registration.status}: it has to come again", caller)

    async def _register(self, peer: Peer, arrival: Arrival, leaf: IssuedCertificate, caller: Caller) -> Registration:
        authority = arrival.ca
        context = context_of(peer, caller, "RegisterCertificate", self._clock())
        details = {"ca": authority.fingerprint, "provisioned": authority.config is not None}
        outcome = Outcome(resource=arn_of(authority.scope, leaf.fingerprint), details=details)
        token = CURRENT.set((context, outcome))
        try:
            as_role = functools.partial(self._roles.effects, context, authority.scope)
            return await self._registry.register(arrival, leaf, as_role)
        finally:
            CURRENT.reset(token)

    def _tell(self, peer: Peer, registration: Registration, *, is_new: bool) -> None:
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
