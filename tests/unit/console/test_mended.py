"""What a first user stumbled over: links that lead nowhere, wrong choices that were made already, lost pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.unit.console.browser import Site, text_of
from tests.unit.console.test_provisioning import role, template

if TYPE_CHECKING:
    from tests.world import World


async def test_no_policy_is_chosen_already(site: Site, world: World) -> None:
    await world.admin("user.create", name="eve")
    text = (await (await site.signed_in()).get("/access/user/eve")).text
    chosen = re.search(r'<select id="policy"[^>]*required><option value="">Choose a policy</option>', text)
    assert chosen is not None
    assert 'class="field yandex-role"' in text


@pytest.mark.parametrize("host", ["evil.example:8443", "evil.example"])
async def test_the_page_for_a_foreign_host_has_its_style_and_leads_to_the_server(site: Site, host: str) -> None:
    browser = site.browser()
    browser.client.headers["host"] = host
    answer = await browser.get("/")
    assert answer.status_code == 421
    assert "evil" not in answer.text
    assert 'href="https://iot.example.org:8443/console/"' in answer.text
    assert 'href="/console/"' not in answer.text
    files = re.findall(r'(?:href|src)="(/console/static/[^"]+)"', answer.text)
    assert len(files) > 2
    for file in files:
        assert (await browser.client.get(file)).status_code == 200, file


async def test_the_page_that_was_wanted_outlives_a_wrong_token(site: Site) -> None:
    browser = site.browser()
    answer = await browser.post("/sign-in", token="tma_wrong", next="/certificates?status=ACTIVE")
    assert answer.status_code == 401
    assert 'name="next" value="/certificates?status=ACTIVE"' in answer.text
    odd = await browser.post("/sign-in", token="tma_wrong", next='"><script>alert(1)</script>')
    assert "<script>alert" not in odd.text


async def test_a_page_has_one_button_to_update_it(site: Site) -> None:
    browser = await site.signed_in()
    await browser.send("/access/audit/verification", "/access/audit/verification")
    answer = await browser.get("/access/audit/verification")
    assert answer.text.count("Update this page") <= 1


async def test_the_answer_of_the_playground_gets_the_focus(site: Site) -> None:
    browser = await site.signed_in()
    path = "/playground/aws/ListThings"
    answer = await browser.send(path, path)
    assert re.findall(r'<[^>]*id="result"[^>]*tabindex="-1" autofocus>', answer.text), text_of(answer)
    assert answer.text.count("autofocus") == 1


async def test_a_role_that_does_not_exist_is_no_link(site: Site, world: World) -> None:
    await template(world)
    browser = await site.signed_in()
    for path in ("/provisioning", "/provisioning/templates/pumps"):
        shown = await browser.get(path)
        assert "provisioning does not exist. Make it" in text_of(shown), path
        assert 'href="/console/access/role/provisioning"' not in shown.text
        (link,) = re.findall(r'href="(/console/access/new-role[^"]*)"', shown.text)
        assert 'value="provisioning"' in (await browser.client.get(link)).text
    await role(world, "iot:CreateThing")
    for path in ("/provisioning", "/provisioning/templates/pumps"):
        assert 'href="/console/access/role/provisioning"' in (await browser.get(path)).text, path
