"""An existing MQTT broker behind the gateway. The gateway authenticates and authorizes the devices.

Each device has a separate connection to the broker, which keeps sessions, queues, retained messages and shared
subscriptions. What does not work with a broker of MQTT 3.1.1: see docs/brokers.md.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import structlog

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Unavailable, Unsupported
from thingmint.mqtt.broker.interface import Features, log_refusal
from thingmint.mqtt.broker.upstream.client import MAX_PACKET_SIZE
from thingmint.mqtt.broker.upstream.link import UpstreamLink
from thingmint.mqtt.broker.upstream.names import STANDARD, Dialect, Names
from thingmint.mqtt.broker.upstream.publisher import Publisher
from thingmint.mqtt.broker.upstream.reachability import Reachability
from thingmint.mqtt.broker.upstream.target import Login, Target
from thingmint.mqtt.protocol.packets import Connect
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.slices import Slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from thingmint.domain.messages import Message
    from thingmint.mqtt.broker.interface import Aged, Opening, Subscriber, Subscription
    from thingmint.mqtt.broker.upstream.connection import UpstreamConnection
    from thingmint.mqtt.protocol.packets import Version


_KEEP_ALIVE = 60  # seconds
_TICK = 5.0
_OPEN_TIMEOUT = 10.0
_MAX_DIALING = 64
_MAX_PURGES = 10_000
_COMPLAIN_EVERY = 30.0
_STOP_TIMEOUT = 3.0

_NOT_READABLE = (
    "Retained messages are kept by the MQTT broker behind this server, and MQTT has no request to list them: "
    "subscribe to their topics, or use the broker's tools"
)
_SUBSCRIPTIONS = (
    "Subscriptions are kept by the MQTT broker behind this server, and MQTT has no request to list them: "
    "use the broker's tools"
)
_OWN = Scope("thingmint", "gateway")  # cannot be the scope of an account: account ids have twelve digits

_log = structlog.get_logger("thingmint.gateway")

_Key = tuple[Scope, str]


@dataclass(frozen=True, slots=True)
class Upstream:
    """The address of the broker, and the protocol and login to use."""

    target: Target
    version: Version = 5
    dialect: Dialect = STANDARD
    login: Login = field(default_factory=Login)


class UpstreamUsage(NamedTuple):
    """``waiting`` and ``dropped`` count messages of the gateway; they are dropped for lack of room."""

    connections: int
    waiting: int
    dropped: int
    failures: int


class UpstreamBroker:
    def __init__(
        self,
        upstream: Upstream,
        tick: float = _TICK,
        open_timeout: float = _OPEN_TIMEOUT,
        slices: Slices | None = None,
    ) -> None:
        self._slices = slices or Slices()
        self._upstream = upstream
        self._tick = tick
        self._open_timeout = open_timeout
        self._links: dict[_Key, UpstreamLink] = {}  # the newest of each client id, until its connection is closed
        self._open_links: set[UpstreamConnection] = set()
        self._purges: dict[_Key, asyncio.Task[None]] = {}
        self._dialing = asyncio.Semaphore(_MAX_DIALING)
        self._publisher = Publisher(self._open_own)
        self._reachability = Reachability()
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._complained = float("-inf")

    @property
    def features(self) -> Features:
        return Features(shared_subscriptions=self._upstream.dialect.shared)

    @property
    def trouble(self) -> str | None:
        return self._reachability.trouble(connected=self._publisher.connected)

    @property
    def usage(self) -> UpstreamUsage:
        publisher = self._publisher
        return UpstreamUsage(len(self._open_links), publisher.waiting, publisher.dropped, self._reachability.failures)

    async def open(self, opening: Opening, subscriber: Subscriber) -> UpstreamLink:
        if self._stopped:
            raise Unavailable("The broker has stopped")
        key = (opening.scope, opening.client_id)
        names = Names(opening.scope, self._upstream.dialect)
        link = self._new_link(key, self._connect_for(opening, names), names, subscriber, opening)
        former = self._links.get(key)
        self._links[key] = link
        if former is not None:
            former.end(Reason.SESSION_TAKEN_OVER)
        try:
            async with asyncio.timeout(self._open_timeout):
                await self._wait_for_former(key, former)
                # MQTT 5 can start a new session that is kept. MQTT 3.1.1 needs two steps: end the old one, start one.
                if self._upstream.version == 4 and opening.clean_start and opening.expiry:
                    await self._purge(opening.client_id, names)
                await self._dial(link)
        except (OSError, TimeoutError) as error:
            why = "it does not answer" if isinstance(error, TimeoutError) else str(error)
            self._reachability.failed(why)
            self._complain(why)
            raise Unavailable("The broker cannot be reached") from error
        except Unavailable as error:
            self._complain(str(error))
            raise
        finally:
            if not link.opened.done() or link.opened.exception() is not None:
                link.abandon()
        if link.ended:
            link.finish()
            raise Unavailable("Another connection took the session over")
        return link

    def publish(self, scope: Scope, message: Message, done: Callable[[Reason], None] = log_refusal) -> None:
        """Publishes a message of the gateway. Publisher limits how many wait."""
        names = Names(scope, self._upstream.dialect)
        topic = names.topic(message.topic)
        if topic is None:
            done(Reason.TOPIC_NAME_INVALID)
        elif self._stopped:
            done(Reason.SERVER_SHUTTING_DOWN)
        else:
            self._publisher.publish(scope.account, topic, message, names, done)

    def retained_message(self, scope: Scope, topic: str) -> Aged | None:
        raise Unsupported(_NOT_READABLE)

    def retained_after(self, scope: Scope, topic: str, limit: int) -> list[Aged]:
        raise Unsupported(_NOT_READABLE)

    def has_session(self, scope: Scope, client_id: str) -> None:
        return None

    def subscriptions(self, scope: Scope, client_id: str) -> Sequence[Subscription] | None:
        raise Unsupported(_SUBSCRIPTIONS)

    def queued(self, scope: Scope, client_id: str) -> None:
        return None

    def discard(self, scope: Scope, client_id: str) -> None:
        key = (scope, client_id)
        link = self._links.get(key)
        if link is None or link.ended:
            self._purge_later(key, Names(scope, self._upstream.dialect), link)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="upstream broker")
        self._publisher.start()

    async def stop(self) -> None:
        self._stopped = True
        await self._publisher.stop()
        tasks = [*self._purges.values(), *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await self._slices.finish("", self, self._end_all())
        waits = [asyncio.ensure_future(link.gone.wait()) for link in self._open_links]
        if tasks or waits:
            await asyncio.wait([*tasks, *waits], timeout=_STOP_TIMEOUT)
        for wait in waits:
            wait.cancel()

    # Links.

    def _connect_for(self, opening: Opening, names: Names) -> Connect:
        version = self._upstream.version
        # In MQTT 3.1.1 one flag means both "start clean" and "end with the connection". A session that is resumed now
        # and ends afterwards is not opened clean, but discarded at the end.
        clean = opening.clean_start and (version == 5 or opening.expiry == 0)
        return self._connect(names.client_id(opening.client_id), clean, opening.expiry, opening.receive_maximum)

    def _connect(self, client_id: str, clean: bool, expiry: int = 0, receive_maximum: int = 65_535) -> Connect:
        login = self._upstream.login
        return Connect(
            version=self._upstream.version,
            client_id=client_id,
            clean_start=clean,
            keep_alive=_KEEP_ALIVE,
            username=login.username,
            password=login.password,
            session_expiry=expiry,
            receive_maximum=receive_maximum,
            maximum_packet_size=MAX_PACKET_SIZE,
            request_problem_information=False,
        )

    def _new_link(
        self, key: _Key, connect: Connect, names: Names, subscriber: Subscriber, opening: Opening
    ) -> UpstreamLink:
        discard = self._upstream.version == 4 and not opening.clean_start and opening.expiry == 0

        def on_gone(_: UpstreamConnection) -> None:
            self._open_links.discard(link)
            if self._links.get(key) is link:
                del self._links[key]
            if link.must_discard and link.accepted and not self._stopped:
                self._purge_later(key, names)

        link = UpstreamLink(connect, names, subscriber, on_gone, must_discard=discard)
        return link

    async def _wait_for_former(self, key: _Key, former: UpstreamLink | None) -> None:
        """Waits until the former connection is closed: a broker may handle two connections in any order."""
        if former is not None:
            await former.gone.wait()
        purge = self._purges.get(key)
        if purge is not None:
            await asyncio.shield(purge)

    async def _dial(self, link: UpstreamLink) -> None:
        """Raises OSError, and Unavailable if the broker refuses."""
        if link.ended:
            return
        async with self._dialing:
            self._open_links.add(link)
            await self._upstream.target.connect(lambda: link)
            connack = await asyncio.shield(link.opened)
        if connack.reason.failed:
            link.abandon()
            raise Unavailable(f"The broker refused the connection: {connack.reason.name}")
        self._reachability.succeeded()

    def _purge_later(self, key: _Key, names: Names, former: UpstreamLink | None = None) -> None:
        if key in self._purges:
            return
        if len(self._purges) >= _MAX_PURGES:
            _log.error("session_not_discarded", why="too many sessions are to be discarded", client_id=key[1])
            return

        async def purge() -> None:
            try:
                async with asyncio.timeout(self._open_timeout):
                    if former is not None:
                        await former.gone.wait()
                    await self._purge(key[1], names)
            except (OSError, TimeoutError, Unavailable) as error:
                _log.warning("session_not_discarded", why=str(error) or "no answer in time", client_id=key[1])
            finally:
                del self._purges[key]

        self._purges[key] = asyncio.create_task(purge())

    async def _purge(self, client_id: str, names: Names) -> None:
        """Ends a session by starting a clean one, the only way in MQTT 3.1.1 (3.1.2.4)."""
        link = UpstreamLink(
            self._connect(names.client_id(client_id), True), names, _NoSubscriber(), self._open_links.discard
        )
        try:
            await self._dial(link)
            link.close()
            await link.gone.wait()
        finally:
            if not link.ended:
                link.abandon()

    # The gateway's own connection, and regular tasks.

    async def _open_own(self) -> UpstreamLink:
        names = Names(_OWN, self._upstream.dialect)
        connect = self._connect(names.client_id(secrets.token_hex(8)), True)
        link = UpstreamLink(connect, names, _Own(self._publisher), self._open_links.discard)
        try:
            async with asyncio.timeout(self._open_timeout):
                await self._dial(link)
        except (OSError, TimeoutError) as error:
            self._reachability.failed(str(error) or "it does not answer")
            raise Unavailable(self._reachability.why) from error
        except Unavailable as error:
            self._reachability.failed(str(error))
            raise
        finally:
            if not link.opened.done() or link.opened.exception() is not None:
                link.abandon()
        return link

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._tick)
            await self._slices.finish("", self, self._tick_all(loop.time()))

    def _tick_all(self, now: float) -> Iterator[None]:
        for link in list(self._open_links):
            link.tick(now)
            yield

    def _end_all(self) -> Iterator[None]:
        for link in list(self._links.values()):
            link.end(Reason.SERVER_SHUTTING_DOWN)
            yield

    def _complain(self, why: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._complained >= _COMPLAIN_EVERY:
            self._complained = now
            _log.error("connect_refused_without_broker", why=why)


class _NoSubscriber:
    """For connections that receive no messages."""

    def deliver(self, message: Message, packet_id: int | None, *, again: bool) -> None:
        pass

    def lost(self, reason: Reason) -> None:
        pass


class _Own(_NoSubscriber):
    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def lost(self, reason: Reason) -> None:
        self._publisher.lost()
