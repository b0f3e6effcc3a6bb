"""The host names by which clients reach the instance: list them, add one, put one first, remove one."""

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


@command("hostname.add", "Add a host name at the end", inputs.Hostname, "AddHostname", instance_wide=True)
async def add_hostname(tx: Transaction, _change: AdminChange, given: inputs.Hostname) -> list[Json]:
    """Adds the name at the end. No change if the instance has it. Raises Invalid."""
    await add_hostnames(tx, [canonical_hostname(given.name)])
    return await _list_hostnames(tx, _change, given)


@command("hostname.first", "Give clients this host name", inputs.Hostname, "SetFirstHostname", instance_wide=True)
async def put_hostname_first(tx: Transaction, _change: AdminChange, given: inputs.Hostname) -> list[Json]:
    """Puts the name first, or adds it there. Raises Invalid."""
    name = canonical_hostname(given.name)
    others = [other for other in await list_hostnames(tx) if other != name]
    await put_hostnames(tx, [name, *others])
    return await _list_hostnames(tx, _change, given)


@command("hostname.remove", "Remove a host name", inputs.Hostname, "RemoveHostname", instance_wide=True)
async def remove_hostname(tx: Transaction, _change: AdminChange, given: inputs.Hostname) -> list[Json]:
    """Removes the name. Raises NotFound, and Invalid if no name would be left to give to clients."""
    name, names = canonical_hostname(given.name), await list_hostnames(tx)
    if name not in names:
        raise NotFound("host name", name)
    await put_hostnames(tx, [other for other in names if other != name])
    return await _list_hostnames(tx, _change, given)
