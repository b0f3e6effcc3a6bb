"""The Yandex face, whichever wire a call came over: authenticate, validate, authorize, do, answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.access.bearer import bearer_token
from thingmint.domain.errors import DomainError, Unauthenticated
from thingmint.yandex import devices, platform, registries
from thingmint.yandex.call import Call, Parts
from thingmint.yandex.errors import Unimplemented, code_of, violations_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from datetime import datetime, timedelta

    from google.protobuf.message import Message

    from thingmint.access.context import Outcome, RequestContext
    from thingmint.access.iam import IamTokens
    from thingmint.access.throttle import Throttle
    from thingmint.services.bindings import BindingRegistry
    from thingmint.services.fleet import FleetRegistry
    from thingmint.services.hostnames import ListHostnames
    from thingmint.services.operations import OperationRegistry
    from thingmint.yandex.contract import Contract, Method

__all__ = ["YandexApi"]

_IOT = "/yandex.cloud.iot.devices.v1."
_CLOUD = "/yandex.cloud."

SERVED: Mapping[str, Callable[[Call], Awaitable[Message]]] = {
    f"{_IOT}RegistryService/Get": registries.get,
    f"{_IOT}RegistryService/List": registries.list_,
    f"{_IOT}RegistryService/Create": registries.create,
    f"{_IOT}RegistryService/Delete": registries.delete,
    f"{_IOT}DeviceService/Get": devices.get,
    f"{_IOT}DeviceService/GetByName": devices.get_by_name,
    f"{_IOT}DeviceService/List": devices.list_,
    f"{_IOT}DeviceService/Create": devices.create,
    f"{_IOT}DeviceService/Delete": devices.delete,
    f"{_IOT}DeviceService/ListCertificates": devices.list_certificates,
    f"{_IOT}DeviceService/AddCertificate": devices.add_certificate,
    f"{_IOT}DeviceService/DeleteCertificate": devices.delete_certificate,
    f"{_CLOUD}operation.OperationService/Get": platform.get_operation,
    f"{_CLOUD}operation.OperationService/Cancel": platform.get_operation,
    f"{_CLOUD}endpoint.ApiEndpointService/Get": platform.get_endpoint,
    f"{_CLOUD}endpoint.ApiEndpointService/List": platform.list_endpoints,
    f"{_CLOUD}iam.v1.IamTokenService/Create": platform.create_iam_token,
    f"{_CLOUD}iam.v1.IamTokenService/Revoke": platform.revoke_iam_token,
}

# How a client finds its way and gets its first token, so before it can have one.
_OPEN_SERVICES = frozenset({"yandex.cloud.endpoint.ApiEndpointService", "yandex.cloud.iam.v1.IamTokenService"})


class YandexApi:
    """One implementation for both wires: gRPC and REST differ in how a request is read and an answer written."""

    def __init__(
        self,
        contract: Contract,
        *,
        tokens: IamTokens,
        throttle: Throttle,
        fleet: FleetRegistry,
        bindings: BindingRegistry,
        operations: OperationRegistry,
        hostnames: ListHostnames,
        clock: Callable[[], datetime],
        pending: timedelta,
        sha1_fingerprints: bool,
    ) -> None:
        self.contract = contract
        self.clock = clock
        self._tokens = tokens
        self._throttle = throttle
        self._parts = Parts(
            contract=contract,
            fleet=fleet,
            bindings=bindings,
            operations=operations,
            hostnames=hostnames,
            tokens=tokens,
            pending=pending,
            sha1_fingerprints=sha1_fingerprints,
            status_of=self.status_of,
        )

    def named(self, context: RequestContext, method: Method | None) -> RequestContext:
        """The context with the API's and the method's names."""
        name = f"{method.service.rpartition('.')[2]}.{method.name}" if method is not None else "-"
        return context.of(name, api="yandex")

    async def authenticate(
        self, context: RequestContext, method: Method, headers: Iterable[tuple[bytes, bytes]]
    ) -> RequestContext:
        """The context with the caller, where the method needs one. Raises Unauthenticated."""
        if method.service in _OPEN_SERVICES:
            return context
        token = bearer_token(headers)
        if token is None:
            raise Unauthenticated("missing", "An IAM token is needed, as: Authorization: Bearer <token>")
        caller = await self._tokens.authenticate(token)
        return context.by(caller, caller.scope())

    async def serve(
        self,
        context: RequestContext,
        outcome: Outcome,
        method: Method,
        request: Message,
        *,
        port: int,
        idempotency_key: str | None,
    ) -> Message:
        """The answer to a request whose caller was established. Raises DomainErrors."""
        handler = SERVED.get(method.path)
        if context.caller is not None:
            self._throttle.take(context.caller.account, context.operation)
        if handler is None:
            raise Unimplemented(context.operation)
        method.validate(request)
        call = Call(
            parts=self._parts,
            method=method,
            request=request,
            context=context,
            outcome=outcome,
            port=port,
            request_id=context.id,
            idempotency_key=idempotency_key,
            now=context.now,
        )
        return await handler(call)

    def status_of(self, error: DomainError, request_id: str) -> Message:
        """A google.rpc.Status."""
        return self.contract.statuses.build(
            code_of(error), str(error), violations=violations_of(error), request_id=request_id
        )
