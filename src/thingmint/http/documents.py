"""Serves the documentation site that `make docs` builds, at /docs."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from thingmint.domain.errors import Failed, Throttled
from thingmint.http.compression import File
from thingmint.http.messages import Answer

if TYPE_CHECKING:
    from thingmint.access.context import Outcome, RequestContext
    from thingmint.domain.errors import DomainError
    from thingmint.http.messages import Header, Incoming

DOCUMENTS_PATH = b"/docs"
BUILT = Path(__file__).resolve().parents[3] / "build" / "docs"
"""Where `make docs` puts the site, in a clone. An installed package has none."""

_PREFIX = f"{DOCUMENTS_PATH.decode()}/"
_MEDIA = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
    ".png": b"image/png",
    ".svg": b"image/svg+xml",
    ".woff2": b"font/woff2",
    ".xml": b"application/xml",
}
_TEXT = b"text/plain; charset=utf-8"
_STRICT = b"default-src 'none'; frame-ancestors 'none'"
_NO_SITE = b"There is no documentation site here. In a clone of the repository, make docs builds it.\n"
_NO_PAGE = b"There is no such page. The documentation begins at /docs/.\n"


def is_built(folder: Path = BUILT) -> bool:
    """True if there is a site to serve."""
    return (folder / "policy").is_file()


class Site:
    """The files of a built site, held in memory: a request cannot reach any other file."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError."""
        policy = (folder / "policy").read_text().strip().encode("ascii")
        self._files: dict[str, File] = {}
        site = folder / "site"
        for file in site.rglob("*"):
            within = file.relative_to(site)
            is_link = any((site / part).is_symlink() for part in (within, *within.parents))
            media = _MEDIA.get(file.suffix)
            if media is not None and not is_link and file.is_file():
                self._files[within.as_posix()] = File.of(_file(file.read_bytes(), media, policy))

    def find(self, path: str, incoming: Incoming) -> Answer | None:
        """The answer for a path below ``/docs/``, or None if the site has no such file."""
        if path == "" or path.endswith("/"):
            path += "index.html"
        elif f"{path}/index.html" in self._files:
            return _redirect(f"{_PREFIX}{path}/")
        file = self._files.get(path)
        return None if file is None else file.answer(incoming)


class DocumentsApi:
    """An HttpApi without credentials. The site is read at the first request that finds one in ``folder``."""

    def __init__(self, folder: Path = BUILT) -> None:
        self._folder = folder
        self._site: Site | None = None
        self._reading = asyncio.Lock()

    def route(self, context: RequestContext, incoming: Incoming) -> tuple[RequestContext, Incoming]:
        return context.of("document", api="probe"), incoming  # no line in the log for each file

    async def authenticate(self, context: RequestContext, route: Incoming, incoming: Incoming) -> RequestContext:
        del route, incoming
        return context

    async def decode(self, context: RequestContext, route: Incoming, incoming: Incoming) -> tuple[RequestContext, None]:
        del route, incoming
        return context, None

    async def serve(self, context: RequestContext, outcome: Outcome, route: Incoming, given: Any) -> Answer:
        del context, outcome, given
        if route.method not in ("GET", "HEAD"):
            return _told(405, b"Documents are read with GET.\n", "MethodNotAllowed", [(b"allow", b"GET, HEAD")])
        try:
            site = await self._read()
        except OSError:
            return _told(404, _NO_SITE, "NotFound")
        if route.path == DOCUMENTS_PATH.decode():
            return _redirect(_PREFIX)
        answer = site.find(route.path.removeprefix(_PREFIX), route)
        if answer is None:
            return _told(404, _NO_PAGE, "NotFound")
        if dict(answer.headers).get(b"etag", b"") == route.header(b"if-none-match"):
            return Answer(304, answer.headers, b"")
        if not route.hold(answer):
            raise Throttled("Too many large answers are not read; try again")
        return answer

    async def _read(self) -> Site:
        """Raises OSError if there is no site."""
        async with self._reading:
            if self._site is None:
                self._site = await asyncio.to_thread(Site, self._folder)
            return self._site

    def refuse(self, context: RequestContext, error: DomainError) -> Answer:
        del context
        status, headers = (500, []) if isinstance(error, Failed) else (503, [(b"retry-after", b"1")])
        return _told(status, f"{error}\n".encode(), type(error).__name__, headers)


def _file(body: bytes, media: bytes, policy: bytes) -> Answer:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'.encode()
    # A browser asks each time, as `make docs` may have changed the page.
    headers = [(b"content-type", media), (b"cache-control", b"no-cache"), (b"etag", tag)]
    return Answer(200, [*headers, *_security(policy)], body)


def _redirect(location: str) -> Answer:
    return Answer(308, [(b"location", quote(location).encode()), *_security(_STRICT)], b"")


def _told(status: int, body: bytes, code: str, headers: list[Header] | None = None) -> Answer:
    known = [(b"content-type", _TEXT), (b"cache-control", b"no-store"), *_security(_STRICT)]
    return Answer(status, [*known, *(headers or [])], body, code)


def _security(policy: bytes) -> list[Header]:
    return [
        (b"content-security-policy", policy),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
    ]
