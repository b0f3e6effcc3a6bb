"""The request that policies are evaluated for, the decision, and its explanation."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

Scalar = str | bool | int | float | bytes | datetime | IPv4Address | IPv6Address
ContextValue = Scalar | Sequence[Scalar] | AbstractSet[Scalar] | None
PrincipalKind = Literal["AWS", "Service", "Federated", "CanonicalUser"]


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller, for policies that name principals.

    ``names`` are all names of the caller: for a role's session, the ARNs of the session and of the role.
    """

    kind: PrincipalKind
    names: tuple[str, ...]
    account: str | None = None


MAX_STEPS = 400_000


class TooManySteps(Exception):
    """Evaluating the policies takes more steps than the request has left."""


@dataclass(slots=True)
class Request:
    """One action on one resource, with the condition keys in ``context``.

    Keys are case-insensitive; an absent key, None and an empty collection are the same. ``steps`` is how much work its
    evaluation may still take; a step takes some 10 ns.
    """

    action: str
    resource: str
    context: Mapping[str, ContextValue] = field(default_factory=dict)
    principal: Principal | None = None
    steps: int = field(default=MAX_STEPS, repr=False, compare=False)
    _folded: dict[str, tuple[Scalar, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def spend(self, steps: int) -> None:
        """Count work before it is done. Raises TooManySteps."""
        self.steps -= steps
        if self.steps < 0:
            raise TooManySteps

    def values(self, key: str) -> tuple[Scalar, ...]:
        """Return the values of a key, which must be in lower case; empty if it is absent."""
        folded = self._folded
        if not folded and self.context:
            folded.update((name.lower(), _values(value)) for name, value in self.context.items())
        return folded.get(key, ())


def _values(value: ContextValue) -> tuple[Scalar, ...]:
    if isinstance(value, str):  # the usual case, first for speed
        return (value,)
    if value is None:
        return ()
    if isinstance(value, int | float | bytes | datetime | IPv4Address | IPv6Address):
        return (value,)
    return tuple(value)


def text_of(value: Scalar) -> str:
    """Return a context value as a policy writes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return b64encode(value).decode("ascii")
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


class Reason(StrEnum):
    EXPLICIT = "explicit deny"
    IMPLICIT = "no statement allows it"
    COST = "the policies make more work than a request may"


@dataclass(frozen=True, slots=True)
class StatementRef:
    """``policy`` is the name that was given to ``compile_policy``; ``index`` counts its statements from 0."""

    policy: str
    index: int
    sid: str | None

    def __str__(self) -> str:
        return f"statement {self.sid or self.index + 1} of policy {self.policy}"


@dataclass(frozen=True, slots=True)
class Allow:
    statement: StatementRef


@dataclass(frozen=True, slots=True)
class Deny:
    """``statement`` is the one that denies explicitly, if any; without policies the reason is a phrase.

    ``group`` is the index of the group of policies that denies, or does not allow (``evaluate_all``).
    """

    reason: Reason | str
    statement: StatementRef | None = None
    group: int = 0

    @property
    def explicit(self) -> bool:
        return self.reason is Reason.EXPLICIT

    def __str__(self) -> str:
        return str(self.reason) if self.statement is None else f"{self.reason} in {self.statement}"


Decision = Allow | Deny


@dataclass(frozen=True, slots=True)
class FailedCondition:
    operator: str
    key: str
    present: bool  # whether the request has the key
    unresolved: tuple[str, ...]  # variables in the condition's values that have no usable value

    def __str__(self) -> str:
        if self.unresolved:
            return f"{self.operator} of {self.key}: no usable value for {', '.join(self.unresolved)}"
        return f"{self.operator} of {self.key}" + ("" if self.present else ", which the request lacks")


@dataclass(frozen=True, slots=True)
class Finding:
    """A statement that names the action, and why it does or does not apply."""

    statement: StatementRef
    effect: Literal["Allow", "Deny"]
    resource: bool
    principal: bool
    failed: tuple[FailedCondition, ...]
    unresolved: tuple[str, ...]  # variables in its resources that have no usable value

    @property
    def applies(self) -> bool:
        return self.resource and self.principal and not self.failed

    def __str__(self) -> str:
        if self.applies:
            return f"{self.statement}: {'denies' if self.effect == 'Deny' else 'allows'} it"
        lacks = []
        if not self.resource:
            why = f" (no usable value for {', '.join(self.unresolved)})" if self.unresolved else ""
            lacks.append(f"the resource does not match{why}")
        if not self.principal:
            lacks.append("the principal does not match")
        lacks.extend(f"condition not met: {condition}" for condition in self.failed)
        would = "would deny it" if self.effect == "Deny" else "would allow it"
        return f"{self.statement}: {would}, but {'; '.join(lacks)}"
