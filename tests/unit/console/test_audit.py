"""The audit log in the console: files of a search, and its verification."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.unit.console.browser import AUDIT_KEY, Site, text_of
from tests.unit.console.test_pages import EVIL, allow, user
from tests.world import OURS
from thingmint.access.audit_sealer import Sealer
from thingmint.access.context import Outcome, RequestContext
from thingmint.console.pages import audit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from tests.unit.console.browser import Browser
    from tests.world import World

PAGE = "/access/audit/verification"


@pytest.fixture
async def running(site: Site) -> AsyncIterator[None]:
    task = asyncio.create_task(site.verification.run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def sealer(world: World, tmp_path: Path) -> Sealer:
    return Sealer(world.store, AUDIT_KEY, tmp_path / "checkpoints.jsonl", world.clock)


async def written(site: Site, browser: Browser, names: list[str]) -> None:
    for name in names:
        site.world.clock.advance(seconds=1)  # records of one moment have no order
        await browser.send("/access/new-user", "/access", name=name)
    await site.trail.close()


async def verified(site: Site, browser: Browser) -> str:
    """The page after a verification."""
    site.world.clock.advance(seconds=1)
    started = await browser.send(PAGE, PAGE)
    assert started.headers["location"] == f"/console{PAGE}"
    async with asyncio.timeout(60):
        while site.verification.progress is not None:  # noqa: ASYNC110 - it ends in another task
            await asyncio.sleep(0.01)
    await site.trail.close()
    return text_of(await browser.get(PAGE))


@pytest.mark.usefixtures("running")
async def test_an_intact_log_is_verified_up_to_its_end(site: Site, sealer: Sealer) -> None:
    browser = await site.signed_in()
    assert "was not verified from the console yet" in text_of(await browser.get(PAGE))
    await written(site, browser, [f"user-{number}" for number in range(5)])
    await sealer.seal()
    await sealer.checkpoint()
    text = await verified(site, browser)
    assert "The audit log is intact." in text
    assert "Chain of changes verified up to record 6" in text, text
    assert "asked for by arn:aws:iam::111111111111:user/administrator" in text
    (link,) = [part for part in (await browser.get("/access/audit")).text.split('"') if part.endswith(PAGE)]
    assert link == f"/console{PAGE}"


@pytest.mark.usefixtures("running")
async def test_an_altered_log_is_reported_with_its_record(site: Site, world: World, sealer: Sealer) -> None:
    browser = await site.signed_in()
    await written(site, browser, ["alice", "bob"])
    await sealer.seal()
    await sealer.checkpoint()
    await world.execute(
        "UPDATE audit_records SET record = replace(record, 'bob', 'eve') WHERE record LIKE '%user/bob%'"
    )
    text = await verified(site, browser)
    assert "The audit log was tampered with: in the chain of changes: record" in text
    assert "The first record that shows it is" in text


@pytest.mark.usefixtures("running")
async def test_a_verification_that_fails_says_so_and_another_can_follow(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise OSError("the disk is away")

    browser = await site.signed_in()
    with monkeypatch.context() as patch:
        patch.setattr(site.verification, "_material", away)
        assert "could not be finished" in await verified(site, browser)
    assert "intact" in await verified(site, browser)


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("column", ["sequence", "hash"])
async def test_an_intact_log_is_not_shown_after_a_place_was_altered(
    site: Site, world: World, sealer: Sealer, column: str
) -> None:
    if world.store.is_shared:
        pytest.skip("PostgreSQL takes no text there")
    browser = await site.signed_in()
    await written(site, browser, ["alice", "bob"])
    await sealer.seal()
    await sealer.checkpoint()
    assert "The audit log is intact." in await verified(site, browser)
    last = "(SELECT max(sequence) FROM audit_records)"
    await world.execute(f"UPDATE audit_records SET {column} = 'x' WHERE sequence = {last}")
    text = await verified(site, browser)
    assert "The audit log was tampered with: in the chain of changes: " in text
    assert "intact" not in text


@pytest.mark.usefixtures("running")
async def test_any_error_is_a_result(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = await site.signed_in()
    assert "intact" in await verified(site, browser)

    def fail() -> None:
        raise TypeError("not foreseen")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(site.verification, "_material", fail)
        text = await verified(site, browser)
    assert "could not be finished" in text
    assert "intact" not in text
    assert [each["event"] for each in logs if each["log_level"] == "error"] == ["audit_log_not_verified"]
    assert "intact" in await verified(site, browser), "another can follow"


async def test_a_verification_without_a_result_is_shown(
    site: Site, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await site.signed_in()
    task = asyncio.create_task(site.verification.run())
    assert "The audit log is intact." in await verified(site, browser)
    task.cancel()  # as a server that stops
    world.clock.advance(seconds=5)
    await follow(browser)
    await site.trail.close()
    running = text_of(await browser.get(PAGE))
    assert "It runs now" in running
    assert "The audit log is intact." not in running
    monkeypatch.setattr(site.verification, "progress", None)
    answer = await browser.get(PAGE)
    assert "A verification began, and has no result." in text_of(answer)
    assert "The audit log is intact." not in text_of(answer)
    assert 'data-poll="2"' in answer.text
    world.clock.advance(minutes=30)
    answer = await browser.get(PAGE)
    assert "A verification began, and has no result." in text_of(answer)
    assert "data-poll" not in answer.text


async def test_only_one_verification_runs(site: Site) -> None:
    browser = await site.signed_in()
    assert "has begun" in text_of(await follow(browser))
    shown = await browser.get(PAGE)
    assert "It runs now" in text_of(shown)
    assert 'data-poll="2"' in shown.text
    assert "is running already" in text_of(await follow(browser))


async def follow(browser: Browser) -> httpx.Response:
    await browser.send(PAGE, PAGE)
    return await browser.get(PAGE)


async def test_only_the_operators_account_verifies(site: Site, world: World) -> None:
    other = await site.signed_in(world.theirs.token)
    token = await other.token()
    assert (await other.get(PAGE)).status_code == 403
    assert (await other.post(PAGE, form_token=token)).status_code == 403
    assert "verification" not in (await other.get("/access/audit")).text
    assert site.verification.progress is None
    reader = await site.signed_in(await user(world, "reader", allow("thingmint:ListAudit")))
    assert (await reader.get(PAGE)).status_code == 403
    assert (await reader.post(PAGE, form_token=await reader.token("/access/audit"))).status_code == 403
    assert "verification" not in (await reader.get("/access/audit")).text


async def test_the_files_have_what_the_search_found(site: Site, world: World, sealer: Sealer) -> None:
    browser = await site.signed_in()
    await written(site, browser, ["alice", "-bob"])
    await sealer.seal()
    lines = await browser.get("/access/audit.jsonl?event=CreateUser")
    assert lines.headers["content-disposition"] == 'attachment; filename="audit.jsonl"'
    records = [json.loads(line) for line in lines.text.splitlines()]
    assert [each["record"]["parameters"]["name"] for each in records] == ["-bob", "alice"]
    assert records[0].keys() == {"id", "stream", "sequence", "hash", "record"}
    assert records[0]["stream"] == "changes"
    assert records[0]["sequence"] == records[1]["sequence"] + 1
    table = await browser.get("/access/audit.csv?event=CreateUser&q=arn:aws:iam::111111111111:user/alice")
    (row,) = list(csv.DictReader(io.StringIO(table.text)))
    assert row["resources"] == "arn:aws:iam::111111111111:user/alice"
    assert row["outcome"] == "success"
    page = (await browser.get("/access/audit?event=CreateUser")).text
    assert "/console/access/audit.csv?by=about&amp;event=CreateUser" in page


async def test_a_cell_of_the_file_is_no_formula(site: Site, world: World) -> None:
    browser = await site.signed_in()
    formula = '=HYPERLINK("https://evil.example")'
    context = RequestContext(operation="Connect", account=OURS.account, now=world.clock())
    site.trail.add(context, Outcome(code="NotAuthorized", resource="@x", details={"reason": formula}))
    await site.trail.close()
    (row,) = csv.DictReader(io.StringIO((await browser.get("/access/audit.csv?event=Connect")).text))
    assert (row["reason"], row["resource"]) == (f"'{formula}", "'@x")


async def test_a_long_export_has_several_files(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = await site.signed_in()
    await written(site, browser, [f"user-{number}" for number in range(12)])
    monkeypatch.setattr(audit, "_FILE_ROWS", 5)
    monkeypatch.setattr(audit, "_FILE_ROWS_AT_ONCE", 2)
    names: list[str] = []
    address: str | None = "/console/access/audit.jsonl?event=CreateUser"
    for _ in range(9):
        if address is None:
            break
        answer = await browser.client.get(address)
        assert answer.status_code == 200
        some = [json.loads(line)["record"]["parameters"]["name"] for line in answer.text.splitlines()]
        assert len(some) <= 5
        names += some
        address = answer.links["next"]["url"] if "next" in answer.links else None
    assert names == [f"user-{number}" for number in range(11, -1, -1)]


async def test_files_are_of_the_callers_account_and_permission(site: Site, world: World) -> None:
    await world.admin("user.create", name="alice")
    other = await site.signed_in(world.theirs.token)
    assert OURS.account not in (await other.get("/access/audit.jsonl")).text
    nothing = await site.signed_in(await user(world, "nothing", allow("iot:ListThings")))
    for path in ("/access/audit.jsonl", "/access/audit.csv"):
        assert (await nothing.get(path)).status_code == 403
        for wrong in ("?page=x", "?by=x", "?outcome=x", "?days=9"):
            assert (await other.get(f"{path}{wrong}")).status_code == 400, wrong
    answer = await other.client.get("/console/access/audit.csv", params={"q": EVIL})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
