"""The operations of AWS IoT that Thingmint serves."""

from __future__ import annotations

from thingmint.aws.operations import (  # noqa: F401 - importing them fills both
    billing_groups,
    ca_certificates,
    certificate_providers,
    certificates,
    connections,
    device_decisions,
    device_policies,
    endpoint,
    event_configurations,
    indexing,
    messages,
    registration_tasks,
    role_aliases,
    tags,
    templates,
    thing_groups,
    thing_principals,
    thing_types,
    things,
)
from thingmint.aws.operations.declaring import DATA_OPERATIONS, OPERATIONS

__all__ = ["DATA_OPERATIONS", "OPERATIONS"]
