"""Judges what TLS let through: whose certificate it is, whether it is good, and what its holder may do."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from ipaddress import ip_address
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from thingmint.access.callers import Caller
from thingmint.domain.arns import arn_of
from thingmint.domain.door import DoorSettings, client_id_flaw, key_flaw
from thingmint.domain.errors import MalformedPolicy
from thingmint.domain.policies import Kind
from thingmint.domain.policies.certificates import certificate_context
from thingmint.domain.status import Status
from thingmint.mqtt.claims import claim_policy
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.services.ca_certificates import CaStatus
from thingmint.services.compiled_policies import POLICIES
from thingmint.services.device_permissions import DevicePermissions, mentions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.domain.certificates import Certificate
    from thingmint.domain.policies import ContextValue
    from thingmint.mqtt.connection_index import Dependency
    from thingmint.mqtt.host_names import HostNames
    from thingmint.mqtt.peer import Peer
    from thingmint.services.doorkeeping import CaState, Doorkeeping, NoHostName, Passport


@dataclass(frozen=True, slots=True)
class Refused:
    """``why``, ``explain`` and ``facts`` are for the operator; the device learns ``reason`` at most.

    ``caller`` is who it was, if that could be established.
    """

    reason: Reason
    why: str
    explain: Callable[[], Sequence[str]] = tuple
    caller: Caller | None = None
    silent: bool = False
    """Close without any answer, whatever the version (just-in-time registration does)."""
    facts: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """What stays of a passport while its device is connected; ``dependencies`` are what may change about it."""

    scope: Scope
    dependencies: Sequence[Dependency]
    permissions: DevicePermissions
    caller: Caller
    settings: DoorSettings
    expires_at: datetime | None
    facts: Mapping[str, object] | None = None


class JitRegistrar(Protocol):
    async def __call__(self, peer: Peer, where: Scope | NoHostName) -> Refused | None:
        """None if it has nothing to do with the certificate. Raises Unavailable."""
        ...


class Admission:
    """``jit_registration`` is asked about certificates that may be registered just in time, or wait for activation."""

    def __init__(
        self,
        doorkeeping: Doorkeeping,
        host_names: HostNames,
        clock: Callable[[], datetime],
        jit_registration: JitRegistrar | None = None,
    ) -> None:
        self._doorkeeping = doorkeeping
        self._host_names = host_names
        self._clock = clock
        self._jit_registration = jit_registration

    def dependencies(self, peer: Peer) -> set[Dependency]:
        """What a decision about ``peer`` may hang on until it is known whose certificate it is."""
        return {("", "", "certificate", peer.fingerprint)} if peer.fingerprint is not None else set()

    async def judge(
        self, peer: Peer, client_id: str, scope: Scope | None = None, *, connecting: bool = False
    ) -> Admitted | Refused:
        """Everything but whether the policies allow to connect. Raises Unavailable.

        Only a device that is ``connecting`` can be registered just in time. ``scope`` is where one belongs that has
        connected: nothing that other accounts do can change that.
        """
        if peer.fingerprint is None:
            return Refused(Reason.NOT_AUTHORIZED, "no client certificate was presented")
        if flaw := client_id_flaw(client_id):
            return Refused(Reason.CLIENT_IDENTIFIER_NOT_VALID, f"the client id {flaw}")
        found = await self._doorkeeping.look_up(
            peer.fingerprint, scope or self._host_names.scope_of(peer), thing_name=client_id, now=self._clock()
        )
        if connecting and self._jit_registration is not None:
            for where in found.jit:
                refused = await self._jit_registration(peer, where)
                if refused is not None:
                    return refused
        if found.passport is None:
            if not found.elsewhere:
                return Refused(Reason.NOT_AUTHORIZED, f"no certificate {peer.fingerprint} is registered")
            why = f"no account has certificate {peer.fingerprint} without a host name"
            facts = {"certificate": peer.fingerprint}
            advice = self._host_names.advice(found.elsewhere)
            return Refused(Reason.NOT_AUTHORIZED, f"{why}: {advice}", facts=facts)
        policies = [(policy.name, policy.document) for policy in found.passport.policies]
        await POLICIES.compile_ahead(Kind.DEVICE, policies)
        return self._examine(peer, found.passport, client_id)

    def _examine(self, peer: Peer, passport: Passport, client_id: str) -> Admitted | Refused:
        settings = DoorSettings.of(passport.settings)
        caller, facts = _caller(passport, client_id), _ca_facts(passport, settings)
        flaw, expires_at = self._flaw(passport, settings)
        if flaw is not None:
            return Refused(Reason.NOT_AUTHORIZED, flaw, caller=caller, facts=facts)
        documents = [(policy.name, policy.document) for policy in passport.policies]
        if passport.claim is not None:
            documents.append(claim_policy(passport.scope, passport.claim.template))
        try:
            context = _context(peer, passport, client_id)
            if mentions(documents, "certificate"):
                context |= _of_certificate(peer, passport)
            permissions = DevicePermissions(passport.scope, documents, context, self._clock)
        except MalformedPolicy as error:
            return Refused(Reason.NOT_AUTHORIZED, f"a policy cannot be read: {error}", caller=caller)
        dependencies = _dependencies(passport, settings)
        return Admitted(passport.scope, dependencies, permissions, caller, settings, expires_at, facts)

    def _flaw(self, passport: Passport, settings: DoorSettings) -> tuple[str | None, datetime | None]:
        """What keeps the certificate out, if anything does; and else until when it is good."""
        now = self._clock()
        if passport.registration is None:
            assert passport.claim is not None
            ended = passport.claim.expires_at <= now
            return ("the claim has expired" if ended else None), passport.claim.expires_at
        status = passport.registration.status
        if status is not Status.ACTIVE:
            return f"the certificate is {status}, not ACTIVE", None
        certificate = passport.certificate
        assert certificate is not None, "a registration refers to its certificate"
        if flaw := key_flaw(certificate.der, weak_keys=settings.weak_keys):
            return f"the certificate has {flaw}", None
        gates = settings.ca_status_gates_devices and passport.registration.ca is not None
        ca_state = passport.ca_state if gates else None
        if gates:
            if ca_state is None:
                return "the certificate's CA certificate was deleted", None
            if ca_state.status is not CaStatus.ACTIVE:
                return f"the certificate's CA certificate is {ca_state.status}, not ACTIVE", None
        if passport.bound_to is not None or not settings.check_validity:
            return None, None
        if flaw := _validity_flaw(certificate, now):
            return f"the certificate {flaw}", None
        if ca_state is None:
            return None, certificate.not_after
        if flaw := _validity_flaw(ca_state, now):
            return f"the certificate's CA certificate {flaw}", None
        return None, min(certificate.not_after, ca_state.not_after)


def _validity_flaw(of: Certificate | CaState, now: datetime) -> str | None:
    if now < of.not_before:
        return f"is not valid before {of.not_before.isoformat()}"
    if now > of.not_after:
        return f"ended on {of.not_after.isoformat()}"
    return None


def _dependencies(passport: Passport, settings: DoorSettings) -> list[Dependency]:
    account, region = passport.scope
    return [
        (account, "" if kind == "account" else region, kind, name)
        for kind, name in passport.dependencies
        if kind != "ca" or settings.ca_status_gates_devices
    ]


def _ca_facts(passport: Passport, settings: DoorSettings) -> Mapping[str, object] | None:
    """What the log of a refusal tells of the certificate's CA certificate, whether or not that is why."""
    if passport.registration is None or passport.registration.ca is None:
        return None
    status = passport.ca_state.status.value if passport.ca_state is not None else "DELETED"
    return _facts(status, settings.ca_status_gates_devices)


@functools.cache  # a few in all, which many connections share
def _facts(status: str, gates: bool) -> Mapping[str, object]:
    return MappingProxyType({"ca_status": status, "ca_status_gates_devices": gates})


def _caller(passport: Passport, client_id: str) -> Caller:
    fingerprint = passport.fingerprint
    return Caller(
        account=passport.scope.account,
        regions=(passport.scope.region,),
        principal=fingerprint,
        name=client_id,
        arn=arn_of(passport.scope, fingerprint),
        credential=fingerprint,
        policies=(),
    )


def _context(peer: Peer, passport: Passport, client_id: str) -> dict[str, ContextValue]:
    thing = passport.thing
    context: dict[str, ContextValue] = {
        "aws:SourceIp": ip_address(peer.address) if peer.address else None,
        "iot:ClientId": client_id,
        "iot:Connection.Thing.IsAttached": thing is not None,
    }
    if thing is not None:
        context["iot:Connection.Thing.ThingName"] = thing.name
        context["iot:Connection.Thing.ThingTypeName"] = thing.type
        for name, value in thing.attributes.items():
            context[f"iot:Connection.Thing.Attributes[{name}]"] = value
    return context


def _of_certificate(peer: Peer, passport: Passport) -> Mapping[str, ContextValue]:
    der = passport.certificate.der if passport.certificate is not None else peer.leaf
    return certificate_context(der) if der is not None else {}
