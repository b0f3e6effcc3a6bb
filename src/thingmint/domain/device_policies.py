"""Device policies: named documents in versions that say what devices may do, and what they are attached to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from thingmint.domain.certificates import parse_fingerprint
from thingmint.domain.errors import Invalid, NotFound

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.domain.registration import Scope

__all__ = [
    "MAX_ATTACHED",
    "MAX_SIZE",
    "MAX_VERSIONS",
    "DevicePolicy",
    "PolicyVersion",
    "Target",
    "TargetKind",
    "parse_target",
    "policy_arn",
]

# AWS's quotas.
MAX_ATTACHED = 10  # policies to one target
MAX_SIZE = 2048  # characters of a document, white space not counted
MAX_VERSIONS = 5

TargetKind = Literal["cert", "thinggroup"]  # as ARNs have them

_TARGET = re.compile(r"arn:aws:iot:([^:/]*):([^:/]*):(?:(cert)/([^/]*)|(thinggroup)/([a-zA-Z0-9:_-]{1,128}))")

_NOUNS: dict[TargetKind, str] = {"cert": "certificate", "thinggroup": "thing group"}


def policy_arn(scope: Scope, name: str) -> str:
    return f"arn:aws:iot:{scope.region}:{scope.account}:policy/{name}"


@dataclass(frozen=True, slots=True)
class DevicePolicy:
    """``last_version`` is the highest number that a version ever had: numbers are not used again."""

    scope: Scope
    name: str
    default_version: int
    last_version: int
    generation: str  # a UUID: differs when a policy was deleted and made again
    created_at: datetime
    modified_at: datetime

    @property
    def arn(self) -> str:
        return policy_arn(self.scope, self.name)


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """``document`` is what was sent, character for character. Only its number and date when it comes from a list."""

    number: int
    document: str
    generation: str
    created_at: datetime


class Target(NamedTuple):
    """What a policy is attached to: a certificate by its fingerprint, or a thing group by its name."""

    kind: TargetKind
    name: str

    @property
    def noun(self) -> str:
        return _NOUNS[self.kind]

    def arn(self, scope: Scope) -> str:
        return f"arn:aws:iot:{scope.region}:{scope.account}:{self.kind}/{self.name}"


def parse_target(arn: str, scope: Scope, field: str, *kinds: TargetKind) -> Target:
    """A target of one of those ``kinds``, which need not exist.

    Raises Invalid, and NotFound for one that is not of ``scope``: what lies elsewhere is no different from nothing.
    """
    match = _TARGET.fullmatch(arn)
    kind: TargetKind = "cert" if match and match[3] else "thinggroup"
    if match is None or kind not in kinds:
        raise Invalid(field, f"must be the ARN of a {' or a '.join(_NOUNS[kind] for kind in kinds)}")
    target = Target(kind, parse_fingerprint(match[4], field) if kind == "cert" else match[6])
    if (match[2], match[1]) != scope:
        raise NotFound(target.noun, target.name)
    return target
