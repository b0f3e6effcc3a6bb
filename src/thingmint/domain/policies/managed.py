"""Policies that can be attached as they are: managed documents, and Yandex's roles.

A role is a policy over actions spelled ``yandex:<Service>.<Method>``. What each may do is Yandex's page "Access
management in Yandex IoT Core": an auditor sees metadata, a viewer every resource, an editor changes them; publishing as
a device or a registry is a role of its own.
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

# Reads that do something, or give away something to act with: registration codes prove that one owns a CA.
_BEYOND_AUDIT = {"iot:GetRegistrationCode", "iot:TestInvokeAuthorizer", "iot:GetThingConnectivityData"}

# A factory's or a provisioning service's work. It attaches policies that are there. It writes one only where a
# provisioning template, or one of a CA certificate, says so: AWS's own fleet template has a policy in it.
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
READ_ONLY = _document([_allow("ReadIoT", _READS)])
PROVISIONING_ONLY = _document(
    [
        _allow("Provision", [f"iot:{name}" for name in _PROVISIONING.split()]),
        _allow("WritePoliciesOfTemplates", ["iot:CreatePolicy"])
        | {"Condition": {"ArnLike": {"aws:SourceArn": [f"arn:aws:iot:*:*:{kind}/*" for kind in _TEMPLATES_OF]}}},
    ]
)
AUDIT_ONLY = _document([_allow("ReadIoT", _READS - _BEYOND_AUDIT), _allow("ReadAudit", ["thingmint:ListAudit"])])

MANAGED_POLICIES = {
    "Administrator": ADMINISTRATOR,
    "FullAccess": FULL_ACCESS,
    "ReadOnly": READ_ONLY,
    "ProvisioningOnly": PROVISIONING_ONLY,
    "AuditOnly": AUDIT_ONLY,
}
"""By the name to list them under."""

_RESOURCE = re.compile(r"\*|yandex:(folder|registry)/[A-Za-z0-9._-]{1,50}|yandex:cloud/\d{12}", re.ASCII)


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
}
"""The actions of each role."""


def role_policy(role: str, resource: str) -> str:
    """The document of a role granted on a folder, a registry or a cloud, as ``yandex:folder/<id>``; ``*`` is any cloud.

    A request is put to the resource and to all that contain it (``evaluate_any``). Raises Invalid.
    """
    if role not in ROLES:
        raise Invalid("role", "is not known")
    if not _RESOURCE.fullmatch(resource):
        raise Invalid("resource", "must be yandex:cloud/ACCOUNT, yandex:folder/ID, yandex:registry/ID or *")
    statement = {"Effect": "Allow", "Action": sorted(ROLES[role]), "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
