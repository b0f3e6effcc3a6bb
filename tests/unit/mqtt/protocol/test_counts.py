"""Limits for filters and properties: a packet of 146 KiB has room for tens of thousands of them."""

from __future__ import annotations

from typing import Any

import pytest

from thingmint.domain.messages import MessageProperties
from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.packets import Publish, Subscribe, SubscriptionRequest, Unsubscribe
from thingmint.mqtt.protocol.reasons import ProtocolError, Reason


@pytest.mark.parametrize(
    "make",
    [
        lambda count: Subscribe(1, (SubscriptionRequest("a", 1),) * count),
        lambda count: Unsubscribe(1, ("a",) * count),
        lambda count: Publish("a", b"", properties=MessageProperties(user_properties=(("k", "v"),) * count)),
    ],
)
def test_packets_with_too_many_filters_or_properties_are_refused(make: Any) -> None:
    (packet,) = Decoder(version=5).feed(encode(make(256), 5))
    assert packet == make(256)
    with pytest.raises(ProtocolError) as refused:
        list(Decoder(version=5).feed(encode(make(257), 5)))
    assert refused.value.reason is Reason.QUOTA_EXCEEDED
