"""GetConnection, DeleteConnection and ListSubscriptions over boto3's iot-data."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.data_plane.test_messages import refusal
from tests.e2e.mqtt.conftest import new_name
from tests.e2e.mqtt.devices import Closed
from thingmint.mqtt.protocol.packets import Will
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from tests.e2e.mqtt.conftest import Devices
    from tests.e2e.mqtt.devices import Device

pytestmark = pytest.mark.both_engines

_NOT_FOUND = (404, "ResourceNotFoundException")


def ended(device: Device) -> Reason | None:
    """The reason in the server's DISCONNECT."""
    closed = device.until_closed()
    assert isinstance(closed, Closed)
    return closed.reason


def test_a_connected_client(data: Any, devices: Devices) -> None:
    made, name, before = devices.credential(), new_name(), int(time.time() * 1000) - 1000
    devices.iot.create_thing(thingName=name)
    devices.iot.attach_thing_principal(thingName=name, principal=made.arn)
    with devices.connected(made, name, clean_start=False, session_expiry=600, keep_alive=90) as device:
        shown = data.get_connection(clientId=name)
        del shown["ResponseMetadata"]
        since = shown.pop("connectedSince")
        assert before <= since <= before + 60_000
        assert shown == {
            "clientId": name,
            "connected": True,
            "thingName": name,
            "cleanSession": False,
            "keepAliveDuration": 90,
            "sessionExpiry": 600,
        }
        shown = data.get_connection(clientId=name, includeSocketInformation=True)
        own = device.sock.getsockname()
        assert (shown["sourceIp"], shown["sourcePort"]) == own[:2]
        assert (shown["targetIp"], shown["targetPort"]) == ("127.0.0.1", devices.server.ports["mqtt"])
        device.disconnect()
    shown = data.get_connection(clientId=name)
    assert (shown["connected"], shown["disconnectReason"]) == (False, "CLIENT_INITIATED_DISCONNECT")
    assert since <= shown["disconnectedSince"] <= since + 60_000
    assert "connectedSince" not in shown


def test_the_connectivity_of_a_thing(devices: Devices) -> None:
    made, name, iot = devices.credential(), new_name(), devices.iot

    def shown(**members: Any) -> dict[str, Any]:
        answer: dict[str, Any] = iot.get_thing_connectivity_data(thingName=name, **members)
        del answer["ResponseMetadata"]
        return answer

    assert refusal(iot.get_thing_connectivity_data, thingName=name)[:2] == _NOT_FOUND
    iot.create_thing(thingName=name)
    assert shown() == {"thingName": name, "connected": False}
    before = datetime.now(UTC) - timedelta(seconds=1)
    with devices.connected(made, name, keep_alive=90) as device:
        found = shown()
        assert before <= found.pop("timestamp") <= before + timedelta(seconds=60)
        assert found == {
            "thingName": name,
            "clientId": name,
            "connected": True,
            "cleanSession": True,
            "keepAliveDuration": 90,
            "sessionExpiry": 0,
        }
        sockets = shown(includeSocketInformation=True)
        assert (sockets["sourceIp"], sockets["sourcePort"]) == device.sock.getsockname()[:2]
        assert (sockets["targetIp"], sockets["targetPort"]) == ("127.0.0.1", devices.server.ports["mqtt"])
        device.disconnect()
    found = shown()
    assert (found["connected"], found["disconnectReason"]) == (False, "CLIENT_INITIATED_DISCONNECT")
    assert found["timestamp"] >= before
    iot.delete_thing(thingName=name)


def test_the_reason_of_the_end(data: Any, devices: Devices) -> None:
    made, name = devices.credential(), new_name()

    def reason() -> str:
        deadline = time.monotonic() + 15
        while (shown := data.get_connection(clientId=name))["connected"] and time.monotonic() < deadline:
            time.sleep(0.02)
        text: str = shown["disconnectReason"]
        return text

    with devices.connected(made, name) as device:
        device.drop()
        assert reason() == "CONNECTION_LOST"
    with devices.connected(made, name) as device:
        device.send_bytes(b"\x00\x00")
        assert reason() == "CLIENT_ERROR"
    with devices.connected(made, name) as device:
        devices.set_status(made, "INACTIVE")
        assert ended(device) is Reason.NOT_AUTHORIZED
        assert reason() == "AUTH_ERROR"
    devices.set_status(made, "ACTIVE")
    with devices.connected(made, name) as device:
        data.delete_connection(clientId=name)
        assert ended(device) is Reason.ADMINISTRATIVE_ACTION
        assert reason() == "API_INITIATED_DISCONNECT"


def test_clients_that_are_not_known(data: Any) -> None:
    for call in (data.get_connection, data.delete_connection, data.list_subscriptions):
        for name in (new_name(), "a#b", "a/b c"):
            assert refusal(call, clientId=name)[:2] == _NOT_FOUND
        status, code, _ = refusal(call, clientId="$a")
        assert (status, code) == (400, "InvalidRequestException")


@pytest.mark.parametrize("prevent", [False, True])
def test_deleting_a_connection_publishes_the_will_unless_asked_not_to(
    data: Any, devices: Devices, *, prevent: bool
) -> None:
    topic, name = new_name("will"), new_name()
    with devices.connected() as observer, devices.connected(None, name, will=Will(topic, b"gone")) as device:
        observer.subscribe(topic)
        data.delete_connection(clientId=name, preventWillMessage=prevent)
        assert ended(device) is Reason.ADMINISTRATIVE_ACTION
        data.publish(topic=topic, payload=b"after", qos=1)
        if not prevent:
            seen = {observer.receive().payload, observer.receive().payload}
            assert seen == {b"gone", b"after"}
        else:
            assert observer.receive().payload == b"after"
            assert observer.nothing_comes()
    assert refusal(data.delete_connection, clientId=name)[:2] == _NOT_FOUND


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("connected", [False, True])
def test_deleting_a_connection_can_end_the_session(
    data: Any, devices: Devices, *, clean: bool, connected: bool
) -> None:
    made, name = devices.credential(), new_name()
    fields: dict[str, Any] = {"clean_start": False, "session_expiry": 600}
    with devices.connected(made, name, **fields) as device:
        device.subscribe("a/b")
        if connected:
            data.delete_connection(clientId=name, cleanSession=clean)
            assert ended(device) is Reason.ADMINISTRATIVE_ACTION
        else:
            device.disconnect()
            data.delete_connection(clientId=name, cleanSession=clean)
    if clean:
        assert refusal(data.list_subscriptions, clientId=name)[:2] == _NOT_FOUND
    else:
        assert data.list_subscriptions(clientId=name)["subscriptions"] == [{"topicFilter": "a/b", "qos": 1}]
    with devices.dial(made) as device:
        assert device.connect(name, **fields).session_present is not clean


def test_subscriptions(data: Any, devices: Devices) -> None:
    name = new_name()
    filters = sorted([f"{number:02}/+/#" for number in range(24)] + ["$share/group/a"])
    with devices.connected(None, name, clean_start=False, session_expiry=600) as device:
        assert data.list_subscriptions(clientId=name)["subscriptions"] == []
        for number, filter in enumerate(filters):
            device.subscribe(filter, qos=number % 2)
        expected = [{"topicFilter": filter, "qos": number % 2} for number, filter in enumerate(filters)]
        first = data.list_subscriptions(clientId=name)
        assert first["subscriptions"] == expected[:20]
        second = data.list_subscriptions(clientId=name, nextToken=first["nextToken"], maxResults=200)
        assert second["subscriptions"] == expected[20:]
        assert "nextToken" not in second
        device.unsubscribe(*filters[:8])
        device.disconnect()
    assert data.list_subscriptions(clientId=name, maxResults=200)["subscriptions"] == expected[8:]
    other = data.list_subscriptions(clientId=name, maxResults=1)["nextToken"]
    assert refusal(data.list_subscriptions, clientId=new_name(), nextToken=other)[:2] == _NOT_FOUND
