"""The operations of AWS IoT that Thingmint serves."""

from __future__ import annotations

from thingmint.aws.operations import (  # noqa: F401 - importing them fills OPERATIONS
    ca_certificates,
    certificates,
    device_decisions,
    device_policies,
    endpoint,
    role_aliases,
    tags,
    templates,
    thing_groups,
    thing_principals,
    thing_types,
    things,
)
from thingmint.aws.operations.declaring import OPERATIONS

__all__ = ["OPERATIONS"]
