"""Every declared page in Chromium, with texts that are hard to show, in each size and colour, and without JavaScript.

New pages come in by themselves: the addresses are found by following the links of the pages.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import pytest

from tests.e2e.console.browser import signed_in
from tests.e2e.console.conftest import AXE
from tests.e2e.console.everything import GETS, MARK, POSTS, Everything, everything
from tests.e2e.console.test_chromium import NARROW, WIDE, ZOOMED, violations
from tests.e2e.logs import check_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page, Request

    from thingmint.console.page import Page as Declared

FILES = ("/certificates.csv", "/certificates/{id}/pem", "/access/audit.csv", "/access/audit.jsonl")
FAILING = ("/nothing", "/things/nothing", "/refusals?page=x", f"/certificates/{'0' * 64}", "/sign-in/link?link=x")
OPEN = ("/sign-in", "/sign-in?next=/things", "/sign-in/oidc", "/sign-in/oidc/callback?state=x")
_TABS = 250


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    with everything(tmp_path_factory.mktemp("everything")) as found:
        yield found
        check_log(found.server.output.read_text(errors="replace"))


@pytest.fixture
def open_window(made: Everything, chromium: Browser) -> Iterator[Callable[..., Page]]:
    """A function that opens a window, signed in. Fails the test if the browser reports anything, such as the policy, or
    if a page asks another host for something."""
    contexts: list[Any] = []
    messages: list[str] = []
    base = made.server.http_url

    def requested(request: Request) -> None:
        if not request.url.startswith((f"{base}/", "data:", f"blob:{base}/")):
            messages.append(f"{request.frame.url} requests {request.url}")

    def opened(token: str | None = None, **options: Any) -> Page:
        contexts.append(chromium.new_context(base_url=base, **options))
        page: Page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: messages.append(f"{page.url}: {message.text}"))
        page.on("pageerror", lambda error: messages.append(f"{page.url}: {error}"))
        contexts[-1].on("request", requested)
        page.goto("/console/sign-in?next=/things")
        page.fill("#token", token or made.server.token)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/console/things")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [each for each in messages if "the server responded with a status of 4" not in each] == []


def flaws(page: Page, address: str, width: int, *, with_axe: bool) -> list[str]:
    """What is wrong with a page that is open."""
    found = []
    page.evaluate("document.querySelectorAll('main details').forEach(each => { each.open = true })")
    if (wide := page.evaluate("document.documentElement.scrollWidth")) > width:
        found.append(f"it is {wide} wide")
    if page.evaluate("window.changed"):
        found.append("a text of it is executed")
    if page.evaluate("document.querySelectorAll('h1').length") != 1:
        found.append("it has not one heading")
    if page.evaluate("document.getAnimations().some(each => each.playState === 'running')"):
        found.append("something moves")
    if with_axe and AXE.exists():
        found += [f"axe: {id}: {where}" for id, where in violations(page)]
    return [f"{address}: {each}" for each in found]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("scheme", "viewport", "scripts"),
    [
        pytest.param("light", WIDE, "on", id="light"),
        pytest.param("dark", WIDE, "on", id="dark"),
        pytest.param("light", NARROW, "on", id="light narrow"),
        pytest.param("dark", NARROW, "on", id="dark narrow"),
        pytest.param("light", ZOOMED, "on", id="zoomed"),
        pytest.param("light", WIDE, "off", id="without JavaScript"),
        pytest.param("dark", NARROW, "off", id="narrow without JavaScript"),
        pytest.param("light", WIDE, "empty", id="without its scripts"),
        pytest.param("dark", NARROW, "empty", id="narrow without its scripts"),
    ],
)
def test_pages_can_be_read(
    open_window: Callable[..., Page], made: Everything, scheme: str, viewport: dict[str, int], scripts: str
) -> None:
    """axe-core does not end where JavaScript is off. So it also examines pages whose scripts are empty."""
    options = {"color_scheme": scheme, "viewport": viewport, "java_script_enabled": scripts != "off"}
    page, found = open_window(**options, reduced_motion="reduce"), []
    if scripts == "empty":
        page.route("**/*.js", lambda route: route.fulfill(content_type="text/javascript", body=""))
    page.goto("/console/things")
    assert page.evaluate("typeof htmx") == ("object" if scripts == "on" else "undefined")
    for address in (*made.pages, *FAILING, *OPEN):
        answer = page.goto(f"/console{address}", wait_until="domcontentloaded")
        assert answer is not None
        expected = range(400, 500) if address in FAILING or "/oidc" in address else (200,)
        if answer.status not in expected:
            found.append(f"{address}: {answer.status}")
        found += flaws(page, address, viewport["width"], with_axe=scripts != "off")
    assert found == []
    if not AXE.exists():
        pytest.skip("axe-core was not found: make services fetches it")


def test_each_declared_page_was_opened(made: Everything) -> None:
    """Pages of one function count as one: those of users, roles and service accounts are made in a loop."""
    opened = {function_of(GETS[path]) for path in made.addresses}
    left = {path for path, page in GETS.items() if function_of(page) not in opened and not page.is_open}
    assert {path for path in left if not GETS[path].is_stream} == set(FILES)


def function_of(page: Declared) -> Any:
    handler: Any = getattr(page.handler, "func", page.handler)
    return handler.__code__


@pytest.mark.timeout(900)
def test_the_main_action_is_reached_by_keyboard(open_window: Callable[..., Page], made: Everything) -> None:
    page = open_window(viewport=WIDE)
    unreached = []
    for address in {template: found[0] for template, found in made.addresses.items()}.values():
        page.goto(f"/console{address}", wait_until="domcontentloaded")
        primary = "main .button.primary:not([disabled])"
        if page.locator(primary).count() == 0:
            continue
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to content", address
        page.keyboard.press("Enter")
        for _ in range(_TABS):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.matches('main .button.primary')"):
                break
        else:
            unreached.append(address)
            continue
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        if outline == "none":
            unreached.append(f"{address}: its focus is not shown")
    assert unreached == []


def test_another_account_sees_nothing(made: Everything) -> None:
    """The contents are marked. What stands in the address itself may come back in an error."""
    seen = []
    with signed_in(made.server, made.outsider) as browser:
        for address in sorted(made.pages, key=lambda each: "/audit" not in each):  # before it has what follows
            answer = browser.client.get(f"/console{address}")
            assert answer.status_code < 500, address
            text = html.unescape(unquote_plus(answer.text))
            for echoed in re.split(r"[/?&=]", address):
                text = text.replace(unquote_plus(echoed), "") if MARK in echoed else text
            if MARK in text:
                seen.append(address)
    assert seen == []


def test_another_account_changes_nothing(made: Everything) -> None:
    """Each form of a page about one resource of the first account is refused."""
    values: dict[str, str] = {}
    for template, found in made.addresses.items():
        pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/?]+)", template))
        for address in found:
            match = pattern.match(address)
            prefix = template.split("{")[0]
            for name, value in (match.groupdict() if match else {}).items():
                if MARK in value or name == "id":
                    values.setdefault(f"{prefix}{name}", value)
    accepted = []
    with signed_in(made.server, made.outsider) as browser:
        for template in POSTS:
            if "{" not in template or template.startswith(("/playground/", "/updates/")):
                continue
            prefix, name = template.split("{")[0], template.split("{")[1].split("}")[0]
            assert f"{prefix}{name}" in values, template
            path = template.replace(f"{{{name}}}", values[f"{prefix}{name}"])
            answer = browser.post(path, policy=f"{MARK}-policy", status="ACTIVE", confirm="1")
            if not 400 <= answer.status_code < 500:
                accepted.append((path, answer.status_code))
    assert accepted == []
