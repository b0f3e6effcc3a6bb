"""Registry events, as boto3 switches them on and an MQTT client receives them."""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import time
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
import pytest
from botocore.exceptions import ClientError
from paho.mqtt.enums import CallbackAPIVersion

from tests.e2e.access.local_admin import allow, document
from tests.e2e.mqtt.devices import Closed, Credential, Device
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.things.conftest import Tenant
    from thingmint.testing import RunningServer

TIMEOUT = 30.0  # seconds
ALL = "$aws/events/#"
REGISTRY = (
    "THING",
    "THING_TYPE",
    "THING_GROUP",
    "THING_TYPE_ASSOCIATION",
    "THING_GROUP_MEMBERSHIP",
    "THING_GROUP_HIERARCHY",
)


def switch(iot: Any, *types: str, on: bool = True) -> None:
    iot.update_event_configurations(eventConfigurations={type: {"Enabled": on} for type in types})


class Events:
    """The events that an MQTT client received."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.arrived: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.ids: set[str] = set()

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        """Returns the events until now, without what each has of its own: an id, and about the present time."""
        name = f"until-{secrets.token_hex(4)}"
        self.tenant.iot.create_thing(thingName=name)
        events: list[tuple[str, dict[str, Any]]] = []
        while True:
            topic, payload = self.arrived.get(timeout=TIMEOUT)
            assert payload["eventId"] not in self.ids
            self.ids.add(payload.pop("eventId"))
            assert abs(payload.pop("timestamp") / 1000 - time.time()) < TIMEOUT
            topic = topic.removeprefix("$aws/events/")
            if topic == f"thing/{name}/created":
                return events
            events.append((topic, payload))


@pytest.fixture
def device(server: RunningServer, tenant: Tenant, tmp_path: Path) -> Callable[..., Credential]:
    """Makes a device of the tenant, with the given permissions. What devices do makes no events in these tests."""
    switch(tenant.iot, "CERTIFICATE", on=False)

    def make(*statements: Any) -> Credential:
        name = f"p-{secrets.token_hex(4)}"
        # The account issued the certificate, so the device needs no host name.
        made = tenant.iot.create_keys_and_certificate(setAsActive=True)
        tenant.iot.create_policy(policyName=name, policyDocument=document(*statements))
        tenant.iot.attach_policy(policyName=name, target=made["certificateArn"])
        file, pem = tmp_path / f"{name}.pem", made["certificatePem"]
        file.write_text(pem + made["keyPair"]["PrivateKey"])
        return Credential(made["certificateId"], pem, file, made["certificateArn"])

    return make


@pytest.fixture
def events(server: RunningServer, tenant: Tenant, device: Callable[..., Credential]) -> Iterator[Events]:
    """With a client that may read events and nothing else."""
    made = device(
        allow("iot:Connect"),
        allow("iot:Subscribe", tenant.arn("topicfilter/$aws/events/*")),
        allow("iot:Receive", tenant.arn("topic/$aws/events/*")),
    )
    heard = Events(tenant)
    subscribed: queue.Queue[list[Any]] = queue.Queue()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"reader-{secrets.token_hex(4)}")
    client.tls_set(str(server.ca), str(made.file), str(made.file))
    client.on_message = lambda _client, _data, message: heard.arrived.put((message.topic, json.loads(message.payload)))
    client.on_subscribe = lambda _client, _data, _id, reasons, _properties: subscribed.put(reasons)
    client.connect("localhost", server.ports["mqtt"])
    client.loop_start()
    try:
        client.subscribe(ALL, 1)
        assert [reason.value for reason in subscribed.get(timeout=TIMEOUT)] == [1]
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.mark.both_engines
def test_each_change_is_published_as_at_aws(tenant: Tenant, events: Events) -> None:
    iot, account = tenant.iot, {"accountId": tenant.number}
    switch(iot, *REGISTRY)
    taken: list[tuple[str, dict[str, Any]]] = []

    def expect(topic: str, type: str, operation: str, **facts: Any) -> None:
        wanted = {"eventType": f"{type}_EVENT", "operation": operation, **facts}
        assert taken.pop(0) == (f"{topic}/{operation.lower()}", wanted)

    # A thing type.
    about = {"thingTypeDescription": "lights", "searchableAttributes": ["room"]}
    type_id = iot.create_thing_type(thingTypeName="lamps", thingTypeProperties=about)["thingTypeId"]
    iot.create_thing_type(thingTypeName="bulbs")
    iot.update_thing_type(thingTypeName="lamps", thingTypeProperties={"thingTypeDescription": "lamps"})
    taken += events.take()
    type_facts = account | {"thingTypeId": type_id, "thingTypeName": "lamps", "description": "lights"}
    type_facts |= {"isDeprecated": False, "deprecationDate": None}
    type_facts |= {"searchableAttributes": ["room"], "propagatingAttributes": []}
    expect("thingType/lamps", "THING_TYPE", "CREATED", **type_facts)
    assert taken.pop(0)[0] == "thingType/bulbs/created"
    expect("thingType/lamps", "THING_TYPE", "UPDATED", **type_facts | {"description": "lamps"})

    # A thing, and its association with types.
    thing_id = iot.create_thing(thingName="t", thingTypeName="lamps")["thingId"]
    iot.update_thing(thingName="t", thingTypeName="bulbs", attributePayload={"attributes": {"room": "attic"}})
    taken += events.take()
    thing_facts = account | {"thingId": thing_id, "thingName": "t", "versionNumber": 1, "thingTypeName": "lamps"}
    association = "thingTypeAssociation/thing/t/thingType/"
    of_thing = {"thingId": thing_id, "thingName": "t"}
    expect("thing/t", "THING", "CREATED", **thing_facts, attributes={})
    expect(f"{association}lamps", "THING_TYPE_ASSOCIATION", "ADDED", **of_thing, thingTypeName="lamps")
    thing_facts |= {"versionNumber": 2, "thingTypeName": "bulbs", "attributes": {"room": "attic"}}
    expect("thing/t", "THING", "UPDATED", **thing_facts)
    expect(f"{association}lamps", "THING_TYPE_ASSOCIATION", "REMOVED", **of_thing, thingTypeName="lamps")
    expect(f"{association}bulbs", "THING_TYPE_ASSOCIATION", "ADDED", **of_thing, thingTypeName="bulbs")

    # Groups, their hierarchy and members.
    root_id = iot.create_thing_group(thingGroupName="root")["thingGroupId"]
    branch_id = iot.create_thing_group(thingGroupName="branch", parentGroupName="root")["thingGroupId"]
    iot.update_thing_group(thingGroupName="branch", thingGroupProperties={"thingGroupDescription": "new"})
    iot.add_thing_to_thing_group(thingGroupName="branch", thingName="t")
    taken += events.take()
    assert taken.pop(0)[0] == "thingGroup/root/created"
    group_facts = account | {"thingGroupId": branch_id, "thingGroupName": "branch", "versionNumber": 1}
    group_facts |= {"parentGroupName": "root", "parentGroupId": root_id, "description": None, "attributes": {}}
    group_facts["rootToParentThingGroups"] = [{"groupArn": tenant.arn("thinggroup/root"), "groupId": root_id}]
    group_facts["dynamicGroupMappingId"] = None
    expect("thingGroup/branch", "THING_GROUP", "CREATED", **group_facts)
    hierarchy = account | {"thingGroupId": root_id, "thingGroupName": "root"}
    hierarchy |= {"childGroupId": branch_id, "childGroupName": "branch"}
    below = "thingGroupHierarchy/thingGroup/root/childThingGroup/branch"
    expect(below, "THING_GROUP_HIERARCHY", "ADDED", **hierarchy)
    group_facts |= {"versionNumber": 2, "description": "new"}
    expect("thingGroup/branch", "THING_GROUP", "UPDATED", **group_facts)
    member = account | {"groupArn": tenant.arn("thinggroup/branch"), "groupId": branch_id}
    member |= {"thingArn": tenant.arn("thing/t"), "thingId": thing_id, "membershipId": taken[0][1]["membershipId"]}
    membership = "thingGroupMembership/thingGroup/branch/thing/t"
    expect(membership, "THING_GROUP_MEMBERSHIP", "ADDED", **member)

    # The end of all.
    iot.delete_thing(thingName="t")
    iot.delete_thing_group(thingGroupName="branch")
    iot.deprecate_thing_type(thingTypeName="lamps")
    taken += events.take()
    expect(membership, "THING_GROUP_MEMBERSHIP", "REMOVED", **member)
    expect(f"{association}bulbs", "THING_TYPE_ASSOCIATION", "REMOVED", **of_thing, thingTypeName="bulbs")
    expect("thing/t", "THING", "DELETED", **thing_facts)
    expect(below, "THING_GROUP_HIERARCHY", "REMOVED", **hierarchy)
    expect("thingGroup/branch", "THING_GROUP", "DELETED", **group_facts)
    (topic, facts) = taken.pop(0)
    assert (topic, facts["operation"], facts["isDeprecated"]) == ("thingType/lamps/updated", "UPDATED", True)
    assert abs(facts["deprecationDate"] / 1000 - time.time()) < TIMEOUT
    iot.delete_thing_type(thingTypeName="lamps")
    iot.delete_thing_group(thingGroupName="root")
    taken += events.take()
    assert [topic for topic, _ in taken] == ["thingType/lamps/deleted", "thingGroup/root/deleted"]


def test_a_switch_applies_at_once_and_only_to_its_account(
    tenant: Tenant, new_tenant: Callable[[], Tenant], events: Events
) -> None:
    other = new_tenant()
    switch(other.iot, *REGISTRY)
    other.iot.create_thing(thingName="theirs")
    tenant.iot.create_thing(thingName="before")
    for round in range(3):
        switch(tenant.iot, "THING")
        tenant.iot.create_thing(thingName=f"on-{round}")
        switch(tenant.iot, "THING", on=False)
        tenant.iot.create_thing(thingName=f"off-{round}")
    switch(tenant.iot, "THING")
    assert [topic for topic, _ in events.take()] == [f"thing/on-{round}/created" for round in range(3)]


def test_the_switches_are_described_as_they_were_set(tenant: Tenant) -> None:
    found = tenant.iot.describe_event_configurations()
    assert "creationDate" not in found
    enabled = {type for type, each in found["eventConfigurations"].items() if each["Enabled"]}
    assert (enabled, len(found["eventConfigurations"])) == ({"CERTIFICATE", "CA_CERTIFICATE"}, 11)
    switch(tenant.iot, "THING", "JOB")
    switch(tenant.iot, "CERTIFICATE", on=False)
    found = tenant.iot.describe_event_configurations()
    enabled = {type for type, each in found["eventConfigurations"].items() if each["Enabled"]}
    assert enabled == {"THING", "JOB", "CA_CERTIFICATE"}
    assert found["creationDate"] <= found["lastModifiedDate"]
    with pytest.raises(ClientError, match="1 validation error detected: Value at 'eventConfigurations'") as refused:
        switch(tenant.iot, "NOTHING")
    assert refused.value.response["Error"]["Code"] == "InvalidRequestException"


def test_devices_need_permission_to_read_events_and_cannot_publish_them(
    server: RunningServer, tenant: Tenant, device: Callable[..., Credential]
) -> None:
    switch(tenant.iot, "THING")
    everything, no_events = allow("iot:*"), {"Effect": "Deny", "Action": "iot:Receive", "Resource": "*"}
    with contextlib.ExitStack() as stack:

        def connected(*statements: Any) -> Device:
            opened = stack.enter_context(Device(server, device(*statements)))
            opened.connect(f"device-{secrets.token_hex(4)}")
            return opened

        reader, deaf, narrow = (
            connected(everything),
            connected(everything, no_events),
            connected(allow("iot:Connect"), allow("iot:Subscribe", tenant.arn("topicfilter/events/*"))),
        )
        assert reader.subscribe(ALL) == deaf.subscribe(ALL) == [Reason.GRANTED_QOS_1]
        assert narrow.subscribe(ALL) == [Reason.NOT_AUTHORIZED]
        assert reader.publish("$aws/events/thing/t/created", b"{}") is Reason.NOT_AUTHORIZED
        tenant.iot.create_thing(thingName="t")
        assert reader.receive().topic == "$aws/events/thing/t/created"
        assert deaf.nothing_comes()
    with Device(server, device(everything), 4) as old:
        old.connect("old")
        with pytest.raises(Closed):
            old.publish("$aws/events/thing/t/created", b"{}")
