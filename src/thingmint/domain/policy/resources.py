"""Which resources an AWS IoT operation is authorized on, and how much it may do there.

From AWS's Service Authorization Reference, "Actions, resources, and condition keys for AWS IoT": the access level, and
the resource types with the input member that names each. An operation without types is authorized on ``*``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.domain.policy.requests import Scalar

__all__ = ["DOOR", "OPERATIONS", "Access", "Operation", "Target", "passed_role", "request_context", "resource_arns"]

Access = Literal["List", "Read", "Write", "Permissions management", "Tagging"]


@dataclass(frozen=True, slots=True)
class Target:
    """A resource type and the input members that may name it: one by name (or a list of names), others by ARN."""

    type: str
    required: bool = True
    names: tuple[str, ...] = ()
    arns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """``role`` is the path of the input member with a role's ARN, for which the caller needs ``iam:PassRole``."""

    access: Access
    targets: tuple[Target, ...] = ()
    role: tuple[str, ...] = ()


_CERT = Target("cert", names=("certificateId",))
_CACERT = Target("cacert", names=("certificateId",))
_PROVIDER = Target("certificateprovider", names=("certificateProviderName",))
_POLICY = Target("policy", names=("policyName",))
_THING = Target("thing", names=("thingName",))
_THING_TYPE = Target("thingtype", names=("thingTypeName",))
_GROUP = Target("thinggroup", names=("thingGroupName",))
_TEMPLATE = Target("provisioningtemplate", names=("templateName",))
_DOMAIN = Target("domainconfiguration", names=("domainConfigurationName",))
_ROLE_ALIAS = Target("rolealias", names=("roleAlias",))
_AUTHORIZER = Target("authorizer", names=("authorizerName",))
_CLIENT = Target("client", names=("clientId",))
_TOPIC = Target("topic", names=("topic",))
_FILTER = Target("topicfilter", names=("topicFilter",))
_TAGGED = Target("", arns=("resourceArn",))
_PRINCIPAL = Target("cert", required=False, arns=("principal",))
_MEMBER = Target("thing", names=("thingName",), arns=("thingArn",))
_MEMBERS_GROUP = Target("thinggroup", names=("thingGroupName",), arns=("thingGroupArn",))
_GROUPS = Target("thinggroup", required=False, names=("thingGroupsToAdd", "thingGroupsToRemove"))
_BILLING_GROUP = Target("billinggroup", required=False, names=("billingGroupName",))
_ATTACHED = (
    Target("cert", required=False, arns=("target",)),
    Target("thinggroup", required=False, arns=("target",)),
)


def _each(names: str, access: Access, *targets: Target) -> dict[str, Operation]:
    return {name: Operation(access, targets) for name in names.split()}


DOOR: Mapping[str, Operation] = MappingProxyType(
    {
        **_each("Connect", "Write", _CLIENT),
        **_each("Publish Receive RetainPublish", "Write", _TOPIC),
        **_each("Subscribe", "Write", _FILTER),
        **_each("GetRetainedMessage", "Read", _TOPIC),
        **_each("ListRetainedMessages", "List"),
        **_each("AssumeRoleWithCertificate", "Write", _ROLE_ALIAS),
    }
)
"""What a device does at the door, on ``clientId``, ``topic``, ``topicFilter`` and ``roleAlias``."""

OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        **_each("CreateKeysAndCertificate CreateCertificateFromCsr", "Write"),
        **_each("RegisterCertificate RegisterCertificateWithoutCA RegisterThing", "Write"),
        **_each("ListCertificates ListCertificatesByCA ListOutgoingCertificates ListCACertificates", "List"),
        **_each("DescribeCertificate", "Read", _CERT),
        **_each("UpdateCertificate DeleteCertificate TransferCertificate", "Write", _CERT),
        **_each("AcceptCertificateTransfer RejectCertificateTransfer CancelCertificateTransfer", "Write", _CERT),
        "RegisterCACertificate": Operation("Write", role=("registrationConfig", "roleArn")),
        "UpdateCACertificate": Operation("Write", (_CACERT,), ("registrationConfig", "roleArn")),
        **_each("DescribeCACertificate", "Read", _CACERT),
        **_each("DeleteCACertificate", "Write", _CACERT),
        **_each("GetRegistrationCode", "Read"),
        **_each("DeleteRegistrationCode", "Write"),
        **_each("CreateCertificateProvider UpdateCertificateProvider", "Write", _PROVIDER),
        **_each("DeleteCertificateProvider", "Write", _PROVIDER),
        **_each("DescribeCertificateProvider", "Read", _PROVIDER),
        **_each("ListCertificateProviders", "List"),
        **_each("CreatePolicy DeletePolicy CreatePolicyVersion", "Permissions management", _POLICY),
        **_each("DeletePolicyVersion SetDefaultPolicyVersion", "Permissions management", _POLICY),
        **_each("GetPolicy GetPolicyVersion", "Read", _POLICY),
        **_each("ListPolicyVersions ListTargetsForPolicy", "List", _POLICY),
        **_each("ListPolicies ListAttachedPolicies ListPrincipalPolicies ListPolicyPrincipals", "List"),
        **_each("AttachPolicy DetachPolicy", "Permissions management", *_ATTACHED),
        **_each("AttachPrincipalPolicy DetachPrincipalPolicy", "Permissions management", _PRINCIPAL),
        **_each("GetEffectivePolicies TestAuthorization", "Read", _PRINCIPAL),
        **_each("CreateThing", "Write", _THING, _BILLING_GROUP),
        **_each("DescribeThing GetThingConnectivityData", "Read", _THING),
        **_each("UpdateThing DeleteThing", "Write", _THING),
        **_each("ListThings ListThingTypes ListThingGroups", "List"),
        **_each("ListThingGroupsForThing ListThingPrincipals ListThingPrincipalsV2", "List", _THING),
        **_each("AttachThingPrincipal DetachThingPrincipal", "Write", _PRINCIPAL),
        **_each("ListPrincipalThings ListPrincipalThingsV2", "List", _PRINCIPAL),
        **_each("CreateThingType UpdateThingType DeprecateThingType DeleteThingType", "Write", _THING_TYPE),
        **_each("DescribeThingType", "Read", _THING_TYPE),
        **_each("CreateThingGroup UpdateThingGroup DeleteThingGroup", "Write", _GROUP),
        **_each("DescribeThingGroup", "Read", _GROUP),
        **_each("ListThingsInThingGroup", "List", _GROUP),
        **_each("AddThingToThingGroup RemoveThingFromThingGroup", "Write", _MEMBER, _MEMBERS_GROUP),
        **_each("UpdateThingGroupsForThing", "Write", _THING, _GROUPS),
        "CreateProvisioningTemplate": Operation("Write", (_TEMPLATE,), ("provisioningRoleArn",)),
        "UpdateProvisioningTemplate": Operation("Write", (_TEMPLATE,), ("provisioningRoleArn",)),
        **_each("DeleteProvisioningTemplate CreateProvisioningTemplateVersion", "Write", _TEMPLATE),
        **_each("DeleteProvisioningTemplateVersion CreateProvisioningClaim", "Write", _TEMPLATE),
        **_each("DescribeProvisioningTemplate DescribeProvisioningTemplateVersion", "Read", _TEMPLATE),
        **_each("ListProvisioningTemplateVersions", "List", _TEMPLATE),
        **_each("ListProvisioningTemplates", "List"),
        "StartThingRegistrationTask": Operation("Write", role=("roleArn",)),
        **_each("StopThingRegistrationTask", "Write"),
        **_each("DescribeThingRegistrationTask", "Read"),
        **_each("ListThingRegistrationTasks ListThingRegistrationTaskReports", "List"),
        **_each("DescribeEndpoint DescribeDefaultAuthorizer DescribeEventConfigurations", "Read"),
        **_each("CreateDomainConfiguration UpdateDomainConfiguration DeleteDomainConfiguration", "Write", _DOMAIN),
        **_each("DescribeDomainConfiguration", "Read", _DOMAIN),
        **_each("ListDomainConfigurations ListRoleAliases ListAuthorizers", "List"),
        "CreateRoleAlias": Operation("Write", (_ROLE_ALIAS,), ("roleArn",)),
        "UpdateRoleAlias": Operation("Write", (_ROLE_ALIAS,), ("roleArn",)),
        **_each("DeleteRoleAlias", "Write", _ROLE_ALIAS),
        **_each("DescribeRoleAlias", "Read", _ROLE_ALIAS),
        **_each("CreateAuthorizer UpdateAuthorizer DeleteAuthorizer", "Write", _AUTHORIZER),
        **_each("DescribeAuthorizer TestInvokeAuthorizer", "Read", _AUTHORIZER),
        **_each("SetDefaultAuthorizer", "Permissions management", _AUTHORIZER),
        **_each("ClearDefaultAuthorizer UpdateEventConfigurations", "Write"),
        **_each("TagResource UntagResource", "Tagging", _TAGGED),
        **_each("ListTagsForResource", "Read", _TAGGED),
    }
)
"""The control plane's operations by name, which with ``iot:`` in front is the action."""


def resource_arns(
    operation: str, members: Mapping[str, Any], account: str, region: str, *, partition: str = "aws"
) -> tuple[str, ...]:
    """The ARNs that a caller has to be allowed on, all of them; ``*`` if the input names none.

    ``members`` is the input by the model's member names. The ARN of a domain configuration ends in an id that the
    input lacks: give it as ``domainConfigurationId``, else it stands as ``*``. Raises KeyError for an operation that
    is in neither table, and Invalid for an input without a required name.
    """
    prefix = f"arn:{partition}:iot:{region}:{account}:"
    found: dict[str, None] = {}
    for target in (OPERATIONS.get(operation) or DOOR[operation]).targets:
        named = dict.fromkeys(_named(target, members, prefix))
        if target.required and not named:
            raise Invalid((target.names + target.arns)[0], "is required")
        found |= named
    return tuple(found) or ("*",)


def _named(target: Target, members: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for member in target.names:
        value = members.get(member) or ()
        for name in (value,) if isinstance(value, str) else value:
            if target.type in ("cert", "cacert"):
                name = name.lower()  # noqa: PLW2901 - an id's hex digits may come in either case
            elif target.type == "domainconfiguration":
                name = f"{name}/{members.get('domainConfigurationId', '*')}"  # noqa: PLW2901
            yield f"{prefix}{target.type}/{name}"
    for member in target.arns:
        arn = members.get(member)
        if not arn:
            continue
        parts = arn.split(":", 5)
        kind, _, name = parts[5].partition("/") if len(parts) == 6 and parts[2] == "iot" else ("", "", "")
        if kind == "cert":
            arn = ":".join((*parts[:5], f"cert/{name.lower()}"))
        if target.type in ("", kind):
            yield arn


def request_context(
    operation: str, members: Mapping[str, Any], account: str, region: str, *, partition: str = "aws"
) -> dict[str, Scalar | list[Scalar]]:
    """The condition keys that the input itself gives: tags, ``iot:thingArn`` and ``iot:DomainName``."""
    context: dict[str, Scalar | list[Scalar]] = {}
    tags = members.get("tags") or ()
    keys: list[Scalar] = [tag["Key"] for tag in tags] or list(members.get("tagKeys") or ())
    if keys:
        context["aws:TagKeys"] = keys
    for tag in tags:
        context[f"aws:RequestTag/{tag['Key']}"] = tag.get("Value", "")
    if operation in ("AttachThingPrincipal", "DetachThingPrincipal") and "thingName" in members:
        context["iot:thingArn"] = f"arn:{partition}:iot:{region}:{account}:thing/{members['thingName']}"
    if operation == "CreateDomainConfiguration" and "domainName" in members:
        context["iot:DomainName"] = members["domainName"]
    return context


def passed_role(operation: str, members: Mapping[str, Any]) -> str | None:
    """The ARN of the role that the input hands over, which takes ``iam:PassRole`` on it."""
    path = OPERATIONS[operation].role
    value: Any = members
    for member in path:
        value = value.get(member) if isinstance(value, Mapping) else None
    return value if path and isinstance(value, str) else None
