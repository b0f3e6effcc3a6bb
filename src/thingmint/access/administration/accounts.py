"""Accounts with their regions, switches and folders, and each account's first credentials."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Any

from thingmint.access.administration import inputs
from thingmint.access.administration.credentials import (
    new_access_key,
    new_api_token,
    new_authorized_key,
    prepare_key_pair,
)
from thingmint.access.administration.declaring import Json, Secrets, check_account, check_name, command, shown
from thingmint.access.administration.policies import ATTACHMENTS, Attachment
from thingmint.access.administration.principals import PRINCIPALS, Principal, find_first_user
from thingmint.domain.arns import Scope
from thingmint.domain.errors import AlreadyExists, Invalid, LimitExceeded
from thingmint.domain.ids import FOLDER, PRINCIPAL, new_id
from thingmint.domain.names import is_region
from thingmint.services.accounts import SETTINGS, get_settings, keep_setting, parse_switch
from thingmint.services.device_registry import FOLDERS, Folder, list_folders
from thingmint.services.hostnames import give_hostnames
from thingmint.services.quotas import check_quota
from thingmint.store.outbox import publish_access_change, publish_change
from thingmint.store.table import Table, record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.access.administration.declaring import AdminChange
    from thingmint.store.engine import Transaction

_ADMINISTRATOR = "thingmint/Administrator"


@record
class Account:
    id: str  # 12 digits, as AWS's
    name: str
    created_at: datetime


ACCOUNTS = Table(Account, "accounts", "account", key=("id",))

_BY_AGE = f"{ACCOUNTS.select}ORDER BY created_at, id"
_REGIONS = "SELECT region FROM account_regions WHERE account = $1 ORDER BY position"
_ADD_REGION = "INSERT INTO account_regions (account, region, position) VALUES ($1, $2, $3)"


async def list_accounts(tx: Transaction) -> list[Account]:
    """All accounts, the oldest first: the one that was made with the instance."""
    return ACCOUNTS.load_all(await tx.fetch_all(_BY_AGE))


async def list_regions(tx: Transaction, account: str) -> list[str]:
    """The account's regions; the first is its home region."""
    return [region for (region,) in await tx.fetch_all(_REGIONS, account)]


async def add_regions(tx: Transaction, account: str, regions: Sequence[str]) -> list[str]:
    """Adds ``regions`` to the account. Returns those that it did not have before."""
    known = await list_regions(tx, account)
    new = [region for region in dict.fromkeys(regions) if region not in known]
    for position, region in enumerate(new, start=len(known)):
        await tx.execute(_ADD_REGION, account, region, position)
    return new


async def extend_instance(
    tx: Transaction, hostnames: Sequence[str], regions: Sequence[str], now: datetime
) -> tuple[list[str], list[str]]:
    """Adds host names, and regions to the first account. Returns the new host names and the new regions.

    Raises AlreadyExists if an account has one of the host names.
    """
    administrator = await find_first_user(tx)
    names, added = await give_hostnames(tx, hostnames), await add_regions(tx, administrator.account, regions)
    if names or added:
        await publish_access_change(tx, now)
    return names, added


async def new_account(
    tx: Transaction,
    change: AdminChange,
    name: str,
    regions: Sequence[str],
    pair: tuple[str, str],
    id: str | None = None,
) -> Secrets:
    """Creates an account with a folder, and with an administrator and a service account that may do everything in it.

    Returns their credentials. ``pair`` is the service account's key (private and public PEM). Raises Invalid, and
    AlreadyExists if there is an account with that ``id``.
    """
    check_name(name)
    for region in regions:
        if not is_region(region):
            raise Invalid("region", "must be a region's name such as us-east-1")
    id = id or change.once(lambda: f"{secrets.randbelow(9 * 10**11) + 10**11}")
    folder = Folder(change.once(lambda: new_id(FOLDER)), id, "default", change.now)
    user, service_account = (
        Principal(change.once(lambda: new_id(PRINCIPAL)), id, kind, "administrator", change.now)
        for kind in ("user", "service-account")
    )
    if not await ACCOUNTS.insert(tx, Account(id, name, change.now)):
        raise AlreadyExists("account", id)
    await add_regions(tx, id, regions)
    await FOLDERS.insert(tx, folder)
    for principal in (user, service_account):
        await PRINCIPALS.insert(tx, principal)
        await ATTACHMENTS.insert(tx, Attachment(principal.id, _ADMINISTRATOR, "*", change.now))
    access_key = await new_access_key(tx, change, user.id)
    token = await new_api_token(tx, change, user.id, description="made with the account")
    authorized_key = await new_authorized_key(tx, change, service_account.id, pair)
    tx.audit_resources.append(f"arn:aws:iam::{id}:root")
    return Secrets(account=id, folder=folder.id, **access_key, token=token, authorized_key=authorized_key)


@command(
    "account.create",
    "Make an account with credentials",
    inputs.NewAccountInput,
    "CreateAccount",
    prepare=prepare_key_pair,
    instance_wide=True,
)
async def create_account(
    tx: Transaction, change: AdminChange, given: inputs.NewAccountInput, pair: tuple[str, str]
) -> Secrets:
    return await new_account(tx, change, given.name, given.region, pair, given.id)


@command("account.list", "List the accounts", inputs.NoInput, "ListAccounts", instance_wide=True)
async def _list_accounts(tx: Transaction, _change: AdminChange, _given: Any) -> list[Json]:
    return [{"id": row.id, "name": row.name, "created_at": shown(row.created_at)} for row in await list_accounts(tx)]


@command("account.set", "Turn a switch of an account on or off", inputs.AccountSetting, "UpdateAccountSettings")
async def set_account_setting(tx: Transaction, change: AdminChange, given: inputs.AccountSetting) -> Json:
    """Sets the switch. Connected devices are authenticated again. Raises Invalid for an unknown name or a bad value."""
    switch = parse_switch(given.name, given.value)
    await check_account(tx, given.account)
    kept = None if switch is SETTINGS[given.name] else given.value
    await keep_setting(tx, given.account, given.name, kept)
    await publish_change(tx, Scope(given.account, ""), "account", given.account, change.now)
    tx.audit_resources.append(f"arn:aws:iam::{given.account}:root")
    return {given.name: switch}


@command("account.show", "Show the switches of an account", inputs.InAccount, "GetAccountSettings")
async def show_account_settings(tx: Transaction, _change: AdminChange, given: inputs.InAccount) -> Json:
    """All switches with their values; a switch that was never set has its default."""
    await check_account(tx, given.account)
    settings = await get_settings(tx, given.account)
    return {"id": given.account, **{name: getattr(settings, name) for name in SETTINGS}}


@command("region.add", "Add a region to an account", inputs.Region, "EnableRegion")
async def add_region(tx: Transaction, change: AdminChange, given: inputs.Region) -> Json:
    """Lets AWS clients sign for the region. No change if the account has it. Raises LimitExceeded."""
    await check_account(tx, given.account)
    added = await add_regions(tx, given.account, [given.name])
    regions = await list_regions(tx, given.account)
    if added and len(regions) > inputs.MAX_REGIONS:
        raise LimitExceeded("region", given.name, f"The account has {inputs.MAX_REGIONS} regions already")
    tx.audit_resources.extend(f"arn:aws:iam::{given.account}:root" for _ in added)
    return {"account": given.account, "regions": regions}


@command("region.list", "List the regions of an account, its home first", inputs.InAccount, "ListRegions")
async def _list_regions(tx: Transaction, _change: AdminChange, given: inputs.InAccount) -> list[Json]:
    await check_account(tx, given.account)
    return [{"name": region} for region in await list_regions(tx, given.account)]


@command("folder.create", "Make a folder for registries", inputs.Named, "CreateFolder")
async def create_folder(tx: Transaction, change: AdminChange, given: inputs.Named) -> Json:
    folder = Folder(change.once(lambda: new_id(FOLDER)), given.account, given.name, change.now)
    await check_account(tx, given.account)
    await FOLDERS.insert(tx, folder)
    await check_quota(tx, change.quotas, "folders", given.account)
    tx.audit_resources.append(f"yandex:folder/{folder.id}")
    return {"id": folder.id, "name": folder.name}


@command("folder.list", "List the folders of an account", inputs.InAccount, "ListFolders")
async def _list_folders(tx: Transaction, _change: AdminChange, given: inputs.InAccount) -> list[Json]:
    folders = await list_folders(tx, given.account)
    return [{"id": row.id, "name": row.name, "created_at": shown(row.created_at)} for row in folders]
