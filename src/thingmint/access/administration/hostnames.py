"""The host names by which clients reach the instance: list them, add one, put one first, remove one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.access.administration import inputs
from thingmint.access.administration.accounts import list_regions
from thingmint.access.administration.declaring import Json, check_account, command
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Invalid, NotFound
from thingmint.services.hostnames import (
    ACCOUNT_HOSTNAMES,
    AccountHostname,
    add_account_hostname,
    add_hostnames,
    canonical_hostname,
    list_account_hostnames,
    list_hostnames,
    put_hostnames,
)

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
    """The names of all accounts, which have no account here, then the names of one account each."""
    shared = [(name, None, None, None) for name in await list_hostnames(tx)]
    given = [(each.name, *each.scope, each.api) for each in await list_account_hostnames(tx)]
    return [
        {"name": name, "account": account, "region": region, "api": api}
        for name, account, region, api in (*shared, *given)
    ]


@command(
    "hostname.add", "Add a host name, of all accounts or of one", inputs.NewHostname, "AddHostname", instance_wide=True
)
async def add_hostname(tx: Transaction, change: AdminChange, given: inputs.NewHostname) -> list[Json]:
    """No change if the instance has the name. Raises Invalid, NotFound and AlreadyExists."""
    name = canonical_hostname(given.name)
    if given.account is not None:
        await add_account_hostname(tx, await _account_hostname(tx, change, name, given.account, given))
        tx.audit_resources.append(f"arn:aws:iam::{given.account}:root")
    elif given.api is not None or given.region is not None:
        raise Invalid("account", "must be given with api and region")
    else:
        await add_hostnames(tx, [name])
    return await _list_hostnames(tx, change, given)


async def _account_hostname(
    tx: Transaction, change: AdminChange, name: str, account: str, given: inputs.NewHostname
) -> AccountHostname:
    """Raises Invalid, and NotFound for an unknown account."""
    await check_account(tx, account)
    regions = await list_regions(tx, account)
    if given.api is None:
        raise Invalid("api", "must be aws or yandex")
    if given.api == "yandex" and given.region is not None:
        raise Invalid("region", "cannot be given with api yandex, which has no regions")
    region = given.region or regions[0]
    if region not in regions:
        raise Invalid("region", f"must be a region of account {account}")
    return AccountHostname(Scope(account, region), name, given.api, change.now)


@command("hostname.first", "Give clients this host name", inputs.Hostname, "SetFirstHostname", instance_wide=True)
async def put_hostname_first(tx: Transaction, _change: AdminChange, given: inputs.Hostname) -> list[Json]:
    """Adds the name if the instance does not have it. Raises Invalid, and AlreadyExists if it is an account's."""
    name = canonical_hostname(given.name)
    others = [other for other in await list_hostnames(tx) if other != name]
    await put_hostnames(tx, [name, *others])
    return await _list_hostnames(tx, _change, given)


@command("hostname.remove", "Remove a host name", inputs.Hostname, "RemoveHostname", instance_wide=True)
async def remove_hostname(tx: Transaction, _change: AdminChange, given: inputs.Hostname) -> list[Json]:
    """Raises NotFound, and Invalid if no name would be left to give to clients."""
    name = canonical_hostname(given.name)
    if not await ACCOUNT_HOSTNAMES.delete(tx, name):
        names = await list_hostnames(tx)
        if name not in names:
            raise NotFound("host name", name)
        await put_hostnames(tx, [other for other in names if other != name])
    return await _list_hostnames(tx, _change, given)
