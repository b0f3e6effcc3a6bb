"""What resolved values must look like: the rules of AWS IoT's model for what a template makes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thingmint.domain.errors import Invalid
from thingmint.domain.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping


_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}", re.ASCII)
_POLICY_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_ATTRIBUTE_NAME = re.compile(r"[a-zA-Z0-9_.,@/:#-]{1,128}", re.ASCII)
_ATTRIBUTE_VALUE = re.compile(r"[a-zA-Z0-9_.,@/:#=\[\]-]{0,800}", re.ASCII)
_STATUSES = {"active": Status.ACTIVE, "inactive": Status.INACTIVE}

STATUS_FLAW = 'A certificate resource must specify a Status of either "Active" or "Inactive"'


def checked_name(value: str, field: str) -> str:
    """A thing's, a type's or a group's name. Raises Invalid."""
    if not _NAME.fullmatch(value):
        raise Invalid(field, "must be 1 to 128 of the characters a-z A-Z 0-9 : _ -")
    return value


def checked_policy_name(value: str, field: str) -> str:
    if not _POLICY_NAME.fullmatch(value):
        raise Invalid(field, "must be 1 to 128 of the characters a-z A-Z 0-9 _ + = , . @ -")
    return value


def checked_attributes(given: Mapping[str, str], field: str) -> dict[str, str]:
    for name, value in given.items():
        if not _ATTRIBUTE_NAME.fullmatch(name) or not _ATTRIBUTE_VALUE.fullmatch(value):
            raise Invalid(field, "has a name or a value that an attribute cannot have")
    return dict(given)


def status_of(text: str) -> Status | None:
    """The case does not matter."""
    return _STATUSES.get(text.lower())
