"""The declaration of a page, and what a page's function gets.

A page is a function in a module of ``pages`` with a template. ``page`` declares it under its path; ``action`` declares
what a form of it does. Both ask ``call.may`` before they read or change anything, as every operation of the APIs does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

from thingmint.access.authorization import authorizer, is_allowed
from thingmint.access.operations import write_with_new_ids
from thingmint.console.answers import ROOT, page_answer, redirect
from thingmint.console.document_checks import DocumentChecks
from thingmint.console.exports import Exports
from thingmint.console.rendering import render
from thingmint.domain.errors import Invalid
from thingmint.http.documents import is_built
from thingmint.services.pages import Cursor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from thingmint.access.audit import AuditedStore
    from thingmint.access.audit_records import AuditRecords
    from thingmint.access.audit_verification import AuditVerification
    from thingmint.access.console_sessions import ConsoleSessions
    from thingmint.access.context import Caller, Outcome, RequestContext
    from thingmint.access.local_admin import Administration
    from thingmint.console.cookies import Cookies
    from thingmint.console.fields import Fields
    from thingmint.console.own_certificates import OwnCertificate
    from thingmint.console.updates import Updates
    from thingmint.domain.arns import Scope
    from thingmint.domain.linting import Vocabulary
    from thingmint.domain.policies import Kind
    from thingmint.http.invoking import Invoked, PreparedRequest
    from thingmint.http.messages import Answer, Header
    from thingmint.services.change import Change, Environment
    from thingmint.services.device_explanations import Asked
    from thingmint.services.health import HealthReport, State
    from thingmint.store.engine import Transaction

    Handler = Callable[[Any], Awaitable[Answer]]
    """The argument is a Call; for a page that is open, an OpenCall (sign_in)."""

T = TypeVar("T")

_LONGEST_TOKEN = 2000  # of a part of a list

NAVIGATION: Sequence[tuple[str, Sequence[tuple[str, str]]]] = (
    (
        "Fleet",
        (
            ("Overview", "/"),
            ("Certificates", "/certificates"),
            ("Things and devices", "/things"),
            ("Sessions", "/sessions"),
            ("Why refused", "/refusals"),
        ),
    ),
    (
        "Identity",
        (
            ("CAs and expiry", "/cas"),
            ("Provisioning", "/provisioning"),
            ("Access and audit", "/access"),
        ),
    ),
    (
        "Build",
        (
            ("Connect a device", "/connect"),
            ("Playground", "/playground"),
        ),
    ),
)
"""The side menu. An entry is shown when a page is declared at its path."""


@dataclass(frozen=True, slots=True)
class Page:
    """``operation`` is the name in log, metrics and audit record: that of the API's call that does the same.

    ``entry`` is the path of the menu's entry that the page belongs to. ``form`` shows the form of an action again.
    """

    path: str
    operation: str
    method: str
    handler: Handler
    entry: str
    is_open: bool = False  # for browsers that are not signed in
    is_stream: bool = False  # of a page that is open already: it does not keep the session open
    is_recorded: bool = True
    form: Handler | None = None


PAGES: list[Page] = []

STOP_UPDATES = 286
"""The status with which a page shows the answer to its update, and does not ask again."""


def page(
    path: str, operation: str, *, entry: str | None = None, is_open: bool = False, is_stream: bool = False
) -> Callable[[Handler], Handler]:
    """Declares a page. ``path`` is below /console and may have parameters, as in ``/certificates/{id}``."""
    return _declared(path, operation, "GET", entry, is_open=is_open, is_stream=is_stream)


def action(
    path: str,
    operation: str,
    *,
    entry: str | None = None,
    is_open: bool = False,
    is_recorded: bool = True,
    form: Handler | None = None,
) -> Callable[[Handler], Handler]:
    """Declares what the server does with a form that is sent to ``path``. The form's token is checked before.

    ``is_recorded``: False for what only reads its own form, while a person types. It has no line in log and audit log.

    If the handler raises an error, the page that the form was on is shown again with the message and with what was
    typed. ``form`` is for forms that are on no page of their own, or that show more about what was typed: it makes the
    page from the fields that were sent.
    """
    return _declared(path, operation, "POST", entry, form, is_open=is_open, is_recorded=is_recorded)


def _declared(
    path: str, operation: str, method: str, entry: str | None, form: Handler | None = None, **kind: bool
) -> Callable[[Handler], Handler]:
    def declare(handler: Handler) -> Handler:
        PAGES.append(Page(path, operation, method, handler, entry or _first_part(path), form=form, **kind))
        return handler

    return declare


def _first_part(path: str) -> str:
    return f"/{path.split('/')[1]}"


@dataclass(frozen=True, slots=True)
class DeviceAccess:
    """Where devices connect. ``root`` returns the certificate in PEM that devices which connect to a host name trust.

    It is None if an operator's certificate is shown there. ``yandex_host`` returns the host name under which the rules
    of Yandex IoT Core hold for the devices of an account.
    """

    port: int
    root: Callable[[str], str | None]
    yandex_host: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class ServerAddresses:
    """Where clients of the APIs connect. ``own_root``: they are shown certificates of the server's own CA."""

    host: str
    api_port: int
    grpc_port: int
    own_root: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of the server that pages use beside the services.

    ``connected`` returns how many devices of an account in a region are connected, to all processes on the database.
    ``explain`` returns the reports of `thingmint why` about devices of one account and region. ``contracts`` make the
    OpenAPI document of each API. ``invoke`` runs a request of an API, by the API's name and the operation's id, for the
    caller of the page. ``policy_vocabulary`` returns what policies of a kind are asked for, in an account with these
    regions; its first call takes some tens of milliseconds.
    """

    environment: Environment
    administration: Administration
    audit: AuditRecords
    sessions: ConsoleSessions
    health: HealthReport
    connected: Callable[[Scope], int]
    devices: DeviceAccess
    explain: Callable[[Asked, Scope], Awaitable[list[dict[str, Any]]]]
    contracts: Mapping[str, Callable[[], dict[str, Any]]]
    addresses: Callable[[], ServerAddresses]
    invoke: Callable[[RequestContext, str, str, PreparedRequest], Awaitable[Invoked]]
    updates: Updates
    verification: AuditVerification
    policy_vocabulary: Callable[[Kind, Scope, Sequence[str]], Vocabulary]
    own_certificates: Callable[[], Iterable[OwnCertificate]] = tuple
    exports: Exports = field(default_factory=Exports)
    document_checks: DocumentChecks = field(default_factory=DocumentChecks)


@dataclass(frozen=True, slots=True)
class Frame:
    """What the frame of every page shows. ``said`` is what the last form did; ``form_token`` belongs in each form.

    ``update_token`` returns the token with which a part of the page asks for an address again. ``here`` is the address
    of the page that the forms are on.
    """

    path: str
    entry: str
    form_token: str
    account: str = ""
    who: str = ""
    region: str = ""
    regions: Sequence[str] = ()
    is_signed_in: bool = False
    health: State = "unknown"
    said: tuple[str, str] | None = None
    update_token: Callable[[str], str] = str
    here: str = ""

    @property
    def has_documents(self) -> bool:
        """True if this server has the documentation site."""
        return is_built()

    @property
    def navigation(self) -> list[tuple[str, list[tuple[str, str, bool]]]]:
        """The groups of the menu, with title, address and whether the entry is the current one."""
        declared = {page.path for page in PAGES if page.method == "GET"}
        groups = [
            (group, [(title, url(path), path == self.entry) for title, path in entries if path in declared])
            for group, entries in NAVIGATION
        ]
        return [(group, entries) for group, entries in groups if entries]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request of a signed-in browser. ``path`` has the parameters of the page's path."""

    context: RequestContext
    outcome: Outcome
    caller: Caller
    change: Change
    store: AuditedStore
    parts: Parts
    frame: Frame
    path: Mapping[str, str]
    query: Fields
    form: Fields
    cookies: Cookies
    is_update: bool = False  # of a part of a page that has a record already

    @property
    def scope(self) -> Scope:
        return self.change.scope

    @property
    def yandex_change(self) -> Change:
        """The change as one of Yandex's API, whichever region the browser chose: that API has no regions.

        Policies are asked without a region, and what is made is in the account's home region.
        """
        return replace(self.change, scope=self.caller.scope(), authorize=authorizer(self.context, self.outcome))

    def may(self, action: str, *resources: str) -> None:
        """Raises Denied unless the caller's policies allow the action, as the action's API asks them."""
        change = self.change if scope_of_action(action, self.scope) is not None else self.yandex_change
        change.may(action, *resources)

    def allows(self, action: str, *resources: str) -> bool:
        """True if ``may`` would not raise. For what to show: it is no refusal."""
        return is_allowed(self.context, action, resources or ("*",), scope_of_action(action, self.scope))

    async def read(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        return await self.store.read(body)

    async def share(self, key: Any, read: Callable[[], Awaitable[T]]) -> T:
        """What ``read`` returns. Open pages that ask for an update at the same time share it.

        ``key`` names all that the result depends on beside account and region, the caller's rights included.
        """
        if not self.is_update:
            return await read()
        return await self.parts.updates.share(self.scope, key, read)

    async def write(self, body: Callable[[Transaction], Awaitable[T]], **parameters: str) -> T:
        """The body's result. Its transaction also has the audit record of the call, which shows the ``parameters``."""
        store = self.store
        if parameters:
            store = store.of(replace(self.context, parameters=parameters), self.outcome)

        async def restarted(tx: Transaction) -> T:
            self.change.ids.restart()
            return await body(tx)

        result: T = await write_with_new_ids(store, self.change, restarted)
        return result

    def tabs(self, views: Iterable[tuple[str, str, str]], current: str) -> list[tuple[str, str, bool]]:
        """What ``ui.tabs`` shows of views, each with title, path and needed action; only what the caller may open.

        The view at the path ``current`` is the page itself.
        """
        return [
            (title, url(path), path == current)
            for title, path, needed in views
            if path == current or self.allows(needed)
        ]

    def cursor(self, limit: int) -> Cursor:
        """The part of a list that the address asks for."""
        return Cursor(limit, self.query.text("page", _LONGEST_TOKEN), "page")

    def render(self, template: str, *, status: int = 200, headers: Sequence[Header] = (), **values: Any) -> Answer:
        """The page that the template makes of ``values``."""
        body = render(template, frame=self.frame, now=self.change.now, **values)
        return page_answer(body, status, headers=headers)

    def done(self, path: str, said: str, kind: str = "ok", **query: str) -> Answer:
        """Sends the browser to another page of the console, which shows ``said`` at its top."""
        return redirect(url(path, **query), headers=[self.cookies.say(kind, said)])

    def download(self, content: str | bytes, name: str, media: str) -> Answer:
        """A file for the browser to save. ``name`` may have letters, digits, dots and hyphens only."""
        disposition = (b"content-disposition", f'attachment; filename="{name}"'.encode("ascii"))
        return page_answer(content, headers=[disposition], media=media.encode("ascii"))


def scope_of_action(action: str, scope: Scope) -> Scope | None:
    """The scope in whose region policies are asked for the action: None for those of Yandex's API, without regions."""
    return None if action.startswith("yandex:") else scope


def url(path: str, **query: str | int | None) -> str:
    """The address of a page of the console. Query fields that are None or empty are left out."""
    kept = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{ROOT}{quote(path, safe='/:@!$,;=-._~')}" + (f"?{urlencode(kept)}" if kept else "")


def links_of(path: str, cursor: Cursor, next_token: str | None, **query: str | None) -> dict[str, Any]:
    """What ``ui.pages`` shows below a list: the address of its beginning, unless it is shown, and of the next part."""
    return {
        "first": url(path, **query) if cursor.token else None,
        "next": url(path, **query, page=next_token) if next_token else None,
    }


def checked_count(form: Fields, expected: int) -> None:
    """Raises Invalid unless the form's field ``count`` has the expected number, which a person had to type."""
    if form.number("count") != expected:
        raise Invalid("count", f"Type {expected}, the number of rows that this changes")
