"""Accounts and their folders."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from thingmint.access.administration.common import Common, check_account, check_name
from thingmint.access.new_credentials import NewAccount, access_key, api_token, authorized_key
from thingmint.domain.door import SETTINGS, DoorSettings, parse_switch
from thingmint.domain.errors import Invalid
from thingmint.domain.ids import FOLDER, PRINCIPAL, new_id
from thingmint.domain.names import is_region
from thingmint.domain.registration import Scope
from thingmint.store import access as sql
from thingmint.store import doorkeeping as door_sql
from thingmint.store import fleet as fleet_sql
from thingmint.store.outbox import announce
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.store.engine import Transaction

__all__ = ["Accounts"]

_ADMINISTRATOR = "thingmint/Administrator"


class Accounts(Common):
    async def create_account(self, name: str, regions: Sequence[str]) -> NewAccount:
        """An account with a folder, and an administrator and a service account who may do everything in it."""
        check_name(name)
        for region in regions:
            if not is_region(region):
                raise Invalid("region", "must be a region's name such as us-east-1")
        now = self._clock()
        account = f"{secrets.randbelow(9 * 10**11) + 10**11}"  # AWS account ids are 12 digits
        folder = new_id(FOLDER)
        user = sql.PrincipalRow(new_id(PRINCIPAL), account, "user", "administrator", to_micros(now))
        robot = sql.PrincipalRow(new_id(PRINCIPAL), account, "service-account", "administrator", to_micros(now))
        first_key, access_key_row = access_key(user.id, self._vault, now)
        first_token, api_token_row = api_token(user.id, now, policy=None, description="made with the account")
        first_authorized_key, authorized_key_row = authorized_key(robot.id, now)

        async def body(tx: Transaction) -> None:
            await sql.insert_account(tx, account, name, to_micros(now))
            await sql.add_regions(tx, account, regions)
            await fleet_sql.insert_folder(tx, folder, account, "default", to_micros(now))
            for principal in (user, robot):
                await sql.insert_principal(tx, principal)
                await sql.attach_policy(tx, principal.id, _ADMINISTRATOR, "*", to_micros(now))
            for credential in (access_key_row, api_token_row, authorized_key_row):
                await sql.insert_credential(tx, credential)
            tx.audit_resources.append(f"arn:aws:iam::{account}:root")

        await self._store.write(body)
        return NewAccount(account, folder, first_key, first_token, first_authorized_key)

    async def list_accounts(self) -> list[tuple[str, str, int]]:
        """Id, name and when it was made (microseconds)."""
        return await self._store.read(sql.list_accounts)

    async def account_settings(self, account: str) -> dict[str, bool]:
        """All of them, in force or not told otherwise."""

        async def body(tx: Transaction) -> dict[str, bool]:
            await check_account(tx, account)
            settings = DoorSettings.of(await door_sql.account_settings(tx, account))
            return {name: getattr(settings, name) for name in SETTINGS}

        return await self._store.read(body)

    async def set_account_setting(self, account: str, name: str, value: str) -> bool:
        """Devices that are connected are judged anew by it. Raises Invalid for an unknown one, or no truth value."""
        switch, now = parse_switch(name, value), self._clock()

        async def body(tx: Transaction) -> None:
            await check_account(tx, account)
            kept = None if switch is SETTINGS[name] else value
            await door_sql.keep_account_setting(tx, account, name, kept)
            await announce(tx, Scope(account, ""), "account", account, now)
            tx.audit_resources.append(f"arn:aws:iam::{account}:root")

        await self._store.write(body)
        return switch

    async def create_folder(self, account: str, name: str) -> str:
        """The new folder's id."""
        id, now = new_id(FOLDER), to_micros(self._clock())
        check_name(name)

        async def body(tx: Transaction) -> None:
            await check_account(tx, account)
            await fleet_sql.insert_folder(tx, id, account, name, now)
            await self._check_quota(tx, "folders", account)
            tx.audit_resources.append(f"yandex:folder/{id}")

        await self._store.write(body)
        return id

    async def list_folders(self, account: str) -> list[tuple[str, str, int]]:
        async def body(tx: Transaction) -> list[tuple[str, str, int]]:
            return await fleet_sql.list_folders(tx, account)

        return await self._store.read(body)
