"""Finds the principal of a credential, such as a bearer token (RFC 6750 2.1), and the principal's policies."""

from __future__ import annotations

import contextlib
import hmac
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from thingmint.access.administration.accounts import list_regions
from thingmint.access.administration.credentials import TOKEN_PREFIX, secret_sha256
from thingmint.access.administration.policies import list_attached, managed_document
from thingmint.access.administration.principals import find_first_user, find_principal, principal_arn
from thingmint.access.audit import AuditedStore
from thingmint.access.context import Caller
from thingmint.domain.errors import Invalid, Unauthenticated, Unavailable
from thingmint.domain.policies import Kind
from thingmint.services.compiled_policies import POLICIES
from thingmint.store.outbox import publish_access_change
from thingmint.store.table import DELETED_AT_ONCE, BoundedDelete, to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from thingmint.access.administration.policies import Attached
    from thingmint.access.context import Outcome, RequestContext
    from thingmint.access.vault import Vault
    from thingmint.store.engine import PublishedChange, Store, Transaction


DEVELOPER = "dev"
"""The id of the credential of a request without one, under `serve --dev`."""
_MAX_USED = 10_000  # credentials whose use is noted between two flushes
_MAX_NOT_REVOKED = 10_000  # IAM tokens that are cached

_UNKNOWN_AWS = "The security token included in the request is invalid."
_EXPIRED_AWS = "The security token included in the request is expired"
_UNKNOWN_TOKEN = "The token is not one of this server, or is no longer valid"  # noqa: S105
_UNKNOWN_JWT = "The JWT names no key of a service account that is known here"

# Single columns: loading whole records would take a fifth of a look-up's time.
_ACTIVE = (
    "SELECT c.kind, c.secret, c.token_sha256, c.expires_at, c.policy, c.description, p.id, p.account, p.kind, p.name "
    "FROM credentials AS c JOIN principals AS p ON p.id = c.principal "
    "WHERE c.id = $1 AND c.status = 'active' AND p.status = 'active'"
)
_SERVICE_ACCOUNT = (
    "SELECT id, account, kind, name FROM principals WHERE id = $1 AND kind = 'service-account' AND status = 'active'"
)
_PRINCIPAL = (
    "SELECT id, account, kind, name FROM principals "
    "WHERE id = $1 AND status = 'active' AND kind IN ('user', 'role', 'service-account')"
)
_NOTE_USE = "UPDATE credentials SET last_used_at = $2 WHERE id = $1"
_IS_REVOKED = "SELECT 1 FROM revoked_tokens WHERE id = $1"
_REVOKE = "INSERT INTO revoked_tokens (id, expires_at) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING"
_ENDED = BoundedDelete("revoked_tokens", ("id",), "expires_at <= $1")


@dataclass(frozen=True, slots=True)
class _Known:
    """A credential in the cache: its owner, its secret as it is stored, and when it expires (microseconds).

    ``opened`` is the secret itself if the stored one is sealed.
    """

    caller: Caller
    kind: str
    secret: bytes
    token_sha256: bytes | None
    expires_at: int | None
    opened: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Principal:
    """A principal as stored. Policies are pairs of name and document; ``narrowing`` are the session's or token's."""

    id: str
    account: str
    kind: str
    name: str
    credential: str
    regions: Sequence[str]
    documents: Sequence[tuple[str, str]]
    narrowing: Sequence[tuple[str, str]] | None
    session: str | None

    async def caller(self) -> Caller:
        await POLICIES.compile_ahead(Kind.IDENTITY, self.documents)
        await POLICIES.compile_ahead(Kind.SESSION, self.narrowing or ())
        policies = tuple(POLICIES.get(Kind.IDENTITY, *document) for document in self.documents)
        narrowed = tuple(POLICIES.get(Kind.SESSION, *document) for document in self.narrowing or ())
        return Caller(
            account=self.account,
            regions=self.regions,
            principal=self.id,
            name=self.name,
            arn=principal_arn(self.account, self.kind, self.name),
            credential=self.credential,
            policies=policies,
            narrowed=narrowed if self.narrowing is not None else None,
            session=self.session,
        )


class AssumableRole(NamedTuple):
    """``longest`` is how long a session of the role may last, in seconds."""

    caller: Caller
    trust_policy: str
    longest: int


class DeviceSessions(Protocol):
    """Temporary credentials that devices get by their certificates."""

    async def find(self, id: str, session_token: str) -> tuple[Caller, str] | None:
        """The caller with its secret access key; None if the token is not of this kind. Raises Unauthenticated."""
        ...


class Directory:
    """Caches what it finds, unless ``is_stale`` returns True: then changes by other processes may have been missed."""

    def __init__(
        self, store: Store, vault: Vault, clock: Callable[[], datetime], is_stale: Callable[[], bool] = lambda: True
    ) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._is_stale = is_stale
        # Caches, emptied when access changes: credentials, service accounts, and IAM tokens that were not revoked.
        self._known: dict[str, _Known] = {}
        self._service_accounts: dict[str, Caller] = {}
        self._not_revoked: set[str] = set()
        self._changes = 0
        self._used: dict[str, int] = {}
        self.device_sessions: DeviceSessions | None = None

    async def developer(self) -> Caller:
        """The caller of a request without credentials under `serve --dev`: the instance's first administrator."""
        return await (await self._store.read(_developer)).caller()

    async def find_access_key(self, id: str, session_token: str | None) -> tuple[Caller, str]:
        """The owner of an access key or a session, and its secret. Raises Unauthenticated."""
        if session_token is not None and self.device_sessions is not None:
            of_device = await self.device_sessions.find(id, session_token)
            if of_device is not None:
                return of_device
        known = await self._find(id, ("access-key", "session"), _UNKNOWN_AWS)
        expected = known.token_sha256
        if expected is None or session_token is None:
            if expected is not None or session_token is not None:
                raise Unauthenticated("unknown", _UNKNOWN_AWS)
        elif not hmac.compare_digest(expected, secret_sha256(session_token)):
            raise Unauthenticated("unknown", _UNKNOWN_AWS)
        self._check_expiry(known, _EXPIRED_AWS)
        return known.caller, known.opened

    async def authenticate_token(self, token: str) -> Caller:
        """The owner of an API token. Raises Unauthenticated, with the same text whatever is wrong."""
        id, separator, secret = token.removeprefix(TOKEN_PREFIX).partition("_")
        if not token.startswith(TOKEN_PREFIX) or not separator:
            raise Unauthenticated("unknown", _UNKNOWN_TOKEN)
        known = await self._find(id, ("api-token",), _UNKNOWN_TOKEN)
        if not hmac.compare_digest(known.secret, secret_sha256(secret)):
            raise Unauthenticated("unknown", _UNKNOWN_TOKEN)
        self._check_expiry(known, _UNKNOWN_TOKEN)
        self.used(id)
        return known.caller

    async def owner_of_token(self, id: str, *, is_use: bool = True) -> Caller:
        """The owner of an API token, by the token's id, if the token is still valid. Raises Unauthenticated."""
        known = await self._find(id, ("api-token",), _UNKNOWN_TOKEN)
        self._check_expiry(known, _UNKNOWN_TOKEN)
        if is_use:
            self.used(id)
        return known.caller

    async def active_principal(self, id: str, credential: str, session: str = "") -> Caller | None:
        """The principal with that id; None if there is none, or it is disabled.

        ``credential`` is the id of what it signed in with, ``session`` the name of a role's session.
        """
        found = await self._store.read(lambda tx: _active_principal(tx, id, credential, session))
        return await found.caller() if found is not None else None

    async def find_authorized_key(self, id: str) -> tuple[str, str]:
        """A service account's id and the key's public half, in PEM. Raises Unauthenticated."""
        known = await self._find(id, ("authorized-key",), _UNKNOWN_JWT)
        return known.caller.principal, known.secret.decode()

    async def bearer_of_iam_token(self, id: str, credential: str) -> Caller:
        """The caller that exchanged ``credential`` for the IAM token ``id``, if both are still valid.

        Raises Unauthenticated.
        """
        await self.check_not_revoked(id)
        known = await self._find(credential, ("authorized-key", "api-token"), _UNKNOWN_TOKEN)
        self._check_expiry(known, _UNKNOWN_TOKEN)
        self.used(credential)
        return known.caller

    async def check_not_revoked(self, id: str) -> None:
        """Raises Unauthenticated if the IAM token ``id`` was revoked."""
        if self._is_stale():
            self._forget()
        if id not in self._not_revoked:
            changes = self._changes
            if await self._store.read(lambda tx: tx.fetch_one(_IS_REVOKED, id)) is not None:
                raise Unauthenticated("unknown", _UNKNOWN_TOKEN)
            if self._changes == changes and len(self._not_revoked) < _MAX_NOT_REVOKED:
                self._not_revoked.add(id)

    def used(self, id: str) -> None:
        """Notes the time at which a credential was used, after its use was verified."""
        if len(self._used) < _MAX_USED:
            self._used[id] = to_micros(self._clock())

    async def owner(self, id: str) -> Caller:
        """The service account that an authorized key belongs to. Raises Unauthenticated."""
        return (await self._find(id, ("authorized-key",), _UNKNOWN_JWT)).caller

    async def service_account(self, id: str) -> Caller | None:
        """The service account with that id, without a credential; None if there is none, or it is disabled."""
        if self._is_stale():
            self._forget()
        if id in self._service_accounts:
            return self._service_accounts[id]
        changes, found = self._changes, None
        with contextlib.suppress(Invalid):  # no id has a character that the store refuses
            found = await self._store.read(lambda tx: _service_account(tx, id))
        if found is None:
            return None
        caller = await found.caller()
        if self._changes == changes:
            self._service_accounts[id] = caller
        return caller

    async def role(self, account: str, name: str) -> AssumableRole | None:
        """The account's role of that name; None if there is none, or it is disabled."""
        found = await self._store.read(lambda tx: _role(tx, account, name))
        return AssumableRole(await found[0].caller(), *found[1:]) if found is not None else None

    async def revoke_iam_token(self, id: str, expires_at: int, context: RequestContext, outcome: Outcome) -> None:
        """``expires_at`` is in seconds, as the token has it."""
        now, store = self._clock(), AuditedStore(self._store, self._clock).of(context, outcome)
        await store.write(lambda tx: _revoke(tx, id, expires_at * 1_000_000, now))

    async def flush(self) -> None:
        """Stores when credentials were last used. What the store refuses is kept for the next call."""
        used, self._used = self._used, {}
        try:
            while used:
                some = dict(islice(used.items(), DELETED_AT_ONCE))
                await self._store.write(partial(_note_use, some))
                used = {id: time for id, time in used.items() if id not in some}
        except Unavailable:
            self._used = used | self._used
            raise

    async def _find(self, id: str, kinds: tuple[str, ...], refusal: str) -> _Known:
        if self._is_stale():
            self._forget()
        if not id.isprintable():  # no store has such an id, and PostgreSQL refuses some of them in a query
            raise Unauthenticated("unknown", refusal)
        known = self._known.get(id) or await self._look_up(id, refusal)
        if known.kind not in kinds:
            raise Unauthenticated("unknown", refusal)
        return known

    def changed(self, changes: Sequence[PublishedChange]) -> None:
        """Empties the caches if access changed. The change feed calls this."""
        if any(change.kind == "access" for change in changes):
            self._forget()

    def _forget(self) -> None:
        self._changes += 1
        self._known.clear()
        self._service_accounts.clear()
        self._not_revoked.clear()

    async def _look_up(self, id: str, refusal: str) -> _Known:
        changes, found = self._changes, None
        with contextlib.suppress(Invalid):  # no credential has an id with a character that the store refuses
            found = await self._store.read(lambda tx: _find(tx, id))
        if found is None:
            raise Unauthenticated("unknown", refusal)
        principal, kind, secret, token_sha256, expires_at = found
        opened = self._vault.open(secret, id) if kind in ("access-key", "session") else ""
        known = _Known(await principal.caller(), kind, secret, token_sha256, expires_at, opened)
        if self._changes == changes:  # else access changed while the policies were compiled
            self._known[id] = known
        return known

    def _check_expiry(self, known: _Known, refusal: str) -> None:
        if known.expires_at is not None and known.expires_at <= to_micros(self._clock()):
            raise Unauthenticated("expired", refusal)


async def _find(tx: Transaction, id: str) -> tuple[_Principal, str, bytes, bytes | None, int | None] | None:
    """The stored fields of an active credential of an active principal; None if there is none with that id."""
    row = await tx.fetch_one(_ACTIVE, id)
    if row is None:
        return None
    kind, secret, token_sha256, expires_at, policy, name, *owner = row
    return await _principal(tx, owner, id, policy, name), kind, secret, token_sha256, expires_at


async def _developer(tx: Transaction) -> _Principal:
    user = await find_first_user(tx)
    return await _principal(tx, (user.id, user.account, user.kind, user.name), DEVELOPER)


async def _service_account(tx: Transaction, id: str) -> _Principal | None:
    row = await tx.fetch_one(_SERVICE_ACCOUNT, id)
    return await _principal(tx, row, "") if row is not None else None


async def _active_principal(tx: Transaction, id: str, credential: str, session: str) -> _Principal | None:
    row = await tx.fetch_one(_PRINCIPAL, id)
    return await _principal(tx, row, credential, session=session) if row is not None else None


async def _role(tx: Transaction, account: str, name: str) -> tuple[_Principal, str, int] | None:
    role = await find_principal(tx, account, "role", name)
    if role is None or role.status != "active" or role.trust_policy is None:
        return None
    principal = await _principal(tx, (role.id, account, "role", name), role.id)
    return principal, role.trust_policy, role.max_session_duration


async def _note_use(used: Mapping[str, int], tx: Transaction) -> None:
    await tx.execute_many(_NOTE_USE, used.items())


async def _revoke(tx: Transaction, id: str, expires_at: int, now: datetime) -> None:
    """Refuses an IAM token from now on, and deletes some revocations of tokens that have expired."""
    await _ENDED.step(tx, to_micros(now))
    await tx.execute(_REVOKE, id, expires_at)
    await publish_access_change(tx, now)


async def _principal(
    tx: Transaction, owner: Sequence[str], credential: str, policy: str | None = None, session: str = ""
) -> _Principal:
    """``owner`` is a principal's id, account, kind and name; ``policy`` narrows the credential down.

    ``session`` is the name of a role's session; without one, that is the credential's id.
    """
    id, account, kind, name = owner
    return _Principal(
        id=id,
        account=account,
        kind=kind,
        name=name,
        credential=credential,
        regions=tuple(await list_regions(tx, account)),
        documents=[named for attached in await list_attached(tx, id) if (named := _document(attached)) is not None],
        narrowing=[("of the session", policy)] if policy is not None else None,
        session=(session or credential) if kind == "role" else None,
    )


def _document(attached: Attached) -> tuple[str, str] | None:
    """The policy's name and document; None if the policy no longer exists, which grants nothing."""
    document = attached.document
    if document is None:
        document = managed_document(attached.policy, attached.resource)
    return (attached.policy, document) if document is not None else None


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The token, or None without the header. Raises Unauthenticated for another scheme, or several headers."""
    values = [value for name, value in headers if name == b"authorization"]
    if not values:
        return None
    scheme, _, token = values[0].decode("latin-1").partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("malformed", "The Authorization header must be sent once, as: Bearer <token>")
    return token.strip()
