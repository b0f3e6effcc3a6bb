"""Administration in the console: principals, their keys and tokens, policies and their editor."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.console.browser import Browser, Site, text_of
from tests.unit.console.test_pages import EVIL, NAMES, allow, user
from tests.world import OURS
from thingmint.access.administration.credentials import TOKEN_PREFIX

if TYPE_CHECKING:
    from tests.world import World

GOOD = json.dumps({"Version": "2012-10-17", "Statement": [allow("iot:ListThings")]})
BAD = '{"Version": "2012-10-17",\n "Statement": [{"Effect": "Allow" "Action": "*"}]}'


async def events(site: Site) -> list[str]:
    return [event for event, outcome, _ in await site.records() if outcome == "success"]


async def everything_stored(site: Site, world: World) -> str:
    await site.trail.close()
    rows = await world.rows("SELECT record FROM audit_records UNION ALL SELECT record FROM audit_activity")
    return "".join(row[0] for row in rows)


async def test_a_user_is_made_disabled_and_deleted(site: Site, world: World) -> None:
    browser = await site.signed_in()
    assert "New user" in text_of(await browser.get("/access"))
    made = await browser.send("/access/new-user", "/access/new-user", name="alice")
    assert made.headers["location"] == "/console/access/user/alice"
    page = "/access/user/alice"
    assert "No policy is attached" in text_of(await browser.get(page))
    token = (await world.admin("token.create", principal="user/alice"))["token"]
    hers = await site.signed_in(token)
    assert (await browser.send(f"{page}/disable", page)).status_code == 303
    assert "Disabled" in text_of(await browser.get(page))
    assert (await hers.get("/access")).status_code == 303, "her session has ended"
    assert (await browser.send(f"{page}/enable", page)).status_code == 303
    asked = await browser.get(f"{page}/delete")
    assert "Delete the user alice?" in text_of(asked)
    assert (await browser.get(page)).status_code == 200, "nothing is deleted yet"
    assert (await browser.send(f"{page}/deleted", f"{page}/delete")).headers["location"] == "/console/access"
    assert (await browser.get(page)).status_code == 404
    found = await events(site)
    assert [event for event in found if event.endswith("User")] == [
        "CreateUser",
        "UpdateUser",
        "UpdateUser",
        "DeleteUser",
    ]


async def test_service_accounts_and_names_that_are_taken_or_malformed(site: Site) -> None:
    browser = await site.signed_in()
    assert (await browser.send("/access/new-service-account", "/access", name="robot")).status_code == 303
    assert (await browser.send("/access/new-service-account", "/access", name="robot")).status_code == 409
    for name in ("", EVIL, "x" * 65, "a/b", "\N{CYRILLIC SMALL LETTER A}"):
        answer = await browser.send("/access/new-user", "/access", name=name)
        assert answer.status_code == 400, name
        assert "<script>alert" not in answer.text


async def test_a_role_needs_a_valid_trust_policy(site: Site) -> None:
    browser = await site.signed_in()
    page = "/access/new-role"
    shown = await browser.get(page)
    assert "sts:AssumeRole" in text_of(shown)
    refused = await browser.send(page, page, name="fleet", document=BAD)
    assert refused.status_code == 400
    assert "Line 2, column 35" in text_of(refused)
    assert 'value="fleet"' in refused.text, "what was typed stays"
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "iot.amazonaws.com"}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    made = await browser.send(page, page, name="fleet", document=document, longest="4h")
    assert made.headers["location"] == "/console/access/role/fleet"
    text = text_of(await browser.get("/access/role/fleet"))
    assert "last 4 h at most" in text
    assert "New access key" not in text


def secrets_of(page: str) -> list[str]:
    return re.findall(r'<code id="secret-\d+">([^<]+)</code>', page)


async def test_a_secret_is_shown_once_and_stored_nowhere(site: Site, world: World) -> None:
    browser = await site.signed_in()
    await world.admin("user.create", name="alice")
    page = "/access/user/alice"
    made = await browser.send(f"{page}/keys", page)
    assert made.status_code == 200
    assert made.headers["cache-control"] == "no-store"
    id, secret = secrets_of(made.text)
    token_page = await browser.send(f"{page}/tokens", page, lifetime="30d", description=EVIL)
    (token,) = secrets_of(token_page.text)
    assert token.startswith(TOKEN_PREFIX)
    assert (await site.signed_in(token)).client.cookies
    shown = await browser.get(page)
    assert id in shown.text
    assert EVIL in text_of(shown)
    stored = await everything_stored(site, world)
    for each in (secret, token):
        assert each not in shown.text
        assert each not in stored
        assert each not in "".join(browser.client.cookies.values())
    assert id in stored or "CreateAccessKey" in stored
    assert (await browser.send(f"{page}/tokens", page, lifetime="9999d")).status_code == 400


@pytest.mark.parametrize("kind", ["user", "role", "service-account"])
async def test_a_session_of_each_kind_is_shown_once(site: Site, world: World, kind: str) -> None:
    ours = f"arn:aws:iam::{OURS.account}:user/administrator"
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": ours}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    await world.admin(f"{kind}.create", name="robot", **({"trust_policy": document} if kind == "role" else {}))
    browser, page = await site.signed_in(), f"/access/{kind}/robot"
    made = await browser.send(f"{page}/sessions", page, duration="15m")
    id, secret, token, _ = secrets_of(made.text)
    assert id.startswith("ASIA")
    shown = await browser.get(page)
    assert id in shown.text
    stored = await everything_stored(site, world)
    for each in (secret, token):
        assert each not in shown.text
        assert each not in stored
    assert ("AssumeRole" if kind == "role" else "GetSessionToken") in await events(site)
    assert (await browser.send(f"{page}/sessions", page, duration="1y")).status_code == 400


async def test_a_role_that_does_not_trust_the_caller_has_no_session_for_it(site: Site, world: World) -> None:
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "iot.amazonaws.com"}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    await world.admin("role.create", name="fleet", trust_policy=document)
    browser = await site.signed_in()
    assert (await browser.send("/access/role/fleet/sessions", "/access/role/fleet")).status_code == 403


async def test_the_authorized_key_of_a_service_account_is_a_file(site: Site, world: World) -> None:
    browser = await site.signed_in()
    await world.admin("service-account.create", name="robot")
    page = "/access/service-account/robot"
    made = await browser.send(f"{page}/keys", page)
    assert "BEGIN PRIVATE KEY" in made.text
    assert 'name="name" value="robot-key.json"' in made.text
    assert "PRIVATE KEY" not in (await browser.get(page)).text
    assert "PRIVATE KEY" not in await everything_stored(site, world)
    assert "CreateKey" in await events(site)


async def test_keys_and_tokens_are_disabled_and_deleted_by_their_own_actions(site: Site, world: World) -> None:
    browser = await site.signed_in()
    await world.admin("user.create", name="alice")
    await world.admin("user.create", name="bob")
    key = (await world.admin("key.create", principal="user/alice"))["access_key_id"]
    token = (await world.admin("token.create", principal="user/alice"))["token"].split("_")[1]
    session = (await world.admin("session.create", principal="user/alice"))["access_key_id"]
    page = "/access/user/alice"
    for noun, id in (("key", key), ("token", token), ("session", session)):
        assert (await browser.send(f"{page}/{noun}-status", page, id=id, verb="disable")).status_code == 303
        asked = await browser.client.get(f"/console{page}/delete-{noun}", params={"id": id})
        assert f"Delete the {noun} {id}?" in text_of(asked)
        other = await browser.send(f"/access/user/bob/{noun}-deleted", page, id=id)
        assert other.status_code == 404, "it is not bob's"
        wrong = {"key": "token", "token": "session", "session": "key"}[noun]
        assert (await browser.send(f"{page}/{wrong}-deleted", page, id=id)).status_code == 404
        assert (await browser.send(f"{page}/{noun}-deleted", page, id=id)).status_code == 303
        assert (await browser.send(f"{page}/{noun}-deleted", page, id=id)).status_code == 404
    found = await events(site)
    for event in ("UpdateAccessKey", "DeleteAccessKey", "UpdateApiToken", "DeleteApiToken"):
        assert event in found
    assert (await browser.send(f"{page}/key-status", page, id=key, verb="x")).status_code == 400


async def test_old_and_unused_keys_are_marked(site: Site, world: World) -> None:
    await world.admin("user.create", name="alice")
    key = (await world.admin("key.create", principal="user/alice"))["access_key_id"]
    await world.admin("session.create", principal="user/alice", duration="12h")

    async def shown() -> str:
        text = text_of(await (await site.signed_in()).get("/access/user/alice"))
        return text.partition("Keys, tokens and sessions")[2].partition("Old: made")[0]

    assert "Unused" not in await shown()
    world.clock.advance(days=8)
    assert (await shown()).count("Unused") == 1
    world.clock.advance(days=90)
    world.directory.used(key)
    await world.directory.flush()
    assert "Active Old" in await shown()
    assert "Unused" not in await shown()
    world.clock.advance(days=91)
    assert "Active Unused" in await shown()
    await world.admin("key.disable", id=key)
    assert "Unused" not in await shown()


async def test_policies_are_attached_and_detached(site: Site, world: World) -> None:
    browser = await site.signed_in()
    await world.admin("user.create", name="alice")
    await world.admin("policy.put", name="readers", document=GOOD)
    folder = (await world.admin("folder.create", name="sensors"))["id"]
    page = "/access/user/alice"
    assert f'<option value="yandex:folder/{folder}">Folder sensors' in (await browser.get(page)).text
    assert (await browser.send("/access/attach/user", page, name="alice", policy="readers")).status_code == 303
    on = f"yandex:folder/{folder}"
    sent = {"name": "alice", "policy": "yandex/iot.viewer", "resource": on}
    assert (await browser.send("/access/attach/user", page, **sent)).status_code == 303
    text = text_of(await browser.get(page))
    assert f"yandex/iot.viewer on {on} Detach" in text
    of_policy = text_of(await browser.get("/access/policy?name=readers"))
    assert "user/alice Detach" in of_policy
    assert "Allows iot:ListThings on every resource." in of_policy
    back = await browser.send("/access/detach/user", page, name="alice", policy="readers", resource="*", back="1")
    assert back.headers["location"] == "/console/access/policy?name=readers"
    assert "attached to no principal" in text_of(await browser.get("/access/policy?name=readers"))
    for wrong in (
        {"name": "nobody", "policy": "readers"},
        {"name": "alice", "policy": "missing"},
        {"name": "alice", "policy": "readers"},
    ):
        verb = "detach" if wrong == {"name": "alice", "policy": "readers"} else "attach"
        assert (await browser.send(f"/access/{verb}/user", page, **wrong)).status_code == 404, wrong
    misplaced = {"name": "alice", "policy": "readers", "resource": on}
    assert (await browser.send("/access/attach/user", page, **misplaced)).status_code == 400
    found = await events(site)
    assert found.count("AttachUserPolicy") == 2
    assert found.count("DetachUserPolicy") == 1


async def saved(browser: Browser, **fields: str) -> int:
    return (await browser.send("/access/policy/save", "/access/policy/edit", **fields)).status_code


async def test_the_editor_checks_and_saves(site: Site, world: World) -> None:
    browser = await site.signed_in()
    edit = "/access/policy/edit"
    checked = await browser.send("/access/policy/check", edit, name="readers", document=BAD)
    assert checked.status_code == 200
    assert "1 error has to be mended" in text_of(checked)
    assert "Line 2, column 35" in text_of(checked)
    assert 'value="readers"' in checked.text
    assert (await events(site)).count("GetPolicy") == 1, "what only checks is not recorded"
    assert await saved(browser, name="readers", document=BAD) == 400
    assert await saved(browser, name="readers", document=GOOD.replace(" ", "\r\n")) == 303
    ((stored,),) = await world.rows("SELECT document FROM policies WHERE name = 'readers'")
    assert "\r" not in stored
    assert await saved(browser, name="readers", document=GOOD) == 409, "it exists"
    shown = (await browser.get(f"{edit}?name=readers")).text
    since = re.search(r'name="since" value="(\d+)"', shown)
    assert since is not None
    world.clock.advance(seconds=5)
    assert await saved(browser, name="readers", was="readers", since=since[1], document=GOOD) == 303
    assert await saved(browser, name="readers", was="readers", since=since[1], document=GOOD) == 409, "it was changed"
    assert (await browser.send("/access/policy/deleted", edit, name="readers")).status_code == 303
    assert (await browser.get("/access/policy?name=readers")).status_code == 404


@pytest.mark.parametrize("world", ["sqlite", "postgres"], indirect=True)
async def test_of_two_people_who_save_a_policy_at_the_same_time_one_is_told(site: Site, world: World) -> None:
    browser = await site.signed_in()
    token = await browser.token("/access/policy/edit")

    async def both(**fields: str) -> list[int]:
        world.clock.advance(seconds=5)
        documents = (GOOD.replace("iot:ListThings", f"iot:{name}") for name in ("DeleteThing", "CreateThing"))
        sent = [
            browser.post("/access/policy/save", None, form_token=token, name="readers", document=document, **fields)
            for document in documents
        ]
        return sorted(each.status_code for each in await asyncio.gather(*sent))

    assert await both() == [303, 409], "of a new policy"
    edited = (await browser.get("/access/policy/edit?name=readers")).text
    (since,) = re.findall(r'name="since" value="(\d+)"', edited)
    assert await both(was="readers", since=since) == [303, 409]
    for wrong in ("", "x", "-1", "9" * 19, "\N{ARABIC-INDIC DIGIT ONE}"):
        assert await saved(browser, name="readers", was="readers", since=wrong, document=GOOD) == 400, wrong
    assert await saved(browser, name="other", was="readers", since=since, document=GOOD) == 400
    assert await world.rows("SELECT count(*) FROM policies WHERE name IN ('readers', 'other')") == [(1,)]


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_typed_stays_text(site: Site, name: str) -> None:
    browser = await site.signed_in()
    document = json.dumps({"Version": "2012-10-17", name: name, "Statement": [{"Effect": name, "Action": name}]})
    for path, kind in (("/access/policy/check", "/access/policy/edit"), ("/access/new-role/check", "/access/new-role")):
        answer = await browser.send(path, kind, document=document, name=name)
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        assert "error" in text_of(answer)


async def test_hostile_documents_have_an_answer(site: Site) -> None:
    browser = await site.signed_in()
    for document in ("", "[" * 60_000, '{"a":' * 5000, "1" * 60_000, '"\\ud800"', "x" * 65_536):
        answer = await browser.send("/access/policy/check", "/access/policy/edit", document=document)
        assert answer.status_code == 200, document[:20]
        assert "error" in text_of(answer)


async def test_administration_asks_for_each_permission(site: Site, world: World) -> None:
    await world.admin("user.create", name="alice")
    await world.admin("policy.put", name="mine", document=GOOD)
    key = (await world.admin("key.create", principal="user/alice"))["access_key_id"]
    reads = await site.signed_in(
        await user(world, "reads", allow("thingmint:List*", "thingmint:GetPolicy", "iot:ListCertificates"))
    )
    for path in ("/access/user/alice", "/access", "/access/policies", "/access/policy?name=mine"):
        shown = await reads.get(path)
        assert shown.status_code == 200
        for word in ("Delete", "Disable", "Attach</button>", "Attach to", "New ", "Change</a>"):
            assert word not in shown.text.partition('<main id="main"')[2], (path, word)
    for path in (
        "/access/new-user",
        "/access/new-role",
        "/access/user/alice/delete",
        f"/access/user/alice/delete-key?id={key}",
        "/access/policy/edit",
        "/access/policy/edit?name=mine",
        "/access/policy/delete?name=mine",
    ):
        assert (await reads.get(path)).status_code == 403, path
    token = await reads.token("/certificates")
    forms: dict[str, dict[str, Any]] = {
        "/access/new-user": {"name": "bob"},
        "/access/new-role": {"name": "bob", "document": GOOD},
        "/access/new-role/check": {"document": GOOD},
        "/access/user/alice/disable": {},
        "/access/user/alice/deleted": {},
        "/access/user/alice/keys": {},
        "/access/user/alice/tokens": {},
        "/access/user/alice/sessions": {},
        "/access/user/alice/key-status": {"id": key, "verb": "disable"},
        "/access/user/alice/key-deleted": {"id": key},
        "/access/attach/user": {"name": "reads", "policy": "thingmint/Administrator"},
        "/access/detach/user": {"name": "reads", "policy": "reads"},
        "/access/policy/save": {"name": "mine2", "document": GOOD},
        "/access/policy/check": {"document": GOOD},
        "/access/policy/deleted": {"name": "mine"},
    }
    for path, fields in forms.items():
        assert (await reads.post(path, form_token=token, **fields)).status_code == 403, path
        assert (await reads.post(path, form_token="0" * 64, **fields)).status_code == 400, path


async def test_principals_of_another_account_are_not_found(site: Site, world: World) -> None:
    await world.admin("user.create", name="alice")
    await world.admin("policy.put", name="mine", document=GOOD)
    key = (await world.admin("key.create", principal="user/alice"))["access_key_id"]
    other = await site.signed_in(world.theirs.token)
    token = await other.token()
    forms: dict[str, dict[str, Any]] = {
        "/access/user/alice/disable": {},
        "/access/user/alice/deleted": {},
        "/access/user/alice/keys": {},
        "/access/user/alice/tokens": {},
        "/access/user/alice/key-deleted": {"id": key},
        "/access/user/administrator/key-deleted": {"id": key},
        "/access/attach/user": {"name": "alice", "policy": "thingmint/Administrator"},
        "/access/attach/user ": {},
        "/access/policy/deleted": {"name": "mine"},
    }
    for path, fields in forms.items():
        assert (await other.post(path, form_token=token, **fields)).status_code == 404, path
    assert await saved(other, name="mine", was="mine", since="0", document=GOOD) == 409
    assert (await other.get("/access/policy/edit?name=mine")).status_code == 404
    assert ((await world.rows("SELECT count(*) FROM policies WHERE name = 'mine'"))[0][0]) == 1


async def test_a_narrowed_session_makes_no_keys(site: Site, world: World) -> None:
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow("thingmint:*", "iot:*")]})
    token = (await world.admin("token.create", principal="user/administrator", policy=policy))["token"]
    browser = await site.signed_in(token)
    answer = await browser.send("/access/user/administrator/keys", "/access/user/administrator")
    assert answer.status_code == 403


async def test_each_of_many_policies_can_be_attached(site: Site, world: World) -> None:
    browser = await site.signed_in()
    assert '<select id="policy"' in (await browser.get("/access/user/administrator")).text
    for number in range(101):
        await world.admin("policy.put", name=f"p{number:03}", document=GOOD)
    assert '<input id="policy" name="policy" list="policies"' in (await browser.get("/access/user/administrator")).text
    sent = {"name": "administrator", "policy": "p100"}
    assert (await browser.send("/access/attach/user", "/access", **sent)).status_code == 303
