"""The console as an HttpApi: routes, sessions, the token of forms, and errors as pages."""

from __future__ import annotations

import hmac
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import unquote

from starlette.routing import Match, Route

from thingmint.access.authorization import authorizer
from thingmint.access.context import Outcome
from thingmint.access.throttle import UPDATES
from thingmint.console import errors
from thingmint.console.answers import HTML, ROOT, page_answer, redirect
from thingmint.console.assets import assets
from thingmint.console.cookies import REGION, SAID, SESSION, Cookies
from thingmint.console.fields import Fields
from thingmint.console.forms import with_form
from thingmint.console.oidc import ProviderAway
from thingmint.console.page import PAGES, Call, Frame, Page, url
from thingmint.console.pages import load_pages
from thingmint.console.rendering import render
from thingmint.console.sign_in import MAX_PATH, OpenCall, SignInFailed
from thingmint.domain.errors import DomainError, Invalid, Throttled, Unauthenticated
from thingmint.http.messages import Answer
from thingmint.services.change import Change

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.access.audit import AuditedStore
    from thingmint.access.console_sessions import ConsoleSessions
    from thingmint.access.context import Caller, RequestContext
    from thingmint.access.directory import Directory
    from thingmint.access.throttle import Throttle
    from thingmint.console.hosts import AllowedHosts
    from thingmint.console.page import Parts
    from thingmint.console.sign_in import SignInPages
    from thingmint.domain.arns import Scope
    from thingmint.http.messages import Incoming

_STATIC = f"{ROOT}/static/"
_FORM = b"application/x-www-form-urlencoded"
_MAX_ADDRESS = 4096
_MAX_OPEN_BODY = 64 * 1024  # bytes of a form of a browser that is not signed in


class _Found(NamedTuple):
    """A page with its path's parameters, and what the request's head says about the browser."""

    page: Page
    parameters: dict[str, str]
    incoming: Incoming
    cookies: Cookies


class _NoPage(NamedTuple):
    """No page is at the path, or one for the methods that are ``allowed``."""

    allowed: set[str]
    incoming: Incoming
    cookies: Cookies


@dataclass(frozen=True, slots=True)
class _Given:
    """``flaw`` is why the form cannot be used."""

    query: Fields
    form: Fields
    flaw: Invalid | None = None


_Route: TypeAlias = _Found | _NoPage | Answer


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

    def route(self, context: RequestContext, incoming: Incoming) -> tuple[RequestContext, _Route]:
        context, path = context.of("-", api="console"), incoming.path
        is_file = path.startswith(_STATIC)  # the same for every browser: the page below needs them, too
        if not is_file and not self._hosts.allow(incoming.header(b"host") or b""):
            return context, self._foreign_host()
        if path in ("/", ROOT):
            return context, redirect(url("/"))
        if is_file:
            context = context.of("asset", api="probe")  # no line in the log for each file
            found = assets().find(path.removeprefix(_STATIC), incoming)
            return context, found if found is not None else errors.no_page()
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
        return context, _NoPage(allowed, incoming, Cookies(incoming, self._sessions.signature))

    async def authenticate(self, context: RequestContext, route: _Route, incoming: Incoming) -> RequestContext:
        if not isinstance(route, _Found):
            return context
        if route.page.method == "POST" or route.page.is_stream:
            _check_origin(incoming)
        if route.page.is_open:
            return context
        caller = await self._caller(route)
        return context.by(caller, _scope(caller, route.cookies))

    async def decode(self, context: RequestContext, route: _Route, incoming: Incoming) -> tuple[RequestContext, _Given]:
        if not isinstance(route, _Found):
            return context, _Given(Fields([]), Fields([]))
        if context.scope is not None:
            is_update = incoming.header(b"thingmint-update") is not None
            self._throttle.take(context.scope.account, UPDATES if is_update else context.operation)
        form = Fields([])
        try:
            query = Fields.parse(incoming.query)
            if route.page.method == "POST":
                form = await self._form(context, route, incoming)
        except Invalid as flaw:
            if context.caller is None:
                raise
            return context, _Given(Fields([]), form, flaw)  # for a page with the menu
        return context, _Given(query, form)

    async def _form(self, context: RequestContext, route: _Found, incoming: Incoming) -> Fields:
        """The fields that were sent. Raises Invalid."""
        media = (incoming.header(b"content-type") or b"").partition(b";")[0].strip().lower()
        if media != _FORM:
            raise Invalid("form", f"must be sent as {_FORM.decode()}")
        body = (await incoming.whole()).body
        if context.caller is None and len(body) > _MAX_OPEN_BODY:
            raise Invalid("form", f"must be at most {_MAX_OPEN_BODY} bytes")
        form = Fields.parse(body)
        if context.caller is not None and not _is_same(next(iter(form.all("form_token")), ""), self._token(route)):
            raise Invalid("form", "is from an earlier session; go back, reload the page and send the form again")
        return form

    async def serve(self, context: RequestContext, outcome: Outcome, route: _Route, given: _Given) -> Answer:
        if isinstance(route, _NoPage):
            return await self._missing(context, outcome, route)
        if not isinstance(route, _Found):
            return route
        if context.caller is None or context.scope is None:
            return await route.page.handler(self._open_call(context, outcome, route, given))
        call = await self._call(context, context.caller, context.scope, outcome, route, given)
        outcome.is_update = call.is_update
        try:
            if given.flaw is not None:
                raise given.flaw
            answer = await route.page.handler(call)
        except (Unauthenticated, ProviderAway):
            raise
        except DomainError as error:
            answer = await self._refused(call, route, given, error)
        if call.frame.said is not None and not call.is_update:
            answer = replace(answer, headers=[*answer.headers, route.cookies.drop(SAID)])
        return answer

    def refuse(self, context: RequestContext, error: DomainError) -> Answer:
        if isinstance(error, SignInNeeded) and error.path is not None:
            return redirect(url("/sign-in", next=error.path), code="Unauthenticated")
        if isinstance(error, Unauthenticated):
            next = error.next if isinstance(error, SignInFailed) else ""
            return self._sign_in.page(str(error), next=next, status=401)
        if isinstance(error, ProviderAway):
            return self._sign_in.page(str(error), status=503)  # with the other ways to sign in
        return errors.answer_of(error)

    def _foreign_host(self) -> Answer:
        """Names an address of the server. The name in the request may be of another site, so it is not repeated."""
        found = self._parts.addresses()
        body = render(
            "plain.html",
            title="Another name is needed",
            sentences=[
                "The console does not answer under this host name.",
                "Open it by an address or a name of the server, or add the name to the setting console.host_names.",
            ],
            address=f"https://{found.host}:{found.api_port}{url('/')}",
        )
        return page_answer(body, 421, code="ForeignHost")

    async def _missing(self, context: RequestContext, outcome: Outcome, route: _NoPage) -> Answer:
        """The page that says so, with the menu if the browser is signed in."""
        found = _Found(_NOWHERE, {}, route.incoming, route.cookies)
        try:
            caller = await self._caller(found)
        except Unauthenticated:
            return errors.no_page(route.allowed)
        scope = _scope(caller, route.cookies)
        call = await self._call(context, caller, scope, outcome, found, _Given(Fields([]), Fields([])))
        return errors.no_page(route.allowed, call.frame)

    async def _refused(self, call: Call, route: _Found, given: _Given, error: DomainError) -> Answer:
        """The page of the form with the error and what was typed; without a form, a page that has only the error."""
        answer = errors.answer_of(error, call.frame)
        if route.page.method != "POST" or given.flaw is not None:
            return answer
        if isinstance(error, Throttled) and not route.page.is_recorded:
            return answer  # to make the page would check a document once more, in place of the newer one
        for found, fields in self._pages_of_form(route, given):
            outcome = Outcome()  # that of the call has what was refused
            again = await self._call(call.context, call.caller, call.scope, outcome, found, fields)
            try:
                shown = await found.page.handler(again)
            except DomainError:
                continue
            if shown.status < 300 and dict(shown.headers).get(b"content-type") == HTML:
                body = with_form(shown.body.decode(), route.incoming.path, given.form.pairs, error)
                if body is not None:
                    later = [(name, value) for name, value in answer.headers if name == b"retry-after"]
                    headers = [*shown.headers, *later]
                    return replace(shown, status=answer.status, code=answer.code, body=body.encode(), headers=headers)
        return answer

    def _pages_of_form(self, route: _Found, given: _Given) -> Iterator[tuple[_Found, _Given]]:
        """The pages that may have the form that was sent."""
        if route.page.form is not None:
            yield route._replace(page=replace(route.page, handler=route.page.form)), given
        path, _, query = _form_page(given.form).partition("?")
        for matcher, page in self._routes:
            match, scope = matcher.matches({"type": "http", "method": "GET", "path": unquote(path)})
            if match is Match.FULL:
                if not (page.is_open or page.is_stream):
                    with suppress(Invalid):
                        fields = Fields.parse(query.encode())
                        yield route._replace(page=page, parameters=scope["path_params"]), _Given(fields, given.form)
                return

    async def _caller(self, route: _Found) -> Caller:
        """Raises SignInNeeded."""
        cookie, incoming = route.cookies.get(SESSION), route.incoming
        back = None
        if incoming.method == "GET" and not route.page.is_stream and incoming.header(b"thingmint-update") is None:
            query = f"?{incoming.query.decode('latin-1')}" if incoming.query else ""
            wanted = incoming.path.removeprefix(ROOT) + query
            back = wanted if len(wanted) <= MAX_PATH else "/"
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
            here=_form_page(given.form) if incoming.method == "POST" else _page_address(route),
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


def _page_address(route: _Found) -> str:
    """The address of a page. That of an operation of the playground may have secrets, and so has only its path."""
    has_query = route.page.entry != "/playground"
    address = _address_of(route.incoming) if has_query else route.incoming.raw_path.decode("latin-1")
    return address[:_MAX_ADDRESS]


def _form_page(form: Fields) -> str:
    """The address of the page that the form was on, as the form has it."""
    return next(iter(form.all("form_page")), "")[:_MAX_ADDRESS]


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


async def _unused(*_: object) -> None:
    """Never called: only the matching of Starlette's routes is used."""


_NOWHERE = Page("", "-", "GET", _unused, "")  # type: ignore[arg-type]
