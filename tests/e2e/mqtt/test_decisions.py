"""TestAuthorization and `thingmint why` against the gateway's own answers, over real connections."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import allow, deny
from tests.e2e.commands import in_process
from tests.e2e.mqtt.conftest import ALLOW_ALL, new_name
from tests.e2e.mqtt.devices import Closed
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from tests.e2e.mqtt.conftest import Devices, Gateway
    from tests.e2e.mqtt.devices import Credential, Device

TOPICS = ["a", "a/b", "{client}/up", "{client}/down/x", "other/up", "red/1"]
PATTERNS = ["*", "a", "a/*", "${iot:ClientId}/*", "${iot:Connection.Thing.ThingName}/up", "?", "other/*"]
PATTERNS += ["${iot:Connection.Thing.Attributes[colour]}/*", "${iot:Certificate.Subject.CommonName}/*"]
CONDITIONS: list[Any] = [
    {},
    {},
    {"Bool": {"iot:Connection.Thing.IsAttached": "true"}},
    {"StringEquals": {"iot:ClientId": "${iot:Connection.Thing.ThingName}"}},
    {"StringNotLike": {"iot:Connection.Thing.ThingName": "x*"}},
]


def statements(mine: Devices, choose: random.Random) -> list[Any]:
    """Statements about publishing and receiving. All devices may subscribe to all filters."""
    made = [allow("iot:Subscribe")]
    for _ in range(choose.randint(1, 4)):
        effect = choose.choice([allow, allow, deny])
        actions = choose.choice([["iot:Publish"], ["iot:Receive"], ["iot:Publish", "iot:Receive"]])
        where = [mine.arn(f"topic/{pattern}") for pattern in choose.sample(PATTERNS, 2)]
        made.append(effect(actions, where, Condition=choose.choice(CONDITIONS)))
    client = choose.choice(
        ["client/*", "client/${iot:ClientId}", "client/${iot:Connection.Thing.ThingName}", "client/x"]
    )
    return [*made, allow("iot:Connect", mine.arn(client))]


def answered(mine: Devices, made: Credential, client_id: str, topics: list[str]) -> dict[tuple[str, str], bool]:
    """What TestAuthorization allows, by action and name."""
    asked = [("CONNECT", client_id), *((action, topic) for action in ("PUBLISH", "RECEIVE") for topic in topics)]
    kinds = {"CONNECT": "client", "PUBLISH": "topic", "RECEIVE": "topic"}
    infos = [{"actionType": action, "resources": [mine.arn(f"{kinds[action]}/{name}")]} for action, name in asked]
    results: list[Any] = []
    for start in range(0, len(infos), 10):
        page = infos[start : start + 10]
        results += mine.iot.test_authorization(principal=made.arn, clientId=client_id, authInfos=page)["authResults"]
    return {each: result["authDecision"] == "ALLOWED" for each, result in zip(asked, results, strict=True)}


def observed(mine: Devices, made: Credential, client_id: str, topics: list[str], sender: Device) -> dict[Any, bool]:
    """What the gateway lets the device do, by action and name."""
    with mine.dial(made) as device:
        try:
            device.connect(client_id)
        except Closed:
            return {("CONNECT", client_id): False}
        found = {("CONNECT", client_id): True}
        for topic in topics:
            found["PUBLISH", topic] = device.publish(topic) is not Reason.NOT_AUTHORIZED
        assert device.subscribe(*topics) == [Reason.GRANTED_QOS_1] * len(topics)
        for topic in topics:
            sender.publish(topic)
        received = {message.topic for message in device.drain()}
        return found | {("RECEIVE", topic): topic in received for topic in topics}


@pytest.mark.parametrize("seed", range(12))
def test_the_gateway_does_what_test_authorization_says(mine: Devices, seed: int) -> None:
    choose, client_id = random.Random(seed), new_name("lamp")
    made = mine.credential(*statements(mine, choose))
    if choose.random() < 0.7:
        mine.iot.create_thing(thingName=client_id, attributePayload={"attributes": {"colour": "red"}})
        mine.iot.attach_thing_principal(thingName=client_id, principal=made.arn)
    if choose.random() < 0.5:  # a policy of a group of the thing, if it is attached
        group = mine.iot.create_thing_group(thingGroupName=f"{client_id}-group")["thingGroupArn"]
        mine.attach(group, choose.choice([allow, deny])("iot:Publish", mine.arn("topic/a/*")))
        if mine.iot.list_principal_things(principal=made.arn)["things"]:
            mine.iot.add_thing_to_thing_group(thingGroupName=f"{client_id}-group", thingName=client_id)
    topics = [topic.replace("{client}", client_id) for topic in TOPICS]
    expected = answered(mine, made, client_id, topics)
    with mine.connected() as sender:
        found = observed(mine, made, client_id, topics, sender)
    assert found == {each: expected[each] for each in found}


def test_why_knows_the_facts_of_an_open_connection(gateway: Gateway, mine: Devices) -> None:
    from_here = {"IpAddress": {"aws:SourceIp": ["127.0.0.0/8", "::1"]}}
    made = mine.credential(
        allow("iot:Connect"),
        allow("iot:Publish", mine.arn("topic/here"), Condition=from_here),
        deny("iot:Publish", mine.arn("topic/no")),
    )
    client_id = new_name()

    def why(subject: str) -> Any:
        asked = ("why", subject, "--publish", "here", "--publish", "no", "--output", "json")
        done = in_process(*asked, "--data-dir", gateway.server.data_dir)
        assert done.returncode == 0, done.stderr
        (report,) = json.loads(done.stdout)
        return report

    with mine.connected(made, client_id) as device:
        report = why(client_id)
        assert (report["connected"], report["certificate"]) == (True, made.fingerprint)
        assert report["host_name"] == mine.endpoint
        assert [each["decision"] for each in report["answers"]] == ["ALLOWED", "ALLOWED", "EXPLICIT_DENY"]
        assert device.publish("here") is not Reason.NOT_AUTHORIZED
        assert device.publish("no") is Reason.NOT_AUTHORIZED
    report = why(made.arn)
    assert (report["connected"], report["client_id"]) == (False, None)
    assert [each["decision"] for each in report["answers"]] == ["IMPLICIT_DENY", "EXPLICIT_DENY"]
    assert report["answers"][0]["missing"] == ["aws:SourceIp"]


def test_why_names_the_host_name_that_a_device_must_send(gateway: Gateway) -> None:
    made = gateway.other.credential(ALLOW_ALL)
    asked = ("why", made.fingerprint, "--client-id", "x", "--data-dir", gateway.server.data_dir, "--output", "json")
    (report,) = json.loads(in_process(*asked).stdout)
    assert not report["connection"]["allowed"]
    assert gateway.other.endpoint in report["connection"]["why"]
    assert (report["account"], report["answers"][0]["decision"]) == (gateway.other.account, "ALLOWED")
    for further in (("--host-name", gateway.other.endpoint), ("--account", gateway.other.account)):
        (report,) = json.loads(in_process(*asked, *further).stdout)
        assert report["connection"]["allowed"]
