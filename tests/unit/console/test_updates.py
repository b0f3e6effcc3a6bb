"""The streams of events that tell open pages of changes: what they say, when they end, and what bounds them."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.console.browser import IDLE, LIFETIME, Site, text_of
from tests.world import OURS, THEIRS
from thingmint.access.throttle import UPDATES, Rate
from thingmint.console import pages
from thingmint.console import updates as module
from thingmint.console.pages.updates import STREAMS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.console.browser import Browser
    from tests.world import World

TEMPLATES = Path(pages.__file__).parent.parent / "templates"
pytestmark = pytest.mark.usefixtures("events_at_once")
END = "event: end\ndata: 1\n\n"


class Opened:
    """A stream as a browser has it open."""

    def __init__(self, browser: Browser, path: str, headers: dict[str, str]) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._parts: asyncio.Queue[str] = asyncio.Queue()
        self._gone = asyncio.Event()
        request = browser.client.build_request("GET", f"/console{path}", headers=headers)
        scope = {
            "type": "http",
            "method": "GET",
            "path": request.url.path,
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "query_string": request.url.query,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "client": ("127.0.0.1", 50000),
            "server": ("localhost", 8443),
            "scheme": "https",
        }
        self.task = asyncio.ensure_future(browser.site.app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self._parts.put_nowait(message.get("body", b"").decode())

    async def part(self) -> str:
        """The next part that is not empty; an empty text at the end of the answer."""
        while True:
            if self.task.done() and self._parts.empty():
                return ""
            waiting = asyncio.ensure_future(self._parts.get())
            async with asyncio.timeout(60):
                await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                if waiting.result():
                    return waiting.result()
            else:
                waiting.cancel()

    async def close(self) -> None:
        self._gone.set()
        await self.task


@asynccontextmanager
async def stream(browser: Browser, name: str = "sessions", **headers: str) -> AsyncIterator[Opened]:
    """An open stream, of which the beginning was read."""
    opened = Opened(browser, f"/updates/{name}", headers)
    try:
        await opened.part()
        yield opened
    finally:
        await opened.close()


async def user(world: World, name: str, *actions: str) -> str:
    """The token of a new user who may do that."""
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]}
    await world.admin("user.create", name=name)
    await world.admin("policy.put", name=name, document=json.dumps(document))
    await world.admin("policy.attach", principal=f"user/{name}", policy=name)
    token: str = (await world.admin("token.create", principal=f"user/{name}"))["token"]
    return token


async def test_a_stream_names_what_changed_in_its_account(site: Site) -> None:
    browser = await site.signed_in()
    async with stream(browser, "overview") as ours, stream(await site.signed_in(site.world.theirs.token)) as theirs:
        assert ours.headers["content-type"] == "text/event-stream"
        assert ours.headers["cache-control"] == "no-store"
        assert "content-security-policy" in ours.headers
        for _ in range(1000):  # they come together
            site.updates.changed(OURS, "connections")
        site.updates.changed(OURS, "refusals")
        site.updates.changed(OURS, "tasks")  # which the overview does not show
        assert await ours.part() == "event: connections\ndata: 1\n\nevent: refusals\ndata: 1\n\n"
        site.updates.changed(THEIRS, "connections")
        assert await theirs.part() == "event: connections\ndata: 1\n\n"
        site.updates.changed(OURS, "refusals")
        assert await ours.part() == "event: refusals\ndata: 1\n\n", "the other account's change was not told"


async def test_events_come_at_intervals(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUIET", 3600.0)
    async with stream(await site.signed_in()) as opened:
        site.updates.changed(OURS, "connections")
        assert await opened.part()
        site.updates.changed(OURS, "connections")
        for _ in range(50):
            await asyncio.sleep(0.001)
        waiting = asyncio.ensure_future(opened.part())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        waiting.cancel()


async def test_more_pages_hear_less_often(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_APART", 1000.0)
    async with stream(await site.signed_in()) as first, stream(await site.signed_in()) as second:
        site.updates.changed(OURS, "connections")
        assert await first.part()
        waiting = asyncio.ensure_future(second.part())
        await asyncio.sleep(0.05)
        assert not waiting.done(), "the pages ask one after the other"
        waiting.cancel()


async def test_heartbeats(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HEARTBEAT", 0.001)
    async with stream(await site.signed_in()) as opened:
        assert [await opened.part() for _ in range(3)] == [":\n\n"] * 3


async def test_a_stream_ends_after_a_while_so_that_a_lost_browser_leaves_none(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LIFETIME", 0.01)
    monkeypatch.setattr(module, "_HEARTBEAT", 0.02)
    async with stream(await site.signed_in()) as opened:
        assert await opened.part() == ":\n\n"
        assert await opened.part() == "", "the page opens it again"
    assert site.updates.count == 0


async def test_signing_out_ends_the_streams_of_the_session(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHECK_EVERY", 3600.0)
    browser = await site.signed_in()
    watching = asyncio.ensure_future(site.updates.run())
    async with stream(browser) as opened, stream(await site.signed_in()) as other:
        await browser.send("/sign-out")
        assert await opened.part() == END
        assert await opened.part() == ""
        site.updates.changed(OURS, "connections")
        assert await other.part() == "event: connections\ndata: 1\n\n"
    watching.cancel()


async def test_a_user_who_is_disabled_hears_nothing_more(site: Site, world: World) -> None:
    browser = await site.signed_in(await user(world, "watcher", "thingmint:ListSessions"))
    async with stream(browser) as opened:
        await site.updates.check()
        await world.admin("user.disable", name="watcher")
        world.directory.changed([])
        await site.updates.check()
        assert await opened.part() == END
    assert (await browser.get("/updates/sessions")).status_code == 401


async def test_the_streams_of_a_token_end_with_it(site: Site, world: World) -> None:
    async with stream(await site.signed_in(await user(world, "watcher", "thingmint:ListSessions"))) as opened:
        (listed,) = await world.admin("token.list", principal="user/watcher")
        await world.admin("token.disable", id=listed["id"])
        await site.updates.check()
        assert await opened.part() == END


@pytest.mark.parametrize("seconds", [IDLE.total_seconds(), LIFETIME.total_seconds()])
async def test_a_stream_is_no_use_of_the_session_and_ends_with_it(site: Site, world: World, seconds: float) -> None:
    browser = await site.signed_in()
    async with stream(browser) as opened:
        world.clock.advance(seconds=seconds - 1)
        await site.updates.check()
        world.clock.advance(seconds=1)
        await site.updates.check()
        assert await opened.part() == END


async def test_opening_a_stream_is_no_use_of_the_session(site: Site, world: World) -> None:
    browser = await site.signed_in()
    world.clock.advance(seconds=IDLE.total_seconds() - 1)
    async with stream(browser):
        pass
    world.clock.advance(seconds=1)
    assert (await browser.get()).status_code == 303


async def test_a_policy_that_is_lost_ends_the_stream(site: Site, world: World) -> None:
    browser = await site.signed_in(await user(world, "watcher", "thingmint:ListSessions"))
    async with stream(browser) as opened:
        await world.admin("policy.detach", principal="user/watcher", policy="watcher")
        await site.updates.check()
        assert await opened.part() == END
    assert (await browser.get("/updates/sessions")).status_code == 403


async def test_a_role_that_is_lost_ends_the_stream(site: Site, world: World) -> None:
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}
    await world.admin("role.create", name="Viewers", trust_policy=json.dumps(trust))
    await world.admin("policy.attach", principal="role/Viewers", policy="thingmint/ReadOnly")
    who = await site.sessions.by_role(OURS.account, "Viewers", "ada")
    cookie = await site.sessions.begin(world.store, who)
    browser = site.browser()
    browser.client.headers["cookie"] = f"__Host-thingmint-8443-session={cookie}"
    async with stream(browser) as opened:
        await site.updates.check()
        await world.admin("role.disable", name="Viewers")
        await site.updates.check()
        assert await opened.part() == END


@pytest.mark.parametrize("limit", ["MAX_OF_SESSION", "MAX_OF_ACCOUNT", "MAX_OF_PROCESS"])
async def test_streams_are_bounded(site: Site, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, limit, 2)
    browser = await site.signed_in()
    other = browser if limit == "MAX_OF_SESSION" else await site.signed_in()
    if limit == "MAX_OF_PROCESS":
        other = await site.signed_in(site.world.theirs.token)
    async with stream(browser), stream(browser):
        refused = await other.get("/updates/sessions")
        assert refused.status_code == 429
        assert "already has 2 pages that follow at once" in text_of(refused)
        assert refused.headers["retry-after"] == "60"
    assert site.updates.count == 0
    async with stream(other) as opened:
        assert opened.status == 200


async def test_all_streams_end_when_the_server_stops(site: Site) -> None:
    browser = await site.signed_in()
    async with stream(browser) as one, stream(browser) as two:
        site.updates.close()
        assert await one.part() == "", "the page opens it again when the server runs again"
        assert await two.part() == ""
        assert (await browser.get("/updates/sessions")).status_code == 503


async def test_streams_need_the_actions_of_their_pages(site: Site, world: World) -> None:
    browser = await site.signed_in(await user(world, "watcher", "thingmint:ListSessions"))
    answers = {name: Opened(browser, f"/updates/{name}?of={'0' * 64}", {}) for name in STREAMS}
    for opened in answers.values():
        await opened.part()
    assert {name for name, opened in answers.items() if opened.status == 200} == {"sessions"}
    assert {opened.status for opened in answers.values()} == {200, 403}
    for opened in answers.values():
        await opened.close()
    assert (await browser.get("/updates/other")).status_code == 404
    assert (await site.browser().get("/updates/sessions")).status_code == 401
    assert (await browser.get("/updates/sessions", sec_fetch_site="cross-site")).status_code == 400
    assert (await browser.get("/updates/sessions", origin="https://evil.example")).status_code == 400
    assert (await browser.client.head("/console/updates/sessions")).status_code == 200
    assert site.updates.count == 0


async def test_a_stream_leaves_one_record_and_its_events_none(site: Site) -> None:
    async with stream(await site.signed_in()) as opened:
        for _ in range(3):
            site.updates.changed(OURS, "connections")
            await opened.part()
    events = [event for event, _, _ in await site.records()]
    assert sorted(events) == ["ConsoleSignIn", "ConsoleUpdates"]


def update_of(page: str) -> tuple[str, str]:
    """The address and the token with which a part of the page updates itself."""
    address = re.search(r'hx-get="/console([^"]*)" hx-trigger="[^"]*poll"', page)
    token = re.search(r'{"Thingmint-Update": "([0-9a-f]{64})"}', page)
    assert address is not None
    assert token is not None
    return address[1].replace("&amp;", "&"), token[1]


@pytest.mark.parametrize("path", ["/", "/sessions", "/sessions?q=a%26b", "/connect/pump"])
async def test_updates_of_a_page_leave_no_record(site: Site, world: World, path: str) -> None:
    await world.aws("CreateThing", thingName="pump")
    await world.admin("hostname.add", name="iot.example.org")
    browser = await site.signed_in()
    address, token = update_of((await browser.get(path)).text)
    before = await site.records()
    for _ in range(3):
        answer = await browser.get(address, thingmint_update=token)
        assert answer.status_code == 200
        assert update_of(answer.text) == (address, token)
    assert await site.records() == before
    other = await site.signed_in()
    for wrong in ("1", "", "x" * 64, token[:-1], token.upper()):
        await browser.get(address, thingmint_update=wrong)
    await browser.get("/certificates", thingmint_update=token)
    await other.get(address, thingmint_update=token)
    assert len(await site.records()) == len(before) + 8, "each other reading has a record, and so has the sign-in"


async def test_refused_updates_have_a_record(site: Site, world: World) -> None:
    browser = await site.signed_in(await user(world, "watcher", "thingmint:ListSessions"))
    address, token = update_of((await browser.get("/sessions")).text)
    await world.admin("policy.detach", principal="user/watcher", policy="watcher")
    assert (await browser.get(address, thingmint_update=token)).status_code == 403
    assert ("ListSessions", "refused") in [(event, outcome) for event, outcome, _ in await site.records()]


async def test_pages_that_ask_at_the_same_time_share_what_is_read(site: Site) -> None:
    reads = 0

    async def read() -> int:
        nonlocal reads
        reads += 1
        await asyncio.sleep(0)
        return reads

    async def fail() -> int:
        nonlocal reads
        reads += 1
        raise LookupError

    share = site.updates.share
    assert await asyncio.gather(*(share(OURS, "a", read) for _ in range(100))) == [1] * 100
    assert await share(OURS, "b", read) == 2
    assert await share(THEIRS, "a", read) == 3
    async with stream(await site.signed_in()) as opened:
        site.updates.changed(OURS, "connections")
        await opened.part()
        assert await share(OURS, "a", read) == 4, "it was read before the event"
    for number in (5, 6):
        with pytest.raises(LookupError):
            await share(OURS, "c", fail)
        assert reads == number


async def test_a_page_that_has_gone_does_not_end_the_reading_of_others(site: Site) -> None:
    begun, going_on = asyncio.Event(), asyncio.Event()

    async def read() -> str:
        begun.set()
        await going_on.wait()
        return "read"

    first = asyncio.ensure_future(site.updates.share(OURS, "a", read))
    await begun.wait()
    second = asyncio.ensure_future(site.updates.share(OURS, "a", read))
    first.cancel()
    going_on.set()
    assert await second == "read"


async def test_tasks_are_looked_at_once_for_all_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    progress, looks = {OURS.account: 1}, 0

    async def tasks() -> dict[str, int]:
        nonlocal looks
        looks += 1
        return dict(progress)

    site.updates._tasks = tasks
    await site.updates._look_at_tasks()
    assert looks == 0, "no page shows any"
    async with stream(await site.signed_in(), "tasks") as one, stream(await site.signed_in(), "tasks") as two:
        await site.updates._look_at_tasks()
        progress[OURS.account] = 2
        await site.updates._look_at_tasks()
        assert await one.part() == "event: tasks\ndata: 1\n\n"
        assert await two.part() == "event: tasks\ndata: 1\n\n"
        assert looks == 2


def test_all_parts_that_update_themselves_are_made_by_one_macro() -> None:
    for template in TEMPLATES.glob("*.html"):
        text = template.read_text()
        if template.name not in ("macros.html", "playground_trace.html"):  # the latter only waits for a record
            assert "Thingmint-Update" not in text, template.name
            assert not re.search(r'hx-trigger="[^"]*(every|load)', text), template.name
        assert '"Thingmint-Update": "1"' not in text, template.name
        for name in re.findall(r'{% set updates = "(\w+)" %}', text):
            events = re.findall(r"ui.live\([^[]*\[([^]]*)\]", text)
            assert {each for found in events for each in re.findall(r'"(\w+)"', found)} == {*STREAMS[name].names}


async def test_updates_take_no_calls_from_the_apis(site: Site) -> None:
    browser = await site.signed_in()
    address, token = update_of((await browser.get("/sessions")).text)
    site.throttle._rates = {"ListSessions": Rate(0.001, 1), UPDATES: Rate(0.001, 3)}
    for _ in range(3):
        assert (await browser.get(address, thingmint_update=token)).status_code == 200
    assert (await browser.get(address, thingmint_update=token)).status_code == 429, "but they are bounded"
    assert (await browser.get("/sessions")).status_code == 200
    assert (await browser.get("/sessions")).status_code == 429
