"""Messages of the data plane: publish one, and read those that are retained."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import orjson

from thingmint.aws.operations.declaring import answers, cursor
from thingmint.domain.errors import Invalid
from thingmint.domain.messages import Message, MessageProperties
from thingmint.services.pages import page_by_text

if TYPE_CHECKING:
    from datetime import datetime

    from thingmint.aws.operations.declaring import Members, Result
    from thingmint.domain.messages import UserProperties
    from thingmint.services.change import Change
    from thingmint.services.messages import RetainedMessage

_MAX_EXPIRY = 2**32 - 1  # seconds (MQTT 5, 3.3.2.3.3)
_MAX_PROPERTIES = 100
_UTF8 = {"UTF8_DATA": True, "UNSPECIFIED_BYTES": False}

DEVIATIONS = {
    "Publish": (
        "Topics that begin with `$` are refused: shadows, jobs and rules, which such topics are for, are not served."
    ),
    "GetRetainedMessage": (
        "NotImplementedException with several processes or a broker of yours: MQTT has no way to ask a broker."
    ),
    "ListRetainedMessages": (
        "NotImplementedException with several processes or a broker of yours: MQTT has no way to ask a broker."
    ),
}


@answers("Publish")
async def publish(change: Change, members: Members) -> Result:
    message = Message(
        _topic_name(members["topic"], "topic"),
        members.get("payload", b""),
        members.get("qos", 0),
        members.get("retain", False),
        _properties(members),
    )
    await change.environment.messages.publish(change.scope, message)
    return {}


@answers("GetRetainedMessage")
async def get_retained_message(change: Change, members: Members) -> Result:
    found = await change.environment.messages.retained_message(change.scope, members["topic"])
    properties = found.message.properties.user_properties
    return {
        **_summary(found),
        "payload": found.message.payload,
        "userProperties": orjson.dumps([{name: value} for name, value in properties]) if properties else None,
    }


@answers("ListRetainedMessages")
async def list_retained_messages(change: Change, members: Members) -> Result:
    page = await page_by_text(
        change,
        cursor(members),
        "retained messages",
        lambda after, limit: change.environment.messages.retained_after(change.scope, after, limit),
        lambda found: found.message.topic,
    )
    retained = [_summary(found) | {"payloadSize": len(found.message.payload)} for found in page.items]
    return {"retainedTopics": retained, "nextToken": page.next_token}


def _summary(found: RetainedMessage) -> dict[str, Any]:
    return {
        "topic": found.message.topic,
        "qos": found.message.qos,
        "lastModifiedTime": milliseconds(found.modified_at),
    }


def milliseconds(time: datetime) -> int:
    """Milliseconds since 1970: the data plane's timestamps are numbers of this kind."""
    return int(time.timestamp() * 1000)


def _topic_name(topic: str, field: str) -> str:
    if not topic or not {"+", "#"}.isdisjoint(topic):
        raise Invalid(field, "must not be empty, and must not have wildcards: + or #")
    return topic


def _properties(members: Members) -> MessageProperties:
    response_topic = members.get("responseTopic")
    expiry = members.get("messageExpiry")
    if expiry is not None and not 0 < expiry <= _MAX_EXPIRY:
        raise Invalid("messageExpiry", f"must be from 1 to {_MAX_EXPIRY} seconds")
    return MessageProperties(
        payload_is_utf8=_UTF8.get(members.get("payloadFormatIndicator", "")),
        message_expiry=expiry,
        content_type=members.get("contentType"),
        response_topic=None if response_topic is None else _topic_name(response_topic, "responseTopic"),
        correlation_data=_base64(members["correlationData"], "correlationData")
        if "correlationData" in members
        else None,
        user_properties=_user_properties(members["userProperties"]) if "userProperties" in members else (),
    )


def _base64(text: str, field: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: text that is not ASCII
        raise Invalid(field, "must be a base64 string") from None


def _user_properties(header: str) -> UserProperties:
    """The pairs of a JSON array of objects, in base64. SDKs encode a string once more as JSON: both are accepted."""
    form = "must be a JSON array of objects with text values, in base64"
    try:
        document = orjson.loads(_base64(header, "userProperties"))
        if isinstance(document, str):
            document = orjson.loads(document)
    except orjson.JSONDecodeError:
        raise Invalid("userProperties", form) from None
    if not isinstance(document, list) or not all(isinstance(each, dict) for each in document):
        raise Invalid("userProperties", form)
    pairs = tuple(pair for each in document for pair in each.items())
    if not all(isinstance(value, str) for _, value in pairs):
        raise Invalid("userProperties", form)
    if len(pairs) > _MAX_PROPERTIES:
        raise Invalid("userProperties", f"must have at most {_MAX_PROPERTIES} properties")
    return pairs
