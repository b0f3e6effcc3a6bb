"""The administrator's commands, once for the command line, the admin socket and the native API.

Each is a noun and a verb, a model of its input, the name of its event, and what it answers, in plain JSON values.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thingmint.access.administration.accounts import (
    account_settings,
    create_account,
    create_folder,
    list_accounts,
    set_account_setting,
)
from thingmint.access.administration.credentials import (
    create_access_key,
    create_api_token,
    create_authorized_key,
    create_session,
    delete_credential,
    list_credentials,
    set_credential_status,
)
from thingmint.access.administration.policies import (
    attach_policy,
    delete_policy,
    detach_policy,
    get_policy,
    list_attachments,
    list_policies,
    put_policy,
)
from thingmint.access.administration.principals import (
    create_principal,
    delete_principal,
    list_principals,
    set_principal_status,
)
from thingmint.access.events import Events
from thingmint.access.inputs import (
    AccountSetting,
    Attachment,
    Credential,
    InAccount,
    Input,
    Named,
    NewAccountInput,
    NewRole,
    NewSessionInput,
    NewToken,
    NoInput,
    PolicyDocument,
    Principal,
)
from thingmint.access.operations import Operation
from thingmint.access.ready_made import READY_MADE
from thingmint.domain.errors import Denied, Invalid
from thingmint.domain.keys import generate_authorized_key
from thingmint.services.device_registry import list_folders
from thingmint.store.times import from_micros

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from thingmint.access.administration import AdminChange, PrincipalKind
    from thingmint.access.new_credentials import NewAccessKey, NewAuthorizedKey
    from thingmint.store.access import CredentialRow, PrincipalRow
    from thingmint.store.engine import Transaction

__all__ = ["COMMANDS", "Command", "authorized_key_document"]

Json = dict[str, Any]

_KEYS = ("access-key", "authorized-key", "session")
_TOKENS = ("api-token",)


@dataclass(frozen=True, slots=True)
class Command:
    """``instance_wide`` ones concern more than one account, so only the operator of the machine may.

    ``events`` is what the audit trail calls it, in the words of CloudTrail (for what IAM and STS have) or of Yandex
    Audit Trails (folders, service accounts, authorized keys); with thingmint: in front it is the action that has to
    be allowed. ``status`` is what it sets, where one event stands for disabling and enabling.
    """

    noun: str
    verb: str
    summary: str
    input: type[Input]
    apply: Callable[..., Awaitable[Any]]
    events: str | Events
    status: str | None = None
    instance_wide: bool = False
    prepare: Callable[[AdminChange, Any], Awaitable[Any]] | None = None

    @property
    def name(self) -> str:
        return f"{self.noun}.{self.verb}"

    @property
    def operation(self) -> Operation:
        writes = self.verb not in ("attached", "list", "show")
        return Operation(name=self.name, apply=self.apply, prepare=self.prepare, writes=writes)

    @property
    def usual_event(self) -> str:
        """The name before anything is known of the input."""
        return self.events if isinstance(self.events, str) else self.events.user

    def event(self, given: Input) -> str:
        """Raises Invalid for a principal that is none."""
        return self.events if isinstance(self.events, str) else self.events.of(given.kind)

    def parameters(self, given: Input) -> dict[str, str]:
        """What the audit trail tells of the input."""
        told = {name: str(getattr(given, name)) for name in given.TOLD}
        return told | {"status": self.status} if self.status else told


def _time(micros: int | None) -> str | None:
    return from_micros(micros).isoformat(timespec="seconds") if micros is not None else None


def _principal(row: PrincipalRow) -> Json:
    return {"id": row.id, "name": row.name, "status": row.status, "created_at": _time(row.created_at)}


def _credential(row: CredentialRow) -> Json:
    return {
        "id": row.id,
        "kind": row.kind,
        "status": row.status,
        "description": row.description,
        "created_at": _time(row.created_at),
        "expires_at": _time(row.expires_at),
        "last_used_at": _time(row.last_used_at),
    }


def _access_key(new: NewAccessKey) -> Json:
    return {"access_key_id": new.access_key_id, "secret_access_key": new.secret_access_key}


def authorized_key_document(new: NewAuthorizedKey) -> Json:
    """The form in which Yandex's console and SDKs keep a service account's key."""
    return {
        "id": new.id,
        "service_account_id": new.service_account,
        "created_at": _rfc3339(new.created_at),
        "key_algorithm": "RSA_2048",
        "public_key": new.public_key,
        "private_key": new.private_key,
    }


def _rfc3339(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


async def _create_account(
    tx: Transaction, change: AdminChange, given: NewAccountInput, pair: tuple[str, str] | None
) -> Json:
    new = await create_account(tx, change, given.name, given.region, pair)
    return {
        "account": new.account,
        "folder": new.folder,
        **_access_key(new.access_key),
        "token": new.api_token,
        "authorized_key": authorized_key_document(new.authorized_key),
    }


async def _list_accounts(tx: Transaction, change: AdminChange, given: NoInput) -> list[Json]:
    del given
    return [{"id": id, "name": name, "created_at": _time(at)} for id, name, at in await list_accounts(tx)]


async def _set_account(tx: Transaction, change: AdminChange, given: AccountSetting) -> Json:
    return {given.name: await set_account_setting(tx, change, given.account, given.name, given.value)}


async def _show_account(tx: Transaction, change: AdminChange, given: InAccount) -> Json:
    return {"id": given.account, **await account_settings(tx, given.account)}


async def _create_folder(tx: Transaction, change: AdminChange, given: Named) -> Json:
    return {"id": await create_folder(tx, change, given.account, given.name), "name": given.name}


async def _list_folders(tx: Transaction, change: AdminChange, given: InAccount) -> list[Json]:
    folders = await list_folders(tx, given.account)
    return [
        {"id": each.id, "name": each.name, "created_at": each.created_at.isoformat(timespec="seconds")}
        for each in folders
    ]


async def _create_role(tx: Transaction, change: AdminChange, given: NewRole) -> Json:
    return _principal(
        await create_principal(tx, change, given.account, "role", given.name, trust_policy=given.trust_policy)
    )


def _refuse_narrowed(change: AdminChange) -> None:
    """A session or token that was narrowed down must not make itself a wider one."""
    request = change.request
    if request and request.caller and request.caller.narrowed is not None:
        raise Denied(request.caller.arn, f"thingmint:{request.operation}", "*", explicit=False)


async def _new_pair(change: AdminChange, given: Input) -> tuple[str, str] | None:
    """A service account's RSA key, made off the event loop."""
    del change
    wanted = isinstance(given, NewAccountInput) or given.kind == "service-account"
    return await asyncio.to_thread(generate_authorized_key) if wanted else None


async def _create_key(tx: Transaction, change: AdminChange, given: Principal, pair: tuple[str, str] | None) -> Json:
    _refuse_narrowed(change)
    kind, name = given.parsed
    if kind == "service-account":
        return authorized_key_document(await create_authorized_key(tx, change, given.account, name, pair))
    if kind == "user":
        return _access_key(await create_access_key(tx, change, given.account, name))
    raise Invalid("principal", "is a role: it has no keys; make a session of it")


async def _list_keys(tx: Transaction, change: AdminChange, given: Principal) -> list[Json]:
    rows = await list_credentials(tx, given.account, *given.parsed, _KEYS)
    return [_credential(row) for row in rows]


async def _create_token(tx: Transaction, change: AdminChange, given: NewToken) -> Json:
    _refuse_narrowed(change)
    kind, name = given.parsed
    if kind != "user":
        raise Invalid("principal", "must be a user: tokens are for people and their scripts")
    token = await create_api_token(
        tx, change, given.account, name, policy=given.policy, lifetime=given.lifetime, description=given.description
    )
    return {"token": token}


async def _list_tokens(tx: Transaction, change: AdminChange, given: Principal) -> list[Json]:
    rows = await list_credentials(tx, given.account, *given.parsed, _TOKENS)
    return [_credential(row) for row in rows]


async def _create_session(tx: Transaction, change: AdminChange, given: NewSessionInput) -> Json:
    _refuse_narrowed(change)
    kind, name = given.parsed
    request = change.request
    new = await create_session(
        tx,
        change,
        given.account,
        kind,
        name,
        lifetime=given.duration,
        policy=given.policy,
        # The local administrator needs no role's trust.
        assumed_by=request.caller.arn if request and request.caller else None,
    )
    return {
        "access_key_id": new.access_key_id,
        "secret_access_key": new.secret_access_key,
        "session_token": new.session_token,
        "expires_at": _rfc3339(new.expires_at),
    }


async def _put_policy(tx: Transaction, change: AdminChange, given: PolicyDocument) -> Json:
    await put_policy(tx, change, given.account, given.name, given.document)
    return {"name": given.name}


async def _show_policy(tx: Transaction, change: AdminChange, given: Named) -> Json:
    return {"name": given.name, "document": await get_policy(tx, given.account, given.name)}


async def _list_policies(tx: Transaction, change: AdminChange, given: InAccount) -> list[Json]:
    own = [
        {"name": row.name, "ready_made": False, "modified_at": _time(row.modified_at)}
        for row in await list_policies(tx, given.account)
    ]
    return own + [{"name": name, "ready_made": True, "modified_at": None} for name in READY_MADE]


async def _delete_policy(tx: Transaction, change: AdminChange, given: Named) -> Json:
    await delete_policy(tx, change, given.account, given.name)
    return {"name": given.name, "deleted": True}


async def _attach_policy(tx: Transaction, change: AdminChange, given: Attachment) -> Json:
    await attach_policy(tx, change, given.account, *given.parsed, given.policy, given.resource)
    return {"principal": given.principal, "policy": given.policy, "resource": given.resource}


async def _detach_policy(tx: Transaction, change: AdminChange, given: Attachment) -> Json:
    await detach_policy(tx, change, given.account, *given.parsed, given.policy, given.resource)
    return {"principal": given.principal, "policy": given.policy, "resource": given.resource, "detached": True}


async def _list_attached(tx: Transaction, change: AdminChange, given: Principal) -> list[Json]:
    rows = await list_attachments(tx, given.account, *given.parsed)
    return [{"policy": row.policy, "resource": row.resource} for row in rows]


def _of_principals(kind: PrincipalKind, noun: str) -> list[Command]:
    """What users, roles and service accounts have in common."""

    async def create(tx: Transaction, change: AdminChange, given: Named) -> Json:
        return _principal(await create_principal(tx, change, given.account, kind, given.name))

    async def list_(tx: Transaction, change: AdminChange, given: InAccount) -> list[Json]:
        return [_principal(row) for row in await list_principals(tx, given.account, kind)]

    async def disable(tx: Transaction, change: AdminChange, given: Named) -> Json:
        await set_principal_status(tx, change, given.account, kind, given.name, active=False)
        return {"name": given.name, "status": "disabled"}

    async def enable(tx: Transaction, change: AdminChange, given: Named) -> Json:
        await set_principal_status(tx, change, given.account, kind, given.name, active=True)
        return {"name": given.name, "status": "active"}

    async def delete(tx: Transaction, change: AdminChange, given: Named) -> Json:
        await delete_principal(tx, change, given.account, kind, given.name)
        return {"name": given.name, "deleted": True}

    word = noun.title().replace(" ", "")
    update, off = f"Update{word}", f"Let a {noun} in no more, until it is enabled"
    commands = [
        Command(kind, "list", f"List the {noun}s of an account", InAccount, list_, f"List{word}s"),
        Command(kind, "disable", off, Named, disable, update, "disabled"),
        Command(kind, "enable", f"Let a {noun} in again", Named, enable, update, "active"),
        Command(kind, "delete", f"Delete a {noun} and its credentials", Named, delete, f"Delete{word}"),
    ]
    if kind != "role":
        summary = f"Make a {noun}; it may do nothing at first"
        commands.append(Command(kind, "create", summary, Named, create, f"Create{word}"))
    return commands


def _of_credentials(
    noun: str, kinds: tuple[str, ...], update_event: str | Events, delete_event: str | Events
) -> list[Command]:
    async def disable(tx: Transaction, change: AdminChange, given: Credential) -> Json:
        await set_credential_status(tx, change, given.account, given.id, kinds, active=False)
        return {"id": given.id, "status": "disabled"}

    async def enable(tx: Transaction, change: AdminChange, given: Credential) -> Json:
        await set_credential_status(tx, change, given.account, given.id, kinds, active=True)
        return {"id": given.id, "status": "active"}

    async def delete(tx: Transaction, change: AdminChange, given: Credential) -> Json:
        await delete_credential(tx, change, given.account, given.id, kinds)
        return {"id": given.id, "deleted": True}

    off = f"Refuse a {noun}, until it is enabled"
    return [
        Command(noun, "disable", off, Credential, disable, update_event, "disabled"),
        Command(noun, "enable", f"Take a {noun} again", Credential, enable, update_event, "active"),
        Command(noun, "delete", f"Delete a {noun}", Credential, delete, delete_event),
    ]


_KEY_SUMMARY = "Make an access key, or a service account's key"

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command(
            "account",
            "create",
            "Make an account with credentials",
            NewAccountInput,
            _create_account,
            "CreateAccount",
            instance_wide=True,
            prepare=_new_pair,
        ),
        Command("account", "list", "List the accounts", NoInput, _list_accounts, "ListAccounts", instance_wide=True),
        Command(
            "account",
            "set",
            "Turn a switch of an account on or off",
            AccountSetting,
            _set_account,
            "UpdateAccountSettings",
        ),
        Command("account", "show", "Show the switches of an account", InAccount, _show_account, "GetAccountSettings"),
        Command("folder", "create", "Make a folder for registries", Named, _create_folder, "CreateFolder"),
        Command("folder", "list", "List the folders of an account", InAccount, _list_folders, "ListFolders"),
        *_of_principals("user", "user"),
        *_of_principals("service-account", "service account"),
        Command("role", "create", "Make a role that others may assume", NewRole, _create_role, "CreateRole"),
        *_of_principals("role", "role"),
        Command("key", "create", _KEY_SUMMARY, Principal, _create_key, Events.of_keys("Create"), prepare=_new_pair),
        Command(
            "key",
            "list",
            "List the keys and sessions of a principal",
            Principal,
            _list_keys,
            Events.of_keys("List", "s"),
        ),
        *_of_credentials("key", _KEYS, Events.of_keys("Update"), Events.of_keys("Delete")),
        Command("token", "create", "Make a token for the native API", NewToken, _create_token, "CreateApiToken"),
        Command("token", "list", "List a user's tokens", Principal, _list_tokens, "ListApiTokens"),
        *_of_credentials("token", _TOKENS, "UpdateApiToken", "DeleteApiToken"),
        Command(
            "session",
            "create",
            "Make temporary AWS credentials",
            NewSessionInput,
            _create_session,
            # STS's operations: a role is assumed, anybody else gets a session of their own.
            Events("GetSessionToken", "AssumeRole", "GetSessionToken"),
        ),
        Command("policy", "put", "Write a policy", PolicyDocument, _put_policy, "CreatePolicy"),
        Command("policy", "show", "Show a policy", Named, _show_policy, "GetPolicy"),
        Command("policy", "list", "List the policies, ready-made ones too", InAccount, _list_policies, "ListPolicies"),
        Command("policy", "delete", "Delete a policy that is not attached", Named, _delete_policy, "DeletePolicy"),
        Command(
            "policy",
            "attach",
            "Attach a policy to a principal",
            Attachment,
            _attach_policy,
            Events.of_policies("Attach", "Policy"),
        ),
        Command(
            "policy", "detach", "Detach a policy", Attachment, _detach_policy, Events.of_policies("Detach", "Policy")
        ),
        Command(
            "policy",
            "attached",
            "List what is attached to a principal",
            Principal,
            _list_attached,
            Events.of_policies("ListAttached", "Policies"),
        ),
    )
}
