"""Making a template's plan come true: every effect of it in one transaction, and each one authorized.

What needs no look at the store (keys, ids, times, whether a policy's text is one) is done by ``prepare_plan``, before
the transaction; ``apply_plan`` is the rest, within it.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.domain.arns import arn
from thingmint.domain.ca_certificates import parse_ca_certificate
from thingmint.domain.certificates import parse_csr, parse_issued_certificate
from thingmint.domain.errors import Disallowed, NotFound
from thingmint.domain.issuing_ca import CertificateRequest
from thingmint.domain.keys import CSR_KEYS
from thingmint.domain.status import Status
from thingmint.domain.template import FromCsr, FromPem, Override, Registered
from thingmint.services.ca_certificates import issuer_of, registration_under, sole_issuer_of
from thingmint.services.certificates import Registration, change_status, find_by_serial, get_registered, register
from thingmint.services.device_policies import (
    DEVICE_POLICIES,
    Target,
    attach_policy,
    check_document,
    insert_policy,
    new_policy,
)
from thingmint.services.thing_groups import groups_of, update_groups
from thingmint.services.thing_principals import attach_principal
from thingmint.services.things import THINGS, AttributeChange, Thing, create_thing, update_thing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from thingmint.domain.ca_certificates import CaCertificate
    from thingmint.domain.certificates import Certificate, IssuedCertificate
    from thingmint.domain.issuing_ca import CertificateAuthority
    from thingmint.domain.policy import ContextValue
    from thingmint.domain.registration import Scope
    from thingmint.domain.template import CertificatePlan, Plan, ThingPlan
    from thingmint.services.change import Authorize
    from thingmint.services.device_policies import DevicePolicy, PolicyVersion
    from thingmint.services.quotas import Quotas
    from thingmint.services.thing_principals import PrincipalType
    from thingmint.store.engine import Transaction

__all__ = ["Applied", "NewCertificate", "PreparedPlan", "apply_plan", "prepare_plan"]


@dataclass(frozen=True, slots=True)
class NewCertificate:
    """``issued`` is there if the device brings it along, ``given`` if its CA's came with it.

    The registration is then the one that it gets if no CA of the account is found to have signed it.
    """

    registration: Registration
    certificate: Certificate
    issued: IssuedCertificate | None = None
    given: CaCertificate | None = None


@dataclass(frozen=True, slots=True)
class PreparedPlan:
    """``certificate`` is a new one to be registered, ``policies`` those to be made unless they are there."""

    scope: Scope
    plan: Plan
    now: datetime
    thing: Thing | None
    certificate: NewCertificate | None
    policies: tuple[tuple[DevicePolicy, PolicyVersion], ...]


@dataclass(frozen=True, slots=True)
class Applied:
    """What a plan came to; ``arns`` by the resources' names in the template."""

    thing: str | None
    certificate: Certificate | None
    arns: Mapping[str, str]
    device_configuration: Mapping[str, str]


def prepare_plan(
    scope: Scope, plan: Plan, now: datetime, authority: CertificateAuthority, authorize: Authorize
) -> PreparedPlan:
    """Raises Denied, Invalid and its kinds, and NotFound."""
    thing = None
    if plan.thing is not None:
        if plan.thing.billing_group is not None:
            raise NotFound("billing group", plan.thing.billing_group)  # there are none
        thing = Thing.new(
            scope,
            plan.thing.name,
            id=str(uuid.uuid4()),
            type=plan.thing.type,
            attributes=plan.thing.attributes or {},
            now=now,
        )
    certificate = None
    if plan.certificate is not None and not isinstance(plan.certificate.source, Registered):
        certificate = _new_certificate(scope, plan.certificate, now, authority, authorize)
    policies = []
    for policy in plan.policies:
        if policy.document is not None:
            check_document(policy.name, policy.document)
            policies.append(new_policy(scope, policy.name, policy.document, now, lambda: str(uuid.uuid4())))
    return PreparedPlan(scope, plan, now, thing, certificate, tuple(policies))


async def apply_plan(
    tx: Transaction,
    prepared: PreparedPlan,
    authorize: Authorize,
    *,
    quotas: Quotas,
    reinstate_revoked: bool = False,
) -> Applied:
    """Everything or, as the transaction is given up then, nothing.

    A registered certificate may be in any status, and comes out in the plan's if it is PENDING_ACTIVATION; else the
    plan's override decides, and without one its status stays. A thing that is there has to be as the template says,
    unless an override says otherwise. A certificate that a device brings along is registered under the authority whose
    certificate is given with it; without that under the account's only ACTIVE one that signed it, if there is one.

    Raises Denied, NotFound, Disallowed, InvalidState, LimitExceeded and Invalid.
    """
    return await _Work(tx, prepared, authorize, quotas, reinstate_revoked).run()


def _new_certificate(
    scope: Scope, plan: CertificatePlan, now: datetime, authority: CertificateAuthority, authorize: Authorize
) -> NewCertificate:
    generation = str(uuid.uuid4())
    if isinstance(plan.source, FromCsr):
        authorize("iot:CreateCertificateFromCsr", ("*",), {})
        csr = parse_csr(plan.source.csr, "CertificateSigningRequest", CSR_KEYS)
        certificate = authority.sign(authority.prepare(CertificateRequest(csr.subject, csr.public_key), now))
        registration = Registration(scope, certificate.fingerprint, plan.status, "DEFAULT", "csr", now, now, generation)
        return NewCertificate(registration, certificate)
    assert isinstance(plan.source, FromPem)
    issued = parse_issued_certificate(plan.source.pem, "CertificatePem")
    given = parse_ca_certificate(plan.source.ca_pem, "CACertificatePem") if plan.source.ca_pem is not None else None
    registration = Registration(scope, issued.fingerprint, plan.status, "SNI_ONLY", "registered", now, now, generation)
    return NewCertificate(registration, issued.certificate, issued, given)


class _Work:
    """One application of a plan."""

    def __init__(
        self,
        tx: Transaction,
        prepared: PreparedPlan,
        authorize: Authorize,
        quotas: Quotas,
        reinstate_revoked: bool,
    ) -> None:
        self._tx = tx
        self._prepared = prepared
        self._scope = prepared.scope
        self._now = prepared.now
        self._authorize = authorize
        self._quotas = quotas
        self._reinstate_revoked = reinstate_revoked
        self._arns: dict[str, str] = {}

    async def run(self) -> Applied:
        plan = self._prepared.plan
        certificate = await self._certificate(plan.certificate) if plan.certificate is not None else None
        await self._policies(plan, certificate)
        if plan.thing is not None:
            await self._thing(plan.thing, certificate)
        return Applied(plan.thing.name if plan.thing else None, certificate, self._arns, plan.device_configuration)

    async def _certificate(self, plan: CertificatePlan) -> Certificate:
        tx, new = self._tx, self._prepared.certificate
        if new is not None:
            beginning = await self._begin(new)
            if await register(tx, beginning, new.certificate, self._quotas):
                self._arns[plan.logical_id] = beginning.arn
                return new.certificate
        fingerprint = new.certificate.fingerprint if new is not None else plan.name
        assert fingerprint is not None, "what is not new has a name"
        registration, certificate = await get_registered(tx, self._scope, fingerprint)
        self._arns[plan.logical_id] = registration.arn
        await self._set_status(registration, plan)
        return certificate

    async def _begin(self, new: NewCertificate) -> Registration:
        """The registration that ``new`` gets unless it has one."""
        tx, scope, issued = self._tx, self._scope, new.issued
        if issued is None:
            return new.registration
        if new.given is not None:
            # Before anything is looked up: whoever may not register is not told which authorities there are.
            self._may("RegisterCertificate")
            ca = await issuer_of(tx, scope, issued, new.given)
        else:
            # AWS does not say which of the two RegisterThing does. Where the authority is known and beyond doubt, its
            # devices are to be found under it, and to lose access with it, however they were registered.
            found = await sole_issuer_of(tx, scope, issued)
            self._may("RegisterCertificate" if found is not None else "RegisterCertificateWithoutCA")
            if found is None:
                return new.registration
            ca = found
        known = await find_by_serial(tx, scope, ca.fingerprint, issued.serial)
        if known not in (None, issued.fingerprint):
            reason = f"A certificate of that CA and serial number is registered already. Id: {known}"
            raise Disallowed("certificate", issued.fingerprint, reason)
        return registration_under(ca, issued, new.registration.status, self._now, new.registration.generation)

    async def _set_status(self, registration: Registration, plan: CertificatePlan) -> None:
        if registration.status is plan.status:
            return
        if registration.status is not Status.PENDING_ACTIVATION:
            if plan.status_override is Override.FAIL:
                reason = f"Certificate has status {registration.status} already. Id: {registration.fingerprint}"
                raise Disallowed("certificate", registration.fingerprint, reason)
            if plan.status_override is not Override.REPLACE:
                return
        self._may("UpdateCertificate", registration.arn)
        await change_status(self._tx, registration, plan.status, self._now, reinstate=self._reinstate_revoked)

    async def _policies(self, plan: Plan, certificate: Certificate | None) -> None:
        tx, scope = self._tx, self._scope
        for policy, version in self._prepared.policies:
            if await DEVICE_POLICIES.find(tx, *scope, policy.name) is None:
                self._may("CreatePolicy", policy.arn)
                await insert_policy(tx, policy, version)
        for planned in plan.policies:
            self._arns[planned.logical_id] = (await DEVICE_POLICIES.get(tx, *scope, planned.name)).arn
            if certificate is not None:
                target = Target("cert", certificate.fingerprint)
                self._may("AttachPolicy", target.arn(scope))
                await attach_policy(tx, scope, planned.name, target, self._now)

    async def _thing(self, plan: ThingPlan, certificate: Certificate | None) -> None:
        tx, scope, new = self._tx, self._scope, self._prepared.thing
        assert new is not None, "a thing that is planned was prepared"
        existing = await THINGS.find(tx, *scope, plan.name)
        if existing is None:
            self._may("CreateThing", new.arn)
            await create_thing(tx, new)
        else:
            await self._change_thing(existing, plan)
        await self._join_groups(plan, existing=existing is not None)
        self._arns[plan.logical_id] = new.arn
        if certificate is not None:
            planned = self._prepared.plan.certificate
            assert planned is not None
            principal = Target("cert", certificate.fingerprint).arn(scope)
            self._may("AttachThingPrincipal", principal, context={"iot:thingArn": new.arn})
            type: PrincipalType | None = "EXCLUSIVE_THING" if planned.exclusive else None
            await attach_principal(tx, scope, plan.name, certificate.fingerprint, self._now, type=type)

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
            self._may("UpdateThing", thing.arn)
            await update_thing(self._tx, thing.scope, thing.name, self._now, type=type, attributes=attributes)

    async def _join_groups(self, plan: ThingPlan, *, existing: bool) -> None:
        if plan.groups is None:
            return
        override = plan.overrides.groups if existing else None
        known = [group.name for group in await groups_of(self._tx, self._scope, plan.name)]
        add = [group for group in plan.groups if group not in known]
        # Without a word on it, what AddThingToThingGroup does to a thing that is in groups already: one more.
        remove = [group for group in known if group not in plan.groups] if override is Override.REPLACE else []
        if override is Override.FAIL and set(known) != set(plan.groups):
            raise Disallowed("thing", plan.name, f"Thing {plan.name} already exists with another ThingGroups")
        if override is Override.DO_NOTHING:
            return
        thing = arn(self._scope, f"thing/{plan.name}")
        for action, groups in (("RemoveThingFromThingGroup", remove), ("AddThingToThingGroup", add)):
            for group in groups:
                self._may(action, thing)
                self._may(action, arn(self._scope, f"thinggroup/{group}"))
        await update_groups(self._tx, self._scope, plan.name, self._now, add=add, remove=remove)

    def _may(self, action: str, resource: str = "*", context: Mapping[str, ContextValue] | None = None) -> None:
        """As if AWS IoT's operation of that name were called by itself. Raises Denied."""
        self._authorize(f"iot:{action}", (resource,), context or {})


def _is_to_change(property: str, thing: Thing, override: Override | None, *, differs: bool) -> bool:
    """Raises Disallowed where a difference is not to be."""
    if not differs or override is Override.DO_NOTHING:
        return False
    if override in (None, Override.FAIL):
        # AWS names no default. CreateThing refuses another configuration than the one that there is, and so do we.
        raise Disallowed("thing", thing.name, f"Thing {thing.name} already exists with another {property}")
    return True
