"""Dry runs of provisioning templates: what a template makes for a device, without changing anything.

A dry run executes the template's plan as provisioning does, in a transaction that is rolled back. The actions of the
role are recorded there and decided afterwards, so that a dry run shows all of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, NamedTuple

from thingmint.domain.arns import arn_of
from thingmint.domain.certificates import Certificate, parse_issued_certificate
from thingmint.domain.errors import Disallowed, DomainError, Invalid, Throttled, Unavailable
from thingmint.domain.status import Status
from thingmint.domain.templates import CERTIFICATE_ID, Kind, subject_parameters
from thingmint.domain.templates.subjects import CERTIFICATE_PREFIX, PSEUDO_PREFIX
from thingmint.services.billing_groups import find_group_of
from thingmint.services.ca_certificates import get_registered_ca
from thingmint.services.certificates import NewCertificate, find_registered, get_registered, register, register_new
from thingmint.services.certificates_under_ca import registration_under
from thingmint.services.device_policies import DEVICE_POLICIES, Target, attached_policies
from thingmint.services.jit_registration import check_unknown, find_candidate
from thingmint.services.role_trials import TriedAction
from thingmint.services.template_execution import execute_plan, prepare_plan
from thingmint.services.templates import compile_template
from thingmint.services.thing_groups import groups_of
from thingmint.services.thing_principals import things_of_certificate
from thingmint.services.things import THINGS, thing_arn
from thingmint.store.engine import rolled_back

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.domain.arns import Scope
    from thingmint.domain.certificates import IssuedCertificate
    from thingmint.domain.policies import ContextValue
    from thingmint.domain.templates import Plan
    from thingmint.services.ca_certificates import CaRegistration
    from thingmint.services.change import Change
    from thingmint.services.role_trials import RoleTrial
    from thingmint.services.templates import ProvisioningTemplate
    from thingmint.store.engine import Store, Transaction

Step = Literal["template", "certificate", "parameters", "role", "permission", "change"]
_MAX_THINGS = 100

Allows = Callable[[str, str], bool]
"""True if the caller may perform an action on a resource. Other than ``Change.may`` it records nothing."""
_VALIDITY = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleDevice:
    """What a device gives. ``parameters`` of a JITP template are the fields of its certificate's subject: CommonName.

    ``certificate`` is the id of a registered certificate, ``pem`` is a certificate; without both, a certificate that
    does not exist stands for the device's. ``address`` is for policies that ask for it.
    """

    parameters: Mapping[str, str] = field(default_factory=dict)
    certificate: str | None = None
    pem: str | None = None
    client_id: str = ""
    address: str | None = None


class Failure(NamedTuple):
    """Why a device would not be provisioned."""

    step: Step
    reason: str


@dataclass(frozen=True, slots=True)
class ThingState:
    type: str | None
    attributes: Mapping[str, str]
    groups: tuple[str, ...]
    billing_group: str | None


@dataclass(frozen=True, slots=True)
class State:
    """What exists of what a plan names. ``policies`` are those that exist, ``attached`` those of the certificate.

    ``things`` are those of the certificate.
    """

    thing: ThingState | None
    status: Status | None
    things: tuple[str, ...]
    attached: tuple[str, ...]
    policies: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """``plan`` is None if the template cannot be resolved, ``after`` if the plan cannot be executed.

    ``certificate`` is the id of the device's certificate; ``is_stand_in`` if it stands for one. ``actions`` are what
    the role needs. ``question`` is what the pre-provisioning hook would be asked: a dry run does not call it.
    ``hides_thing``: the caller may not describe the thing, which exists; ``before`` and ``after`` lack what it has.
    """

    template: ProvisioningTemplate
    role: str
    certificate: str
    is_stand_in: bool
    failures: tuple[Failure, ...]
    plan: Plan | None = None
    before: State | None = None
    after: State | None = None
    actions: tuple[TriedAction, ...] = ()
    question: Mapping[str, object] | None = None
    hides_thing: bool = False

    @property
    def succeeds(self) -> bool:
        return not self.failures


@dataclass(slots=True)
class _Run:
    """``ca`` is the CA under which the certificate is registered; ``is_new`` if it is not registered yet.

    ``asked`` are the distinct actions of the role, in the order of their first use.
    """

    role: str
    certificate: Certificate
    context: Mapping[str, str]
    issued: IssuedCertificate | None = None
    ca: CaRegistration | None = None
    is_new: bool = True
    is_stand_in: bool = False
    failures: list[Failure] = field(default_factory=list)
    before: State | None = None
    asked: dict[tuple[str, Sequence[str]], Mapping[str, ContextValue]] = field(default_factory=dict)

    def note(self, action: str, resources: Sequence[str], context: Mapping[str, ContextValue]) -> None:
        """An Authorize that allows everything."""
        self.asked.setdefault((action, tuple(resources)), context)

    def fail(self, step: Step, error: DomainError | str) -> None:
        self.failures.append(Failure(step, str(error)))


_HIDDEN = ThingState(None, {}, (), None)


async def dry_run(
    store: Store, change: Change, template: ProvisioningTemplate, body: str, sample: SampleDevice, allows: Allows
) -> DryRun:
    """Run a template with the document ``body`` for a sample device. The template need not be stored.

    The result tells of a thing and of a CA certificate only what ``allows`` lets the caller describe. Raises
    InvalidTemplate, Denied and NotFound (the sample's certificate), and Invalid for one that cannot be used, and for an
    address that is none.
    """
    _check_address(sample.address)
    compiled = compile_template(body, template.kind)
    run = await _begin(store, change, template, sample, allows)
    if not template.enabled:
        run.failures.insert(0, Failure("template", f"Template {template.name} is not enabled."))
    known = DryRun(
        template=template,
        role=run.role,
        certificate=run.certificate.fingerprint,
        is_stand_in=run.is_stand_in,
        failures=(),
        question=_question(template, run, sample),
    )
    try:
        plan = compiled.resolve({} if template.kind is Kind.JITP else sample.parameters, run.context)
    except DomainError as error:
        run.fail("parameters", error)
        return replace(known, failures=tuple(run.failures))
    trial = await change.environment.try_role(change.scope, run.role, template.arn, change.now, sample.address)
    if trial.refused is not None:
        run.fail("role", f"{run.role} cannot be assumed: {trial.refused}")
    found = len(run.failures)
    after = await _executed(store, replace(change, authorize=run.note), run, plan)
    known_thing = plan.thing if run.before is not None and run.before.thing is not None else None
    hides_thing = known_thing is not None and not allows("iot:DescribeThing", thing_arn(change.scope, known_thing.name))
    if hides_thing:
        run.before, after = _without_values(run.before), _without_values(after)
    actions = await _decided(run, trial, hides_thing=hides_thing)
    if trial.refused is None:
        # What was refused was asked before anything else failed.
        run.failures[found:found] = [
            Failure("permission", f"The role may not perform {each.action} on {each.resource}: {each.why}")
            for each in actions
            if not each.allowed
        ]
    return replace(
        known,
        failures=tuple(run.failures),
        plan=plan,
        before=run.before,
        after=after,
        actions=actions,
        hides_thing=hides_thing,
    )


def _without_values(state: State | None) -> State | None:
    return replace(state, thing=_HIDDEN) if state is not None else None


def _check_address(address: str | None) -> None:
    """Raises Invalid."""
    try:
        if address is not None:
            ip_address(address)
    except ValueError:
        raise Invalid("address", "must be an IP address") from None


def _question(template: ProvisioningTemplate, run: _Run, sample: SampleDevice) -> Mapping[str, object] | None:
    if template.hook is None:
        return None
    return {
        "claimCertificateId": "(the id of the claim certificate)",
        "certificateId": run.certificate.fingerprint,
        "certificatePem": "(the certificate)",
        "templateArn": template.arn,
        "clientId": sample.client_id,
        "parameters": dict(sample.parameters),
    }


async def _begin(
    store: Store, change: Change, template: ProvisioningTemplate, sample: SampleDevice, allows: Allows
) -> _Run:
    """Find the certificate of the sample device, and the role. Raises Denied, InvalidCertificate and NotFound."""
    registered, id = None, sample.certificate
    if id is not None:
        change.may("iot:DescribeCertificate", arn_of(change.scope, id))
        registered = await store.read(lambda tx: get_registered(tx, change.scope, id))
    if template.kind is Kind.JITP:
        pem = sample.pem if registered is None else registered.certificate.pem
        is_registered = registered is not None
        return await _begin_just_in_time(store, change, template, sample, pem, allows, is_registered=is_registered)
    if sample.pem is not None:
        raise Invalid("certificate", "in PEM is for templates of the type JITP: other devices get theirs here")
    certificate = registered.certificate if registered is not None else _stand_in(change)
    run = _Run(template.role_arn, certificate, {CERTIFICATE_ID: certificate.fingerprint})
    run.is_new = run.is_stand_in = registered is None
    if registered is not None and registered.registration.status in (Status.REVOKED, Status.PENDING_TRANSFER):
        run.fail("certificate", f"The certificate is {registered.registration.status}, so it cannot be provisioned")
    return run


async def _begin_just_in_time(
    store: Store,
    change: Change,
    template: ProvisioningTemplate,
    sample: SampleDevice,
    pem: str | None,
    allows: Allows,
    *,
    is_registered: bool,
) -> _Run:
    stand_in = _stand_in(change)
    instead = {CERTIFICATE_ID: stand_in.fingerprint}
    fields = {
        name if name.startswith(PSEUDO_PREFIX) else f"{CERTIFICATE_PREFIX}{name}": value
        for name, value in sample.parameters.items()
    }
    run = _Run(template.role_arn, stand_in, {**fields, **instead}, is_stand_in=True)
    if pem is None:
        return run
    issued = parse_issued_certificate(pem, "certificate")
    # The result tells whether the certificate is registered.
    change.may("iot:DescribeCertificate", arn_of(change.scope, issued.fingerprint))
    run.context = subject_parameters(issued.parts)
    try:
        ca = await _ca_of(store, change, template, issued, allows, is_registered=is_registered)
    except Disallowed as error:
        # What a certificate with this subject would get is shown nevertheless.
        run.fail("certificate", f"The certificate is not provisioned just in time: {error.reason}")
        run.context = {**run.context, **instead}
        return run
    role = ca.role_arn or template.role_arn
    return _Run(role, issued.certificate, run.context, issued=issued, ca=ca)


async def _ca_of(
    store: Store,
    change: Change,
    template: ProvisioningTemplate,
    issued: IssuedCertificate,
    allows: Allows,
    *,
    is_registered: bool,
) -> CaRegistration:
    """The CA under which a device with the certificate is provisioned with the template. Raises Disallowed."""
    id, own = issued.fingerprint, change.environment.own_authorities
    if is_registered:
        raise Disallowed("certificate", id, "it is registered already")
    candidate = await find_candidate(store, own, change.scope, issued, change.now)
    if candidate is None:
        raise Disallowed("certificate", id, "no CA that the account has registered in this region signed it")
    if candidate.registration is not None:
        raise Disallowed("certificate", id, "it is registered already")
    if candidate.ca.template_name != template.name:
        ca = candidate.ca
        name = f" {ca.fingerprint}" if allows("iot:DescribeCACertificate", ca.arn) else ""
        raise Disallowed("certificate", id, f"its CA certificate{name} does not provision with this template")
    return candidate.ca


def _stand_in(change: Change) -> Certificate:
    """A certificate that exists for one dry run only. Nothing was signed for it."""
    content = secrets.token_bytes(64)
    return Certificate(content, hashlib.sha256(content).hexdigest(), change.now, change.now + _VALIDITY)


async def _executed(store: Store, change: Change, run: _Run, plan: Plan) -> State | None:
    """The state after the plan; None, and a failure of the run, if it cannot be executed.

    Raises Throttled and Unavailable.
    """
    try:
        prepared = await prepare_plan(change, plan)
        asked = dict(run.asked)

        async def body(tx: Transaction) -> State:
            change.ids.restart()
            run.asked = dict(asked)
            if run.is_new:
                await _register(tx, change, run)
            run.before = await _state(tx, change.scope, run, plan)
            await execute_plan(tx, change, prepared, is_dry_run=True)
            return await _state(tx, change.scope, run, plan)

        return await rolled_back(store, body)
    except (Throttled, Unavailable):
        raise
    except DomainError as error:
        run.fail("change", error)
        return None


async def _register(tx: Transaction, change: Change, run: _Run) -> None:
    """Register the certificate as it is before provisioning."""
    if run.ca is None or run.issued is None:
        await register_new(tx, change, NewCertificate(run.certificate, "keys"), Status.PENDING_ACTIVATION)
        return
    try:
        await check_unknown(tx, await get_registered_ca(tx, change.scope, run.ca.fingerprint), run.issued)
    except Disallowed as error:
        # Without the id of the other certificate, which the caller need not be allowed to see.
        raise Disallowed(error.kind, error.id, error.reason.partition(":")[0]) from None
    registration = registration_under(change, run.ca, run.issued, Status.PENDING_ACTIVATION)
    await register(tx, change, registration, run.certificate)


async def _state(tx: Transaction, scope: Scope, run: _Run, plan: Plan) -> State:
    registered = await find_registered(tx, scope, run.certificate.fingerprint)
    id = run.certificate.fingerprint
    thing = await THINGS.find(tx, *scope, plan.thing.name) if plan.thing is not None else None
    found = None
    if thing is not None:
        groups = tuple(group.name for group in await groups_of(tx, scope, thing.name))
        billing = await find_group_of(tx, thing)
        found = ThingState(thing.type, thing.attributes, groups, billing.name if billing is not None else None)
    known = [each.name for each in plan.policies if await DEVICE_POLICIES.find(tx, *scope, each.name) is not None]
    return State(
        thing=found,
        status=registered.registration.status if registered is not None else None,
        things=tuple(await things_of_certificate(tx, scope, id, _MAX_THINGS)),
        attached=tuple(sorted(await attached_policies(tx, scope, Target("cert", id)))),
        policies=frozenset(known),
    )


async def _decided(run: _Run, trial: RoleTrial, *, hides_thing: bool) -> tuple[TriedAction, ...]:
    """With ``hides_thing``, the groups that a thing leaves are not named."""
    decide: Callable[..., TriedAction] = trial.decide
    found: dict[tuple[str, str, bool], TriedAction] = {}
    for (action, resources), context in run.asked.items():
        each = decide(action, resources, context)
        if hides_thing and action == "iot:RemoveThingFromThingGroup" and ":thinggroup/" in each.resource:
            each = TriedAction(action, "a group of the thing", each.allowed, "The group is not shown.")
        found.setdefault((each.action, each.resource, each.allowed), each)
        await asyncio.sleep(0)  # the explanation of a refusal takes milliseconds
    return tuple(found.values())
