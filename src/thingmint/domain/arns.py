"""The account and region that a resource belongs to, and AWS IoT's ARNs."""

from __future__ import annotations

import re
from typing import NamedTuple

from thingmint.domain.errors import Invalid, NotFound

# The last group allows every character that a name in AWS IoT can have.
_ARN = re.compile(r"arn:aws:iot:([a-z0-9-]{1,63}):([0-9]{12}):([a-z]{1,32})/([A-Za-z0-9_+=,.@:-]{1,128})")

_ROLE_ARN = re.compile(r"arn:aws:iam::([0-9]{12}):role/(?:[\w+=,.@-]+/)*([\w+=,.@-]+)", re.ASCII)


class Scope(NamedTuple):
    """An account and region. Ids are unique and visible only within one of them."""

    account: str
    region: str


def arn(scope: Scope, resource: str) -> str:
    """Return the ARN of ``resource``, which is written kind/name."""
    return f"arn:aws:iot:{scope.region}:{scope.account}:{resource}"


def arn_of(scope: Scope, fingerprint: str) -> str:
    """A certificate's ARN."""
    return arn(scope, f"cert/{fingerprint}")


def parse_arn(scope: Scope, text: str, field: str, *kinds: str) -> tuple[str, str]:
    """Return the kind, which is one of ``kinds``, and the name.

    Raises Invalid if ``text`` is not such an ARN. Raises NotFound if the ARN is in another account or region, even if
    the resource exists there.
    """
    match = _ARN.fullmatch(text)
    if match is None or match[3] not in kinds:
        raise Invalid(field, f"must be the ARN of a {' or '.join(kinds)}")
    region, account, kind, name = match.groups()
    if (account, region) != scope:
        raise NotFound(kind, name)
    return kind, name


def parse_role_arn(text: str, field: str) -> tuple[str, str]:
    """Return the account and the name of an IAM role. Raises Invalid if ``text`` is not the ARN of one."""
    match = _ROLE_ARN.fullmatch(text)
    if match is None:
        raise Invalid(field, "must be the ARN of an IAM role")
    return match[1], match[2]
