"""Host names and addresses, as they stand in URLs."""

from __future__ import annotations

import ipaddress
import re

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOSTNAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_REGION = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


def authority_of(host: str, port: int) -> str:
    """host:port, with the brackets that an IPv6 address needs in a URL (RFC 3986 3.2.2)."""
    return f"[{host}]:{port}" if _version(host) == 6 else f"{host}:{port}"


def is_hostname(name: str) -> bool:
    """Whether it is a DNS name. One whose last label is digits only would be read as an IPv4 address (WHATWG URL)."""
    return len(name) <= 253 and _HOSTNAME.fullmatch(name) is not None and not name.rpartition(".")[2].isdigit()


def is_loopback(host: str) -> bool:
    return host == "localhost" or (_version(host) is not None and ipaddress.ip_address(host).is_loopback)


def is_region(name: str) -> bool:
    """Whether AWS's SDKs would take it for a region's name."""
    return len(name) <= 63 and _REGION.fullmatch(name) is not None


def _version(host: str) -> int | None:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None
