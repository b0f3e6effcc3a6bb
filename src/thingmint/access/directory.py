"""Finding the principal behind a credential, with what it may do."""

from __future__ import annotations

import functools
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.access.audit import AuditedStore
from thingmint.access.callers import Caller
from thingmint.access.ready_made import ready_made
from thingmint.domain.errors import Unauthenticated, Unavailable
from thingmint.domain.policy import Kind, Policy, compile_policy
from thingmint.store import access as sql
from thingmint.store.times import to_micros

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from thingmint.access.context import Outcome, RequestContext
    from thingmint.access.vault import Vault
    from thingmint.store.access import AttachmentRow, CredentialRow
    from thingmint.store.engine import Store, Transaction

__all__ = ["TOKEN_PREFIX", "Directory", "secret_sha256"]

# Tells our tokens' kinds apart, and lets scanners of source code find one that was committed.
TOKEN_PREFIX = "tma_"  # noqa: S105

_MAX_USED = 10_000  # credentials whose use is noted between two flushes
_MAX_STANDING = 10_000  # IAM tokens that are remembered

_UNKNOWN_AWS = "The security token included in the request is invalid."
_EXPIRED_AWS = "The security token included in the request is expired"
_UNKNOWN_TOKEN = "The token is not one of this server, or is no longer valid"  # noqa: S105
_UNKNOWN_JWT = "The JWT names no key of a service account that is known here"


@dataclass(frozen=True, slots=True)
class _Known:
    """A credential that was looked up: its owner, and the secret of one that has a recoverable one."""

    caller: Caller
    credential: CredentialRow
    secret: str


class Directory:
    def __init__(self, store: Store, vault: Vault, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        # Since access last changed: credentials that were looked up, and IAM tokens that were not revoked.
        self._known: dict[str, _Known] = {}
        self._standing: set[str] = set()
        self._known_at: int | None = None
        self._used: dict[str, int] = {}

    async def developer(self) -> Caller:
        """Who `serve --dev` takes a request without credentials for: the administrator made with the instance."""

        async def body(tx: Transaction) -> Caller:
            principal = await sql.first_principal(tx)
            assert principal is not None, "an instance is made with an administrator"
            return await _caller(tx, principal, "dev")

        return await self._store.read(body)

    async def find_access_key(self, id: str, session_token: str | None) -> tuple[Caller, str]:
        """The owner of an access key, or of a session's, and its secret. Raises Unauthenticated."""
        known = await self._find(id, ("access-key", "session"), _UNKNOWN_AWS)
        expected = known.credential.token_sha256
        if expected is None or session_token is None:
            if expected is not None or session_token is not None:
                raise Unauthenticated("unknown", _UNKNOWN_AWS)
        elif not hmac.compare_digest(expected, secret_sha256(session_token)):
            raise Unauthenticated("unknown", _UNKNOWN_AWS)
        self._check_expiry(known.credential, _EXPIRED_AWS)
        return known.caller, known.secret

    async def authenticate_token(self, token: str) -> Caller:
        """The owner of an API token. Raises Unauthenticated, always in the same words."""
        id, separator, secret = token.removeprefix(TOKEN_PREFIX).partition("_")
        if not token.startswith(TOKEN_PREFIX) or not separator:
            raise Unauthenticated("unknown", _UNKNOWN_TOKEN)
        known = await self._find(id, ("api-token",), _UNKNOWN_TOKEN)
        if not hmac.compare_digest(known.credential.secret, secret_sha256(secret)):
            raise Unauthenticated("unknown", _UNKNOWN_TOKEN)
        self._check_expiry(known.credential, _UNKNOWN_TOKEN)
        self.used(id)
        return known.caller

    async def find_authorized_key(self, id: str) -> tuple[str, str]:
        """A service account's id and the key's public half, in PEM. Raises Unauthenticated."""
        known = await self._find(id, ("authorized-key",), _UNKNOWN_JWT)
        return known.caller.principal, known.credential.secret.decode()

    async def bearer_of_iam_token(self, id: str, credential: str) -> Caller:
        """Who exchanged ``credential`` for the IAM token ``id``, if both still stand. Raises Unauthenticated."""

        async def body(tx: Transaction) -> bool:
            return await sql.is_token_revoked(tx, id)

        self._forget_what_changed()
        if id not in self._standing:
            if await self._store.read(body):
                raise Unauthenticated("unknown", _UNKNOWN_TOKEN)
            if len(self._standing) < _MAX_STANDING:
                self._standing.add(id)
        known = await self._find(credential, ("authorized-key", "api-token"), _UNKNOWN_TOKEN)
        self._check_expiry(known.credential, _UNKNOWN_TOKEN)
        self.used(credential)
        return known.caller

    def used(self, id: str) -> None:
        """Notes that a credential was used, once that is proved."""
        if len(self._used) < _MAX_USED:
            self._used[id] = to_micros(self._clock())

    async def owner(self, id: str) -> Caller:
        """The service account that an authorized key belongs to. Raises Unauthenticated."""
        return (await self._find(id, ("authorized-key",), _UNKNOWN_JWT)).caller

    async def role(self, account: str, name: str) -> tuple[Caller, str] | None:
        """The account's role of that name, with its trust policy; None if there is none that may be used."""

        async def body(tx: Transaction) -> tuple[Caller, str] | None:
            row = await sql.find_principal(tx, account, "role", name)
            if row is None or row.status != "active" or row.trust_policy is None:
                return None
            return await _caller(tx, row, row.id), row.trust_policy

        return await self._store.read(body)

    async def revoke_iam_token(self, id: str, expires_at: int, context: RequestContext, outcome: Outcome) -> None:
        """``expires_at`` is in seconds, as the token has it."""
        now = to_micros(self._clock())

        async def body(tx: Transaction) -> None:
            await sql.revoke_token(tx, id, expires_at * 1_000_000, now)

        await AuditedStore(self._store, self._clock).of(context, outcome).write(body)

    async def flush(self) -> None:
        """Writes down when credentials were last used; what the store could not take is tried again."""
        used, self._used = self._used, {}
        if not used:
            return

        async def body(tx: Transaction) -> None:
            await sql.touch_credentials(tx, used.items())

        try:
            await self._store.write(body)
        except Unavailable:
            self._used = used | self._used
            raise

    async def _find(self, id: str, kinds: tuple[str, ...], refusal: str) -> _Known:
        self._forget_what_changed()
        known = self._known.get(id) or await self._look_up(id, refusal)
        if known.credential.kind not in kinds:
            raise Unauthenticated("unknown", refusal)
        return known

    def _forget_what_changed(self) -> None:
        changes = self._store.access_changes
        if changes is None or changes != self._known_at:
            self._known.clear()
            self._standing.clear()
            self._known_at = changes

    async def _look_up(self, id: str, refusal: str) -> _Known:
        async def body(tx: Transaction) -> tuple[Caller, CredentialRow]:
            credential = await sql.get_credential(tx, id)
            if credential is None or credential.status != "active":
                raise Unauthenticated("unknown", refusal)
            principal = await sql.get_principal(tx, credential.principal)
            if principal is None or principal.status != "active":
                raise Unauthenticated("unknown", refusal)
            return await _caller(tx, principal, id, credential.policy), credential

        caller, credential = await self._store.read(body)
        sealed = credential.kind in ("access-key", "session")
        known = _Known(caller, credential, self._vault.open(credential.secret, id) if sealed else "")
        self._known[id] = known
        return known

    def _check_expiry(self, credential: CredentialRow, refusal: str) -> None:
        if credential.expires_at is not None and credential.expires_at <= to_micros(self._clock()):
            raise Unauthenticated("expired", refusal)


async def _caller(tx: Transaction, principal: sql.PrincipalRow, credential: str, policy: str | None = None) -> Caller:
    return Caller(
        account=principal.account,
        regions=tuple(await sql.list_regions(tx, principal.account)),
        principal=principal.id,
        name=principal.name,
        arn=principal.arn,
        credential=credential,
        policies=tuple(
            compiled
            for attachment in await sql.list_attachments(tx, principal.id)
            if (compiled := _compiled(attachment)) is not None
        ),
        narrowed=(_compile(policy, "of the session", Kind.SESSION),) if policy is not None else None,
    )


def _compiled(attachment: AttachmentRow) -> Policy | None:
    if attachment.document is not None:
        return _compile(attachment.document, attachment.policy, Kind.IDENTITY)
    document = ready_made(attachment.policy, attachment.resource)
    # One that is gone grants nothing.
    return _compile(document, attachment.policy, Kind.IDENTITY) if document is not None else None


@functools.lru_cache(maxsize=1024)
def _compile(document: str, name: str, kind: Kind) -> Policy:
    return compile_policy(document, kind=kind, name=name)


def secret_sha256(secret: str) -> bytes:
    # The secrets are 256 random bits, so there is nothing that a slow hash would protect.
    return hashlib.sha256(secret.encode()).digest()
