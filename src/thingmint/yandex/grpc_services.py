"""The services that gRPC itself defines: health checking, and reflection for tools such as grpcurl.

They need no token. Their calls are not calls of the API, so the request log and the audit log omit them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from thingmint.domain.names import source_of
from thingmint.http.connection_limits import AddressLimits, Limits, TooMany

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from thingmint.yandex.contract import Contract
    from thingmint.yandex.relay import Relay

_HEALTH, _REFLECTION = "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"
_STREAMS = Limits(total=64, per_address=16, half_open=64, half_open_per_address=64, reserve=0)
_STREAM_TIMEOUT = 30.0  # seconds
_MAX_REQUESTS = 1_000  # of one stream


class StandardServices(grpc.GenericRpcHandler):
    """Health.Check answers with ``is_ready``. Health.Watch is not served; clients then assume a healthy server."""

    def __init__(self, contract: Contract, relay: Relay, is_ready: Callable[[], bool]) -> None:
        services = {method.service for method in contract.methods.values()}
        for file in (health_pb2, reflection_pb2):
            contract.pool.AddSerializedFile(file.DESCRIPTOR.serialized_pb)
        self._known = {"", _HEALTH, _REFLECTION, *services}
        self._reflection = reflection.aio.ReflectionServicer([*services, _HEALTH, _REFLECTION], contract.pool)
        self._relay = relay
        self._is_ready = is_ready
        self._streams = AddressLimits(_STREAMS)
        self._handlers: dict[str, Any] = {
            f"/{_HEALTH}/Check": grpc.unary_unary_rpc_method_handler(
                self._check, response_serializer=health_pb2.HealthCheckResponse.SerializeToString
            ),
            f"/{_REFLECTION}/ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
                self._reflect, response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString
            ),
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)

    async def _check(self, received: bytes, context: Any) -> Any:
        request = await _parse(health_pb2.HealthCheckRequest, received, context)
        if request.service not in self._known:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such service here")
        serving = health_pb2.HealthCheckResponse.ServingStatus
        return health_pb2.HealthCheckResponse(status=serving.SERVING if self._is_ready() else serving.NOT_SERVING)

    async def _reflect(self, requests: AsyncIterator[bytes], context: Any) -> None:
        place = self._streams.admit(source_of(self._relay.address_of(context.peer()) or ""))
        if isinstance(place, TooMany):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many streams of reflection; try again")
            return
        try:
            async with asyncio.timeout(_STREAM_TIMEOUT):
                left = _MAX_REQUESTS
                async for answer in self._reflection.ServerReflectionInfo(self._named(requests, context), context):
                    await context.write(answer)
                    left -= 1
                    if not left:
                        return
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "The stream took too long")
        finally:
            place.closed()

    async def _named(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        """The requests, with the service in place of a method: the pool cannot find a file by a method's name."""
        async for received in requests:
            request = await _parse(reflection_pb2.ServerReflectionRequest, received, context)
            service = request.file_containing_symbol.rpartition(".")[0]
            if service and service in self._known:
                request.file_containing_symbol = service
            yield request


async def _parse(message: Any, received: bytes, context: Any) -> Any:
    """The parsed message; aborts the call with INVALID_ARGUMENT if it is malformed.

    If gRPC parsed it, the status would be UNKNOWN with the name of Python's exception.
    """
    try:
        return message.FromString(received)
    except DecodeError:
        reason = f"request is not a well-formed {message.DESCRIPTOR.full_name}"
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
