"""The plan that a template and its parameters give: the thing, certificate and policies of a device."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.domain.status import Status


class Override(StrEnum):
    """What to do with a property of a resource that already exists."""

    DO_NOTHING = "DO_NOTHING"
    REPLACE = "REPLACE"
    FAIL = "FAIL"
    MERGE = "MERGE"  # attributes and groups only


@dataclass(frozen=True, slots=True)
class ThingOverrides:
    """The overrides for a thing. None if the template does not set one."""

    attributes: Override | None = None
    type: Override | None = None
    groups: Override | None = None
    billing_group: Override | None = None


@dataclass(frozen=True, slots=True)
class ThingPlan:
    """``attributes`` and ``groups`` are None, not empty, if the template does not have them."""

    logical_id: str
    name: str
    type: str | None
    attributes: Mapping[str, str] | None
    groups: tuple[str, ...] | None
    billing_group: str | None
    overrides: ThingOverrides


@dataclass(frozen=True, slots=True)
class Registered:
    """A certificate that is already registered."""

    fingerprint: str


@dataclass(frozen=True, slots=True)
class FromCsr:
    csr: str


@dataclass(frozen=True, slots=True)
class FromPem:
    """A certificate of a registered CA. ``ca_pem`` selects the CA if several have the same subject."""

    pem: str
    ca_pem: str | None


@dataclass(frozen=True, slots=True)
class CertificatePlan:
    """``status`` is ACTIVE or INACTIVE; ``stated`` is true if the template sets it. With ``exclusive``, the certificate
    must not be attached to another thing."""

    logical_id: str
    source: Registered | FromCsr | FromPem
    status: Status
    status_override: Override | None
    exclusive: bool
    stated: bool = False

    @property
    def name(self) -> str | None:
        """The value of a Ref to the certificate; None for a certificate that does not exist yet."""
        return self.source.fingerprint if isinstance(self.source, Registered) else None


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """An existing policy, or a new one with ``document``, whose name is derived from the document."""

    logical_id: str
    name: str
    document: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    thing: ThingPlan | None
    certificate: CertificatePlan | None
    policies: tuple[PolicyPlan, ...]
    device_configuration: Mapping[str, str]
    callers: bool = False
    """True if the caller gave the template (RegisterThing, bulk registration); false if devices provision with it."""
