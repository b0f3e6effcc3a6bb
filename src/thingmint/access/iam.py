"""IAM tokens, which are issued for a service account's signed JWT or for a user's API token.

They are not stored, because the SDK asks for a new one every 20 seconds. A token is a token id, a credential's id and
an expiry time, signed by an HMAC under a key of the instance. Like Yandex's, its form is t1.<claims>.<signature>.

A token for a service account that another principal acts as has that account's id too, and is valid while both the
other principal's credential and the service account are.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import jwt
import orjson

from thingmint.domain.errors import Disallowed, NotFound, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from jwt.types import Options

    from thingmint.access.context import Caller, Outcome, RequestContext
    from thingmint.access.directory import Directory


_PREFIX = "t1."
_LIFETIME = timedelta(hours=12)  # Yandex's longest
_METADATA_LIFETIME = timedelta(hours=1)  # SDKs ask again; only the end of the service account ends such a token
_LONGEST_JWT = timedelta(hours=1)
_LEEWAY = 60  # seconds, between our clock and a client's

# Times and audience are checked here, against our own clock and names.
_OPTIONS: Options = {
    "verify_aud": False,
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "require": ["iss", "iat", "exp", "aud"],
}

# The official audience, and the one that the SDK makes of the endpoint that it was given.
_AUDIENCE = re.compile(r"https://iam\.([^/:\[\]]+|\[[0-9a-fA-F:]+\])(?::\d{1,5})?/iam/v1/tokens")
_OFFICIAL_HOST = "api.cloud.yandex.net"

_NO_CREDENTIAL = (
    "The token would have to end with your credential, and your session has none: sign in with an API token instead"
)

METADATA = "metadata"
"""In place of the credential's id, in tokens of the metadata service, which asks for no credential."""


class NewToken(NamedTuple):
    """``caller`` is the authenticated owner of the JWT or API token."""

    token: str
    ends: datetime
    caller: Caller


class IamTokens:
    """``key`` signs the tokens, so that tokens of another instance are refused."""

    def __init__(self, directory: Directory, key: bytes, clock: Callable[[], datetime]) -> None:
        self._directory = directory
        self._key = key
        self._clock = clock

    async def for_jwt(self, encoded: str, hostnames: Collection[str]) -> NewToken:
        """A token for a JWT that a service account signed (PS256). Raises Unauthenticated.

        The JWT's audience must be the official one, or the one for a name in ``hostnames``.
        """
        try:
            key_id = str(jwt.get_unverified_header(encoded).get("kid", ""))
        except jwt.PyJWTError:
            raise Unauthenticated("malformed", "The JWT is not well-formed") from None
        service_account, public_pem = await self._directory.find_authorized_key(key_id)
        now = self._clock()
        try:
            claims = jwt.decode(encoded, public_pem, algorithms=["PS256"], issuer=service_account, options=_OPTIONS)
        except jwt.PyJWTError:
            raise Unauthenticated("wrong", "The JWT is not signed with PS256 by the account that it names") from None
        _check_times(claims, now)
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if not any(_is_ours(audience, hostnames) for audience in audiences):
            raise Unauthenticated("wrong", "The JWT's audience must be https://iam.<this server>/iam/v1/tokens")
        self._directory.used(key_id)
        return self._issue(await self._directory.owner(key_id), now)

    async def for_api_token(self, token: str) -> NewToken:
        """A token for a user's API token, which takes the place of Yandex's OAuth token. Raises Unauthenticated."""
        caller = await self._directory.authenticate_token(token)
        return self._issue(caller, self._clock())

    async def for_service_account(self, by: Caller, id: str) -> NewToken:
        """A token with which ``by`` acts as the service account ``id`` of its account. Raises NotFound.

        If ``by`` has such a token itself, the new one ends with it: else it could be renewed for ever.
        """
        found = await self._directory.service_account(id)
        if found is None or found.account != by.account:
            raise NotFound("service account", id)
        return self._issue(replace(found, credential=by.credential, until=by.until), self._clock(), found.principal)

    async def check_bearer(self, by: Caller) -> None:
        """Raises Disallowed unless ``by`` has a credential that its tokens can end with.

        A session of the console has none if a link or another service began it.
        """
        if by.credential == METADATA:
            return
        try:
            await self._directory.bearer_of_iam_token("", by.credential)
        except Unauthenticated:
            raise Disallowed("session", "", _NO_CREDENTIAL) from None

    async def for_metadata(self, id: str) -> NewToken:
        """A token of the service account ``id`` for a program of this machine. Raises NotFound."""
        found = await self._directory.service_account(id)
        if found is None:
            raise NotFound("service account", id)
        now, bearer = self._clock(), replace(found, credential=METADATA)
        return self._issue(bearer, now, found.principal, lifetime=_METADATA_LIFETIME)

    async def authenticate(self, token: str) -> Caller:
        """The token's owner, or the service account that its owner acts as. Raises Unauthenticated."""
        encoded, _, signature = token.removeprefix(_PREFIX).rpartition(".")
        if not token.startswith(_PREFIX) or not hmac.compare_digest(signature.encode(), self._sign(encoded)):
            raise Unauthenticated("unknown", "The token is invalid or was made by another server")
        id, credential, ends, *acting_as = orjson.loads(_unpadded_decode(encoded))
        if self._clock().timestamp() >= ends:
            raise Unauthenticated("expired", "The token has expired")
        if credential == METADATA:
            await self._directory.check_not_revoked(id)
        else:
            bearer = await self._directory.bearer_of_iam_token(id, credential)
            if not acting_as:
                return bearer
        found = await self._directory.service_account(acting_as[0])
        if found is None:
            raise Unauthenticated("unknown", "The service account was disabled or deleted")
        return replace(found, credential=credential, until=datetime.fromtimestamp(ends, UTC))

    async def revoke(self, token: str, context: RequestContext, outcome: Outcome) -> None:
        """Refuses ``token`` from now on. Raises Unauthenticated unless it is a valid token of this instance."""
        outcome.caller = await self.authenticate(token)
        id, _, ends, *_ = orjson.loads(_unpadded_decode(token.removeprefix(_PREFIX).rpartition(".")[0]))
        await self._directory.revoke_iam_token(id, ends, context, outcome)

    def _issue(self, caller: Caller, now: datetime, *acting_as: str, lifetime: timedelta = _LIFETIME) -> NewToken:
        """``acting_as`` is the service account's id if the credential is another principal's, or METADATA."""
        ends = (now + lifetime).replace(microsecond=0)
        if caller.until is not None:
            ends = min(ends, caller.until)
        claims = orjson.dumps([secrets.token_hex(8), caller.credential, int(ends.timestamp()), *acting_as])
        encoded = base64.urlsafe_b64encode(claims).rstrip(b"=").decode()
        return NewToken(f"{_PREFIX}{encoded}.{self._sign(encoded).decode()}", ends, caller)

    def _sign(self, encoded: str) -> bytes:
        mac = hmac.new(self._key, encoded.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(mac).rstrip(b"=")


def _check_times(claims: Mapping[str, object], now: datetime) -> None:
    issued_at, expires_at, not_before = claims["iat"], claims["exp"], claims.get("nbf", 0)
    if not (isinstance(issued_at, int) and isinstance(expires_at, int) and isinstance(not_before, int)):
        raise Unauthenticated("malformed", "The JWT's times must be whole seconds")
    seconds = int(now.timestamp())
    if expires_at + _LEEWAY <= seconds:
        raise Unauthenticated("expired", "The JWT has expired")
    if max(issued_at, not_before) - _LEEWAY > seconds:
        raise Unauthenticated("wrong", "The JWT is not valid yet")
    if expires_at - issued_at > _LONGEST_JWT.total_seconds():
        raise Unauthenticated("wrong", "The JWT's exp must be at most an hour after its iat")


def _is_ours(audience: object, hostnames: Collection[str]) -> bool:
    match = _AUDIENCE.fullmatch(audience) if isinstance(audience, str) else None
    if match is None:
        return False
    host = match[1].strip("[]").lower()
    return host == _OFFICIAL_HOST or host in hostnames


def _unpadded_decode(encoded: str) -> bytes:
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
