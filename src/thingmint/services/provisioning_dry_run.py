"""Dry runs of provisioning templates: what a template makes for a device, without changing anything.

A dry run executes the template's plan as provisioning does, in a transaction that is rolled back. The actions of the
role are recorded there and decided afterwards, so that a dry run shows all of them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from thingmint.domain.errors import Disallowed, DomainError, Invalid, InvalidTemplate, Throttled, Unavailable
from thingmint.domain.status import Status
from thingmint.domain.templates import Kind
from thingmint.services.ca_certificates import get_registered_ca
from thingmint.services.certificates import NewCertificate, register, register_new
from thingmint.services.certificates_under_ca import registration_under
from thingmint.services.jit_registration import check_unknown
from thingmint.services.provisioning_samples import Failure, begin_run
from thingmint.services.provisioning_state import read_state, without_values
from thingmint.services.template_execution import execute_plan, prepare_plan
from thingmint.services.templates import compile_template
from thingmint.services.things import thing_arn
from thingmint.store.engine import rolled_back

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thingmint.domain.templates import Plan, Template
    from thingmint.services.change import Change
    from thingmint.services.provisioning_samples import Allows, Run, SampleDevice
    from thingmint.services.provisioning_state import State
    from thingmint.services.role_trials import RoleTrial, TriedAction
    from thingmint.services.template_execution import PreparedPlan
    from thingmint.services.templates import ProvisioningTemplate
    from thingmint.store.engine import Store, Transaction

_NO_DRY_RUN = (
    "A template for bulk registration has no dry run: call RegisterThing with it and the parameters of one line, which "
    "makes everything of the line, or nothing and says why"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """``plan`` is None if the template cannot be resolved, ``after`` if the plan cannot be executed.

    ``certificate`` is the id of the device's certificate; ``is_stand_in`` if it stands for one. ``actions`` are what
    the role needs. ``question`` is what the pre-provisioning hook would be asked: a dry run does not call it.
    ``hides_thing``: the caller may not describe the thing, which exists; ``before`` and ``after`` lack what it has, and
    nothing compares that with the template.
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


async def dry_run(
    store: Store, change: Change, template: ProvisioningTemplate, body: str, sample: SampleDevice, allows: Allows
) -> DryRun:
    """Run a template with the document ``body`` for a sample device. The template need not be stored.

    The result tells of a thing and of a CA certificate only what ``allows`` lets the caller describe. Raises
    InvalidTemplate, Denied and NotFound (the sample's certificate), and Invalid for one that cannot be used, and for an
    address that is none.
    """
    _check_address(sample.address)
    compiled = _compiled(body, template.kind)
    run = await begin_run(store, change, template, sample, allows)
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
    may_describe = plan.thing is None or allows("iot:DescribeThing", thing_arn(change.scope, plan.thing.name))
    after = await _executed(store, replace(change, authorize=run.note), run, plan, may_describe=may_describe)
    hides_thing = not may_describe and run.before is not None and run.before.thing is not None
    if hides_thing:
        run.before, after = without_values(run.before), without_values(after)
    actions = await _decided(run, trial)
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


def _compiled(body: str, kind: Kind) -> Template:
    """Raises InvalidTemplate, with advice for a document that is valid for bulk registration only."""
    try:
        return compile_template(body, kind)
    except InvalidTemplate as error:
        if not _is_for_bulk_registration(body):
            raise
        raise InvalidTemplate(f"{error.flaw.rstrip('.')}. {_NO_DRY_RUN}") from None


def _is_for_bulk_registration(body: str) -> bool:
    try:
        compile_template(body, Kind.BULK)
    except InvalidTemplate:
        return False
    return True


def _check_address(address: str | None) -> None:
    """Raises Invalid."""
    try:
        if address is not None:
            ip_address(address)
    except ValueError:
        raise Invalid("address", "must be an IP address") from None


def _question(template: ProvisioningTemplate, run: Run, sample: SampleDevice) -> Mapping[str, object] | None:
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


async def _executed(store: Store, change: Change, run: Run, plan: Plan, *, may_describe: bool) -> State | None:
    """The state after the plan; None, and a failure of the run, if it cannot be executed.

    Without ``may_describe``, nothing compares an existing thing with the plan: failures, and the actions that a
    difference needs, would tell what the thing has. Raises Throttled and Unavailable.
    """
    try:
        prepared = await prepare_plan(change, plan)
        asked = dict(run.asked)

        async def body(tx: Transaction) -> State:
            change.ids.restart()
            run.asked = dict(asked)
            if run.is_new:
                await _register(tx, change, run)
            run.before = await read_state(tx, change.scope, run.certificate.fingerprint, plan)
            is_hidden = run.before.thing is not None and not may_describe
            tested = _without_properties(prepared) if is_hidden else prepared
            await execute_plan(tx, change, tested, is_dry_run=True)
            return await read_state(tx, change.scope, run.certificate.fingerprint, plan)

        return await rolled_back(store, body)
    except (Throttled, Unavailable):
        raise
    except DomainError as error:
        run.fail("change", error)
        return None


def _without_properties(prepared: PreparedPlan) -> PreparedPlan:
    """The plan with nothing of its thing but the name."""
    plan, thing = prepared.plan, prepared.thing
    if plan.thing is None or thing is None:
        return prepared
    planned = replace(plan.thing, type=None, attributes=None, groups=None, billing_group=None)
    return replace(prepared, plan=replace(plan, thing=planned), thing=replace(thing, type=None, attributes={}))


async def _register(tx: Transaction, change: Change, run: Run) -> None:
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


async def _decided(run: Run, trial: RoleTrial) -> tuple[TriedAction, ...]:
    decide: Callable[..., TriedAction] = trial.decide
    found: dict[tuple[str, str, bool], TriedAction] = {}
    for (action, resources), context in run.asked.items():
        each = decide(action, resources, context)
        found.setdefault((each.action, each.resource, each.allowed), each)
        await asyncio.sleep(0)  # the explanation of a refusal takes milliseconds
    return tuple(found.values())
