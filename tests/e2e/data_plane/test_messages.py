"""Publish and retained messages over boto3's iot-data, with devices that are connected over MQTT."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.mqtt.conftest import new_name
from thingmint.domain.messages import MessageProperties

if TYPE_CHECKING:
    from tests.e2e.mqtt.conftest import Devices

pytestmark = pytest.mark.both_engines

_PAIRS = [{"deviceName": "alpha"}, {"deviceCnt": "45"}, {"deviceName": "again"}]


def refusal(call: Any, **arguments: Any) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1])
def test_a_published_message_reaches_the_subscribers(data: Any, devices: Devices, version: Any, qos: int) -> None:
    topic = f"{new_name('t')}/état/ a+b%2F"[:40].replace("+", "p")
    with devices.connected(version=version) as device:
        device.subscribe(topic)
        data.publish(topic=topic, qos=qos, payload=b"\x00\xff{}")
        message = device.receive()
    assert (message.topic, message.payload, message.qos, message.retain) == (topic, b"\x00\xff{}", qos, False)
    assert message.properties == MessageProperties()


@pytest.mark.parametrize("pairs", [_PAIRS, json.dumps(_PAIRS)], ids=["array", "text"])
def test_mqtt_5_subscribers_get_the_properties(data: Any, devices: Devices, pairs: Any) -> None:
    topic = new_name("t")
    with devices.connected(version=5) as device, devices.connected(version=4) as old:
        device.subscribe(topic)
        old.subscribe(topic)
        data.publish(
            topic=topic,
            payload="21.5 °C",
            userProperties=pairs,
            payloadFormatIndicator="UTF8_DATA",
            contentType="text/plain; charset=utf-8",
            responseTopic="answers/ü",
            correlationData=b64encode(b"\x00\x01ab").decode(),
            messageExpiry=3600,
        )
        message, plain = device.receive(), old.receive()
    assert message.properties == MessageProperties(
        payload_is_utf8=True,
        message_expiry=3600,
        content_type="text/plain; charset=utf-8",
        response_topic="answers/ü",
        correlation_data=b"\x00\x01ab",
        user_properties=(("deviceName", "alpha"), ("deviceCnt", "45"), ("deviceName", "again")),
    )
    assert message.payload == plain.payload == "21.5 °C".encode()
    assert plain.properties == MessageProperties()


def test_retained_messages(data: Any, devices: Devices) -> None:
    base, before = new_name("r"), int(time.time() * 1000) - 1000
    topics = [f"{base}/{number}" for number in range(5)]
    for number, topic in enumerate(topics):
        data.publish(topic=topic, payload=b"x" * (number + 1), retain=True, qos=number % 2, userProperties=_PAIRS)
    data.publish(topic=f"{base}/not", payload=b"x")
    shown = data.get_retained_message(topic=topics[1])
    assert (shown["topic"], shown["payload"], shown["qos"]) == (topics[1], b"xx", 1)
    assert before <= shown["lastModifiedTime"] <= before + 60_000
    assert json.loads(shown["userProperties"]) == _PAIRS
    pages = list(data.get_paginator("list_retained_messages").paginate(PaginationConfig={"PageSize": 2}))
    assert all(len(page["retainedTopics"]) <= 2 for page in pages)
    listed = [each for page in pages for each in page["retainedTopics"] if each["topic"].startswith(base)]
    assert [(each["topic"], each["payloadSize"], each["qos"]) for each in listed] == [
        (topic, number + 1, number % 2) for number, topic in enumerate(topics)
    ]
    assert all(before <= each["lastModifiedTime"] for each in listed)
    with devices.connected() as device:
        device.subscribe(topics[0])
        assert device.receive().retain
        device.publish(topics[2], b"of the device", retain=True)
    assert data.get_retained_message(topic=topics[2])["payload"] == b"of the device"
    assert "userProperties" not in data.get_retained_message(topic=topics[2])
    for topic in topics:
        data.publish(topic=topic, payload=b"", retain=True)
    status, code, message = refusal(data.get_retained_message, topic=topics[0])
    assert (status, code) == (404, "ResourceNotFoundException")
    assert topics[0] in message
    found = data.get_paginator("list_retained_messages").paginate()
    assert not [each for page in found for each in page["retainedTopics"] if each["topic"].startswith(base)]


def test_what_cannot_be_published(data: Any) -> None:
    base: dict[str, Any] = {"topic": new_name("t"), "payload": b"x"}
    for wrong, field in (
        ({"topic": "a/+"}, "topic"),
        ({"topic": "a/#"}, "topic"),
        ({"topic": "$aws/things/x/shadow/update"}, "topic"),
        ({"topic": "a/" * 8 + "a"}, "topic"),
        ({"topic": "a" * 257}, "topic"),
        ({"payload": b"x" * (128 * 1024 + 1)}, "message"),
        ({"qos": 2}, "qos"),
        ({"responseTopic": "a/#"}, "responseTopic"),
        ({"correlationData": "no base64!"}, "correlationData"),
        ({"messageExpiry": 0}, "messageExpiry"),
        ({"messageExpiry": 2**32}, "messageExpiry"),
        ({"userProperties": {"a": "b"}}, "userProperties"),
        ({"userProperties": [{"a": 1}]}, "userProperties"),
        ({"userProperties": ["a"]}, "userProperties"),
        ({"userProperties": "no JSON"}, "userProperties"),
        ({"userProperties": [{"a": "b"}] * 101}, "userProperties"),
    ):
        status, code, message = refusal(data.publish, **(base | wrong))
        assert (status, code) == (400, "InvalidRequestException"), (wrong, message)
        assert field in message, (wrong, message)
