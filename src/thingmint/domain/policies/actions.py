"""The actions of AWS IoT's control plane, each with its access level.

From AWS's Service Authorization Reference, "Actions, resources, and condition keys for AWS IoT".
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


Access = Literal["List", "Read", "Write", "Permissions management", "Tagging"]

_LIST = """
    ListCertificates ListCertificatesByCA ListOutgoingCertificates ListCACertificates ListCertificateProviders
    ListPolicies ListPolicyVersions ListAttachedPolicies ListTargetsForPolicy ListPrincipalPolicies ListPolicyPrincipals
    ListThings ListThingTypes ListThingGroups ListThingsInThingGroup ListThingGroupsForThing
    ListThingPrincipals ListThingPrincipalsV2 ListPrincipalThings ListPrincipalThingsV2
    ListProvisioningTemplates ListProvisioningTemplateVersions
    ListThingRegistrationTasks ListThingRegistrationTaskReports
    ListDomainConfigurations ListRoleAliases ListAuthorizers ListBillingGroups ListThingsInBillingGroup ListIndices
"""
_READ = """
    DescribeCertificate DescribeCACertificate DescribeCertificateProvider GetRegistrationCode
    GetPolicy GetPolicyVersion GetEffectivePolicies TestAuthorization
    DescribeThing DescribeThingType DescribeThingGroup DescribeBillingGroup GetThingConnectivityData
    DescribeProvisioningTemplate DescribeProvisioningTemplateVersion DescribeThingRegistrationTask
    DescribeEndpoint DescribeDomainConfiguration DescribeRoleAlias DescribeEventConfigurations
    DescribeAuthorizer DescribeDefaultAuthorizer TestInvokeAuthorizer ListTagsForResource
    SearchIndex DescribeIndex GetIndexingConfiguration
"""
_WRITE = """
    CreateKeysAndCertificate CreateCertificateFromCsr UpdateCertificate DeleteCertificate
    RegisterCertificate RegisterCertificateWithoutCA RegisterThing
    TransferCertificate AcceptCertificateTransfer RejectCertificateTransfer CancelCertificateTransfer
    RegisterCACertificate UpdateCACertificate DeleteCACertificate DeleteRegistrationCode
    CreateCertificateProvider UpdateCertificateProvider DeleteCertificateProvider
    CreateThing UpdateThing DeleteThing AttachThingPrincipal DetachThingPrincipal
    CreateThingType UpdateThingType DeprecateThingType DeleteThingType
    CreateThingGroup UpdateThingGroup DeleteThingGroup
    AddThingToThingGroup RemoveThingFromThingGroup UpdateThingGroupsForThing
    CreateBillingGroup UpdateBillingGroup DeleteBillingGroup AddThingToBillingGroup RemoveThingFromBillingGroup
    CreateProvisioningTemplate UpdateProvisioningTemplate DeleteProvisioningTemplate
    CreateProvisioningTemplateVersion DeleteProvisioningTemplateVersion CreateProvisioningClaim
    StartThingRegistrationTask StopThingRegistrationTask
    CreateDomainConfiguration UpdateDomainConfiguration DeleteDomainConfiguration
    CreateRoleAlias UpdateRoleAlias DeleteRoleAlias
    CreateAuthorizer UpdateAuthorizer DeleteAuthorizer ClearDefaultAuthorizer UpdateEventConfigurations
    UpdateIndexingConfiguration
"""
_PERMISSIONS = """
    CreatePolicy DeletePolicy CreatePolicyVersion DeletePolicyVersion SetDefaultPolicyVersion
    AttachPolicy DetachPolicy AttachPrincipalPolicy DetachPrincipalPolicy SetDefaultAuthorizer
"""
_TAGGING = "TagResource UntagResource"

_NAMES: dict[Access, str] = {
    "List": _LIST,
    "Read": _READ,
    "Write": _WRITE,
    "Permissions management": _PERMISSIONS,
    "Tagging": _TAGGING,
}

CONTROL_PLANE_ACTIONS: Mapping[str, Access] = MappingProxyType(
    {name: access for access, names in _NAMES.items() for name in names.split()}
)
"""By the name of the operation; the action is ``iot:`` and this name."""
