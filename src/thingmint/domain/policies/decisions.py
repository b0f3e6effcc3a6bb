"""What an evaluation comes to, with the facts that explain it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Reason(StrEnum):
    EXPLICIT = "explicit deny"
    IMPLICIT = "no statement allows it"
    COST = "the policies make more work than a request may"


@dataclass(frozen=True, slots=True)
class StatementRef:
    """``policy`` is the name given when the document was compiled, ``index`` counts its statements from 0."""

    policy: str
    index: int
    sid: str | None

    def __str__(self) -> str:
        return f"statement {self.sid or self.index} of policy {self.policy}"


@dataclass(frozen=True, slots=True)
class Allow:
    statement: StatementRef


@dataclass(frozen=True, slots=True)
class Deny:
    """``statement`` denied explicitly; ``group`` is the one of several groups of policies that denied or lacks."""

    reason: Reason
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
    present: bool  # whether the request has the key at all
    unresolved: tuple[str, ...]  # variables in the values that have none

    def __str__(self) -> str:
        if self.unresolved:
            return f"{self.operator} of {self.key}: no usable value for {', '.join(self.unresolved)}"
        return f"{self.operator} of {self.key}" + ("" if self.present else ", which the request lacks")


@dataclass(frozen=True, slots=True)
class Finding:
    """A statement that names the action, and what kept it from applying. Nothing did if ``applies``."""

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
