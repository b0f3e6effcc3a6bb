"""Credentials, which authenticate callers: access keys, sessions, API tokens and authorized keys.

Only the answer of the command that makes a secret shows it. All secrets are random.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from thingmint.access.administration import inputs
from thingmint.access.administration.declaring import Json, Secrets, check_document, command, shown
from thingmint.access.administration.principals import PRINCIPALS, get_principal
from thingmint.domain.errors import AlreadyExists, Denied, Invalid, LimitExceeded, NotFound
from thingmint.domain.ids import PRINCIPAL, new_id
from thingmint.domain.keys import generate_authorized_key
from thingmint.domain.policies import Deny, Kind, Request, compile_policy, evaluate
from thingmint.domain.policies import Principal as PolicyPrincipal
from thingmint.store.table import BoundedDelete, Table, record, to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thingmint.access.administration.declaring import AdminChange, Apply
    from thingmint.access.administration.principals import Principal
    from thingmint.access.context import Caller
    from thingmint.access.vault import Vault
    from thingmint.domain.policies import ContextValue
    from thingmint.store.engine import Store, Transaction

# Distinguishes API tokens from session tokens (tms_), and lets scanners of source code find a committed token.
TOKEN_PREFIX = "tma_"  # noqa: S105

_KEYS = ("access-key", "authorized-key", "session")
_TOKENS = ("api-token",)
_MAX_CREDENTIALS = 10  # of one kind, for each principal
_SHORTEST_SESSION = timedelta(minutes=1)
_LONGEST_SESSION = timedelta(hours=36)
_KEEP_EXPIRED = timedelta(days=1)
_SHORTEST_TOKEN = timedelta(seconds=1)
_LONGEST_TOKEN = timedelta(days=3653)
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@record
class Credential:
    """``secret`` is the sealed secret (access-key, session), its SHA-256 (api-token) or a public key (authorized-key).

    ``policy`` restricts the credential to a part of its principal's permissions.
    """

    id: str
    kind: str
    principal: str
    secret: bytes
    created_at: datetime
    token_sha256: bytes | None = None  # of a session's token
    policy: str | None = None
    status: str = "active"
    description: str = ""
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


CREDENTIALS = Table(Credential, "credentials", "credential", key=("id",))

_OF_PRINCIPAL = f"{CREDENTIALS.select}WHERE principal = $1 ORDER BY created_at, id"
_OLDEST = f"{CREDENTIALS.select}WHERE principal = $1 ORDER BY created_at LIMIT $2"
_NEWEST = f"{CREDENTIALS.select}WHERE principal = $1 ORDER BY created_at DESC LIMIT $2"
_SEALED = "SELECT id, secret FROM credentials WHERE kind IN ('access-key', 'session')"
_OLD_SESSIONS = BoundedDelete("credentials", ("id",), "kind = 'session' AND expires_at <= $1")
_RESEAL = "UPDATE credentials SET secret = $2 WHERE id = $1"


def secret_sha256(secret: str) -> bytes:
    # The secrets are 256 random bits, so a slow hash would not protect them better.
    return hashlib.sha256(secret.encode()).digest()


async def first_sealed(tx: Transaction) -> tuple[str, bytes] | None:
    """Id and secret of a credential whose secret is sealed under the master key, if there is one."""
    row = await tx.fetch_one(f"{_SEALED} LIMIT 1")
    return (row[0], row[1]) if row is not None else None


async def reseal(tx: Transaction, vault: Vault) -> int:
    """Seals every secret again, under the current master key. Returns how many there are."""
    sealed = await tx.fetch_all(_SEALED)
    for id, secret in sealed:
        await tx.execute(_RESEAL, id, vault.seal(vault.open(secret, id), id))
    return len(sealed)


async def prepare_key_pair(_change: AdminChange, given: inputs.Input) -> tuple[str, str] | None:
    """A new RSA key (private and public PEM) if the input is about a service account. Does not block the event loop."""
    needs_pair = isinstance(given, inputs.NewAccountInput) or given.kind == "service-account"
    return await asyncio.to_thread(generate_authorized_key) if needs_pair else None


async def new_access_key(tx: Transaction, change: AdminChange, principal: str) -> Secrets:
    """Creates an access key for the principal with the id ``principal``."""
    id, secret, sealed = _sealed_secret(change, "AKIA")
    await _insert(tx, Credential(id, "access-key", principal, sealed, change.now))
    return Secrets(access_key_id=id, secret_access_key=secret)


async def _import_access_key(tx: Transaction, change: AdminChange, principal: str, id: str, secret: str) -> Json:
    """Stores a key that was made elsewhere. The answer omits the secret. Raises AlreadyExists."""
    sealed = change.once(lambda: change.vault.seal(secret, id))
    await _insert(tx, Credential(id, "access-key", principal, sealed, change.now))
    return {"access_key_id": id}


async def _insert(tx: Transaction, new: Credential) -> None:
    """Inserts the credential. Raises AlreadyExists if any account has one with that id."""
    if not await CREDENTIALS.insert(tx, new):
        raise AlreadyExists(new.kind, new.id)


async def new_authorized_key(tx: Transaction, change: AdminChange, principal: str, pair: tuple[str, str]) -> Secrets:
    """Creates an authorized key. The answer has the form of the key files of Yandex's console and SDKs."""
    id, (private_pem, public_pem) = change.once(lambda: new_id(PRINCIPAL)), pair
    await _insert(tx, Credential(id, "authorized-key", principal, public_pem.encode(), change.now))
    return Secrets(
        id=id,
        service_account_id=principal,
        created_at=_rfc3339(change.now),
        key_algorithm="RSA_2048",
        public_key=public_pem,
        private_key=private_pem,
    )


async def new_api_token(tx: Transaction, change: AdminChange, principal: str, **fields: Any) -> str:
    """Creates an API token and returns it. ``fields`` are further fields of the credential."""
    id, secret = change.once(lambda: (secrets.token_hex(8), secrets.token_urlsafe(32)))
    new = Credential(id, "api-token", principal, secret_sha256(secret), change.now, **fields)
    await _insert(tx, new)
    return f"{TOKEN_PREFIX}{id}_{secret}"


@command(
    "key.create",
    "Make an access key or a service account's key, or import an access key of AWS",
    inputs.NewKey,
    "Create{Key}",
    prepare=prepare_key_pair,
)
async def create_key(tx: Transaction, change: AdminChange, given: inputs.NewKey, pair: tuple[str, str] | None) -> Json:
    _refuse_narrowed(change)
    kind, name = given.parsed
    if kind == "role":
        raise Invalid("principal", "is a role, which has no keys: make a session instead")
    imported, secret = given.access_key_id, given.secret_access_key
    if (imported is None) != (secret is None):
        raise Invalid("secret_access_key", "must be given together with access_key_id")
    if imported is not None and kind != "user":
        raise Invalid("principal", "must be a user: service accounts have keys of another kind")
    principal = await get_principal(tx, given.account, kind, name)
    new: Json
    if imported is not None and secret is not None:
        new = await _import_access_key(tx, change, principal.id, imported, secret)
    elif pair is None:
        new = await new_access_key(tx, change, principal.id)
    else:
        new = await new_authorized_key(tx, change, principal.id, pair)
    await _added(tx, principal, "access-key" if pair is None else "authorized-key")
    return new


@command("token.create", "Make a token for the native API", inputs.NewToken, "CreateApiToken")
async def create_token(tx: Transaction, change: AdminChange, given: inputs.NewToken) -> Secrets:
    _refuse_narrowed(change)
    kind, name = given.parsed
    if kind != "user":
        raise Invalid("principal", "must be a user: tokens are for people and their scripts")
    check_document(given.policy, Kind.SESSION)
    if given.lifetime is not None and not _SHORTEST_TOKEN <= given.lifetime <= _LONGEST_TOKEN:
        raise Invalid("lifetime", "must be between 1 second and 10 years")
    principal = await get_principal(tx, given.account, kind, name)
    ends = change.now + given.lifetime if given.lifetime is not None else None
    token = await new_api_token(
        tx, change, principal.id, policy=given.policy, description=given.description, expires_at=ends
    )
    await _added(tx, principal, "api-token")
    return Secrets(token=token)


@command("session.create", "Make temporary AWS credentials", inputs.NewSessionInput, "{Session}")
async def create_session(tx: Transaction, change: AdminChange, given: inputs.NewSessionInput) -> Secrets:
    """Creates a session. Raises Denied for a role whose trust policy does not allow the caller."""
    _refuse_narrowed(change)
    kind, name = given.parsed
    if not _SHORTEST_SESSION <= given.duration <= _LONGEST_SESSION:
        raise Invalid("duration", "must be between 1 minute and 36 hours")
    check_document(given.policy, Kind.SESSION)
    principal = await get_principal(tx, given.account, kind, name)
    caller = change.request.caller if change.request else None
    if caller is not None:  # the local administrator may use any role
        check_trust(caller, principal)
    return await new_session(tx, change, principal, given.duration, given.policy)


async def new_session(
    tx: Transaction,
    change: AdminChange,
    principal: Principal,
    duration: timedelta,
    policy: str | None,
    name: str = "",
) -> Secrets:
    """Creates a session of the principal. ``name`` is what the caller names the session of a role."""
    id, secret, sealed = _sealed_secret(change, "ASIA")
    token = change.once(lambda: "tms_" + secrets.token_urlsafe(48))
    ends = (change.now + duration).replace(microsecond=0)
    new = Credential(id, "session", principal.id, sealed, change.now, secret_sha256(token), policy)
    await _insert(tx, replace(new, expires_at=ends, description=name))
    tx.audit_resources.append(principal.arn)
    return Secrets(access_key_id=id, secret_access_key=secret, session_token=token, expires_at=_rfc3339(ends))


async def delete_old_sessions(store: Store, now: datetime) -> None:
    """Deletes sessions that expired some time ago; until then their callers are told that they expired."""
    await _OLD_SESSIONS.run(store, to_micros(now - _KEEP_EXPIRED))


@command("token.list", "List a user's tokens", inputs.Principal, "ListApiTokens", kinds=_TOKENS)
@command("key.list", "List the keys and sessions of a principal", inputs.Principal, "List{Key}s", kinds=_KEYS)
async def list_credentials(
    tx: Transaction, _change: AdminChange, given: inputs.Principal, *, kinds: Sequence[str]
) -> list[Json]:
    principal = await get_principal(tx, given.account, *given.parsed)
    return [_shown(row) for row in await _of_principal(tx, principal.id, kinds)]


def _of_each(verb: str, summary: str, event_verb: str, **fixed: Any) -> Callable[[Apply], Apply]:
    """Declares the command once for keys, which includes sessions, and once for tokens."""

    def declare(apply: Apply) -> Apply:
        for noun, kinds, event in (("key", _KEYS, "{Key}"), ("token", _TOKENS, "ApiToken")):
            name, summary_of = f"{noun}.{verb}", summary.format(noun)
            command(name, summary_of, inputs.Credential, event_verb + event, kinds=kinds, **fixed)(apply)
        return apply

    return declare


@command("token.restrict", "Restrict a token to what a policy allows too", inputs.TokenPolicy, "PutApiTokenPolicy")
async def restrict_token(tx: Transaction, change: AdminChange, given: inputs.TokenPolicy) -> Json:
    """Gives a token a policy, or another one in place of its own, which may allow more, with immediate effect."""
    _refuse_narrowed(change)
    check_document(given.policy, Kind.SESSION)
    credential = await _owned(tx, given, _TOKENS)
    await CREDENTIALS.update(tx, replace(credential, policy=given.policy))
    return {"id": given.id, "restricted": True}


@_of_each("enable", "Accept a {} again", "Update", status="active")
@_of_each("disable", "Refuse a {} until it is enabled again", "Update", status="disabled")
async def set_credential_status(
    tx: Transaction, _change: AdminChange, given: inputs.Credential, *, kinds: Sequence[str], status: str
) -> Json:
    credential = await _owned(tx, given, kinds)
    await CREDENTIALS.update(tx, replace(credential, status=status))
    return {"id": given.id, "status": status}


@_of_each("delete", "Delete a {}", "Delete")
async def delete_credential(
    tx: Transaction, _change: AdminChange, given: inputs.Credential, *, kinds: Sequence[str]
) -> Json:
    credential = await _owned(tx, given, kinds)
    await CREDENTIALS.delete(tx, credential.id)
    return {"id": given.id, "deleted": True}


async def credentials_of(tx: Transaction, principal: str, limit: int) -> list[Credential]:
    """The oldest and the newest credentials of a principal, up to ``limit`` of each, newest first.

    A principal can have any number of sessions, so it may have more in between.
    """
    rows = [*await tx.fetch_all(_NEWEST, principal, limit), *await tx.fetch_all(_OLDEST, principal, limit)]
    found = {each.id: each for each in CREDENTIALS.load_all(rows)}
    return sorted(found.values(), key=lambda each: (each.created_at, each.id), reverse=True)


async def _of_principal(tx: Transaction, principal: str, kinds: Sequence[str]) -> list[Credential]:
    rows = CREDENTIALS.load_all(await tx.fetch_all(_OF_PRINCIPAL, principal))
    return [credential for credential in rows if credential.kind in kinds]


async def _added(tx: Transaction, principal: Principal, kind: str) -> None:
    """Checks the limit after a credential was added, and names the principal in the audit record.

    Raises LimitExceeded. Sessions are not limited: they expire.
    """
    if len(await _of_principal(tx, principal.id, [kind])) > _MAX_CREDENTIALS:
        raise LimitExceeded("principal", principal.id, f"At most {_MAX_CREDENTIALS} credentials of a kind")
    tx.audit_resources.append(principal.arn)


async def _owned(tx: Transaction, given: inputs.Credential, kinds: Sequence[str]) -> Credential:
    """The account's credential that is to be changed; names its owner in the audit record. Raises NotFound."""
    credential = await CREDENTIALS.find(tx, given.id)
    owner = await PRINCIPALS.find(tx, credential.principal) if credential and credential.kind in kinds else None
    if credential is None or owner is None or owner.account != given.account:
        raise NotFound("credential", given.id)
    tx.audit_resources.append(owner.arn)
    return credential


def _refuse_narrowed(change: AdminChange) -> None:
    """Raises Denied for a caller with a restricted session or token: it must not make one without the restriction."""
    request = change.request
    if request and request.caller and request.caller.narrowed is not None:
        raise Denied(request.caller.arn, f"thingmint:{request.operation}", "*", explicit=False)


def check_trust(caller: Caller, role: Principal, conditions: Mapping[str, ContextValue] | None = None) -> None:
    """Raises Denied unless the role's trust policy allows the caller."""
    if role.trust_policy is None:
        return
    trust = compile_policy(role.trust_policy, kind=Kind.TRUST, name=f"trust of {role.name}")
    asking = PolicyPrincipal("AWS", tuple(dict.fromkeys((caller.arn, caller.identity))), role.account)
    decision = evaluate([trust], Request("sts:AssumeRole", role.arn, conditions or {}, asking))
    if isinstance(decision, Deny):
        raise Denied(caller.identity, "sts:AssumeRole", role.arn, explicit=decision.explicit)


def _sealed_secret(change: AdminChange, prefix: str) -> tuple[str, str, bytes]:
    """Id, secret and sealed secret of a new key for AWS's signatures."""

    def make() -> tuple[str, str, bytes]:
        id = prefix + "".join(secrets.choice(_BASE32) for _ in range(16))
        secret = base64.b64encode(secrets.token_bytes(30)).decode()
        return id, secret, change.vault.seal(secret, id)

    return change.once(make)


def _shown(credential: Credential) -> Json:
    return {
        "id": credential.id,
        "kind": credential.kind,
        "status": credential.status,
        "description": credential.description,
        "created_at": shown(credential.created_at),
        "expires_at": shown(credential.expires_at),
        "last_used_at": shown(credential.last_used_at),
    }


def _rfc3339(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
