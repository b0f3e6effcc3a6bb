"""Builds the APIs and the MQTT gateway from their parts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from thingmint.access.audit import AuditedStore
from thingmint.access.audit_records import AuditRecords
from thingmint.access.authorization import Roles
from thingmint.access.directory import Directory
from thingmint.access.iam import IamTokens
from thingmint.access.local_admin import Administration
from thingmint.access.sigv4 import SigV4
from thingmint.access.throttle import throttle_for
from thingmint.aws.app import AwsApi
from thingmint.aws.contract import load_contract as load_aws_contract
from thingmint.aws.contract import load_data_contract, load_jobs_contract
from thingmint.aws.data_plane import DataPlaneApi, JobsApi
from thingmint.aws.query_protocol import load_contract as load_sts_contract
from thingmint.aws.registration_reports import ReportsApi
from thingmint.aws.sts import StsApi
from thingmint.domain.certificate_profiles import CLAIM, DEVICE
from thingmint.domain.ids import TimeOrderedIds
from thingmint.domain.tls_profiles import TLS_PROFILES
from thingmint.http.documents import DocumentsApi
from thingmint.http.front import Front, SingleApi
from thingmint.http.invoking import Invoker
from thingmint.http.listener import HttpListener
from thingmint.http.memory import RequestMemory
from thingmint.http.probes import probes
from thingmint.mqtt.device_monitor import DeviceMonitor
from thingmint.mqtt.gateway import Gateway
from thingmint.mqtt.jit_registration import JitRegistration, jit_throttle
from thingmint.mqtt.kept_messages import KeptMessages
from thingmint.mqtt.provisioning import ProvisioningTopics
from thingmint.native.app import NativeApi, NativeAuth
from thingmint.server.contracts import CONTRACTS
from thingmint.server.sockets import LOOPBACK, bind
from thingmint.services.bulk_buckets import Buckets
from thingmint.services.certificates import utc_now
from thingmint.services.change import Environment
from thingmint.services.compiled_policies import PolicySets
from thingmint.services.device_authentication import DeviceAuthenticator
from thingmint.services.hostnames import list_hostnames
from thingmint.services.last_messages import LastMessages
from thingmint.services.owner_authentication import OwnerAuthenticator
from thingmint.services.page_tokens import PageTokens
from thingmint.services.password_hashing import PasswordHasher
from thingmint.services.password_verification import PasswordVerifier
from thingmint.services.report_links import PREFIX, ReportLinks
from thingmint.settings import ConfigError
from thingmint.settings.bulk import bulk_in_force
from thingmint.yandex.app import YandexApi
from thingmint.yandex.contract import load as load_yandex_contract
from thingmint.yandex.grpc import GrpcParts
from thingmint.yandex.grpc_listener import GrpcListener
from thingmint.yandex.metadata import MetadataApi
from thingmint.yandex.operations.declaring import YandexParts
from thingmint.yandex.rest import YandexMessages, YandexRest

if TYPE_CHECKING:
    import socket

    from thingmint.access.request_log import RefusalLog, RequestLog
    from thingmint.access.throttle import FailureThrottle, Throttle
    from thingmint.console.app import ConsoleApi
    from thingmint.domain.arns import Scope
    from thingmint.http.connection_limits import AddressLimits
    from thingmint.http.invoking import InvokedApi
    from thingmint.instance.create import Instance
    from thingmint.mqtt.broker.interface import Broker
    from thingmint.mqtt.connected_clients import ConnectedClients
    from thingmint.mqtt.connection_index import ConnectionIndex
    from thingmint.mqtt.connection_log import ConnectionLog
    from thingmint.mqtt.presence import Presence
    from thingmint.mqtt.takeovers import Takeovers
    from thingmint.server.reports import Reports
    from thingmint.services.change_feed import ChangeFeed
    from thingmint.services.event_configurations import EventSwitches
    from thingmint.services.exported_messages import Exports
    from thingmint.services.functions import FunctionTable
    from thingmint.services.health import HealthReport
    from thingmint.services.hostnames import HostNames
    from thingmint.services.keypool import KeyPool
    from thingmint.services.messages import Messages
    from thingmint.settings import Settings
    from thingmint.store.engine import Store
    from thingmint.tls import ListenerTLS


@dataclass(frozen=True, slots=True)
class Access:
    """The parts that all APIs share. ``store`` writes a change and its audit record together."""

    store: AuditedStore
    administration: Administration
    directory: Directory
    throttle: Throttle
    failures: FailureThrottle
    memory: RequestMemory


def access_of(instance: Instance, settings: Settings, store: Store, feed: ChangeFeed) -> Access:
    directory = Directory(store, instance.vault, utc_now, lambda: feed.stale)
    feed.follow(directory.changed)
    audited = AuditedStore(store, utc_now)
    return Access(
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


@dataclass(frozen=True, slots=True)
class HttpApis:
    """The APIs over HTTP. ``aws`` are those of AWS's services; requests for an unknown service go to the first."""

    aws: tuple[AwsApi, DataPlaneApi, JobsApi, StsApi]
    native: NativeApi
    yandex: YandexRest


def http_apis(
    instance: Instance, access: Access, settings: Settings, environment: Environment, yandex: YandexApi
) -> HttpApis:
    sigv4 = SigV4(access.directory, utc_now)
    return HttpApis(
        aws=(
            AwsApi(load_aws_contract(), sigv4, access.throttle, access.store, environment),
            DataPlaneApi(load_data_contract(), sigv4, access.throttle, access.store, environment),
            JobsApi(load_jobs_contract(), sigv4, access.throttle, access.store, environment),
            StsApi(load_sts_contract(), sigv4, access.throttle, access.store, instance.vault),
        ),
        native=NativeApi(
            NativeAuth(access.directory, partial(access.store.read, list_hostnames), dev=settings.dev),
            access.throttle,
            access.store,
            environment,
            access.administration,
            AuditRecords(access.store, PageTokens(instance.vault.derive("audit markers"))),
            {f"/openapi/{api}.json".encode(): CONTRACTS[api] for api in ("aws", "yandex")},
        ),
        yandex=YandexRest(yandex),
    )


def invoker_of(apis: HttpApis, access: Access, reports: Reports, port: int) -> Invoker:
    """Runs the requests of the console's playground. ``port`` is the one of the HTTPS listener."""
    served: dict[str, InvokedApi] = {
        "aws": apis.aws[0],
        "yandex": apis.yandex,
        "yandex-grpc": YandexMessages(apis.yandex.api),
        "native": apis.native,
    }
    return Invoker(served, reports.requests, access.failures, access.memory, utc_now, port)


def front(
    apis: HttpApis,
    instance: Instance,
    access: Access,
    settings: Settings,
    environment: Environment,
    reports: Reports,
    broker: Broker,
    console: ConsoleApi | None,
) -> Front:
    return Front(
        aws=apis.aws,
        native=apis.native,
        yandex=apis.yandex,
        probes=probes(instance.store, reports.metrics, None if settings.broker is None else lambda: broker.trouble),
        is_yandex_route=apis.yandex.is_route,
        console=console,
        documents=DocumentsApi(),
        request_log=reports.requests,
        failures=access.failures,
        memory=access.memory,
        clock=utc_now,
        linked={PREFIX.encode(): ReportsApi(access.store, environment.report_links, access.throttle)},
    )


def environment_of(
    instance: Instance,
    settings: Settings,
    endpoints: dict[Scope, str],
    keys: KeyPool,
    functions: FunctionTable,
    messages: Messages,
    exports: Exports,
    events: EventSwitches,
    health: HealthReport,
) -> Environment:
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


def yandex_api(instance: Instance, access: Access, settings: Settings, environment: Environment) -> YandexApi:
    parts = YandexParts(
        contract=load_yandex_contract(),
        tokens=_iam_tokens(instance, access),
        hostnames=partial(access.store.read, list_hostnames),
        pending=settings.yandex_operations_pending,
        sha1_fingerprints=settings.yandex_fingerprint == "sha1",
    )
    environment = replace(environment, page_tokens=PageTokens(instance.vault.derive("page tokens")))
    return YandexApi(parts, access.throttle, access.failures, access.store, environment, utc_now)


def _iam_tokens(instance: Instance, access: Access) -> IamTokens:
    return IamTokens(access.directory, instance.vault.derive("iam tokens"), utc_now)


async def metadata_listeners(
    instance: Instance,
    access: Access,
    settings: Settings,
    request_log: RequestLog,
    limits: AddressLimits,
    refusals: RefusalLog,
) -> dict[str, HttpListener]:
    """The listener of the metadata service, if the settings have one. Raises ConfigError."""
    port, account = settings.yandex_metadata_port, settings.yandex_metadata_service_account
    setting = "yandex-metadata-service-account"
    if port is None:
        return {}
    if account is None:
        raise ConfigError(setting, "must be set: yandex_metadata_port gives its tokens")
    if await access.directory.service_account(account) is None:
        raise ConfigError(
            "yandex-metadata-service-account", f"there is no service account {account}, or it is disabled"
        )
    api = MetadataApi(_iam_tokens(instance, access), access.throttle, account)
    app = SingleApi(api, request_log, access.failures, access.memory, utc_now)
    sock = bind("yandex-metadata-port", LOOPBACK, port)
    return {"yandex-metadata": HttpListener(app, sock, limits, refusals, access.memory)}


def gateway_of(
    instance: Instance,
    access: Access,
    settings: Settings,
    environment: Environment,
    broker: Broker,
    default_account: str | None,
    connection_log: ConnectionLog,
    tls: ListenerTLS,
    connections: ConnectionIndex,
    clients: ConnectedClients,
    takeovers: Takeovers | None,
    feed: ChangeFeed,
    limits: AddressLimits,
    host_names: HostNames,
    presence: Presence,
) -> Gateway:
    roles = Roles(access.directory)
    jit_registration = JitRegistration(
        access.store, environment, broker, roles, jit_throttle(settings.limits), utc_now, host_names
    )
    policy_sets = PolicySets()
    feed.follow(policy_sets.forget)
    passwords = PasswordVerifier(instance.store, environment.passwords, lambda: feed.stale)
    feed.follow(passwords.changed)
    owners = OwnerAuthenticator(instance.store, passwords)
    if takeovers is not None:
        feed.follow(takeovers.changed)
    return Gateway(
        DeviceAuthenticator(
            instance.store, host_names, utc_now, default_account, jit_registration, policy_sets, owners
        ),
        broker,
        connection_log,
        connections,
        clients,
        feed,
        certificates=tls.follow("mqtt"),
        limits=limits,
        rates=settings.rates_in_force(),
        clock=utc_now,
        takeovers=takeovers,
        outage_grace=settings.mqtt_outage_grace.total_seconds(),
        tls_profile=TLS_PROFILES[settings.tls_profiles().mqtt],
        owners=owners,
        kept_messages=KeptMessages(environment.exports, environment.last_messages),
        monitor=DeviceMonitor(instance.store, broker, utc_now),
        provisioning=ProvisioningTopics(access.store, environment, roles, access.throttle, connection_log),
        presence=presence,
    )


def grpc_listener(
    api: YandexApi,
    instance: Instance,
    access: Access,
    request_log: RequestLog,
    sock: socket.socket,
    limits: AddressLimits,
    refusals: RefusalLog,
    tls: ListenerTLS,
) -> GrpcListener:
    parts = GrpcParts(api, request_log, access.failures, access.memory, lambda: instance.store.ready)
    return GrpcListener(parts, sock, instance.directory.grpc_socket, limits, refusals, tls.follow("grpc"))
