"""Forms that cannot be used: each is shown again with what was typed, the message, and the field at fault."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.unit.console.browser import Site, text_of
from tests.unit.console.test_every_page import CLOSED, addresses, opened
from tests.unit.console.test_pages import POLICY, certificate_pem
from tests.unit.console.test_provisioning import template
from thingmint.console.forms import with_form
from thingmint.console.pages import things
from thingmint.console.sentences import sentence_of
from thingmint.domain.errors import (
    AlreadyExists,
    Conflict,
    Denied,
    Disallowed,
    Invalid,
    NotFound,
    Throttled,
    Unavailable,
    VersionConflict,
)

if TYPE_CHECKING:
    import httpx

    from tests.unit.console.browser import Browser
    from tests.world import World

EVIL = "\"><script>alert('x')</script>"


async def sent(browser: Browser, page: str, path: str, **fields: str) -> httpx.Response:
    """The answer to a form of a page, with the hidden fields that the page gives it."""
    shown = (await browser.get(page)).text
    (address,) = set(re.findall(r'name="form_page" value="([^"]*)"', shown))
    return await browser.send(path, page, form_page=html.unescape(address), **fields)


def alerts(answer: httpx.Response) -> list[str]:
    return [html.unescape(each) for each in re.findall(r'role="alert">([^<]+)</p>', answer.text)]


def assert_kept(answer: httpx.Response, status: int, field: str | None, *typed: str) -> None:
    """The page of the form, with the menu, one message, the field marked, and what was typed."""
    assert answer.status_code == status, text_of(answer)
    assert 'aria-label="Main"' in answer.text, "the menu is there"
    (message,) = alerts(answer)
    assert message[0].isupper()
    assert message.endswith((".", "!", "?"))
    marked = re.findall(r'<\w+[^>]*name="(\w+)"[^>]*aria-invalid="true"', answer.text)
    assert marked == ([field] if field else [])
    for each in typed:
        assert html.escape(each, quote=False) in answer.text.replace("&#34;", '"').replace("&#39;", "'"), each
    assert "<script>alert" not in answer.text


STATEMENT = {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:iot:typed"}
DOCUMENT = json.dumps({"Version": "2012-10-17", "Statement": [STATEMENT]})


OF_ADMINISTRATOR = {"name": "administrator", "policy": "none"}


@pytest.mark.parametrize(
    ("page", "path", "status", "field", "fields"),
    [
        ("/access/policy/edit", "/access/policy/save", 400, "name", {"name": "bad name!", "document": DOCUMENT}),
        ("/access/policy/edit", "/access/policy/save", 400, "name", {"name": "x" * 300, "document": DOCUMENT}),
        ("/access/policy/edit", "/access/policy/save", 400, "name", {"name": EVIL, "document": DOCUMENT}),
        ("/access/policy/edit", "/access/policy/save", 409, "name", {"name": "taken", "document": DOCUMENT}),
        ("/policies/edit", "/policies/save", 400, "name", {"name": "bad name!", "document": POLICY}),
        ("/policies/edit", "/policies/save", 409, "name", {"name": "water", "document": POLICY}),
        ("/access/new-user", "/access/new-user", 400, "name", {"name": "bad name!"}),
        ("/access/new-user", "/access/new-user", 409, "name", {"name": "administrator"}),
        ("/access/new-service-account", "/access/new-service-account", 400, "name", {"name": EVIL}),
        ("/connect", "/connect", 400, "name", {"name": "bad name!"}),
        ("/connect", "/connect", 400, "name", {"name": EVIL}),
        ("/connect/yandex/new", "/connect/yandex/new", 404, "registry", {"name": "pump-7", "registry": "none"}),
        ("/certificates/change-all", "/certificates/changed-all", 400, "count", {"count": "7", "new_status": "ACTIVE"}),
        ("/certificates/ID", "/certificates/ID/attach-policy", 404, "policy", {"policy": "none"}),
        ("/certificates?status=ACTIVE", "/certificates/change", 400, None, {}),
        ("/provisioning/new", "/provisioning/new", 400, "role", {"name": "typed", "role": "odd"}),
        ("/access/user/administrator", "/access/attach/user", 404, "policy", OF_ADMINISTRATOR),
    ],
)
async def test_a_form_is_kept(
    site: Site, world: World, page: str, path: str, status: int, field: str | None, fields: dict[str, str]
) -> None:
    id = await world.certificate(pem=certificate_pem("pump"))
    await world.admin("policy.put", name="taken", document=DOCUMENT)
    await world.aws("CreatePolicy", policyName="water", policyDocument=POLICY)
    browser = await site.signed_in()
    page, path = page.replace("ID", id), path.replace("ID", id)
    if path == "/certificates/changed-all":
        hidden = dict(re.findall(r'type="hidden" name="(at|digest)" value="(\w+)"', (await browser.get(page)).text))
        fields = fields | hidden
    if path == "/provisioning/new":
        template = re.search(r"<textarea[^>]*>(.*?)</textarea>", (await browser.get(page)).text, re.DOTALL)
        assert template is not None
        fields = fields | {"document": html.unescape(template[1])}
    answer = await sent(browser, page, path, **fields)
    shown = [value for name, value in fields.items() if name not in ("policy", "at", "digest", "document")]
    assert_kept(answer, status, field, *shown)
    (address,) = set(re.findall(r'name="form_page" value="([^"]*)"', answer.text))
    again = await browser.send(path, page, form_page=html.unescape(address), **fields)
    assert_kept(again, status, field, *shown)


async def test_the_number_that_was_typed_is_asked_for_again(site: Site, world: World) -> None:
    ids = [await world.certificate(pem=certificate_pem(f"pump {number}")) for number in range(2)]
    browser = await site.signed_in()
    token = await browser.token("/certificates")
    answer = await browser.post("/certificates/changed", form_token=token, id=ids, status="REVOKED", count="7")
    assert_kept(answer, 400, "count", "7")
    assert re.findall(r'name="id" value="(\w+)"', answer.text) == ids
    assert 'name="status" value="REVOKED"' in answer.text
    assert alerts(answer) == ["Type 2, the number of rows that this changes."]


async def test_only_pages_of_the_console_are_shown_again(site: Site) -> None:
    browser = await site.signed_in()
    odd = ["/console/things?q=%00", "/console/things?q=\u00e4", f"/console/things?{'&' * 1500}"]
    for address in ("", "//evil.example", "/console/sign-in", "/console/access/user/none", "/console/x", "%FF", *odd):
        answer = await browser.send("/access/new-user", form_page=address, name="bad name!")
        assert answer.status_code == 400, address
        assert 'aria-label="Main"' in answer.text
        assert alerts(answer) == ["The name must be 1 to 64 letters, digits or any of +=,.@_-."], address


def test_passwords_and_keys_are_not_put_back() -> None:
    page = """<main id="main"><form method="post" action="/a"><input type="password" name="p" value="">
    <input name="t" value="old"><textarea name="k"></textarea><input type="checkbox" name="c" value="1" checked>
    <select name="s"><option>x</option><option value="2" selected>y</option></select></form></main>"""
    key = "-----BEGIN PRIVATE KEY-----"
    given = [("p", "hidden"), ("t", 'new "one" & <b>'), ("k", key), ("s", "x")]
    shown = with_form(page, "/a", given, Invalid("t", "is wrong"))
    assert shown is not None
    assert "hidden" not in shown
    assert key not in shown
    assert "old" not in shown
    assert "new &#34;one&#34; &amp; &lt;b&gt;" in shown
    assert "checked" not in shown
    assert "<option selected>x</option>" in shown
    assert '<option value="2">' in shown
    assert with_form(page, "/b", given, Invalid("t", "is wrong")) is None


async def test_a_form_that_is_too_early_says_when_to_send_it_again(
    site: Site, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise Throttled("Too many changes", retry_after=3)

    await world.aws("CreateThing", thingName="pump-7")
    monkeypatch.setattr(things, "delete_thing", refuse)
    browser, page = await site.signed_in(), "/things/pump-7/delete"
    answer = await sent(browser, page, "/things/pump-7/deleted")
    assert_kept(answer, 429, None)
    assert answer.headers["retry-after"] == "3"


async def test_what_a_dry_run_was_given_is_kept(site: Site, world: World) -> None:
    await template(world)
    browser, page = await site.signed_in(), "/provisioning/templates/pumps/dry-run"
    answer = await sent(browser, page, page, **{"parameter:Serial": "pump-7", "certificate": "odd"})
    assert_kept(answer, 400, "certificate", "pump-7", "odd")


async def test_a_document_that_was_written_is_kept(site: Site) -> None:
    browser = await site.signed_in()
    answer = await sent(browser, "/access/policy/edit", "/access/policy/save", name="!", document=DOCUMENT)
    assert html.unescape(answer.text).count("arn:aws:iot:typed") > 1, "in the editor, and in what the linter says"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (Invalid("certificateId", "must be 64 digits"), "The certificate id must be 64 digits."),
        (
            Invalid("thingName", "must satisfy regular expression pattern: [a-zA-Z0-9:_-]{1,128}"),
            "The thing name must have 1 to 128 characters: letters, digits or any of :_-.",
        ),
        (
            Invalid("x", "must satisfy regular expression pattern: (a|b)+"),
            "The x has characters that are not allowed here.",
        ),
        (Invalid("Statement[0].Action", "is unknown"), "Statement[0].Action is unknown."),
        (NotFound("certificate", "xyz"), "The certificate xyz does not exist."),
        (AlreadyExists("user", "eve"), "The user eve already exists."),
        (Conflict("policy", "x", "still attached"), "Still attached."),
        (Disallowed("certificate", "x", "it was revoked"), "The certificate x was revoked."),
        (Unavailable("The store cannot be reached"), "The database cannot be reached."),
        (VersionConflict("thing", "x", expected=1, version=2), "The thing x has version 2, not 1."),
        (
            Denied("arn:aws:iam::1:user/a", "iot:X", "*", explicit=False),
            "The caller arn:aws:iam::1:user/a is not authorized to perform iot:X on *.",
        ),
    ],
)
def test_sentences(error: Invalid, sentence: str) -> None:
    assert sentence_of(error) == sentence


def test_the_label_of_the_field_is_the_subject() -> None:
    assert sentence_of(Invalid("thingName", "is missing"), "Name of the thing") == "Name of the thing is missing."


async def test_every_error_of_every_page_is_a_sentence_on_a_page_with_the_menu(site: Site, world: World) -> None:
    await world.certificate()
    browser = await site.signed_in()
    token = await browser.token()
    queries = ("", f"?page=x&q={'q' * 999}&at=x&status=x&ends=x&since=x&ca=x&id=x&name=&version=x&type=x&outcome=x")
    told = 0
    for page in CLOSED:
        for path in addresses(page, "xyz", "a" * 64, "%00"):
            if page.path == "/sign-out":
                continue
            for query in queries:
                for fields in ({}, {"name": "!", "id": "x", "verb": "x", "status": "x", "count": "x", "version": "x"}):
                    answer = await opened(browser, page, path + query, form_token=token, **fields)
                    if answer.status_code < 400:
                        continue
                    assert 'aria-label="Main"' in answer.text, path
                    for message in alerts(answer):
                        told += 1
                        assert re.match(r"[A-Z][\w.\[\]]* [\w:/-]+", message), (path, message)
                        assert "regular expression" not in message, (path, message)
                        assert "of ," not in message, (path, message)
                        first = message.split()[0]
                        assert first not in ("Must", "Is", "Has", "Cannot", "Does"), (path, message)
    assert told > len(CLOSED)


async def test_errors_link_the_list(site: Site) -> None:
    browser = await site.signed_in()
    answer = await browser.get(f"/certificates/{'0' * 64}")
    assert answer.status_code == 404
    assert f"The certificate {'0' * 64} does not exist." in text_of(answer)
    assert 'href="/console/certificates">All certificates' in answer.text
    assert 'aria-label="Main"' in (await browser.get("/nowhere")).text
    assert 'aria-label="Main"' not in (await site.browser().get("/nowhere")).text
