"""The kinds of items: what each has, and how many of them are added at once."""

from __future__ import annotations

from thingmint.importing.kinds import aws_ca_certificates, aws_definitions, aws_fleet, yandex
from thingmint.importing.kinds.declaring import KINDS, ItemKind

__all__ = ["KINDS", "NOUNS", "ItemKind"]

NOUNS = (aws_ca_certificates, aws_definitions, aws_fleet, yandex)
"""The modules whose import declares the kinds."""
