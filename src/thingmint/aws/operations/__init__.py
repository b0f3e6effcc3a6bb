"""What the served operations of AWS IoT mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.call import Call, Registries
from thingmint.aws.operations.certificates import CERTIFICATES
from thingmint.aws.operations.endpoint import ENDPOINT
from thingmint.aws.operations.templates import TEMPLATES

if TYPE_CHECKING:
    from thingmint.aws.operations.call import Operations

__all__ = ["SERVED", "Call", "Registries"]

SERVED: Operations = {**CERTIFICATES, **ENDPOINT, **TEMPLATES}
