"""What a device may do: the rules of the service, then the device's policies, evaluated with the facts about it.

The MQTT gateway, TestAuthorization and ``thingmint why`` ask the same functions, with the same record of facts. The
gateway fills ``DeviceContext`` from a connection. Without a connection, the facts that only a connection has are None.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, ClassVar, Literal

from thingmint.domain.mqtt_topics import unshared
from thingmint.domain.policies import MAX_FINDINGS, Allow, Deny, Request, evaluate, explain
from thingmint.domain.policies.device_keys import certificate_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from thingmint.domain.policies import ContextValue, Decision, Finding
    from thingmint.services.compiled_policies import PolicySet, Subject
    from thingmint.services.device_facts import AttachedThing


Action = Literal["AssumeRoleWithCertificate", "Connect", "Publish", "Receive", "RetainPublish", "Subscribe"]

RESOURCES: Mapping[Action, str] = {
    "AssumeRoleWithCertificate": "rolealias",
    "Connect": "client",
    "Publish": "topic",
    "Receive": "topic",
    "RetainPublish": "topic",
    "Subscribe": "topicfilter",
}

_EVENTS = "$aws/events/"
_RESERVED = "$aws/"
RESERVED_TOPIC = Deny("the topic is reserved for the service itself")
_RESERVED_FILTER = Deny("topic filters that begin with $ are reserved for the service itself")

_MAX_REMEMBERED = 64 * 1024  # bytes of memory for the decisions of one connection
_MAX_REMEMBERED_BY_ALL = 64 * 2**20
_REMEMBERED_OVERHEAD = 200  # bytes that a cached decision takes in addition to the name


@dataclass(frozen=True, slots=True)
class DeviceContext:
    """The facts that policies are evaluated with, apart from the time.

    ``certificate`` is DER. ``address``, ``host_name`` (SNI), ``connecting`` (AWS's iot:ConnectAttributes) and
    ``will_topic`` are facts of a connection.
    """

    thing: AttachedThing | None
    client_id: str | None
    certificate: bytes | None
    address: str | None = None
    host_name: str | None = None
    connecting: tuple[str, ...] | None = None
    will_topic: str | None = None

    def variables(self, mentions: frozenset[Subject]) -> Mapping[str, ContextValue]:
        """Return the values of policy variables. Costly ones are included only if the policies may use them."""
        thing = self.thing
        variables: dict[str, ContextValue] = {"iot:Connection.Thing.IsAttached": thing is not None}
        if self.client_id is not None:
            variables["iot:ClientId"] = self.client_id
        if thing is not None:
            variables["iot:Connection.Thing.ThingName"] = thing.name
            variables["iot:Connection.Thing.ThingTypeName"] = thing.type
            if "attributes" in mentions:
                for name, value in thing.attributes.items():
                    variables[f"iot:Connection.Thing.Attributes[{name}]"] = value
        if "address" in mentions and self.address:
            variables["aws:SourceIp"] = ip_address(self.address)
        if "certificate" in mentions and self.certificate is not None:
            variables |= certificate_context(self.certificate)
        return variables

    def of_connect(self, policies: PolicySet) -> Mapping[str, ContextValue]:
        """Return the keys that only iot:Connect has."""
        will = self.will_topic
        return {
            "iot:ConnectAttributes": self.connecting,
            "iot:LastWillTopic": None if will is None else f"{policies.prefix}{RESOURCES['Publish']}/{will}",
            "iot:DomainName": self.host_name,
        }


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a device may not do. A message that is to be retained needs two actions.

    ``further`` are the keys that the request had in addition. ``reserved``: no policy can allow it.
    """

    action: Action
    name: str
    decision: Deny
    further: Mapping[str, ContextValue] | None = None
    reserved: bool = False


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

    @property
    def policies(self) -> PolicySet:
        return self._set

    # What a device asks for. None: it is allowed.

    def connect(self, client_id: str, context: DeviceContext) -> Refusal | None:
        return self._refusal("Connect", client_id, context.of_connect(self._set))

    def publish(self, topic: str, *, retain: bool) -> Refusal | None:
        if topic[0] == "$" and (topic.startswith(_EVENTS) or not topic.startswith(_RESERVED)):
            return Refusal("Publish", topic, RESERVED_TOPIC, reserved=True)
        refusal = self._refusal("Publish", topic)
        return self._refusal("RetainPublish", topic) if retain and refusal is None else refusal

    def subscribe(self, filter: str) -> Refusal | None:
        """AWS authorizes a shared subscription by the part after the group."""
        if filter[0] == "$":
            filter = unshared(filter)
            if filter[0] == "$" and not filter.startswith(_RESERVED):
                return Refusal("Subscribe", filter, _RESERVED_FILTER, reserved=True)
        return self._refusal("Subscribe", filter)

    def receive(self, topic: str) -> Refusal | None:
        return self._refusal("Receive", topic)

    def _refusal(self, action: Action, name: str, further: Mapping[str, ContextValue] | None = None) -> Refusal | None:
        decision = self.decide(action, name, further)
        return Refusal(action, name, decision, further) if isinstance(decision, Deny) else None

    # One action on one resource.

    def resource(self, action: Action, name: str) -> str:
        return f"{self._set.prefix}{RESOURCES[action]}/{name}"

    def allows(self, action: Action, name: str, further: Mapping[str, ContextValue] | None = None) -> bool:
        return isinstance(self.decide(action, name, further), Allow)

    def decide(self, action: Action, name: str, further: Mapping[str, ContextValue] | None = None) -> Decision:
        """Return the decision. ``name`` is a client id, topic or filter; ``further`` are keys of this request only."""
        key = (action, name)
        if further is None and (known := self._remembered.get(key)) is not None:
            return known
        decision = evaluate(self._set.policies, self.request(action, name, further))
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

    def findings(self, action: Action, name: str, further: Mapping[str, ContextValue] | None = None) -> list[Finding]:
        """Return the statements that deny the action, then those that allow it or come closest."""
        return explain(self._set.policies, self.request(action, name, further))

    def explanation(self, action: Action, name: str, further: Mapping[str, ContextValue] | None = None) -> list[str]:
        """Return an explanation for the operator: what denied the action, or which statements almost allow it."""
        if findings := self.findings(action, name, further):
            return [str(finding) for finding in findings[:MAX_FINDINGS]]
        if not self._set.policies:
            return [f"no policy is attached; one must allow iot:{action} on {self.resource(action, name)}"]
        names = ", ".join(policy.name for policy in self._set.policies[:MAX_FINDINGS])
        return [f"none of the policies ({names}) names iot:{action}; allow it on {self.resource(action, name)}"]

    def explain(self, refusal: Refusal) -> list[str]:
        """Return the explanation of a refusal; empty if no policy can change it."""
        return [] if refusal.reserved else self.explanation(refusal.action, refusal.name, refusal.further)

    def request(self, action: Action, name: str, further: Mapping[str, ContextValue] | None = None) -> Request:
        context = self._context if not further else {**self._context, **further}
        if "time" in self._set.mentions:
            context = {**context, "aws:CurrentTime": self._clock(), "aws:EpochTime": self._clock().timestamp()}
        return Request(f"iot:{action}", self.resource(action, name), context)
