"""The actions that this server asks policies for, and the resources that it asks for with each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from thingmint.domain.policies.decisions import Request
from thingmint.domain.policies.patterns import Dialect, Machine, PatternSet, Variable, Wildcard, read_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ANY = "*"
_PLAIN = Dialect(variables=False, guarded=False)
_WITH_VARIABLES = Dialect(variables=True, guarded=False)
_ARN_PARTS = 6
_DEEP = ("", "client", "domainconfiguration", "topic", "topicfilter")  # kinds whose names can have slashes


@dataclass(frozen=True)
class Vocabulary:
    """``actions`` has the resources of each action, as they begin: kinds of AWS IoT such as ``cert``; whole texts such
    as ``yandex:device/`` or ``arn:aws:iam::{account}:role/``; ``*`` for actions that are asked for without a resource.

    ``unasked`` are actions that exist, but that the server never asks policies of this kind for. ``account`` and
    ``regions`` are those of the caller. ``keys`` matches the condition keys that can have a value.
    """

    actions: Mapping[str, Sequence[str]]
    account: str
    regions: Sequence[str]
    keys: re.Pattern[str]
    unasked: frozenset[str] = field(default_factory=frozenset)

    @cached_property
    def services(self) -> frozenset[str]:
        return frozenset(name.partition(":")[0].lower() for name in self.actions)

    @cached_property
    def by_lower(self) -> dict[str, str]:
        return {name.lower(): name for name in self.actions}

    @cached_property
    def _unasked(self) -> frozenset[str]:
        return frozenset(name.lower() for name in self.unasked)

    def selected(self, pattern: str) -> list[str]:
        """The actions that the pattern of an Action element selects."""
        text = pattern.lower()
        if "*" not in text and "?" not in text:
            return [self.by_lower[text]] if text in self.by_lower else []
        return _selected(text, self.by_lower)

    def is_unasked(self, pattern: str) -> bool:
        """True if the pattern selects an action that exists, but is never asked for."""
        return bool(_selected(pattern.lower(), dict.fromkeys(self._unasked, "")))

    def kinds(self, actions: Iterable[str]) -> list[str]:
        """The resources of the actions, each once."""
        return list(dict.fromkeys(kind for action in actions for kind in self.actions[action]))

    def resource_selects(self, pattern: str, kinds: Iterable[str], *, variables: bool) -> bool:
        """True if the pattern can match a resource of one of these kinds in the account.

        A variable can have any value. Raises ValueError for a pattern that is not valid.
        """
        if pattern == ANY:
            return True
        tokens = read_tokens(pattern, _WITH_VARIABLES if variables else _PLAIN, wildcards=True)
        machine = Machine([[Wildcard.RUN if isinstance(token, Variable) else token for token in tokens]])
        after_region = {
            machine.advance(machine.start, f"arn:aws:iot:{region}:{self.account}:") for region in self.regions
        }
        for kind in kinds:
            if kind == ANY:
                if machine.matches(ANY, Request("", ANY)):
                    return True
            elif ":" in kind:
                state = machine.advance(machine.start, kind.format(account=self.account))
                if machine.can_go_on(state, "") or (state and not kind.endswith("/") and machine.is_match(state)):
                    return True
            elif any(
                machine.can_go_on(machine.advance(state, f"{kind}/" if kind else ""), "" if kind in _DEEP else "/")
                for state in after_region
            ):
                return True
        return False

    def unknown_variables(self, pattern: str) -> list[str]:
        """The variables of a pattern that have no value in any request, and no default."""
        try:
            tokens = read_tokens(pattern, _WITH_VARIABLES, wildcards=True)
        except ValueError:
            return []
        variables = [each for each in tokens if isinstance(each, Variable) and each.default is None]
        return [f"${{{each.name}}}" for each in variables if not self.keys.fullmatch(each.name)]

    def written(self, kind: str) -> str:
        """The resources of a kind, as a policy names them."""
        if kind == ANY:
            return ANY
        if ":" in kind:
            return f"{kind.format(account=self.account)}…"
        return f"arn:aws:iot:{self.regions[0] if len(self.regions) == 1 else 'REGION'}:{self.account}:{kind}/…"

    def foreign(self, resource: str) -> str | None:
        """Why an ARN of AWS IoT names a resource of another account or region; None if it does not."""
        parts = resource.split(":", _ARN_PARTS - 1)
        if len(parts) < _ARN_PARTS or parts[0] != "arn":
            return None
        if not set("*?$") & set(parts[4]) and parts[4] not in (self.account, ""):
            return f"it is of the account {parts[4][:20]}, and this account is {self.account}"
        if parts[2] == "iot" and not set("*?$") & set(parts[3]) and parts[3] not in self.regions:
            own = ", ".join(self.regions[:5])
            return f"it is of the region {parts[3][:40] or 'without a name'}, and this account has {own}"
        return None


def _selected(pattern: str, names: Mapping[str, str]) -> list[str]:
    begin = re.split(r"[*?]", pattern, maxsplit=1)[0]
    one, nothing = PatternSet([read_tokens(pattern, _PLAIN, wildcards=True)]), Request("", "")
    return [name for lower, name in names.items() if lower.startswith(begin) and one.matches(lower, nothing)]
