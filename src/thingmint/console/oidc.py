"""Signing in through an OpenID Connect provider: the authorization code flow with PKCE, state and nonce.

The provider's metadata and keys are limited in size, and every answer in time. The ID token's signature, issuer,
audience, times and nonce are verified (OpenID Connect Core 3.1.3.7). Groups that are not in the ID token are asked for
at the userinfo endpoint: providers may leave the claims of a scope to it (5.4).
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import secrets
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlsplit

import httpx
import orjson
import structlog

from thingmint.domain.errors import Unauthenticated, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

_TIMEOUT = 10.0  # seconds
_MAX_ANSWER = 512 * 1024  # bytes
_KEEP_METADATA = 600.0  # seconds
_AWAY_SECONDS = 5.0  # for which a provider that did not answer is not asked again
_LEEWAY = 60  # seconds between the clocks
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA"]
_REFUSED = "The provider's answer cannot be accepted; sign in again"

_log = structlog.get_logger("thingmint.console")


class ProviderAway(Unavailable):
    """The OpenID Connect provider does not answer as a provider should."""


@dataclass(frozen=True, slots=True)
class Role:
    account: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """``roles`` are by group, in the order in which they are looked for. ``label`` names the provider on the button."""

    label: str
    issuer: str
    client_id: str
    client_secret: str | None
    scope: str
    groups_claim: str
    name_claim: str
    roles: Mapping[str, Role]
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """``kept`` has to be given to ``finish``, and must be kept where only this browser has it."""

    location: str
    kept: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Person:
    """A person whom the provider has authenticated, and the role that one of the person's groups has here."""

    name: str
    account: str
    role: str


class OpenIdConnect:
    def __init__(self, provider: Provider, clock: Callable[[], datetime]) -> None:
        self._provider = provider
        self._clock = clock
        self._metadata: tuple[float, dict[str, Any]] | None = None
        self._asking = asyncio.Lock()
        self._context: ssl.SSLContext | None = None
        self._away_until = 0.0

    @property
    def label(self) -> str:
        return self._provider.label

    async def begin(self, redirect_uri: str) -> Begun:
        """Where to send the browser. Raises ProviderAway if the provider does not answer."""
        metadata = await self._described()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        async with self._client(redirect_uri) as client:
            location, _ = client.create_authorization_url(
                metadata["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier
            )
        return Begun(str(location), {"state": state, "nonce": nonce, "verifier": verifier})

    async def finish(self, redirect_uri: str, kept: Mapping[str, Any], answer: Mapping[str, str]) -> Person:
        """The person who signed in. ``answer`` is the query with which the provider sent the browser back.

        Raises Unauthenticated, and ProviderAway if the provider does not answer.
        """
        if not _same(str(kept.get("state") or ""), answer.get("state", "")):
            raise Unauthenticated("unknown", "Signing in did not begin in this browser; try again")
        if "error" in answer or "code" not in answer:
            raise Unauthenticated("wrong", "The provider refused to sign you in", advice=str(answer.get("error"))[:200])
        if answer.get("iss", self._provider.issuer) != self._provider.issuer:  # RFC 9207
            raise Unauthenticated("wrong", _REFUSED, advice="the answer names another issuer")
        metadata = await self._described()
        tokens = await self._tokens(metadata, redirect_uri, answer["code"], str(kept["verifier"]))
        claims = await self._verified(metadata, tokens["id_token"], str(kept["nonce"]))
        return self._person(await self._completed(metadata, claims, tokens.get("access_token")))

    async def _tokens(
        self, metadata: Mapping[str, Any], redirect_uri: str, code: str, verifier: str
    ) -> Mapping[str, Any]:
        """The answer of the token endpoint, which has an ID token. Raises Unauthenticated."""
        from authlib.integrations.base_client import OAuthError
        from authlib.oauth2 import OAuth2Error

        async with self._client(redirect_uri) as client:
            try:
                answer = await client.fetch_token(metadata["token_endpoint"], code=code, code_verifier=verifier)
            except (OAuthError, OAuth2Error) as error:
                raise Unauthenticated("wrong", _REFUSED, advice=f"the token endpoint: {error}"[:200]) from None
            except (httpx.HTTPError, ValueError) as error:
                raise self._away(error) from None
        if not isinstance(answer.get("id_token"), str):
            raise Unauthenticated("wrong", _REFUSED, advice="the token endpoint gave no ID token")
        return dict(answer)

    async def _verified(self, metadata: Mapping[str, Any], token: str, nonce: str) -> dict[str, Any]:
        """The claims of the ID token. Raises Unauthenticated."""
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        keys = await self._fetch(metadata["jwks_uri"])
        provider, now = self._provider, int(self._clock().timestamp())
        try:
            claims = jwt.decode(token, KeySet.import_key_set(keys), algorithms=_ALGORITHMS).claims  # type: ignore[arg-type]  # checked by the library
            jwt.JWTClaimsRegistry(
                now=now,
                leeway=_LEEWAY,
                iss={"essential": True, "value": provider.issuer},
                aud={"essential": True, "value": provider.client_id},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(claims)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise Unauthenticated("wrong", _REFUSED, advice=f"the ID token: {error}"[:200]) from None
        if claims.get("azp", provider.client_id) != provider.client_id:
            raise Unauthenticated("wrong", _REFUSED, advice="the ID token is for another client")
        return dict(claims)

    async def _completed(
        self, metadata: Mapping[str, Any], claims: dict[str, Any], access_token: object
    ) -> dict[str, Any]:
        """The claims, with those of the userinfo endpoint if the ID token has no groups. Raises Unauthenticated."""
        address = metadata.get("userinfo_endpoint")
        if self._provider.groups_claim in claims or not _is_address(address) or not isinstance(access_token, str):
            return claims
        further = await self._fetch(str(address), access_token)
        if further.get("sub") != claims.get("sub"):  # OpenID Connect Core 5.3.2
            raise Unauthenticated("wrong", _REFUSED, advice="the userinfo endpoint answered for another person")
        return further | claims

    def _person(self, claims: Mapping[str, Any]) -> Person:
        groups = claims.get(self._provider.groups_claim) or []
        groups = [groups] if isinstance(groups, str) else groups
        known = {each for each in groups if isinstance(each, str)} if isinstance(groups, list) else set()
        name = str(claims.get(self._provider.name_claim) or claims.get("sub") or "unnamed")
        for group, role in self._provider.roles.items():
            if group in known:
                return Person(name, role.account, role.name)
        advice = f"none of the groups of {name[:100]} has a role in the setting console.oidc"
        raise Unauthenticated("unknown", "You are not in a group that may use this server", advice=advice)

    async def _described(self) -> dict[str, Any]:
        """The provider's metadata (OpenID Connect Discovery 1.0)."""
        async with self._asking:  # one request for all browsers that sign in
            return await self._ask()

    async def _ask(self) -> dict[str, Any]:
        now = self._clock().timestamp()
        if self._metadata is None or self._metadata[0] + _KEEP_METADATA < now:
            if now < self._away_until:
                raise ProviderAway(self._no_answer)
            self._away_until = now + _AWAY_SECONDS  # callers without credentials cause these requests
            issuer = self._provider.issuer
            metadata = await self._fetch(f"{issuer.removesuffix('/')}/.well-known/openid-configuration")
            needed = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            if metadata.get("issuer") != issuer or not all(_is_address(metadata.get(name)) for name in needed):
                raise self._away(ValueError("its metadata names another issuer, or lacks an endpoint"))
            self._metadata, self._away_until = (now, metadata), 0.0
        return self._metadata[1]

    async def _fetch(self, address: str, access_token: str | None = None) -> dict[str, Any]:
        """A JSON object. Raises ProviderAway."""
        headers = {} if access_token is None else {"authorization": f"Bearer {access_token}"}
        try:
            async with (
                httpx.AsyncClient(timeout=_TIMEOUT, verify=self._trust()) as client,
                client.stream("GET", address, headers=headers) as answer,
            ):
                answer.raise_for_status()
                found = orjson.loads(await _read(answer))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            raise self._away(error) from None
        if not isinstance(found, dict):
            raise self._away(ValueError("its answer is not a JSON object"))
        return found

    def _client(self, redirect_uri: str) -> Any:
        from authlib.integrations.httpx_client import AsyncOAuth2Client

        provider = self._provider
        return AsyncOAuth2Client(
            client_id=provider.client_id,
            client_secret=provider.client_secret,
            token_endpoint_auth_method="none" if provider.client_secret is None else _basic,
            scope=provider.scope,
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            timeout=_TIMEOUT,
            verify=self._trust(),
        )

    def _trust(self) -> Any:
        """httpx's argument: the certificates that the provider's chain has to lead to."""
        # Made once: reading all CA certificates takes some 20 ms.
        if self._context is None:
            if self._provider.ca_file is None:
                self._context = httpx.create_ssl_context()
            else:
                self._context = ssl.create_default_context(cafile=self._provider.ca_file)
        return self._context

    def _away(self, error: Exception) -> ProviderAway:
        why = f"{type(error).__name__}: {error}"[:300]
        _log.warning("oidc_provider_unusable", issuer=self._provider.issuer, why=why)
        return ProviderAway(self._no_answer)

    @property
    def _no_answer(self) -> str:
        return f"{self._provider.label} does not answer as a provider should; the log says why"


def _basic(client: Any, method: str, uri: str, headers: Any, body: Any) -> tuple[str, Any, Any]:
    """Adds the client's id and secret to a request, each encoded (RFC 6749, 2.3.1), which Authlib does not do."""
    pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
    headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return uri, headers, body


async def _read(answer: httpx.Response) -> bytes:
    """The body. Raises ValueError if it is too large."""
    body = bytearray()
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > _MAX_ANSWER:
            raise ValueError("its answer is too large")
    return bytes(body)


def _same(one: str, other: str) -> bool:
    return bool(one) and hmac.compare_digest(one.encode(), other.encode("utf-8", "replace"))


def _is_address(value: object) -> bool:
    return isinstance(value, str) and urlsplit(value).scheme in ("https", "http")
