"""Signing in by a link and by an API token, and what ends a session."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.administrator import TRUST
from tests.unit.console.browser import IDLE, LIFETIME, Site, text_of
from thingmint.access.console_sessions import LINK_LIFETIME, delete_old_console_sessions
from thingmint.domain.errors import NotFound, Unavailable

if TYPE_CHECKING:
    import httpx

    from tests.world import World

OUR_ADMINISTRATOR = "arn:aws:iam::111111111111:user/administrator"


async def is_signed_in(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and "<h1>Overview</h1>" in answer.text


async def test_without_a_session_each_page_leads_to_the_sign_in(site: Site) -> None:
    browser = site.browser()
    answer = await browser.get("/?status=ACTIVE")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/console/sign-in?next=%2F%3Fstatus%3DACTIVE"
    answer = await browser.post("/region", region="us-east-1")
    assert (answer.status_code, "Sign in" in answer.text) == (401, True)


async def test_a_token_signs_in_and_leads_to_the_page_that_was_wanted(site: Site) -> None:
    browser = site.browser()
    answer = await browser.post("/sign-in", token=site.world.ours.token, next="/certificates?status=ACTIVE")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/certificates?status=ACTIVE")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-thingmint-8443-session=")
    assert {"Path=/", "HttpOnly", "SameSite=Lax", "Secure"} <= set(cookie.split("; "))
    assert site.world.ours.token not in cookie
    assert await is_signed_in(await browser.get())


@pytest.mark.parametrize("length", [1900, 3000])
async def test_a_long_address_leads_to_the_sign_in(site: Site, length: int) -> None:
    browser = site.browser()
    wanted = await browser.get(f"/access/audit?q={'a' * length}")
    shown = await browser.client.get(wanted.headers["location"])
    assert shown.status_code == 200
    assert 'name="token"' in shown.text


async def test_over_plain_http_the_cookie_has_no_prefix(site: Site) -> None:
    answer = await site.browser("http://127.0.0.1:8080").post("/sign-in", token=site.world.ours.token)
    assert answer.headers["set-cookie"].startswith("thingmint-8080-session=")
    assert "Secure" not in answer.headers["set-cookie"]


@pytest.mark.parametrize("next", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nset-cookie: b=c"])
async def test_the_page_that_was_wanted_is_always_one_of_the_console(site: Site, next: str) -> None:
    answer = await site.browser().post("/sign-in", token=site.world.ours.token, next=next)
    assert answer.headers["location"].startswith("/console/")
    assert not {"\r", "\n", "\\"} & set(answer.headers["location"])


@pytest.mark.parametrize("token", ["", "tma_", "tma_a_b", "tma_\N{SNOWMAN}_b", "x" * 256])
async def test_a_wrong_token_shows_the_form_again(site: Site, token: str) -> None:
    browser = site.browser()
    answer = await browser.post("/sign-in", token=token)
    assert answer.status_code == 401
    assert "not one of this server" in text_of(answer)
    assert 'name="token"' in answer.text
    assert not browser.client.cookies
    assert token not in answer.text or len(token) < 5


async def test_a_link_signs_in_once(site: Site, world: World) -> None:
    secret = await site.sessions.new_link()
    assert secret not in "".join(world.dump())
    browser = site.browser()
    shown = await browser.get(f"/sign-in/link?link={secret}")
    assert "Sign in as administrator" in text_of(shown)
    assert (await browser.get(f"/sign-in/link?link={secret}")).status_code == 200, "looking at it does not use it up"
    assert (await browser.post("/sign-in/link", link=secret)).status_code == 303
    assert await is_signed_in(await browser.get())
    for again in (
        await site.browser().post("/sign-in/link", link=secret),
        await browser.get(f"/sign-in/link?link={secret}"),
    ):
        assert again.status_code == 401
        assert "was used already" in text_of(again)


async def test_two_browsers_with_one_link_get_one_session(site: Site, world: World) -> None:
    who = await site.sessions.by_link(await site.sessions.new_link())
    await site.sessions.begin(world.store, who)
    with pytest.raises(Exception, match="used already"):
        await site.sessions.begin(world.store, who)
    assert await world.count("console_sessions") == 1


async def test_a_link_ends_after_five_minutes(site: Site, world: World) -> None:
    secret = await site.sessions.new_link()
    world.clock.advance(seconds=LINK_LIFETIME.total_seconds())
    assert (await site.browser().post("/sign-in/link", link=secret)).status_code == 401
    await delete_old_console_sessions(world.store, world.clock())
    assert await world.count("sign_in_links") == 0


@pytest.mark.parametrize("link", ["", "x", "\N{SNOWMAN}", "%00", "a" * 257])
async def test_a_made_up_link(site: Site, link: str) -> None:
    answer = await site.browser().get(f"/sign-in/link?link={link}")
    assert answer.status_code in (400, 401)


async def test_links_for_other_users(site: Site, world: World) -> None:
    await world.admin("user.create", name="alice")
    secret = await site.sessions.new_link("111111111111", "alice")
    assert (await site.sessions.by_link(secret)).caller.name == "alice"
    with pytest.raises(NotFound):
        await site.sessions.new_link("111111111111", "bob")
    with pytest.raises(NotFound):
        await site.sessions.new_link("999999999999", None)
    await world.admin("user.disable", name="alice")
    assert (await site.browser().post("/sign-in/link", link=secret)).status_code == 401


async def test_a_session_ends_when_its_user_is_disabled(site: Site, world: World) -> None:
    await world.admin("user.create", name="alice")
    await world.admin("policy.attach", principal="user/alice", policy="thingmint/Administrator")
    browser = site.browser()
    await browser.post("/sign-in/link", link=await site.sessions.new_link("111111111111", "alice"))
    assert await is_signed_in(await browser.get())
    await world.admin("user.disable", name="alice")
    answer = await browser.get()
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in?next=%2F")
    await world.admin("user.enable", name="alice")
    assert await is_signed_in(await browser.get())
    await world.admin("user.delete", name="alice")
    assert (await browser.get()).status_code == 303


@pytest.mark.parametrize("command", ["token.disable", "token.delete"])
async def test_a_session_ends_with_the_token_that_signed_in(site: Site, world: World, command: str) -> None:
    token = (await world.admin("token.create", principal="user/administrator"))["token"]
    browser = await site.signed_in(token)
    assert await is_signed_in(await browser.get())
    await world.admin(command, id=token.split("_")[1])
    assert (await browser.get()).status_code == 303


async def test_a_session_ends_when_its_token_expires(site: Site, world: World) -> None:
    token = (await world.admin("token.create", principal="user/administrator", lifetime="10m"))["token"]
    browser = await site.signed_in(token)
    world.clock.advance(seconds=601)
    assert (await browser.get()).status_code == 303


async def test_a_session_that_is_not_used_ends(site: Site, world: World) -> None:
    browser = await site.signed_in()
    for _ in range(3):
        world.clock.advance(seconds=IDLE.total_seconds() - 61)
        assert await is_signed_in(await browser.get())
    world.clock.advance(seconds=IDLE.total_seconds())
    assert (await browser.get()).status_code == 303


async def test_pages_that_update_themselves_do_not_keep_a_session_open(site: Site, world: World) -> None:
    browser = await site.signed_in()
    for _ in range(2):
        world.clock.advance(seconds=IDLE.total_seconds() / 2)
        answer = await browser.get(thingmint_update="1")
    assert answer.status_code == 401
    assert (await browser.get()).status_code == 303


async def test_a_session_ends_after_its_lifetime(site: Site, world: World) -> None:
    browser = await site.signed_in()
    step = timedelta(minutes=30)
    for _ in range(LIFETIME // step - 1):
        world.clock.advance(seconds=step.total_seconds())
        assert await is_signed_in(await browser.get())
    world.clock.advance(seconds=step.total_seconds())
    assert (await browser.get()).status_code == 303
    await delete_old_console_sessions(world.store, world.clock())
    assert await world.count("console_sessions") == 0


async def test_signing_out_ends_the_session_in_every_browser_that_has_its_cookie(site: Site) -> None:
    browser = await site.signed_in()
    copy = site.browser()
    copy.client.cookies = browser.client.cookies
    cookies = dict(browser.client.cookies)
    answer = await browser.send("/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in")
    copy.client.cookies.update(cookies)
    assert (await copy.get()).status_code == 303


async def test_an_altered_cookie_is_no_session(site: Site) -> None:
    browser = await site.signed_in()
    ((name, value),) = browser.client.cookies.items()
    id, _, signature = value.partition(".")
    changed = id[:-1] + ("0" if id[-1] != "0" else "1")
    for bad in (f"{changed}.{signature}", f"{id}.{'0' * 64}", id, "", "a" * 10_000, f"{id}.{signature}0", '"\\'):
        answer = await site.browser().get(cookie=f"{name}={bad}")
        assert answer.status_code == 303, bad


async def test_another_instance_does_not_take_the_cookie(site: Site, world: World) -> None:
    from thingmint.access.vault import Vault

    browser = await site.signed_in()
    other = Site(replace(world, vault=Vault(b"n" * 32))).browser()
    other.client.cookies = browser.client.cookies
    assert (await other.get()).status_code == 303


async def test_roles_that_other_services_know_by_group(site: Site, world: World) -> None:
    await world.admin("role.create", name="Operators", trust_policy=TRUST)
    await world.admin("policy.attach", principal="role/Operators", policy="thingmint/ReadOnly")
    who = await site.sessions.by_role("111111111111", "Operators", "alice @example.org/x")
    cookie = await site.sessions.begin(world.store, who)
    _, caller = await site.sessions.find(cookie)
    assert caller.identity == "arn:aws:sts::111111111111:assumed-role/Operators/alice-@example.org-x"
    await world.admin("role.disable", name="Operators")
    with pytest.raises(Exception, match="has ended"):
        await site.sessions.find(cookie)


async def test_what_is_audited(site: Site) -> None:
    browser = await site.signed_in()
    await browser.send("/sign-out")
    await site.browser().post("/sign-in", token="tma_a_b")
    records = await site.records()
    assert ("ConsoleSignIn", "success", OUR_ADMINISTRATOR) in records
    assert ("ConsoleSignOut", "success", OUR_ADMINISTRATOR) in records
    assert ("ConsoleSignIn", "refused", None) in records


async def test_dev_needs_no_sign_in(world: World) -> None:
    browser = Site(world, dev=True).browser("http://127.0.0.1:8080")
    assert await is_signed_in(await browser.get())
    answer = await browser.send("/sign-out")
    assert answer.status_code == 303
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        answer = await browser.post("/region", headers, form_token=await browser.token(), region="us-east-1")
        assert answer.status_code == 400
    assert (await browser.post("/region", region="us-east-1")).status_code == 400, "a form needs its token"


async def test_while_the_store_is_away(site: Site, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = await site.signed_in()

    async def away(*_: Any, **__: Any) -> None:
        raise Unavailable("the database cannot be read")

    monkeypatch.setattr(world.store, "write", away)
    world.clock.advance(seconds=120)
    assert await is_signed_in(await browser.get()), "pages can be read while nothing can be written"
    monkeypatch.setattr(world.store, "read", away)
    answer = await browser.get()
    assert answer.status_code == 503
    assert "The server cannot do this now" in text_of(answer)
