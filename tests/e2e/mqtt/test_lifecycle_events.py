"""Life cycle events of AWS IoT: what is published on $aws/events/presence/ and $aws/events/subscriptions/."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import allow, deny, keys_of
from tests.e2e.data_plane.conftest import data_client
from tests.e2e.mqtt.conftest import ALLOW_ALL, new_name
from tests.e2e.mqtt.devices import Closed
from tests.e2e.mqtt.events import Events
from thingmint.mqtt.protocol.packets import Connect, Publish, Will
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.mqtt.conftest import Devices, Gateway
    from tests.e2e.mqtt.devices import Device


@pytest.fixture
def events(mine: Devices) -> Iterator[Events]:
    with mine.connected() as device:
        yield Events(device)


def taken(event: dict[str, Any], before: float) -> None:
    """Removes what differs each time, after a check."""
    assert before <= event.pop("timestamp") / 1000 <= time.time() + 1
    assert str(uuid.UUID(event.pop("sessionIdentifier")))


@pytest.mark.parametrize("version", [4, 5])
def test_each_event_has_the_members_of_aws(mine: Devices, events: Events, version: Any) -> None:
    made, name, before = mine.credential(), new_name(), time.time() - 1
    with mine.connected(made, name, version=version) as device:
        device.subscribe("a/b", "$aws/certificates/create/json/accepted")
        device.unsubscribe("a/b", "never")
        device.disconnect()
    found = events.of(name, 4)
    assert len({event["sessionIdentifier"] for event in found}) == 1
    for event in found:
        taken(event, before)
    who = {"clientId": name, "principalIdentifier": made.fingerprint}
    assert found == [
        {**who, "eventType": "connected", "ipAddress": "127.0.0.1", "versionNumber": 0},
        {**who, "eventType": "subscribed", "topics": ["a/b", "$aws/certificates/create/json/accepted"]},
        {**who, "eventType": "unsubscribed", "topics": ["a/b", "never"]},
        {
            **who,
            "eventType": "disconnected",
            "clientInitiatedDisconnect": True,
            "disconnectReason": "CLIENT_INITIATED_DISCONNECT",
            "versionNumber": 0,
        },
    ]


@pytest.mark.parametrize("type", ["EXCLUSIVE_THING", "NON_EXCLUSIVE_THING"])
def test_only_an_exclusive_thing_is_named(mine: Devices, events: Events, type: str) -> None:
    made, name = mine.credential(ALLOW_ALL, deny("iot:Subscribe", mine.arn("topicfilter/no"))), new_name()
    mine.iot.create_thing(thingName=name)
    mine.iot.attach_thing_principal(thingName=name, principal=made.arn, thingPrincipalType=type)
    with mine.connected(made, name) as device:
        device.subscribe("x")
        device.disconnect()
    refused = mine.credential(allow("iot:Publish"))
    mine.iot.create_thing(thingName=f"{name}-no")
    mine.iot.attach_thing_principal(thingName=f"{name}-no", principal=refused.arn, thingPrincipalType=type)
    with pytest.raises(Closed):
        mine.connected(refused, f"{name}-no")
    expected = name if type == "EXCLUSIVE_THING" else None
    assert [event.get("thingName") for event in events.of(name, 3)] == [expected] * 3
    (failed,) = events.of(f"{name}-no", 1)
    assert failed.get("thingName") == (f"{name}-no" if expected else None)


def test_only_filters_that_were_granted_are_named(mine: Devices, events: Events) -> None:
    made, name = mine.credential(ALLOW_ALL, deny("iot:Subscribe", mine.arn("topicfilter/no"))), new_name()
    with mine.connected(made, name) as device:
        device.subscribe("no")
        device.subscribe("no", "yes/+")
        device.disconnect()
    assert [event.get("topics") for event in events.of(name, 3)] == [None, ["yes/+"], None]


def refuse_message(device: Device) -> None:
    device.send(Publish("$other", b"x", 0))


ENDS: dict[str, tuple[Any, str]] = {
    "disconnect with will": (lambda d: d.disconnect(Reason.DISCONNECT_WITH_WILL), "CLIENT_INITIATED_DISCONNECT"),
    "drop": (lambda d: d.drop(), "CONNECTION_LOST"),
    "reset": (lambda d: d.reset(), "CONNECTION_LOST"),
    "garbage": (lambda d: d.send_bytes(b"\xff" * 64), "CLIENT_ERROR"),
    "second connect": (lambda d: d.send(Connect(5, "again")), "CLIENT_ERROR"),
    "too large": (lambda d: d.send_bytes(b"\x30\xff\xff\xff\x7f"), "CLIENT_ERROR"),
    "message that is not allowed": (refuse_message, "AUTH_ERROR"),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_reason_of_the_end(mine: Devices, events: Events, end: str) -> None:
    how, reason = ENDS[end]
    name = new_name()
    with mine.connected(client_id=name, keep_alive=60) as device:
        how(device)
        connected, gone = events.of(name, 2)
    assert (gone["disconnectReason"], gone["versionNumber"]) == (reason, connected["versionNumber"])
    assert gone["clientInitiatedDisconnect"] is (reason == "CLIENT_INITIATED_DISCONNECT")


def test_ends_by_administrators(gateway: Gateway, mine: Devices, events: Events) -> None:
    made, name = mine.credential(), new_name()
    with (
        contextlib.closing(data_client(mine.server, **keys_of(mine.keys))) as data,
        mine.connected(made, name) as device,
    ):
        data.delete_connection(clientId=name)
        device.until_closed()
    with mine.connected(made, name) as device:
        mine.set_status(made, "INACTIVE")
        device.until_closed()
    found = events.of(name, 4)
    assert [event.get("disconnectReason") for event in found] == [
        None,
        "API_INITIATED_DISCONNECT",
        None,
        "AUTH_ERROR",
    ]
    assert [event["versionNumber"] for event in found] == [0, 0, 1, 1]


def test_a_takeover_ends_the_connection_before(mine: Devices, events: Events) -> None:
    made, name, witness = mine.credential(), new_name(), mine.connected()
    topic = new_name("wills/a")
    witness.subscribe(topic)
    with witness, mine.connected(made, name, will=Will(topic, b"taken over")), mine.connected(made, name):
        found = events.of(name, 3)
        assert witness.receive().payload == b"taken over"
    assert sorted((event["versionNumber"], event["eventType"]) for event in found) == [
        (0, "connected"),
        (0, "disconnected"),
        (1, "connected"),
    ]
    gone = next(event for event in found if event["eventType"] == "disconnected")
    assert (gone["disconnectReason"], gone["clientInitiatedDisconnect"]) == ("DUPLICATE_CLIENTID", False)
    assert len({event["sessionIdentifier"] for event in found}) == 2


def test_versions_grow_with_each_connection_of_a_client_id(mine: Devices, events: Events) -> None:
    made, name = mine.credential(), new_name()
    for _ in range(3):
        mine.connected(made, name).disconnect()
    mine.connected(mine.credential(), name).disconnect()  # another certificate
    assert [event["versionNumber"] for event in events.of(name, 8)] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_persistent_session_ends_the_versions(mine: Devices, events: Events) -> None:
    made, name = mine.credential(), new_name()
    lasting: dict[str, Any] = {"session_expiry": 1, "clean_start": False}
    mine.connected(made, name, **lasting).disconnect()
    mine.connected(made, name, **lasting).disconnect()
    time.sleep(1.5)
    mine.connected(made, name).disconnect()
    found = [event["versionNumber"] for event in events.of(name, 6)]
    assert found == [0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize("version", [4, 5])
def test_a_connection_that_policies_do_not_allow(mine: Devices, events: Events, version: Any) -> None:
    made, name, before = mine.credential(allow("iot:Publish")), new_name(), time.time() - 1
    with pytest.raises(Closed):
        mine.connected(made, name, version=version)
    (failed,) = events.of(name, 1)
    taken(failed, before)
    assert failed == {
        "clientId": name,
        "eventType": "connect_failed",
        "principalIdentifier": made.fingerprint,
        "connectFailureReason": "AUTHORIZATION_FAILED",
        "ipAddress": "127.0.0.1",
    }


@pytest.mark.parametrize("retain", [False, True])
def test_a_will_that_may_not_be_published_refuses_the_connection(mine: Devices, events: Events, retain: bool) -> None:
    topic, name = new_name("wills/a"), new_name()
    denied = deny("iot:RetainPublish") if retain else deny("iot:Publish", mine.arn(f"topic/{topic}"))
    made = mine.credential(ALLOW_ALL, denied)
    with pytest.raises(Closed) as closed:
        mine.connected(made, name, will=Will(topic, b"no", retain=retain))
    assert closed.value.reason is Reason.NOT_AUTHORIZED
    assert events.kinds(name, 1) == ["connect_failed"]
    with mine.connected(made, name):
        assert events.kinds(name, 1) == ["connected"]


def test_failed_authentication_is_no_event(mine: Devices, events: Events) -> None:
    name, inactive = new_name(), mine.credential(status="INACTIVE")
    for made, client_id in ((inactive, name), (mine.credential(), f"{name}#"), (mine.credential(), f"{name}+")):
        with pytest.raises(Closed):
            mine.connected(made, client_id)

    events.of(_seen(mine), 2)
    assert not any(events.has(client_id) for client_id in (name, f"{name}#", f"{name}+"))


def test_an_account_can_disable_the_events(gateway: Gateway) -> None:
    devices = gateway.lax

    def switch(*, on: bool) -> None:
        devices.iot.update_event_configurations(eventConfigurations={"CERTIFICATE": {"Enabled": on}})

    with devices.connected() as reader:
        events = Events(reader)
        switch(on=False)
        try:
            silent = _seen(devices)
        finally:
            switch(on=True)
        events.of(_seen(devices), 2)
        assert not events.has(silent)


def test_other_accounts_see_nothing(gateway: Gateway, mine: Devices) -> None:
    with gateway.other.connected() as other, mine.connected() as device:
        theirs, ours = Events(other), Events(device)
        name = new_name()
        mine.connected(client_id=name).disconnect()
        assert ours.kinds(name, 2) == ["connected", "disconnected"]
        theirs.of(_seen(gateway.other), 2)
        assert not theirs.has(name)


def _seen(devices: Devices) -> str:
    name = new_name()
    devices.connected(client_id=name).disconnect()
    return name


def test_policies_decide_who_reads_events(mine: Devices) -> None:
    everything = [allow("iot:Connect"), allow("iot:Receive")]
    only_presence = allow("iot:Subscribe", mine.arn("topicfilter/$aws/events/presence/*"))
    made = mine.credential(*everything, only_presence)
    with mine.connected(made) as device:
        assert device.subscribe("$aws/events/subscriptions/#") == [Reason.NOT_AUTHORIZED]
        assert device.subscribe("$aws/events/presence/#") == [Reason.GRANTED_QOS_1]
    silent = mine.credential(allow("iot:Connect"), allow("iot:Subscribe"))
    with mine.connected(silent) as device, mine.connected() as reader:
        assert device.subscribe("$aws/events/#") == [Reason.GRANTED_QOS_1]
        Events(reader).of(_seen(mine), 2)
        assert device.nothing_comes()


@pytest.mark.parametrize("topic", ["presence/connected/x", "subscriptions/subscribed/x", "presence/connect_failed/x"])
def test_devices_cannot_publish_events(mine: Devices, topic: str) -> None:
    with mine.connected() as reader, mine.connected() as forger:
        reader.subscribe(f"$aws/events/{topic}")
        assert forger.publish(f"$aws/events/{topic}", b"forged") is Reason.NOT_AUTHORIZED
        assert reader.nothing_comes()


def test_a_flapping_client_keeps_the_events_of_others(mine: Devices, events: Events) -> None:
    made, flapping, calm = mine.credential(), new_name("flapping"), new_name("calm")
    for _ in range(30):
        mine.connected(made, flapping).drop()
    mine.connected(made, calm).disconnect()
    assert events.kinds(calm, 2) == ["connected", "disconnected"]
    versions = [event["versionNumber"] for event in events.of(flapping, 60)]
    assert sorted(versions) == sorted([*range(30)] * 2)
