"""Each kind of broker delivers the events of connections and subscriptions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from thingmint.mqtt.protocol.packets import Disconnect, UnsubAck, Unsubscribe

if TYPE_CHECKING:
    from tests.e2e.upstream.conftest import BrokeredServer
    from tests.e2e.upstream.device import Device, Identity


def events_of(reader: Device, client_id: str, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        event = json.loads(reader.message().payload)
        if event["clientId"] == client_id:
            found.append(event)
    return found


def test_events_pass_the_broker(brokered: BrokeredServer, identity: Identity, name: str) -> None:
    reader = brokered.device(identity, f"{name}-reader")
    answer = reader.subscribe("$aws/events/presence/#", "$aws/events/subscriptions/+/+")
    assert not any(reason.failed for reason in answer.reasons)
    device = brokered.device(identity, name)
    device.subscribe("a/b")
    device.send(Unsubscribe(9, ("a/b",)))
    device.next(UnsubAck)
    device.send(Disconnect())
    again = brokered.device(identity, name)
    again.close()
    found = events_of(reader, name, 6)
    kinds = ["connected", "connected", "disconnected", "disconnected", "subscribed", "unsubscribed"]
    assert sorted(event["eventType"] for event in found) == kinds
    assert {event["principalIdentifier"] for event in found} == {identity.certificate_id}
    reasons = {event["versionNumber"]: event["disconnectReason"] for event in found if "disconnectReason" in event}
    assert reasons == {0: "CLIENT_INITIATED_DISCONNECT", 1: "CONNECTION_LOST"}
