"""The event types that an account publishes in a region, and a cache of them.

Everything that publishes an event asks EventSwitches first: ``await switches.enabled(scope)`` outside of a transaction,
``await switches.within(tx, scope)`` in the transaction that makes a change, and ``switches.known(scope)`` where nothing
can be awaited. ``"CERTIFICATE" in enabled`` is the switch of presence and subscription events, as AWS documents.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, Protocol, get_args

from thingmint.domain.arns import Scope
from thingmint.store.outbox import publish_change
from thingmint.store.table import Table, record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thingmint.store.engine import PublishedChange, Reader, Transaction

EventType = Literal[
    "THING",
    "THING_GROUP",
    "THING_TYPE",
    "THING_GROUP_MEMBERSHIP",
    "THING_GROUP_HIERARCHY",
    "THING_TYPE_ASSOCIATION",
    "JOB",
    "JOB_EXECUTION",
    "POLICY",
    "CERTIFICATE",
    "CA_CERTIFICATE",
]
EVENT_TYPES: Final[tuple[EventType, ...]] = get_args(EventType)

DEFAULTS: Final[frozenset[EventType]] = frozenset({"CERTIFICATE", "CA_CERTIFICATE"})
"""The types that are enabled until an account changes them: their events were always published."""

_MAX_CACHED = 10_000  # accounts and regions
# A transaction can read the state of before a change of which this process was notified already. No transaction is
# that old, so what it reads after this time is current.
_SETTLED_AFTER = 60.0  # seconds


@record
class EventConfiguration:
    scope: Scope
    enabled: Sequence[EventType]
    created_at: datetime
    modified_at: datetime


EVENT_CONFIGURATIONS = Table(
    EventConfiguration, "event_configurations", "event configuration", key=("account", "region")
)


async def find_event_configuration(tx: Transaction, scope: Scope) -> EventConfiguration | None:
    """Return the configuration, or None if the account has never changed the defaults in this region."""
    return await EVENT_CONFIGURATIONS.find(tx, *scope)


async def update_event_configuration(
    tx: Transaction, scope: Scope, switched: Mapping[EventType, bool], now: datetime
) -> None:
    """Enable or disable event types. The other types stay as they are."""
    found = await EVENT_CONFIGURATIONS.find(tx, *scope)
    enabled = DEFAULTS if found is None else frozenset(found.enabled)
    ordered = [each for each in EVENT_TYPES if switched.get(each, each in enabled)]
    if found is None:
        await EVENT_CONFIGURATIONS.insert(tx, EventConfiguration(scope, ordered, now, now))
    else:
        await EVENT_CONFIGURATIONS.update(tx, replace(found, enabled=ordered, modified_at=now))
    await publish_change(tx, scope, "event configuration", "", now)
    tx.audit_details["enabled"] = ordered


class Feed(Protocol):
    """The change feed, which notifies EventSwitches of changes in every process."""

    @property
    def stale(self) -> bool: ...

    interruptions: int


class Unfollowed:
    """A Feed for a process that follows no changes: it reads the store each time."""

    stale = True
    interruptions = 0


class EventSwitches:
    """The enabled event types by account and region, in memory.

    It follows the change feed. If changes may have been missed, it reads the store. So a change applies in the process
    that made it before the call is answered, and in the others when they have read it from the outbox.
    """

    def __init__(self, store: Reader, feed: Feed, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._feed = feed
        self._monotonic = monotonic
        self._enabled: OrderedDict[Scope, frozenset[EventType]] = OrderedDict()
        self._changed_at: dict[Scope, float] = {}
        self._all_changed_at = float("-inf")
        self._interruptions = feed.interruptions

    def changed(self, changes: Sequence[PublishedChange]) -> None:
        """For the change feed."""
        now = self._monotonic()
        for change in changes:
            if change.kind != "event configuration":
                continue
            if len(self._changed_at) >= _MAX_CACHED:
                self._forget_all()
            scope = Scope(change.account, change.region)
            self._enabled.pop(scope, None)
            self._changed_at[scope] = now

    def known(self, scope: Scope) -> frozenset[EventType] | None:
        """Return the enabled types, or None if they have to be read from the store."""
        if self._feed.stale:
            return None
        if self._interruptions != self._feed.interruptions:
            self._interruptions = self._feed.interruptions
            self._forget_all()
        return self._enabled.get(scope)

    async def enabled(self, scope: Scope) -> frozenset[EventType]:
        """Return the enabled types. Raises Unavailable."""
        known = self.known(scope)
        return known if known is not None else await self._store.read(lambda tx: self.within(tx, scope))

    async def within(self, tx: Transaction, scope: Scope) -> frozenset[EventType]:
        """Return the enabled types. If they are not known, the transaction reads them."""
        known = self.known(scope)
        if known is not None:
            return known
        found = await find_event_configuration(tx, scope)
        enabled = DEFAULTS if found is None else frozenset(found.enabled)
        changed_at = max(self._changed_at.get(scope, float("-inf")), self._all_changed_at)
        if not self._feed.stale and self._monotonic() >= changed_at + _SETTLED_AFTER:
            self._changed_at.pop(scope, None)
            self._enabled[scope] = enabled
            if len(self._enabled) > _MAX_CACHED:
                self._enabled.popitem(last=False)
        return enabled

    def _forget_all(self) -> None:
        self._enabled.clear()
        self._changed_at.clear()
        self._all_changed_at = self._monotonic()
