"""Messages and subscriptions of an accepted device. Each is authorized by the device's policies first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.domain.messages import Message
from thingmint.domain.mqtt_topics import unshared
from thingmint.mqtt.broker.interface import Subscription
from thingmint.mqtt.broker.topics import is_wildcard
from thingmint.mqtt.client_traffic import MAX_REFUSALS, NONE, ClientTraffic
from thingmint.mqtt.connection_log import device_caller
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.provisioning import provisioning_request

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from thingmint.access.context import Caller
    from thingmint.mqtt.client_traffic import Host
    from thingmint.mqtt.connection_log import ConnectionLog
    from thingmint.mqtt.peer import Peer
    from thingmint.mqtt.protocol.connection import ServerConnection
    from thingmint.mqtt.protocol.events import SubscribeRequested, UnsubscribeRequested
    from thingmint.mqtt.protocol.packets import Publish, SubscriptionRequest
    from thingmint.mqtt.provisioning import ProvisioningRequest, ProvisioningTopics
    from thingmint.mqtt.slices import Slices
    from thingmint.services.authentication_decisions import Accepted
    from thingmint.services.device_permissions import Refusal


_MAX_SUBSCRIPTIONS = 50  # AWS IoT's quota for one connection

# The gateway answers requests on these topics, only to the connection that asked. The broker gets no subscription.
_OWN_TOPICS = ("$aws/certificates/", "$aws/provisioning-templates/")


class Traffic(ClientTraffic):
    """Of a device, under the rules of AWS IoT: its policies decide."""

    __slots__ = ("_filters", "_fingerprint", "_propagated", "_provisioning", "_settings", "permissions")

    def __init__(
        self,
        host: Host,
        peer: Peer,
        client_id: str,
        accepted: Accepted,
        mqtt: ServerConnection,
        connection_log: ConnectionLog,
        provisioning: ProvisioningTopics | None,
    ) -> None:
        super().__init__(host, peer, client_id, mqtt, connection_log)
        self.take(accepted)
        self._provisioning = provisioning
        self._filters: frozenset[str] = NONE

    # From the device.

    def publish(self, packet: Publish) -> Coroutine[Any, Any, None] | None:
        """Returns None, or a coroutine to await before the next event."""
        topic = packet.topic
        if (refusal := self.permissions.publish(topic, retain=packet.retain)) is not None:
            self._refused(refusal)
            self._refuse_publish(packet, Reason.NOT_AUTHORIZED)
            return None
        if topic[0] != "$":
            qos, id = packet.qos, packet.packet_id
            properties = packet.properties.adding(self._propagated) if self._propagated else packet.properties
            message = Message(topic, packet.payload, 1 if qos else 0, packet.retain, properties)
            self.link.publish(message, lambda reason: self._published(id, reason))
            return self.link.congestion()
        self._published(packet.packet_id, Reason.SUCCESS)
        if self._provisioning is not None and (request := provisioning_request(topic)) is not None:
            return self._provision(request, packet.payload)
        if self._note("unserved", topic):
            self._warn("topic_not_served", topic)
        return None

    def subscribe(self, event: SubscribeRequested) -> Coroutine[Any, Any, None] | None:
        answers = [
            self._authorize_subscription(request) if refusal is None else refusal
            for request, refusal in zip(event.requests, event.refusals, strict=True)
        ]
        refused = [answer for answer in answers if answer is not None and answer.failed]
        if refused and self._mqtt.version == 4 and not self._settings.suback_refusals:
            # AWS closes the connection, and never sends the return code 0x80.
            self._host.disconnect(refused[0], "a subscription was refused", with_will=True)
            return None
        if self._refusals >= MAX_REFUSALS:
            self._host.disconnect(Reason.NOT_AUTHORIZED, "too many requests were refused", with_will=True)
            return None
        allowed = [
            self._subscription(request)
            for request, answer in zip(event.requests, answers, strict=True)
            if answer is None
        ]

        def done(reasons: Sequence[Reason]) -> None:
            from_broker = iter(reasons)
            answered = [next(from_broker) if answer is None else answer for answer in answers]
            self._mqtt.suback(event.packet_id, answered)
            self._host.flush()
            made = [each.filter for each, answer in zip(event.requests, answered, strict=True) if not answer.failed]
            self._host.subscriptions("subscribed", made)

        if allowed:
            self.link.subscribe(allowed, done)
        else:
            done(())
        return self.link.congestion()

    def unsubscribe(self, event: UnsubscribeRequested) -> Coroutine[Any, Any, None] | None:
        answers = [
            Reason.SUCCESS if refusal is None and filter.startswith(_OWN_TOPICS) else refusal
            for filter, refusal in zip(event.filters, event.refusals, strict=True)
        ]
        filters = [filter for filter, answer in zip(event.filters, answers, strict=True) if answer is None]
        self._filters = self._filters.difference(filters)

        def done(reasons: Sequence[Reason]) -> None:
            from_broker = iter(reasons)
            answered = [next(from_broker) if answer is None else answer for answer in answers]
            self._mqtt.unsuback(event.packet_id, answered)
            self._host.flush()
            ended = [filter for filter, answer in zip(event.filters, answered, strict=True) if not answer.failed]
            self._host.subscriptions("unsubscribed", ended)

        if filters:
            self.link.unsubscribe(filters, done)
        else:
            done(())
        return self.link.congestion()

    @property
    def filters(self) -> Sequence[str]:
        return tuple(self._filters)

    # From the broker.

    def _name_for_client(self, message: Message) -> str | None:
        refusal = self.permissions.receive(message.topic)
        if refusal is None:
            return message.topic
        if self._note("Receive", message.topic):
            self._refused(refusal)
        return None

    # Changes of the device's permissions.

    def take(self, accepted: Accepted) -> None:
        """Authorizes with ``accepted`` from now on."""
        self.scope = accepted.scope
        self.thing = accepted.thing
        self.permissions = accepted.permissions
        self._propagated = accepted.propagated
        self._fingerprint = accepted.fingerprint
        self._settings = accepted.settings

    async def recheck_subscriptions(self, slices: Slices) -> str | None:
        """Returns why the connection must be closed: the policies now deny a subscription. None if they allow all."""
        permissions = self.permissions
        refused: list[tuple[str, Refusal]] = []

        def check_filters() -> Iterator[None]:
            for filter in sorted(self._filters):
                if (refusal := permissions.subscribe(filter)) is not None:
                    refused.append((filter, refusal))
                    return
                yield

        await slices.finish(self.scope.account, self, check_filters())
        if not refused:
            return None
        filter, refusal = refused[0]
        self._refused(refusal)
        return f"the policies no longer allow to subscribe to {filter}"

    @property
    def caller(self) -> Caller:
        return device_caller(self.scope, self._fingerprint, self._client_id)

    def _refuse_publish(self, packet: Publish, reason: Reason) -> None:
        # As AWS does: MQTT 3.1.1 cannot refuse a message, so the connection is closed. MQTT 5 gets PUBACK with the
        # reason, or DISCONNECT at QoS 0.
        if self._mqtt.version == 5 and packet.packet_id is not None and self._refusals < MAX_REFUSALS:
            self._published(packet.packet_id, reason)
        else:
            self._host.disconnect(reason, "a message was refused", with_will=True)

    def _authorize_subscription(self, request: SubscriptionRequest) -> Reason | None:
        """Returns the reason code for SUBACK, or None if the broker decides."""
        refusal = self.permissions.subscribe(request.filter)
        if refusal is not None:
            if refusal.reserved:
                return Reason.TOPIC_FILTER_INVALID
            self._refused(refusal)
            return Reason.NOT_AUTHORIZED
        if unshared(request.filter).startswith(_OWN_TOPICS):
            return Reason(min(request.qos, 1))
        if request.filter not in self._filters and len(self._filters) >= _MAX_SUBSCRIPTIONS:
            return Reason.QUOTA_EXCEEDED
        self._filters |= {request.filter}  # before the next filter of this packet is counted
        return None

    def _subscription(self, request: SubscriptionRequest) -> Subscription:
        r = request
        no_retained = is_wildcard(r.filter) and not self._settings.retained_on_wildcards
        handling = 2 if no_retained else r.retain_handling  # 2: no retained messages (MQTT 5, 3.8.3.1)
        return Subscription(r.filter, 1 if r.qos else 0, r.no_local, r.retain_as_published, handling)

    async def _provision(self, request: ProvisioningRequest, payload: bytes) -> None:
        assert self._provisioning is not None
        # Checked first: if the device may not receive the reply, a new key would be lost.
        refusal = next(filter(None, map(self.permissions.receive, request.replies)), None)
        if refusal is not None:
            self._refused(refusal)
            return
        topic, reply = await self._provisioning.answer(
            request, payload, self._peer.address, self._client_id, self.scope, self.caller
        )
        if not self._mqtt.publish(topic, reply):
            self._warn("reply_larger_than_device_takes", topic)
        self._host.flush()

    def _refused(self, refusal: Refusal) -> None:
        self._refusals += 1
        self._connection_log.denied(self._peer, self.caller, self.permissions, refusal)
