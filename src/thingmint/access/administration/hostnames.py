"""The names by which clients reach the instance: listing, adding, putting one first, removing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.access.administration import inputs
from thingmint.access.administration.declaring import Json, command
from thingmint.domain.errors import NotFound
from thingmint.services.hostnames import add_hostnames, canonical_hostname, list_hostnames, put_hostnames

if TYPE_CHECKING:
    from thingmint.access.administration.declaring import AdminChange
    from thingmint.store.engine import Transaction


@command(
    "hostname.list",
    "List the host names that clients use",
    inputs.NoInput,
    "ListHostnames",
    instance_wide=True,
)
async def _list_hostnames(tx: Transaction, _change: AdminChange, _given: Any) -> list[Json]:
    return [{"name": name} for name in await list_hostnames(tx)]


@command("hostname.add", "Add a host name, behind the others", inputs.Hostname, "AddHostname", instance_wide=True)
async def add_hostname(tx: Transaction, _change: AdminChange, given: inputs.Hostname) -> list[Json]:
    """Nothing changes if it is there. Raises Invalid."""
    await add_hostnames(tx, [canonical_hostname(given.name)])
    return await _list_hostnames(tx, _change, given)


@command("hostname.first", "Tell clients this host name", inputs.Hostname, "SetFirstHostname", instance_wide=True)
async def put_hostname_first(tx: Transaction, _change: AdminChange, given: inputs.Hostname) -> list[Json]:
    """It is added if it is not there. Raises Invalid."""
    name = canonical_hostname(given.name)
    others = [other for other in await list_hostnames(tx) if other != name]
    await put_hostnames(tx, [name, *others])
    return await _list_hostnames(tx, _change, given)


@command("hostname.remove", "Remove a host name", inputs.Hostname, "RemoveHostname", instance_wide=True)
async def remove_hostname(tx: Transaction, _change: AdminChange, given: inputs.Hostname) -> list[Json]:
    """Raises NotFound, and Invalid where no name would be left that clients can be told."""
    name, names = canonical_hostname(given.name), await list_hostnames(tx)
    if name not in names:
        raise NotFound("host name", name)
    await put_hostnames(tx, [other for other in names if other != name])
    return await _list_hostnames(tx, _change, given)
