"""The operations that an import calls at AWS, with the permissions that they need and the rates that AWS allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

READ = (
    "DescribeEndpoint",
    "ListThingTypes",
    "ListPolicies",
    "GetPolicy",
    "ListPolicyVersions",
    "GetPolicyVersion",
    "ListProvisioningTemplates",
    "DescribeProvisioningTemplate",
    "ListProvisioningTemplateVersions",
    "DescribeProvisioningTemplateVersion",
    "ListCACertificates",
    "DescribeCACertificate",
    "ListThings",
    "ListThingGroups",
    "DescribeThingGroup",
    "ListThingsInThingGroup",
    "ListCertificates",
    "DescribeCertificate",
    "ListAttachedPolicies",
    "ListPrincipalThings",
    "ListPrincipalThingsV2",
    "ListTagsForResource",
    "ListTargetsForPolicy",
)
"""The operations that read what is imported."""

REPORTED = (
    "DescribeDefaultAuthorizer",
    "DescribeDomainConfiguration",
    "DescribeEventConfigurations",
    "GetIndexingConfiguration",
    "ListAuthorizers",
    "ListBillingGroups",
    "ListCertificateProviders",
    "ListCommands",
    "ListCustomMetrics",
    "ListDimensions",
    "ListDomainConfigurations",
    "ListFleetMetrics",
    "ListJobTemplates",
    "ListJobs",
    "ListMitigationActions",
    "ListOTAUpdates",
    "ListOutgoingCertificates",
    "ListPackages",
    "ListRoleAliases",
    "ListScheduledAudits",
    "ListSecurityProfiles",
    "ListStreams",
    "ListThingRegistrationTasks",
    "ListTopicRuleDestinations",
    "ListTopicRules",
    "ListV2LoggingLevels",
)
"""The operations that find out what the account has and Thingmint does not serve. An import works without them."""

# ListPrincipalThingsV2 needs the permission of its first version.
_ACTIONS = {"ListPrincipalThingsV2": "ListPrincipalThings"}

# Calls a second that AWS allows an account by default. AWS's page of quotas has 10 for most calls that read.
_DEFAULT_RATE = 10.0
_RATES: Mapping[str, float] = {"ListAttachedPolicies": 15.0, "GetPolicyVersion": 15.0}


def action_of(operation: str) -> str:
    """Return the permission that an operation needs."""
    return f"iot:{_ACTIONS.get(operation, operation)}"


def documented_rate(operation: str) -> float:
    """Return the calls a second that AWS allows by default."""
    return _RATES.get(operation, _DEFAULT_RATE)


def policy_document() -> dict[str, Any]:
    """Return an IAM policy with all permissions that an import needs; none of them changes anything."""
    actions = [sorted({action_of(operation) for operation in operations}) for operations in (READ, REPORTED)]
    statements = [
        {"Sid": sid, "Effect": "Allow", "Action": allowed, "Resource": "*"}
        for sid, allowed in zip(("Import", "Report"), actions, strict=True)
    ]
    return {"Version": "2012-10-17", "Statement": statements}
