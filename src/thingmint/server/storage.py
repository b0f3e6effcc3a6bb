"""The store as this process uses it: its changes are followed, and one process at a time does some of the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.instance.audit_key import check_audit_key
from thingmint.instance.create import check_keys, check_master_key
from thingmint.services.ca_owners import settle_ca_owners
from thingmint.services.certificates import utc_now
from thingmint.services.change_feed import ChangeFeed
from thingmint.services.leases import LeasedStore, SoleHolder
from thingmint.services.quotas import begin_counting
from thingmint.services.topic_aliases import check_old_aliases

if TYPE_CHECKING:
    from thingmint.instance.create import Instance
    from thingmint.server.devices import Devices
    from thingmint.services.leases import Holder
    from thingmint.settings import Settings
    from thingmint.store.engine import Store


@dataclass(frozen=True, slots=True)
class Storage:
    """One store, in two ways: a write through ``followed`` returns after this process's parts know the change.

    ``feed`` tells them about it, and about changes by other processes. ``holder`` has the leases.
    """

    plain: Store
    followed: Store
    feed: ChangeFeed
    holder: Holder

    @classmethod
    def of(cls, store: Store, devices: Devices) -> Storage:
        feed = ChangeFeed(store, devices.messages, utc_now)
        holder = devices.shared.leases if devices.shared is not None else SoleHolder()
        return cls(store, feed.followed(), feed, holder)

    def leased(self, lease: str) -> LeasedStore:
        """The followed store, for work that only the holder of the lease does."""
        return LeasedStore(self.followed, self.holder, lease)


async def check_instance(instance: Instance) -> None:
    """Raises ConfigError unless the keys in the data directory belong to the store."""
    await check_keys(instance.store, instance.directory)
    await check_audit_key(instance.store, instance.directory)
    await check_master_key(instance.store, instance.vault)


async def prepare_store(instance: Instance, settings: Settings) -> None:
    """Brings the store up to date with the settings and this version. Raises ConfigError."""
    await begin_counting(instance.store, settings.quotas_in_force())
    await settle_ca_owners(instance.store, instance.own_authorities())
    await check_old_aliases(instance.store)
