"""The front door of both HTTP listeners: which face a request is for, and one line in the log for each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson
import structlog

from thingmint.access.exchange import CURRENT, Exchange
from thingmint.http.exchange import ClientGone, respond

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from thingmint.access.journal import Journal
    from thingmint.http.exchange import App, Message, Receive, Send

__all__ = ["Front"]

_log = structlog.get_logger("thingmint.http")

_NATIVE_ISSUE_PATH = b"/keys-and-certificate"
_MAX_AGENT = 256  # bytes of a user agent's name that are kept


class Front:
    """An ASGI application.

    ``is_aws_route`` tells whether AWS has an operation at a method and raw path, ``is_yandex_route`` whether a raw path
    is one of Yandex's.
    """

    def __init__(
        self,
        *,
        aws: App,
        native: App,
        probes: dict[bytes, App],
        yandex: App,
        is_yandex_route: Callable[[bytes], bool],
        is_aws_route: Callable[[str, bytes], bool],
        journal: Journal,
        clock: Callable[[], datetime],
    ) -> None:
        self._aws = aws
        self._native = native
        self._probes = probes
        self._is_aws_route = is_aws_route
        self._yandex = yandex
        self._is_yandex_route = is_yandex_route
        self._journal = journal
        self._clock = clock

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        exchange = scope["thingmint.exchange"] = _exchange(scope, self._clock())
        CURRENT.set(exchange)
        try:
            await self._choose(scope)(scope, receive, send)
        except ClientGone:
            exchange.error_code = "ClientGone"
        except asyncio.CancelledError:
            exchange.error_code = "Cancelled"
            raise
        except Exception:  # noqa: BLE001 - whatever it is, the client gets an answer and the server goes on
            _log.exception("a request failed", request_id=exchange.id, operation=exchange.operation)
            exchange.error_code = "Internal"
            if not exchange.status:
                await _internal_error(exchange, send)
        finally:
            self._journal.record(exchange)

    def _choose(self, scope: Message) -> App:
        path: bytes = scope["raw_path"]
        if probe := self._probes.get(path):
            return probe
        authorization = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
                break
        if authorization.startswith(b"AWS4") or b"X-Amz-Signature=" in scope["query_string"]:
            return self._aws
        if self._is_yandex_route(path):
            return self._yandex
        if authorization:
            return self._native
        if path != _NATIVE_ISSUE_PATH and self._is_aws_route(scope["method"], path):
            return self._aws
        return self._native


def _exchange(scope: Message, now: datetime) -> Exchange:
    agent = next((value for name, value in scope["headers"] if name == b"user-agent"), None)
    return Exchange(
        method=scope["method"],
        source=scope["client"] and scope["client"][0],
        user_agent=agent[:_MAX_AGENT].decode("latin-1") if agent else None,
        at=now,
    )


async def _internal_error(exchange: Exchange, send: Send) -> None:
    message = f"The server failed to answer; its log has the details under {exchange.id}"
    await respond(
        exchange,
        send,
        500,
        [(b"content-type", b"application/json"), (b"x-amzn-errortype", b"InternalFailureException")],
        orjson.dumps({"success": False, "error": {"code": "INTERNAL", "message": message}, "message": message}),
    )
