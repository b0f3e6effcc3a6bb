"""The trust policies of roles and the restrictions of tokens, as the console edits them."""

from __future__ import annotations

import asyncio
import html
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.console.browser import Browser, Site, text_of
from tests.unit.console.test_pages import EVIL, allow, user
from tests.world import OURS, THEIRS

if TYPE_CHECKING:
    from tests.world import World

BAD = '{"Version": "2012-10-17",\n "Statement": [{"Effect": "Allow" "Action": "*"}]}'
READING = json.dumps({"Version": "2012-10-17", "Statement": [allow("iot:List*")]})
TRUST, TOKENS = "/access/role/fleet/trust", "/access/user/administrator/token-policy"


def trusting(principal: dict[str, str], **more: Any) -> str:
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


SERVICE = trusting({"Service": "iot.amazonaws.com"})
ACCOUNT = trusting({"AWS": f"arn:aws:iam::{OURS.account}:root"})


async def opened(browser: Browser, page: str) -> dict[str, str]:
    """The hidden fields of the editor, and its document."""
    text = (await browser.get(page)).text
    (form,) = re.findall(r'<form class="card".*?</form>', text, re.DOTALL)
    fields = dict(re.findall(r'type="hidden" name="(version|id|form_token)" value="(\w+)"', form))
    (document,) = re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", form, re.DOTALL)
    return {**fields, "document": html.unescape(document)}


async def trust_of(world: World) -> str:
    ((trust,),) = await world.rows("SELECT trust_policy FROM principals WHERE kind = 'role' AND name = 'fleet'")
    return str(trust)


async def test_a_trust_policy_is_checked_and_saved(site: Site, world: World) -> None:
    await world.admin("role.create", name="fleet", trust_policy=SERVICE)
    browser = await site.signed_in()
    assert f'href="/console{TRUST}"' in (await browser.get("/access/role/fleet")).text
    form = await opened(browser, TRUST)
    assert json.loads(form["document"]) == json.loads(SERVICE)
    checked = await browser.post(f"{TRUST}/check", None, **form | {"document": BAD})
    assert "Line 2, column 35" in text_of(checked)
    refused = await browser.post(f"{TRUST}/save", None, **form | {"document": BAD})
    assert refused.status_code == 400
    assert await trust_of(world) == SERVICE
    assert (await browser.post(f"{TRUST}/save", None, **form | {"document": ACCOUNT})).status_code == 303
    assert await trust_of(world) == ACCOUNT
    stale = await browser.post(f"{TRUST}/save", None, **form | {"document": SERVICE})
    assert stale.status_code == 409, "it was changed after the form was opened"
    assert "Open it again" in text_of(stale)
    assert await trust_of(world) == ACCOUNT
    assert ("UpdateAssumeRolePolicy", "success", f"arn:aws:iam::{OURS.account}:user/administrator") in (
        await site.records()
    )


async def test_a_person_who_loses_a_role_has_to_type_its_name(site: Site, world: World) -> None:
    await world.admin("role.create", name="fleet", trust_policy=ACCOUNT)
    browser = await site.signed_in()
    form = await opened(browser, TRUST)
    assert "Type fleet to confirm" not in text_of(await browser.post(f"{TRUST}/check", None, **form))
    deny = trusting({"AWS": "*"}, Effect="Deny")
    for document in (SERVICE, deny):
        sent = form | {"document": document}
        assert "With the new trust policy you may not" in text_of(await browser.post(f"{TRUST}/check", None, **sent))
        for confirm in ({}, {"confirm": "administrator"}):
            answer = await browser.post(f"{TRUST}/save", None, **sent, **confirm)
            assert answer.status_code == 400
            assert "Type fleet to confirm" in text_of(answer)
            assert 'name="confirm"' in answer.text
        assert await trust_of(world) == ACCOUNT
    assert (
        await browser.post(f"{TRUST}/save", None, **form | {"document": SERVICE}, confirm="fleet")
    ).status_code == 303


@pytest.mark.parametrize("world", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("page", [TRUST, TOKENS])
async def test_of_two_people_who_save_at_the_same_time_one_is_told(site: Site, world: World, page: str) -> None:
    await world.admin("role.create", name="fleet", trust_policy=SERVICE)
    token = (await world.admin("token.create", principal="user/administrator"))["token"].split("_")[1]
    browser = await site.signed_in()
    form = await opened(browser, page if page == TRUST else f"{page}?id={token}")
    documents = (
        [ACCOUNT, trusting({"AWS": f"arn:aws:iam::{OURS.account}:user/administrator"})]
        if page == TRUST
        else [READING, READING.replace("List", "Describe")]
    )
    sent = [browser.post(f"{page}/save", None, **form | {"document": document}) for document in documents]
    assert sorted(each.status_code for each in await asyncio.gather(*sent)) == [303, 409]


async def test_a_token_is_made_with_a_restriction(site: Site, world: World) -> None:
    browser, page = await site.signed_in(), "/access/user/administrator/new-token"
    assert f'href="/console{page}"' in (await browser.get("/access/user/administrator")).text
    form = await opened(browser, page) | {"lifetime": "7d", "description": "reads"}
    refused = await browser.post(f"{page}/save", None, **form | {"document": BAD})
    assert refused.status_code == 400
    assert 'value="reads"' in refused.text, "what was typed stays"
    made = await browser.post(f"{page}/save", None, **form | {"document": READING})
    assert made.status_code == 200
    assert made.headers["cache-control"] == "no-store"
    (token,) = re.findall(r"tma_[0-9a-f]+_[\w-]+", text_of(made))
    caller = await world.directory.authenticate_token(token)
    assert caller.narrowed is not None
    await site.trail.close()
    records = str(await world.rows("SELECT record FROM audit_records UNION ALL SELECT record FROM audit_activity"))
    assert token not in records
    restricted = await site.signed_in(token)
    assert (await restricted.get("/things")).status_code == 200
    assert (await restricted.get("/access")).status_code == 403


async def test_a_token_is_restricted_and_not_that_of_the_person_by_one_click(site: Site, world: World) -> None:
    other = (await world.admin("token.create", principal="user/administrator"))["token"]
    own = world.ours.token.split("_")[1]
    browser, hers = await site.signed_in(), await site.signed_in(other)
    form = await opened(browser, f"{TOKENS}?id={other.split('_')[1]}")
    assert (await hers.get("/access")).status_code == 200
    assert (await browser.post(f"{TOKENS}/save", None, **form | {"document": READING})).status_code == 303
    assert (await hers.get("/access")).status_code == 403, "it is in force at once"
    assert "Restricted" in text_of(await browser.get("/access/user/administrator"))
    again = await opened(browser, f"{TOKENS}?id={other.split('_')[1]}")
    assert json.loads(again["document"]) == json.loads(READING)
    mine = await opened(browser, f"{TOKENS}?id={own}")
    assert "signed in with this token" in text_of(await browser.get(f"{TOKENS}?id={own}"))
    answer = await browser.post(f"{TOKENS}/save", None, **mine | {"document": READING})
    assert answer.status_code == 400
    assert "Type administrator to confirm" in text_of(answer)
    assert (await browser.get("/access")).status_code == 200, "nothing was changed"
    assert (
        await browser.post(f"{TOKENS}/save", None, **mine | {"document": READING}, confirm="administrator")
    ).status_code == 303
    assert (await browser.get("/access")).status_code == 403


async def test_a_restricted_person_makes_and_widens_no_token(site: Site, world: World) -> None:
    wide = json.dumps({"Version": "2012-10-17", "Statement": [allow("thingmint:*")]})
    token = (await world.admin("token.create", principal="user/administrator", policy=wide))["token"]
    browser = await site.signed_in(token)
    form = await opened(browser, f"{TOKENS}?id={token.split('_')[1]}") | {"confirm": "administrator"}
    assert (await browser.post(f"{TOKENS}/save", None, **form)).status_code == 403
    new = await opened(browser, "/access/user/administrator/new-token")
    assert (await browser.post("/access/user/administrator/new-token/save", None, **new)).status_code == 403


async def test_what_is_not_there_and_not_allowed(site: Site, world: World) -> None:
    await world.admin("role.create", name="fleet", trust_policy=SERVICE)
    await world.admin("role.create", THEIRS, name="theirs", trust_policy=SERVICE)
    token, theirs = (each.token.split("_")[1] for each in (world.ours, world.theirs))
    browser = await site.signed_in()
    form = await opened(browser, TRUST)
    for name in ("theirs", "none", EVIL.replace("/", "%2F"), "%00", "x" * 300):
        page = f"/access/role/{name}/trust"
        assert (await browser.get(page)).status_code in (400, 404), name
        for verb in ("check", "save"):
            assert (await browser.post(f"{page}/{verb}", None, **form)).status_code in (400, 404), (name, verb)
    for id in (theirs, world.ours.access_key_id, EVIL, "", "\N{CYRILLIC SMALL LETTER A}", "x" * 300):
        assert (await browser.client.get(f"/console{TOKENS}", params={"id": id})).status_code in (400, 404), id
        for verb in ("check", "save"):
            answer = await browser.post(f"{TOKENS}/{verb}", None, **form | {"id": id})
            assert answer.status_code in (400, 404), (id, verb)
            assert "<script>alert" not in answer.text
    for version in ("", "x", EVIL, "0" * 64):
        answer = await browser.post(f"{TRUST}/save", None, **form | {"version": version})
        assert answer.status_code in (400, 409), version
    assert (await browser.post(f"{TRUST}/save", None, **form | {"form_token": "0" * 64})).status_code in (400, 403)
    assert await trust_of(world) == SERVICE
    reader = await site.signed_in(await user(world, "reader", allow("thingmint:List*")))
    for page in (TRUST, f"{TOKENS}?id={token}", "/access/user/administrator/new-token"):
        assert (await reader.get(page)).status_code == 403, page
    own = await reader.token("/access/role/fleet")
    for path in (f"{TRUST}/save", f"{TRUST}/check", f"{TOKENS}/save", "/access/user/administrator/new-token/save"):
        assert (await reader.post(path, None, **form | {"form_token": own, "id": token})).status_code == 403, path
    assert "/trust" not in (await reader.get("/access/role/fleet")).text


@pytest.mark.parametrize("path", ["new-token", "token-policy"])
async def test_a_user_who_does_not_exist_has_no_tokens_to_restrict(site: Site, path: str) -> None:
    browser = await site.signed_in()
    form = await opened(browser, "/access/user/administrator/new-token") | {"document": READING, "id": "x"}
    page = f"/access/user/nobody/{path}"
    answers = [
        await browser.get(page),
        *[await browser.post(f"{page}/{verb}", None, **form) for verb in ("check", "save")],
    ]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
