"""A browser for tests of the console: it keeps cookies, sends forms as pages have them, and needs no server."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.unit.invoking import invoker
from thingmint.access.audit import AuditedStore, AuditLog
from thingmint.access.audit_keys import AuditKeys
from thingmint.access.audit_records import AuditRecords
from thingmint.access.audit_verification import AuditVerification
from thingmint.access.console_sessions import ConsoleSessions
from thingmint.access.local_admin import Administration
from thingmint.access.request_log import RequestLog
from thingmint.access.throttle import FailureThrottle, Rate, Throttle
from thingmint.console.app import ConsoleApi
from thingmint.console.hosts import AllowedHosts
from thingmint.console.page import DeviceAccess, Parts, ServerAddresses
from thingmint.console.sign_in import SignInPages
from thingmint.console.updates import Updates
from thingmint.http.front import SingleApi
from thingmint.http.memory import RequestMemory
from thingmint.metrics import Metrics
from thingmint.server.contracts import CONTRACTS
from thingmint.server.policy_actions import vocabulary_of
from thingmint.services.device_authentication import DeviceAuthenticator
from thingmint.services.device_explanations import Explainer
from thingmint.services.health import Check, Health
from thingmint.services.hostnames import HostNames
from thingmint.services.owner_authentication import OwnerAuthenticator
from thingmint.services.page_tokens import PageTokens
from thingmint.services.password_verification import PasswordVerifier

if TYPE_CHECKING:
    from tests.world import World
    from thingmint.console.oidc import OpenIdConnect

AUDIT_KEY = Ed25519PrivateKey.generate()
IDLE, LIFETIME = timedelta(hours=1), timedelta(hours=12)
_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]{64})"')


class Site:
    """The console of a world. ``checks`` are those of its health, ``connected`` how many devices are connected."""

    def __init__(self, world: World, *, dev: bool = False, oidc: OpenIdConnect | None = None) -> None:
        self.world = world
        self.checks: list[Check] = []
        self.connected = 0
        self.contracts = dict(CONTRACTS)
        store = AuditedStore(world.store, world.clock)
        passwords = PasswordVerifier(world.store, world.environment.passwords, lambda: False)
        owners = OwnerAuthenticator(world.store, passwords)
        authenticator = DeviceAuthenticator(world.store, HostNames({}), world.clock, owners=owners)
        explainer = Explainer(world.store, authenticator, owners, world.clock)
        self.sessions = ConsoleSessions(
            world.store, world.directory, world.vault, world.clock, idle=IDLE, lifetime=LIFETIME
        )
        self.trail = AuditLog(world.store, world.clock)
        request_log, failures = RequestLog(Metrics(), self.trail), FailureThrottle(Rate(50, 1000))
        memory = RequestMemory.of(unauthenticated=2**24, authenticated=2**24)
        throttle = self.throttle = Throttle(None, {})
        self.updates = Updates(self.sessions)
        world.store.followers.append(self.updates.published)
        world.store.listeners.append(lambda name, scope: self.updates.changed(scope, name))
        self.verification = AuditVerification(
            world.store, lambda: (AuditKeys(AUDIT_KEY.public_key()), []), self.trail, world.clock
        )
        parts = self.parts = Parts(
            environment=world.environment,
            administration=Administration(store, world.vault, world.clock),
            audit=AuditRecords(world.store, PageTokens(b"a" * 32)),
            sessions=self.sessions,
            health=self._health,
            connected=lambda _scope: self.connected,
            updates=self.updates,
            devices=DeviceAccess(8883, lambda _name: None, lambda _account: "iot.example.org"),
            explain=lambda asked, scope: explainer.explain(asked, [scope], is_limited=True),
            contracts=self.contracts,
            verification=self.verification,
            addresses=lambda: ServerAddresses("iot.example.org", 8443, 9443, True),
            policy_vocabulary=vocabulary_of,
            invoke=invoker(world, request_log, memory, throttle, failures),
        )
        api = ConsoleApi(
            self.sessions,
            SignInPages(self.sessions, oidc),
            world.directory,
            throttle,
            store,
            parts,
            AllowedHosts(lambda: {"iot.example.org", "*.example.net"}),
            dev=dev,
        )
        self.app = SingleApi(api, request_log, failures, memory, world.clock)

    async def _health(self) -> Health:
        return Health(self.world.clock(), "1", self.checks)

    def browser(self, base: str = "https://localhost:8443") -> Browser:
        return Browser(self, base)

    async def signed_in(self, token: str | None = None) -> Browser:
        """A browser that has signed in; by default, the administrator of our account."""
        browser = self.browser()
        answer = await browser.post("/sign-in", token=token or self.world.ours.token)
        assert answer.status_code == 303, answer.text
        return browser

    async def records(self) -> list[tuple[str, str, str | None]]:
        """The event, outcome and principal of each audit record."""
        await self.trail.close()
        rows = await self.world.rows("SELECT record FROM audit_records UNION ALL SELECT record FROM audit_activity")
        import orjson

        found = [orjson.loads(row[0]) for row in rows]
        return [(each["event"], each["outcome"], each["principal"]) for each in found]


class Browser:
    def __init__(self, site: Site, base: str) -> None:
        self.site, self.base = site, base
        transport = httpx.ASGITransport(app=cast("Any", site.app), client=("127.0.0.1", 50000))
        self.client = httpx.AsyncClient(transport=transport, base_url=base)

    async def get(self, path: str = "/", **headers: str) -> httpx.Response:
        return await self.client.get(f"/console{path}", headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def post(self, path: str, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        """Sends a form as a page of the console does."""
        sent = {"origin": self.base, "sec-fetch-site": "same-origin"} | (headers or {})
        return await self.client.post(f"/console{path}", headers=sent, data=fields)

    async def send(self, path: str, page: str = "/", **fields: Any) -> httpx.Response:
        """Sends a form of ``page``, with its token."""
        return await self.post(path, form_token=await self.token(page), **fields)

    async def token(self, page: str = "/") -> str:
        found = _TOKEN.search((await self.get(page)).text)
        assert found is not None, "the page has no form"
        return found[1]


def text_of(answer: httpx.Response) -> str:
    """The text of a page without its tags, white space as one space."""
    body = re.sub(r"<[^>]*>", " ", answer.text)
    return " ".join(html.unescape(body).split())
