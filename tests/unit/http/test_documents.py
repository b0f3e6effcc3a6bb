"""The file server of the documentation site: which files it serves, how, and what it says without a site."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from tests.unit.vectors import NOW
from thingmint.access.context import Outcome, RequestContext
from thingmint.domain.errors import Throttled
from thingmint.http.documents import DocumentsApi
from thingmint.http.memory import MemoryBudget, RequestMemory
from thingmint.http.messages import Incoming

if TYPE_CHECKING:
    from pathlib import Path

    from thingmint.http.messages import Answer, Message

POLICY = "default-src 'self'; script-src 'self' 'sha256-AAAA'"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A built site: two pages, and files of several kinds."""
    site = tmp_path / "docs" / "site"
    (site / "access").mkdir(parents=True)
    (site / "index.html").write_text("home")
    (site / "access" / "index.html").write_text("access")
    for name in ("style.css", "code.js", "search.json", "logo.svg", "icon.png"):
        (site / name).write_text(name)
    (site / "notes.txt").write_text("not a kind of file that a site has")
    (tmp_path / "docs" / "policy").write_text(POLICY + "\n")
    (tmp_path / "docs" / "secret.html").write_text("secret")
    return tmp_path / "docs"


async def ask(
    api: DocumentsApi,
    path: str,
    method: str = "GET",
    headers: list[tuple[bytes, bytes]] | None = None,
    memory: RequestMemory | None = None,
) -> Answer:
    async def receive() -> Message:
        raise AssertionError("a body is not read")

    raw, client = path.encode(), ("192.0.2.1", 50000)
    scope = {"method": method, "path": path, "raw_path": raw, "query_string": b"", "headers": headers or []}
    incoming = Incoming(scope | {"client": client}, receive, memory or RequestMemory.of())
    context = RequestContext(method=method, address=client[0], user_agent=None, now=NOW)
    context, route = api.route(context, incoming)
    context = await api.authenticate(context, route, incoming)
    context, given = await api.decode(context, route, incoming)
    return await api.serve(context, Outcome(), route, given)


@pytest.mark.parametrize(
    ("path", "media", "body"),
    [
        ("/docs/", b"text/html; charset=utf-8", b"home"),
        ("/docs/access/", b"text/html; charset=utf-8", b"access"),
        ("/docs/access/index.html", b"text/html; charset=utf-8", b"access"),
        ("/docs/style.css", b"text/css; charset=utf-8", b"style.css"),
        ("/docs/code.js", b"text/javascript; charset=utf-8", b"code.js"),
        ("/docs/search.json", b"application/json", b"search.json"),
        ("/docs/logo.svg", b"image/svg+xml", b"logo.svg"),
        ("/docs/icon.png", b"image/png", b"icon.png"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_files_have_their_content_type_and_the_sites_policy(
    folder: Path, method: str, path: str, media: bytes, body: bytes
) -> None:
    answer = await ask(DocumentsApi(folder), path, method)
    headers = dict(answer.headers)
    assert (answer.status, headers[b"content-type"], answer.body) == (200, media, body)
    assert headers[b"content-security-policy"] == POLICY.encode()
    assert headers[b"x-content-type-options"] == b"nosniff"


@pytest.mark.parametrize(("path", "location"), [("/docs", b"/docs/"), ("/docs/access", b"/docs/access/")])
async def test_a_folder_has_a_slash(folder: Path, path: str, location: bytes) -> None:
    answer = await ask(DocumentsApi(folder), path)
    assert (answer.status, dict(answer.headers)[b"location"]) == (308, location)


@pytest.mark.parametrize(
    "path",
    [
        "/docs/nothing",
        "/docs/../policy",
        "/docs/../secret.html",
        "/docs/access/../../secret.html",
        "/docs/./index.html",
        "/docs//index.html",
        "/docs//etc/passwd",
        "/docs/access/..",
        "/docs/..\\secret.html",
        "/docs/index.html\0",
        "/docs/index.html/",
        "/docs/notes.txt",
        "/docs//example.com/..",
    ],
)
async def test_other_files_are_not_served(folder: Path, path: str) -> None:
    answer = await ask(DocumentsApi(folder), path)
    assert (answer.status, answer.code) == (404, "NotFound")
    assert dict(answer.headers)[b"content-security-policy"].startswith(b"default-src 'none'")


async def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "index.html").write_text("outside")
    (folder / "site" / "linked").symlink_to(tmp_path / "outside")
    (folder / "site" / "linked.html").symlink_to(folder / "secret.html")
    api = DocumentsApi(folder)
    for path in ("/docs/linked/", "/docs/linked/index.html", "/docs/linked", "/docs/linked.html"):
        assert (await ask(api, path)).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_documents_are_only_read(folder: Path, method: str) -> None:
    answer = await ask(DocumentsApi(folder), "/docs/", method)
    assert (answer.status, dict(answer.headers)[b"allow"]) == (405, b"GET, HEAD")


async def test_a_page_that_the_browser_has_is_not_sent_again(folder: Path) -> None:
    api = DocumentsApi(folder)
    tag = dict((await ask(api, "/docs/")).headers)[b"etag"]
    again = await ask(api, "/docs/", headers=[(b"if-none-match", tag)])
    assert (again.status, again.body) == (304, b"")
    assert (await ask(api, "/docs/access/", headers=[(b"if-none-match", tag)])).status == 200


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("", False), ("br", False), ("gzip;q=0", False), ("gzip; q=0.0", False)],
)
async def test_files_are_compressed_for_clients_that_take_it(folder: Path, accepted: str, is_compressed: bool) -> None:
    (folder / "site" / "search.json").write_bytes(b"x" * 10_000)
    api, header = DocumentsApi(folder), (b"accept-encoding", accepted.encode())
    answer = await ask(api, "/docs/search.json", headers=[header])
    headers = dict(answer.headers)
    assert (headers.get(b"content-encoding") == b"gzip") is is_compressed
    assert (gzip.decompress(answer.body) if is_compressed else answer.body) == b"x" * 10_000
    assert headers[b"vary"] == b"accept-encoding"
    again = await ask(api, "/docs/search.json", headers=[header, (b"if-none-match", headers[b"etag"])])
    assert again.status == 304
    other = await ask(api, "/docs/search.json", headers=[(b"if-none-match", headers[b"etag"])])
    assert other.status == (200 if is_compressed else 304)  # the encodings have tags of their own


async def test_without_a_site_the_answer_says_how_to_build_it(folder: Path) -> None:
    """A site that is built later is served without a restart."""
    (folder / "policy").rename(folder / "later")
    api = DocumentsApi(folder)
    answer = await ask(api, "/docs/")
    assert (answer.status, b"make docs" in answer.body) == (404, True)
    (folder / "later").rename(folder / "policy")
    assert (await ask(api, "/docs/")).body == b"home"


async def test_large_files_that_clients_do_not_read_are_bounded(folder: Path) -> None:
    (folder / "site" / "search.json").write_bytes(b"x" * 100_000)
    memory = RequestMemory(MemoryBudget(300_000, 300_000), MemoryBudget(0, 0))
    api = DocumentsApi(folder)
    await ask(api, "/docs/search.json", memory=memory)
    with pytest.raises(Throttled) as caught:
        await ask(api, "/docs/search.json", memory=memory)
    refused = api.refuse(RequestContext(method="GET", address=None, user_agent=None, now=NOW), caught.value)
    assert refused.status == 503
