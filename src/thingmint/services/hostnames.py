"""The host names under which clients reach this instance."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal

from thingmint.domain.arns import Scope
from thingmint.domain.errors import AlreadyExists, Invalid
from thingmint.domain.names import is_hostname
from thingmint.store.table import Table, record

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from thingmint.services.change import Query
    from thingmint.store.engine import Transaction


DEFAULT_HOSTNAMES = ("localhost", "127.0.0.1", "::1")
_LONGEST_NAME = 253
_INSERT = "INSERT INTO hostnames (name, position) VALUES ($1, $2)"

HostnameApi = Literal["aws", "yandex"]


@record
class AccountHostname:
    """A host name that an operator gave to one account and region. Under it the rules of ``api`` hold."""

    scope: Scope
    name: str
    api: HostnameApi
    created_at: datetime


ACCOUNT_HOSTNAMES = Table(AccountHostname, "account_hostnames", "host name", key=("name",))
_OF_ACCOUNTS = f"{ACCOUNT_HOSTNAMES.select}ORDER BY created_at, name"

ListHostnames = Callable[[], Awaitable[list[str]]]
"""Calls list_hostnames in its own transaction."""


async def list_hostnames(tx: Transaction) -> list[str]:
    """Return the host names of all accounts. The first is the one that the APIs return to clients."""
    return [name for (name,) in await tx.fetch_all("SELECT name FROM hostnames ORDER BY position")]


def canonical_hostname(name: str) -> str:
    """Return the canonical form of an IP address or a DNS name, which may begin with a wildcard. Raises Invalid."""
    try:
        return str(ip_address(name))
    except ValueError:
        pass
    if len(name) > _LONGEST_NAME or not is_hostname(name.removeprefix("*.")):
        raise Invalid("hostname", f"{name!r} is neither a DNS name nor an IP address")
    return name.lower()


async def list_account_hostnames(tx: Transaction) -> list[AccountHostname]:
    """Return the host names that were given to one account each, the oldest first."""
    return ACCOUNT_HOSTNAMES.load_all(await tx.fetch_all(_OF_ACCOUNTS))


async def add_account_hostname(tx: Transaction, hostname: AccountHostname) -> None:
    """Give a host name to one account. No change if it has the name. Raises Invalid and AlreadyExists."""
    name = hostname.name
    if not is_hostname(name):
        raise Invalid("hostname", f"{name!r} cannot be given to an account: devices cannot send it as SNI")
    if name in await list_hostnames(tx):
        raise AlreadyExists(
            "host name", name, reason=f"{name} is a host name of all accounts: remove it before you give it to one"
        )
    if not await ACCOUNT_HOSTNAMES.insert(tx, hostname):
        known = await ACCOUNT_HOSTNAMES.get(tx, name)
        if (known.scope, known.api) != (hostname.scope, hostname.api):
            raise _taken(known)


async def _check_free(tx: Transaction, names: Sequence[str]) -> None:
    """Raises AlreadyExists if a name is an account's."""
    for hostname in await list_account_hostnames(tx):
        if hostname.name in names:
            raise _taken(hostname)


def _taken(by: AccountHostname) -> AlreadyExists:
    of = f"account {by.scope.account} ({by.api}, {by.scope.region})"
    return AlreadyExists("host name", by.name, reason=f"{by.name} is a host name of {of}: remove it first")


async def add_hostnames(tx: Transaction, names: Sequence[str]) -> list[str]:
    """Add host names of all accounts. Returns the new ones. Raises AlreadyExists if one is an account's."""
    await _check_free(tx, names)
    known = await list_hostnames(tx)
    new = [name for name in dict.fromkeys(names) if name not in known]
    for position, name in enumerate(new, start=len(known)):
        await tx.execute(_INSERT, name, position)
    return new


async def give_hostnames(tx: Transaction, names: Sequence[str]) -> list[str]:
    """Add host names, in front of the defaults if there are only defaults. Returns the new ones."""
    known = await list_hostnames(tx)
    if not names or set(known) - set(DEFAULT_HOSTNAMES) or names[0].startswith("*"):
        return await add_hostnames(tx, names)
    await put_hostnames(tx, list(dict.fromkeys([*names, *known])))
    return [name for name in dict.fromkeys(names) if name not in known]


async def put_hostnames(tx: Transaction, names: Sequence[str]) -> None:
    """Replace the host names of all accounts by ``names``, in this order.

    Raises Invalid if clients could not connect to the first, and AlreadyExists if one is an account's.
    """
    await _check_free(tx, names)
    if not names:
        raise Invalid("hostname", "cannot be removed: it is the last one")
    if names[0].startswith("*"):
        raise Invalid("hostname", f"{names[0]!r} cannot come first: clients need a name that they can connect to")
    await tx.execute("DELETE FROM hostnames")
    await tx.execute_many(_INSERT, [(name, position) for position, name in enumerate(names)])


async def endpoint_of(tx: Transaction, query: Query) -> str:
    """Return the host name for devices of the account and region: its assigned one, else the instance's first."""
    return query.environment.endpoints.get(query.scope) or (await list_hostnames(tx))[0]


class HostNames:
    """The host names by which devices select an account and region.

    ``endpoints`` are the names that are assigned to an account and region, ``yandex`` those of them under which the
    rules of Yandex IoT Core hold. Other names select none.
    """

    def __init__(self, endpoints: Mapping[str, Scope] | None = None, yandex: Collection[str] = ()) -> None:
        self._endpoints = endpoints or {}
        self._yandex = yandex

    def replace(self, endpoints: Mapping[str, Scope], yandex: Collection[str] = ()) -> None:
        """Replace the names for devices that connect later."""
        self._endpoints = endpoints
        self._yandex = yandex

    def is_yandex(self, host_name: str | None) -> bool:
        """True if the rules of Yandex IoT Core hold under that name."""
        return host_name in self._yandex

    def scope_of(self, host_name: str | None) -> Scope | None:
        return self._endpoints.get(host_name or "")

    def advice(self, scopes: Sequence[Scope]) -> str:
        """Return what the device must do. For operators only, because it names accounts."""
        return f"the device must send a host name (SNI): {'; '.join(self._described(scope) for scope in scopes)}"

    def _described(self, scope: Scope) -> str:
        names = [name for name, of in self._endpoints.items() if of == scope]
        shown = " or ".join(names) if names else "one that you must first give to it (thingmint access hostname add)"
        return f"{shown} (account {scope.account}, {scope.region})"
