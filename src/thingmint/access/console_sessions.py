"""Sessions of the web console, and the links that sign a user in once.

A session's cookie has the session's id and a signature. Both tables have nothing that signs in: a reader of the
database cannot make a cookie without the master key, and of a link only the hash of its secret is stored.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from thingmint.access.administration.accounts import list_accounts
from thingmint.access.administration.principals import find_first_user, get_principal
from thingmint.domain.errors import Invalid, Unauthenticated, Unavailable
from thingmint.store.key_lists import KeyList
from thingmint.store.table import BoundedDelete, Table, record, to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from thingmint.access.context import Caller
    from thingmint.access.directory import Directory
    from thingmint.access.vault import Vault
    from thingmint.store.engine import Store, Transaction

LINK_LIFETIME = timedelta(minutes=5)
_NOTE_USE_EVERY = timedelta(minutes=1)
_COOKIE = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{64})")
_MAX_NAME = 64  # characters of the name of a role's session

_ENDED = "The session has ended; sign in again"
_LINK_UNKNOWN = "The link was used already, or has expired; run thingmint console for a new one"


@record
class ConsoleSession:
    """``principal`` is an id. ``credential`` is the id of the API token that signed in, if one did.

    ``name`` is the name of the session if the principal is a role.
    """

    id: str
    principal: str
    credential: str | None
    name: str
    created_at: datetime
    used_at: datetime
    ends_at: datetime


SESSIONS = Table(ConsoleSession, "console_sessions", "console session", key=("id",))

_OF_IDS = KeyList(f"{SESSIONS.select}WHERE id IN ({{keys}})")
_NOTE_USE = "UPDATE console_sessions SET used_at = $2 WHERE id = $1 AND used_at < $2"
_ADD_LINK = "INSERT INTO sign_in_links (id, principal, ends_at) VALUES ($1, $2, $3)"
_FIND_LINK = "SELECT principal FROM sign_in_links WHERE id = $1 AND ends_at > $2"
_TAKE_LINK = "DELETE FROM sign_in_links WHERE id = $1"
_OLD_SESSIONS = BoundedDelete("console_sessions", ("id",), "ends_at <= $1")
_OLD_LINKS = BoundedDelete("sign_in_links", ("id",), "ends_at <= $1")


@dataclass(frozen=True, slots=True)
class SignIn:
    """Who signs in. ``link`` is the id of the link that is used up by it."""

    caller: Caller
    credential: str | None = None
    name: str = ""
    link: str | None = None


class ConsoleSessions:
    """``idle`` and ``lifetime`` are the longest times between two requests of a session, and of a session."""

    def __init__(
        self,
        store: Store,
        directory: Directory,
        vault: Vault,
        clock: Callable[[], datetime],
        *,
        idle: timedelta,
        lifetime: timedelta,
    ) -> None:
        self._store = store
        self._directory = directory
        self._key = vault.derive("console sessions")
        self._clock = clock
        self.idle = idle
        self.lifetime = lifetime

    async def new_link(self, account: str | None = None, user: str | None = None) -> str:
        """The secret of a new link for a user; by default for the first administrator. Raises NotFound."""
        secret, ends = secrets.token_urlsafe(32), self._clock() + LINK_LIFETIME

        async def add(tx: Transaction) -> None:
            if user is None and account is None:
                principal = await find_first_user(tx)
            else:
                owner = account or (await list_accounts(tx))[0].id
                principal = await get_principal(tx, owner, "user", user or "administrator")
            await tx.execute(_ADD_LINK, _link_id(secret), principal.id, to_micros(ends))

        await self._store.write(add)
        return secret

    async def by_link(self, secret: str) -> SignIn:
        """The user of a link that is still valid. Raises Unauthenticated."""
        id = _link_id(secret)
        row = await self._store.read(lambda tx: tx.fetch_one(_FIND_LINK, id, to_micros(self._clock())))
        caller = await self._directory.active_principal(row[0], id[:16]) if row is not None else None
        if caller is None:
            raise Unauthenticated("unknown", _LINK_UNKNOWN)
        return SignIn(caller, link=id)

    async def by_token(self, token: str) -> SignIn:
        """The owner of an API token. Raises Unauthenticated."""
        caller = await self._directory.authenticate_token(token)
        return SignIn(caller, credential=caller.credential)

    async def by_role(self, account: str, role: str, name: str) -> SignIn:
        """A role, for a person whom another service knows by ``name``. Raises Unauthenticated."""
        found = await self._directory.role(account, role)
        if found is None:
            raise Unauthenticated("unknown", f"The role {role} does not exist, or is disabled")
        session = re.sub(r"[^\w+=,.@-]", "-", name, flags=re.ASCII)[:_MAX_NAME]
        return SignIn(replace(found.caller, session=session), name=session)

    async def begin(self, store: Store, who: SignIn) -> str:
        """The cookie of a new session, which is written to ``store``. Raises Unauthenticated for a used link."""
        now, id = self._clock(), secrets.token_hex(16)
        session = ConsoleSession(id, who.caller.principal, who.credential, who.name, now, now, now + self.lifetime)

        async def insert(tx: Transaction) -> None:
            if who.link is not None and not await tx.execute(_TAKE_LINK, who.link):
                raise Unauthenticated("unknown", _LINK_UNKNOWN)
            await SESSIONS.insert(tx, session)

        await store.write(insert, urgent=True)  # on a full disk, an operator must be able to sign in
        return f"{id}.{self.signature(id)}"

    async def find(self, cookie: str, *, is_use: bool = True) -> tuple[ConsoleSession, Caller]:
        """The session of a cookie, and its caller. Raises Unauthenticated.

        Unless ``is_use``, the session's idle time goes on: a page that updates itself does not keep it open.
        """
        parts = _COOKIE.fullmatch(cookie)
        if parts is None or not hmac.compare_digest(parts[2], self.signature(parts[1])):
            raise Unauthenticated("unknown", _ENDED)
        now = self._clock()
        session = await self._store.read(lambda tx: SESSIONS.find(tx, parts[1]))
        if session is None or self._has_ended(session):
            raise Unauthenticated("expired", _ENDED)
        caller = await self._caller(session, is_use=is_use)
        if is_use and session.used_at + min(_NOTE_USE_EVERY, self.idle / 4) <= now:
            with contextlib.suppress(Unavailable):  # pages can be read while nothing can be written
                await self._store.write(lambda tx: tx.execute(_NOTE_USE, session.id, to_micros(now)), urgent=True)
        return session, caller

    async def still_open(self, ids: Collection[str]) -> dict[str, Caller]:
        """The callers of those sessions that have not ended, by the sessions' ids. It is no use of them."""
        found = SESSIONS.load_all(await _OF_IDS.fetch(self._store, sorted(ids)))
        callers = {}
        for session in found:
            if not self._has_ended(session):
                with contextlib.suppress(Unauthenticated):
                    callers[session.id] = await self._caller(session, is_use=False)
        return callers

    def _has_ended(self, session: ConsoleSession) -> bool:
        now = self._clock()
        return session.ends_at <= now or session.used_at + self.idle <= now

    async def end(self, store: Store, id: str) -> None:
        await store.write(lambda tx: SESSIONS.delete(tx, id), urgent=True)

    def signature(self, text: str) -> str:
        """A signature for cookies and forms of the console, in hexadecimal digits."""
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    async def _caller(self, session: ConsoleSession, *, is_use: bool) -> Caller:
        """The caller, with today's policies. Raises Unauthenticated if its principal or its token is not active."""
        caller: Caller | None
        if session.credential is not None:
            caller = await self._directory.owner_of_token(session.credential, is_use=is_use)
        else:
            caller = await self._directory.active_principal(session.principal, session.id, session.name)
        if caller is None or caller.principal != session.principal:
            raise Unauthenticated("unknown", _ENDED)
        return caller


async def delete_old_console_sessions(store: Store, now: datetime) -> None:
    """Deletes sessions and links that have expired."""
    await _OLD_SESSIONS.run(store, to_micros(now))
    await _OLD_LINKS.run(store, to_micros(now))


def _link_id(secret: str) -> str:
    try:
        return hashlib.sha256(secret.encode()).hexdigest()
    except UnicodeEncodeError:
        raise Invalid("link", "is not text") from None
