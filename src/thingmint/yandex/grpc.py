"""The Yandex API over gRPC, with TLS."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from thingmint.access.context import Outcome, RequestContext
from thingmint.domain.errors import DomainError, Invalid
from thingmint.domain.names import authority_of
from thingmint.yandex.contract.status import HTTP_STATUS, Code
from thingmint.yandex.errors import status_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from thingmint.access.request_log import RequestLog
    from thingmint.yandex.app import YandexApi
    from thingmint.yandex.contract import Method

    _Metadata = Sequence[tuple[str, str | bytes]]

_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second server on the port has to fail
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.server_handshake_timeout_ms", 10_000),
)
_MAX_CONCURRENT_RPCS = 1024
_MAX_AGENT = 256  # characters of a user agent's name that are kept
_GRACE = 30.0  # seconds, for calls in flight when the server stops

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}

_log = structlog.get_logger("thingmint.grpc")


class GrpcListener:
    """``certificates`` gives pairs of (key, chain) in PEM when they changed since it was last asked, else None.

    The first of them is used.
    """

    def __init__(
        self,
        api: YandexApi,
        request_log: RequestLog,
        host: str,
        port: int,
        certificates: Callable[[], Sequence[tuple[bytes, bytes]] | None],
    ) -> None:
        """Raises OSError if the port cannot be listened on."""
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MAX_CONCURRENT_RPCS)
        self._server.add_generic_rpc_handlers((_Handlers(api, request_log, lambda: self.port),))
        try:
            self.port = self._server.add_secure_port(authority_of(host, port), _credentials(certificates))
        except RuntimeError as error:
            raise OSError(f"{authority_of(host, port)} cannot be listened on") from error

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        """Accepts nothing more, and returns when the calls in flight are answered."""
        await self._server.stop(_GRACE)


@dataclass(slots=True)
class _Call:
    """One RPC: gRPC's side of it, and the request as far as it is understood."""

    rpc: Any
    metadata: _Metadata
    request: RequestContext
    outcome: Outcome


class _Handlers(grpc.GenericRpcHandler):
    """Every method of the contract; for any other path gRPC itself answers UNIMPLEMENTED."""

    def __init__(self, api: YandexApi, request_log: RequestLog, port: Callable[[], int]) -> None:
        self._api = api
        self._request_log = request_log
        self._port = port
        # Without (de)serialisers the handlers get and give bytes, and a malformed message can be answered in form.
        self._handlers: dict[str, Any] = {
            path: grpc.unary_unary_rpc_method_handler(self._handler(method))
            for path, method in api.contract.methods.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(handler_call_details.method)

    def _handler(self, method: Method) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def handle(request: bytes, context: Any) -> bytes:
            metadata = context.invocation_metadata()
            arrived = RequestContext(
                api="yandex",
                operation=method.label,
                method="gRPC",
                address=_client(context),
                user_agent=_agent(metadata),
                now=self._api.clock(),
            )
            call = _Call(context, metadata, arrived, Outcome())
            context.set_trailing_metadata((("x-request-id", call.request.id),))
            try:
                answer = await self._serve(method, request, call)
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
                # The call's deadline passed, or its client left, before it could be told anything.
                raise asyncio.CancelledError from None
            except Exception:  # noqa: BLE001 - whatever it is, the client gets an answer and the server goes on
                _log.exception("a call failed", request_id=call.request.id, operation=call.request.operation)
                call.outcome.code, call.outcome.status = "INTERNAL", 500
                message = f"The server failed to answer; its log has the details under {call.request.id}"
                await context.abort(grpc.StatusCode.INTERNAL, message)
            finally:
                self._request_log.record(call.request, call.outcome)
            raise AssertionError("abort() raises")

        return handle

    async def _serve(self, method: Method, request: bytes, call: _Call) -> bytes:
        remaining = call.rpc.time_remaining()
        if remaining is not None and remaining <= 0:
            call.outcome.code, call.outcome.status = "DEADLINE_EXCEEDED", 504
            await call.rpc.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "The deadline had passed when the call arrived")
        credentials = [(b"authorization", _bytes(value)) for name, value in call.metadata if name == "authorization"]
        key = dict(call.metadata).get("idempotency-key")
        call.request = await self._api.authenticate(call.request, method, credentials)
        try:
            message = method.request_class.FromString(request)
        except DecodeError:
            raise Invalid("request", f"is not a well-formed {method.request_class.DESCRIPTOR.full_name}") from None
        answer = await self._api.serve(
            call.request,
            call.outcome,
            method,
            message,
            port=self._port(),
            idempotency_key=_bytes(key).decode("latin-1") if key is not None else None,
        )
        return answer.SerializeToString()

    async def _refuse(self, call: _Call, error: DomainError) -> NoReturn:
        status: Any = status_of(self._api.contract, error, call.request.id)
        code = Code(status.code)
        call.outcome.code, call.outcome.status = code.name, HTTP_STATUS[code]
        await call.rpc.abort(
            _STATUS_CODES[status.code],
            status.message,
            (("grpc-status-details-bin", status.SerializeToString()), ("x-request-id", call.request.id)),
        )
        raise AssertionError("abort() raises")


def _credentials(certificates: Callable[[], Sequence[tuple[bytes, bytes]] | None]) -> grpc.ServerCredentials:
    initial = certificates()
    assert initial is not None, "the first certificate is always news"

    def fetch() -> Any:
        changed = certificates()
        return grpc.ssl_server_certificate_configuration([changed[0]]) if changed else None

    return grpc.dynamic_ssl_server_credentials(
        grpc.ssl_server_certificate_configuration([initial[0]]), fetch, require_client_authentication=False
    )


def _client(context: Any) -> str | None:
    peer: str = context.peer()  # such as ipv4:127.0.0.1:40000, with its brackets percent-encoded in IPv6
    return peer.partition(":")[2].rpartition(":")[0].replace("%5B", "").replace("%5D", "") or None


def _agent(metadata: _Metadata) -> str | None:
    agent = dict(metadata).get("user-agent")
    return str(agent)[:_MAX_AGENT] if agent else None


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")
