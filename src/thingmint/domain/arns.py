"""An account and region, and the ARNs of what they have in AWS IoT."""

from __future__ import annotations

import re
from typing import NamedTuple

from thingmint.domain.errors import Invalid, NotFound

# Every character that a name in AWS IoT can have.
_ARN = re.compile(r"arn:aws:iot:([a-z0-9-]{1,63}):([0-9]{12}):([a-z]{1,32})/([A-Za-z0-9_+=,.@:-]{1,128})")


class Scope(NamedTuple):
    """Ids are unique, and seen, within an account and region only."""

    account: str
    region: str


def arn(scope: Scope, resource: str) -> str:
    """``resource`` is the kind and the name, with a slash between."""
    return f"arn:aws:iot:{scope.region}:{scope.account}:{resource}"


def arn_of(scope: Scope, fingerprint: str) -> str:
    """A certificate's ARN."""
    return arn(scope, f"cert/{fingerprint}")


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
