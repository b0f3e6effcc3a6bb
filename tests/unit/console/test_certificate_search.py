"""The search of certificates by their common names."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from tests.unit.console.browser import Site, text_of
from tests.unit.console.test_exports import rows_of
from tests.unit.console.test_pages import certificate_pem
from tests.unit.store.test_search_keys import der, pem_of
from tests.world import THEIRS
from thingmint.console import exports
from thingmint.console.pages import certificates_bulk
from thingmint.services import certificate_search

if TYPE_CHECKING:
    from tests.unit.console.browser import Browser
    from tests.world import World

HOSTILE = ("<script>alert(1)</script>", "%_'\" OR 1=1", "a, O=b", "й" * 64, "\U0001f4a1 lamp", "x" * 64)


@pytest.fixture
async def browser(site: Site) -> Browser:
    return await site.signed_in()


def names_on(page: str) -> list[str]:
    return [html.unescape(name) for name in re.findall(r'class="title wide"><a href="[^"]*">([^<]*)<', page)]


async def test_names_that_begin_so_are_listed_page_by_page(browser: Browser, world: World) -> None:
    names = [f"pump-{number:02}" for number in range(60)]
    for name in [*reversed(names), "pumq", "lamp"]:
        await world.certificate(pem=certificate_pem(name))
    await world.certificate(THEIRS, certificate_pem("pump-theirs"))
    first = (await browser.get("/certificates?q=PUMP-")).text
    assert names_on(first) == names[:25]
    (named,) = re.findall(r'href="/console(/certificates\?q=CN%3DPUMP-[^"]*)">All common names that begin so<', first)
    seen, path = [], html.unescape(named)
    for _ in range(3):
        page = (await browser.get(path)).text
        seen += names_on(page)
        following = re.search(r'href="/console(/certificates\?[^"]*page=[^"]*)"', page)
        path = html.unescape(following[1]) if following else ""
    assert (seen, path) == (names, "")
    file = (await browser.get(html.unescape(named).replace("?", ".csv?"))).text
    assert [row.split(",")[1] for row in rows_of("", file)] == names
    assert "thingmint certificate list --subject-prefix=PUMP- --order ascending" in text_of(await browser.get(named))


async def test_a_filter_of_names_looks_at_all_pages(
    browser: Browser, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [await world.certificate(pem=certificate_pem(f"pump-{number:02}")) for number in range(30)]
    await world.aws("UpdateCertificate", certificateId=ids[-1], newStatus="REVOKED")
    for query in ("pump", "CN=pump"):
        page = await browser.get(f"/certificates?{urlencode({'q': query, 'status': 'REVOKED'})}")
        assert names_on(page.text) == ["pump-29"]
    monkeypatch.setattr(certificate_search, "_EXAMINED", 5)  # the matching one is not among the first
    page = await browser.get("/certificates?q=pump&status=REVOKED")
    assert "None of those that were looked at matches. All common names that begin so · Clear" in text_of(page)
    assert "Other certificates may match: give more of the text, or fewer filters." in text_of(page)
    page = await browser.get("/certificates?q=CN%3Dpump&status=REVOKED")
    assert "Other certificates may match: go on with the next page." in text_of(page)
    form = await browser.get("/certificates/change-all?q=CN%3Dpump&status=REVOKED")
    assert "Change 1 certificate" in text_of(form)


async def test_a_change_of_all_that_a_search_finds_looks_at_a_limited_number(
    browser: Browser, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a filter that few satisfy, it would look at a million."""
    ids = [await world.certificate(pem=certificate_pem(f"pump-{number:02}")) for number in range(12)]
    await world.aws("UpdateCertificate", certificateId=ids[-1], newStatus="REVOKED")
    monkeypatch.setattr(certificate_search, "_EXAMINED", 1)
    form = text_of(await browser.get("/certificates/change-all?q=pump&status=REVOKED"))
    assert "None of those that were looked at matches" in form
    monkeypatch.setattr(certificate_search, "_EXAMINED", 2)
    form = text_of(await browser.get("/certificates/change-all?q=pump&status=REVOKED"))
    assert "Change 1 certificate" in form


async def test_a_slow_server_changes_what_a_fast_one_does(
    browser: Browser, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How far it came in a time would differ between the question and the change, which would then be refused."""
    for number in range(5):
        await world.certificate(pem=certificate_pem(f"pump-{number}"))
    monkeypatch.setattr(certificates_bulk, "_READ_AT_ONCE", 2)
    monkeypatch.setattr(exports, "WORK", 0.0)
    form = text_of(await browser.get("/certificates/change-all?q=pump"))
    assert "Change 5 certificates" in form


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_names_are_found(browser: Browser, world: World, name: str) -> None:
    await world.certificate(pem=pem_of(der(7, name)))
    await world.certificate(pem=certificate_pem("other"))
    for text in (name, name[:1], f" {name.upper()} "):
        answer = await browser.get(f"/certificates?{urlencode({'q': text})}")
        assert names_on(answer.text) == [name], text
        assert "<script>alert" not in answer.text


@pytest.mark.parametrize("text", ["CN=", "cn= ,", "CN=\0", "CN=\ud800", "CN=" + "й" * 250, "CN=%", "\U0010ffff"])
async def test_a_name_that_no_certificate_has_is_an_empty_list(browser: Browser, world: World, text: str) -> None:
    await world.certificate(pem=certificate_pem("pump"))
    path = "/certificates?q=" + "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))
    answer = await browser.get(path)
    assert answer.status_code in (200, 400)
    assert names_on(answer.text) == []
