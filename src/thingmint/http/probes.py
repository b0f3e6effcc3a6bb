"""/healthz, /readyz and /metrics."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import orjson

from thingmint.http.exchange import Exchange, respond

if TYPE_CHECKING:
    from thingmint.http.exchange import App, Message, Receive, Send
    from thingmint.metrics import Metrics
    from thingmint.store.engine import Store

__all__ = ["probes"]

_JSON = [(b"content-type", b"application/json")]
_TEXT = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]


def probes(store: Store, metrics: Metrics) -> dict[bytes, App]:
    """ASGI applications by raw path."""

    async def healthz(scope: Message, receive: Receive, send: Send) -> None:
        del receive
        await respond(_exchange(scope, "healthz"), send, 200, _JSON, b'{"status":"ok"}')

    async def readyz(scope: Message, receive: Receive, send: Send) -> None:
        del receive
        status, store_state = (200, "ok") if store.ready else (503, "unavailable")
        body = orjson.dumps({"status": store_state, "store": store_state})
        await respond(_exchange(scope, "readyz"), send, status, _JSON, body)

    async def render_metrics(scope: Message, receive: Receive, send: Send) -> None:
        del receive
        exchange = _exchange(scope, "metrics")
        # How busy a fleet is concerns nobody on the network; a collector runs on this machine or goes through a proxy.
        if not _is_loopback(scope):
            body = (
                b'{"success":false,"error":{"code":"PERMISSION_DENIED","message":"Metrics are for this machine only"}}'
            )
            await respond(exchange, send, 403, _JSON, body)
            return
        await respond(exchange, send, 200, _TEXT, metrics.render())

    return {b"/healthz": healthz, b"/readyz": readyz, b"/metrics": render_metrics}


def _exchange(scope: Message, operation: str) -> Exchange:
    exchange = Exchange.of(scope)
    exchange.face, exchange.operation = "probe", operation
    return exchange


def _is_loopback(scope: Message) -> bool:
    client = scope["client"]
    return bool(client) and ip_address(client[0]).is_loopback
