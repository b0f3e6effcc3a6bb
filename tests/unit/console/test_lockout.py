"""The last administrator, and the person who is signed in, are not locked out by one click."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.console.browser import Site, text_of
from tests.world import OURS
from thingmint.access.local_admin import Administration

if TYPE_CHECKING:
    from tests.world import World

PAGE = "/access/user/administrator"
ADMINISTRATOR = "thingmint/Administrator"
CHANGES = [
    ("disable", f"{PAGE}/disable", {}),
    ("delete", f"{PAGE}/deleted", {}),
    ("detach", "/access/detach/user", {"name": "administrator", "policy": ADMINISTRATOR, "resource": "*"}),
    ("detach", "/access/detach/user", {"name": "administrator", "policy": ADMINISTRATOR, "back": "1"}),
]


@pytest.mark.parametrize(("change", "path", "fields"), CHANGES)
async def test_the_last_administrator_needs_the_typed_name(
    site: Site, world: World, change: str, path: str, fields: dict[str, str]
) -> None:
    await world.admin("user.create", name="eve")
    await world.admin("policy.attach", principal="user/eve", policy=ADMINISTRATOR)
    await world.admin("user.disable", name="eve")  # so it is no administrator now
    browser = await site.signed_in()
    for confirm in ({}, {"confirm": "eve"}):
        answer = await browser.send(path, PAGE, **fields, **confirm)
        assert answer.status_code == 400, change
        assert "No other active user has the policy" in text_of(answer)
        assert "Type administrator to confirm" in text_of(answer)
        assert 'aria-label="Main"' in answer.text
    assert (await browser.get(PAGE)).status_code == 200, "nothing was changed"
    assert (await browser.send(path, PAGE, **fields, confirm="administrator")).status_code == 303


@pytest.mark.parametrize(("change", "path", "fields"), CHANGES)
async def test_the_own_user_needs_the_typed_name(
    site: Site, world: World, change: str, path: str, fields: dict[str, str]
) -> None:
    await world.admin("user.create", name="eve")
    await world.admin("policy.attach", principal="user/eve", policy=ADMINISTRATOR)
    browser = await site.signed_in()
    answer = await browser.send(path, PAGE, **fields)
    assert answer.status_code == 400, change
    assert "you are signed in as" in text_of(answer)
    assert (await browser.send(path, PAGE, **fields, confirm="administrator")).status_code == 303


async def test_others_are_changed_without_a_question(site: Site, world: World) -> None:
    await world.admin("user.create", name="eve")
    await world.admin("policy.attach", principal="user/eve", policy=ADMINISTRATOR)
    browser = await site.signed_in()
    eve = {"name": "eve", "policy": ADMINISTRATOR}
    assert (await browser.send("/access/detach/user", PAGE, **eve)).status_code == 303
    assert (await browser.send("/access/user/eve/disable", PAGE)).status_code == 303
    assert (await browser.send("/access/user/eve/deleted", PAGE)).status_code == 303


async def test_the_buttons_lead_to_the_question(site: Site) -> None:
    browser = await site.signed_in()
    text = (await browser.get(PAGE)).text
    assert f'href="/console{PAGE}/disable"' in text
    assert 'href="/console/access/detach/user?' in text
    asked = await browser.get(f"/access/detach/user?name=administrator&policy={ADMINISTRATOR}")
    assert "Type administrator to confirm" in text_of(asked)
    assert "Type administrator to confirm" in text_of(await browser.get(f"{PAGE}/disable"))
    assert "Type administrator to confirm" in text_of(await browser.get(f"{PAGE}/delete"))


@pytest.mark.parametrize("world", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("change", ["disable", "delete", "detach"])
async def test_two_administrators_cannot_remove_each_other(
    site: Site, world: World, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.admin("user.create", name="eve")
    await world.admin("policy.attach", principal="user/eve", policy=ADMINISTRATOR)
    eve = await world.admin("token.create", principal="user/eve")
    browsers = [(await site.signed_in(), "eve"), (await site.signed_in(eve["token"]), "administrator")]
    both, run = asyncio.Barrier(2), Administration.run

    async def at_once(*given: Any) -> Any:
        await both.wait()  # what was asked before the transaction holds for both
        return await run(*given)

    def removal(name: str) -> tuple[str, dict[str, str]]:
        if change == "detach":
            return "/access/detach/user", {"name": name, "policy": ADMINISTRATOR}
        return f"/access/user/{name}/{'disable' if change == 'disable' else 'deleted'}", {}

    sent = [
        (browser, path, await browser.token(f"/access/user/{name}"), fields)
        for browser, name in browsers
        for path, fields in [removal(name)]
    ]
    monkeypatch.setattr(Administration, "run", at_once)
    answers = await asyncio.gather(
        *(browser.post(path, None, form_token=token, **fields) for browser, path, token, fields in sent)
    )
    assert sorted(answer.status_code for answer in answers) == [303, 400], change
    left = await world.rows(
        "SELECT p.name FROM principals AS p JOIN policy_attachments AS a ON a.principal = p.id "
        "WHERE p.account = $1 AND p.kind = 'user' AND p.status = 'active' AND a.policy = $2",
        OURS.account,
        ADMINISTRATOR,
    )
    assert len(left) == 1
