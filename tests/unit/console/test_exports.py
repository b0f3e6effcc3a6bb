"""Files of lists: made page by page, in limited time and memory, one of an account at a time."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import html
import io
import re
from typing import TYPE_CHECKING

import pytest

from tests.unit.console.browser import Site, text_of
from tests.unit.console.test_audit import written
from tests.unit.console.test_pages import certificate_pem
from thingmint.console import exports
from thingmint.console.pages import audit, certificates
from thingmint.console.rendering import harmless

if TYPE_CHECKING:
    from tests.unit.console.browser import Browser
    from tests.world import World

COUNT = 12
FILES = ["/access/audit.jsonl?event=CreateUser", "/access/audit.csv?event=CreateUser", "/certificates.csv"]


@pytest.fixture
async def browser(site: Site, world: World, monkeypatch: pytest.MonkeyPatch) -> Browser:
    """It is signed in, each list has COUNT rows, and a page of a file one."""
    browser = await site.signed_in()
    await written(site, browser, [f"user-{number}" for number in range(COUNT)])
    for number in range(COUNT):
        await world.certificate(pem=certificate_pem(f"pump {number}"))
    monkeypatch.setattr(audit, "_FILE_ROWS_AT_ONCE", 1)
    monkeypatch.setattr(certificates, "_FILE_ROWS_AT_ONCE", 1)
    return browser


def rows_of(path: str, text: str) -> list[str]:
    if ".jsonl" in path:
        return text.splitlines()
    return [",".join(row) for row in list(csv.reader(io.StringIO(text)))[1:]]


@pytest.mark.parametrize("path", [*FILES, "/certificates/change-all"])
async def test_other_requests_are_served_between_two_pages(
    browser: Browser, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests = turns = 0
    sleep = asyncio.sleep

    async def ticks() -> None:
        nonlocal turns
        while True:
            await sleep(0)
            turns += 1

    rest = exports.Pace.rest

    async def counted(pace: exports.Pace) -> None:
        nonlocal rests
        before = turns
        await rest(pace)
        assert turns > before, "the event loop had a turn"
        rests += 1

    from thingmint.console.pages import certificates_bulk

    monkeypatch.setattr(certificates_bulk, "_READ_AT_ONCE", 1)
    monkeypatch.setattr(exports.Pace, "rest", counted)
    other = asyncio.create_task(ticks())
    answer = await browser.get(path)
    other.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await other
    assert answer.status_code == 200
    assert rests >= 10


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("limit", ["WORK", "MAX_BYTES"])
async def test_a_file_that_ends_early_says_where_it_goes_on(
    browser: Browser, path: str, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rows_of(path, (await browser.get(path)).text)
    assert len(whole) >= COUNT
    monkeypatch.setattr(exports, limit, 0)
    found: list[str] = []
    address: str | None = f"/console{path}"
    files = 0
    while address is not None and files < 50:
        answer = await browser.client.get(address)
        assert answer.status_code == 200, text_of(answer)
        some = rows_of(path, answer.text)
        assert len(some) <= 1
        found += some
        files += 1
        address = answer.links["next"]["url"] if "next" in answer.links else None
    assert found == whole
    assert files >= COUNT


@pytest.mark.parametrize("ends", ["past", "later"])
async def test_the_next_file_of_a_filter_by_time_is_of_the_same_time(
    browser: Browser, world: World, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ends == "past":
        world.clock.advance(days=400)
        browser = await browser.site.signed_in()
    assert world.clock().microsecond, "clocks of servers have parts of seconds"
    monkeypatch.setattr(exports, "WORK", 0)
    monkeypatch.setattr(certificates, "_ROWS", 1)
    file = await browser.get(f"/certificates.csv?ends={ends}")
    assert (await browser.client.get(file.links["next"]["url"])).status_code == 200
    (following,) = re.findall(r'href="([^"]+&amp;page=[^"]+)"', (await browser.get(f"/certificates?ends={ends}")).text)
    assert (await browser.client.get(html.unescape(following))).status_code == 200


@pytest.mark.parametrize("path", FILES)
async def test_an_account_has_one_file_at_a_time(site: Site, world: World, browser: Browser, path: str) -> None:
    other = await site.signed_in(world.theirs.token)
    answers = await asyncio.gather(browser.get(path), browser.get(path), other.get(path))
    assert sorted(each.status_code for each in answers[:2]) == [200, 429]
    assert answers[2].status_code == 200
    (refused,) = (each for each in answers if each.status_code == 429)
    assert "makes a file for this account already. Wait until it is done" in text_of(refused)
    assert refused.headers["retry-after"] == "3"
    assert (await browser.get(path)).status_code == 200, "the next one is made"
    assert (await browser.get("/access/audit.csv?page=x")).status_code == 400
    assert (await browser.get(path)).status_code == 200, "also after one that failed"


async def test_few_files_are_made_at_a_time(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "_MOST", 0)
    answer = await browser.get(FILES[0])
    assert answer.status_code == 429
    assert "makes files for other accounts now" in text_of(answer)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("a - b, c=d; e@f", "a - b, c=d; e@f"),
        ("2026-11-29 00:00:00 UTC", "2026-11-29 00:00:00 UTC"),
        *((f"{sign}1", f"'{sign}1") for sign in "=+-@\uff1d\uff0b\uff0d\uff20"),
        *((f"{begin}x", f"'{begin}x") for begin in "\t\r\n\v\f\u0085\u2028"),
        *((f"{begin}=1", f"'{begin}=1") for begin in (" ", "\u00a0", "\ufeff", "\x00", "  \u3000")),
        ("\n=1", "'\n'=1"),
        (";=1", ";'=1"),
        ("x;=cmd|' /C calc'!A0", "x;'=cmd|' /C calc'!A0"),
        ("x\t@y;\uff1d1; +2", "x\t'@y;'\uff1d1; '+2"),
        ('x\r\n"-1', "x\r\n\"'-1"),
    ],
)
def test_no_cell_is_a_formula(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_all_cells_are_quoted() -> None:
    assert exports.csv_lines([["a", 'b"c', ""]]) == b'"a","b""c",""\r\n'


async def test_a_file_of_a_search_has_what_the_page_has_no_room_for(site: Site, world: World) -> None:
    for _ in range(27):
        await world.certificate(pem=certificate_pem("pump"))
    browser = await site.signed_in()
    assert "25 certificates shown, and there are more" in text_of(await browser.get("/certificates?q=pump"))
    assert len(rows_of("", (await browser.get("/certificates.csv?q=pump")).text)) == 27
    await world.certificate(pem=certificate_pem("valve"))
    assert "there are more" not in text_of(await browser.get("/certificates?q=valve"))


async def test_a_file_of_a_search_ends_at_the_size_of_files(
    site: Site, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(6):
        await world.certificate(pem=certificate_pem("pump"))
    monkeypatch.setattr(exports, "MAX_BYTES", 1)
    monkeypatch.setattr(certificates, "_FILE_ROWS_AT_ONCE", 2)
    assert len(rows_of("", (await (await site.signed_in()).get("/certificates.csv?q=pump")).text)) == 2


async def test_a_filter_of_a_search_is_not_of_its_first_matches_only(site: Site, world: World) -> None:
    ids = [await world.certificate(pem=certificate_pem("pump")) for _ in range(27)]
    await world.aws("UpdateCertificate", certificateId=ids[-1], newStatus="INACTIVE")
    browser = await site.signed_in()
    assert ids[-1] in (await browser.get("/certificates?q=pump&status=INACTIVE")).text
    others = text_of(await browser.get("/certificates?q=pump&status=ACTIVE"))
    assert "25 certificates shown, and there may be more" in others
