"""Implements the APIs' operations on messages and connections, with a broker and this process's connections."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Invalid, NotFound, Throttled, Unavailable, Unsupported
from thingmint.domain.messages import Message
from thingmint.domain.mqtt_topics import is_topic_name
from thingmint.domain.yandex_topics import broker_topic
from thingmint.mqtt.protocol.decoder import Decoder
from thingmint.mqtt.protocol.encoder import encode
from thingmint.mqtt.protocol.limits import AWS_LIMITS, check_publish
from thingmint.mqtt.protocol.packets import Publish
from thingmint.mqtt.protocol.reasons import ProtocolError, Reason
from thingmint.services.authentication_decisions import parts_of_session_name, session_name
from thingmint.services.client_ids import CloseRequest
from thingmint.services.live_sessions import SessionPage
from thingmint.services.messages import ClientState, Connection, Connectivity, RetainedMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from thingmint.domain.errors import DomainError
    from thingmint.domain.messages import QoS
    from thingmint.mqtt.broker.interface import Aged, Broker
    from thingmint.mqtt.connected_clients import ConnectedClients
    from thingmint.mqtt.connection_index import ConnectionIndex, Member
    from thingmint.services.client_ids import ClientIds, Elsewhere
    from thingmint.services.live_sessions import AllSessions, SessionQuestion
    from thingmint.services.page_tokens import Position
    from thingmint.store.engine import PublishedChange


_ANSWER_TIMEOUT = 10.0  # seconds for the broker to acknowledge a message
_RESERVED = "$"
_WHY = "an administrator closed the connection"


class GatewayMessages:
    """Implements Messages (services/messages.py)."""

    def __init__(
        self,
        broker: Broker,
        connections: ConnectionIndex,
        clients: ConnectedClients,
        clock: Callable[[], datetime],
        answer_timeout: float = _ANSWER_TIMEOUT,
        client_ids: ClientIds | None = None,
        sessions: AllSessions | None = None,
    ) -> None:
        """``client_ids``: None if no other process uses the store. ``sessions``: None if no device can connect."""
        self.sessions: AllSessions = sessions or _no_sessions
        self._client_ids = client_ids
        self._broker = broker
        self._connections = connections
        self._clients = clients
        self._clock = clock
        self._answer_timeout = answer_timeout

    async def publish(self, scope: Scope, message: Message) -> None:
        _check(message)
        await self._publish(scope, message)

    async def publish_of_owner(self, scope: Scope, space: str, topic: str, payload: bytes) -> None:
        if not is_topic_name(topic):
            raise Invalid("topic", "is empty, or has one of the characters + and #")
        await self._publish(scope, Message(broker_topic(space, topic), payload, 1))

    async def publish_event(self, scope: Scope, topic: str, payload: bytes) -> bool:
        if (trouble := self._broker.trouble) is not None:
            raise Unavailable(trouble)  # a message would wait in the broker's queue, and be queued again by the caller
        reason = await self._answer(scope, Message(topic, payload, 1))
        if reason is Reason.NOT_AUTHORIZED:
            raise Throttled("The broker does not allow the account's topic")  # other accounts' topics may be allowed
        if reason.failed:
            raise _refusal(reason)
        return reason is not Reason.NO_MATCHING_SUBSCRIBERS

    async def _publish(self, scope: Scope, message: Message) -> None:
        reason = await self._answer(scope, message)
        if reason.failed:
            raise _refusal(reason)

    async def _answer(self, scope: Scope, message: Message) -> Reason:
        """The broker's answer. Raises Unavailable if there is none in time."""
        answered: asyncio.Future[Reason] = asyncio.get_running_loop().create_future()

        def done(reason: Reason) -> None:
            if not answered.done():  # else the time-out cancelled it
                answered.set_result(reason)

        self._broker.publish(scope, message, done)
        try:
            return await asyncio.wait_for(answered, self._answer_timeout)
        except TimeoutError:
            raise Unavailable("The broker did not answer in time; it may take the message later") from None

    async def retained_message(self, scope: Scope, topic: str) -> RetainedMessage:
        found = self._broker.retained_message(scope, topic)
        if found is None:
            raise NotFound("retained message", topic)
        return self._dated(found)

    async def retained_after(self, scope: Scope, topic: str, limit: int) -> list[RetainedMessage]:
        return [self._dated(found) for found in self._broker.retained_after(scope, topic, limit)]

    async def connections_after(self, scope: Scope, position: Position | None, limit: int) -> list[Connection]:
        return self._clients.after(scope, 0 if position is None else position[0], limit)

    async def client(self, scope: Scope, client_id: str) -> ClientState:
        name, clients = session_name(client_id, None), self._clients
        if (connection := clients.get(scope, name)) is not None:
            id = connection.certificate_id
            return ClientState(True, clients.since(scope, name), connection.facts, None, False, id)
        if (elsewhere := await self._elsewhere(scope, name)) is not None:
            return ClientState(True, elsewhere.connected_at, None, None, False)
        ended, waits = clients.ended(scope, name), self._broker.has_session(scope, name)
        if ended is not None:
            if waits is None:  # the operator's own broker has the session
                waits = self._clock() < ended.at + timedelta(seconds=ended.facts.expiry)
            return ClientState(False, ended.at, ended.facts, ended.reason, waits)
        if not waits:
            raise NotFound("client", client_id)
        return ClientState(False, None, None, None, True)

    async def connectivity(self, scope: Scope, client_ids: Sequence[str]) -> dict[str, Connectivity]:
        clients, found, absent = self._clients, dict[str, Connectivity](), list[str]()
        for name in client_ids:
            if clients.get(scope, name) is not None:
                found[name] = Connectivity(True, clients.since(scope, name), None)
            else:
                absent.append(name)
        if self._client_ids is not None and absent:
            for name, at in await self._client_ids.connected_elsewhere(scope, absent):
                found[name] = Connectivity(True, at, None)
        for name in absent:
            if name not in found and (ended := clients.ended(scope, name)) is not None:
                found[name] = Connectivity(False, ended.at, ended.reason)
        return found

    async def connected_after(self, scope: Scope, position: str, limit: int) -> list[tuple[str, str | None]]:
        if self._client_ids is not None:
            names = await self._client_ids.after(scope, position, limit)
            return [(name, None if _has_owner(name) else name) for name in names]
        found = self._clients.after(scope, int(position) if position.isdigit() else 0, limit)
        return [(str(each.position[0]), each.client_id if each.owner is None else None) for each in found]

    def ended_clients(self, scope: Scope) -> list[str]:
        return [name for name in self._clients.ended_clients(scope) if not _has_owner(name)]

    async def subscriptions(self, scope: Scope, client_id: str) -> list[tuple[str, QoS]]:
        name = session_name(client_id, None)
        found = self._broker.subscriptions(scope, name)
        if await self._elsewhere(scope, name) is not None:
            raise Unsupported("The client is connected to another process, which keeps its subscriptions")
        if found is None:
            raise NotFound("client", client_id)
        return sorted((each.filter, each.qos) for each in found)

    async def _elsewhere(self, scope: Scope, name: str) -> Elsewhere | None:
        return None if self._client_ids is None else await self._client_ids.elsewhere(scope, name)

    def changed(self, changes: Sequence[PublishedChange]) -> None:
        """Closes the connections that other processes ask to close."""
        for change in changes:
            if change.kind != "close":
                continue
            scope, request = Scope(change.account, change.region), CloseRequest.parse(change.name)
            found = self._clients.get(scope, request.client_id)
            if found is not None and found.claim is not None and found.claim.epoch <= request.epoch:
                found.disconnect(Reason.ADMINISTRATIVE_ACTION, _WHY, with_will=request.with_will)
                if request.discard:
                    self._broker.discard(scope, request.client_id)

    async def close_client(
        self, scope: Scope, client_id: str, owner: str | None = None, *, with_will: bool = True, discard: bool = False
    ) -> bool:
        name = session_name(client_id, owner)
        connection = self._clients.get(scope, name)
        if connection is not None:
            connection.disconnect(Reason.ADMINISTRATIVE_ACTION, _WHY, with_will=with_will)
        elif self._client_ids is not None and (elsewhere := await self._client_ids.elsewhere(scope, name)) is not None:
            request = CloseRequest(name, elsewhere.epoch, with_will, discard)
            await self._client_ids.ask_to_close(scope, request)
            return True
        if discard:
            self._broker.discard(scope, name)
        return connection is not None

    async def close_certificate(self, scope: Scope, certificate_id: str, *, with_will: bool = True) -> int:
        members = self._connections.depending_on((*scope, "certificate", certificate_id))
        await self._connections.slices.finish(scope.account, self, _disconnect_all(members, with_will))
        return len(members)

    async def close(self, changes: Sequence[PublishedChange]) -> None:
        await self._connections.close(changes)

    def reauthorize(self, changes: Sequence[PublishedChange]) -> None:
        self._connections.reauthorize(changes)

    def _dated(self, found: Aged) -> RetainedMessage:
        message, age = found
        return RetainedMessage(message, self._clock() - timedelta(seconds=age))


def _has_owner(name: str) -> bool:
    return parts_of_session_name(name)[1] is not None


async def _no_sessions(scope: Scope, question: SessionQuestion) -> SessionPage:
    del scope, question
    return SessionPage([])


def _check(message: Message) -> None:
    """Raises Invalid for a message that a device could not publish."""
    if message.topic.startswith(_RESERVED):
        raise Invalid("topic", "is reserved for the service itself")
    packet = Publish(
        message.topic,
        message.payload,
        message.qos,
        message.retain,
        packet_id=1 if message.qos else None,
        properties=message.properties,
    )
    try:
        for read in Decoder(AWS_LIMITS.maximum_packet_size, 5).feed(encode(packet, 5)):
            assert isinstance(read, Publish)
            check_publish(read, AWS_LIMITS)
    except ProtocolError as error:
        raise Invalid("message", f"cannot be published: {error}") from None
    except (OverflowError, ValueError):  # text with a null character, text that is too long, an expiry over four bytes
        raise Invalid("message", "has a text or a number that MQTT cannot represent") from None
    if not AWS_LIMITS.takes_topic(message.topic):
        raise Invalid("topic", "is longer or has more levels than devices may use")


def _refusal(reason: Reason) -> DomainError:
    """Returns the error that the API reports for the broker's answer."""
    match reason:
        case Reason.TOPIC_NAME_INVALID:
            return Invalid("topic", "is not accepted by the broker")
        case Reason.IMPLEMENTATION_SPECIFIC_ERROR:
            return Invalid("message", "is not accepted by the broker")
        case Reason.QUOTA_EXCEEDED:
            return Throttled("Too many messages wait or are retained")
        case _:
            return Unavailable(f"The broker refused the message: {reason.name}")


def _disconnect_all(members: Sequence[Member], with_will: bool) -> Iterator[None]:
    for member in members:
        member.disconnect(Reason.ADMINISTRATIVE_ACTION, _WHY, with_will=with_will)
        yield
