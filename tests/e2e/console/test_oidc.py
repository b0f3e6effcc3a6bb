"""Signing in through an OpenID Connect provider that answers wrongly: these tests play it.

test_openid_provider.py has the tests with a real one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.e2e.access.local_admin import LocalAdmin, allow, document
from tests.e2e.commands import in_process
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from thingmint.testing import RunningServer

CLIENT, SECRET = "thingmint", "a-secret"
TRUST = document({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}})


@dataclass
class Provider:
    """Answers token requests with an ID token. ``spoil`` changes its claims, ``key`` signs it."""

    url: str = ""
    groups: Any = field(default_factory=lambda: ["staff", "operators"])
    spoil: Callable[[dict[str, Any]], object] = lambda claims: claims
    published: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "1"}))
    key: ECKey | None = None
    answer: bytes | None = None
    userinfo: Any = None
    asked: dict[str, str] = field(default_factory=dict)
    codes: set[str] = field(default_factory=set)

    def metadata(self) -> dict[str, Any]:
        ways = {"authorization": "authorize", "token": "token", "userinfo": "userinfo"}
        found: dict[str, Any] = {f"{name}_endpoint": f"{self.url}/{path}" for name, path in ways.items()}
        return found | {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}

    def approve(self, location: str) -> dict[str, str]:
        """What a person does at the provider: the fields with which it sends the browser back."""
        self.asked = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        self.codes.add("the code")
        return {"code": "the code", "state": self.asked["state"]}

    def token(self, headers: Any, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        expected = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(verifier).rstrip(b"=").decode()
        is_right = headers["authorization"] == f"Basic {expected}" and challenge == self.asked.get("code_challenge")
        if form.get("code") not in self.codes or not is_right or form["redirect_uri"] != self.asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        self.codes.discard(form["code"])
        now = int(time.time())
        claims: dict[str, Any] = {"iss": self.url, "aud": CLIENT, "sub": "17", "email": "alice@example.org"}
        claims |= {"iat": now, "exp": now + 60, "nonce": self.asked["nonce"], "groups": self.groups}
        self.spoil(claims)
        token = jwt.encode({"alg": "ES256", "kid": "1"}, claims, self.key or self.published)
        return 200, {"access_token": "a", "token_type": "Bearer", "id_token": token}


class Handler(BaseHTTPRequestHandler):
    provider: Provider

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        provider = self.provider
        answers: dict[str, Callable[[], Any]] = {
            "/.well-known/openid-configuration": provider.metadata,
            "/keys": lambda: {"keys": [provider.published.as_dict(private=False)]},
            "/userinfo": lambda: provider.userinfo if self.headers["authorization"] == "Bearer a" else None,
        }
        found = answers[self.path]()
        self._send(200 if found is not None else 401, found)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"])).decode()
        form = {name: values[0] for name, values in parse_qs(content).items()}
        self._send(*self.provider.token(self.headers, form))

    def _send(self, status: int, body: Any) -> None:
        content = self.provider.answer or json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="module")
def playing() -> Iterator[type[Handler]]:
    class OfTests(Handler):
        provider = Provider()

    server = ThreadingHTTPServer(("127.0.0.1", 0), OfTests)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    OfTests.provider.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield OfTests
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def console(playing: type[Handler], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    secret = tmp_path_factory.mktemp("oidc") / "secret"
    secret.write_text(f"{SECRET}\n")
    account = "123456789012"
    settings = {
        "issuer": playing.provider.url,
        "client_id": CLIENT,
        "client_secret_file": str(secret),
        "label": "Example <ID>",
        "roles": {"admins": _role(account, "Admins"), "operators": _role(account, "Operators")},
    }
    data = tmp_path_factory.mktemp("served") / "data"
    assert in_process("init", "--data-dir", data, "--account-id", account).returncode == 0
    with running_server(data, environment={"THINGMINT_CONSOLE": json.dumps({"oidc": settings})}) as server:
        admin = LocalAdmin(server)
        admin.ask("role.create", name="Operators", trust_policy=TRUST)
        admin.ask("policy.put", name="reads", document=document(allow("iot:List*")))
        admin.ask("policy.attach", principal="role/Operators", policy="reads")
        yield server


def _role(account: str, name: str) -> str:
    return f"arn:aws:iam::{account}:role/{name}"


@pytest.fixture
def provider(playing: type[Handler]) -> Provider:
    """A provider without the faults of other tests, at the same address."""
    playing.provider = Provider(url=playing.provider.url, published=playing.provider.published)
    return playing.provider


@pytest.fixture
def browser(console: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=console.http_url) as client:
        yield client


def begin(browser: httpx.Client, provider: Provider, next: str = "/certificates") -> dict[str, str]:
    answer = browser.get("/console/sign-in/oidc", params={"next": next})
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"].startswith(f"{provider.url}/authorize?")
    return provider.approve(answer.headers["location"])


def finish(browser: httpx.Client, fields: dict[str, str]) -> httpx.Response:
    return browser.get("/console/sign-in/oidc/callback", params=fields)


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"aud": "another"},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"iss": "https://evil.example"},
        {"exp": 1_000_000_000},
        {"iat": 4_000_000_000},
        {"exp": None},
        {"nonce": None},
        {"exp": "soon"},
    ],
    ids=str,
)
def test_an_id_token_that_is_not_for_this_sign_in(
    browser: httpx.Client, provider: Provider, claims: dict[str, Any]
) -> None:
    provider.spoil = lambda found: found.update(claims)
    answer = finish(browser, begin(browser, provider))
    assert answer.status_code == 401
    assert "session" not in answer.headers.get("set-cookie", "")


def test_an_id_token_that_another_key_signed(browser: httpx.Client, provider: Provider) -> None:
    provider.key = ECKey.generate_key("P-256", {"kid": "1"})
    assert finish(browser, begin(browser, provider)).status_code == 401


@pytest.mark.parametrize("groups", [None, {"operators": 1}, [1, None, ["operators"]], 17, True], ids=str)
def test_groups_of_another_form(browser: httpx.Client, provider: Provider, groups: Any) -> None:
    provider.groups = groups
    answer = finish(browser, begin(browser, provider))
    assert answer.status_code == 401
    assert "not in a group" in answer.text


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"sub": "17", "groups": ["operators"]}, 303),
        ({"sub": "18", "groups": ["operators"]}, 401),
        ({"groups": ["operators"]}, 401),
        ({"sub": "17"}, 401),
        (["operators"], 503),
        ({"sub": "17", "groups": ["operators"] * 100_000}, 503),
        (None, 503),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_userinfo_endpoint(browser: httpx.Client, provider: Provider, answer: Any, status: int) -> None:
    provider.spoil = lambda claims: claims.pop("groups")
    provider.userinfo = answer
    shown = finish(browser, begin(browser, provider))
    assert shown.status_code == status
    assert ("session" in shown.headers.get("set-cookie", "")) == (status == 303)


def test_a_group_whose_role_does_not_exist(browser: httpx.Client, provider: Provider) -> None:
    provider.groups = ["operators", "admins"]
    answer = finish(browser, begin(browser, provider))
    assert answer.status_code == 401
    assert "The role Admins does not exist" in answer.text


@pytest.mark.parametrize("answer", [b"[]", b"{", b"\xff", b"{}", b'{"id_token": 1}', b"a" * 1_000_000], ids=len)
def test_a_provider_that_answers_nonsense(browser: httpx.Client, provider: Provider, answer: bytes) -> None:
    fields = begin(browser, provider)
    provider.answer = answer
    shown = finish(browser, fields)
    assert shown.status_code in (401, 503)
    assert "<h1>Sign in</h1>" in shown.text
    assert shown.headers["content-type"].startswith("text/html")
