"""Just-in-time registration of devices' own certificates under a CA certificate that an account registered."""

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
from thingmint.services.transfers import was_transferred
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

# How many CA certificates with one subject are tried. A region of an account has ten at most. Subjects are not secret,
# so many accounts could register CA certificates with the same one.
_MAX_SAME_SUBJECT = 50


@dataclass(frozen=True, slots=True)
class JitCandidate:
    """A device's certificate and the account's CA certificate that signed it.

    ``registration`` is set if the certificate was registered before, perhaps a moment ago. Its status is
    PENDING_ACTIVATION or ACTIVE.
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
    """``known`` is the certificate's registration, if it has one now; ``template`` is the one that the CA names."""

    ca: RegisteredCa
    known: Registration | None
    template: tuple[ProvisioningTemplate, TemplateVersion] | None


class OnlyByHostName(Disallowed):
    """The CA certificate is only in accounts without proof: the device must select one of ``scopes`` by a host name."""

    def __init__(self, fingerprint: str, scopes: Sequence[Scope]) -> None:
        super().__init__("certificate", fingerprint, "its CA certificate is registered, but not in DEFAULT mode")
        self.scopes = scopes


async def find_candidate(
    store: Store, own: OwnAuthorities, where: Scope | NoHostName, certificate: IssuedCertificate, now: datetime
) -> JitCandidate | None:
    """Return the candidate; None if no account has the CA certificate, or if this server issued the certificate.

    Raises Disallowed if an account has the CA certificate but the certificate must not be registered.
    """
    search = _Search(store, certificate, now)
    found = await (search.without_host_name(where) if isinstance(where, NoHostName) else search.within(where))
    flaw = certificate.parts.signature.flaw
    is_elsewhere = isinstance(where, NoHostName) and where.registered
    if found is None and flaw and search.has_named_issuer and not is_elsewhere:
        # The weak signature does not prove that the CA made it, but the operator needs the reason in the log.
        raise Disallowed("certificate", certificate.fingerprint, f"it {flaw}")
    if found is None:
        return None
    scope = found.ca.scope
    if found.registration is None and await store.read(lambda tx: was_transferred(tx, scope, certificate.fingerprint)):
        return None  # the certificate belongs to another account now
    # Checked last: usually no account has the CA of an unregistered certificate, and no candidate was found.
    return None if own.issued(certificate.parts.signature) else found


class _Search:
    """Searches the CA certificate that issued a certificate. Each CA's key is tried once."""

    def __init__(self, store: Store, certificate: IssuedCertificate, now: datetime) -> None:
        self._store = store
        self._certificate = certificate
        self._now = now
        self._verdicts: dict[str, bool] = {}
        self.has_named_issuer = False
        """True if a registered CA certificate has the name of the certificate's issuer."""

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
        """Search in the same order of accounts as for a registered certificate (``services/device_facts``)."""
        default, issuer = where.default_account, self._certificate.issuer
        found = await self._store.read(lambda tx: find_by_mode(tx, "DEFAULT", issuer, _MAX_SAME_SUBJECT))
        proven = await self._signers(found)
        if where.registered:
            # The certificate stays in the default account, unless another account, which owns the CA, registers it.
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
        """Return the candidate in the first region, the home region first, of the account that has ``signers``.

        With ``only_home``, a region other than the home region must be the only one; raises OnlyByHostName otherwise.
        Returns None if the certificate is already registered there in a way that requires a host name.
        """
        account = signers[0].registration.scope.account
        ready = self._ready([ca for ca in signers if ca.registration.scope.account == account])

        async def find(tx: Transaction) -> tuple[CaRegistration | None, Registration | None]:
            regions = await regions_of(tx, account)
            # Within a region, the newest stays last.
            ranked = sorted(ready, key=lambda ca: regions.index(ca.registration.scope.region))
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
        """Return the CA certificates with automatic registration, at least one. Raises Disallowed."""
        ready = [ca for ca in signers if self._is_ready(ca)]
        if not ready:
            last = signers[-1]
            id, why = last.certificate.fingerprint, _why_not_ready(last, self._now)
            raise Disallowed("CA certificate", id, f"its CA certificate {id} {why}")
        certificate = self._certificate
        if flaw := certificate.flaw(self._now):
            raise Disallowed("certificate", certificate.fingerprint, f"it {flaw}")
        return ready

    def _is_ready(self, ca: RegisteredCa) -> bool:
        return _why_not_ready(ca, self._now) is None


def _why_not_ready(ca: RegisteredCa, now: datetime) -> str | None:
    """Return a phrase that fits after "CA certificate"; None if it registers devices automatically now."""
    registration, certificate = ca
    if registration.status is not CaStatus.ACTIVE:
        return f"is {registration.status}, and does not register devices automatically"
    if not registration.auto_registration:
        return "does not register devices automatically"
    if not certificate.not_before <= now <= certificate.not_after:
        return "is not valid now, and does not register devices automatically"
    return None


async def look_up_candidate(tx: Transaction, change: Change, request: JitRequest) -> JitState:
    """Read the current state. Raises Disallowed if the CA certificate was changed or its template is not enabled."""
    ca, scope = request.candidate.ca, change.scope
    current = await find_registered_ca(tx, scope, ca.fingerprint)
    if current is None or current.registration != ca:
        raise Disallowed("CA certificate", ca.fingerprint, "it was changed in the meantime")
    known = await REGISTRATIONS.find(tx, *scope, request.candidate.certificate.fingerprint)
    if ca.template_name is None or known is not None:
        return JitState(current, known, None)
    template, version = await get_template(tx, scope, ca.template_name)
    if not template.enabled:
        raise Disallowed("provisioning template", template.name, f"Template {template.name} is not enabled.")
    return JitState(current, None, (template, version))


class EarlierRegistration:
    """A Recorder: an existing registration stays unchanged."""

    async def earlier(self, _tx: Transaction, state: JitState) -> Registration | None:
        return state.known

    reserve = earlier

    async def record(self, _tx: Transaction, result: Registration, _state: JitState) -> Registration:
        return result


async def prepare_registration(
    _change: Change, request: JitRequest, state: JitState
) -> tuple[Change, PreparedPlan] | None:
    """Return the plan of the CA's template, with the change as the template's role; None if the CA has no template."""
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
    # The plan runs with the permissions of the role.
    change = await request.as_role(role, source)
    return change, await prepare_plan(change, plan)


async def register_candidate(
    tx: Transaction,
    change: Change,
    request: JitRequest,
    state: JitState,
    prepared: tuple[Change, PreparedPlan] | None,
) -> Registration:
    """Register the certificate as PENDING_ACTIVATION, or as the CA's template says.

    Raises Disallowed if it must not be registered, LimitExceeded, and what provisioning raises.
    """
    certificate, scope = request.candidate.certificate, change.scope
    await check_unknown(tx, state.ca, certificate)
    ca = state.ca.registration
    registration = registration_under(change, ca, certificate, Status.PENDING_ACTIVATION)
    registration = await register(tx, change, registration, certificate.certificate) or registration
    await publish_change(tx, scope, "certificate", certificate.fingerprint, change.now)
    if prepared is None:
        return registration
    await execute_plan(tx, *prepared)
    return await REGISTRATIONS.get(tx, *scope, certificate.fingerprint)


async def check_unknown(tx: Transaction, registered: RegisteredCa, certificate: IssuedCertificate) -> None:
    """Raise Disallowed for a certificate that was revoked, or is registered under another fingerprint.

    A certificate that was registered without a CA is found only by its fingerprint, so both possible fingerprints are
    looked up.
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
        reason = f"another certificate of the same CA and serial number is registered: {other}"
        raise Disallowed("certificate", certificate.fingerprint, reason)
