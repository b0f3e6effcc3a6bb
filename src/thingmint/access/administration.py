"""Accounts, principals, credentials and policies: making, changing and ending them."""

from __future__ import annotations

import re
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from thingmint.access.new_credentials import (
    NewAccessKey,
    NewAccount,
    NewAuthorizedKey,
    NewSession,
    access_key,
    api_token,
    authorized_key,
    session,
)
from thingmint.access.ready_made import is_ready_made, ready_made
from thingmint.identity.door import SETTINGS, DoorSettings, parse_switch
from thingmint.identity.errors import AlreadyExists, Conflict, Denied, Invalid, LimitExceeded, NotFound
from thingmint.identity.ids import FOLDER, PRINCIPAL, new_id
from thingmint.identity.names import is_region
from thingmint.identity.policy import Deny, Kind, Principal, Request, compile_policy, evaluate
from thingmint.identity.registration import Scope
from thingmint.storage import access as sql
from thingmint.storage import doorkeeping as door_sql
from thingmint.storage import fleet as fleet_sql
from thingmint.storage.outbox import announce
from thingmint.storage.times import to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from thingmint.access.vault import Vault
    from thingmint.storage.engine import Store, Transaction

__all__ = ["Administration", "PrincipalKind"]

PrincipalKind = Literal["user", "role", "service-account"]

_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)  # IAM's rule for user names
_POLICY_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_MAX_POLICY_SIZE = 6144  # characters without white space, IAM's limit
_MAX_CREDENTIALS = 10  # of one kind, for each principal
_MAX_ATTACHMENTS = 20
_SHORTEST_SESSION = timedelta(minutes=1)
_LONGEST_SESSION = timedelta(hours=36)
_LONGEST_TOKEN = timedelta(days=3653)

ADMINISTRATOR = "thingmint/Administrator"


class Administration:
    """Every method is one transaction. Principals are named by kind and name within their account."""

    def __init__(self, store: Store, vault: Vault, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock

    async def create_account(self, name: str, regions: Sequence[str]) -> NewAccount:
        """An account with a folder, and an administrator and a service account who may do everything in it."""
        _check_name(name)
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
                await sql.attach_policy(tx, principal.id, ADMINISTRATOR, "*", to_micros(now))
            for credential in (access_key_row, api_token_row, authorized_key_row):
                await sql.insert_credential(tx, credential)
            tx.subjects.append(f"arn:aws:iam::{account}:root")

        await self._store.write(body)
        return NewAccount(account, folder, first_key, first_token, first_authorized_key)

    async def list_accounts(self) -> list[tuple[str, str, int]]:
        """Id, name and when it was made (microseconds)."""
        return await self._store.read(sql.list_accounts)

    async def account_settings(self, account: str) -> dict[str, bool]:
        """All of them, in force or not told otherwise."""

        async def body(tx: Transaction) -> dict[str, bool]:
            await _check_account(tx, account)
            settings = DoorSettings.of(await door_sql.account_settings(tx, account))
            return {name: getattr(settings, name) for name in SETTINGS}

        return await self._store.read(body)

    async def set_account_setting(self, account: str, name: str, value: str) -> bool:
        """Devices that are connected are judged anew by it. Raises Invalid for an unknown one, or no truth value."""
        switch, now = parse_switch(name, value), self._clock()

        async def body(tx: Transaction) -> None:
            await _check_account(tx, account)
            kept = None if switch is SETTINGS[name] else value
            await door_sql.keep_account_setting(tx, account, name, kept)
            await announce(tx, Scope(account, ""), "account", account, now)
            tx.subjects.append(f"arn:aws:iam::{account}:root")

        await self._store.write(body)
        return switch

    async def create_folder(self, account: str, name: str) -> str:
        """The new folder's id."""
        id, now = new_id(FOLDER), to_micros(self._clock())
        _check_name(name)

        async def body(tx: Transaction) -> None:
            await _check_account(tx, account)
            await fleet_sql.insert_folder(tx, id, account, name, now)
            tx.subjects.append(f"yandex:folder/{id}")

        await self._store.write(body)
        return id

    async def list_folders(self, account: str) -> list[tuple[str, str, int]]:
        async def body(tx: Transaction) -> list[tuple[str, str, int]]:
            return await fleet_sql.list_folders(tx, account)

        return await self._store.read(body)

    async def create_principal(
        self, account: str, kind: PrincipalKind, name: str, *, trust_policy: str | None = None
    ) -> sql.PrincipalRow:
        """It may do nothing until a policy is attached. Only roles have, and need, a trust policy."""
        _check_name(name)
        if (kind == "role") != (trust_policy is not None):
            raise Invalid("trust_policy", "is needed for a role, and for nothing else")
        if trust_policy is not None:
            compile_policy(trust_policy, kind=Kind.TRUST, name=name, max_size=_MAX_POLICY_SIZE)
        row = sql.PrincipalRow(
            new_id(PRINCIPAL), account, kind, name, to_micros(self._clock()), trust_policy=trust_policy
        )

        async def body(tx: Transaction) -> None:
            await _check_account(tx, account)
            if not await sql.insert_principal(tx, row):
                raise AlreadyExists(kind, name)
            tx.subjects.append(row.arn)

        await self._store.write(body)
        return row

    async def list_principals(self, account: str, kind: PrincipalKind) -> list[sql.PrincipalRow]:
        async def body(tx: Transaction) -> list[sql.PrincipalRow]:
            return await sql.list_principals(tx, account, kind)

        return await self._store.read(body)

    async def set_principal_status(self, account: str, kind: PrincipalKind, name: str, *, active: bool) -> None:
        async def body(tx: Transaction) -> None:
            principal = await _principal(tx, account, kind, name)
            await sql.set_principal_status(tx, principal.id, _status(active))
            tx.subjects.append(principal.arn)

        await self._store.write(body)

    async def delete_principal(self, account: str, kind: PrincipalKind, name: str) -> None:
        """With its credentials; they stop working at once."""

        async def body(tx: Transaction) -> None:
            principal = await _principal(tx, account, kind, name)
            await sql.delete_principal(tx, principal.id)
            tx.subjects.append(principal.arn)

        await self._store.write(body)

    async def create_access_key(self, account: str, user: str) -> NewAccessKey:
        principal = await self._find(account, "user", user)
        new, row = access_key(principal.id, self._vault, self._clock())
        await self._add_credential(row, principal.arn)
        return new

    async def create_authorized_key(self, account: str, service_account: str) -> NewAuthorizedKey:
        principal = await self._find(account, "service-account", service_account)
        new, row = authorized_key(principal.id, self._clock())
        await self._add_credential(row, principal.arn)
        return new

    async def create_api_token(
        self,
        account: str,
        user: str,
        *,
        policy: str | None = None,
        lifetime: timedelta | None = None,
        description: str = "",
    ) -> str:
        """``policy`` narrows the token down to a part of what its user may."""
        if policy is not None:
            compile_policy(policy, kind=Kind.SESSION, max_size=_MAX_POLICY_SIZE)
        if lifetime is not None and not timedelta(seconds=1) <= lifetime <= _LONGEST_TOKEN:
            raise Invalid("lifetime", "must be between 1 second and 10 years")
        principal = await self._find(account, "user", user)
        now = self._clock()
        new, row = api_token(principal.id, now, policy=policy, description=description)
        if lifetime is not None:
            row = row._replace(expires_at=to_micros(now + lifetime))
        await self._add_credential(row, principal.arn)
        return new

    async def create_session(
        self,
        account: str,
        kind: PrincipalKind,
        name: str,
        *,
        lifetime: timedelta,
        policy: str | None = None,
        assumed_by: str | None = None,
    ) -> NewSession:
        """Temporary AWS credentials of a user or role, narrowed down by ``policy``.

        ``assumed_by`` is the ARN of who asks for them: a role has to trust it. Raises Denied.
        """
        if not _SHORTEST_SESSION <= lifetime <= _LONGEST_SESSION:
            raise Invalid("duration", "must be between 1 minute and 36 hours")
        if policy is not None:
            compile_policy(policy, kind=Kind.SESSION, max_size=_MAX_POLICY_SIZE)
        principal = await self._find(account, kind, name)
        if principal.trust_policy is not None and assumed_by is not None:
            _check_trust(principal, principal.trust_policy, assumed_by)
        now = self._clock()
        new, row = session(principal.id, self._vault, now, lifetime=lifetime, policy=policy)
        await self._add_credential(row, principal.arn)
        return new

    async def list_credentials(
        self, account: str, kind: PrincipalKind, name: str, kinds: Sequence[str]
    ) -> list[sql.CredentialRow]:
        async def body(tx: Transaction) -> list[sql.CredentialRow]:
            principal = await _principal(tx, account, kind, name)
            return await sql.list_credentials(tx, principal.id, kinds)

        return await self._store.read(body)

    async def set_credential_status(self, account: str, id: str, *, active: bool) -> None:
        async def body(tx: Transaction) -> None:
            principal = await _owner(tx, account, id)
            await sql.set_credential_status(tx, id, _status(active))
            tx.subjects.append(principal.arn)

        await self._store.write(body)

    async def delete_credential(self, account: str, id: str) -> None:
        async def body(tx: Transaction) -> None:
            principal = await _owner(tx, account, id)
            await sql.delete_credential(tx, id)
            tx.subjects.append(principal.arn)

        await self._store.write(body)

    async def put_policy(self, account: str, name: str, document: str) -> None:
        """Makes it, or gives it another document; whoever has it attached is ruled by that at once."""
        if not _POLICY_NAME.fullmatch(name):
            raise Invalid("name", "must be 1 to 128 letters, digits or any of +=,.@_-")
        compile_policy(document, kind=Kind.IDENTITY, name=name, max_size=_MAX_POLICY_SIZE)
        now = to_micros(self._clock())

        async def body(tx: Transaction) -> None:
            await _check_account(tx, account)
            await sql.put_policy(tx, sql.PolicyRow(account, name, document, now, now))
            tx.subjects.append(f"arn:aws:iam::{account}:policy/{name}")

        await self._store.write(body)

    async def get_policy(self, account: str, name: str) -> str:
        """The document, also of a ready-made policy."""
        if is_ready_made(name):
            document = ready_made(name, "*")
            if document is None:
                raise NotFound("policy", name)
            return document

        async def body(tx: Transaction) -> str:
            policy = await sql.get_policy(tx, account, name)
            if policy is None:
                raise NotFound("policy", name)
            return policy.document

        return await self._store.read(body)

    async def list_policies(self, account: str) -> list[sql.PolicyRow]:
        async def body(tx: Transaction) -> list[sql.PolicyRow]:
            return await sql.list_policies(tx, account)

        return await self._store.read(body)

    async def delete_policy(self, account: str, name: str) -> None:
        async def body(tx: Transaction) -> None:
            if await sql.get_policy(tx, account, name) is None:
                raise NotFound("policy", name)
            if await sql.is_policy_attached(tx, account, name):
                raise Conflict("policy", name, f"Policy {name} is attached: detach it first")
            await sql.delete_policy(tx, account, name)
            tx.subjects.append(f"arn:aws:iam::{account}:policy/{name}")

        await self._store.write(body)

    async def attach_policy(
        self, account: str, kind: PrincipalKind, name: str, policy: str, resource: str = "*"
    ) -> None:
        """``policy`` is one of the account's, or a ready-made one; only a role of Yandex's takes a ``resource``."""
        if is_ready_made(policy) and ready_made(policy, resource) is None:
            raise NotFound("policy", policy)
        if resource != "*" and not policy.startswith("yandex/"):
            raise Invalid("resource", "can be given for a role of Yandex's only")
        now = to_micros(self._clock())

        async def body(tx: Transaction) -> None:
            principal = await _principal(tx, account, kind, name)
            if not is_ready_made(policy) and await sql.get_policy(tx, account, policy) is None:
                raise NotFound("policy", policy)
            await sql.attach_policy(tx, principal.id, policy, resource, now)
            if len(await sql.list_attachments(tx, principal.id)) > _MAX_ATTACHMENTS:
                raise LimitExceeded(kind, name, f"At most {_MAX_ATTACHMENTS} policies can be attached")
            tx.subjects.append(principal.arn)

        await self._store.write(body)

    async def detach_policy(
        self, account: str, kind: PrincipalKind, name: str, policy: str, resource: str = "*"
    ) -> None:
        async def body(tx: Transaction) -> None:
            principal = await _principal(tx, account, kind, name)
            if not await sql.detach_policy(tx, principal.id, policy, resource):
                raise NotFound("policy attachment", policy)
            tx.subjects.append(principal.arn)

        await self._store.write(body)

    async def list_attachments(self, account: str, kind: PrincipalKind, name: str) -> list[sql.AttachmentRow]:
        async def body(tx: Transaction) -> list[sql.AttachmentRow]:
            principal = await _principal(tx, account, kind, name)
            return await sql.list_attachments(tx, principal.id)

        return await self._store.read(body)

    async def reseal(self) -> int:
        """Seals every secret under the master key that is in force; how many there are."""

        async def body(tx: Transaction) -> int:
            sealed = await sql.list_sealed(tx)
            for id, secret in sealed:
                await sql.replace_secret(tx, id, self._vault.seal(self._vault.open(secret, id), id))
            return len(sealed)

        return await self._store.write(body)

    async def _find(self, account: str, kind: PrincipalKind, name: str) -> sql.PrincipalRow:
        async def body(tx: Transaction) -> sql.PrincipalRow:
            return await _principal(tx, account, kind, name)

        return await self._store.read(body)

    async def _add_credential(self, row: sql.CredentialRow, subject: str) -> None:
        async def body(tx: Transaction) -> None:
            if await sql.get_principal(tx, row.principal) is None:
                raise NotFound("principal", row.principal)
            await sql.insert_credential(tx, row)
            # Sessions end by themselves.
            if (
                row.kind != "session"
                and len(await sql.list_credentials(tx, row.principal, [row.kind])) > _MAX_CREDENTIALS
            ):
                raise LimitExceeded("principal", row.principal, f"At most {_MAX_CREDENTIALS} credentials of a kind")
            tx.subjects.append(subject)

        await self._store.write(body)


def _check_trust(role: sql.PrincipalRow, trust_policy: str, assumed_by: str) -> None:
    asking = Principal("AWS", (assumed_by,), role.account)
    trust = compile_policy(trust_policy, kind=Kind.TRUST, name=f"trust of {role.name}")
    decision = evaluate([trust], Request("sts:AssumeRole", role.arn, principal=asking))
    if isinstance(decision, Deny):
        raise Denied(assumed_by, "sts:AssumeRole", role.arn, explicit=decision.explicit)


def _status(active: bool) -> str:
    return "active" if active else "disabled"


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Invalid("name", "must be 1 to 64 letters, digits or any of +=,.@_-")


async def _check_account(tx: Transaction, account: str) -> None:
    if not await sql.has_account(tx, account):
        raise NotFound("account", account)


async def _principal(tx: Transaction, account: str, kind: str, name: str) -> sql.PrincipalRow:
    principal = await sql.find_principal(tx, account, kind, name)
    if principal is None:
        raise NotFound(kind, name)
    return principal


async def _owner(tx: Transaction, account: str, credential: str) -> sql.PrincipalRow:
    row = await sql.get_credential(tx, credential)
    principal = await sql.get_principal(tx, row.principal) if row else None
    if principal is None or principal.account != account:
        raise NotFound("credential", credential)
    return principal
