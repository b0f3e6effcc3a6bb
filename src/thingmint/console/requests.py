"""What a browser asks for: the page that is at an address, and what the request says beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from starlette.routing import Match, Route

from thingmint.console.answers import ROOT
from thingmint.console.fields import Fields
from thingmint.console.page import PAGES, Page
from thingmint.console.pages import load_pages
from thingmint.console.sign_in import MAX_PATH
from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from thingmint.console.cookies import Cookies
    from thingmint.http.messages import Incoming

_MAX_ADDRESS = 4096


class PageAt(NamedTuple):
    """A page, and the parameters that its path has in an address."""

    page: Page
    parameters: dict[str, str]


class Routes:
    """All pages by their addresses."""

    def __init__(self) -> None:
        load_pages()
        # Paths without parameters come first, whichever module was imported first.
        pages = sorted(PAGES, key=lambda page: "{" in page.path)
        self._routes = [(Route(f"{ROOT}{page.path}", _unused, methods=[page.method]), page) for page in pages]

    def find(self, method: str, path: str) -> PageAt | set[str]:
        """The page, or the methods for which the path has one."""
        allowed: set[str] = set()
        for route, page in self._routes:
            match, scope = route.matches({"type": "http", "method": method, "path": path})
            if match is Match.FULL:
                return PageAt(page, scope["path_params"])
            if match is Match.PARTIAL:
                allowed |= route.methods or set()
        return allowed


class PageRequest(NamedTuple):
    """A request for a page. ``parameters`` are those of the page's path."""

    page: Page
    parameters: dict[str, str]
    incoming: Incoming
    cookies: Cookies

    @property
    def is_update(self) -> bool:
        """True if a page that is open asks for a part of itself."""
        return self.incoming.header(b"thingmint-update") is not None

    @property
    def is_use(self) -> bool:
        """True if a person asks, so that the session stays open. Pages that are open ask for updates and streams."""
        return not (self.is_update or self.page.is_stream)

    @property
    def address(self) -> str:
        """Path and query, as a page has them in its links."""
        return self.incoming.raw_path.decode("latin-1") + self._query

    @property
    def page_address(self) -> str:
        """The address of the page. That of an operation of the playground may have secrets: it is without its query."""
        has_query = self.page.entry != "/playground"
        return (self.address if has_query else self.incoming.raw_path.decode("latin-1"))[:_MAX_ADDRESS]

    @property
    def wanted(self) -> str | None:
        """The path below /console to which the browser goes after signing in; None if that cannot lead there."""
        if self.incoming.method != "GET" or not self.is_use:
            return None
        path = self.incoming.path.removeprefix(ROOT) + self._query
        return path if len(path) <= MAX_PATH else "/"

    @property
    def origin(self) -> str:
        """The origin by which the browser reaches this server. The host was checked before."""
        host = (self.incoming.header(b"host") or b"").decode("latin-1")
        return f"{'https' if self.incoming.secure else 'http'}://{host}"

    @property
    def _query(self) -> str:
        return f"?{self.incoming.query.decode('latin-1')}" if self.incoming.query else ""

    def check_origin(self) -> None:
        """Raises Invalid for a form or a stream that a page of another site asked for."""
        site, origin = self.incoming.header(b"sec-fetch-site"), self.incoming.header(b"origin")
        host = (self.incoming.header(b"host") or b"").lower()
        ours = (None, b"http://" + host, b"https://" + host)
        if site not in (None, b"same-origin", b"none") or (origin and origin.lower()) not in ours:
            raise Invalid("request", "was sent by a page of another site")


class NoPage(NamedTuple):
    """A request for a path without a page, or with one for the methods that are ``allowed``."""

    allowed: set[str]
    request: PageRequest


@dataclass(frozen=True, slots=True)
class SentFields:
    """The fields of the address and of the form. ``flaw`` is why the form cannot be used."""

    query: Fields
    form: Fields
    flaw: Invalid | None = None

    @property
    def form_page(self) -> str:
        """The address of the page that the form was on, as the form has it."""
        return next(iter(self.form.all("form_page")), "")[:_MAX_ADDRESS]


NO_FIELDS = SentFields(Fields([]), Fields([]))


async def _unused(*_: object) -> None:
    """Never called: only the matching of Starlette's routes is used."""


NOWHERE = Page("", "-", "GET", _unused, "")  # type: ignore[arg-type]
"""The page of requests for which there is none."""
