"""Host names, IP addresses and region names."""

from __future__ import annotations

import ipaddress
import re

_IPV6_PREFIX = 64  # bits: one site or machine can use all addresses of its /64 (RFC 6177)

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOSTNAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")

ACCOUNT_ID = r"^[0-9]{12}$"
NAME = r"[0-9A-Za-z_+=,.@-]{1,64}"
"""The name of an account, a user, a role or a folder: IAM's rule for user names."""
PRINCIPAL = rf"^((user|role|service-account)/|arn:aws:iam::[0-9]{{12}}:(user|role|service-account)/)?{NAME}$"
POLICY_NAME = r"[0-9A-Za-z_+=,.@-]{1,128}"
NAMED_POLICY = r"^[0-9A-Za-z_+=,.@/-]{1,128}$"
"""The name of an account's policy, or of a managed one: thingmint/NAME or yandex/ROLE."""
REGION = r"[a-z0-9]+(-[a-z0-9]+)*"

_REGION = re.compile(REGION)


def authority_of(host: str, port: int) -> str:
    """Return host:port, with the brackets that an IPv6 address needs in a URL (RFC 3986 3.2.2)."""
    return f"[{host}]:{port}" if _version(host) == 6 else f"{host}:{port}"


def is_hostname(name: str) -> bool:
    """True for a DNS name whose last label is not a number: URL parsers read such names as IPv4 (WHATWG URL)."""
    return len(name) <= 253 and _HOSTNAME.fullmatch(name) is not None and not name.rpartition(".")[2].isdigit()


def is_loopback(host: str) -> bool:
    return host == "localhost" or (_version(host) is not None and ipaddress.ip_address(host).is_loopback)


def is_region(name: str) -> bool:
    """True if AWS's SDKs accept ``name`` as the name of a region."""
    return len(name) <= 63 and _REGION.fullmatch(name) is not None


def plain_address(address: str) -> str:
    """Return an address in the form in which policies compare addresses: without a zone, IPv4-mapped IPv6 as IPv4."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed)


def source_of(address: str) -> str:
    """Return the source that an address is counted under: an IPv4 address itself, the /64 of an IPv6 address.

    Returns text that is not an address unchanged.
    """
    if ":" not in address:
        return address
    try:
        plain = plain_address(address)
    except ValueError:
        return address
    if ":" not in plain:
        return plain
    return str(ipaddress.IPv6Network((int(ipaddress.IPv6Address(plain)) >> _IPV6_PREFIX << _IPV6_PREFIX, _IPV6_PREFIX)))


def _version(host: str) -> int | None:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None


def server_name(raw: bytes | None) -> str | None:
    """Returns a server name (RFC 6066, section 3) as text. Bytes that are not ASCII are escaped, and match no name."""
    if not raw:
        return None
    return raw.decode("ascii", "backslashreplace").lower().removesuffix(".") or None
