"""What the served methods of Yandex Cloud mean."""

from __future__ import annotations

from thingmint.yandex.operations import devices, owners, platform, registries
from thingmint.yandex.operations.declaring import OPEN, OPERATIONS

__all__ = ["NOUNS", "OPEN", "OPERATIONS"]

NOUNS = (devices, owners, platform, registries)
"""The modules whose import fills OPERATIONS and OPEN."""
