"""Policies at the gateway: what they allow and deny, the answers to refusals, and the log and audit log."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import allow, deny
from tests.e2e.commands import thingmint
from tests.e2e.mqtt.conftest import ALLOW_ALL, new_name
from tests.e2e.mqtt.devices import Closed, credential
from tests.e2e.wire import until
from thingmint.mqtt.protocol.packets import Disconnect, PubAck, Publish, SubAck, Subscribe, SubscriptionRequest, Will
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from tests.e2e.mqtt.conftest import Devices, Gateway
    from tests.e2e.mqtt.devices import Credential, Device

VERSIONS: list[Any] = [4, 5]
NOT_AUTHORIZED = Reason.NOT_AUTHORIZED


def outcome(device: Device, packet: Publish | Subscribe) -> Any:
    """Returns the reason code of the answer, or ("closed", reason of DISCONNECT or None)."""
    device.send(packet)
    try:
        if isinstance(packet, Publish) and not packet.qos:
            return device.nothing_comes() or None
        answer = device.read()
        while isinstance(answer, Publish):
            answer = device.read()
    except Closed as closed:
        return "closed", closed.reason
    assert isinstance(answer, PubAck | SubAck), answer
    return answer.reason if isinstance(answer, PubAck) else answer.reasons[0]


def publish(topic: str, qos: Any = 1, **fields: Any) -> Publish:
    return Publish(topic, b"x", qos, packet_id=7 if qos else None, **fields)


def subscribe(filter: str) -> Subscribe:
    return Subscribe(7, (SubscriptionRequest(filter, 1),))


# -- the form of a refusal -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "packet", "expected"),
    [
        (4, publish("no"), ("closed", None)),
        (4, publish("no", qos=0), ("closed", None)),
        (4, subscribe("no"), ("closed", None)),
        (4, subscribe("$SYS/x"), ("closed", None)),
        (5, publish("no"), NOT_AUTHORIZED),
        (5, publish("no", qos=0), ("closed", NOT_AUTHORIZED)),
        (5, publish("no", retain=True), NOT_AUTHORIZED),
        (5, publish("unretained"), Reason.NO_MATCHING_SUBSCRIBERS),
        (5, publish("unretained", retain=True), NOT_AUTHORIZED),
        (5, subscribe("no"), NOT_AUTHORIZED),
        (5, subscribe("$SYS/x"), Reason.TOPIC_FILTER_INVALID),
        (5, publish("$aws/events/presence/connected/x"), NOT_AUTHORIZED),
        (5, publish("$aws/events/presence/connected/x", qos=0), ("closed", NOT_AUTHORIZED)),
        (4, publish("$aws/events/presence/connected/x"), ("closed", None)),
        (5, publish("$other/x"), NOT_AUTHORIZED),
        (5, publish("$aws/things/x/shadow/update"), Reason.SUCCESS),
        (5, publish("yes"), Reason.NO_MATCHING_SUBSCRIBERS),
        (4, publish("yes"), Reason.SUCCESS),
        (5, subscribe("yes"), Reason.GRANTED_QOS_1),
    ],
    ids=lambda value: getattr(value, "topic", None) or str(value),
)
def test_refusals_are_answered_by_packet_and_version(mine: Devices, version: Any, packet: Any, expected: Any) -> None:
    made = mine.credential(
        ALLOW_ALL,
        deny("iot:*", [mine.arn("topic/no"), mine.arn("topicfilter/no")]),
        deny("iot:RetainPublish", mine.arn("topic/unretained")),
    )
    with mine.connected(made, version=version) as device:
        assert outcome(device, packet) == expected
        if isinstance(expected, Reason):
            assert device.is_open  # MQTT 5 stays connected


def test_events_cannot_be_forged(mine: Devices) -> None:
    with mine.connected() as listener, mine.connected() as forger:
        assert (
            listener.subscribe("$aws/events/presence/connected/x", "$aws/events/x", "#") == [Reason.GRANTED_QOS_1] * 3
        )
        for topic in ("$aws/events/presence/connected/x", "$aws/events/x"):
            assert forger.publish(topic) is NOT_AUTHORIZED
        assert listener.nothing_comes()


def test_suback_refusals_keep_the_connection_open(gateway: Gateway) -> None:
    """SUBACK has the answers to all filters of the packet."""
    lax = gateway.lax
    made = lax.credential(ALLOW_ALL, deny("iot:Subscribe", lax.arn("topicfilter/no")))
    with lax.connected(made, version=4) as device:
        answers = device.subscribe("yes", "no", "as well")
        assert answers == [Reason.GRANTED_QOS_1, Reason.UNSPECIFIED_ERROR, Reason.GRANTED_QOS_1]
        assert device.publish("yes") is Reason.SUCCESS
        assert device.receive().topic == "yes"


def test_each_filter_of_a_subscribe_is_authorized(mine: Devices) -> None:
    made = mine.credential(ALLOW_ALL, deny("iot:Subscribe", mine.arn("topicfilter/no")))
    with mine.connected(made) as device:
        assert device.subscribe("yes", "no", "$share/g/no", "a/#/b", "$share/g/yes") == [
            Reason.GRANTED_QOS_1,
            NOT_AUTHORIZED,
            NOT_AUTHORIZED,
            Reason.TOPIC_FILTER_INVALID,
            Reason.GRANTED_QOS_1,
        ]
    with mine.connected(made, version=4) as device:
        device.send(Subscribe(1, (SubscriptionRequest("yes", 1), SubscriptionRequest("no", 1))))
        assert device.until_closed().packets == []


# -- allowed and denied ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "asked", "expected"),
    [
        # The wildcards of policies ignore levels. MQTT's wildcards are ordinary characters in a policy.
        ("a/*", "a/b/c", True),
        ("a/*", "a/#", True),
        ("a/*", "a/+/c", True),
        ("a/*", "a", False),
        ("a/?", "a/b", True),
        ("a/?", "a/bc", False),
        ("a/#", "a/#", True),
        ("a/#", "a/b", False),
        ("a/+", "a/+", True),
        ("a/+", "a/b", False),
        ("a/b", "a/+", False),
        ("a/b", "#", False),
        ("A/b", "a/b", False),
    ],
)
def test_policy_wildcards_differ_from_mqtt_wildcards(mine: Devices, allowed: str, asked: str, expected: bool) -> None:
    made = mine.credential(allow("iot:Connect"), allow("iot:Subscribe", mine.arn(f"topicfilter/{allowed}")))
    with mine.connected(made) as device:
        assert device.subscribe(asked) == [Reason.GRANTED_QOS_1 if expected else NOT_AUTHORIZED]


def test_receive_is_authorized_for_each_message(mine: Devices) -> None:
    """A permission to subscribe does not include iot:Receive, for retained and for new messages."""
    made = mine.credential(ALLOW_ALL, deny("iot:Receive", mine.arn("topic/*/secret")))
    root = new_name("t")
    with mine.connected() as sender, mine.connected(made) as receiver:
        sender.publish(f"{root}/secret", b"kept", retain=True)
        assert receiver.subscribe(f"{root}/#", f"{root}/secret") == [Reason.GRANTED_QOS_1] * 2
        for qos in (0, 1):
            sender.publish(f"{root}/secret", b"live", qos=qos)
            sender.publish(f"{root}/open", b"live", qos=qos)
            assert receiver.receive().topic == f"{root}/open"
        assert receiver.nothing_comes()
        # More messages than the receive maximum: messages that are not delivered do not count for it.
        for _ in range(110):
            sender.publish(f"{root}/secret", b"live")
        sender.publish(f"{root}/open", b"after")
        assert receiver.receive().payload == b"after"
        sender.publish(f"{root}/secret", b"", retain=True)
    until(lambda: mine.log(made, "refused"), seconds=5, what="it is logged")
    assert [line["resource"] for line in mine.log(made, "refused")] == [mine.arn(f"topic/{root}/secret")]  # once


def test_a_deny_in_any_policy_wins(mine: Devices) -> None:
    made = mine.credential(deny("iot:Publish", mine.arn("topic/no")))
    mine.attach(made, ALLOW_ALL)
    with mine.connected(made) as device:
        assert device.publish("no") is NOT_AUTHORIZED
        assert device.publish("yes") is Reason.NO_MATCHING_SUBSCRIBERS


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("fields", "refused"),
    [({}, False), ({"session_expiry": 60}, True), ({"clean_start": False}, True)],
)
def test_connect_attributes_can_be_denied(mine: Devices, version: Any, fields: Any, refused: bool) -> None:
    if version == 4 and "session_expiry" in fields:
        pytest.skip("3.1.1 has no expiry")
    attributes = {"iot:ConnectAttributes": ["PersistentConnect"]}
    made = mine.credential(allow("iot:Connect", Condition={"ForAllValues:StringNotEquals": attributes}))
    if refused:
        with pytest.raises(Closed):
            mine.connected(made, version=version, **fields)
    else:
        mine.connected(made, version=version, **fields).drop()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_topic_of_a_will_can_be_denied(mine: Devices, version: Any) -> None:
    admin = {"ArnLike": {"iot:LastWillTopic": mine.arn("topic/admin/*")}}
    made = mine.credential(allow("iot:*"), deny("iot:Connect", Condition=admin))
    mine.connected(made, version=version).drop()
    mine.connected(made, version=version, will=Will("lamps/x", b"gone")).drop()
    with pytest.raises(Closed):
        mine.connected(made, version=version, will=Will("admin/x", b"gone"))


def test_an_allow_with_a_will_topic_needs_that_will(mine: Devices) -> None:
    own = {"ArnEquals": {"iot:LastWillTopic": mine.arn("topic/s/${iot:ClientId}")}}
    made, name = mine.credential(allow("iot:Connect", Condition=own), allow("iot:Publish")), new_name("c")
    for will in (None, Will("s/another", b"gone")):
        with pytest.raises(Closed):
            mine.connected(made, name, will=will)
    mine.connected(made, name, will=Will(f"s/{name}", b"gone")).drop()


def test_reauthorization_includes_the_will_topic(mine: Devices) -> None:
    made = mine.credential(allow("iot:*"))
    with mine.connected(made, will=Will("admin/x", b"gone")) as device:
        denied = {"ArnLike": {"iot:LastWillTopic": mine.arn("topic/admin/*")}}
        mine.attach(made, deny("iot:Connect", Condition=denied))
        with pytest.raises(Closed):
            device.receive()


def test_connecting_can_depend_on_the_host_name(mine: Devices) -> None:
    made = mine.credential(allow("iot:Connect", Condition={"StringEquals": {"iot:DomainName": mine.endpoint}}))
    mine.connected(made).drop()
    other = mine.credential(allow("iot:Connect", Condition={"StringNotEquals": {"iot:DomainName": mine.endpoint}}))
    with pytest.raises(Closed):
        mine.connected(other)


def test_policy_variables_of_client_and_certificate(mine: Devices) -> None:
    name = new_name("c")
    serial = "${iot:Certificate.Subject.CommonName}/${iot:Certificate.Subject.Organization}"
    made = mine.credential(
        allow("iot:Connect", mine.arn("client/${iot:Certificate.Subject.CommonName}")),
        allow("iot:Publish", [mine.arn("topic/${iot:ClientId}/a"), mine.arn(f"topic/{serial}")]),
        name=name,
    )
    with pytest.raises(Closed):
        mine.connected(made, "somebody-else")
    with mine.connected(made, name) as device:
        assert device.publish(f"{name}/a") is Reason.NO_MATCHING_SUBSCRIBERS
        assert device.publish(f"{name}/Example Corp") is Reason.NO_MATCHING_SUBSCRIBERS
        assert device.publish("somebody-else/a") is NOT_AUTHORIZED
        assert device.publish("${iot:ClientId}/a") is NOT_AUTHORIZED


def thing(fleet: Devices, made: Credential, **facts: Any) -> str:
    name = new_name("thing")
    fleet.iot.create_thing(thingName=name, **facts)
    fleet.iot.attach_thing_principal(thingName=name, principal=made.arn)
    return name


def test_policy_variables_of_the_thing(mine: Devices) -> None:
    type = new_name("type")
    mine.iot.create_thing_type(thingTypeName=type)
    variables = (
        "${iot:Connection.Thing.ThingName}/${iot:Connection.Thing.ThingTypeName}"
        "/${iot:Connection.Thing.Attributes[site]}"
    )
    made = mine.credential(allow("iot:Connect"), allow("iot:Publish", mine.arn(f"topic/{variables}")))
    name = thing(mine, made, thingTypeName=type, attributePayload={"attributes": {"site": "berlin"}})
    with mine.connected(made, name) as device:
        assert device.publish(f"{name}/{type}/berlin") is Reason.NO_MATCHING_SUBSCRIBERS
        assert device.publish(f"{name}/{type}/paris") is NOT_AUTHORIZED
    with mine.connected(made, "not-the-thing") as device:
        assert device.publish(f"{name}/{type}/berlin") is NOT_AUTHORIZED


def test_thing_variables_need_an_attached_thing(mine: Devices) -> None:
    attached = {"Bool": {"iot:Connection.Thing.IsAttached": "true"}}
    made = mine.credential(allow("iot:Connect", Condition=attached))
    name = thing(mine, made)
    with mine.connected(made, name) as device:
        assert device.is_open
    mine.iot.create_thing(thingName=f"{name}-2")
    for other in (f"{name}-2", f"{name}-3"):
        with pytest.raises(Closed):
            mine.connected(made, other)


@pytest.mark.parametrize("client_id", ["a*", "a$b", "a+", "a?", "a#", "\u202ea", "a\x07"])
def test_client_ids_with_pattern_characters_are_refused(mine: Devices, client_id: str) -> None:
    made = mine.credential()
    with pytest.raises(Closed) as caught:
        mine.connected(made, client_id)
    assert caught.value.reason in (Reason.CLIENT_IDENTIFIER_NOT_VALID, Reason.MALFORMED_PACKET)


def test_policies_of_thing_groups_apply(mine: Devices) -> None:
    """Policies of a thing's groups and their parents apply. Not those of child groups, and not to another client id."""
    top, middle, bottom = new_name("g"), new_name("g"), new_name("g")
    arns = {}
    for group, parent in ((top, None), (middle, top), (bottom, middle)):
        parents = {"parentGroupName": parent} if parent else {}
        arns[group] = mine.iot.create_thing_group(thingGroupName=group, **parents)["thingGroupArn"]
    made = mine.credential(allow("iot:Connect"))
    name = thing(mine, made)
    mine.iot.add_thing_to_thing_group(thingName=name, thingGroupName=middle)
    for group, arn in arns.items():
        mine.attach(arn, allow("iot:Publish", mine.arn(f"topic/{group}/*")))
    with mine.connected(made, name) as device:
        assert device.publish(f"{top}/a") is Reason.NO_MATCHING_SUBSCRIBERS
        assert device.publish(f"{middle}/a") is Reason.NO_MATCHING_SUBSCRIBERS
        assert device.publish(f"{bottom}/a") is NOT_AUTHORIZED
        mine.attach(arns[top], deny("iot:Publish", mine.arn(f"topic/{middle}/*")))
        until(lambda: device.publish(f"{middle}/a") is NOT_AUTHORIZED, seconds=5, what="the new policy counts")
    with mine.connected(made, "not-the-thing") as device:
        assert device.publish(f"{top}/a") is NOT_AUTHORIZED


# -- log and audit log -----------------------------------------------------------------------------------------------


def test_each_refusal_is_logged_and_audited(gateway: Gateway) -> None:
    """One log line and one audit record, with the denying statement, or the closest statement that could allow it."""
    mine = gateway.mine
    made = mine.credential(
        ALLOW_ALL,
        deny("iot:Publish", mine.arn("topic/denied"), Sid="NoSuchTopic"),
        deny("iot:Receive", mine.arn("topic/unheard")),
    )
    bare = mine.register(credential(mine.folder))
    narrow = mine.credential(allow("iot:Connect"), allow("iot:Publish", mine.arn("topic/narrow")))
    with pytest.raises(Closed):
        mine.connected(bare, "bare")
    with mine.connected(made, "told") as device:
        assert device.publish("denied") is NOT_AUTHORIZED
        device.subscribe("unheard")
        device.publish("unheard")
        assert device.nothing_comes()
    with mine.connected(narrow, "narrow") as device:
        assert device.publish("wide") is NOT_AUTHORIZED
        assert device.subscribe("wide") == [NOT_AUTHORIZED]

    expected = {
        (bare.fingerprint, "Connect", mine.arn("client/bare")): "no policy is attached",
        (made.fingerprint, "Publish", mine.arn("topic/denied")): "NoSuchTopic",
        (made.fingerprint, "Receive", mine.arn("topic/unheard")): "denies",
        (narrow.fingerprint, "Publish", mine.arn("topic/wide")): "would allow it, but the resource does not match",
        (narrow.fingerprint, "Subscribe", mine.arn("topicfilter/wide")): "allow it on",
    }
    lines = [line for each in (bare, made, narrow) for line in mine.log(each, "refused")]
    found = [(line["certificate"], line["action"].removeprefix("iot:"), line["resource"]) for line in lines]
    assert sorted(found) == sorted(expected)
    for line in lines:
        why = expected[line["certificate"], line["action"].removeprefix("iot:"), line["resource"]]
        assert why in f"{line['why']} {line['closest']}", line

    def audited() -> Any:
        done = thingmint(
            "audit", "list", "--data-dir", gateway.server.data_dir, "--account", mine.account, "--output", "json"
        )
        assert done.returncode == 0, done.stderr
        records = [r for r in json.loads(done.stdout) if r["credential"] in (c for c, *_ in expected)]
        refusals = [r for r in records if r["outcome"] == "refused"]
        return refusals if len(refusals) >= len(expected) else None

    records = until(audited, seconds=20, what="the audit records are there")
    assert sorted((r["credential"], r["event"], r["resource"]) for r in records) == sorted(expected)
    for record in records:
        why = expected[record["credential"], record["event"], record["resource"]]
        assert why in f"{record['reason']} {record['closest']}", record
        assert record["error"] == "NotAuthorized"
        assert record["address"] == "127.0.0.1"
        assert record["principal"] == mine.arn(f"cert/{record['credential']}")


@pytest.mark.parametrize("what", ["publish", "subscribe"])
def test_repeated_refusals_of_a_device_are_logged_once(mine: Devices, what: str) -> None:
    """The connection is closed after many refusals, so that a device cannot fill the log or the audit log."""
    made = mine.credential(allow("iot:Connect"))
    answered = 0
    for _ in range(3):
        with mine.connected(made) as device, contextlib.suppress(Closed):
            for number in range(400):
                if what == "publish":
                    device.publish(f"no/{number}")
                else:
                    device.subscribe(*(f"{letter}/{number}" for letter in "abcdefgh"))
                answered += 1
    assert answered <= 3 * 120
    [refused] = mine.log(made, "refused")
    assert refused["closest"]


def test_disconnect_names_the_reason(mine: Devices) -> None:
    made = mine.credential(allow("iot:Connect"))
    with mine.connected(made) as device:
        device.publish("no", qos=0)
        (packet,) = device.until_closed().packets
        assert isinstance(packet, Disconnect)
        assert packet.reason is NOT_AUTHORIZED
