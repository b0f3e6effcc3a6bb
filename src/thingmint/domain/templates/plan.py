"""What a template asks for once its parameters are known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.domain.status import Status


class Override(StrEnum):
    """What becomes of a property of something that is there already."""

    DO_NOTHING = "DO_NOTHING"
    REPLACE = "REPLACE"
    FAIL = "FAIL"
    MERGE = "MERGE"  # attributes and groups only


@dataclass(frozen=True, slots=True)
class ThingOverrides:
    """None where the template does not say."""

    attributes: Override | None = None
    type: Override | None = None
    groups: Override | None = None
    billing_group: Override | None = None


@dataclass(frozen=True, slots=True)
class ThingPlan:
    """``attributes`` and ``groups`` are None, rather than empty, where the template does not mention them."""

    logical_id: str
    name: str
    type: str | None
    attributes: Mapping[str, str] | None
    groups: tuple[str, ...] | None
    billing_group: str | None
    overrides: ThingOverrides


@dataclass(frozen=True, slots=True)
class Registered:
    """A certificate that is registered already."""

    fingerprint: str


@dataclass(frozen=True, slots=True)
class FromCsr:
    csr: str


@dataclass(frozen=True, slots=True)
class FromPem:
    """A certificate of a registered CA; ``ca_pem`` says which, where several have the same subject."""

    pem: str
    ca_pem: str | None


@dataclass(frozen=True, slots=True)
class CertificatePlan:
    """``status`` is ACTIVE or INACTIVE, and ``stated`` if the template says it; ``exclusive``: no other thing may have
    the certificate."""

    logical_id: str
    source: Registered | FromCsr | FromPem
    status: Status
    status_override: Override | None
    exclusive: bool
    stated: bool = False

    @property
    def name(self) -> str | None:
        """What a Ref to it gives: not known before it is made."""
        return self.source.fingerprint if isinstance(self.source, Registered) else None


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """A policy that is there already, or one to be made of ``document``, whose name comes from it."""

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
    """Whether the template is the caller's own, rather than one that devices are provisioned by."""
