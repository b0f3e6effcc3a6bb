"""The models of the endpoints of provisioning and imports."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field

from thingmint.native.schemas import NO_NUL, CertificatePem, Input, Time
from thingmint.services.provisioning_changes import changes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.services import imports
    from thingmint.services.claims import Claim as LiveClaim
    from thingmint.services.provisioning_dry_run import DryRun

TemplateName = Annotated[
    str, Field(pattern="^[0-9A-Za-z_-]{1,36}$", description="The name of a provisioning template.")
]
Address = IPv4Address | IPv6Address
_UUID = "^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"


class SampleParameters(Input):
    """A device, for which the template is run.

    Without `certificate` and `certificate_pem`, a certificate that does not exist stands for the device's.
    """

    template: TemplateName
    version: int | None = Field(None, ge=1, le=10**9, description="A version of the template; without it, the default.")
    document: str | None = Field(
        None,
        min_length=1,
        max_length=10_240,
        json_schema_extra={"format": "provisioning-template"},
        description="A document to try instead of a version's, before it is made a version.",
    )
    parameters: dict[str, Annotated[str, Field(max_length=4096)]] = Field(
        default_factory=dict,
        max_length=200,
        description="What the device sends. Of a JITP template: the fields of its certificate's subject, such as "
        "`AWS::IoT::Certificate::CommonName`.",
    )
    certificate: str | None = Field(
        None, pattern="^[0-9A-Fa-f]{64}$", description="The id of a registered certificate: the device's."
    )
    certificate_pem: CertificatePem | None = Field(
        None, description="The device's certificate in PEM, which is not registered. For JITP templates only."
    )
    client_id: str = Field("", max_length=128, pattern=NO_NUL, description="The MQTT client id, which hooks get.")
    address: Address | None = Field(None, description="The address of the device, for policies with aws:SourceIp.")


class Failure(BaseModel):
    step: Literal["template", "certificate", "parameters", "role", "permission", "change"] = Field(
        description="`permission`: the role may not perform an action. `change`: what exists does not allow it."
    )
    reason: str


class Change(BaseModel):
    subject: str = Field(description="The kind and the name: certificate, policy or thing.")
    what: str
    before: str | None = Field(description="Null if it does not exist.")
    after: str | None


class RoleAction(BaseModel):
    action: str
    resource: str
    allowed: bool
    why: str
    closest: list[str] = Field(description="The statements that deny it, or that came closest to allowing it.")


class DryRunResult(BaseModel):
    """Nothing was changed."""

    succeeds: bool = Field(description="Such a device would be provisioned. A hook, if there is one, decides before.")
    failures: list[Failure] = Field(description="Why not. The device gets the first one.")
    template: str
    version: int | None = Field(description="Null for a document that is no version.")
    role: str = Field(description="The ARN of the role as which the template acts.")
    certificate: str = Field(description="The id of the device's certificate, or of what stands for it.")
    is_stand_in: bool = Field(description="The certificate does not exist.")
    changes: list[Change] = Field(description="What would be made or changed, and what stays. Planned, if it fails.")
    actions: list[RoleAction] = Field(description="What the role needs to be allowed.")
    device_configuration: dict[str, str] = Field(description="What the device would be told.")
    policies: dict[str, str] = Field(description="The documents of the template's own policies, by name.")
    hook_question: dict[str, Any] | None = Field(description="What the pre-provisioning hook would be asked.")

    @classmethod
    def of(cls, run: DryRun, version: int | None) -> DryRunResult:
        plan = run.plan
        return cls(
            succeeds=run.succeeds,
            failures=[Failure(step=each.step, reason=each.reason) for each in run.failures],
            template=run.template.name,
            version=version,
            role=run.role,
            certificate=run.certificate,
            is_stand_in=run.is_stand_in,
            changes=[Change(**each._asdict()) for each in changes_of(run)],
            actions=[
                RoleAction(
                    action=each.action,
                    resource=each.resource,
                    allowed=each.allowed,
                    why=each.why,
                    closest=list(each.closest),
                )
                for each in run.actions
            ],
            device_configuration=dict(plan.device_configuration) if plan is not None else {},
            policies={each.name: each.document for each in plan.policies if each.document} if plan is not None else {},
            hook_question=dict(run.question) if run.question is not None else None,
        )


class ClaimsQuery(Input):
    template: TemplateName


class Claim(BaseModel):
    certificate: str = Field(description="The id of the claim's certificate.")
    created_at: Time
    expires_at: Time


class ClaimList(BaseModel):
    claims: list[Claim]

    @classmethod
    def of(cls, found: Sequence[LiveClaim]) -> ClaimList:
        return cls(
            claims=[
                Claim(certificate=each.fingerprint, created_at=each.created_at, expires_at=each.expires_at)
                for each in found
            ]
        )


class Import(BaseModel):
    id: str
    source: str = Field(description="`aws`, `yandex` or `csv`.")
    origin: str
    state: Literal["running", "interrupted", "ended"] = Field(
        description="`interrupted`: it has told of no progress for a minute."
    )
    done: int = Field(description="How many items are done.")
    total: int | None = Field(description="How many items the source has; null if it does not tell.")
    percentage: int | None
    counts: dict[str, int] = Field(description="How many items had which result, such as `thing.new`.")
    findings: int
    created_at: Time
    modified_at: Time
    finished_at: Time | None

    @classmethod
    def of(cls, found: imports.Import, state: imports.State) -> Import:
        return cls(
            id=found.id,
            source=found.source,
            origin=found.origin,
            state=state,
            done=found.done,
            total=found.total,
            percentage=found.percentage,
            counts=dict(found.counts),
            findings=found.findings,
            created_at=found.created_at,
            modified_at=found.modified_at,
            finished_at=found.finished_at,
        )


class ImportList(BaseModel):
    imports: list[Import] = Field(description="The newest first, 1,000 at most. They are kept for 90 days.")


class FindingsQuery(Input):
    id: str = Field(pattern=_UUID, description="The id of the import.")
    after: int = Field(0, ge=0, le=10**9, description="Findings after this number.")
    limit: int = Field(100, ge=1, le=1000)


class Finding(BaseModel):
    number: int
    kind: str
    outcome: Literal["new", "same", "completed", "conflict", "refused", "noted"]
    subject: str
    reason: str


class FindingList(BaseModel):
    findings: list[Finding]
