"""What devices do now, for the pages of the console that are open."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from thingmint.services.certificates import utc_now
from thingmint.services.live_changes import CONNECTIONS, REFUSALS, LiveChanges, Publishing

if TYPE_CHECKING:
    from thingmint.server.devices import Devices
    from thingmint.server.storage import Storage
    from thingmint.services.refusals import Refusals


def live_changes(storage: Storage, devices: Devices, refusals: Refusals) -> LiveChanges:
    """What devices do now, at this process and at the others on the database."""
    clients, shared, publishing = devices.clients, devices.shared, None
    if shared is not None:
        publishing = Publishing(storage.plain, shared.leases.process, shared.leases, utc_now)
    live = LiveChanges(clients.count, clients.scopes, publishing)
    clients.follow(partial(live.note, CONNECTIONS))
    storage.feed.listen(live.note)
    refusals.follow(partial(live.note, REFUSALS))
    storage.feed.follow(live.changed)
    return live
