"""A compiled policy: its statements and their principals. Statements are found by the action that they name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Literal

from thingmint.domain.policies.decisions import Allow, Deny, FailedCondition, Finding, Reason, StatementRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from thingmint.domain.policies.conditions import Condition, Presence
    from thingmint.domain.policies.decisions import Principal, Request
    from thingmint.domain.policies.patterns import PatternSet


_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
_ROOT = re.compile(r"arn:[a-z-]+:iam::([0-9]{12}):root", re.ASCII)
_UNIQUE_ID = re.compile(r"A[A-Z0-9]{15,127}", re.ASCII)


class PrincipalSet:
    """The principals of a statement. An account, or its root, selects all principals of the account.

    ``*`` selects all callers, even unauthenticated ones. Raises ValueError for a name that its kind cannot have; a
    wildcard inside a name is not allowed.
    """

    __slots__ = ("_accounts", "_all_callers", "_named", "_negated")

    def __init__(self, named: Mapping[str, Iterable[str]], *, negated: bool) -> None:
        accounts: set[str] = set()
        by_kind: dict[str, frozenset[str]] = {}
        for kind, names in named.items():
            own = set()
            for name in names:
                root = _ROOT.fullmatch(name) if kind == "AWS" else None
                if root is not None:
                    accounts.add(root[1])
                elif kind == "AWS" and _ACCOUNT.fullmatch(name):
                    accounts.add(name)
                else:
                    own.add(_check(kind, name))
            by_kind[kind] = frozenset(own)
        self._accounts = frozenset(accounts)
        self._all_callers = "*" in by_kind.get("AWS", ())
        self._named = by_kind
        self._negated = negated

    def selects(self, principal: Principal | None) -> bool:
        return self._names(principal) is not self._negated

    def _names(self, principal: Principal | None) -> bool:
        if self._all_callers:
            return True
        if principal is None:
            return False
        if principal.kind == "AWS" and principal.account in self._accounts:
            return True
        return not self._named.get(principal.kind, frozenset()).isdisjoint(principal.names)


def _check(kind: str, name: str) -> str:
    if kind == "AWS":
        if name != "*" and (not (name.startswith("arn:") or _UNIQUE_ID.fullmatch(name)) or not _plain(name)):
            raise ValueError("must be an account, an ARN or *")
    elif not name or not _plain(name):
        raise ValueError("must be a name without wildcards or variables")
    return name


def _plain(name: str) -> bool:
    return name.isprintable() and frozenset("*?${} ").isdisjoint(name)


Effect = Literal["Allow", "Deny"]

_MAX_FAILED = 5  # conditions that a finding lists
_REMEMBERED = 256  # actions that each policy caches; all APIs together have fewer operations


class Kind(StrEnum):
    """The use of a document, which decides the elements that are allowed in it."""

    IDENTITY = "identity"  # IAM: attached to a user, role or group; permission boundaries too
    SESSION = "session"  # the same, passed as an argument when a session is made
    DEVICE = "device"  # AWS IoT: attached to certificates and thing groups
    TRUST = "trust"  # who may assume a role: names principals and no resources


@dataclass(frozen=True, slots=True)
class Selection:
    """The patterns of Action or Resource, or with ``negated``, of NotAction or NotResource."""

    patterns: PatternSet
    negated: bool
    cautious: bool = False  # if a variable has no value, select nothing, even if negated

    def selects(self, text: str, request: Request) -> bool:
        if self.cautious and self.patterns.unresolved(request):
            return False
        return self.patterns.matches(text, request) is not self.negated


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    ref: StatementRef
    effect: Effect
    actions: Selection
    resources: Selection | None
    principals: PrincipalSet | None
    conditions: tuple[Condition | Presence, ...]
    decision: Allow | Deny = field(init=False)

    def __post_init__(self) -> None:
        decision = Allow(self.ref) if self.effect == "Allow" else Deny(Reason.EXPLICIT, self.ref)
        object.__setattr__(self, "decision", decision)

    def applies(self, request: Request) -> bool:
        """True if resource, principal and conditions match; the action is not checked. Raises TooManySteps."""
        if self.resources is not None and not self.resources.selects(request.resource, request):
            return False
        if self.principals is not None and not self.principals.selects(request.principal):
            return False
        if not self.conditions:
            return True
        request.spend(32 * len(self.conditions))
        return all(condition.holds(request) for condition in self.conditions)

    def explain(self, request: Request) -> Finding:
        """Return why the statement applies to the request or not. Raises TooManySteps."""
        request.spend(256 + 128 * len(self.conditions))
        resources, principals = self.resources, self.principals
        return Finding(
            statement=self.ref,
            effect=self.effect,
            resource=resources is None or resources.selects(request.resource, request),
            principal=principals is None or principals.selects(request.principal),
            failed=tuple(islice(self._failed(request), _MAX_FAILED)),
            unresolved=() if resources is None else resources.patterns.unresolved(request),
        )

    def _failed(self, request: Request) -> Iterator[FailedCondition]:
        for condition in self.conditions:
            if not condition.holds(request):
                present, unresolved = condition.present(request), condition.unresolved(request)
                yield FailedCondition(condition.operator, condition.key, present, unresolved)


Candidates = tuple[tuple[Statement, ...], tuple[Statement, ...]]
"""The statements that deny, and those that allow."""


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A compiled document. ``id`` is its Id element."""

    name: str
    kind: Kind
    version: str
    id: str | None
    statements: tuple[Statement, ...]
    _by_action: dict[str, Candidates] = field(default_factory=dict, init=False, repr=False)

    def naming(self, action: str, request: Request) -> Candidates:
        """Return the statements that name ``action``, which must be in lower case. The result is cached."""
        known = self._by_action.get(action)
        if known is None:
            named = [s for s in self.statements if s.actions.selects(action, request)]
            known = _of(named, "Deny"), _of(named, "Allow")
            if len(self._by_action) >= _REMEMBERED:
                self._by_action.clear()
            self._by_action[action] = known
        return known


def _of(statements: Iterable[Statement], effect: Effect) -> tuple[Statement, ...]:
    return tuple(s for s in statements if s.effect == effect)
