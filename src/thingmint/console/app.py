"""The console as an HttpApi: routes, sessions, the token of forms, and errors as pages."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from starlette.routing import Match, Route

from thingmint.access.authorization import authorizer
from thingmint.access.throttle import UPDATES
from thingmint.console import errors
from thingmint.console.answers import ROOT, page_answer, redirect
from thingmint.console.assets import assets
from thingmint.console.cookies import REGION, SAID, SESSION, Cookies
from thingmint.console.fields import Fields
from thingmint.console.oidc import ProviderAway
from thingmint.console.page import PAGES, Call, Frame, Page, url
from thingmint.console.pages import load_pages
from thingmint.console.rendering import render
from thingmint.console.sign_in import OpenCall
from thingmint.domain.errors import DomainError, Invalid, Unauthenticated
from thingmint.services.change import Change

if TYPE_CHECKING:
    from thingmint.access.audit import AuditedStore
    from thingmint.access.console_sessions import ConsoleSessions
    from thingmint.access.context import Caller, Outcome, RequestContext
    from thingmint.access.directory import Directory
    from thingmint.access.throttle import Throttle
    from thingmint.console.hosts import AllowedHosts
    from thingmint.console.page import Parts
    from thingmint.console.sign_in import SignInPages
    from thingmint.domain.arns import Scope
    from thingmint.http.messages import Answer, Incoming

_STATIC = f"{ROOT}/static/"
_FORM = b"application/x-www-form-urlencoded"
_MAX_OPEN_BODY = 64 * 1024  # bytes of a form of a browser that is not signed in


class _Found(NamedTuple):
    """A page with its path's parameters, and what the request's head says about the browser."""

    page: Page
    parameters: dict[str, str]
    incoming: Incoming
    cookies: Cookies


@dataclass(frozen=True, slots=True)
class _Given:
    query: Fields
    form: Fields


class SignInNeeded(Unauthenticated):
    """``path`` is where the browser wanted to go; None if signing in cannot lead there."""

    def __init__(self, message: str, path: str | None) -> None:
        super().__init__("missing", message)
        self.path = path


class ConsoleApi:
    """``dev``: browsers on this machine need not sign in; their requests are the developer's."""

    def __init__(
        self,
        sessions: ConsoleSessions,
        sign_in: SignInPages,
        directory: Directory,
        throttle: Throttle,
        store: AuditedStore,
        parts: Parts,
        hosts: AllowedHosts,
        *,
        dev: bool,
    ) -> None:
        load_pages()
        self._sessions = sessions
        self._sign_in = sign_in
        self._directory = directory
        self._throttle = throttle
        self._store = store
        self._parts = parts
        self._hosts = hosts
        self._dev = dev
        # Paths without parameters come first, whichever module was imported first.
        pages = sorted(PAGES, key=lambda page: "{" in page.path)
        self._routes = [(Route(f"{ROOT}{page.path}", _unused, methods=[page.method]), page) for page in pages]

    def route(self, context: RequestContext, incoming: Incoming) -> tuple[RequestContext, _Found | Answer]:
        context = context.of("-", api="console")
        if not self._hosts.allow(incoming.header(b"host") or b""):
            return context, _foreign_host()
        path = incoming.path
        if path in ("/", ROOT):
            return context, redirect(url("/"))
        if path.startswith(_STATIC):
            context = context.of("asset", api="probe")  # no line in the log for each file
            found = assets().find(path.removeprefix(_STATIC), incoming)
            return context, found if found is not None else errors.not_found()
        method = "GET" if incoming.method == "HEAD" else incoming.method
        allowed: set[str] = set()
        for route, page in self._routes:
            match, scope = route.matches({"type": "http", "method": method, "path": path})
            if match is Match.FULL:
                cookies = Cookies(incoming, self._sessions.signature)
                api = "console" if page.is_recorded else "probe"
                return context.of(page.operation, api=api), _Found(page, scope["path_params"], incoming, cookies)
            if match is Match.PARTIAL:
                allowed |= route.methods or set()
        return context, errors.wrong_method(allowed) if allowed else errors.not_found()

    async def authenticate(self, context: RequestContext, route: _Found | Answer, incoming: Incoming) -> RequestContext:
        if not isinstance(route, _Found):
            return context
        if route.page.method == "POST" or route.page.is_stream:
            _check_origin(incoming)
        if route.page.is_open:
            return context
        caller = await self._caller(route)
        return context.by(caller, _scope(caller, route.cookies))

    async def decode(
        self, context: RequestContext, route: _Found | Answer, incoming: Incoming
    ) -> tuple[RequestContext, _Given]:
        if not isinstance(route, _Found):
            return context, _Given(Fields([]), Fields([]))
        if context.scope is not None:
            is_update = incoming.header(b"thingmint-update") is not None
            self._throttle.take(context.scope.account, UPDATES if is_update else context.operation)
        query, form = Fields.parse(incoming.query), Fields([])
        if route.page.method == "POST":
            media = (incoming.header(b"content-type") or b"").partition(b";")[0].strip().lower()
            if media != _FORM:
                raise Invalid("form", f"must be sent as {_FORM.decode()}")
            body = (await incoming.whole()).body
            if context.caller is None and len(body) > _MAX_OPEN_BODY:
                raise Invalid("form", f"must be at most {_MAX_OPEN_BODY} bytes")
            form = Fields.parse(body)
            if context.caller is not None:
                self._check_token(route, form)
        return context, _Given(query, form)

    async def serve(self, context: RequestContext, outcome: Outcome, route: _Found | Answer, given: _Given) -> Answer:
        if not isinstance(route, _Found):
            return route
        if context.caller is None or context.scope is None:
            return await route.page.handler(self._open_call(context, outcome, route, given))
        call = await self._call(context, context.caller, context.scope, outcome, route, given)
        outcome.is_update = call.is_update
        answer = await route.page.handler(call)
        if call.frame.said is not None and not call.is_update:
            answer = replace(answer, headers=[*answer.headers, route.cookies.drop(SAID)])
        return answer

    def refuse(self, context: RequestContext, error: DomainError) -> Answer:
        if isinstance(error, SignInNeeded) and error.path is not None:
            return redirect(url("/sign-in", next=error.path), code="Unauthenticated")
        if isinstance(error, Unauthenticated):
            return self._sign_in.page(str(error), status=401)
        if isinstance(error, ProviderAway):
            return self._sign_in.page(str(error), status=503)  # with the other ways to sign in
        return errors.answer_of(error, is_signed_in=context.caller is not None)

    async def _caller(self, route: _Found) -> Caller:
        """Raises SignInNeeded."""
        cookie, incoming = route.cookies.get(SESSION), route.incoming
        back = None
        if incoming.method == "GET" and not route.page.is_stream and incoming.header(b"thingmint-update") is None:
            back = incoming.path.removeprefix(ROOT) + (f"?{incoming.query.decode('latin-1')}" if incoming.query else "")
        if cookie is not None:
            is_use = incoming.header(b"thingmint-update") is None
            try:
                return (await self._sessions.find(cookie, is_use=is_use and not route.page.is_stream))[1]
            except Unauthenticated as error:
                if not self._dev:
                    raise SignInNeeded(str(error), back) from None
        if self._dev:
            return await self._directory.developer()
        raise SignInNeeded("Sign in to use the console", back)

    async def _call(
        self,
        context: RequestContext,
        caller: Caller,
        scope: Scope,
        outcome: Outcome,
        route: _Found,
        given: _Given,
    ) -> Call:
        cookies, incoming = route.cookies, route.incoming

        def update_token(address: str) -> str:
            return self._sessions.signature(f"update {_session_of(cookies)} {' '.join(scope)} {address}")

        given_token = (incoming.header(b"thingmint-update") or b"").decode("latin-1")
        frame = Frame(
            path=incoming.path,
            entry=route.page.entry,
            form_token=self._token(route),
            account=caller.account,
            who=caller.session or caller.name,
            region=scope.region,
            regions=caller.regions,
            is_signed_in=cookies.get(SESSION) is not None,
            health=(await self._parts.health()).state,
            said=cookies.said(),
            update_token=update_token,
        )
        return Call(
            context=context,
            outcome=outcome,
            caller=caller,
            change=Change(scope, context.now, self._parts.environment, authorizer(context, outcome, scope)),
            store=self._store.of(context, outcome),
            parts=self._parts,
            frame=frame,
            path=route.parameters,
            query=given.query,
            form=given.form,
            cookies=cookies,
            is_update=incoming.method == "GET" and _is_same(given_token, update_token(_address_of(incoming))),
        )

    def _open_call(self, context: RequestContext, outcome: Outcome, route: _Found, given: _Given) -> OpenCall:
        return OpenCall(
            context=context,
            outcome=outcome,
            store=self._store.of(context, outcome),
            pages=self._sign_in,
            cookies=route.cookies,
            origin=_origin(route.incoming),
            query=given.query,
            form=given.form,
        )

    def _token(self, route: _Found) -> str:
        """The token of the session's forms."""
        return self._sessions.signature(f"form {_session_of(route.cookies)}")

    def _check_token(self, route: _Found, form: Fields) -> None:
        token = form.text("form_token")
        if not _is_same(token, self._token(route)):
            raise Invalid("form", "is from an earlier session; go back, reload the page and send the form again")


def _session_of(cookies: Cookies) -> str:
    return cookies.get(SESSION) or "dev"


def _is_same(token: str, expected: str) -> bool:
    return token.isascii() and hmac.compare_digest(token, expected)


def _address_of(incoming: Incoming) -> str:
    """Path and query, as a page has them in its links."""
    query = f"?{incoming.query.decode('latin-1')}" if incoming.query else ""
    return incoming.raw_path.decode("latin-1") + query


def _check_origin(incoming: Incoming) -> None:
    """Raises Invalid for a form or a stream that a page of another site asked for."""
    site, origin = incoming.header(b"sec-fetch-site"), incoming.header(b"origin")
    host = (incoming.header(b"host") or b"").lower()
    ours = (None, b"http://" + host, b"https://" + host)
    if site not in (None, b"same-origin", b"none") or (origin and origin.lower()) not in ours:
        raise Invalid("request", "was sent by a page of another site")


def _origin(incoming: Incoming) -> str:
    """The origin by which the browser reaches this server. The host was checked before."""
    host = (incoming.header(b"host") or b"").decode("latin-1")
    return f"{'https' if incoming.secure else 'http'}://{host}"


def _scope(caller: Caller, cookies: Cookies) -> Scope:
    """The region that the browser chose, or the account's home region."""
    region = cookies.get(REGION)
    return caller.scope(region if region in caller.regions else None)


def _foreign_host() -> Answer:
    body = render(
        "plain.html",
        title="Another name is needed",
        sentences=[
            "The console does not answer under this host name.",
            "Open it by one of the server's own names or addresses, or add the name to the setting console.host_names.",
        ],
    )
    return page_answer(body, 421, code="ForeignHost")


async def _unused(scope: object, receive: object, send: object) -> None:
    """Never called: only the matching of Starlette's routes is used."""
