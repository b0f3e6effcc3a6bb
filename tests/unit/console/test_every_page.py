"""What holds for every page and every form that is declared, whichever it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.unit.console.test_pages import allow, user
from thingmint.console import sign_in  # noqa: F401 - declares its pages
from thingmint.console.page import PAGES
from thingmint.console.pages import load_pages
from thingmint.domain.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    import pytest

    from tests.unit.console.browser import Browser, Site
    from tests.world import World
    from thingmint.console.page import Page

load_pages()
CLOSED = [page for page in PAGES if not page.is_open and not page.is_stream]
EVIL = "<script>alert(1)</script>"


def addresses(page: Page, *values: str) -> Iterator[str]:
    """The path of a page with each of the values in place of its parameters."""
    if "{" not in page.path:
        yield page.path
        return
    for value in values:
        yield re.sub(r"\{\w+\}", value, page.path)


async def opened(browser: Browser, page: Page, path: str, **fields: Any) -> httpx.Response:
    if page.method == "GET":
        return await browser.get(path)
    return await browser.post(path, **fields)


def is_page(answer: httpx.Response) -> bool:
    return answer.headers["content-type"].startswith("text/html") and "<h1>" in answer.text


async def test_without_a_session_nothing_is_shown_or_done(site: Site) -> None:
    altered = await site.signed_in()
    for each in altered.client.cookies.jar:
        each.value = f"{each.value}0"
    for browser in (site.browser(), altered):
        for page in CLOSED:
            for path in addresses(page, "a" * 64):
                answer = await opened(browser, page, path, form_token="0" * 64)
                expected = 303 if page.method == "GET" else 401
                assert (answer.status_code, "sign-in" in str(answer.headers.get("location", "sign-in"))) == (
                    expected,
                    True,
                ), path


async def test_a_foreign_host_name_opens_no_page(site: Site) -> None:
    signed_in = await site.signed_in()
    for page in PAGES:
        for path in addresses(page, "a" * 64):
            signed_in.client.headers["host"] = "evil.example:8443"
            answer = await opened(signed_in, page, path)
            assert (answer.status_code, is_page(answer)) == (421, True), path


async def test_a_form_needs_its_token(site: Site) -> None:
    browser = await site.signed_in()
    earlier = await browser.token()
    browser = await site.signed_in()
    for page in CLOSED:
        for path in addresses(page, "a" * 64) if page.method == "POST" else ():
            for fields in ({"name": "a"}, {"form_token": earlier}, {"form_token": f"{earlier[:-1]}é"}):
                answer = await browser.post(path, None, **fields)
                assert (answer.status_code, is_page(answer)) == (400, True), path
                assert "earlier session" in answer.text, path


async def test_no_address_and_no_form_is_a_defect(site: Site, world: World) -> None:
    await world.certificate()
    browser = await site.signed_in()
    token = await browser.token()
    odd = ("%00", "a" * 3000, "..%2F..", EVIL.replace("/", "%2F"), "%FF", "a" * 64)
    queries = ("", f"?page={'A' * 1500}&q=%FF%00&at=x&name=%27&id=1&status=x&client_id=%00")
    for page in CLOSED:
        for path in addresses(page, *odd):
            for query in queries:
                fields = {"form_token": token, "name": EVIL, "id": "x", "policy": "\0", "document": "{" * 5000}
                answer = await opened(browser, page, f"{path}{query}", **fields if not query else {"form_token": token})
                assert answer.status_code < 500, (path, query)
                assert EVIL not in answer.text, (path, query)


async def test_while_the_store_is_away_each_page_tells_it(
    site: Site, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await site.signed_in()
    token = await browser.token()
    (cookie,) = [each.value for each in browser.client.cookies.jar if each.name.endswith("session")]
    found = await site.sessions.find(cookie or "", is_use=False)

    async def is_found(*_: Any, **__: Any) -> Any:
        return found

    async def away(*_: Any, **__: Any) -> None:
        raise Unavailable("the database cannot be read")

    monkeypatch.setattr(site.sessions, "find", is_found)
    for name in ("read", "write"):
        monkeypatch.setattr(world.store, name, away)
    told = 0
    for page in CLOSED:
        for path in addresses(page, "a" * 64):
            answer = await opened(browser, page, path, form_token=token, name="a", id="a" * 64, confirm="1")
            assert answer.status_code < 500 or answer.status_code == 503, path
            assert answer.status_code == 303 or is_page(answer) or page.path == "/playground/file", path
            told += answer.status_code == 503
    assert told > len(CLOSED) / 3, "most pages read the store"


async def test_a_user_without_policies_may_do_nothing(site: Site, world: World) -> None:
    browser = await site.signed_in(await user(world, "nothing", allow("iot:ListThings")))
    token = await browser.token("/things")
    shown = []
    for page in CLOSED:
        if page.path in ("/sign-out", "/region", "/things"):
            continue
        for path in addresses(page, "a" * 64):
            answer = await opened(browser, page, path, form_token=token)
            assert answer.status_code < 500, path
            if answer.status_code < 400:
                shown.append(page.path)
    assert shown == ["/playground"], "the contracts are public, as /openapi.json"
