"""The administrator's commands, once for the command line, the admin socket and the native API.

Each is a noun and a verb, a model of its input, and what it answers, in plain JSON values.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from thingmint.access.exchange import CURRENT, Exchange
from thingmint.access.ready_made import READY_MADE
from thingmint.identity.durations import parse_duration
from thingmint.identity.errors import Denied, Invalid, NotFound
from thingmint.storage.times import from_micros

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from thingmint.access.administration import Administration
    from thingmint.access.new_credentials import NewAccessKey, NewAuthorizedKey
    from thingmint.storage.access import CredentialRow, PrincipalRow

__all__ = ["COMMANDS", "Command", "InAccount", "as_operator", "authorized_key_document"]

Json = dict[str, Any]
PrincipalKind = Literal["user", "role", "service-account"]


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class InAccount(_Input):
    """Without ``account``: over the API the caller's own, on the command line the first."""

    account: str = Field("", pattern=r"^(\d{12})?$")


class Named(InAccount):
    name: str = Field(max_length=128)


class NewAccountInput(_Input):
    name: str = Field(max_length=64)
    region: list[str] = Field(default_factory=lambda: ["us-east-1"], min_length=1, max_length=50)


class AccountSetting(InAccount):
    name: str = Field(max_length=64)
    value: str = Field(max_length=8)


class NoInput(_Input):
    pass


class NewRole(Named):
    trust_policy: str = Field(max_length=32768)


class Principal(InAccount):
    """``principal`` is kind/name, such as user/alice; a bare name is a user's."""

    principal: str = Field(max_length=128)

    @property
    def parsed(self) -> tuple[PrincipalKind, str]:
        kind, separator, name = self.principal.rpartition("/")
        match kind if separator else "user":
            case "user":
                return "user", name
            case "role":
                return "role", name
            case "service-account":
                return "service-account", name
        raise Invalid("principal", "must be user/NAME, role/NAME or service-account/NAME")


class Credential(InAccount):
    id: str = Field(max_length=64)


class NewToken(Principal):
    policy: str | None = Field(None, max_length=32768)
    lifetime: Duration | None = None
    description: str = Field("", max_length=256)


class NewSessionInput(Principal):
    duration: Duration = timedelta(hours=1)
    policy: str | None = Field(None, max_length=32768)


class PolicyDocument(Named):
    document: str = Field(max_length=32768)


class Attachment(Principal):
    policy: str = Field(max_length=128)
    resource: str = Field("*", max_length=256)


@dataclass(frozen=True, slots=True)
class Command:
    """``instance_wide`` ones concern more than one account, so only the operator of the machine may."""

    noun: str
    verb: str
    summary: str
    input: type[BaseModel]
    run: Callable[[Administration, Any], Awaitable[Any]]
    instance_wide: bool = False

    @property
    def name(self) -> str:
        return f"{self.noun}.{self.verb}"

    @property
    def action(self) -> str:
        """What has to be allowed: thingmint:CreateUser and so on."""
        noun = "".join(word.capitalize() for word in self.noun.split("-"))
        verb = "".join(word.capitalize() for word in self.verb.split("-"))
        return f"thingmint:{verb}{noun}"


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


async def _create_account(admin: Administration, given: NewAccountInput) -> Json:
    new = await admin.create_account(given.name, given.region)
    return {
        "account": new.account,
        "folder": new.folder,
        **_access_key(new.access_key),
        "token": new.api_token,
        "authorized_key": authorized_key_document(new.authorized_key),
    }


async def _list_accounts(admin: Administration, given: NoInput) -> list[Json]:
    del given
    return [{"id": id, "name": name, "created_at": _time(at)} for id, name, at in await admin.list_accounts()]


async def _set_account(admin: Administration, given: AccountSetting) -> Json:
    return {given.name: await admin.set_account_setting(given.account, given.name, given.value)}


async def _show_account(admin: Administration, given: InAccount) -> Json:
    return {"id": given.account, **await admin.account_settings(given.account)}


async def _create_folder(admin: Administration, given: Named) -> Json:
    return {"id": await admin.create_folder(given.account, given.name), "name": given.name}


async def _list_folders(admin: Administration, given: InAccount) -> list[Json]:
    folders = await admin.list_folders(given.account)
    return [{"id": id, "name": name, "created_at": _time(at)} for id, name, at in folders]


async def _create_role(admin: Administration, given: NewRole) -> Json:
    return _principal(await admin.create_principal(given.account, "role", given.name, trust_policy=given.trust_policy))


def _refuse_narrowed(action: str) -> None:
    """A session or token that was narrowed down must not make itself a wider one."""
    exchange = CURRENT.get()
    if exchange and exchange.caller and exchange.caller.narrowed is not None:
        raise Denied(exchange.caller.arn, action, "*", explicit=False)


async def _create_key(admin: Administration, given: Principal) -> Json:
    _refuse_narrowed("thingmint:CreateKey")
    kind, name = given.parsed
    if kind == "service-account":
        return authorized_key_document(await admin.create_authorized_key(given.account, name))
    if kind == "user":
        return _access_key(await admin.create_access_key(given.account, name))
    raise Invalid("principal", "is a role: it has no keys; make a session of it")


async def _list_keys(admin: Administration, given: Principal) -> list[Json]:
    rows = await admin.list_credentials(given.account, *given.parsed, ("access-key", "authorized-key", "session"))
    return [_credential(row) for row in rows]


async def _create_token(admin: Administration, given: NewToken) -> Json:
    _refuse_narrowed("thingmint:CreateToken")
    kind, name = given.parsed
    if kind != "user":
        raise Invalid("principal", "must be a user: tokens are for people and their scripts")
    token = await admin.create_api_token(
        given.account, name, policy=given.policy, lifetime=given.lifetime, description=given.description
    )
    return {"token": token}


async def _list_tokens(admin: Administration, given: Principal) -> list[Json]:
    rows = await admin.list_credentials(given.account, *given.parsed, ("api-token",))
    return [_credential(row) for row in rows]


async def _create_session(admin: Administration, given: NewSessionInput) -> Json:
    _refuse_narrowed("thingmint:CreateSession")
    kind, name = given.parsed
    exchange = CURRENT.get()
    new = await admin.create_session(
        given.account,
        kind,
        name,
        lifetime=given.duration,
        policy=given.policy,
        # The operator of the machine needs nobody's trust.
        assumed_by=exchange.caller.arn if exchange and exchange.caller else None,
    )
    return {
        "access_key_id": new.access_key_id,
        "secret_access_key": new.secret_access_key,
        "session_token": new.session_token,
        "expires_at": _rfc3339(new.expires_at),
    }


async def _disable_credential(admin: Administration, given: Credential) -> Json:
    await admin.set_credential_status(given.account, given.id, active=False)
    return {"id": given.id, "status": "disabled"}


async def _enable_credential(admin: Administration, given: Credential) -> Json:
    await admin.set_credential_status(given.account, given.id, active=True)
    return {"id": given.id, "status": "active"}


async def _delete_credential(admin: Administration, given: Credential) -> Json:
    await admin.delete_credential(given.account, given.id)
    return {"id": given.id, "deleted": True}


async def _put_policy(admin: Administration, given: PolicyDocument) -> Json:
    await admin.put_policy(given.account, given.name, given.document)
    return {"name": given.name}


async def _show_policy(admin: Administration, given: Named) -> Json:
    return {"name": given.name, "document": await admin.get_policy(given.account, given.name)}


async def _list_policies(admin: Administration, given: InAccount) -> list[Json]:
    own = [
        {"name": row.name, "ready_made": False, "modified_at": _time(row.modified_at)}
        for row in await admin.list_policies(given.account)
    ]
    return own + [{"name": name, "ready_made": True, "modified_at": None} for name in READY_MADE]


async def _delete_policy(admin: Administration, given: Named) -> Json:
    await admin.delete_policy(given.account, given.name)
    return {"name": given.name, "deleted": True}


async def _attach_policy(admin: Administration, given: Attachment) -> Json:
    await admin.attach_policy(given.account, *given.parsed, given.policy, given.resource)
    return {"principal": given.principal, "policy": given.policy, "resource": given.resource}


async def _detach_policy(admin: Administration, given: Attachment) -> Json:
    await admin.detach_policy(given.account, *given.parsed, given.policy, given.resource)
    return {"principal": given.principal, "policy": given.policy, "resource": given.resource, "detached": True}


async def _list_attached(admin: Administration, given: Principal) -> list[Json]:
    rows = await admin.list_attachments(given.account, *given.parsed)
    return [{"policy": row.policy, "resource": row.resource} for row in rows]


def _of_principals(kind: PrincipalKind, noun: str) -> list[Command]:
    """What users, roles and service accounts have in common."""

    async def create(admin: Administration, given: Named) -> Json:
        return _principal(await admin.create_principal(given.account, kind, given.name))

    async def list_(admin: Administration, given: InAccount) -> list[Json]:
        return [_principal(row) for row in await admin.list_principals(given.account, kind)]

    async def disable(admin: Administration, given: Named) -> Json:
        await admin.set_principal_status(given.account, kind, given.name, active=False)
        return {"name": given.name, "status": "disabled"}

    async def enable(admin: Administration, given: Named) -> Json:
        await admin.set_principal_status(given.account, kind, given.name, active=True)
        return {"name": given.name, "status": "active"}

    async def delete(admin: Administration, given: Named) -> Json:
        await admin.delete_principal(given.account, kind, given.name)
        return {"name": given.name, "deleted": True}

    commands = [
        Command(kind, "list", f"List the {noun}s of an account", InAccount, list_),
        Command(kind, "disable", f"Let a {noun} in no more, until it is enabled", Named, disable),
        Command(kind, "enable", f"Let a {noun} in again", Named, enable),
        Command(kind, "delete", f"Delete a {noun} and its credentials", Named, delete),
    ]
    if kind != "role":
        commands.append(Command(kind, "create", f"Make a {noun}; it may do nothing at first", Named, create))
    return commands


def _of_credentials(noun: str) -> list[Command]:
    return [
        Command(noun, "disable", f"Refuse a {noun}, until it is enabled", Credential, _disable_credential),
        Command(noun, "enable", f"Take a {noun} again", Credential, _enable_credential),
        Command(noun, "delete", f"Delete a {noun}", Credential, _delete_credential),
    ]


COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command("account", "create", "Make an account with credentials", NewAccountInput, _create_account, True),
        Command("account", "list", "List the accounts", NoInput, _list_accounts, True),
        Command("account", "set", "Turn a switch of an account on or off", AccountSetting, _set_account),
        Command("account", "show", "Show the switches of an account", InAccount, _show_account),
        Command("folder", "create", "Make a folder for registries", Named, _create_folder),
        Command("folder", "list", "List the folders of an account", InAccount, _list_folders),
        *_of_principals("user", "user"),
        *_of_principals("service-account", "service account"),
        Command("role", "create", "Make a role that others may assume", NewRole, _create_role),
        *_of_principals("role", "role"),
        Command("key", "create", "Make an access key, or a service account's key", Principal, _create_key),
        Command("key", "list", "List the keys and sessions of a principal", Principal, _list_keys),
        *_of_credentials("key"),
        Command("token", "create", "Make a token for the native API", NewToken, _create_token),
        Command("token", "list", "List a user's tokens", Principal, _list_tokens),
        *_of_credentials("token"),
        Command("session", "create", "Make temporary AWS credentials", NewSessionInput, _create_session),
        Command("policy", "put", "Write a policy", PolicyDocument, _put_policy),
        Command("policy", "show", "Show a policy", Named, _show_policy),
        Command("policy", "list", "List the policies, ready-made ones too", InAccount, _list_policies),
        Command("policy", "delete", "Delete a policy that is not attached", Named, _delete_policy),
        Command("policy", "attach", "Attach a policy to a principal", Attachment, _attach_policy),
        Command("policy", "detach", "Detach a policy", Attachment, _detach_policy),
        Command("policy", "attached", "List what is attached to a principal", Principal, _list_attached),
    )
}


async def as_operator(admin: Administration, name: str, given: Mapping[str, Any]) -> Any:
    """Runs a command for whoever may read the data directory; the audit trail says so. Raises DomainErrors."""
    command = COMMANDS.get(name)
    if command is None:
        raise NotFound("command", name)
    exchange = Exchange(face="admin", operation=command.action.partition(":")[2], user_agent="thingmint command line")
    CURRENT.set(exchange)
    try:
        checked = command.input.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"])) or "input"
        raise Invalid(field, f"is not valid: {first['msg'].removeprefix('Value error, ')}") from None
    if isinstance(checked, InAccount) and not checked.account:
        accounts = await admin.list_accounts()
        checked = checked.model_copy(update={"account": accounts[0][0]})
    if isinstance(checked, InAccount):
        exchange.account = checked.account
    return await command.run(admin, checked)
