"""Yandex's roles as policies over actions spelled ``yandex:<Service>.<Method>``.

What each may do is Yandex's page "Access management in Yandex IoT Core": an auditor sees metadata, a viewer every
resource, an editor changes them; publishing as a device or a registry is a role of its own.
"""

from __future__ import annotations

import json
import re

from thingmint.domain.errors import Invalid

_RESOURCE = re.compile(r"\*|yandex:(folder|registry)/[A-Za-z0-9._-]{1,50}|yandex:cloud/\d{12}", re.ASCII)


def _actions(service: str, methods: str) -> frozenset[str]:
    return frozenset(f"yandex:{service}.{method}" for method in methods.split())


_AUDITS = (
    _actions("DeviceService", "Get GetByName List ListOperations")
    | _actions("RegistryService", "Get GetByName List ListOperations")
    | _actions("BrokerService", "Get List ListOperations")
    | _actions("OperationService", "Get")
)
_READS = (
    _AUDITS
    | _actions("DeviceService", "ListCertificates ListPasswords")
    | _actions("RegistryService", "ListCertificates ListPasswords ListDeviceTopicAliases ListDataStreamExports")
    | _actions("BrokerService", "ListCertificates ListPasswords")
)
_CHANGES = "Create Update Delete AddCertificate DeleteCertificate AddPassword DeletePassword"
_EDITS = (
    _READS
    | _actions("DeviceService", _CHANGES)
    | _actions("RegistryService", f"{_CHANGES} AddDataStreamExport DeleteDataStreamExport Disable Enable")
    | _actions("BrokerService", _CHANGES)
    | _actions("OperationService", "Cancel")
)
_PUBLISHES_AS_DEVICE = _actions("DeviceDataService", "Publish")
_PUBLISHES_AS_REGISTRY = _actions("RegistryDataService", "Publish")

ROLES: dict[str, frozenset[str]] = {
    "viewer": _READS,
    "editor": _EDITS | _PUBLISHES_AS_DEVICE | _PUBLISHES_AS_REGISTRY | _actions("BrokerDataService", "Publish"),
    "admin": frozenset({"yandex:*"}),
    "iot.viewer": _READS,
    "iot.auditor": _AUDITS,
    "iot.editor": _EDITS,
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
