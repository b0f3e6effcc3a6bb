"""The Invoker of a world: its APIs as a server has them, without listeners."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from thingmint.access.audit import AuditedStore
from thingmint.access.audit_records import AuditRecords
from thingmint.access.iam import IamTokens
from thingmint.access.local_admin import Administration
from thingmint.access.sigv4 import SigV4
from thingmint.aws.app import AwsApi
from thingmint.aws.contract import load_contract
from thingmint.http.invoking import Invoker
from thingmint.native.app import NativeApi, NativeAuth
from thingmint.services.page_tokens import PageTokens
from thingmint.yandex.app import YandexApi
from thingmint.yandex.contract import load
from thingmint.yandex.operations.declaring import YandexParts
from thingmint.yandex.rest import YandexMessages, YandexRest

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.access.request_log import RequestLog
    from thingmint.access.throttle import FailureThrottle, Throttle
    from thingmint.http.invoking import InvokedApi
    from thingmint.http.memory import RequestMemory

PORT = 8443


@cache
def _aws_contract() -> Any:
    return load_contract()


def invoker(
    world: World, request_log: RequestLog, memory: RequestMemory, throttle: Throttle, failures: FailureThrottle
) -> Invoker:
    async def hostnames() -> list[str]:
        return ["things.test"]

    store = AuditedStore(world.store, world.clock)
    tokens = IamTokens(world.directory, b"k" * 32, world.clock)
    parts = YandexParts(
        contract=load(), tokens=tokens, hostnames=hostnames, pending=world.pending, sha1_fingerprints=False
    )
    yandex = YandexApi(parts, throttle, failures, store, world.environment, world.clock)
    native = NativeApi(
        NativeAuth(world.directory, hostnames, dev=False),
        throttle,
        store,
        world.environment,
        Administration(store, world.vault, world.clock),
        AuditRecords(world.store, PageTokens(b"a" * 32)),
        {},
    )
    sigv4 = SigV4(world.directory, world.clock)
    aws = AwsApi(_aws_contract(), sigv4, throttle, store, world.environment)
    apis: dict[str, InvokedApi] = {
        "aws": aws,
        "yandex": YandexRest(yandex),
        "yandex-grpc": YandexMessages(yandex),
        "native": native,
    }
    return Invoker(apis, request_log, failures, memory, world.clock, PORT)
