"""ARNs of what an account has in AWS IoT: how they are formed, and how one is read that a caller sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thingmint.domain.errors import Invalid, NotFound

if TYPE_CHECKING:
    from thingmint.domain.registration import Scope

__all__ = ["arn", "parse_arn"]

# Every character that a name in AWS IoT can have.
_ARN = re.compile(r"arn:aws:iot:([a-z0-9-]{1,63}):([0-9]{12}):([a-z]{1,32})/([A-Za-z0-9_+=,.@:-]{1,128})")


def arn(scope: Scope, resource: str) -> str:
    """``resource`` is the kind and the name, with a slash between."""
    return f"arn:aws:iot:{scope.region}:{scope.account}:{resource}"


def parse_arn(scope: Scope, text: str, field: str, *kinds: str) -> tuple[str, str]:
    """The kind, one of ``kinds``, and the name.

    Raises Invalid for what is no such ARN, and NotFound for one of another account or region, whether that exists or
    not.
    """
    match = _ARN.fullmatch(text)
    if match is None or match[3] not in kinds:
        raise Invalid(field, f"must be the ARN of a {' or '.join(kinds)}")
    region, account, kind, name = match.groups()
    if (account, region) != scope:
        raise NotFound(kind, name)
    return kind, name
