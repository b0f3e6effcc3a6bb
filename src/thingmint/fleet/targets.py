"""What a run makes its devices with: a provisioning template, or a registry of Yandex IoT Core."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from thingmint.domain.arns import Scope
from thingmint.domain.errors import AlreadyExists, Disallowed, Invalid, NotFound, Unsupported
from thingmint.domain.ids import IOT, new_id
from thingmint.domain.status import Status
from thingmint.domain.templates import CERTIFICATE_ID, Kind
from thingmint.services.accounts import regions_of
from thingmint.services.bindings import SubmittedCertificate
from thingmint.services.certificates import NewCertificate, register_new
from thingmint.services.device_policies import DEVICE_POLICIES
from thingmint.services.device_registry import (
    DEVICES,
    REGISTRIES,
    Credentials,
    Device,
    create_device,
    get_by_name,
    list_folders,
)
from thingmint.services.functions import is_another_accounts
from thingmint.services.hooks import ask_hook
from thingmint.services.issuing import discard, issue_for_request
from thingmint.services.owners import NAME
from thingmint.services.template_execution import PreparedPlan, execute_plan, prepare_plan
from thingmint.services.templates import TEMPLATES, compile_template, get_template, get_version
from thingmint.services.thing_groups import THING_GROUPS
from thingmint.services.thing_principals import has_principals
from thingmint.services.thing_types import refusal_of_type
from thingmint.services.things import Thing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.domain.certificates import Certificate, SigningRequest
    from thingmint.domain.templates import Plan
    from thingmint.services.change import Change
    from thingmint.services.device_registry import DeviceRegistry
    from thingmint.services.fleet_runs import TargetKind
    from thingmint.services.templates import ProvisioningTemplate, TemplateVersion
    from thingmint.store.engine import Transaction

CSR = "certificate signing request"
"""The name of this input in errors."""

_UNKNOWN = "0" * 64  # instead of the fingerprint of a certificate that is not made yet
_LISTED = 20

_REGISTRIES = f"{REGISTRIES.select}WHERE folder = $1 ORDER BY created_at, id LIMIT $2"


class Target(Protocol):
    """``kind``, ``name`` and ``version`` are those of the run."""

    @property
    def kind(self) -> TargetKind: ...

    @property
    def scope(self) -> Scope: ...

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    def described(self) -> dict[str, Any]:
        """What the command needs to know about it, in JSON."""
        ...

    async def check(self, tx: Transaction, change: Change, name: str, parameters: Mapping[str, str]) -> str:
        """Return the name of the thing, if that is known. Raises a DomainError if the device cannot be made."""
        ...

    async def prepare(
        self, change: Change, name: str, parameters: Mapping[str, str], request: SigningRequest
    ) -> Prepared:
        """Sign the device's certificate. Raises DomainErrors."""
        ...

    async def apply(self, tx: Transaction, change: Change, prepared: Prepared) -> tuple[str, Certificate]:
        """Register the device. Returns the name of its thing or its id, and its certificate. Raises DomainErrors."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A device with its certificate, to be registered. ``made`` is what only its target understands."""

    new: NewCertificate
    made: Any


async def find_target(
    tx: Transaction, account: str, region: str, *, template: str, registry: str, version: int = 0
) -> Target:
    """Return a template with that version, by default its default version, or a registry. Raises DomainErrors."""
    regions = await regions_of(tx, account)
    if not regions:
        raise NotFound("account", account)
    if registry:
        return RegistryTarget(Scope(account, regions[0]), await _get_registry(tx, account, registry))
    if region and region not in regions:
        raise Invalid("region", f"must be one that the account has: {', '.join(regions)}")
    scope = Scope(account, region or regions[0])
    found, current = await _get_template(tx, scope, template)
    return TemplateTarget(found, await get_version(tx, found, version) if version else current)


async def _get_template(tx: Transaction, scope: Scope, name: str) -> tuple[ProvisioningTemplate, TemplateVersion]:
    try:
        template, version = await get_template(tx, scope, name)
    except NotFound:
        names = [each.name for each in await TEMPLATES.page(tx, *scope, after="", limit=_LISTED)]
        there = f"there are {', '.join(names)}" if names else "there are none: make one with CreateProvisioningTemplate"
        raise Unsupported(
            f"provisioning template {name} does not exist in region {scope.region} of account {scope.account}; {there}"
        ) from None
    if template.kind is not Kind.FLEET:
        raise Unsupported(f"provisioning template {name} is of type {template.kind}, and must be {Kind.FLEET}")
    if not template.enabled:
        raise Unsupported(f"provisioning template {name} is not enabled: enable it with UpdateProvisioningTemplate")
    if template.hook_arn is not None and await is_another_accounts(tx, scope.account, template.hook_arn):
        raise Unsupported(f"provisioning template {name} has a pre-provisioning hook of another account")
    return template, version


async def _get_registry(tx: Transaction, account: str, id: str) -> DeviceRegistry:
    found = await REGISTRIES.find(tx, account, id)
    if found is None:
        known: list[DeviceRegistry] = []
        for folder in await list_folders(tx, account):
            known += REGISTRIES.load_all(await tx.fetch_all(_REGISTRIES, folder.id, _LISTED - len(known)))
        there = f"there are {', '.join(f'{each.id} ({each.name})' for each in known)}" if known else "there are none"
        raise Unsupported(f"registry {id} does not exist in account {account}; {there}")
    return found


@dataclass(frozen=True, slots=True)
class TemplateTarget:
    """Things of AWS IoT. The local administrator may do everything, so the template's role is not assumed."""

    template: ProvisioningTemplate
    template_version: TemplateVersion

    kind: TargetKind = "template"

    @property
    def scope(self) -> Scope:
        return self.template.scope

    @property
    def name(self) -> str:
        return self.template.name

    @property
    def version(self) -> int:
        return self.template_version.version

    def described(self) -> dict[str, Any]:
        declared = compile_template(self.template_version.body, self.template.kind).parameters
        own = {name: default for name, default in declared.items() if not name.startswith("AWS::")}
        return {"parameters": own, "has_hook": self.template.hook is not None}

    async def check(self, tx: Transaction, change: Change, name: str, parameters: Mapping[str, str]) -> str:
        plan = self._plan(parameters, _UNKNOWN)
        for group in (plan.thing.groups or ()) if plan.thing is not None else ():
            await THING_GROUPS.get(tx, *self.scope, group)
        for policy in plan.policies:
            if policy.document is None:
                await DEVICE_POLICIES.get(tx, *self.scope, policy.name)
        if plan.thing is None:
            return ""
        if plan.thing.type is not None and (refusal := await refusal_of_type(tx, self.scope, plan.thing.type)):
            raise refusal
        Thing.new(
            self.scope,
            plan.thing.name,
            id=_UNKNOWN,
            type=plan.thing.type,
            attributes=plan.thing.attributes or {},
            now=change.now,
        )
        if _UNKNOWN in plan.thing.name or self.template.hook is not None:
            return ""  # it has the certificate's id, or the hook changes it
        await self._check_has_none(tx, plan.thing.name)
        return plan.thing.name

    async def prepare(
        self, change: Change, name: str, parameters: Mapping[str, str], request: SigningRequest
    ) -> Prepared:
        self._plan(parameters, _UNKNOWN)  # so that nothing is signed for parameters that the template refuses
        new = issue_for_request(change, request, CSR)
        try:
            return Prepared(new, replace(await self._prepare_plan(change, name, parameters, new), new=new))
        except BaseException as error:
            discard(change, new, error)
            raise

    async def _prepare_plan(
        self, change: Change, name: str, parameters: Mapping[str, str], new: NewCertificate
    ) -> PreparedPlan:
        fingerprint = new.certificate.fingerprint
        if self.template.hook is not None:
            question = {
                "claimCertificateId": "",
                "certificateId": fingerprint,
                "certificatePem": new.certificate.pem,
                "templateArn": self.template.arn,
                "clientId": name,
                "parameters": dict(parameters),
            }
            functions = change.environment.functions
            parameters = {**parameters, **await ask_hook(functions, self.scope.account, self.template.hook, question)}
        return await prepare_plan(change, self._plan(parameters, fingerprint))

    async def apply(self, tx: Transaction, change: Change, prepared: Prepared) -> tuple[str, Certificate]:
        plan: PreparedPlan = prepared.made
        if plan.thing is not None:
            await self._check_has_none(tx, plan.thing.name)
        executed = await execute_plan(tx, change, plan)
        return executed.thing or "", prepared.new.certificate

    def _plan(self, parameters: Mapping[str, str], fingerprint: str) -> Plan:
        template = compile_template(self.template_version.body, self.template.kind)
        return template.resolve(parameters, {CERTIFICATE_ID: fingerprint})

    async def _check_has_none(self, tx: Transaction, thing: str) -> None:
        if await has_principals(tx, self.scope, thing):
            raise Disallowed("thing", thing, f"Thing {thing} exists, and has a certificate already")


@dataclass(frozen=True, slots=True)
class RegistryTarget:
    """Devices of Yandex IoT Core. Their certificates are issued here, and bound to them."""

    home: Scope
    registry: DeviceRegistry

    kind: TargetKind = "registry"
    version: int = 0

    @property
    def scope(self) -> Scope:
        return self.home

    @property
    def name(self) -> str:
        return self.registry.id

    def described(self) -> dict[str, Any]:
        return {"parameters": {}, "has_hook": False}

    async def check(self, tx: Transaction, change: Change, name: str, parameters: Mapping[str, str]) -> str:
        if not NAME.fullmatch(name):
            raise Invalid("name", f"must match {NAME.pattern} in a registry")
        try:
            await get_by_name(tx, DEVICES, self.registry, name)
        except NotFound:
            return ""
        raise AlreadyExists("device", name)

    async def prepare(
        self, change: Change, name: str, parameters: Mapping[str, str], request: SigningRequest
    ) -> Prepared:
        device = Device(
            id=new_id(IOT),
            account=self.home.account,
            folder=self.registry.folder,
            name=name,
            description="",
            labels={},
            created_at=change.now,
            registry=self.registry.id,
            topic_aliases={},
        )
        return Prepared(issue_for_request(change, request, CSR), device)

    async def apply(self, tx: Transaction, change: Change, prepared: Prepared) -> tuple[str, Certificate]:
        device: Device = prepared.made
        registered = await register_new(tx, change, prepared.new, Status.ACTIVE)
        certificate = registered.certificate
        await create_device(tx, change, device, Credentials([SubmittedCertificate(certificate, certificate.pem)]))
        return device.id, certificate
