"""The names of client ids, topics and groups at a broker that all accounts share.

Topics are ``ACCOUNT/REGION/TOPIC``. Reserved topics are ``ACCOUNT/REGION$aws/...``: no wildcard of a device matches
them, and at the broker they do not begin with ``$``. Different names, or the same name in two scopes, stay different.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from thingmint.domain.messages import NO_PROPERTIES
from thingmint.domain.mqtt_topics import is_topic_name
from thingmint.mqtt.broker.topics import split_shared
from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from thingmint.domain.arns import Scope
    from thingmint.domain.messages import MessageProperties


# Control characters and noncharacters: MQTT 5, 1.5.4 lets a server close the connection for them, and Mosquitto does.
_PLANE_ENDS = "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF))
_UNACCEPTABLE = re.compile(f"[\0-\x1f\x7f-\x9f\ufdd0-\ufdef{_PLANE_ENDS}]")


@dataclass(frozen=True, slots=True)
class Dialect:
    """The rules of a broker for names. ``escaped``: characters with a special meaning there.

    Lengths are in bytes. ``shared``: the broker supports shared subscriptions.
    """

    escaped: str = ""
    topic_bytes: int = 65_535
    client_id_bytes: int = 65_535
    shared: bool = True


STANDARD = Dialect()
RABBITMQ = Dialect(
    escaped="%.*",  # in AMQP a dot separates levels, and an asterisk matches one; % is the escape character
    topic_bytes=255,  # the length of a routing key
    client_id_bytes=255 - len("mqtt-subscription-qos1"),  # it names a queue by the client id
    shared=False,
)


class Names:
    """The names of one scope, in a dialect. Methods return None for what cannot be named at the broker."""

    __slots__ = ("_dialect", "_escaped", "_id", "_prefix", "_unescaped")

    def __init__(self, scope: Scope, dialect: Dialect) -> None:
        self._dialect = dialect
        self._escaped = {ord(character): f"%{ord(character):02X}" for character in dialect.escaped}
        self._unescaped = {code: chr(character) for character, code in self._escaped.items()}
        account, region = quote(scope.account, safe=""), quote(scope.region, safe="")
        self._id = f"{account}:{region}:"
        self._prefix = f"{account}/{region}".translate(self._escaped)

    def client_id(self, client_id: str) -> str:
        """A long client id becomes its digest after a second colon; other names have colons only quoted."""
        name = self._id + quote(client_id, safe="")
        if len(name) <= self._dialect.client_id_bytes:
            return name
        return f"{self._id}:{hashlib.sha256(client_id.encode()).hexdigest()}"

    def topic(self, topic: str) -> str | None:
        if not is_acceptable(topic):
            return None
        name = topic.translate(self._escaped) if self._escaped else topic
        name = self._prefix + name if name.startswith("$") else f"{self._prefix}/{name}"
        return name if self._fits(name) else None

    def filter(self, filter: str) -> str | None:
        """``a/#`` becomes ``a/+/#``: at a broker ``a/#`` matches ``a``, but not at AWS."""
        group, topics = split_shared(filter)
        name = self.topic(topics)
        if name is None or (group is not None and not self._dialect.shared):
            return None
        if name.endswith("/#"):
            name = f"{name[:-1]}+/#"
            if not self._fits(name):
                return None
        return name if group is None else f"$share/{self._id}{quote(group, safe='')}/{name}"

    def local(self, name: str) -> str | None:
        """Returns the topic of a name at the broker; None if it is not a topic of this scope."""
        size = len(self._prefix)
        if not name.startswith(self._prefix) or name[size : size + 1] not in ("/", "$"):
            return None
        topic = name[size + 1 :] if name[size] == "/" else name[size:]
        if topic.startswith("$") and name[size] == "/":
            return None  # no topic has this name: reserved ones are written without the slash
        if "%" in topic and self._unescaped:
            topic = re.sub("%[0-9A-F]{2}", lambda found: self._unescaped.get(found[0], found[0]), topic)
        return topic or None

    def why_not(self, filter: str) -> Reason:
        """Returns the reason code for a filter that ``filter`` cannot name."""
        if split_shared(filter)[0] is not None and not self._dialect.shared:
            return Reason.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
        return Reason.TOPIC_FILTER_INVALID

    def outward(self, properties: MessageProperties) -> MessageProperties | None:
        """Translates the response topic. None if the broker might close the connection because of the properties."""
        if properties is NO_PROPERTIES:
            return properties
        texts = [properties.content_type or "", *(text for pair in properties.user_properties for text in pair)]
        if not all(map(is_acceptable, texts)):
            return None
        if properties.response_topic is None:
            return properties
        name = self.topic(properties.response_topic) if is_topic_name(properties.response_topic) else None
        return None if name is None else replace(properties, response_topic=name)

    def inward(self, properties: MessageProperties) -> MessageProperties:
        if properties.response_topic is None:
            return properties
        return replace(properties, response_topic=self.local(properties.response_topic) or properties.response_topic)

    def _fits(self, name: str) -> bool:
        return len(name) * 4 <= self._dialect.topic_bytes or len(name.encode()) <= self._dialect.topic_bytes


def is_acceptable(text: str) -> bool:
    """True if all brokers accept the text in a packet."""
    return (text.isascii() and text.isprintable()) or _UNACCEPTABLE.search(text) is None
