"""Records of connections, for the events of their beginning and end, and the queue in which such events wait."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

import orjson

from thingmint.services.client_ids import Claim

if TYPE_CHECKING:
    from collections.abc import Container

    from thingmint.domain.arns import Scope
    from thingmint.services.client_ids import Vanished

T = TypeVar("T")
K = TypeVar("K")

_ACCOUNTS_TURN = 20  # events that one account's queue gives before the next one's


@dataclass(slots=True, eq=False)
class ConnectionRecord:
    """A connection of a device, or an attempt that was refused.

    ``id`` is a UUID. ``owner`` is the device, registry or broker of Yandex IoT Core with its ``owner_kind``, else None.
    ``thing`` is the thing of the certificate, under the rules of AWS IoT; ``exclusive`` if the certificate is attached
    to no other. ``claim`` has the version; None as long as none was given.
    """

    scope: Scope
    client_id: str
    id: str
    certificate: str | None
    address: str
    thing: str | None = None
    exclusive: bool = False
    cloud: Literal["aws", "yandex"] = "aws"
    owner: str | None = None
    owner_kind: str | None = None
    registry: str | None = None
    claim: Claim | None = None

    @property
    def has_events(self) -> bool:
        """True if AWS IoT publishes events of such a connection: of no device that is bound to Yandex IoT Core."""
        return self.cloud == "aws" and self.owner is None

    @property
    def exclusive_thing(self) -> str | None:
        return self.thing if self.exclusive else None

    def about(self) -> str:
        """Return what ``of_vanished`` needs, as text for the store."""
        if not self.has_events:
            return ""
        return orjson.dumps([self.id, self.certificate, self.address, self.thing, self.exclusive]).decode()


def of_vanished(vanished: Vanished) -> ConnectionRecord:
    """Return the record of a connection whose process has ended, from the text of ``about``."""
    id, certificate, address, thing, exclusive = orjson.loads(vanished.about)
    scope, client_id, version, about = vanished
    claim = Claim(scope, client_id, 0, version, about)
    return ConnectionRecord(scope, client_id, id, certificate, address, thing, exclusive, claim=claim)


class Client(NamedTuple):
    scope: Scope
    client_id: str


class EventQueue(Generic[T]):
    """Events by account, with limits: for all, for one account, and for one client, which may reconnect without end.

    An event counts until ``settle``. ``dropped`` counts the events for which there was no room.
    """

    def __init__(self, total: int, per_account: int, per_client: int) -> None:
        self._limits = (total, per_account, per_client)
        self._accounts: OrderedDict[str, deque[T]] = OrderedDict()
        self._of_account: Counter[str] = Counter()
        self._of_client: Counter[Client] = Counter()
        self.waiting = 0
        self.dropped = 0

    def put(self, client: Client, event: T, *, minor: bool = False) -> bool:
        """Return False, and count the event as dropped, if there is no room. ``minor`` events get half of it."""
        account, (total, per_account, per_client) = client.scope.account, self._limits
        weight = 2 if minor else 1
        if (
            self.waiting * weight >= total
            or self._of_account[account] * weight >= per_account
            or self._of_client[client] * weight >= per_client
        ):
            self.dropped += 1
            return False
        self.waiting += 1
        self._of_account[account] += 1
        self._of_client[client] += 1
        self._accounts.setdefault(account, deque()).append(event)
        return True

    def take(self, limit: int, skip: Container[str] = ()) -> list[T]:
        """Return the oldest events, the accounts in turns; none of the accounts in ``skip``."""
        taken: list[T] = []
        turns = deque(each for each in self._accounts if each not in skip)
        while turns and len(taken) < limit:
            account = turns.popleft()
            queue = self._accounts[account]
            taken += [queue.popleft() for _ in range(min(len(queue), _ACCOUNTS_TURN, limit - len(taken)))]
            if queue:
                self._accounts.move_to_end(account)
                turns.append(account)
            else:
                del self._accounts[account]
        return taken

    def settle(self, client: Client) -> None:
        """An event of the client was delivered, or given up."""
        self.waiting -= 1
        _count_less(self._of_account, client.scope.account)
        _count_less(self._of_client, client)


def _count_less(counts: Counter[K], key: K) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
