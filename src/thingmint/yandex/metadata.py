"""The metadata service of a virtual machine in Yandex Cloud, as far as SDKs use it: a service account's IAM token.

Every program that can connect gets the token. So the listener is on a loopback address, and a request that a browser or
a proxy sends for another client is refused: it has no header Metadata-Flavor, or another Host than this machine
(DNS rebinding), or names its origin.
"""

from __future__ import annotations

import math
import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import orjson

from thingmint.domain.errors import Failed, Invalid, NotFound, Throttled, Unauthenticated, Unavailable
from thingmint.http.messages import Answer

if TYPE_CHECKING:
    from thingmint.access.context import Outcome, RequestContext
    from thingmint.access.iam import IamTokens
    from thingmint.access.throttle import Throttle
    from thingmint.domain.errors import DomainError
    from thingmint.http.messages import Incoming

_PATH = b"/computeMetadata/v1/instance/service-accounts/default/token"
_OPERATION = "MetadataService.GetToken"
_FLAVOR = (b"metadata-flavor", b"Google")
_FOREIGN = frozenset({b"forwarded", b"origin", b"sec-fetch-site", b"x-forwarded-for", b"x-forwarded-host"})
_LINK_LOCAL = "169.254.169.254"  # the address of the service at Yandex, which may be redirected to this listener
_HEADERS = [_FLAVOR, (b"content-type", b"application/json"), (b"cache-control", b"no-store")]


class MetadataApi:
    """An HttpApi for GET of one path. ``service_account`` is the id of the one that callers act as."""

    def __init__(self, tokens: IamTokens, throttle: Throttle, service_account: str) -> None:
        self._tokens = tokens
        self._throttle = throttle
        self._service_account = service_account

    def route(self, context: RequestContext, incoming: Incoming) -> tuple[RequestContext, bool]:
        found = incoming.raw_path == _PATH and incoming.method == "GET"
        return context.of(_OPERATION if found else "-", api="yandex"), found

    async def authenticate(self, context: RequestContext, route: bool, incoming: Incoming) -> RequestContext:
        """Raises Unauthenticated for a request that does not come from a program of this machine."""
        headers = list(incoming.headers)
        if [value for name, value in headers if name == _FLAVOR[0]] != [_FLAVOR[1]]:
            raise Unauthenticated("missing", "The header Metadata-Flavor: Google is needed")
        if any(name in _FOREIGN for name, _ in headers):
            raise Unauthenticated("wrong", "A request that a browser or a proxy sends for another client is refused")
        if not _is_here([value for name, value in headers if name == b"host"]):
            raise Unauthenticated("wrong", "Host must be localhost or a loopback address")
        if not route:
            raise NotFound("metadata", "at this path")
        return context

    async def decode(self, context: RequestContext, route: bool, incoming: Incoming) -> tuple[RequestContext, None]:
        if (await incoming.whole()).body:
            raise Invalid("body", "must be empty")
        return context, None

    async def serve(self, context: RequestContext, outcome: Outcome, route: bool, given: Any) -> Answer:
        """Raises NotFound if the service account was disabled or deleted, as SDKs expect."""
        new = await self._tokens.for_metadata(self._service_account)
        outcome.caller = new.caller
        self._throttle.take(new.caller.account, context.operation)
        seconds = math.floor((new.ends - context.now).total_seconds())
        body = {"access_token": new.token, "expires_in": seconds, "token_type": "Bearer"}
        return Answer(200, _HEADERS, orjson.dumps(body))

    def refuse(self, context: RequestContext, error: DomainError) -> Answer:
        status, code = _code_of(error)
        further = [(b"retry-after", b"%d" % math.ceil(error.retry_after))] if isinstance(error, Throttled) else []
        return Answer(status, [*_HEADERS, *further], orjson.dumps({"error": str(error), "request": context.id}), code)


def _is_here(hosts: list[bytes]) -> bool:
    """True if the Host header, which must be there once, is a name of this machine that DNS cannot redirect."""
    host = re.sub(r":\d{1,5}$", "", hosts[0].decode("latin-1").lower()) if len(hosts) == 1 else ""
    if host in ("localhost", _LINK_LOCAL):
        return True
    try:
        return ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host).is_loopback
    except ValueError:
        return False


def _code_of(error: DomainError) -> tuple[int, str]:
    match error:
        case Unauthenticated():
            return 403, "UNAUTHENTICATED"
        case NotFound():
            return 404, "NOT_FOUND"
        case Throttled():
            return 429, "RESOURCE_EXHAUSTED"
        case Failed():
            return 500, "INTERNAL"
        case Unavailable():
            return 503, "UNAVAILABLE"
        case _:
            return 400, "INVALID_ARGUMENT"
