"""Policy documents that can be attached as they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from thingmint.domain.policies.actions import CONTROL_PLANE_ACTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable


def _document(**actions: Iterable[str]) -> str:
    statements = [
        {"Sid": sid, "Effect": "Allow", "Action": sorted(names), "Resource": "*"} for sid, names in actions.items()
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2)


_READS = frozenset(f"iot:{name}" for name, access in CONTROL_PLANE_ACTIONS.items() if access in ("Read", "List"))

# Reads that do something, or give away something to act with: registration codes prove that one owns a CA.
_BEYOND_AUDIT = {"iot:GetRegistrationCode", "iot:TestInvokeAuthorizer", "iot:GetThingConnectivityData"}

# A factory's or a provisioning service's work. It attaches policies that are there, and cannot write any.
_PROVISIONING = (
    "CreateKeysAndCertificate CreateCertificateFromCsr RegisterCertificate RegisterCertificateWithoutCA RegisterThing "
    "CreateProvisioningClaim UpdateCertificate DescribeCertificate "
    "CreateThing UpdateThing DescribeThing AttachThingPrincipal DetachThingPrincipal ListThingPrincipals "
    "ListThingPrincipalsV2 ListPrincipalThings ListPrincipalThingsV2 "
    "AttachPolicy DetachPolicy ListAttachedPolicies GetPolicy "
    "AddThingToThingGroup RemoveThingFromThingGroup UpdateThingGroupsForThing ListThingGroupsForThing "
    "DescribeThingGroup DescribeThingType DescribeProvisioningTemplate DescribeEndpoint "
)

ADMINISTRATOR = _document(Everything=["*"])
FULL_ACCESS = _document(AllOfIoT=["iot:*"])
READ_ONLY = _document(ReadIoT=_READS)
PROVISIONING_ONLY = _document(Provision=[f"iot:{name}" for name in _PROVISIONING.split()])
AUDIT_ONLY = _document(
    ReadIoT=_READS - _BEYOND_AUDIT,
    ReadAudit=["thingmint:ListAudit"],
)

READY_MADE = {
    "Administrator": ADMINISTRATOR,
    "FullAccess": FULL_ACCESS,
    "ReadOnly": READ_ONLY,
    "ProvisioningOnly": PROVISIONING_ONLY,
    "AuditOnly": AUDIT_ONLY,
}
"""By the name to list them under."""
