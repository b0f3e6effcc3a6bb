"""The pages by which a browser signs in: a link that is used once, an API token, OpenID Connect."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import orjson

from thingmint.console.answers import ROOT, page_answer, redirect
from thingmint.console.cookies import SESSION
from thingmint.console.page import Call, action, page, url
from thingmint.console.rendering import render
from thingmint.domain.errors import Unauthenticated

if TYPE_CHECKING:
    from thingmint.access.console_sessions import ConsoleSessions, SignIn
    from thingmint.access.context import Outcome, RequestContext
    from thingmint.console.cookies import Cookies
    from thingmint.console.fields import Fields
    from thingmint.console.oidc import OpenIdConnect
    from thingmint.http.messages import Answer
    from thingmint.store.engine import Store

LINK_PATH = "/sign-in/link"
_CALLBACK = "/sign-in/oidc/callback"
_OIDC = "oidc"
_OIDC_TIME = timedelta(minutes=10)
MAX_PATH = 2048
"""The longest address to which signing in leads."""


class SignInFailed(Unauthenticated):
    """``next`` is the page that was wanted, for the next try."""

    def __init__(self, error: Unauthenticated, next: str) -> None:
        super().__init__(error.flaw, error.message, error.advice)
        self.next = next


@dataclass(frozen=True, slots=True)
class SignInPages:
    """``oidc`` is None unless the settings name a provider."""

    sessions: ConsoleSessions
    oidc: OpenIdConnect | None = None

    def page(self, trouble: str | None = None, *, next: str = "", status: int = 200) -> Answer:
        """The page with all ways to sign in. ``trouble`` is why the last one failed."""
        body = render("sign_in.html", trouble=trouble, next=next, oidc=self.oidc.label if self.oidc else None)
        return page_answer(body, status, code={401: "Unauthenticated", 503: "Unavailable"}.get(status))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCall:
    """A request of a browser that is not signed in. ``origin`` is the server's, as the browser knows it."""

    context: RequestContext
    outcome: Outcome
    store: Store
    pages: SignInPages
    cookies: Cookies
    origin: str
    query: Fields
    form: Fields

    async def signed_in(self, who: SignIn, next: str) -> Answer:
        """Begins a session, and sends the browser to the page that it wanted."""
        self.outcome.caller = who.caller
        cookie = await self.pages.sessions.begin(self.store, who)
        return redirect(_below_root(next), headers=[self.cookies.set(SESSION, cookie)])


@page("/sign-in", "ConsoleSignInPage", is_open=True)
async def sign_in(call: OpenCall) -> Answer:
    return call.pages.page(next=call.query.text("next", MAX_PATH))


@action("/sign-in", "ConsoleSignIn", is_open=True)
async def sign_in_by_token(call: OpenCall) -> Answer:
    next = call.form.text("next", MAX_PATH)
    try:
        who = await call.pages.sessions.by_token(call.form.text("token"))
    except Unauthenticated as error:
        raise SignInFailed(error, next) from None
    return await call.signed_in(who, next)


@page(LINK_PATH, "ConsoleSignInPage", is_open=True)
async def link(call: OpenCall) -> Answer:
    """Asks before the link is used up: some programs open links to look at them."""
    secret = call.query.text("link")
    who = await call.pages.sessions.by_link(secret)
    return page_answer(render("sign_in_link.html", link=secret, name=who.caller.name, account=who.caller.account))


@action(LINK_PATH, "ConsoleSignIn", is_open=True)
async def sign_in_by_link(call: OpenCall) -> Answer:
    return await call.signed_in(await call.pages.sessions.by_link(call.form.text("link")), "")


@page("/sign-in/oidc", "ConsoleSignInPage", is_open=True)
async def to_provider(call: OpenCall) -> Answer:
    begun = await _oidc(call).begin(f"{call.origin}{ROOT}{_CALLBACK}")
    ends = int((call.context.now + _OIDC_TIME).timestamp())
    kept = orjson.dumps({**begun.kept, "ends": ends, "next": call.query.text("next", MAX_PATH)}).decode()
    cookie = call.cookies.set_signed(_OIDC, kept, int(_OIDC_TIME.total_seconds()))
    return redirect(begun.location, headers=[cookie])


@page(_CALLBACK, "ConsoleSignIn", is_open=True)
async def from_provider(call: OpenCall) -> Answer:
    oidc = _oidc(call)
    kept = orjson.loads(call.cookies.signed(_OIDC) or "{}")
    if call.context.now.timestamp() >= kept.get("ends", 0):
        raise Unauthenticated("expired", "Signing in took too long, or began in another browser; try again")
    try:
        person = await oidc.finish(f"{call.origin}{ROOT}{_CALLBACK}", kept, dict(call.query.pairs))
        who = await call.pages.sessions.by_role(person.account, person.role, person.name)
    except Unauthenticated as error:
        raise SignInFailed(error, kept["next"]) from None
    answer = await call.signed_in(who, kept["next"])
    return type(answer)(answer.status, [*answer.headers, call.cookies.drop(_OIDC)], answer.body)


@action("/sign-out", "ConsoleSignOut")
async def sign_out(call: Call) -> Answer:
    """Ends the session. Without one (the developer's) there is nothing to end."""
    cookie = call.cookies.get(SESSION)
    if cookie is not None:
        await call.parts.sessions.end(call.store, cookie.partition(".")[0])
        call.parts.updates.check_soon()
    return redirect(url("/sign-in"), headers=[call.cookies.drop(SESSION)])


def _oidc(call: OpenCall) -> OpenIdConnect:
    if call.pages.oidc is None:
        raise Unauthenticated("missing", "This server has no OpenID Connect provider")
    return call.pages.oidc


def _below_root(path: str) -> str:
    """The address of a path of the console. It cannot lead to another site, whatever the path is."""
    return ROOT + quote(path if path.startswith("/") else "/", safe="/:@!$,;=-._~?&%+")
