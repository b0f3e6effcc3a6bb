"""The list of sessions when there are many, and when a process does not answer."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

import pytest

from tests.unit.console.browser import Site, text_of
from tests.world import OURS
from thingmint.services.live_sessions import LiveSession, SessionPage

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.services.live_sessions import SessionQuestion

NAMES = ["<script>alert('x')</script>", "{{ 7 * 7 }}", "a/../b?c&d", " a", "\N{CYRILLIC SMALL LETTER ZHE}" * 60]


class Sessions:
    """Sessions of our account, the newest first. ``missing`` are processes that do not answer."""

    def __init__(self) -> None:
        self.all: list[LiveSession] = []
        self.missing: list[str] = []

    def add(self, client_id: str, owner: str | None = None) -> None:
        at = 1_700_000_000_000_000 + len(self.all)
        name = client_id if owner is None else f"{client_id}#{owner}"
        rest = ("192.0.2.7", 1, "MQTT 5", at, 0.5, 30, 0, 1, None, 0, 0, "p", [client_id])
        self.all.insert(0, LiveSession(name, client_id, owner, "", None, *rest))

    async def __call__(self, scope: Scope, question: SessionQuestion) -> SessionPage:
        found = [
            each
            for each in (self.all if scope == OURS else [])
            if (question.after is None or each.position < question.after) and question.wanted.matches(each)
        ]
        return SessionPage(found[: question.limit], self.missing)


@pytest.fixture
def sessions(world: World, monkeypatch: pytest.MonkeyPatch) -> Sessions:
    sessions = Sessions()
    monkeypatch.setattr(world.environment.messages, "sessions", sessions)
    return sessions


async def test_ten_thousand_sessions_in_pages(site: Site, sessions: Sessions) -> None:
    for number in range(10_000):
        sessions.add(f"pump-{number:05}")
    browser = await site.signed_in()
    first = await browser.get("/sessions")
    listed = re.findall(r">(pump-\d+)</a>", first.text)
    assert listed == [f"pump-{number:05}" for number in range(9_999, 9_974, -1)]
    link = re.search(r'href="/console([^"]+)">Next page', first.text)
    assert link is not None
    path = html.unescape(link[1])
    second = await browser.get(path)
    assert re.findall(r">(pump-\d+)</a>", second.text)[0] == "pump-09974"
    assert html.escape(path).replace("&#x27;", "'") in second.text, "the table asks for its own page again"
    assert (await (await site.signed_in(site.world.theirs.token)).get(path)).status_code == 400
    found = await browser.get("/sessions?q=pump-00042")
    assert re.findall(r">(pump-\d+)</a>", found.text) == ["pump-00042"]


@pytest.mark.parametrize("name", NAMES)
async def test_names_of_sessions_stay_text_and_their_links_work(site: Site, sessions: Sessions, name: str) -> None:
    sessions.add(name, "are1")
    sessions.add(name)
    browser = await site.signed_in()
    listed = await browser.get("/sessions")
    assert "<script>alert" not in listed.text
    links = re.findall(r'href="/console(/sessions/one[^"]+)"', listed.text)
    assert len(set(links)) == 2
    for link in links:
        answer = await browser.get(html.unescape(link))
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
        assert " ".join(name.split()) in text_of(answer)
    theirs = await site.signed_in(site.world.theirs.token)
    assert (await theirs.get(html.unescape(links[0]))).status_code == 404
    assert "No device is connected" in text_of(await theirs.get("/sessions"))


async def test_a_process_that_does_not_answer_is_named(site: Site, sessions: Sessions) -> None:
    sessions.missing.append("host:7")
    answer = await (await site.signed_in()).get("/sessions")
    assert "These processes did not tell their sessions in time: host:7." in text_of(answer)


async def test_an_ended_session_is_told_to_a_page_that_updates_itself(site: Site, sessions: Sessions) -> None:
    browser = await site.signed_in()
    assert (await browser.get("/sessions/one?client_id=a")).status_code == 404
    answer = await browser.get("/sessions/one?client_id=a&update=1")
    assert answer.status_code == 286
    assert "is not connected any more" in text_of(answer)
    assert sessions.all == []
