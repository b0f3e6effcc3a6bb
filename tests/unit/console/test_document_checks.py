"""The checks of the editors: how many run and wait at once."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING

import pytest

from tests.unit.console.test_pages import allow
from thingmint.console.document_checks import MAX_OF_PROCESS, MAX_OF_SESSION, DocumentChecks
from thingmint.domain.errors import Throttled
from thingmint.domain.linting import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.console.browser import Site
    from tests.world import World


class Lint:
    """A linter that runs until it is let go."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        self.running = self.most = self.runs = 0

    def __call__(self) -> Report:
        self.running += 1
        self.runs += 1
        self.most = max(self.most, self.running)
        self.began.set()
        self.go.wait(60)
        self.running -= 1
        return Report((), ())


@pytest.fixture
def lint() -> Iterator[Lint]:
    made = Lint()
    yield made
    made.go.set()


def begin(checks: DocumentChecks, lint: Lint, session: str, *, while_typing: bool = False) -> asyncio.Task[Report]:
    return asyncio.create_task(checks.run(session, lint, while_typing=while_typing))


async def test_one_check_runs_at_a_time(lint: Lint) -> None:
    checks = DocumentChecks()
    tasks = [begin(checks, lint, f"session {number}") for number in range(MAX_OF_PROCESS)]
    await asyncio.sleep(0)
    with pytest.raises(Throttled, match="many documents"):
        await checks.run("one more", lint, while_typing=False)
    lint.go.set()
    assert len(await asyncio.gather(*tasks)) == MAX_OF_PROCESS
    assert (lint.most, lint.runs) == (1, MAX_OF_PROCESS)
    await checks.run("one more", lint, while_typing=False)


async def test_a_session_has_few_checks(lint: Lint) -> None:
    checks = DocumentChecks()
    tasks = [begin(checks, lint, "session") for _ in range(MAX_OF_SESSION)]
    await asyncio.sleep(0)
    with pytest.raises(Throttled, match="This session"):
        await checks.run("session", lint, while_typing=False)
    other = begin(checks, lint, "other")
    lint.go.set()
    await asyncio.gather(*tasks, other)


async def test_a_newer_text_replaces_the_waiting_one_of_its_session(lint: Lint) -> None:
    checks = DocumentChecks()
    begun = begin(checks, lint, "session", while_typing=True)
    assert await asyncio.to_thread(lint.began.wait, 60)
    saved, other = begin(checks, lint, "session"), begin(checks, lint, "other", while_typing=True)
    typed = [begin(checks, lint, "session", while_typing=True) for _ in range(20)]
    for replaced in typed[:-1]:
        with pytest.raises(Throttled, match="newer text"):
            await replaced
    lint.go.set()
    await asyncio.gather(begun, saved, other, typed[-1])
    assert lint.runs == 4


async def test_a_browser_that_went_away_leaves_no_check_behind(lint: Lint) -> None:
    checks = DocumentChecks()
    begun = begin(checks, lint, "session")
    assert await asyncio.to_thread(lint.began.wait, 60)
    for _ in range(2 * MAX_OF_SESSION):
        gone = begin(checks, lint, "session")
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    lint.go.set()
    await begun
    await checks.run("session", lint, while_typing=False)
    assert lint.runs == 2


async def test_all_editors_have_their_documents_checked_so(
    site: Site, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow("iot:Connect")]})
    await world.aws("CreatePolicy", policyName="p", policyDocument=document)
    browser = await site.signed_in()
    token = await browser.token("/policies/edit")

    async def refuse(*_: object, **__: object) -> Report:
        raise Throttled("Too many checks", retry_after=1)

    monkeypatch.setattr(DocumentChecks, "run", refuse)
    for path in ("/policies/edit", "/policies/one?name=p", "/access/policy/edit", "/access/new-role"):
        assert (await browser.get(path)).status_code == 429, path
    assert (await browser.get("/provisioning/new")).status_code == 429
    for path in ("/policies/check", "/access/policy/check", "/access/new-role/check", "/provisioning/check"):
        answer = await browser.post(path, form_token=token, document="{}")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1"), path


@pytest.mark.parametrize("page", ["/policies/edit", "/access/policy/edit", "/access/new-role", "/provisioning/new"])
async def test_a_check_that_is_replaced_does_not_replace_the_newer_one(site: Site, lint: Lint, page: str) -> None:
    browser = await site.signed_in()
    path = {"/access/new-role": f"{page}/check", "/provisioning/new": "/provisioning/check"}.get(
        page, page.replace("edit", "check")
    )
    token = await browser.token(page)
    checks = browser.site.parts.document_checks
    begun = begin(checks, lint, "other")
    assert await asyncio.to_thread(lint.began.wait, 60)
    sent = []
    for number in range(2):
        form = browser.post(path, form_token=token, form_page=f"/console{page}", document=f"typed {number}")
        sent.append(asyncio.create_task(form))
        await asyncio.sleep(0.05)
    lint.go.set()
    replaced, newest = await asyncio.gather(*sent)
    await begun
    assert replaced.status_code == 429
    assert newest.status_code == 200
    assert "typed 1" in newest.text
