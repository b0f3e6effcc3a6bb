"""Just-in-time registration: of devices' own certificates, under a CA certificate that an account registered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.domain.certificates import is_signed_by, re_signed_fingerprint
from thingmint.domain.errors import Disallowed
from thingmint.domain.status import Status
from thingmint.domain.templates import Kind, subject_parameters
from thingmint.services.ca_certificates import find_by_subject, find_registered_ca, registration_under
from thingmint.services.certificates import REGISTRATIONS, find_by_serial, register, was_revoked
from thingmint.services.template_execution import execute_plan, prepare_plan
from thingmint.services.templates import compile_template, get_template
from thingmint.store.outbox import announce

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.domain.certificates import IssuedCertificate
    from thingmint.services.ca_certificates import CaRegistration, RegisteredCa
    from thingmint.services.certificates import Registration
    from thingmint.services.change import Change
    from thingmint.services.template_execution import AsRole, PreparedPlan
    from thingmint.services.templates import ProvisioningTemplate, TemplateVersion
    from thingmint.store.engine import Store, Transaction

# CA certificates of one name that are tried: one account has ten at most, and names are not secret.
_MAX_SAME_SUBJECT = 50


@dataclass(frozen=True, slots=True)
class JitCandidate:
    """A device's certificate and the account's CA certificate that signed it.

    ``registration`` is there if the certificate was registered before and waits for activation.
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


async def find_candidate(
    store: Store, scope: Scope | None, certificate: IssuedCertificate, now: datetime
) -> JitCandidate | None:
    """Without ``scope``, of all accounts. None if no account has its CA certificate.

    Raises Disallowed where one has it, and does not want the certificate registered.
    """

    async def look(tx: Transaction) -> tuple[Sequence[RegisteredCa], Registration | None]:
        known = await REGISTRATIONS.find(tx, *scope, certificate.fingerprint) if scope is not None else None
        if known is None:
            return await find_by_subject(tx, scope, certificate.issuer, _MAX_SAME_SUBJECT), None
        ca = await find_registered_ca(tx, known.scope, known.ca) if known.ca is not None else None
        return [ca] if ca is not None else [], known

    found, known = await store.read(look)
    if known is not None and known.status is not Status.PENDING_ACTIVATION:
        return None
    signers = _signers(found, certificate)
    if not signers:
        return None
    if flaw := certificate.flaw(now):
        raise Disallowed("certificate", certificate.fingerprint, f"it {flaw}")
    return JitCandidate(certificate, _one_of(signers, scope, now), known)


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
    plan = compiled.resolve({}, subject_parameters(request.candidate.certificate.content))
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
    registration = registration_under(ca, certificate, Status.PENDING_ACTIVATION, change.now, change.new_id())
    await register(tx, registration, certificate.certificate, change.environment.quotas)
    await announce(tx, scope, "certificate", certificate.fingerprint, change.now)
    if prepared is None:
        return registration
    await execute_plan(tx, *prepared)
    return await REGISTRATIONS.get(tx, *scope, certificate.fingerprint)


def _signers(candidates: Sequence[RegisteredCa], certificate: IssuedCertificate) -> list[RegisteredCa]:
    """Each key is tried once, in however many accounts it is."""
    verdicts: dict[str, bool] = {}
    for candidate in candidates:
        if candidate.certificate.fingerprint not in verdicts:
            verdicts[candidate.certificate.fingerprint] = is_signed_by(certificate.content, candidate.content())
    return [candidate for candidate in candidates if verdicts[candidate.certificate.fingerprint]]


def _one_of(signers: Sequence[RegisteredCa], scope: Scope | None, now: datetime) -> CaRegistration:
    """The account's newest that registers by itself; without ``scope``, of the only account that has one."""
    if scope is None:
        # Any account can register any CA certificate as SNI_ONLY: that does not come between a device and the account
        # that has shown that the key is its own.
        signers = [signer for signer in signers if signer.registration.mode == "DEFAULT"] or signers
    ready = [ca for ca, content in signers if ca.registers_by_itself and content.not_before <= now <= content.not_after]
    if not ready:
        reason = "it is not ACTIVE, does not register devices by itself, or is not valid now"
        raise Disallowed("CA certificate", signers[-1].registration.fingerprint, reason)
    if len({signer.scope for signer in ready}) > 1:
        reason = "several accounts or regions have it: the device has to name an endpoint (SNI)"
        raise Disallowed("CA certificate", ready[-1].fingerprint, reason)
    return ready[-1]


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
