"""What a connected device may do: its policies, and what is known of its connection."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, ClassVar, Literal

from thingmint.domain.policies import MAX_FINDINGS, Allow, Deny, Kind, Request, evaluate, explain
from thingmint.services.compiled_policies import POLICIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from thingmint.domain.arns import Scope
    from thingmint.domain.policies import ContextValue, Decision


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
_REMEMBERED_OVERHEAD = 200  # bytes of a decision's places, besides the name
_COSTLY_KEYS = {"time": ("aws:currenttime", "aws:epochtime"), "certificate": ("iot:certificate",)}


def mentions(documents: Iterable[tuple[str, str]], what: Literal["time", "certificate"]) -> bool:
    """Whether any of the policies (names and texts) may speak of it."""
    return any(what in _mentioned(document) for _, document in documents)


@functools.lru_cache(maxsize=4096)
def _mentioned(document: str) -> frozenset[str]:
    """Found in the text, where JSON's escapes could hide anything."""
    text = document.lower()
    return frozenset(what for what, keys in _COSTLY_KEYS.items() if "\\" in text or any(key in text for key in keys))


class DevicePermissions:
    """Decisions are remembered, as a device does the same things for ever; not those that hang on the time.

    ``remembered_by_all`` are the bytes that they take.
    """

    __slots__ = ("_clock", "_context", "_policies", "_prefix", "_remembered", "_size", "_timeless")
    remembered_by_all: ClassVar[int] = 0

    def __init__(
        self,
        scope: Scope,
        documents: Sequence[tuple[str, str]],
        context: Mapping[str, ContextValue],
        clock: Callable[[], datetime],
    ) -> None:
        """``documents`` are names and texts of the policies that apply. Raises MalformedPolicy."""
        self._policies = tuple(POLICIES.get(Kind.DEVICE, *document) for document in documents)
        self._prefix = f"arn:aws:iot:{scope.region}:{scope.account}:"
        self._context = context
        self._clock = clock
        self._timeless = not mentions(documents, "time")
        self._remembered: dict[tuple[Action, str], Decision] = {}
        self._size = 0

    def __del__(self) -> None:
        """A connection ends in many ways, and takes on new permissions in others; all give back what it remembered."""
        type(self).remembered_by_all -= getattr(self, "_size", 0)  # which one that could not be made has not

    def resource(self, action: Action, name: str) -> str:
        return f"{self._prefix}{_RESOURCES[action]}/{name}"

    def allows(self, action: Action, name: str, further: Mapping[str, ContextValue] | None = None) -> bool:
        return isinstance(self.decide(action, name, further), Allow)

    def decide(self, action: Action, name: str, further: Mapping[str, ContextValue] | None = None) -> Decision:
        """``name`` is a client id, topic or filter, ``further`` what only this request has."""
        key = (action, name)
        if further is None and (known := self._remembered.get(key)) is not None:
            return known
        decision = evaluate(self._policies, self._request(action, name, further))
        if further is None and self._timeless:
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
        """For the operator: what denied it, or which statements come closest to allowing it and what they lack."""
        findings = explain(self._policies, self._request(action, name, further))
        if findings:
            return [str(finding) for finding in findings[:MAX_FINDINGS]]
        if not self._policies:
            return [f"no policy is attached; one has to allow iot:{action} on {self.resource(action, name)}"]
        names = ", ".join(policy.name for policy in self._policies[:MAX_FINDINGS])
        return [f"none of the policies ({names}) names iot:{action}; allow it on {self.resource(action, name)}"]

    def why(self, action: Action, name: str, further: Mapping[str, ContextValue] | None = None) -> str:
        decision = self.decide(action, name, further)
        return str(decision) if isinstance(decision, Deny) else "allowed"

    def _request(self, action: Action, name: str, further: Mapping[str, ContextValue] | None) -> Request:
        context = self._context if not further else {**self._context, **further}
        if not self._timeless:
            context = {**context, "aws:CurrentTime": self._clock(), "aws:EpochTime": self._clock().timestamp()}
        return Request(f"iot:{action}", self.resource(action, name), context)
