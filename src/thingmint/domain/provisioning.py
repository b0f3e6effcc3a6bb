"""Provisioning templates as an account keeps them: named, versioned, perhaps with a hook that is asked first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.domain.registration import Scope
    from thingmint.domain.template import Kind

__all__ = ["MAX_VERSIONS", "Claim", "Hook", "ProvisioningTemplate", "TemplateVersion", "template_arn"]

MAX_VERSIONS: Final = 5

_ARN = re.compile(r"arn:[^:]+:[^:]+:[^:]*:[^:]*:.+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Hook:
    """What is asked before a device is provisioned. Raises Invalid unless ``target_arn`` is an ARN."""

    target_arn: str
    payload_version: str = "2020-04-01"

    def __post_init__(self) -> None:
        if not _ARN.fullmatch(self.target_arn):
            raise Invalid("preProvisioningHook.targetArn", "must be an ARN")


@dataclass(frozen=True, slots=True)
class ProvisioningTemplate:
    """``default_version`` is the one that counts; ``last_version`` is never used again, even if it was deleted."""

    scope: Scope
    name: str
    kind: Kind
    description: str | None
    enabled: bool
    role_arn: str
    hook: Hook | None
    default_version: int
    last_version: int
    created_at: datetime
    modified_at: datetime

    @property
    def arn(self) -> str:
        return template_arn(self.scope, self.name)


@dataclass(frozen=True, slots=True)
class TemplateVersion:
    version: int
    body: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """A certificate of a few minutes, good for provisioning by one template and nothing else."""

    scope: Scope
    fingerprint: str
    template: str
    expires_at: datetime
    created_at: datetime


def template_arn(scope: Scope, name: str) -> str:
    return f"arn:aws:iot:{scope.region}:{scope.account}:provisioningtemplate/{name}"
