"""Things, their types and their groups, as AWS IoT has them, and the rules that need no look at anything else.

Patterns and lengths are those of AWS's model, counts those of its page on limits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from thingmint.domain.arns import arn
from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from thingmint.domain.registration import Scope

__all__ = [
    "MAX_CHILDREN",
    "MAX_GROUPS",
    "Attachment",
    "AttributeChange",
    "PrincipalType",
    "Thing",
    "ThingChange",
    "ThingGroup",
    "check_name",
    "thing_arn",
]

MAX_GROUPS = 10  # that a thing is in
MAX_CHILDREN = 100  # directly below a group
_MAX_DEPTH = 7  # levels of groups, the root counted
_MAX_ATTRIBUTES = 50  # of a thing with a type, and of a group
_MAX_ATTRIBUTES_UNTYPED = 3

_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_ATTRIBUTE_NAME = re.compile(r"[a-zA-Z0-9_.,@/:#-]{1,128}")
_ATTRIBUTE_VALUE = re.compile(r"[a-zA-Z0-9_.,@/:#=\[\]-]{0,800}")

PrincipalType = Literal["EXCLUSIVE_THING", "NON_EXCLUSIVE_THING"]


def check_name(name: str, field: str) -> str:
    """``name``, if it is one for things, types and groups. Raises Invalid."""
    if not _NAME.fullmatch(name):
        raise Invalid(field, f"must satisfy regular expression pattern: {_NAME.pattern}")
    return name


def thing_arn(scope: Scope, name: str) -> str:
    return arn(scope, f"thing/{name}")


def _check_count(attributes: Mapping[str, str], most: int) -> None:
    if len(attributes) > most:
        raise Invalid("attributes", f"must be at most {most}")


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """An attribute whose value is empty is removed: none is ever kept without a value."""

    values: Mapping[str, str]
    merge: bool = False

    def applied(self, before: Mapping[str, str], field: str) -> dict[str, str]:
        for name, value in self.values.items():
            if not _ATTRIBUTE_NAME.fullmatch(name):
                raise Invalid(field, f"has a name that does not satisfy the pattern: {_ATTRIBUTE_NAME.pattern}")
            if not _ATTRIBUTE_VALUE.fullmatch(value):
                raise Invalid(field, f"has a value that does not satisfy the pattern: {_ATTRIBUTE_VALUE.pattern}")
        merged = {**before, **self.values} if self.merge else self.values
        return {name: value for name, value in merged.items() if value}


@dataclass(frozen=True, slots=True)
class Thing:
    scope: Scope
    name: str
    id: str  # a UUID
    type: str | None
    attributes: Mapping[str, str]
    version: int  # counts changes, from 1
    created_at: datetime

    @classmethod
    def begin(
        cls, scope: Scope, name: str, *, id: str, type: str | None, attributes: Mapping[str, str], now: datetime
    ) -> Thing:
        """The first version of one. Raises Invalid."""
        check_name(name, "thingName")
        if type is not None:
            check_name(type, "thingTypeName")
        applied = AttributeChange(attributes).applied({}, "attributes")
        _check_count(applied, _MAX_ATTRIBUTES if type else _MAX_ATTRIBUTES_UNTYPED)
        return cls(scope, name, id, type, applied, version=1, created_at=now)

    @property
    def arn(self) -> str:
        return thing_arn(self.scope, self.name)

    def changed(self, change: ThingChange) -> Thing:
        """Itself if nothing is another, else its next version. Raises Invalid."""
        if change.type is not None and change.remove_type:
            raise Invalid("removeThingType", "must not be set along with thingTypeName")
        if change.type is not None:
            check_name(change.type, "thingTypeName")
        attributes = self.attributes
        if change.attributes is not None:
            attributes = change.attributes.applied(self.attributes, "attributes")
        type = None if change.remove_type else change.type or self.type
        if (type, attributes) == (self.type, self.attributes):
            return self
        _check_count(attributes, _MAX_ATTRIBUTES if type else _MAX_ATTRIBUTES_UNTYPED)
        return replace(self, type=type, attributes=attributes, version=self.version + 1)


@dataclass(frozen=True, slots=True)
class ThingChange:
    """What is None stays as it is."""

    type: str | None = None
    remove_type: bool = False
    attributes: AttributeChange | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A certificate that a thing may show; an exclusive one is no other thing's."""

    thing: str
    fingerprint: str
    type: PrincipalType


@dataclass(frozen=True, slots=True)
class ThingGroup:
    """``path`` holds the names from the root of its hierarchy to its own. A group never moves."""

    scope: Scope
    name: str
    id: str  # a UUID
    path: tuple[str, ...]
    description: str | None
    attributes: Mapping[str, str]
    version: int  # counts changes, from 1
    created_at: datetime

    @classmethod
    def begin(
        cls,
        scope: Scope,
        name: str,
        parent: ThingGroup | None,
        *,
        id: str,
        description: str | None,
        attributes: Mapping[str, str],
        now: datetime,
    ) -> ThingGroup:
        """The first version of one. Raises Invalid."""
        path = (*(parent.path if parent else ()), check_name(name, "thingGroupName"))
        if len(path) > _MAX_DEPTH:
            raise Invalid("parentGroupName", f"is at the bottom of a hierarchy of {_MAX_DEPTH} levels already")
        applied = AttributeChange(attributes).applied({}, "attributes")
        _check_count(applied, _MAX_ATTRIBUTES)
        return cls(scope, name, id, path, description, applied, version=1, created_at=now)

    @property
    def resource(self) -> str:
        return f"thinggroup/{self.name}"

    @property
    def arn(self) -> str:
        return arn(self.scope, self.resource)

    @property
    def root(self) -> str:
        return self.path[0]

    @property
    def parent(self) -> str | None:
        return self.path[-2] if len(self.path) > 1 else None

    def is_like(self, other: ThingGroup) -> bool:
        mine, theirs = [(g.path, g.description, g.attributes) for g in (self, other)]
        return mine == theirs

    def changed(self, description: str | None, attributes: AttributeChange | None) -> ThingGroup:
        """Itself if nothing is another, else its next version. Raises Invalid."""
        new = replace(
            self,
            description=self.description if description is None else description,
            attributes=self.attributes if attributes is None else attributes.applied(self.attributes, "attributes"),
        )
        _check_count(new.attributes, _MAX_ATTRIBUTES)
        return self if new.is_like(self) else replace(new, version=self.version + 1)
