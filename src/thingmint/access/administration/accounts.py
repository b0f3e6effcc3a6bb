"""Accounts and their folders."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from thingmint.access.administration.common import check_account, check_name
from thingmint.access.new_credentials import NewAccount, access_key, api_token, authorized_key
from thingmint.domain.arns import Scope
from thingmint.domain.door import SETTINGS, DoorSettings, parse_switch
from thingmint.domain.errors import Invalid
from thingmint.domain.ids import FOLDER, PRINCIPAL, new_id
from thingmint.domain.keys import generate_authorized_key
from thingmint.domain.names import is_region
from thingmint.services.device_registry import FOLDERS, Folder
from thingmint.services.quotas import check_quota
from thingmint.store import access as sql
from thingmint.store import doorkeeping as door_sql
from thingmint.store.outbox import announce
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.access.administration.common import AdminChange
    from thingmint.store.engine import Transaction


_ADMINISTRATOR = "thingmint/Administrator"


async def create_account(
    tx: Transaction, change: AdminChange, name: str, regions: Sequence[str], pair: tuple[str, str] | None = None
) -> NewAccount:
    """An account with a folder, and an administrator and a service account who may do everything in it.

    ``pair`` is the service account's key, which takes long to make.
    """
    check_name(name)
    for region in regions:
        if not is_region(region):
            raise Invalid("region", "must be a region's name such as us-east-1")
    now = change.now
    account = change.once(lambda: f"{secrets.randbelow(9 * 10**11) + 10**11}")  # AWS account ids are 12 digits
    folder, *ids = change.once(lambda: (new_id(FOLDER), new_id(PRINCIPAL), new_id(PRINCIPAL)))
    user = sql.PrincipalRow(ids[0], account, "user", "administrator", to_micros(now))
    robot = sql.PrincipalRow(ids[1], account, "service-account", "administrator", to_micros(now))
    first_key, access_key_row = change.once(lambda: access_key(user.id, change.vault, now))
    first_token, api_token_row = change.once(
        lambda: api_token(user.id, now, policy=None, description="made with the account")
    )
    pair = pair or change.once(generate_authorized_key)
    first_authorized_key, authorized_key_row = change.once(lambda: authorized_key(robot.id, now, pair))
    await sql.insert_account(tx, account, name, to_micros(now))
    await sql.add_regions(tx, account, regions)
    await FOLDERS.insert(tx, Folder(folder, account, "default", now))
    for principal in (user, robot):
        await sql.insert_principal(tx, principal)
        await sql.attach_policy(tx, principal.id, _ADMINISTRATOR, "*", to_micros(now))
    for credential in (access_key_row, api_token_row, authorized_key_row):
        await sql.insert_credential(tx, credential)
    tx.audit_resources.append(f"arn:aws:iam::{account}:root")
    return NewAccount(account, folder, first_key, first_token, first_authorized_key)


async def list_accounts(tx: Transaction) -> list[tuple[str, str, int]]:
    """Id, name and when it was made (microseconds)."""
    return await sql.list_accounts(tx)


async def account_settings(tx: Transaction, account: str) -> dict[str, bool]:
    """All of them, in force or not told otherwise."""
    await check_account(tx, account)
    settings = DoorSettings.of(await door_sql.account_settings(tx, account))
    return {name: getattr(settings, name) for name in SETTINGS}


async def set_account_setting(tx: Transaction, change: AdminChange, account: str, name: str, value: str) -> bool:
    """Connected devices are authenticated again under it. Raises Invalid for an unknown one, or no truth value."""
    switch = parse_switch(name, value)
    await check_account(tx, account)
    kept = None if switch is SETTINGS[name] else value
    await door_sql.keep_account_setting(tx, account, name, kept)
    await announce(tx, Scope(account, ""), "account", account, change.now)
    tx.audit_resources.append(f"arn:aws:iam::{account}:root")
    return switch


async def create_folder(tx: Transaction, change: AdminChange, account: str, name: str) -> str:
    """The new folder's id."""
    check_name(name)
    id = change.once(lambda: new_id(FOLDER))
    await check_account(tx, account)
    await FOLDERS.insert(tx, Folder(id, account, name, change.now))
    await check_quota(tx, change.quotas, "folders", account)
    tx.audit_resources.append(f"yandex:folder/{id}")
    return id
