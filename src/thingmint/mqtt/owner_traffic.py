"""Messages and subscriptions of a device, registry or broker of Yandex IoT Core. Yandex's topic rules authorize them.

At the broker every topic is below ``$yandex/ID/``, where ID is the registry's or broker's: no registry sees another's
messages, and no AWS policy can name these topics. Topics there end in one more level, ``.``, because ``a/#`` does not
match ``a`` in the embedded broker, as at AWS.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from thingmint.domain.errors import LimitExceeded, Unavailable
from thingmint.domain.messages import Message
from thingmint.domain.policies.decisions import Deny
from thingmint.domain.yandex_topics import broker_topic, canonical_topic, replays
from thingmint.mqtt.broker.interface import Subscription
from thingmint.mqtt.broker.topics import is_wildcard
from thingmint.mqtt.client_traffic import MAX_REFUSALS, ClientTraffic
from thingmint.mqtt.connection_log import owner_caller
from thingmint.mqtt.last_message_replay import Replay
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.services.last_messages import is_permanent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator, Mapping, Sequence

    from thingmint.access.context import Caller
    from thingmint.domain.messages import QoS
    from thingmint.mqtt.client_traffic import Host
    from thingmint.mqtt.connection_log import ConnectionLog
    from thingmint.mqtt.device_monitor import DeviceMonitor
    from thingmint.mqtt.kept_messages import KeptMessages
    from thingmint.mqtt.peer import Peer
    from thingmint.mqtt.protocol.connection import ServerConnection
    from thingmint.mqtt.protocol.events import SubscribeRequested, UnsubscribeRequested
    from thingmint.mqtt.protocol.packets import Publish, SubscriptionRequest
    from thingmint.mqtt.slices import Slices
    from thingmint.services.authentication_decisions import AcceptedOwner
    from thingmint.services.owner_authentication import OwnerAuthenticator

_MAX_SUBSCRIPTIONS = 100
_MAX_WILDCARD_LEVELS = 16  # of a filter with wildcards: the embedded broker visits its levels for each message
_MAX_KEEPING = 100  # messages of QoS 0 that are not kept yet; with more, the client is not read
_MAX_KNOWN = 1000  # other devices of the registry that a connection remembers


class OwnerTraffic(ClientTraffic):
    """Of a client of a device, registry or broker, under the rules of Yandex IoT Core.

    ``owners`` knows which registry another device is in, and the aliases of a registry, which only its own clients use.
    """

    __slots__ = (
        "_accepted",
        "_aliases_for",
        "_keeping",
        "_kept",
        "_known",
        "_monitor",
        "_owners",
        "_replay",
        "_space",
        "_subscriptions",
        "_topics",
    )

    def __init__(
        self,
        host: Host,
        peer: Peer,
        client_id: str,
        accepted: AcceptedOwner,
        mqtt: ServerConnection,
        connection_log: ConnectionLog,
        owners: OwnerAuthenticator,
        kept: KeptMessages,
        monitor: DeviceMonitor,
    ) -> None:
        super().__init__(host, peer, client_id, mqtt, connection_log)
        self._topics = accepted.topics
        self._aliases_for: AcceptedOwner | None = None
        """For which decision the aliases of a registry were loaded."""
        self.take(accepted)
        self._owners = owners
        self._kept = kept
        self._monitor = monitor
        self._replay = Replay(self._last_messages, self._send_last)
        self._subscriptions: dict[str, tuple[tuple[str, ...], QoS]] = {}
        """By the filter that the client sent: the filters at the broker, and the quality of service."""
        self._known: dict[str, None] = {}
        self._keeping: list[asyncio.Task[None]] = []
        """For messages of QoS 0, which are published already."""

    @property
    def filters(self) -> Sequence[str]:
        return tuple(self._subscriptions)

    # From the client.

    def publish(self, packet: Publish) -> Coroutine[Any, Any, None] | None:
        """At QoS 0 a client may end the connection right after its messages, so no message waits without need."""
        if self._lacks_aliases(packet.topic):
            return self._publish_later(packet)
        canonical = self._topics.publishes(packet.topic)
        if not isinstance(canonical, Deny):
            id = self._topics.device_named(canonical)
            if id is not None and id not in self._known:
                return self._publish_later(packet)
        return self._publish_to(canonical, packet)

    async def _publish_later(self, packet: Publish) -> None:
        canonical = await self._load_aliases(packet.topic) or self._topics.publishes(packet.topic)
        if not isinstance(canonical, Deny):
            canonical = await self._unless_foreign(canonical)
        work = self._publish_to(canonical, packet)
        if work is not None:
            await work

    def _publish_to(self, canonical: str | Deny, packet: Publish) -> Coroutine[Any, Any, None] | None:
        if isinstance(canonical, Deny):
            self._refuse("Publish", packet.topic, canonical)
            self._host.disconnect(Reason.NOT_AUTHORIZED, f"publish to {packet.topic} is not allowed", with_will=False)
            return None
        self._monitor.published(self._topics.id)
        kept = self._kept.keep(self._topics, canonical, packet)
        if not packet.qos or kept is None:
            self._send(canonical, packet)
        if kept is None:
            return self.link.congestion()
        work = self._await_kept(kept, canonical, packet)
        if packet.qos or len(self._keeping) >= _MAX_KEEPING:
            return work
        task = self._loop.create_task(work)
        self._keeping.append(task)
        task.add_done_callback(self._keeping.remove)
        return None

    def _send(self, canonical: str, packet: Publish) -> None:
        id = packet.packet_id
        message = Message(self._internal(canonical), packet.payload, 1 if packet.qos else 0, False, packet.properties)
        self.link.publish(message, lambda reason: self._published(id, reason))

    async def _await_kept(self, kept: Awaitable[None], canonical: str, packet: Publish) -> None:
        try:
            await kept
        except Unavailable:
            if packet.qos:
                self._host.disconnect(Reason.SERVER_BUSY, "the message could not be kept", with_will=False)
                return
            if is_permanent(canonical):
                self._warn("last_message_not_stored", packet.topic)
            else:
                self._warn("message_not_exported", packet.topic)
        if packet.qos:
            self._send(canonical, packet)
        congestion = self.link.congestion()
        if congestion is not None:
            await congestion

    async def subscribe(self, event: SubscribeRequested) -> None:
        before = self._wanted()
        answers = [
            await self._take_subscription(request) if refusal is None else refusal
            for request, refusal in zip(event.requests, event.refusals, strict=True)
        ]
        if self._refusals >= MAX_REFUSALS:
            self._host.disconnect(Reason.NOT_AUTHORIZED, "too much was refused", with_will=False)
            return
        new = [Subscription(filter, qos) for filter, qos in self._wanted().items() if before.get(filter, -1) < qos]

        def done(reasons: Sequence[Reason]) -> None:
            failed = {each.filter: reason for each, reason in zip(new, reasons, strict=False) if reason.failed}
            refusals = [self._drop_failed(request.filter, failed) for request in event.requests]
            if failed and (unwanted := [each.filter for each in new if each.filter not in self._wanted()]):
                self.link.unsubscribe(unwanted, lambda _: None)
            codes = [refusal or answer for refusal, answer in zip(refusals, answers, strict=True)]
            self._mqtt.suback(event.packet_id, codes)
            self._host.flush()
            for request, code in zip(event.requests, codes, strict=True):
                if not code.failed and self._topics.kind != "broker" and replays(request.filter):
                    self._replay.start(request.filter)

        if new:
            self.link.subscribe(new, done)
        else:
            done(())
        congestion = self.link.congestion()
        if congestion is not None:
            await congestion

    async def _take_subscription(self, request: SubscriptionRequest) -> Reason:
        filter = request.filter
        if filter not in self._subscriptions and len(self._subscriptions) >= _MAX_SUBSCRIPTIONS:
            return Reason.QUOTA_EXCEEDED
        if is_wildcard(filter) and filter.count("/") >= _MAX_WILDCARD_LEVELS:
            return Reason.TOPIC_FILTER_INVALID
        if self._topics.kind == "registry":
            await asyncio.sleep(0)  # others' turn: a filter may be compared with thousands of aliases
        readable = await self._load_aliases(filter) or self._topics.reads(filter)
        if not isinstance(readable, Deny):
            for canonical in readable.filters:
                refused = await self._unless_foreign(canonical)
                if isinstance(refused, Deny):
                    readable = refused
                    break
        if isinstance(readable, Deny):
            self._refuse("Subscribe", filter, readable)
            return Reason.NOT_AUTHORIZED
        qos: QoS = 1 if request.qos else 0
        self._subscriptions[filter] = (tuple(map(self._internal, readable.filters)), qos)
        self._monitor.subscribed(self._topics.id)
        return Reason(qos)

    def _drop_failed(self, filter: str, failed: Mapping[str, Reason]) -> Reason | None:
        """Ends the subscription if the broker refused one of its filters, and returns the reason."""
        filters, _ = self._subscriptions.get(filter, ((), 0))
        refusal = next((failed[each] for each in filters if each in failed), None)
        if refusal is not None:
            del self._subscriptions[filter]
        return refusal

    def unsubscribe(self, event: UnsubscribeRequested) -> Coroutine[Any, Any, None] | None:
        before = self._wanted()
        answers = [
            Reason.SUCCESS if self._subscriptions.pop(filter, None) is not None else Reason.NO_SUBSCRIPTION_EXISTED
            for filter in event.filters
        ]
        after = self._wanted()
        unwanted = [filter for filter in before if filter not in after]

        def done(_: Sequence[Reason]) -> None:
            self._mqtt.unsuback(event.packet_id, answers)
            self._host.flush()

        if unwanted:
            self.link.unsubscribe(unwanted, done)
        else:
            done(())
        return self.link.congestion()

    def began(self) -> None:
        """The connection was accepted."""
        if self._topics.kind == "device":
            self._monitor.connected(self.scope, self._topics.registry, self._topics.id, self._peer.address)

    def ended(self) -> None:
        """The connection ended."""
        self._replay.stop()
        self._monitor.disconnected(self._topics.id)

    # From the broker.

    def _name_for_client(self, message: Message) -> str | None:
        canonical = self._canonical(message.topic)
        self._replay.delivered(canonical)
        return self._shown(canonical)

    # Last messages of permanent topics.

    async def _last_messages(self, filter: str) -> AsyncIterator[tuple[str, bytes]]:
        """The topics and messages that a subscription to the filter is sent first."""
        filters, _ = self._subscriptions.get(filter, ((), 0))
        for internal in filters:
            async for found in self._kept.last.matching(self._topics.registry, self._canonical(internal)):
                yield found

    def _send_last(self, filter: str, canonical: str, payload: bytes) -> bool:
        """False if the client cannot take it now."""
        if not self._host.can_send:
            return False
        name = self._topics.shown(filter, canonical) if filter in self._subscriptions else None
        if name is not None and self._mqtt.publish(name, payload):
            self._host.flush()
        return True

    # Changes of the owner.

    def take(self, accepted: AcceptedOwner) -> None:
        """Authorizes with ``accepted`` from now on."""
        self._accepted = accepted
        is_registry = accepted.topics.kind == "registry"  # it keeps the aliases that it has until they are loaded again
        self._topics = accepted.topics.with_aliases(self._topics.aliases) if is_registry else accepted.topics
        self.scope = accepted.scope
        self._space = accepted.topics.registry or accepted.owner

    async def recheck_subscriptions(self, slices: Slices) -> str | None:
        """Subscribes to what the filters mean with the aliases that there are now. Closes no connection."""
        before, denied = self._wanted(), None
        for filter in list(self._subscriptions):
            if (denied := await self._load_aliases(filter)) is not None:
                break

        def read_again() -> Iterator[None]:
            for filter in list(self._subscriptions):
                readable = denied or self._topics.reads(filter)
                filters = () if isinstance(readable, Deny) else tuple(map(self._internal, readable.filters))
                if filter in self._subscriptions:  # the client may have unsubscribed
                    self._subscriptions[filter] = (filters, self._subscriptions[filter][1])
                yield

        await slices.finish(self.scope.account, self, read_again())
        after = self._wanted()
        if unwanted := [filter for filter in before if filter not in after]:
            self.link.unsubscribe(unwanted, lambda _: None)
        if new := [Subscription(filter, qos) for filter, qos in after.items() if before.get(filter, -1) < qos]:
            self.link.subscribe(new, lambda _: None)
        return None

    @property
    def owner(self) -> str:
        return self._accepted.owner

    @property
    def caller(self) -> Caller:
        return owner_caller(self._accepted, self._client_id)

    def _wanted(self) -> dict[str, QoS]:
        """The filters at the broker, with the highest quality of service that any subscription asks for."""
        wanted: dict[str, QoS] = {}
        for filters, qos in self._subscriptions.values():
            for filter in filters:
                wanted[filter] = max(wanted.get(filter, qos), qos)
        return wanted

    async def _load_aliases(self, name: str) -> Deny | None:
        """A registry has the aliases of all its devices, so they are loaded only where a name needs them."""
        if not self._lacks_aliases(name):
            return None
        accepted = self._accepted
        try:
            aliases = await self._owners.aliases_of(self._topics.registry)
        except LimitExceeded as error:
            return Deny(str(error))
        self._topics = self._topics.with_aliases(aliases)
        self._aliases_for = accepted
        return None

    def _lacks_aliases(self, name: str) -> bool:
        return self._topics.kind == "registry" and self._aliases_for is not self._accepted and not name.startswith("$")

    async def _unless_foreign(self, canonical: str) -> str | Deny:
        """``canonical``, unless it names a device of another registry."""
        id = self._topics.device_named(canonical)
        if id is None or id in self._known:
            return canonical
        foreign = await self._owners.foreign(self.scope.account, self._topics, id)
        if foreign is not None:
            return foreign
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[id] = None
        return canonical

    def _internal(self, canonical: str) -> str:
        return broker_topic(self._space, canonical)

    def _canonical(self, internal: str) -> str:
        return canonical_topic(self._space, internal, is_broker=self._topics.kind == "broker")

    def _shown(self, canonical: str) -> str | None:
        """The name under which a message of that topic is sent to the client."""
        return next((name for filter in self._subscriptions if (name := self._topics.shown(filter, canonical))), None)

    def _refuse(self, action: str, name: str, why: Deny) -> None:
        self._refusals += 1
        resource = f"yandex:{self._topics.kind}/{self._topics.id}"
        self._connection_log.refused(
            self._peer, self.caller, action, resource, f"{action.lower()} to {name} is not allowed: {why}"
        )
