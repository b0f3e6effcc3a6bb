"""The condition keys and policy variables that have values for devices (AWS IoT's guide, "Policy variables")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thingmint.domain.policies.certificates import FIELDS
from thingmint.domain.policies.decisions import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.domain.policies.statements import Policy, Statement

_ALTERNATIVE_NAMES = "RFC822Name|DNSName|DirectoryName|UniformResourceIdentifier|IPAddress"
_KNOWN = re.compile(
    "aws:(SourceIp|CurrentTime|EpochTime)"
    "|iot:(ClientId|ConnectAttributes|LastWillTopic|DomainName|CertificateId)"
    r"|iot:Connection\.Thing\.(ThingName|ThingTypeName|IsAttached|Attributes\[.+\])"
    r"|iot:Certificate\.(CertificateId|SerialNumber|AvailableKeys"
    rf"|(Subject|Issuer)\.({'|'.join(FIELDS)}|AlternativeName\.({_ALTERNATIVE_NAMES}))(\.([0-9]+|List))?)",
    re.ASCII | re.IGNORECASE,
)


def unknown_keys(policy: Policy) -> list[str]:
    """The keys and variables of a device policy that never have a value, so that what depends on them never applies.

    AWS takes such policies, which may be meant for what is not served here.
    """
    named = dict.fromkeys(name for statement in policy.statements for name in _named(statement))
    return [name for name in named if not _KNOWN.fullmatch(name)]


def _named(statement: Statement) -> Iterator[str]:
    nothing = Request("", "")
    if statement.resources is not None:
        yield from statement.resources.patterns.unresolved(nothing)
    for condition in statement.conditions:
        yield condition.key
        yield from condition.unresolved(nothing)
