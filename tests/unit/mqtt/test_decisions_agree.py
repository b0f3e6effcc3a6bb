"""TestAuthorization decides as the gateway does, for generated policies, groups, variables and topics."""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from hypothesis import example, given
from hypothesis import strategies as st

from tests.world import OURS, new_world
from thingmint.domain.messages import Message
from thingmint.mqtt.peer import Peer
from thingmint.mqtt.protocol.events import SubscribeRequested
from thingmint.mqtt.protocol.packets import Publish, SubscriptionRequest
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.traffic import Traffic
from thingmint.services.authentication_decisions import Accepted, Rejected
from thingmint.services.device_authentication import DeviceAuthenticator
from thingmint.services.hostnames import HostNames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.world import World

BASE = f"arn:aws:iot:{OURS.region}:{OURS.account}:"
CLIENT_IDS = ["lamp", "other", "a:b"]
TOPICS = ["a", "a/b", "lamp/up", "other/up", "red", "bulbs/x", "$aws/things/lamp/x", "$aws/events/x", "$other/x"]
FILTERS = [*TOPICS, "a/+", "#", "$share/g/a/+", "$share/g/lamp/up", "$share/g/$other/x"]
NAMES = ["*", "a", "a/*", "?", "${iot:ClientId}", "${iot:ClientId}/*", "${iot:Connection.Thing.ThingName}/up"]
NAMES += ["${iot:Connection.Thing.Attributes[colour]}", "${iot:Connection.Thing.ThingTypeName}/*", "a/+", "${*}", "#"]
NAMES += ["${iot:Certificate.Subject.CommonName}", "$aws/*", "${unknown:key}", "${iot:ClientId, 'a'}"]
ACTIONS = ["iot:Connect", "iot:Publish", "iot:Subscribe", "iot:Receive", "iot:RetainPublish", "iot:*"]
KINDS = {"Connect": "client", "Publish": "topic", "Receive": "topic", "Subscribe": "topicfilter"}
CONDITIONS: list[Any] = [
    {"Bool": {"iot:Connection.Thing.IsAttached": "true"}},
    {"StringEquals": {"iot:Connection.Thing.ThingTypeName": "bulbs"}},
    {"StringNotEquals": {"iot:Connection.Thing.ThingName": "lamp"}},
    {"StringEquals": {"iot:ClientId": ["${iot:Connection.Thing.ThingName}"]}},
    {"ForAllValues:StringEquals": {"iot:ConnectAttributes": []}},
    {"ForAnyValue:StringEquals": {"iot:ConnectAttributes": ["LastWill"]}},
    {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}},
    {"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}},
    {"Null": {"aws:SourceIp": "true"}},
    {"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}},
    {"StringLike": {"iot:DomainName": "*"}},
]
OF_CONNECTIONS = {"aws:SourceIp", "iot:DomainName"}
"""Keys that have a value for a device that connects with an address and a host name."""


def resources() -> st.SearchStrategy[str]:
    named = st.builds(lambda kind, name: f"{BASE}{kind}/{name}", st.sampled_from([*KINDS.values(), "*"]), names())
    return named | st.just("*")


def names() -> st.SearchStrategy[str]:
    return st.sampled_from(NAMES) | st.builds(lambda one, two: f"{one}/{two}", *[st.sampled_from(NAMES)] * 2)


def statements() -> st.SearchStrategy[dict[str, Any]]:
    def one_of(key: str, values: st.SearchStrategy[list[str]], negated: Literal["", "Not"]) -> Any:
        return values.map(lambda chosen: {f"{negated}{key}": chosen})

    effect = st.sampled_from(["Allow", "Allow", "Deny"]).map(lambda chosen: {"Effect": chosen})
    actions = st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=2)
    where = st.lists(resources(), min_size=1, max_size=3)
    condition = st.sampled_from([{}, {}, *({"Condition": each} for each in CONDITIONS)])
    parts: list[Any] = [
        effect,
        one_of("Action", actions, "") | one_of("Action", actions, "Not"),
        one_of("Resource", where, "") | one_of("Resource", where, ""),
        condition,
    ]
    return st.tuples(*parts).map(lambda made: {key: value for part in made for key, value in part.items()})


@dataclass(frozen=True)
class Setting:
    """``targets`` are the certificate or a group, for each of the ``documents``."""

    documents: list[list[dict[str, Any]]]
    targets: list[str]
    attachment: str | None  # of the thing "lamp" to the certificate
    client_id: str


def settings_of_devices() -> st.SearchStrategy[Setting]:
    return st.integers(1, 4).flatmap(
        lambda count: st.builds(
            Setting,
            st.lists(st.lists(statements(), min_size=1, max_size=3), min_size=count, max_size=count),
            st.lists(st.sampled_from(["certificate", "root", "leaf", "foreign"]), min_size=count, max_size=count),
            st.sampled_from([None, "EXCLUSIVE_THING", "NON_EXCLUSIVE_THING"]),
            st.sampled_from(CLIENT_IDS),
        )
    )


@dataclass
class Wire:
    """The host, broker and MQTT connection of a device that connected with MQTT 5."""

    version: int = 5
    passed: list[bool] = field(default_factory=list)

    def flush(self) -> None: ...

    def suspend_unless_current(self) -> bool:
        return False

    def congestion(self) -> None: ...

    def denied(self, *_: object) -> None: ...

    def subscriptions(self, *_: object) -> None: ...

    def warn(self, *_: object, **__: object) -> None: ...

    def acknowledge(self, _: int) -> None: ...

    # A MQTT connection and a link have functions of the same name: for both, the message passed.
    def publish(self, *_: object, **__: object) -> bool:
        self.passed.append(True)
        return True

    def puback(self, _: int, reason: Reason) -> None:
        self.passed.append(not reason.failed)

    def suback(self, _: int, reasons: Sequence[Reason]) -> None:
        self.passed += [not reason.failed for reason in reasons]

    def subscribe(self, subscriptions: Sequence[object], done: Any) -> None:
        done([Reason.GRANTED_QOS_1] * len(subscriptions))


def passes(accepted: Accepted, peer: Peer, client_id: str, action: str, name: str) -> bool:
    """Return what the gateway does with that packet of the device, or message for it."""
    wire = Wire()
    traffic = Traffic(cast("Any", wire), peer, client_id, accepted, cast("Any", wire), cast("Any", wire), None)
    traffic.link = cast("Any", wire)
    match action:
        case "Publish":
            traffic.publish(Publish(name, b"", 1, packet_id=1))
        case "Subscribe":
            traffic.subscribe(SubscribeRequested(1, (SubscriptionRequest(name, 1),), (None,)))
        case _:
            traffic.deliver(Message(name, b"", 0, False), None, again=False)
    return wire.passed == [True]


async def build(world: World, setting: Setting) -> str:
    """Return the fingerprint of the device's certificate."""
    fingerprint = await world.certificate()
    certificate = f"{BASE}cert/{fingerprint}"
    for group, parent in (("root", {}), ("leaf", {"parentGroupName": "root"}), ("foreign", {})):
        await world.aws("CreateThingGroup", thingGroupName=group, **parent)
    await world.aws("CreateThingType", thingTypeName="bulbs")
    attributes = {"attributes": {"colour": "red"}}
    await world.aws("CreateThing", thingName="lamp", thingTypeName="bulbs", attributePayload=attributes)
    await world.aws("CreateThing", thingName="other")
    await world.aws("AddThingToThingGroup", thingGroupName="leaf", thingName="lamp")
    await world.aws("AddThingToThingGroup", thingGroupName="foreign", thingName="other")
    if setting.attachment is not None:
        members = {"thingName": "lamp", "principal": certificate, "thingPrincipalType": setting.attachment}
        await world.aws("AttachThingPrincipal", **members)
    for number, (document, target) in enumerate(zip(setting.documents, setting.targets, strict=True)):
        text = json.dumps({"Version": "2012-10-17", "Statement": document})
        await world.aws("CreatePolicy", policyName=f"p{number}", policyDocument=text)
        to = certificate if target == "certificate" else f"{BASE}thinggroup/{target}"
        await world.aws("AttachPolicy", policyName=f"p{number}", target=to)
    return fingerprint


async def differences(setting: Setting) -> list[str]:
    """Return the questions that TestAuthorization and the gateway answer differently."""
    asked = [("Connect", setting.client_id), *((action, each) for action in ("Publish", "Receive") for each in TOPICS)]
    asked += [("Subscribe", filter) for filter in FILTERS]
    infos = [{"actionType": action.upper(), "resources": [f"{BASE}{KINDS[action]}/{name}"]} for action, name in asked]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        async with new_world(Path(folder)) as world:
            fingerprint = await build(world, setting)
            principal, results = f"{BASE}cert/{fingerprint}", []
            for start in range(0, len(infos), 10):
                page = {"principal": principal, "clientId": setting.client_id, "authInfos": infos[start : start + 10]}
                results += (await world.aws("TestAuthorization", **page))["authResults"]
            names = HostNames({"iot.example": OURS})
            authenticator = DeviceAuthenticator(world.store, names, world.clock, OURS.account)
            for peer in (Peer("", 0, fingerprint), Peer("192.0.2.7", 40001, fingerprint, sni="iot.example")):
                connecting = await authenticator.authenticate(peer.request(setting.client_id, ()))
                accepted = await authenticator.authenticate(peer.request(setting.client_id))
                assert isinstance(accepted, Accepted)
                for (action, name), result in zip(asked, results, strict=True):
                    if peer.address and not OF_CONNECTIONS.isdisjoint(result["missingContextValues"]):
                        continue  # with the facts of a connection, the decision may be another
                    if action == "Connect":
                        allowed = not isinstance(connecting, Rejected)
                    else:
                        allowed = passes(accepted, peer, setting.client_id, action, name)
                    if allowed != (result["authDecision"] == "ALLOWED"):
                        found.append(f"{action} {name} from {peer.address or 'a socket'}: {allowed}, {result}")
    return found


_ALL = {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}
_NO_OTHER = {"Effect": "Deny", "NotAction": "iot:Connect", "Resource": f"{BASE}topic*/other/*"}


@example(Setting([[_ALL]], ["certificate"], None, "lamp"))
@example(Setting([[_ALL], [_NO_OTHER]], ["root", "certificate"], "EXCLUSIVE_THING", "other"))
@example(Setting([[{**_ALL, "Condition": CONDITIONS[6]}]], ["certificate"], None, "lamp"))
@given(settings_of_devices())
def test_the_gateway_and_test_authorization_decide_alike(setting: Setting) -> None:
    assert asyncio.run(differences(setting)) == []


def test_the_comparison_sees_a_difference() -> None:
    """The last example above is allowed with an address of the range, and not without one."""
    only_there = Setting([[{**_ALL, "Condition": CONDITIONS[6]}]], ["certificate"], None, "lamp")
    OF_CONNECTIONS.remove("aws:SourceIp")
    try:
        assert asyncio.run(differences(only_there))
    finally:
        OF_CONNECTIONS.add("aws:SourceIp")
