"""The sessions of browsers: who asks, and the tokens that prove that a form or an update is of the same session."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from thingmint.console.cookies import REGION, SESSION, Cookies
from thingmint.domain.errors import Invalid, Unauthenticated

if TYPE_CHECKING:
    from thingmint.access.console_sessions import ConsoleSessions
    from thingmint.access.context import Caller
    from thingmint.access.directory import Directory
    from thingmint.console.fields import Fields
    from thingmint.console.requests import PageRequest
    from thingmint.domain.arns import Scope
    from thingmint.http.messages import Incoming


class SignInNeeded(Unauthenticated):
    """``path`` is where the browser wanted to go; None if signing in cannot lead there."""

    def __init__(self, message: str, path: str | None) -> None:
        super().__init__("missing", message)
        self.path = path


class BrowserSessions:
    """``dev``: browsers on this machine need not sign in; their requests are the developer's."""

    def __init__(self, sessions: ConsoleSessions, directory: Directory, *, dev: bool) -> None:
        self._sessions = sessions
        self._directory = directory
        self._dev = dev

    def cookies(self, incoming: Incoming) -> Cookies:
        return Cookies(incoming, self._sessions.signature)

    async def caller(self, request: PageRequest) -> Caller:
        """Raises SignInNeeded."""
        cookie = request.cookies.get(SESSION)
        if cookie is not None:
            try:
                return (await self._sessions.find(cookie, is_use=request.is_use))[1]
            except Unauthenticated as error:
                if not self._dev:
                    raise SignInNeeded(str(error), request.wanted) from None
        if self._dev:
            return await self._directory.developer()
        raise SignInNeeded("Sign in to use the console", request.wanted)

    def form_token(self, request: PageRequest) -> str:
        """The token of the session's forms."""
        return self._sessions.signature(f"form {_session_of(request)}")

    def check_form(self, request: PageRequest, form: Fields) -> None:
        """Raises Invalid unless the form has the token of the session."""
        if not _is_same(next(iter(form.all("form_token")), ""), self.form_token(request)):
            raise Invalid("form", "is from an earlier session; go back, reload the page and send the form again")

    def update_token(self, request: PageRequest, scope: Scope, address: str) -> str:
        """The token with which a part of the page asks for the address again."""
        return self._sessions.signature(f"update {_session_of(request)} {' '.join(scope)} {address}")

    def is_update(self, request: PageRequest, scope: Scope) -> bool:
        """True if the request has the token of an update."""
        given = (request.incoming.header(b"thingmint-update") or b"").decode("latin-1")
        expected = self.update_token(request, scope, request.address)
        return request.incoming.method == "GET" and _is_same(given, expected)


def scope_of(caller: Caller, cookies: Cookies) -> Scope:
    """The region that the browser chose, or the account's home region."""
    region = cookies.get(REGION)
    return caller.scope(region if region in caller.regions else None)


def _session_of(request: PageRequest) -> str:
    return request.cookies.get(SESSION) or "dev"


def _is_same(token: str, expected: str) -> bool:
    return token.isascii() and hmac.compare_digest(token, expected)
