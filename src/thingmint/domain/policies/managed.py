"""The managed policies, and the policies of Yandex's roles.

A role is a policy with actions of the form ``yandex:<Service>.<Method>``. The actions of each role follow Yandex's page
"Access management in Yandex IoT Core": an auditor reads metadata, a viewer reads every resource, an editor also changes
them. There are separate roles to publish as a device or as a registry, and to get tokens of service accounts.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from thingmint.domain.errors import Invalid
from thingmint.domain.policies.actions import CONTROL_PLANE_ACTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


_TEMPLATES_OF = ("provisioningtemplate", "cacert")


def _allow(sid: str, actions: Iterable[str]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": sorted(actions), "Resource": "*"}


def _document(statements: Sequence[dict[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2)


_READS = frozenset(f"iot:{name}" for name, access in CONTROL_PLANE_ACTIONS.items() if access in ("Read", "List"))

# Reads with an effect, or that return secrets: with a registration code, a CA's owner proves that it has the CA's key.
_BEYOND_AUDIT = {"iot:GetRegistrationCode", "iot:TestInvokeAuthorizer", "iot:GetThingConnectivityData"}

# The work of a factory or a provisioning service. It attaches existing policies. It creates a policy only if a
# provisioning template or a CA certificate's template contains one, as AWS's own fleet template does.
_PROVISIONING = (
    "CreateKeysAndCertificate CreateCertificateFromCsr RegisterCertificate RegisterCertificateWithoutCA RegisterThing "
    "CreateProvisioningClaim UpdateCertificate DescribeCertificate "
    "CreateThing UpdateThing DescribeThing AttachThingPrincipal DetachThingPrincipal ListThingPrincipals "
    "ListThingPrincipalsV2 ListPrincipalThings ListPrincipalThingsV2 "
    "AttachPolicy DetachPolicy ListAttachedPolicies GetPolicy "
    "AddThingToThingGroup RemoveThingFromThingGroup UpdateThingGroupsForThing ListThingGroupsForThing "
    "DescribeThingGroup DescribeThingType DescribeProvisioningTemplate DescribeEndpoint "
)

ADMINISTRATOR = _document([_allow("Everything", ["*"])])
FULL_ACCESS = _document([_allow("AllOfIoT", ["iot:*"])])
_FLEET = _allow(
    "ReadFleet",
    [
        *("thingmint:GetHealth", "thingmint:ListRefusals", "thingmint:ListSessions"),
        *("thingmint:ListImports", "thingmint:ListProvisioningClaims", "thingmint:TestProvisioning"),
    ],
)
READ_ONLY = _document([_allow("ReadIoT", _READS), _FLEET])
PROVISIONING_ONLY = _document(
    [
        _allow("Provision", [f"iot:{name}" for name in _PROVISIONING.split()]),
        _allow("WritePoliciesOfTemplates", ["iot:CreatePolicy"])
        | {"Condition": {"ArnLike": {"aws:SourceArn": [f"arn:aws:iot:*:*:{kind}/*" for kind in _TEMPLATES_OF]}}},
    ]
)
AUDIT_ONLY = _document(
    [_allow("ReadIoT", _READS - _BEYOND_AUDIT), _FLEET, _allow("ReadAudit", ["thingmint:ListAudit"])]
)

MANAGED_POLICIES = {
    "Administrator": ADMINISTRATOR,
    "FullAccess": FULL_ACCESS,
    "ReadOnly": READ_ONLY,
    "ProvisioningOnly": PROVISIONING_ONLY,
    "AuditOnly": AUDIT_ONLY,
}
"""The documents by the name under which they are listed."""

RESOURCE = r"\*|yandex:(folder|registry)/[A-Za-z0-9._-]{1,50}|yandex:cloud/[0-9]{12}"
"""What a role is granted on; ``SERVICE_ACCOUNT_RESOURCE`` is for TOKEN_CREATOR."""
SERVICE_ACCOUNT_RESOURCE = r"\*|yandex:service-account/[A-Za-z0-9._-]{1,50}|yandex:cloud/[0-9]{12}"
_RESOURCE, _SERVICE_ACCOUNT = re.compile(RESOURCE), re.compile(SERVICE_ACCOUNT_RESOURCE)

TOKEN_CREATOR = "iam.serviceAccounts.tokenCreator"  # noqa: S105 - a role
"""The role to act as a service account. Here these belong to an account, not to a folder."""


def _actions(service: str, methods: str) -> frozenset[str]:
    return frozenset(f"yandex:{service}.{method}" for method in methods.split())


_YANDEX_AUDITS = (
    _actions("DeviceService", "Get GetByName List ListOperations")
    | _actions("RegistryService", "Get GetByName List ListOperations")
    | _actions("BrokerService", "Get List ListOperations")
    | _actions("OperationService", "Get")
)
_YANDEX_READS = (
    _YANDEX_AUDITS
    | _actions("DeviceService", "ListCertificates ListPasswords")
    | _actions("RegistryService", "ListCertificates ListPasswords ListDeviceTopicAliases ListDataStreamExports")
    | _actions("BrokerService", "ListCertificates ListPasswords")
)
_YANDEX_CHANGES = "Create Update Delete AddCertificate DeleteCertificate AddPassword DeletePassword"
_YANDEX_EDITS = (
    _YANDEX_READS
    | _actions("DeviceService", _YANDEX_CHANGES)
    | _actions("RegistryService", f"{_YANDEX_CHANGES} AddDataStreamExport DeleteDataStreamExport Disable Enable")
    | _actions("BrokerService", _YANDEX_CHANGES)
    | _actions("OperationService", "Cancel")
)
_PUBLISHES_AS_DEVICE = _actions("DeviceDataService", "Publish")
_PUBLISHES_AS_REGISTRY = _actions("RegistryDataService", "Publish")

ROLES: dict[str, frozenset[str]] = {
    "viewer": _YANDEX_READS,
    "editor": _YANDEX_EDITS | _PUBLISHES_AS_DEVICE | _PUBLISHES_AS_REGISTRY | _actions("BrokerDataService", "Publish"),
    "admin": frozenset({"yandex:*"}),
    "iot.viewer": _YANDEX_READS,
    "iot.auditor": _YANDEX_AUDITS,
    "iot.editor": _YANDEX_EDITS,
    "iot.devices.writer": _PUBLISHES_AS_DEVICE,
    "iot.registries.writer": _PUBLISHES_AS_REGISTRY,
    TOKEN_CREATOR: _actions("IamTokenService", "CreateForServiceAccount"),
}
"""The actions of each role."""


def role_policy(role: str, resource: str) -> str:
    """Return the document of a role that is granted on a folder, a registry or a cloud (``yandex:folder/<id>``).

    TOKEN_CREATOR is granted on a service account or a cloud.

    ``*`` is any cloud. Requests are evaluated for a resource and for all that contain it (``evaluate_any``). Raises
    Invalid.
    """
    if role not in ROLES:
        raise Invalid("role", "is not known")
    if role == TOKEN_CREATOR:
        if not _SERVICE_ACCOUNT.fullmatch(resource):
            raise Invalid("resource", "must be yandex:service-account/ID, yandex:cloud/ACCOUNT or *")
    elif not _RESOURCE.fullmatch(resource):
        raise Invalid("resource", "must be yandex:cloud/ACCOUNT, yandex:folder/ID, yandex:registry/ID or *")
    statement = {"Effect": "Allow", "Action": sorted(ROLES[role]), "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
