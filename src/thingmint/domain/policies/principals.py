"""Principal and NotPrincipal, which trust policies have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from thingmint.domain.policies.requests import Principal


_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
_ROOT = re.compile(r"arn:[a-z-]+:iam::([0-9]{12}):root", re.ASCII)
_UNIQUE_ID = re.compile(r"A[A-Z0-9]{15,127}", re.ASCII)


class PrincipalSet:
    """An account, or its root, stands for everybody in it. ``*`` is everybody, without credentials too.

    Raises ValueError for a name that its kind cannot have: a part of a name is never a wildcard.
    """

    __slots__ = ("_accounts", "_everybody", "_named", "_negated")

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
        self._everybody = "*" in by_kind.get("AWS", ())
        self._named = by_kind
        self._negated = negated

    def selects(self, principal: Principal | None) -> bool:
        return self._names(principal) is not self._negated

    def _names(self, principal: Principal | None) -> bool:
        if self._everybody:
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
