"""What the served operations of AWS IoT mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations import (
    ca_certificates,
    certificates,
    device_policies,
    endpoint,
    tags,
    templates,
    thing_groups,
    thing_principals,
    thing_types,
    things,
)
from thingmint.aws.operations.call import Call, Registries
from thingmint.aws.operations.declaring import OPERATIONS
from thingmint.aws.operations.provisioning import PROVISIONING

if TYPE_CHECKING:
    from thingmint.aws.operations.call import Operations

__all__ = ["NOUNS", "OPERATIONS", "SERVED", "Call", "Registries"]

NOUNS = (
    ca_certificates,
    certificates,
    device_policies,
    endpoint,
    tags,
    templates,
    thing_groups,
    thing_principals,
    thing_types,
    things,
)
"""The modules whose import fills OPERATIONS."""

SERVED: Operations = {
    **PROVISIONING,
}
