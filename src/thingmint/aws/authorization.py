"""The resources on which each AWS IoT operation is authorized, found by the names of the input's members.

From AWS's Service Authorization Reference, "Actions, resources, and condition keys for AWS IoT".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thingmint.domain.arns import arn
from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.domain.arns import Scope
    from thingmint.domain.policies import ContextValue

_ARN = re.compile(r"\s*arn:[^:]*:[^:]*:[^:]*:([0-9]{12}):", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """A resource type and the input members that can name it: ``names`` by a name or a list, ``arns`` by an ARN.

    ``default`` is the name if no member has one.
    """

    type: str
    required: bool = True
    names: tuple[str, ...] = ()
    arns: tuple[str, ...] = ()
    default: str | None = None


_PRINCIPAL = Target("cert", required=False, arns=("principal",))
_THING = Target("thing", names=("thingName",))
_MEMBER = Target("thing", names=("thingName",), arns=("thingArn",))
_MEMBERS_GROUP = Target("thinggroup", names=("thingGroupName",), arns=("thingGroupArn",))
_GROUPS = Target("thinggroup", required=False, names=("thingGroupsToAdd", "thingGroupsToRemove"))
_BILLING_GROUP = Target("billinggroup", required=False, names=("billingGroupName",))
_ATTACHED = (
    Target("cert", required=False, arns=("target",)),
    Target("thinggroup", required=False, arns=("target",)),
)


def _each(names: str, *targets: Target) -> dict[str, tuple[Target, ...]]:
    return dict.fromkeys(names.split(), targets)


TARGETS: Mapping[str, tuple[Target, ...]] = {
    **_each(
        "DescribeCertificate UpdateCertificate DeleteCertificate TransferCertificate AcceptCertificateTransfer "
        "RejectCertificateTransfer CancelCertificateTransfer",
        Target("cert", names=("certificateId",)),
    ),
    **_each(
        "DescribeCACertificate UpdateCACertificate DeleteCACertificate", Target("cacert", names=("certificateId",))
    ),
    **_each(
        "CreateCertificateProvider DescribeCertificateProvider UpdateCertificateProvider DeleteCertificateProvider",
        Target("certificateprovider", names=("certificateProviderName",)),
    ),
    **_each(
        "CreatePolicy GetPolicy DeletePolicy ListTargetsForPolicy CreatePolicyVersion GetPolicyVersion "
        "ListPolicyVersions DeletePolicyVersion SetDefaultPolicyVersion",
        Target("policy", names=("policyName",)),
    ),
    **_each("AttachPolicy DetachPolicy", *_ATTACHED),
    **_each(
        "AttachPrincipalPolicy DetachPrincipalPolicy GetEffectivePolicies TestAuthorization "
        "AttachThingPrincipal DetachThingPrincipal ListPrincipalThings ListPrincipalThingsV2",
        _PRINCIPAL,
    ),
    **_each("CreateThing", _THING, _BILLING_GROUP),
    **_each(
        "DescribeThing UpdateThing DeleteThing GetThingConnectivityData "
        "ListThingGroupsForThing ListThingPrincipals ListThingPrincipalsV2",
        _THING,
    ),
    **_each(
        "CreateThingType DescribeThingType UpdateThingType DeprecateThingType DeleteThingType",
        Target("thingtype", names=("thingTypeName",)),
    ),
    **_each(
        "CreateThingGroup DescribeThingGroup UpdateThingGroup DeleteThingGroup ListThingsInThingGroup",
        Target("thinggroup", names=("thingGroupName",)),
    ),
    **_each("AddThingToThingGroup RemoveThingFromThingGroup", _MEMBER, _MEMBERS_GROUP),
    **_each(
        "CreateBillingGroup DescribeBillingGroup UpdateBillingGroup DeleteBillingGroup ListThingsInBillingGroup",
        Target("billinggroup", names=("billingGroupName",)),
    ),
    **_each(
        "AddThingToBillingGroup RemoveThingFromBillingGroup",
        _MEMBER,
        Target("billinggroup", names=("billingGroupName",), arns=("billingGroupArn",)),
    ),
    **_each("UpdateThingGroupsForThing", _THING, _GROUPS),
    **_each(
        "CreateProvisioningTemplate DescribeProvisioningTemplate UpdateProvisioningTemplate DeleteProvisioningTemplate "
        "CreateProvisioningTemplateVersion DescribeProvisioningTemplateVersion ListProvisioningTemplateVersions "
        "DeleteProvisioningTemplateVersion CreateProvisioningClaim",
        Target("provisioningtemplate", names=("templateName",)),
    ),
    **_each(
        "CreateDomainConfiguration DescribeDomainConfiguration UpdateDomainConfiguration DeleteDomainConfiguration",
        Target("domainconfiguration", names=("domainConfigurationName",)),
    ),
    **_each(
        "CreateRoleAlias DescribeRoleAlias UpdateRoleAlias DeleteRoleAlias", Target("rolealias", names=("roleAlias",))
    ),
    **_each(
        "CreateAuthorizer DescribeAuthorizer UpdateAuthorizer DeleteAuthorizer TestInvokeAuthorizer "
        "SetDefaultAuthorizer",
        Target("authorizer", names=("authorizerName",)),
    ),
    **_each("DescribeIndex", Target("index", names=("indexName",))),
    **_each("SearchIndex", Target("index", names=("indexName",), default="AWS_Things")),
    **_each("TagResource UntagResource ListTagsForResource", Target("", arns=("resourceArn",))),
}
"""The resource types of each operation, with the input members that name them. The other operations have none."""

DATA_TARGETS: Mapping[str, tuple[Target, ...]] = {
    **_each("Publish GetRetainedMessage", Target("topic", names=("topic",))),
    **_each(
        "GetConnection DeleteConnection ListSubscriptions SendDirectMessage", Target("client", names=("clientId",))
    ),
    **_each("GetThingShadow UpdateThingShadow DeleteThingShadow ListNamedShadowsForThing", _THING),
}
"""The same for the operations of the data plane."""

ROLES: Mapping[str, tuple[str, ...]] = {
    "RegisterCACertificate": ("registrationConfig", "roleArn"),
    "UpdateCACertificate": ("registrationConfig", "roleArn"),
    "CreateProvisioningTemplate": ("provisioningRoleArn",),
    "UpdateProvisioningTemplate": ("provisioningRoleArn",),
    "StartThingRegistrationTask": ("roleArn",),
    "CreateRoleAlias": ("roleArn",),
    "UpdateRoleAlias": ("roleArn",),
}
"""The path of the input member with a role's ARN, on which the caller needs ``iam:PassRole``."""


def resource_arns(
    operation: str, members: Mapping[str, Any], scope: Scope, known: Mapping[str, tuple[Target, ...]] = TARGETS
) -> tuple[str, ...]:
    """The ARNs on which the caller must be allowed (on all of them); ``*`` if the input names none.

    The ARN of a domain configuration ends in an id that the input does not contain. Add it to the input as
    ``domainConfigurationId``; otherwise the ARN ends in ``*``. Raises Invalid if a required name is missing.
    """
    targets = known.get(operation)
    if targets is None:
        return ("*",)
    found: dict[str, None] = {}
    for target in targets:
        named = dict.fromkeys(_named(target, members, scope))
        if target.required and not named:
            raise Invalid((target.names + target.arns)[0], "is required")
        found |= named
    return tuple(found) or ("*",)


def _named(target: Target, members: Mapping[str, Any], scope: Scope) -> Iterator[str]:
    for member in target.names:
        value = members.get(member) or target.default or ()
        for name in (value,) if isinstance(value, str) else value:
            if target.type in ("cert", "cacert"):
                name = name.lower()  # noqa: PLW2901 - clients send an id's hex digits in either case
            elif target.type == "domainconfiguration":
                name = f"{name}/{members.get('domainConfigurationId', '*')}"  # noqa: PLW2901
            yield arn(scope, f"{target.type}/{name}")
    for member in target.arns:
        given = members.get(member)
        if not given:
            continue
        parts = given.split(":", 5)
        kind, _, name = parts[5].partition("/") if len(parts) == 6 and parts[2] == "iot" else ("", "", "")
        if kind == "cert":
            given = ":".join((*parts[:5], f"cert/{name.lower()}"))
        if target.type in ("", kind):
            yield given


def request_context(operation: str, members: Mapping[str, Any], scope: Scope) -> dict[str, ContextValue]:
    """The condition keys whose values are in the input: tags, ``iot:thingArn`` and ``iot:DomainName``."""
    context: dict[str, ContextValue] = {}
    tags = members.get("tags") or ()
    keys = [tag["Key"] for tag in tags] or list(members.get("tagKeys") or ())
    if keys:
        context["aws:TagKeys"] = keys
    for tag in tags:
        context[f"aws:RequestTag/{tag['Key']}"] = tag.get("Value", "")
    if operation in ("AttachThingPrincipal", "DetachThingPrincipal") and "thingName" in members:
        context["iot:thingArn"] = arn(scope, f"thing/{members['thingName']}")
    if operation == "CreateDomainConfiguration" and "domainName" in members:
        context["iot:DomainName"] = members["domainName"]
    return context


def passed_role(operation: str, members: Mapping[str, Any]) -> str | None:
    """The ARN of the role that the input passes to AWS IoT, or None."""
    path = ROLES.get(operation)
    if path is None:
        return None
    value: Any = members
    for member in path:
        value = value.get(member) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None


def is_own_role(role: str, scope: Scope) -> bool:
    """False if ``role`` is an ARN of another account. Text that is not an ARN passes: it cannot name a role."""
    match = _ARN.match(role)
    return match is None or match[1] == scope.account
