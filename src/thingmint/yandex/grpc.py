"""The Yandex API over gRPC: one call, from its metadata to its status."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from thingmint.access.context import Outcome, RequestContext
from thingmint.domain.errors import DomainError, Invalid, Throttled
from thingmint.domain.names import source_of
from thingmint.http.connection_limits import AddressLimits, Limits, TooMany
from thingmint.http.memory import Lease
from thingmint.yandex.contract.answers import HTTP_STATUS, Code
from thingmint.yandex.errors import status_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from google.protobuf.message import Message

    from thingmint.access.request_log import RequestLog
    from thingmint.access.throttle import FailureThrottle
    from thingmint.http.memory import RequestMemory
    from thingmint.yandex.app import YandexApi
    from thingmint.yandex.contract import Method
    from thingmint.yandex.relay import Relay

    _Metadata = Sequence[tuple[str, str | bytes]]

MESSAGE_TIMEOUT = 30.0  # seconds
ANSWER_TIMEOUT = 120.0  # seconds for a client to read its answer; then the connection is closed
_COPIES = 2  # of an answer that the client has not read yet: in gRPC and here
_MAX_AGENT = 256  # characters of a user agent's name that are kept
# Calls in progress, by account. Each may still be waiting for its message.
_CALLS = Limits(total=2048, per_address=1536, half_open=2048, half_open_per_address=2048, reserve=256)
# Calls in progress of methods that need no token, by address.
_OPEN_CALLS = Limits(total=256, per_address=64, half_open=256, half_open_per_address=64, reserve=0)

# gRPC clients retry a call only if its answer has trailers and no initial metadata (gRFC A6, "committed").
_RETRIED = frozenset({Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE})
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}

_log = structlog.get_logger("thingmint.grpc")


@dataclass(slots=True)
class _Call:
    """One RPC: gRPC's context and metadata, our RequestContext and Outcome."""

    rpc: Any
    metadata: _Metadata
    request: RequestContext
    outcome: Outcome

    @property
    def id(self) -> tuple[tuple[str, str], ...]:
        """The request's id, as metadata."""
        return (("x-request-id", self.request.id),)


@dataclass(frozen=True, slots=True)
class GrpcParts:
    """The parts of the server that calls need."""

    api: YandexApi
    request_log: RequestLog
    failures: FailureThrottle
    memory: RequestMemory
    is_ready: Callable[[], bool]


class Handlers(grpc.GenericRpcHandler):
    """Handlers of every method of the contract. For other paths, gRPC itself answers UNIMPLEMENTED.

    ``relay`` finds the client's address by gRPC's name of the peer.
    """

    def __init__(self, parts: GrpcParts, port: int, relay: Relay) -> None:
        self._api = parts.api
        self._request_log = parts.request_log
        self._failures = parts.failures
        self._memory = parts.memory
        self._calls = AddressLimits(_CALLS)
        self._open_calls = AddressLimits(_OPEN_CALLS)
        self._port = port
        self._relay = relay
        # Declared as methods with streams of requests (which look the same on the wire), so that the message is read
        # after the caller is authenticated. Without (de)serialisers the handlers receive and return bytes, and can
        # answer a malformed message with a proper status.
        self._handlers: dict[str, Any] = {
            path: grpc.stream_unary_rpc_method_handler(self._handler(method))
            for path, method in parts.api.contract.methods.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)

    def _handler(self, method: Method) -> Callable[[Any, Any], Awaitable[bytes]]:
        async def handle(requests: Any, context: Any) -> bytes:
            del requests
            metadata = context.invocation_metadata()
            arrived = RequestContext(
                api="yandex",
                operation=method.label,
                method="gRPC",
                address=self._relay.address_of(context.peer()),
                user_agent=_agent(metadata),
                now=self._api.clock(),
            )
            call = _Call(context, metadata, arrived, Outcome())
            context.set_trailing_metadata(call.id)
            try:
                answer = await self._serve(method, call)
                await context.send_initial_metadata(call.id)  # Yandex's SDKs read the request id there
                call.outcome.status = 200
                return answer
            except DomainError as error:
                try:
                    await self._refuse(call, error)
                except grpc.aio.InternalError:
                    raise asyncio.CancelledError from None
            except grpc.aio.AbortError:
                raise
            except grpc.aio.InternalError:
                # The call's deadline passed, or the client disconnected, before the answer was sent.
                raise asyncio.CancelledError from None
            except Exception:  # noqa: BLE001 - after any error the client gets an answer and the server goes on
                _log.exception("call_failed", request_id=call.request.id, operation=call.request.operation)
                call.outcome.code, call.outcome.status = "INTERNAL", 500
                message = f"The server failed to answer; its log has the details under {call.request.id}"
                await context.abort(grpc.StatusCode.INTERNAL, message)
            finally:
                self._request_log.record(call.request, call.outcome)
            raise AssertionError("abort() raises")

        return handle

    async def _serve(self, method: Method, call: _Call) -> bytes:
        remaining = call.rpc.time_remaining()
        if remaining is not None and remaining <= 0:
            call.outcome.code, call.outcome.status = "DEADLINE_EXCEEDED", 504
            await call.rpc.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "The deadline had passed when the call arrived")
        credentials = [(b"authorization", _bytes(value)) for name, value in call.metadata if name == "authorization"]
        key = dict(call.metadata).get("idempotency-key")
        call.request = await self._api.authenticate(call.request, method, credentials)
        held = ExitStack()
        call.rpc.add_done_callback(lambda _: held.close())  # when the client has read the answer
        lease = self._lease(call.request, held)
        message = await self._message(method, call, lease)
        built = await self._api.serve(
            call.request,
            call.outcome,
            method,
            message,
            port=self._relay.port_of(call.rpc.peer()) or self._port,
            idempotency_key=_bytes(key).decode("latin-1") if key is not None else None,
        )
        answer = built.SerializeToString()
        # The answer to a change is always sent, because the change has been made.
        if not lease.resize(_COPIES * len(answer)) and method.operation is None:
            del answer, built  # the error's traceback would keep them
            raise Throttled("Too many large answers are not read; try again")
        if call.request.caller is None:
            held.close()  # the answer is small, and few such calls are admitted
        self._abort_if_unread(call.rpc)
        return answer

    async def _message(self, method: Method, call: _Call, lease: Lease) -> Message:
        """The request. Raises Invalid and Throttled."""
        try:
            async with asyncio.timeout(MESSAGE_TIMEOUT):
                received = await call.rpc.read()
        except TimeoutError:
            raise Invalid("request", f"did not arrive within {MESSAGE_TIMEOUT:.0f} seconds") from None
        if received is grpc.aio.EOF:
            raise Invalid("request", "is missing")
        if not lease.resize(len(received)):
            raise Throttled("Too many unfinished requests with large messages; try again")
        try:
            return method.request_class.FromString(received)
        except DecodeError:
            raise Invalid("request", f"is not a well-formed {method.request_class.DESCRIPTOR.full_name}") from None

    def _lease(self, request: RequestContext, held: ExitStack) -> Lease:
        """A lease of memory for the call. Closing ``held`` releases it, and the call's place. Raises Throttled."""
        if request.caller is not None:
            limits, budget, source = self._calls, self._memory.authenticated, request.caller.account
        else:
            limits, budget, source = self._open_calls, self._memory.unauthenticated, source_of(request.address or "")
        place = limits.admit(source)
        if isinstance(place, TooMany):
            raise Throttled("Too many calls are under way; try again")
        held.callback(place.closed)
        lease = Lease(budget, source)
        held.callback(lease.release)
        return lease

    def _abort_if_unread(self, rpc: Any) -> None:
        """Closes the connection if the client does not read its answer within ANSWER_TIMEOUT.

        gRPC keeps an answer in memory until the client's flow control lets it pass, even if the call is cancelled.
        """
        timer = asyncio.get_running_loop().call_later(ANSWER_TIMEOUT, self._relay.abort, rpc.peer())
        rpc.add_done_callback(lambda _: timer.cancel())

    async def _refuse(self, call: _Call, error: DomainError) -> NoReturn:
        error = self._failures.count(call.request, call.outcome, error)
        status: Any = status_of(self._api.contract, error, call.request.id)
        code = Code(status.code)
        call.outcome.code, call.outcome.status = code.name, HTTP_STATUS[code]
        if code not in _RETRIED:
            await call.rpc.send_initial_metadata(call.id)
        details = ("grpc-status-details-bin", status.SerializeToString())
        await call.rpc.abort(_STATUS_CODES[status.code], status.message, (details, *call.id))
        raise AssertionError("abort() raises")


def _agent(metadata: _Metadata) -> str | None:
    agent = dict(metadata).get("user-agent")
    return str(agent)[:_MAX_AGENT] if agent else None


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")
