"""Makes the MQTT gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.access.authorization import Roles
from thingmint.domain.tls_profiles import TLS_PROFILES
from thingmint.mqtt.device_monitor import DeviceMonitor
from thingmint.mqtt.gateway import Gateway
from thingmint.mqtt.jit_registration import JitRegistration, jit_throttle
from thingmint.mqtt.kept_messages import KeptMessages
from thingmint.mqtt.provisioning import ProvisioningTopics
from thingmint.services.certificates import utc_now
from thingmint.services.compiled_policies import PolicySets
from thingmint.services.device_authentication import DeviceAuthenticator
from thingmint.services.owner_authentication import OwnerAuthenticator
from thingmint.services.password_verification import PasswordVerifier

if TYPE_CHECKING:
    from thingmint.server.core import Core


def gateway_of(core: Core) -> Gateway:
    store, settings, devices, environment = core.storage.plain, core.settings, core.devices, core.environment
    access, feed, connection_log = core.access, core.storage.feed, core.reports.connections
    names, broker = core.certificates.names.host_names, devices.broker
    roles = Roles(access.directory)
    throttle = jit_throttle(settings.limits)
    jit_registration = JitRegistration(access.store, environment, broker, roles, throttle, utc_now, names)
    policy_sets = PolicySets()
    feed.follow(policy_sets.forget)
    passwords = PasswordVerifier(store, environment.passwords, lambda: feed.stale)
    feed.follow(passwords.changed)
    owners = OwnerAuthenticator(store, passwords)
    takeovers = devices.shared.takeovers if devices.shared is not None else None
    if takeovers is not None:
        feed.follow(takeovers.changed)
    return Gateway(
        DeviceAuthenticator(store, names, utc_now, core.default_account, jit_registration, policy_sets, owners),
        broker,
        connection_log,
        devices.connections,
        devices.clients,
        feed,
        certificates=core.certificates.tls.follow("mqtt"),
        limits=core.limits["mqtt"],
        rates=settings.rates_in_force(),
        clock=utc_now,
        takeovers=takeovers,
        outage_grace=settings.mqtt_outage_grace.total_seconds(),
        tls_profile=TLS_PROFILES[settings.tls_profiles().mqtt],
        owners=owners,
        kept_messages=KeptMessages(environment.exports, environment.last_messages),
        monitor=DeviceMonitor(store, broker, utc_now),
        provisioning=ProvisioningTopics(access.store, environment, roles, access.throttle, connection_log),
        presence=core.outgoing.presence.presence,
    )
