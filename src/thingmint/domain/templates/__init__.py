"""Provisioning templates: parses a template's body, and resolves it with parameters to a plan for a device."""

from __future__ import annotations

from thingmint.domain.templates.compiler import Kind, Template, declared_parameters, parse_template
from thingmint.domain.templates.documents import MAX_LENGTH
from thingmint.domain.templates.plan import (
    CertificatePlan,
    FromCsr,
    FromPem,
    Override,
    Plan,
    PolicyPlan,
    Registered,
    ThingOverrides,
    ThingPlan,
)
from thingmint.domain.templates.subjects import CERTIFICATE_ID, subject_parameters

__all__ = [
    "CERTIFICATE_ID",
    "MAX_LENGTH",
    "CertificatePlan",
    "FromCsr",
    "FromPem",
    "Kind",
    "Override",
    "Plan",
    "PolicyPlan",
    "Registered",
    "Template",
    "ThingOverrides",
    "ThingPlan",
    "declared_parameters",
    "parse_template",
    "subject_parameters",
]
