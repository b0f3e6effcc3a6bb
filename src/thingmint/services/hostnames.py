"""The host names that clients reach this instance by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING

from thingmint.domain.errors import Invalid
from thingmint.domain.names import is_hostname

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.domain.arns import Scope
    from thingmint.services.change import Query
    from thingmint.store.engine import Transaction


DEFAULT_HOSTNAMES = ("localhost", "127.0.0.1", "::1")
_LONGEST_NAME = 253
_INSERT = "INSERT INTO hostnames (name, position) VALUES ($1, $2)"

ListHostnames = Callable[[], Awaitable[list[str]]]
"""list_hostnames in a transaction of its own."""


async def list_hostnames(tx: Transaction) -> list[str]:
    """The first is the one that clients are told."""
    return [name for (name,) in await tx.fetch_all("SELECT name FROM hostnames ORDER BY position")]


def canonical_hostname(name: str) -> str:
    """An IP address, or a DNS name in lower case, which may begin with a wildcard. Raises Invalid."""
    try:
        return str(ip_address(name))
    except ValueError:
        pass
    if len(name) > _LONGEST_NAME or not is_hostname(name.removeprefix("*.")):
        raise Invalid("hostname", f"{name!r} is neither a DNS name nor an IP address")
    return name.lower()


async def add_hostnames(tx: Transaction, names: Sequence[str]) -> list[str]:
    """Those of ``names`` that were new."""
    known = await list_hostnames(tx)
    new = [name for name in dict.fromkeys(names) if name not in known]
    for position, name in enumerate(new, start=len(known)):
        await tx.execute(_INSERT, name, position)
    return new


async def give_hostnames(tx: Transaction, names: Sequence[str]) -> list[str]:
    """Adds them, before the defaults if nothing else was ever given; those that were new."""
    known = await list_hostnames(tx)
    if not names or set(known) - set(DEFAULT_HOSTNAMES) or names[0].startswith("*"):
        return await add_hostnames(tx, names)
    await put_hostnames(tx, list(dict.fromkeys([*names, *known])))
    return [name for name in dict.fromkeys(names) if name not in known]


async def put_hostnames(tx: Transaction, names: Sequence[str]) -> None:
    """These, in this order, and no others. Raises Invalid where clients could not be told the first."""
    if not names:
        raise Invalid("hostname", "cannot be removed: it is the last one")
    if names[0].startswith("*"):
        raise Invalid("hostname", f"{names[0]!r} cannot come first: clients need a name that they can connect to")
    await tx.execute("DELETE FROM hostnames")
    await tx.execute_many(_INSERT, [(name, position) for position, name in enumerate(names)])


async def endpoint_of(tx: Transaction, query: Query) -> str:
    """The name that the devices of the account and region connect to: one of its own, else the instance's first."""
    return query.environment.endpoints.get(query.scope) or (await list_hostnames(tx))[0]


class HostNames:
    """Those by which devices choose an account and region.

    ``endpoints`` are those that were given to an account and region; all others stand for none."""

    def __init__(self, endpoints: Mapping[str, Scope]) -> None:
        self._endpoints = endpoints

    def replace(self, endpoints: Mapping[str, Scope]) -> None:
        """For devices that connect from now on."""
        self._endpoints = endpoints

    def scope_of(self, host_name: str | None) -> Scope | None:
        return self._endpoints.get(host_name or "")

    def advice(self, scopes: Sequence[Scope]) -> str:
        """What the device has to do, for the operator's eyes: it tells of accounts."""
        return f"the device has to name a host (SNI): {'; '.join(self._told(scope) for scope in scopes)}"

    def _told(self, scope: Scope) -> str:
        names = [name for name, of in self._endpoints.items() if of == scope]
        told = " or ".join(names) if names else "one that the setting endpoints has yet to give to"
        return f"{told} (account {scope.account}, {scope.region})"
