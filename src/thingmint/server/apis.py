"""Makes the APIs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from thingmint.access.audit_records import AuditRecords
from thingmint.access.iam import IamTokens
from thingmint.access.sigv4 import SigV4
from thingmint.aws.app import AwsApi
from thingmint.aws.contract import load_contract as load_aws_contract
from thingmint.aws.contract import load_data_contract, load_jobs_contract
from thingmint.aws.data_plane import DataPlaneApi, JobsApi
from thingmint.aws.query_protocol import load_contract as load_sts_contract
from thingmint.aws.registration_reports import ReportsApi
from thingmint.aws.sts import StsApi
from thingmint.http.documents import DocumentsApi
from thingmint.http.front import Front, SingleApi
from thingmint.http.invoking import Invoker
from thingmint.http.listener import HttpListener
from thingmint.http.probes import probes
from thingmint.native.app import NativeApi, NativeAuth
from thingmint.server.contracts import CONTRACTS
from thingmint.server.sockets import LOOPBACK, bind
from thingmint.services.certificates import utc_now
from thingmint.services.hostnames import list_hostnames
from thingmint.services.page_tokens import PageTokens
from thingmint.services.report_links import PREFIX
from thingmint.settings import ConfigError
from thingmint.yandex.app import YandexApi
from thingmint.yandex.contract import load as load_yandex_contract
from thingmint.yandex.grpc import GrpcParts
from thingmint.yandex.grpc_listener import GrpcListener
from thingmint.yandex.metadata import MetadataApi
from thingmint.yandex.operations.declaring import YandexParts
from thingmint.yandex.rest import YandexMessages, YandexRest

if TYPE_CHECKING:
    import socket

    from thingmint.console.app import ConsoleApi
    from thingmint.http.invoking import InvokedApi
    from thingmint.server.core import Core


@dataclass(frozen=True, slots=True)
class HttpApis:
    """The APIs over HTTP. ``aws`` are those of AWS's services; requests for an unknown service go to the first."""

    aws: tuple[AwsApi, DataPlaneApi, JobsApi, StsApi]
    native: NativeApi
    yandex: YandexRest


def http_apis(core: Core, yandex: YandexApi) -> HttpApis:
    instance, access, environment = core.instance, core.access, core.environment
    sigv4 = SigV4(access.directory, utc_now)
    return HttpApis(
        aws=(
            AwsApi(load_aws_contract(), sigv4, access.throttle, access.store, environment),
            DataPlaneApi(load_data_contract(), sigv4, access.throttle, access.store, environment),
            JobsApi(load_jobs_contract(), sigv4, access.throttle, access.store, environment),
            StsApi(load_sts_contract(), sigv4, access.throttle, access.store, instance.vault),
        ),
        native=NativeApi(
            NativeAuth(access.directory, partial(access.store.read, list_hostnames), dev=core.settings.dev),
            access.throttle,
            access.store,
            environment,
            access.administration,
            AuditRecords(access.store, PageTokens(instance.vault.derive("audit markers"))),
            {f"/openapi/{api}.json".encode(): CONTRACTS[api] for api in ("aws", "yandex")},
        ),
        yandex=YandexRest(yandex),
    )


def invoker_of(core: Core, apis: HttpApis, port: int) -> Invoker:
    """Runs the requests of the console's playground. ``port`` is the one of the HTTPS listener."""
    served: dict[str, InvokedApi] = {
        "aws": apis.aws[0],
        "yandex": apis.yandex,
        "yandex-grpc": YandexMessages(apis.yandex.api),
        "native": apis.native,
    }
    return Invoker(served, core.reports.requests, core.access.failures, core.access.memory, utc_now, port)


def front(core: Core, apis: HttpApis, console: ConsoleApi | None) -> Front:
    access, broker = core.access, core.devices.broker
    is_external = core.settings.broker is not None
    return Front(
        aws=apis.aws,
        native=apis.native,
        yandex=apis.yandex,
        probes=probes(core.instance.store, core.reports.metrics, (lambda: broker.trouble) if is_external else None),
        is_yandex_route=apis.yandex.is_route,
        console=console,
        documents=DocumentsApi(),
        request_log=core.reports.requests,
        failures=access.failures,
        memory=access.memory,
        clock=utc_now,
        linked={PREFIX.encode(): ReportsApi(access.store, core.environment.report_links, access.throttle)},
    )


def yandex_api(core: Core) -> YandexApi:
    access, settings = core.access, core.settings
    parts = YandexParts(
        contract=load_yandex_contract(),
        tokens=_iam_tokens(core),
        hostnames=partial(access.store.read, list_hostnames),
        pending=settings.yandex_operations_pending,
        sha1_fingerprints=settings.yandex_fingerprint == "sha1",
    )
    environment = replace(core.environment, page_tokens=PageTokens(core.instance.vault.derive("page tokens")))
    return YandexApi(parts, access.throttle, access.failures, access.store, environment, utc_now)


def _iam_tokens(core: Core) -> IamTokens:
    return IamTokens(core.access.directory, core.instance.vault.derive("iam tokens"), utc_now)


async def metadata_listeners(core: Core) -> dict[str, HttpListener]:
    """The listener of the metadata service, if the settings have one. Raises ConfigError."""
    access, settings, reports = core.access, core.settings, core.reports
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
    api = MetadataApi(_iam_tokens(core), access.throttle, account)
    app = SingleApi(api, reports.requests, access.failures, access.memory, utc_now)
    sock = bind("yandex-metadata-port", LOOPBACK, port)
    refusals = reports.connections.refusals
    return {"yandex-metadata": HttpListener(app, sock, core.limits["http"], refusals, access.memory)}


def grpc_listener(core: Core, api: YandexApi, sock: socket.socket) -> GrpcListener:
    instance, access, reports = core.instance, core.access, core.reports
    parts = GrpcParts(api, reports.requests, access.failures, access.memory, lambda: instance.store.ready)
    refusals, contexts = reports.connections.refusals, core.certificates.tls.follow("grpc")
    return GrpcListener(parts, sock, instance.directory.grpc_socket, core.limits["grpc"], refusals, contexts)
