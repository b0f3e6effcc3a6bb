"""The console as an HttpApi: from a request to the page, or to an error as a page."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from thingmint.access.authorization import authorizer
from thingmint.access.context import Outcome
from thingmint.access.throttle import UPDATES
from thingmint.console import errors
from thingmint.console.answers import ROOT, redirect
from thingmint.console.assets import assets
from thingmint.console.browser_sessions import BrowserSessions, SignInNeeded, scope_of
from thingmint.console.cookies import SAID, SESSION
from thingmint.console.fields import Fields
from thingmint.console.oidc import ProviderAway
from thingmint.console.page import Call, Frame, url
from thingmint.console.refused_forms import answer_of_form
from thingmint.console.requests import NO_FIELDS, NOWHERE, NoPage, PageAt, PageRequest, Routes, SentFields
from thingmint.console.sign_in import OpenCall, SignInFailed
from thingmint.domain.errors import DomainError, Invalid, Unauthenticated
from thingmint.http.messages import Answer
from thingmint.services.change import Change

if TYPE_CHECKING:
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
_MAX_OPEN_BODY = 64 * 1024  # bytes of a form of a browser that is not signed in

_Route: TypeAlias = PageRequest | NoPage | Answer


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
        self._sessions = BrowserSessions(sessions, directory, dev=dev)
        self._sign_in = sign_in
        self._throttle = throttle
        self._store = store
        self._parts = parts
        self._hosts = hosts
        self._routes = Routes()

    def route(self, context: RequestContext, incoming: Incoming) -> tuple[RequestContext, _Route]:
        context, path = context.of("-", api="console"), incoming.path
        is_file = path.startswith(_STATIC)  # the same for every browser: the page below needs them, too
        if not is_file and not self._hosts.allow(incoming.header(b"host") or b""):
            return context, errors.foreign_host(self._parts.addresses())
        if path in ("/", ROOT):
            return context, redirect(url("/"))
        if is_file:
            context = context.of("asset", api="probe")  # no line in the log for each file
            return context, assets().find(path.removeprefix(_STATIC), incoming) or errors.no_page()
        found = self._routes.find("GET" if incoming.method == "HEAD" else incoming.method, path)
        cookies = self._sessions.cookies(incoming)
        if not isinstance(found, PageAt):
            return context, NoPage(found, PageRequest(NOWHERE, {}, incoming, cookies))
        context = context.of(found.page.operation, api="console" if found.page.is_recorded else "probe")
        return context, PageRequest(*found, incoming, cookies)

    async def authenticate(self, context: RequestContext, route: _Route, _: Incoming) -> RequestContext:
        if not isinstance(route, PageRequest):
            return context
        if route.page.method == "POST" or route.page.is_stream:
            route.check_origin()
        if route.page.is_open:
            return context
        caller = await self._sessions.caller(route)
        return context.by(caller, scope_of(caller, route.cookies))

    async def decode(
        self, context: RequestContext, route: _Route, incoming: Incoming
    ) -> tuple[RequestContext, SentFields]:
        if not isinstance(route, PageRequest):
            return context, NO_FIELDS
        if context.scope is not None:
            self._throttle.take(context.scope.account, UPDATES if route.is_update else context.operation)
        form = Fields([])
        try:
            query = Fields.parse(incoming.query)
            if route.page.method == "POST":
                form = await self._form(context, route, incoming)
        except Invalid as flaw:
            if context.caller is None:
                raise
            return context, SentFields(Fields([]), form, flaw)  # for a page with the menu
        return context, SentFields(query, form)

    async def _form(self, context: RequestContext, request: PageRequest, incoming: Incoming) -> Fields:
        """The fields that were sent. Raises Invalid."""
        media = (incoming.header(b"content-type") or b"").partition(b";")[0].strip().lower()
        if media != _FORM:
            raise Invalid("form", f"must be sent as {_FORM.decode()}")
        body = (await incoming.whole()).body
        if context.caller is None and len(body) > _MAX_OPEN_BODY:
            raise Invalid("form", f"must be at most {_MAX_OPEN_BODY} bytes")
        form = Fields.parse(body)
        if context.caller is not None:
            self._sessions.check_form(request, form)
        return form

    async def serve(self, context: RequestContext, outcome: Outcome, route: _Route, sent: SentFields) -> Answer:
        if isinstance(route, NoPage):
            return await self._missing(context, outcome, route)
        if not isinstance(route, PageRequest):
            return route
        if context.caller is None or context.scope is None:
            return await route.page.handler(self._open_call(context, outcome, route, sent))
        call = await self._call(context, context.caller, context.scope, outcome, route, sent)
        outcome.is_update = call.is_update
        try:
            if sent.flaw is not None:
                raise sent.flaw
            answer = await route.page.handler(call)
        except (Unauthenticated, ProviderAway):
            raise
        except DomainError as error:
            answer = await self._refused(call, route, sent, error)
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

    async def _missing(self, context: RequestContext, outcome: Outcome, route: NoPage) -> Answer:
        """The page that says so, with the menu if the browser is signed in."""
        allowed, request = route
        try:
            caller = await self._sessions.caller(request)
        except Unauthenticated:
            return errors.no_page(allowed)
        call = await self._call(context, caller, scope_of(caller, request.cookies), outcome, request, NO_FIELDS)
        return errors.no_page(allowed, call.frame)

    async def _refused(self, call: Call, request: PageRequest, sent: SentFields, error: DomainError) -> Answer:
        """The page of the form with the error and what was typed; without a form, a page that has only the error."""

        async def make(page: PageRequest, fields: SentFields) -> Answer:
            outcome = Outcome()  # that of the call has what was refused
            again = await self._call(call.context, call.caller, call.scope, outcome, page, fields)
            return await page.page.handler(again)

        refusal = errors.answer_of(error, call.frame)
        return await answer_of_form(refusal, request, sent, error, self._routes, make)

    async def _call(
        self,
        context: RequestContext,
        caller: Caller,
        scope: Scope,
        outcome: Outcome,
        request: PageRequest,
        sent: SentFields,
    ) -> Call:
        cookies, incoming = request.cookies, request.incoming
        frame = Frame(
            path=incoming.path,
            entry=request.page.entry,
            form_token=self._sessions.form_token(request),
            account=caller.account,
            who=caller.session or caller.name,
            region=scope.region,
            regions=caller.regions,
            is_signed_in=cookies.get(SESSION) is not None,
            health=(await self._parts.health()).state,
            said=cookies.said(),
            update_token=partial(self._sessions.update_token, request, scope),
            here=sent.form_page if incoming.method == "POST" else request.page_address,
        )
        return Call(
            context=context,
            outcome=outcome,
            caller=caller,
            change=Change(scope, context.now, self._parts.environment, authorizer(context, outcome, scope)),
            store=self._store.of(context, outcome),
            parts=self._parts,
            frame=frame,
            path=request.parameters,
            query=sent.query,
            form=sent.form,
            cookies=cookies,
            is_update=self._sessions.is_update(request, scope),
        )

    def _open_call(self, context: RequestContext, outcome: Outcome, request: PageRequest, sent: SentFields) -> OpenCall:
        return OpenCall(
            context=context,
            outcome=outcome,
            store=self._store.of(context, outcome),
            pages=self._sign_in,
            cookies=request.cookies,
            origin=request.origin,
            query=sent.query,
            form=sent.form,
        )
