"""What the served operations of AWS IoT mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations import ca_certificates, certificates, endpoint, thing_types
from thingmint.aws.operations.call import Call, Registries
from thingmint.aws.operations.declaring import OPERATIONS
from thingmint.aws.operations.policies import POLICIES
from thingmint.aws.operations.provisioning import PROVISIONING
from thingmint.aws.operations.tags import TAGS
from thingmint.aws.operations.templates import TEMPLATES
from thingmint.aws.operations.thing_groups import THING_GROUPS
from thingmint.aws.operations.thing_principals import THING_PRINCIPALS
from thingmint.aws.operations.things import THINGS

if TYPE_CHECKING:
    from thingmint.aws.operations.call import Operations

__all__ = ["NOUNS", "OPERATIONS", "SERVED", "Call", "Registries"]

NOUNS = (ca_certificates, certificates, endpoint, thing_types)
"""The modules whose import fills OPERATIONS."""

SERVED: Operations = {
    **POLICIES,
    **PROVISIONING,
    **TAGS,
    **TEMPLATES,
    **THING_GROUPS,
    **THING_PRINCIPALS,
    **THINGS,
}
