"""The permissions of a connected device: its policies, evaluated with the facts about its connection."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ClassVar, Literal

from thingmint.domain.policies import MAX_FINDINGS, Allow, Deny, Request, evaluate, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from thingmint.domain.policies import ContextValue, Decision
    from thingmint.services.compiled_policies import PolicySet


Action = Literal["Connect", "Publish", "Receive", "RetainPublish", "Subscribe"]

_RESOURCES: Mapping[Action, str] = {
    "Connect": "client",
    "Publish": "topic",
    "Receive": "topic",
    "RetainPublish": "topic",
    "Subscribe": "topicfilter",
}

_MAX_REMEMBERED = 64 * 1024  # bytes of memory for the decisions of one connection
_MAX_REMEMBERED_BY_ALL = 64 * 2**20
_REMEMBERED_OVERHEAD = 200  # bytes that a cached decision takes in addition to the name


class DevicePermissions:
    """Caches decisions, because a device repeats the same actions. Decisions that depend on the time are not cached.

    ``remembered_by_all`` is the size in bytes of the caches of all connections.
    """

    __slots__ = ("_clock", "_context", "_remembered", "_set", "_size")
    remembered_by_all: ClassVar[int] = 0

    def __init__(self, policies: PolicySet, context: Mapping[str, ContextValue], clock: Callable[[], datetime]) -> None:
        self._set = policies
        self._context = context
        self._clock = clock
        self._remembered: dict[tuple[Action, str], Decision] = {}
        self._size = 0

    def __del__(self) -> None:
        """Subtract the size of this cache, however the connection ends or gets new permissions."""
        type(self).remembered_by_all -= self._size

    def resource(self, action: Action, name: str) -> str:
        return f"{self._set.prefix}{_RESOURCES[action]}/{name}"

    def allows(self, action: Action, name: str, further: Mapping[str, ContextValue] | None = None) -> bool:
        return isinstance(self.decide(action, name, further), Allow)

    def decide(self, action: Action, name: str, further: Mapping[str, ContextValue] | None = None) -> Decision:
        """Return the decision. ``name`` is a client id, topic or filter; ``further`` are keys of this request only."""
        key = (action, name)
        if further is None and (known := self._remembered.get(key)) is not None:
            return known
        decision = evaluate(self._set.policies, self._request(action, name, further))
        if further is None and "time" not in self._set.mentions:
            self._remember(key, decision)
        return decision

    def _remember(self, key: tuple[Action, str], decision: Decision) -> None:
        size = sys.getsizeof(key[1]) + _REMEMBERED_OVERHEAD
        if self._size + size > _MAX_REMEMBERED:
            DevicePermissions.remembered_by_all -= self._size
            self._size = 0
            self._remembered.clear()
        if DevicePermissions.remembered_by_all + size <= _MAX_REMEMBERED_BY_ALL:
            DevicePermissions.remembered_by_all += size
            self._size += size
            self._remembered[key] = decision

    def explanation(self, action: Action, name: str, further: Mapping[str, ContextValue] | None = None) -> list[str]:
        """Return an explanation for the operator: what denied the action, or which statements almost allow it."""
        findings = explain(self._set.policies, self._request(action, name, further))
        if findings:
            return [str(finding) for finding in findings[:MAX_FINDINGS]]
        if not self._set.policies:
            return [f"no policy is attached; one must allow iot:{action} on {self.resource(action, name)}"]
        names = ", ".join(policy.name for policy in self._set.policies[:MAX_FINDINGS])
        return [f"none of the policies ({names}) names iot:{action}; allow it on {self.resource(action, name)}"]

    def why(self, action: Action, name: str, further: Mapping[str, ContextValue] | None = None) -> str:
        decision = self.decide(action, name, further)
        return str(decision) if isinstance(decision, Deny) else "allowed"

    def _request(self, action: Action, name: str, further: Mapping[str, ContextValue] | None) -> Request:
        context = self._context if not further else {**self._context, **further}
        if "time" in self._set.mentions:
            context = {**context, "aws:CurrentTime": self._clock(), "aws:EpochTime": self._clock().timestamp()}
        return Request(f"iot:{action}", self.resource(action, name), context)
