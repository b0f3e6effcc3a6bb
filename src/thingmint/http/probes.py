"""/healthz, /readyz and /metrics."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import orjson

from thingmint.domain.errors import Failed
from thingmint.http.messages import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.access.context import Outcome, RequestContext
    from thingmint.domain.errors import DomainError
    from thingmint.http.messages import Incoming
    from thingmint.metrics import Metrics
    from thingmint.store.engine import Store


_JSON = [(b"content-type", b"application/json")]
_TEXT = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]
_NOT_HERE = b'{"success":false,"error":{"code":"PERMISSION_DENIED","message":"Metrics are for this machine only"}}'


class Probe:
    """An HttpApi for one path, without credentials and without a body."""

    def __init__(self, name: str, answer: Callable[[str | None], Answer]) -> None:
        """``answer`` is called with the client's address."""
        self._name = name
        self._answer = answer

    def route(self, context: RequestContext, incoming: Incoming) -> tuple[RequestContext, str | None]:
        return context.of(self._name, api="probe"), incoming.client

    async def authenticate(self, context: RequestContext, route: str | None, incoming: Incoming) -> RequestContext:
        del route, incoming
        return context

    async def decode(
        self, context: RequestContext, route: str | None, incoming: Incoming
    ) -> tuple[RequestContext, None]:
        del route, incoming
        return context, None

    async def serve(self, context: RequestContext, outcome: Outcome, route: str | None, given: Any) -> Answer:
        del context, outcome, given
        return self._answer(route)

    def refuse(self, context: RequestContext, error: DomainError) -> Answer:
        if not isinstance(error, Failed):
            raise AssertionError("a probe refuses nothing") from error  # noqa: TRY004 - no caller can cause it
        return Answer(500, _JSON, orjson.dumps({"status": "failed", "request": context.id}), "Internal")


def probes(
    store: Store, metrics: Metrics, broker_trouble: Callable[[], str | None] | None = None
) -> dict[bytes, Probe]:
    """The probes by raw path. ``broker_trouble`` returns why another server's broker cannot be reached, or None."""

    def healthz(client: str | None) -> Answer:
        del client
        return Answer(200, _JSON, b'{"status":"ok"}')

    def readyz(client: str | None) -> Answer:
        del client
        state, reasons = {"status": "ok", "store": "ok"}, []
        if not store.ready:
            # Reads and connected devices still work. The load balancer decides whether this server gets requests.
            state["store"] = "unavailable"
            reasons.append(f"changes are refused: {store.trouble}")
        if broker_trouble is not None:
            trouble = broker_trouble()
            state["broker"] = "ok" if trouble is None else "unavailable"
            reasons += [f"devices are refused: the broker cannot be used: {trouble}"] if trouble is not None else []
        if reasons:
            state |= {"status": "unavailable", "reason": "; ".join(reasons)}
        return Answer(503 if reasons else 200, _JSON, orjson.dumps(state))

    def render_metrics(client: str | None) -> Answer:
        # Metrics are private to this machine: a collector runs here or uses a proxy.
        if client is None or not ip_address(client).is_loopback:
            return Answer(403, _JSON, _NOT_HERE)
        return Answer(200, _TEXT, metrics.render())

    return {
        b"/healthz": Probe("healthz", healthz),
        b"/readyz": Probe("readyz", readyz),
        b"/metrics": Probe("metrics", render_metrics),
    }
