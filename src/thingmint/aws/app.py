"""The AWS face: authenticate, route, parse, authorize, call the registry, serialise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from thingmint.access.authorization import authorize, authorizer
from thingmint.access.operations import run
from thingmint.aws.authorization import passed_role, request_context, resource_arns
from thingmint.aws.errors import COMMON_STATUS, AwsError, aws_error_of
from thingmint.aws.operations import OPERATIONS as SERVED_OPERATIONS
from thingmint.aws.operations import SERVED, Call
from thingmint.domain.errors import DomainError, Invalid, Throttled
from thingmint.domain.policy.actions import CONTROL_PLANE_ACTIONS
from thingmint.http.exchange import Exchange, read_request, respond
from thingmint.services.change import Change

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.access.sigv4 import SigV4
    from thingmint.access.throttle import Throttle
    from thingmint.aws.contract import Contract, Operation
    from thingmint.aws.operations import Registries
    from thingmint.domain.registration import Scope
    from thingmint.http.exchange import Message, Receive, Request, Send
    from thingmint.services.change import Environment
    from thingmint.store.engine import Store

    _Route = tuple[Operation, tuple[str, ...]]

__all__ = ["AwsFace"]

_JSON = (b"content-type", b"application/json")


class _Refused(Exception):
    """An answer that no domain error stands for."""

    def __init__(self, error: AwsError) -> None:
        super().__init__(error.code)
        self.error = error


class AwsFace:
    """An ASGI application."""

    def __init__(
        self,
        contract: Contract,
        sigv4: SigV4,
        throttle: Throttle,
        store: Store,
        environment: Environment,
        registries: Registries,
    ) -> None:
        self._contract = contract
        self._status = {**contract.error_status, **COMMON_STATUS}
        self._sigv4 = sigv4
        self._throttle = throttle
        self._store = store
        self._environment = environment
        self._registries = registries

    def is_route(self, method: str, raw_path: bytes) -> bool:
        """Whether AWS has an operation there, be it with a label that is refused."""
        try:
            return self._contract.match(method, raw_path) is not None
        except Invalid:
            return True

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.face = "aws"
        iot_scope: Scope | None = None
        headers = [_JSON, (b"x-amzn-requestid", exchange.id.encode())]
        try:
            # The record of a stranger's request names what was asked for; the answer depends on it only once the
            # caller is known.
            route = self._route(exchange, scope)
            request = await read_request(scope, receive)
            exchange.caller, iot_scope = await self._sigv4.authenticate(request)
            body = await self._serve(exchange, iot_scope, request, route)
        except DomainError as error:
            if isinstance(error, Throttled):
                headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
            await self._respond_error(exchange, send, aws_error_of(error, iot_scope), headers)
        except _Refused as refused:
            await self._respond_error(exchange, send, refused.error, headers)
        else:
            await respond(exchange, send, 200, headers, body)

    def _route(self, exchange: Exchange, scope: Message) -> _Route | Invalid | None:
        """What the path leads to, and why it is refused if a label in it is."""
        try:
            route = self._contract.match(scope["method"], scope["raw_path"])
        except Invalid as error:
            return error
        if route is not None:
            exchange.operation = route[0].name
        return route

    async def _serve(self, exchange: Exchange, scope: Scope, request: Request, route: _Route | Invalid | None) -> bytes:
        if isinstance(route, Invalid):
            raise route
        if route is None:
            raise _Refused(AwsError("UnknownOperationException", "AWS IoT has no operation at this method and path."))
        operation, labels = route
        self._throttle.take(scope.account, operation.name)
        served, handler = SERVED_OPERATIONS.get(operation.name), SERVED.get(operation.name)
        if served is None and handler is None:
            self._refuse_unserved(exchange, scope, request, operation, labels)
        members = operation.parse(labels, request.query, dict(request.headers), request.body)
        self._authorize(exchange, scope, operation.name, members)
        if served is not None:
            change = Change(scope, exchange.at, self._environment, authorizer(exchange, scope))
            return operation.encode(await run(served, self._store, change, members))
        assert handler is not None
        return operation.encode(await handler(Call(exchange, scope, members, self._registries)))

    def _refuse_unserved(
        self, exchange: Exchange, scope: Scope, request: Request, operation: Operation, labels: tuple[str, ...]
    ) -> NoReturn:
        """Says so to whoever may do it, and hand over the role that it names."""
        try:
            members = operation.parse(labels, request.query, dict(request.headers), request.body)
            if operation.name in CONTROL_PLANE_ACTIONS:
                self._authorize(exchange, scope, operation.name, members)
            else:
                authorize(exchange, f"iot:{operation.name}")
        except Invalid:
            authorize(exchange, f"iot:{operation.name}")
        raise _Refused(AwsError("NotImplementedException", f"{operation.name} is not served by Thingmint yet."))

    def _authorize(self, exchange: Exchange, scope: Scope, operation: str, members: Mapping[str, Any]) -> None:
        """The operation itself on every resource that it names, and handing over a role where it does."""
        context = {"aws:RequestedRegion": scope.region, **request_context(operation, members, scope)}
        for resource in resource_arns(operation, members, scope):
            authorize(exchange, f"iot:{operation}", (resource,), context)
        if (role := passed_role(operation, members)) is not None:
            authorize(exchange, "iam:PassRole", (role,), context)

    async def _respond_error(
        self, exchange: Exchange, send: Send, error: AwsError, headers: list[tuple[bytes, bytes]]
    ) -> None:
        exchange.error_code = error.code
        body = orjson.dumps({"message": error.message, **error.members})
        await respond(
            exchange, send, self._status[error.code], [*headers, (b"x-amzn-errortype", error.code.encode())], body
        )
