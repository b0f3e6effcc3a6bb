"""Makes the parts of the server that operations use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.access.authorization import Roles
from thingmint.access.directory import Directory
from thingmint.domain.certificate_profiles import CLAIM, DEVICE
from thingmint.domain.ids import TimeOrderedIds
from thingmint.services.bulk_buckets import Buckets
from thingmint.services.certificates import utc_now
from thingmint.services.change import Environment
from thingmint.services.last_messages import LastMessages
from thingmint.services.page_tokens import PageTokens
from thingmint.services.password_hashing import PasswordHasher
from thingmint.services.report_links import ReportLinks
from thingmint.settings.bulk import bulk_in_force

if TYPE_CHECKING:
    from thingmint.domain.arns import Scope
    from thingmint.instance.create import Instance
    from thingmint.services.event_configurations import EventSwitches
    from thingmint.services.exported_messages import Exports
    from thingmint.services.functions import FunctionTable
    from thingmint.services.health import HealthReport
    from thingmint.services.keypool import KeyPool
    from thingmint.services.messages import Messages
    from thingmint.settings import Settings


def environment_of(
    instance: Instance,
    settings: Settings,
    *,
    endpoints: dict[Scope, str],
    keys: KeyPool,
    functions: FunctionTable,
    messages: Messages,
    exports: Exports,
    events: EventSwitches,
    health: HealthReport,
) -> Environment:
    """The parts that operations use. A command that runs without a server makes them, too."""
    return Environment(
        device_ca=instance.device_authority(DEVICE),
        claim_ca=instance.device_authority(CLAIM),
        own_authorities=instance.own_authorities(),
        keys=keys,
        page_tokens=PageTokens(instance.vault.derive("markers")),
        endpoints=endpoints,
        functions=functions,
        messages=messages,
        exports=exports,
        last_messages=LastMessages(instance.store),
        events=events,
        passwords=PasswordHasher(),
        certificate_ids=TimeOrderedIds(lanes=instance.store.spreads_keys),
        quotas=settings.quotas_in_force(),
        buckets=Buckets(bulk_in_force(settings.bulk).buckets_in_force()),
        report_links=ReportLinks(instance.vault.derive("report links"), bulk_in_force(settings.bulk).report_url),
        try_role=Roles(Directory(instance.store, instance.vault, utc_now)).try_role,
        reinstate_revoked=settings.reinstate_revoked,
        health=health,
    )
