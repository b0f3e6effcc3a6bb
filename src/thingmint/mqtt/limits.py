"""How many connections there may be: in all, from one address, and of those whose handshake is under way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address

_IPV6_PREFIX = 64  # bits: what one household or one machine is given (RFC 6177), and can choose addresses within


@dataclass(frozen=True, slots=True)
class Limits:
    """A fleet behind one NAT shares an address, so ``per_address`` is not small."""

    total: int = 20_000
    per_address: int = 5_000
    half_open: int = 1_000
    half_open_per_address: int = 200


@dataclass(frozen=True, slots=True)
class TooMany:
    reason: str


def source_of(address: str) -> str:
    """What an address is counted under: itself, or the /64 of an IPv6 one."""
    if ":" not in address:
        return address
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed) >> _IPV6_PREFIX << _IPV6_PREFIX, _IPV6_PREFIX)))
    return address


class AddressLimits:
    """Share one among all listeners of a process, as what it protects are the process's files and memory."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: Counter[str] = Counter()
        self._half_open: Counter[str] = Counter()
        self._half_open_total = 0
        self._total = 0

    @property
    def total(self) -> int:
        return self._total

    @property
    def half_open(self) -> int:
        return self._half_open_total

    def admit(self, address: str) -> Place | TooMany:
        """A new connection, its handshake still to come. Addresses of other kinds than IP are counted as they are."""
        limits, source = self._limits, source_of(address)
        if self._total >= limits.total:
            return TooMany("too many connections")
        if self._open[source] >= limits.per_address:
            return TooMany("too many connections from this address")
        if self._half_open_total >= limits.half_open:
            return TooMany("too many handshakes under way")
        if self._half_open[source] >= limits.half_open_per_address:
            return TooMany("too many handshakes under way from this address")
        self._total += 1
        self._open[source] += 1
        self._half_open_total += 1
        self._half_open[source] += 1
        return Place(self, source)

    def _opened(self, source: str) -> None:
        self._half_open_total -= 1
        _decrease(self._half_open, source)

    def _closed(self, source: str) -> None:
        self._total -= 1
        _decrease(self._open, source)


class Place:
    """What an admitted connection holds. Its methods may be called again, to no effect."""

    __slots__ = ("_is_half_open", "_limits", "_source")

    def __init__(self, limits: AddressLimits, source: str) -> None:
        self._limits: AddressLimits | None = limits
        self._source = source
        self._is_half_open = True

    def opened(self) -> None:
        """The handshake is done."""
        if self._limits is not None and self._is_half_open:
            self._is_half_open = False
            self._limits._opened(self._source)  # noqa: SLF001 - the two are one thing

    def closed(self) -> None:
        """The connection has ended, whatever became of it."""
        self.opened()
        if self._limits is not None:
            self._limits._closed(self._source)  # noqa: SLF001
            self._limits = None


def _decrease(counter: Counter[str], source: str) -> None:
    """Leaves no entry for a source that has nothing: strangers choose them."""
    if counter[source] > 1:
        counter[source] -= 1
    else:
        del counter[source]
