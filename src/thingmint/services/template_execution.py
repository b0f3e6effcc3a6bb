"""Executes the plan of a provisioning template: all effects in one transaction, each of them authorized.

``prepare_plan`` does the work that needs no store, before the transaction. ``execute_plan`` does the rest in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.arns import arn
from thingmint.domain.certificates import parse_csr
from thingmint.domain.errors import (
    Disallowed,
    DomainError,
    InvalidParameters,
    ProvisioningFailed,
    Throttled,
    Unavailable,
)
from thingmint.domain.keys import CSR_KEYS
from thingmint.domain.status import Status
from thingmint.domain.templates import FromCsr, FromPem, Override
from thingmint.services.billing_groups import BILLING_GROUPS, put_in_group
from thingmint.services.certificates import (
    NewCertificate,
    change_status,
    find_by_serial,
    get_registered,
    new_registration,
    record_obstacle,
    register,
)
from thingmint.services.certificates_under_ca import (
    issuer_of,
    parse_issued,
    registration_under,
    sole_issuer_of,
)
from thingmint.services.device_policies import (
    DEVICE_POLICIES,
    Target,
    attach_policy,
    check_document,
    insert_policy,
    new_policy,
)
from thingmint.services.issuing import discard, issue_for_request
from thingmint.services.thing_group_members import groups_of, update_groups
from thingmint.services.thing_principals import attach_to_known
from thingmint.services.things import AttributeChange, Thing, insert_thing, update_thing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thingmint.domain.ca_certificates import CaCertificate
    from thingmint.domain.certificates import Certificate, IssuedCertificate
    from thingmint.domain.policies import ContextValue
    from thingmint.domain.templates import CertificatePlan, Plan, ThingPlan
    from thingmint.services.certificates import Registration
    from thingmint.services.change import Change
    from thingmint.services.device_policies import DevicePolicy, PolicyVersion
    from thingmint.services.thing_principals import PrincipalType
    from thingmint.store.engine import Transaction

_CSR = "CertificateSigningRequest"

_log = structlog.get_logger("thingmint.provisioning")

AsRole = Callable[[str, str], Awaitable["Change"]]
"""Returns the change with the permissions of a role. Arguments: the ARNs of the role and of the template or CA.

Raises Denied if the role cannot be assumed.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPlan:
    """``new`` is a certificate to register: signed here, or ``issued`` by another CA, which may be ``given``.

    ``thing`` and ``policies`` are created unless they exist.
    """

    plan: Plan
    thing: Thing | None
    new: NewCertificate | None
    issued: IssuedCertificate | None
    given: CaCertificate | None
    policies: tuple[tuple[DevicePolicy, PolicyVersion], ...]


@dataclass(frozen=True, slots=True)
class Executed:
    """The result of a plan. ``arns`` are by the resources' names in the template."""

    thing: str | None
    certificate: Certificate | None
    arns: Mapping[str, str]
    device_configuration: Mapping[str, str]


@contextlib.contextmanager
def provisioning_failures(*passed: type[DomainError]) -> Iterator[None]:
    """Convert the errors of effects to ProvisioningFailed. Errors in ``passed`` are raised unchanged."""
    unchanged: tuple[type[DomainError], ...] = (InvalidParameters, Throttled, Unavailable, *passed)
    try:
        yield
    except unchanged:
        raise
    except DomainError as error:
        raise ProvisioningFailed(error) from error


async def prepare_plan(change: Change, plan: Plan) -> PreparedPlan:
    """Prepare a plan. Raises Denied, Invalid and its subclasses, and NotFound."""
    thing, planned = None, plan.thing
    if planned is not None:
        id, attributes = str(uuid.uuid4()), planned.attributes or {}
        thing = Thing.new(change.scope, planned.name, id=id, type=planned.type, attributes=attributes, now=change.now)
    new = request = issued = given = None
    source = plan.certificate.source if plan.certificate is not None else None
    if isinstance(source, FromCsr):
        change.may("iot:CreateCertificateFromCsr")
        request = parse_csr(source.csr, _CSR, CSR_KEYS)
    elif isinstance(source, FromPem):
        issued, given = parse_issued(change, source.pem, "CertificatePem", source.ca_pem, "CACertificatePem")
        new = NewCertificate(issued.certificate, "registered", obstacle=issued.obstacle)
    policies = []
    for policy in plan.policies:
        if policy.document is not None:
            check_document(change.scope, policy.name, policy.document)
            made = new_policy(change.scope, policy.name, policy.document, change.now, lambda: str(uuid.uuid4()))
            policies.append(made)
            await asyncio.sleep(0)  # checking a document takes milliseconds, and a template can have a hundred
    if request is not None:
        new = issue_for_request(change, request, _CSR)  # last, so that nothing is signed for a refused plan
    return PreparedPlan(plan=plan, thing=thing, new=new, issued=issued, given=given, policies=tuple(policies))


def discard_plan(change: Change, prepared: PreparedPlan, error: BaseException | None) -> None:
    """Log and count the certificate of a plan that was not executed."""
    if prepared.new is not None:
        discard(change, prepared.new, error)


async def execute_plan(
    tx: Transaction, change: Change, prepared: PreparedPlan, *, is_dry_run: bool = False
) -> Executed:
    """Execute a plan. If it raises, the transaction is rolled back, so the plan has no effect.

    A dry run logs nothing: its caller rolls the transaction back.

    A registered certificate that is PENDING_ACTIVATION gets the plan's status. For another status, the plan's override
    decides. Without an override, the status stays, which is logged: a device must not undo an operator's change. But if
    a caller's own template sets a status, it is set, unless the certificate was revoked. An existing thing must match
    the template, unless an override says otherwise. A device's own certificate is registered under the given CA
    certificate; if none is given, under the account's only ACTIVE CA certificate that signed it, if there is one.

    Raises Denied, NotFound, Disallowed, InvalidState, LimitExceeded and Invalid.
    """
    return await TemplateExecutor(tx, change, prepared, is_dry_run=is_dry_run).run()


class TemplateExecutor:
    """One execution of a plan."""

    def __init__(self, tx: Transaction, change: Change, prepared: PreparedPlan, *, is_dry_run: bool) -> None:
        self._is_dry_run = is_dry_run
        self._tx = tx
        self._change = change
        self._scope, self._now = change.scope, change.now
        self._prepared = prepared
        self._arns: dict[str, str] = {}

    async def run(self) -> Executed:
        plan = self._prepared.plan
        certificate = await self._certificate(plan.certificate) if plan.certificate is not None else None
        await self._policies(plan, certificate)
        if plan.thing is not None:
            await self._thing(plan.thing, certificate)
        return Executed(plan.thing.name if plan.thing else None, certificate, self._arns, plan.device_configuration)

    async def _certificate(self, plan: CertificatePlan) -> Certificate:
        tx, new = self._tx, self._prepared.new
        if new is not None:
            registration = await self._new_registration(new, plan.status)
            if await register(tx, self._change, registration, new.certificate):
                self._arns[plan.logical_id] = registration.arn
                await record_obstacle(tx, self._change.account, new.obstacle)
                return new.certificate
        fingerprint = new.certificate.fingerprint if new is not None else plan.name
        assert fingerprint is not None, "an existing certificate has a name"
        registration, certificate = await get_registered(tx, self._scope, fingerprint)
        self._arns[plan.logical_id] = registration.arn
        await self._set_status(registration, plan)
        return certificate

    async def _new_registration(self, new: NewCertificate, status: Status) -> Registration:
        """Return the registration for ``new``, which is used unless the certificate already has one."""
        tx, scope, issued, given = self._tx, self._scope, self._prepared.issued, self._prepared.given
        if issued is None:
            return new_registration(self._change, new, status)
        if given is not None:
            # Authorize before the search: unauthorized callers must not learn which CAs are registered.
            self._authorize("RegisterCertificate")
            ca = await issuer_of(tx, scope, issued, given)
        else:
            # AWS does not document which of the two RegisterThing does. If the CA is certain, the certificate is
            # registered under it, so that ListCertificatesByCA finds it.
            found = await sole_issuer_of(tx, scope, issued)
            self._authorize("RegisterCertificate" if found is not None else "RegisterCertificateWithoutCA")
            if found is None:
                return new_registration(self._change, new, status)
            ca = found
        known = await find_by_serial(tx, scope, ca.fingerprint, issued.serial)
        if known not in (None, issued.fingerprint):
            reason = f"A certificate of that CA and serial number is registered already. Id: {known}"
            raise Disallowed("certificate", issued.fingerprint, reason)
        return registration_under(self._change, ca, issued, status)

    async def _set_status(self, registration: Registration, plan: CertificatePlan) -> None:
        # If unbinding set INACTIVE, replacing it by INACTIVE is a change: binding again does not make it ACTIVE then.
        replaces = plan.status_override is Override.REPLACE and registration.deactivated_by is not None
        if registration.status is plan.status and not replaces:
            return
        if registration.status is not Status.PENDING_ACTIVATION:
            if plan.status_override is Override.FAIL:
                reason = f"Certificate has status {registration.status} already. Id: {registration.fingerprint}"
                raise Disallowed("certificate", registration.fingerprint, reason)
            if plan.status_override is not Override.REPLACE and not self._decides(registration, plan):
                if not self._is_dry_run:
                    self._log_kept_status(registration, plan)
                return
        self._authorize("UpdateCertificate", registration.arn)
        reinstate = self._change.environment.reinstate_revoked
        await change_status(self._tx, registration, plan.status, self._now, reinstate=reinstate)

    def _decides(self, registration: Registration, plan: CertificatePlan) -> bool:
        """True if the caller's own template sets the status. AWS's guide has no default for a missing override."""
        stated = self._prepared.plan.callers and plan.stated and plan.status_override is None
        return stated and registration.status is not Status.REVOKED

    def _log_kept_status(self, registration: Registration, plan: CertificatePlan) -> None:
        _log.warning(
            "certificate_status_kept",
            account=self._scope.account,
            certificate=registration.fingerprint,
            status=registration.status.value,
            status_in_template=plan.status.value,
            advice='to change it, the template needs "OverrideSettings": {"Status": "REPLACE"}',
        )

    async def _policies(self, plan: Plan, certificate: Certificate | None) -> None:
        tx, scope = self._tx, self._scope
        for policy, version in self._prepared.policies:
            if await DEVICE_POLICIES.find(tx, *scope, policy.name) is None:
                self._authorize("CreatePolicy", policy.arn)
                await insert_policy(tx, policy, version)
        for planned in plan.policies:
            self._arns[planned.logical_id] = (await DEVICE_POLICIES.get(tx, *scope, planned.name)).arn
            if certificate is not None:
                target = Target("cert", certificate.fingerprint)
                self._authorize("AttachPolicy", target.arn(scope))
                await attach_policy(tx, scope, planned.name, target, self._now)

    async def _thing(self, plan: ThingPlan, certificate: Certificate | None) -> None:
        tx, scope, new = self._tx, self._scope, self._prepared.thing
        assert new is not None, "prepare_plan prepares every planned thing"
        if plan.billing_group is not None:
            for resource in (new.arn, arn(scope, f"billinggroup/{plan.billing_group}")):
                self._authorize("AddThingToBillingGroup", resource)
            new = replace(new, billing_group=(await BILLING_GROUPS.get(tx, *scope, plan.billing_group)).id)
        existing = await insert_thing(tx, self._change, new, lambda: self._authorize("CreateThing", new.arn))
        if existing is not None:
            await self._change_thing(existing, plan)
            if plan.billing_group is not None:
                differs = existing.billing_group != new.billing_group
                if _is_to_change("BillingGroup", existing, plan.overrides.billing_group, differs=differs):
                    await put_in_group(tx, self._change, plan.name, plan.billing_group)
        await self._join_groups(plan, existing=existing is not None)
        self._arns[plan.logical_id] = new.arn
        if certificate is not None:
            planned = self._prepared.plan.certificate
            assert planned is not None
            principal = Target("cert", certificate.fingerprint).arn(scope)
            self._authorize("AttachThingPrincipal", principal, context={"iot:thingArn": new.arn})
            type: PrincipalType | None = "EXCLUSIVE_THING" if planned.exclusive else None
            await attach_to_known(tx, scope, plan.name, certificate.fingerprint, self._now, type=type)

    async def _change_thing(self, thing: Thing, plan: ThingPlan) -> None:
        attributes, type = None, None
        if plan.attributes is not None:
            merge = plan.overrides.attributes is Override.MERGE
            attributes = AttributeChange(plan.attributes, merge=merge)
            differs = attributes.applied(thing.attributes, "AttributePayload") != thing.attributes
            if not _is_to_change("AttributePayload", thing, plan.overrides.attributes, differs=differs):
                attributes = None
        if plan.type is not None and _is_to_change(
            "ThingTypeName", thing, plan.overrides.type, differs=plan.type != thing.type
        ):
            type = plan.type
        if attributes is not None or type is not None:
            self._authorize("UpdateThing", thing.arn)
            await update_thing(self._tx, self._change, thing.name, type=type, attributes=attributes)

    async def _join_groups(self, plan: ThingPlan, *, existing: bool) -> None:
        if plan.groups is None:
            return
        override = plan.overrides.groups if existing else None
        known = [group.name for group in await groups_of(self._tx, self._scope, plan.name)]
        add = [group for group in plan.groups if group not in known]
        # Without an override, the groups are added to the thing's other groups, as AddThingToThingGroup does.
        remove = [group for group in known if group not in plan.groups] if override is Override.REPLACE else []
        if override is Override.FAIL and set(known) != set(plan.groups):
            raise Disallowed("thing", plan.name, f"Thing {plan.name} already exists with another ThingGroups")
        if override is Override.DO_NOTHING:
            return
        thing = arn(self._scope, f"thing/{plan.name}")
        for action, groups in (("RemoveThingFromThingGroup", remove), ("AddThingToThingGroup", add)):
            for group in groups:
                self._authorize(action, thing)
                self._authorize(action, arn(self._scope, f"thinggroup/{group}"))
        await update_groups(self._tx, self._change, plan.name, add=add, remove=remove)

    def _authorize(self, action: str, resource: str = "*", context: Mapping[str, ContextValue] | None = None) -> None:
        """Authorize as if AWS IoT's operation of that name were called. Raises Denied."""
        self._change.may(f"iot:{action}", resource, context=context)


def _is_to_change(property: str, thing: Thing, override: Override | None, *, differs: bool) -> bool:
    """True if the property is to be changed. Raises Disallowed if a difference is not allowed."""
    if not differs or override is Override.DO_NOTHING:
        return False
    if override in (None, Override.FAIL):
        # AWS documents no default. CreateThing refuses a configuration that differs, so this does too.
        raise Disallowed("thing", thing.name, f"Thing {thing.name} already exists with another {property}")
    return True
