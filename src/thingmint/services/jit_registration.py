"""Just-in-time registration: of devices' own certificates, under a CA certificate that an account registered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.domain.certificates import is_signed_by, re_signed_fingerprint
from thingmint.domain.errors import Disallowed
from thingmint.domain.status import Status
from thingmint.domain.templates import Kind, subject_parameters
from thingmint.services.accounts import regions_of
from thingmint.services.ca_certificates import (
    MAX_SAME_SUBJECT,
    CaStatus,
    find_by_mode,
    find_by_subject,
    find_of_account,
    find_registered_ca,
)
from thingmint.services.certificates import REGISTRATIONS, find_by_serial, register, was_revoked
from thingmint.services.certificates_under_ca import registration_under
from thingmint.services.device_facts import NoHostName
from thingmint.services.template_execution import execute_plan, prepare_plan
from thingmint.services.templates import compile_template, get_template
from thingmint.store.outbox import publish_change

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.domain.certificates import IssuedCertificate
    from thingmint.domain.issuing_ca import OwnAuthorities
    from thingmint.services.ca_certificates import CaRegistration, RegisteredCa
    from thingmint.services.certificates import Registration
    from thingmint.services.change import Change
    from thingmint.services.template_execution import AsRole, PreparedPlan
    from thingmint.services.templates import ProvisioningTemplate, TemplateVersion
    from thingmint.store.engine import Store, Transaction

_JUST_REGISTERED = (Status.PENDING_ACTIVATION, Status.ACTIVE)

# CA certificates of one name that are tried: a region of an account has ten at most, and names are not secret.
_MAX_SAME_SUBJECT = 50


@dataclass(frozen=True, slots=True)
class JitCandidate:
    """A device's certificate and the account's CA certificate that signed it.

    ``registration`` is there if the certificate was registered before, perhaps a moment ago: it waits for activation,
    or is ACTIVE by now.
    """

    certificate: IssuedCertificate
    ca: CaRegistration
    registration: Registration | None


@dataclass(frozen=True, slots=True)
class JitRequest:
    candidate: JitCandidate
    as_role: AsRole


@dataclass(frozen=True, slots=True)
class JitState:
    """``known`` is the certificate's registration, if it has one by now; ``template`` is that of the CA's name."""

    ca: RegisteredCa
    known: Registration | None
    template: tuple[ProvisioningTemplate, TemplateVersion] | None


class OnlyByHostName(Disallowed):
    """Accounts without proof have the CA certificate: the device has to choose one of ``scopes`` by its host name."""

    def __init__(self, fingerprint: str, scopes: Sequence[Scope]) -> None:
        super().__init__("certificate", fingerprint, "its CA certificate is registered, but not in DEFAULT mode")
        self.scopes = scopes


async def find_candidate(
    store: Store, own: OwnAuthorities, where: Scope | NoHostName, certificate: IssuedCertificate, now: datetime
) -> JitCandidate | None:
    """None if no account has its CA certificate, or if this server issued it.

    Raises Disallowed where one has it, and does not want the certificate registered.
    """
    search = _Search(store, certificate, now)
    found = await (search.without_host_name(where) if isinstance(where, NoHostName) else search.within(where))
    flaw = certificate.parts.signature.flaw
    is_elsewhere = isinstance(where, NoHostName) and where.registered
    if found is None and flaw and search.has_named_issuer and not is_elsewhere:
        # The signature proves nothing, so it is not known whether the CA made it; but an operator has to know why.
        raise Disallowed("certificate", certificate.fingerprint, f"it {flaw}")
    # Last, as most certificates that are not registered are of no CA that is registered.
    return None if found is None or own.issued(certificate.parts.signature) else found


class _Search:
    """For the CA certificate under which a certificate is registered. Each key is tried once."""

    def __init__(self, store: Store, certificate: IssuedCertificate, now: datetime) -> None:
        self._store = store
        self._certificate = certificate
        self._now = now
        self._verdicts: dict[str, bool] = {}
        self.has_named_issuer = False
        """Whether a CA certificate has the name of the certificate's issuer."""

    async def within(self, scope: Scope) -> JitCandidate | None:
        certificate = self._certificate

        async def find(tx: Transaction) -> tuple[Sequence[RegisteredCa], Registration | None]:
            known = await REGISTRATIONS.find(tx, *scope, certificate.fingerprint)
            if known is None:
                return await find_by_subject(tx, scope, certificate.issuer, MAX_SAME_SUBJECT), None
            ca = await find_registered_ca(tx, scope, known.ca) if known.ca is not None else None
            return [ca] if ca is not None else [], known

        found, known = await self._store.read(find)
        if known is not None and known.status not in _JUST_REGISTERED:
            return None
        signers = await self._signers(found)
        return JitCandidate(certificate, self._ready(signers)[-1].registration, known) if signers else None

    async def without_host_name(self, where: NoHostName) -> JitCandidate | None:
        """The same steps as for a certificate that is registered (``services/device_facts``)."""
        default, issuer = where.default_account, self._certificate.issuer
        found = await self._store.read(lambda tx: find_by_mode(tx, "DEFAULT", issuer, _MAX_SAME_SUBJECT))
        proven = await self._signers(found)
        if where.registered:
            # What the default account has stays so, unless another is about to register its own.
            proven = [ca for ca in proven if ca.registration.scope.account != default and self._is_ready(ca)]
            if not proven or self._certificate.flaw(self._now):
                return None
        if proven:
            return await self._of_account(proven, only_home=True)
        if default is not None:
            own = await self._store.read(lambda tx: find_of_account(tx, default, issuer, _MAX_SAME_SUBJECT))
            if signers := await self._signers(own):
                return await self._of_account(signers, only_home=False)
        others = await self._store.read(lambda tx: find_by_mode(tx, "SNI_ONLY", issuer, MAX_SAME_SUBJECT))
        if signers := await self._signers(others):
            raise OnlyByHostName(self._certificate.fingerprint, [ca.registration.scope for ca in signers])
        return None

    async def _of_account(self, signers: Sequence[RegisteredCa], *, only_home: bool) -> JitCandidate | None:
        """In the home region of the account that ``signers`` are of; else, with ``only_home``, in the only one.

        None if it is registered there already so that only a device that names the host is let in.
        """
        account = signers[0].registration.scope.account
        ready = self._ready([ca for ca in signers if ca.registration.scope.account == account])

        async def find(tx: Transaction) -> tuple[CaRegistration | None, Registration | None]:
            regions = await regions_of(tx, account)
            ranked = sorted(ready, key=lambda ca: regions.index(ca.registration.scope.region))  # the newest last
            scope = ranked[0].registration.scope
            if only_home and scope.region != regions[0] and len({ca.registration.scope for ca in ready}) > 1:
                return None, None
            newest = [ca.registration for ca in ranked if ca.registration.scope == scope][-1]
            return newest, await REGISTRATIONS.find(tx, *scope, self._certificate.fingerprint)

        ca, known = await self._store.read(find)
        if ca is None:
            raise OnlyByHostName(self._certificate.fingerprint, sorted({each.registration.scope for each in ready}))
        if known is not None and (known.status not in _JUST_REGISTERED or (only_home and known.mode != "DEFAULT")):
            return None
        return JitCandidate(self._certificate, ca, known)

    async def _signers(self, candidates: Sequence[RegisteredCa]) -> list[RegisteredCa]:
        self.has_named_issuer |= bool(candidates)
        for candidate in candidates:
            fingerprint = candidate.certificate.fingerprint
            if fingerprint not in self._verdicts:
                await asyncio.sleep(0)  # a large RSA key takes half a millisecond
                self._verdicts[fingerprint] = is_signed_by(self._certificate, candidate.content())
        return [candidate for candidate in candidates if self._verdicts[candidate.certificate.fingerprint]]

    def _ready(self, signers: Sequence[RegisteredCa]) -> list[RegisteredCa]:
        """Those that register devices by themselves, at least one. Raises Disallowed."""
        ready = [ca for ca in signers if self._is_ready(ca)]
        if not ready:
            last = signers[-1]
            raise Disallowed("CA certificate", last.certificate.fingerprint, f"it {_why_not_ready(last, self._now)}")
        certificate = self._certificate
        if flaw := certificate.flaw(self._now):
            raise Disallowed("certificate", certificate.fingerprint, f"it {flaw}")
        return ready

    def _is_ready(self, ca: RegisteredCa) -> bool:
        return _why_not_ready(ca, self._now) is None


def _why_not_ready(ca: RegisteredCa, now: datetime) -> str | None:
    """A phrase that fits after "it"; None for a CA certificate that registers devices by itself now."""
    registration, certificate = ca
    if registration.status is not CaStatus.ACTIVE:
        return f"is {registration.status}, and does not register devices by itself"
    if not registration.auto_registration:
        return "does not register devices by itself"
    if not certificate.not_before <= now <= certificate.not_after:
        return "is not valid now, and does not register devices by itself"
    return None


async def look_up_candidate(tx: Transaction, change: Change, request: JitRequest) -> JitState:
    """Raises Disallowed if the CA certificate, or its template, is not as it has to be."""
    ca, scope = request.candidate.ca, change.scope
    current = await find_registered_ca(tx, scope, ca.fingerprint)
    if current is None or current.registration != ca:
        raise Disallowed("CA certificate", ca.fingerprint, "it was changed meanwhile")
    known = await REGISTRATIONS.find(tx, *scope, request.candidate.certificate.fingerprint)
    if ca.template_name is None or known is not None:
        return JitState(current, known, None)
    template, version = await get_template(tx, scope, ca.template_name)
    if not template.enabled:
        raise Disallowed("provisioning template", template.name, f"Template {template.name} is not enabled.")
    return JitState(current, None, (template, version))


class EarlierRegistration:
    """A Recorder: what is registered stays as it is."""

    async def earlier(self, _tx: Transaction, state: JitState) -> Registration | None:
        return state.known

    reserve = earlier

    async def record(self, _tx: Transaction, result: Registration, _state: JitState) -> Registration:
        return result


async def prepare_registration(
    _change: Change, request: JitRequest, state: JitState
) -> tuple[Change, PreparedPlan] | None:
    """The plan of the CA's template, and the change as its role makes it; None if it does not provision devices."""
    ca, role, source = request.candidate.ca, request.candidate.ca.role_arn, request.candidate.ca.arn
    if state.template is not None:
        template, version = state.template
        compiled = compile_template(version.body, template.kind)
        role, source = role or template.role_arn, template.arn
    elif ca.template_body is not None:
        compiled = compile_template(ca.template_body, Kind.JITP)
    else:
        return None
    assert role is not None, "a configuration with a body has a role"
    plan = compiled.resolve({}, subject_parameters(request.candidate.certificate.parts))
    # A plan is of no use without the right to each of its effects.
    change = await request.as_role(role, source)
    return change, await prepare_plan(change, plan)


async def register_candidate(
    tx: Transaction,
    change: Change,
    request: JitRequest,
    state: JitState,
    prepared: tuple[Change, PreparedPlan] | None,
) -> Registration:
    """PENDING_ACTIVATION unless the CA provisions devices.

    Raises Disallowed for what is not to be registered, LimitExceeded, and what its provisioning raises.
    """
    certificate, scope = request.candidate.certificate, change.scope
    await _check_unknown(tx, state.ca, certificate)
    ca = state.ca.registration
    registration = registration_under(change, ca, certificate, Status.PENDING_ACTIVATION)
    registration = await register(tx, change, registration, certificate.certificate) or registration
    await publish_change(tx, scope, "certificate", certificate.fingerprint, change.now)
    if prepared is None:
        return registration
    await execute_plan(tx, *prepared)
    return await REGISTRATIONS.get(tx, *scope, certificate.fingerprint)


async def _check_unknown(tx: Transaction, registered: RegisteredCa, certificate: IssuedCertificate) -> None:
    """Raises Disallowed for a certificate that was revoked, or is registered under another fingerprint.

    What was registered without a CA is known by its fingerprint alone, so both possible ones are looked for.
    """
    scope, ca = registered.registration.scope, registered.registration.fingerprint
    re_signed = re_signed_fingerprint(certificate, registered.content())
    if await was_revoked(
        tx, scope, ca, certificate.serial, certificate.fingerprint, re_signed or certificate.fingerprint
    ):
        raise Disallowed("certificate", certificate.fingerprint, "it was revoked")
    other = await find_by_serial(tx, scope, ca, certificate.serial)
    if other is None and re_signed is not None and await REGISTRATIONS.find(tx, *scope, re_signed) is not None:
        other = re_signed
    if other is not None:
        reason = f"the authority's certificate of that serial number is registered as {other}"
        raise Disallowed("certificate", certificate.fingerprint, reason)
