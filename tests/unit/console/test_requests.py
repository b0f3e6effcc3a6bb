"""What the console answers to any request: hosts, headers, forms of other sites, errors."""

from __future__ import annotations

import hashlib
import re
import runpy
from typing import TYPE_CHECKING, Any

import pytest

from tests.markdown import ROOT
from tests.unit.console.browser import Site, text_of
from thingmint.console.assets import Assets, paths
from thingmint.console.page import PAGES, Call
from thingmint.services.health import Check

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"


async def test_security_headers_are_on_every_answer(site: Site) -> None:
    browser = await site.signed_in()
    asset = paths()["console.css"].removeprefix("/console")
    foreign = site.browser("https://evil.example")
    answers = [
        await browser.get(),
        await browser.get("/nothing"),
        await browser.get("/sign-in"),
        await browser.get(asset),
        await browser.get("/static/nothing.js"),
        await browser.post("/region"),
        await browser.post("/sign-out", form_token="0" * 64),
        await site.browser().get(),
        await foreign.get(),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 200, 200, 404, 400, 400, 303, 421]
    for answer in answers:
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        is_asset = answer.request.url.path.endswith(".css")
        assert answer.headers["cache-control"] == ("public, max-age=31536000, immutable" if is_asset else "no-store")
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=|javascript:", answer.text) or is_asset


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:8443", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8443", True),
        ("192.0.2.7", True),
        ("iot.example.org", True),
        ("IOT.example.org.", True),
        ("a.example.net", True),
        ("a.b.example.net", False),
        ("example.net", False),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("iot.example.org@evil.example", False),
        ("iot.example.org:8443:1", False),
        ("", False),
        ("a" * 300, False),
    ],
)
async def test_host_names(site: Site, host: str, allowed: bool) -> None:
    browser = await site.signed_in()
    answer = await browser.get(host=host)
    assert (answer.status_code == 200) is allowed
    if not allowed:
        assert answer.status_code == 421
        assert "administrator" not in answer.text


async def test_a_form_needs_the_token_of_its_session(site: Site) -> None:
    browser, other = await site.signed_in(), await site.signed_in()
    stale = await other.token()
    for token in ("", "0" * 64, stale, "\N{SNOWMAN}" * 3):
        answer = await browser.post("/region", form_token=token, region="eu-central-1")
        assert answer.status_code == 400
        assert "earlier session" in text_of(answer)
        assert "set-cookie" not in answer.headers
    assert (await browser.send("/region", region="eu-central-1")).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        {"origin": "https://localhost:9999", "sec-fetch-site": "same-site"},
        {"origin": "null"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
    ],
)
async def test_forms_of_other_sites_are_refused(site: Site, headers: dict[str, str]) -> None:
    browser = await site.signed_in()
    for path in ("/sign-out", "/sign-in", "/sign-in/link"):
        answer = await browser.post(path, headers, form_token=await browser.token(), token=site.world.ours.token)
        assert answer.status_code == 400
        assert "another site" in text_of(answer)
    assert (await browser.get()).status_code == 200


async def test_cookies_of_other_applications_do_not_end_a_session(site: Site) -> None:
    browser = await site.signed_in()
    own = "; ".join(f"{name}={value}" for name, value in browser.client.cookies.items())
    beside = site.browser()
    beside.client.headers["cookie"] = f'json={{"a": "b"}}; a/b=1; ="\\"; {own}; lone'
    assert (await beside.get()).status_code == 200


async def test_a_form_without_a_session_is_small_in_any_encoding(site: Site) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"token="
        for _ in range(20):
            yield b"%41" * 1500

    headers = {"content-type": "application/x-www-form-urlencoded", "origin": "https://localhost:8443"}
    answer = await site.browser().client.post("/console/sign-in", content=body(), headers=headers)
    assert answer.status_code == 400
    assert "must be at most" in text_of(answer)


async def test_the_page_of_an_error_names_the_field(site: Site) -> None:
    answer = await (await site.signed_in()).send("/file", name="../private.key", text="a")
    assert answer.status_code == 400
    assert "name must be a file name." in text_of(answer)


async def test_the_region_that_was_chosen_is_shown(site: Site) -> None:
    browser = await site.signed_in()
    assert "<option selected>us-east-1</option>" in (await browser.get()).text
    await browser.send("/region", region="eu-central-1")
    assert "<option selected>eu-central-1</option>" in (await browser.get()).text
    assert (await browser.send("/region", region="mars-1")).status_code == 400
    other = await site.signed_in(site.world.theirs.token)
    other.client.cookies.set("__Host-thingmint-8443-region", "eu-central-1")
    assert 'id="region"' not in (await other.get()).text, "the other account has one region"


async def test_wrong_paths_and_methods(site: Site) -> None:
    browser = await site.signed_in()
    assert (await browser.get("/sign-out")).status_code == 405
    assert (await browser.get("/sign-out")).headers["allow"] == "POST"
    assert set((await browser.client.put("/console/sign-in")).headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    for path in ("/nothing", "/static/../app.py", "/static/%2e%2e/app.py", "/static/console.css", "//", "/%00"):
        assert (await browser.get(path)).status_code == 404, path
    answer = await browser.client.get("/console")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/")
    assert (await browser.client.head("/console/")).status_code == 200


async def test_forms_that_cannot_be_read(site: Site) -> None:
    browser = await site.signed_in()
    token = await browser.token()
    for content in (b"form_token=" + token.encode() + b"&a=%ff", b"a=" + b"&a" * 2000, b"a=%00", b"\xff=1"):
        answer = await browser.client.post(
            "/console/region", content=content, headers={"content-type": "application/x-www-form-urlencoded"}
        )
        assert answer.status_code == 400
    answer = await browser.client.post("/console/region", json={"form_token": token})
    assert answer.status_code == 400
    large = await site.browser().post("/sign-in", token="a" * 70_000)
    assert (large.status_code, "at most" in large.text) == (400, True)
    assert (await browser.get("/?a=%ff")).status_code == 400


async def test_a_defect_is_a_page_and_says_nothing_about_it(site: Site) -> None:
    async def broken(call: Call) -> Any:
        raise RuntimeError("a secret of the server")

    page = next(page for page in PAGES if page.path == "/" and page.method == "GET")
    browser, works = await site.signed_in(), page.handler
    object.__setattr__(page, "handler", broken)
    try:
        answer = await browser.get()
    finally:
        object.__setattr__(page, "handler", works)
    assert (answer.status_code, "secret" in answer.text) == (500, False)
    assert "The server failed to make this page" in text_of(answer)


async def test_troubles_of_the_server_are_on_every_page(site: Site) -> None:
    browser = await site.signed_in()
    assert "Healthy" in text_of(await browser.get())
    site.checks.append(Check("store", "error", "<the disk is full>"))
    answer = await browser.get()
    assert "Needs attention" in text_of(answer)
    assert "&lt;the disk is full&gt;" in answer.text


@pytest.mark.parametrize("is_there", [False, True])
async def test_the_menu_leads_to_the_documentation_if_there_is_one(
    site: Site, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    monkeypatch.setattr("thingmint.console.page.is_built", lambda: is_there)
    assert ('href="/docs/"' in (await (await site.signed_in()).get()).text) is is_there


async def test_assets(site: Site) -> None:
    browser = site.browser()
    for name, path in paths().items():
        answer = await browser.client.get(path)
        assert answer.status_code == 200, name
        assert (
            answer.headers["content-type"].split(";")[0]
            == {
                "css": "text/css",
                "js": "text/javascript",
                "svg": "image/svg+xml",
                "woff2": "font/woff2",
            }[name.rpartition(".")[2]]
        )
    css = (await browser.client.get(paths()["console.css"])).text
    assert paths()["inter-cyrillic.woff2"] in css
    plain = await browser.client.get(paths()["htmx.min.js"], headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    records = await site.records()
    assert records == [], "files are no events of the audit log"


def test_the_address_of_a_file_changes_with_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "a.woff2").write_bytes(b"1")
    (tmp_path / "a.css").write_text("b { src: url(a.woff2) }")
    first = Assets(tmp_path).paths
    (tmp_path / "a.woff2").write_bytes(b"2")
    second = Assets(tmp_path).paths
    assert all(first[name] != second[name] for name in first)


def test_files_of_others_are_as_they_were_published() -> None:
    vendor = runpy.run_path(str(ROOT / "scripts" / "vendor.py"))
    for file in vendor["VENDORED"]:
        assert hashlib.sha256((vendor["STATIC"] / file.name).read_bytes()).hexdigest() == file.sha256, file.name
