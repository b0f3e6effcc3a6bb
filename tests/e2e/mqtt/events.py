"""A device that reads the events of its account."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from tests.e2e.mqtt.devices import PATIENCE
from thingmint.mqtt.protocol.packets import PubAck, Publish

if TYPE_CHECKING:
    from tests.e2e.mqtt.devices import Device

PRESENCE = ("connected", "disconnected", "connect_failed")


class Events:
    """Keeps all events that the device gets; tests of the account's other devices may cause some."""

    def __init__(self, device: Device, *filters: str) -> None:
        self._device = device
        self._found: list[tuple[str, dict[str, Any]]] = []
        answers = device.subscribe(*(filters or ("$aws/events/#",)))
        assert not any(answer.failed for answer in answers), answers

    def of(self, client_id: str, count: int) -> list[dict[str, Any]]:
        """Returns the next events of a client, in the order in which they came."""
        deadline = time.monotonic() + PATIENCE
        while len(found := [event for name, event in self._found if name == client_id]) < count:
            self._read(deadline - time.monotonic())
        for event in found[:count]:
            self._found.remove((client_id, event))
        return found[:count]

    def kinds(self, client_id: str, count: int) -> list[str]:
        return [event["eventType"] for event in self.of(client_id, count)]

    def until(self, client_id: str, kind: str) -> dict[str, Any]:
        """Returns the client's next event of that kind, and drops those before it: a broker may send some again."""
        while (event := self.of(client_id, 1)[0])["eventType"] != kind:
            pass
        return event

    def has(self, client_id: str) -> bool:
        """True if there is an event of the client among those that came before the last one that ``of`` returned."""
        return any(name == client_id for name, _ in self._found)

    def _read(self, patience: float) -> None:
        packet = self._device.read(patience)
        assert isinstance(packet, Publish), packet
        if packet.packet_id is not None:
            self._device.send(PubAck(packet.packet_id))
        _, _, family, kind, client_id = packet.topic.split("/", 4)
        event = json.loads(packet.payload)
        assert family == ("presence" if kind in PRESENCE else "subscriptions")
        assert (event["eventType"], event["clientId"]) == (kind, client_id)
        self._found.append((client_id, event))
