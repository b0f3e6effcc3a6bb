"""The host names under which the console may be opened.

A page of another site can make its own name resolve to this server's address (DNS rebinding). Its requests then have
that name in the Host header. Addresses and the server's own names cannot be used like that.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING

from thingmint.domain.server_certificates import name_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")


class AllowedHosts:
    """``names`` returns the names that are allowed, wildcards included, in lower case."""

    def __init__(self, names: Callable[[], Collection[str]]) -> None:
        self._names = names

    def allow(self, host: bytes) -> bool:
        """True if the value of the Host header is an address or a name of this server."""
        match = _HOST.fullmatch(host.decode("latin-1").lower())
        if match is None:
            return False
        name = match["name"].strip("[]").removesuffix(".")
        if name == "localhost":
            return True
        try:
            ip_address(name)
        except ValueError:
            return name_in(self._names(), name) is not None
        return True
