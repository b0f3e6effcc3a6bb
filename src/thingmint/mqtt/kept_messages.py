"""Keeps messages of Yandex IoT Core for those that read them later: as the last one of a topic, or for an export."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from thingmint.services.last_messages import LastMessages, is_permanent

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from thingmint.domain.yandex_topics import TopicOwner
    from thingmint.mqtt.protocol.packets import Publish
    from thingmint.services.messages import MessageExports


class KeptMessages(NamedTuple):
    exports: MessageExports
    last: LastMessages

    def keep(self, sender: TopicOwner, canonical: str, packet: Publish) -> Awaitable[None] | None:
        """Await the result, unless it is None: at QoS 1 before PUBACK. It raises Unavailable."""
        registry, payload = sender.registry, packet.payload
        if sender.kind == "broker":
            return None
        if not is_permanent(canonical):
            device = sender.id if sender.kind == "device" else ""
            return self.exports.keep(registry, device, canonical, payload)
        if packet.qos:
            return self.last.keep(registry, canonical, payload)
        return self.last.keep_soon(registry, canonical, payload)
