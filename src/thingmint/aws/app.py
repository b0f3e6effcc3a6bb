"""The AWS face: authenticate, route, parse, authorize, call the registry, serialise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from thingmint.aws.errors import COMMON_STATUS, AwsError, aws_error_of
from thingmint.aws.operations import SERVED, Call
from thingmint.http.exchange import Exchange, read_request, respond
from thingmint.identity.errors import DomainError, Invalid

if TYPE_CHECKING:
    from thingmint.access.sigv4 import SigV4
    from thingmint.aws.contract import Contract
    from thingmint.http.exchange import Message, Receive, Request, Send
    from thingmint.identity.registration import Scope
    from thingmint.registry.certificates import CertificateRegistry
    from thingmint.registry.names import NameRegistry

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
        self, contract: Contract, sigv4: SigV4, certificates: CertificateRegistry, names: NameRegistry
    ) -> None:
        self._contract = contract
        self._status = {**contract.error_status, **COMMON_STATUS}
        self._sigv4 = sigv4
        self._certificates = certificates
        self._names = names

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
            request = await read_request(scope, receive)
            exchange.caller, iot_scope = await self._sigv4.authenticate(request)
            body = await self._serve(exchange, iot_scope, request)
        except DomainError as error:
            await self._respond_error(exchange, send, aws_error_of(error, iot_scope), headers)
        except _Refused as refused:
            await self._respond_error(exchange, send, refused.error, headers)
        else:
            await respond(exchange, send, 200, headers, body)

    async def _serve(self, exchange: Exchange, scope: Scope, request: Request) -> bytes:
        match = self._contract.match(request.method, request.raw_path)
        if match is None:
            raise _Refused(AwsError("UnknownOperationException", "AWS IoT has no operation at this method and path."))
        operation, labels = match
        exchange.operation = operation.name
        assert exchange.caller is not None, "whoever signed is known"
        exchange.caller.require(f"iot:{operation.name}")
        handler = SERVED.get(operation.name)
        if handler is None:
            raise _Refused(AwsError("NotImplementedException", f"{operation.name} is not served by Thingmint yet."))
        members = operation.parse(labels, request.query, dict(request.headers), request.body)
        return operation.encode(await handler(Call(scope, members, self._certificates, self._names)))

    async def _respond_error(
        self, exchange: Exchange, send: Send, error: AwsError, headers: list[tuple[bytes, bytes]]
    ) -> None:
        exchange.error_code = error.code
        body = orjson.dumps({"message": error.message, **error.members})
        await respond(
            exchange, send, self._status[error.code], [*headers, (b"x-amzn-errortype", error.code.encode())], body
        )
