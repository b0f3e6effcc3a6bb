"""Signing in through a real OpenID Connect provider, npm's oidc-provider, in Chromium and request by request."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.e2e.access.local_admin import LocalAdmin, allow, document
from tests.e2e.commands import in_process
from tests.e2e.console.openid_provider import CLIENT, SECRET, Provider, openid_provider, port_of
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from thingmint.testing import RunningServer

ACCOUNT = "123456789012"
TRUST = document({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}})
NAMES = {"operators": "Operators", "viewers": "Viewers"}


@contextmanager
def served(folder: Path, issuer: str) -> Iterator[RunningServer]:
    """A server on which the provider's operators may see and change certificates, and its viewers only list them."""
    settings = {"oidc": settings_of(folder, issuer)}
    with ThreadPoolExecutor(1) as thread:  # this one may have the event loop of Playwright
        made = thread.submit(in_process, "init", "--data-dir", folder / "data", "--account-id", ACCOUNT).result()
        assert made.returncode == 0, made.stderr
        with running_server(folder / "data", environment={"THINGMINT_CONSOLE": json.dumps(settings)}) as server:
            thread.submit(make_roles, LocalAdmin(server)).result()
            yield server


def settings_of(folder: Path, issuer: str) -> dict[str, Any]:
    (folder / "secret").write_text(f"{SECRET}\n", encoding="utf-8")
    return {
        "issuer": issuer,
        "client_id": CLIENT,
        "client_secret_file": str(folder / "secret"),
        "label": "Example <ID>",
        "roles": {group: f"arn:aws:iam::{ACCOUNT}:role/{name}" for group, name in NAMES.items()},
    }


def make_roles(admin: LocalAdmin) -> None:
    for name, actions in (("Operators", "iot:*"), ("Viewers", "iot:List*")):
        admin.ask("role.create", name=name, trust_policy=TRUST)
        admin.ask("policy.put", name=name, document=document(allow(actions)))
        admin.ask("policy.attach", principal=f"role/{name}", policy=name)


@pytest.fixture(scope="module", params=[False, True], ids=["groups in the ID token", "groups in userinfo"])
def provider(request: pytest.FixtureRequest) -> Iterator[Provider]:
    with openid_provider(in_userinfo=request.param) as running:
        yield running


@pytest.fixture(scope="module")
def console(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with served(tmp_path_factory.mktemp("openid"), provider.issuer) as server:
        provider.admit(server.http_url)
        yield server


@pytest.fixture
def open_page(console: RunningServer, chromium: Browser) -> Iterator[Callable[..., Page]]:
    """A function that opens the page for signing in, in a new window."""
    contexts = []

    def opened(next: str = "/", **options: Any) -> Page:
        contexts.append(chromium.new_context(base_url=console.http_url, **options))
        page = contexts[-1].new_page()
        page.goto(f"/console/sign-in?next={next}")
        return page

    yield opened
    for context in contexts:
        context.close()


def sign_in(page: Page, person: str) -> None:
    page.get_by_role("link", name="Sign in with Example <ID>").click()
    page.get_by_role("heading", name="Who are you?").wait_for()
    page.get_by_role("link", name=person).click()


@pytest.mark.parametrize("has_script", [True, False], ids=["with JavaScript", "without"])
def test_a_group_leads_to_its_role_and_the_role_to_its_pages(
    open_page: Callable[..., Page], console: RunningServer, has_script: bool
) -> None:
    page = open_page("/certificates", java_script_enabled=has_script)
    sign_in(page, "alice")
    page.wait_for_url(f"{console.http_url}/console/certificates")
    page.get_by_role("heading", name="Certificates", exact=True).wait_for()
    page.get_by_text("alice@example.org").first.wait_for()
    session = next(each for each in page.context.cookies() if each["name"].endswith("-session"))
    assert (session["httpOnly"], session["sameSite"]) == (True, "Lax")
    assert page.request.get(f"/console/certificates/{'0' * 64}").status == 404
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/console/sign-in")
    page.goto("/console/certificates")
    page.get_by_role("heading", name="Sign in").wait_for()
    records = audit(console)
    signed_in = next(each for each in records if each["event"] == "ConsoleSignIn")
    assert signed_in["principal"].endswith(":role/Operators")
    assert "ConsoleSignOut" in [each["event"] for each in records]


def test_the_first_group_of_the_setting_decides(open_page: Callable[..., Page], console: RunningServer) -> None:
    for person, status in (("carol", 404), ("erin", 403)):  # carol is also a viewer, erin is only that
        page = open_page("/certificates")
        sign_in(page, person)
        page.wait_for_url(f"{console.http_url}/console/certificates")
        assert page.request.get(f"/console/certificates/{'0' * 64}").status == status, person


@pytest.mark.parametrize("person", ["bob", "dave"])
def test_a_person_without_a_group_that_has_a_role(open_page: Callable[..., Page], person: str) -> None:
    page = open_page()
    sign_in(page, person)
    page.get_by_role("alert").get_by_text("You are not in a group that may use this server.").wait_for()
    assert not [each for each in page.context.cookies() if each["name"].endswith("-session")]


def test_a_person_who_does_not_want_to(open_page: Callable[..., Page]) -> None:
    page = open_page()
    sign_in(page, "declines")
    page.get_by_role("alert").get_by_text("The provider refused to sign you in.").wait_for()


def begin(browser: httpx.Client, person: str = "alice", next: str = "/certificates") -> dict[str, str]:
    """Begins in this browser, and signs in at the provider: the fields with which that sends the browser back."""
    answer = browser.get("/console/sign-in/oidc", params={"next": next})
    assert answer.status_code == 303, answer.text
    with httpx.Client() as other:
        answer = other.get(answer.headers["location"])
        chosen = str(answer.url.join(answer.headers["location"]))
        answer = other.get(chosen, params={"as": person})
        answer = other.get(answer.headers["location"])
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    return {name: values[0] for name, values in query.items()}


def finish(browser: httpx.Client, fields: dict[str, str]) -> httpx.Response:
    return browser.get("/console/sign-in/oidc/callback", params=fields)


def is_refused(answer: httpx.Response, status: int = 401) -> bool:
    """True for a page that tells why, and makes no session."""
    page = answer.headers["content-type"].startswith("text/html") and "Sign in" in answer.text
    return answer.status_code == status and page and "-session=" not in answer.headers.get("set-cookie", "")


@pytest.fixture
def browser(console: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=console.http_url) as client:
        yield client


def test_a_code_and_a_state_work_once(browser: httpx.Client) -> None:
    fields = begin(browser)
    before = dict(browser.cookies)
    assert finish(browser, fields).status_code == 303
    assert is_refused(finish(browser, fields))
    browser.cookies.clear()
    browser.cookies.update(before)  # the cookie of the first try, as a thief would have it
    assert is_refused(finish(browser, fields))


def test_a_code_of_another_sign_in(browser: httpx.Client) -> None:
    first = begin(browser)
    second = begin(browser)
    assert is_refused(finish(browser, second | {"code": first["code"]})), "PKCE: it belongs to another verifier"


@pytest.mark.parametrize(
    "forged",
    [{}, {"state": "x"}, {"code": "c"}, {"state": "x", "code": "c"}, {"error": "e"}, {"state": "é", "code": "%25"}],
    ids=str,
)
def test_a_forged_state_gives_a_page(browser: httpx.Client, forged: dict[str, str]) -> None:
    assert is_refused(finish(browser, forged))
    begin(browser)
    assert is_refused(finish(browser, forged))


@pytest.mark.parametrize("changed", [{"code": "c"}, {"state": "x"}, {"iss": "https://evil.example"}], ids=str)
def test_an_answer_that_was_changed_on_the_way(browser: httpx.Client, changed: dict[str, str]) -> None:
    assert is_refused(finish(browser, begin(browser) | changed))


def test_the_answer_of_another_browser_is_refused(browser: httpx.Client, console: RunningServer) -> None:
    fields = begin(browser)
    with httpx.Client(base_url=console.http_url) as other:
        assert is_refused(finish(other, fields))
    assert finish(browser, fields).status_code == 303


@pytest.mark.parametrize("next", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_it_leads_to_no_other_site(browser: httpx.Client, next: str) -> None:
    assert finish(browser, begin(browser, next=next)).headers["location"].startswith("/console/")


def test_a_provider_that_ends_and_comes_back(tmp_path: Path) -> None:
    with openid_provider() as first, served(tmp_path, first.issuer) as server:
        with httpx.Client(base_url=server.http_url) as browser:
            first.admit(server.http_url)
            fields = begin(browser)
            first.process.kill()
            first.process.wait()
            assert is_refused(finish(browser, fields), 503)
            with openid_provider(port=port_of(first)) as again:  # it has other keys, and knows no codes
                again.admit(server.http_url)
                assert is_refused(finish(browser, fields))
                assert finish(browser, begin(browser)).status_code == 303
        assert server.process.poll() is None


def test_a_provider_that_was_never_there(tmp_path: Path) -> None:
    with openid_provider() as gone:
        gone.process.kill()
    with served(tmp_path, gone.issuer) as server, httpx.Client(base_url=server.http_url) as browser:
        answer = browser.get("/console/sign-in/oidc")
        assert is_refused(answer, 503), answer.text
        assert browser.post("/console/sign-in", data={"token": server.token}).status_code == 303


def audit(console: RunningServer) -> list[dict[str, Any]]:
    answer = httpx.get(f"{console.http_url}/v1/audit", headers={"authorization": f"Bearer {console.token}"})
    return list(answer.json()["data"]["records"])
