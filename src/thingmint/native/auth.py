"""Who calls the native face, and for which region."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thingmint.access.bearer import bearer_token
from thingmint.domain.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from thingmint.access.context import Caller
    from thingmint.access.directory import Directory
    from thingmint.domain.arns import Scope
    from thingmint.services.hostnames import ListHostnames


_AWS_HOST = re.compile(r"iot\.([a-z0-9-]{1,63})\.amazonaws\.com")


class NativeAuth:
    """``dev`` lets requests without credentials in as the developer, unless a web page may be behind them."""

    def __init__(self, directory: Directory, hostnames: ListHostnames, *, dev: bool) -> None:
        self._directory = directory
        self._hostnames = hostnames
        self._dev = dev

    async def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[Caller, Scope]:
        """The caller, and the region that the Host header names, else the account's home. Raises Unauthenticated."""
        token = bearer_token(headers)
        host = _host(headers)
        if token is not None:
            caller = await self._directory.authenticate_token(token)
        elif self._dev:
            caller = await self._developer(headers, host)
        else:
            raise Unauthenticated(
                "missing",
                "An API token is needed, as: Authorization: Bearer <token>; see clients/token in the data directory",
            )
        match = _AWS_HOST.fullmatch(host)
        return caller, caller.scope(match[1] if match else None)

    async def _developer(self, headers: Iterable[tuple[bytes, bytes]], host: str) -> Caller:
        # A page that somebody opens in a browser could otherwise mint keys: by a plain cross-site request, or, once
        # its own name resolves to 127.0.0.1, by a same-origin one. Programs send neither header.
        for name, value in headers:
            if name == b"origin" or (name == b"sec-fetch-site" and value not in (b"none", b"same-origin")):
                raise Unauthenticated("missing", "A request that a web page caused needs an API token")
        caller = await self._directory.developer()
        match = _AWS_HOST.fullmatch(host)
        if (match and match[1] in caller.regions) or host in await self._hostnames():
            return caller
        raise Unauthenticated("missing", "Without an API token, Host must be one of this server's configured names")


def _host(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The Host header without its port, in lower case, brackets of an IPv6 address removed."""
    hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
    if len(hosts) != 1:
        return ""
    host = re.sub(r":\d{1,5}$", "", hosts[0])
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host
