"""What all APIs need to authenticate, limit and record their callers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.access.audit import AuditedStore
from thingmint.access.directory import Directory
from thingmint.access.local_admin import Administration
from thingmint.access.throttle import throttle_for
from thingmint.http.memory import RequestMemory
from thingmint.services.certificates import utc_now

if TYPE_CHECKING:
    from thingmint.access.throttle import FailureThrottle, Throttle
    from thingmint.instance.create import Instance
    from thingmint.server.storage import Storage
    from thingmint.settings import Settings


@dataclass(frozen=True, slots=True)
class Access:
    """The parts that all APIs share. ``store`` writes a change and its audit record together."""

    store: AuditedStore
    administration: Administration
    directory: Directory
    throttle: Throttle
    failures: FailureThrottle
    memory: RequestMemory

    @classmethod
    def of(cls, instance: Instance, settings: Settings, storage: Storage) -> Access:
        feed = storage.feed
        directory = Directory(storage.followed, instance.vault, utc_now, lambda: feed.stale)
        feed.follow(directory.changed)
        audited = AuditedStore(storage.followed, utc_now)
        return cls(
            store=audited,
            administration=Administration(audited, instance.vault, utc_now, settings.quotas_in_force()),
            directory=directory,
            throttle=throttle_for(settings.limits),
            failures=settings.failure_throttle(),
            memory=RequestMemory.of(
                unauthenticated=settings.unauthenticated_request_bytes,
                authenticated=settings.authenticated_request_bytes,
            ),
        )
