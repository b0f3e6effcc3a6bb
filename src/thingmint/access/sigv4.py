"""AWS Signature Version 4, from the server's side.

The signature is recomputed with botocore's own signer, so canonicalization is not written twice. That signer trusts
its input, such as a supplied X-Amz-Content-SHA256, so the input is checked here first. A name in a path can be a dot
segment. Some clients sign dot segments as they are sent, others remove them first: both signatures are accepted.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from botocore.auth import SigV4Auth
from botocore.credentials import Credentials

from thingmint.access.sigv4_claims import (
    Claim,
    Headers,
    ascii_text,
    check_signed_headers,
    credential_scope,
    read_claim,
    wrong,
)
from thingmint.domain.errors import Unauthenticated
from thingmint.domain.names import is_region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from thingmint.access.context import Caller
    from thingmint.access.directory import Directory
    from thingmint.domain.arns import Scope


_DOTS = frozenset({".", ".."})
_PAYLOAD_HASH = b"x-amz-content-sha256"
_WRONG_PAYLOAD = "The X-Amz-Content-SHA256 header must be the SHA-256 of the body; unsigned bodies are not accepted."
_SKEW = timedelta(minutes=15)
_SHA256 = re.compile(r"[0-9a-f]{64}")

# A credential's scope, in a header or percent-encoded in a query.
_SCOPED_SERVICE = re.compile(
    rb"Credential=[^/%&,\s]{1,128}(?:/|%2F)[0-9]{1,8}(?:/|%2F)[^/%&,\s]{1,64}(?:/|%2F)([a-z-]{1,32})(?:/|%2F)aws4_request",
    re.IGNORECASE,
)


def claimed_service(authorization: bytes, query: bytes) -> str | None:
    """The service that a request claims to be signed for, unverified; None if it is not signed in the usual form."""
    found = _SCOPED_SERVICE.search(authorization) or _SCOPED_SERVICE.search(query)
    return None if found is None else found[1].decode()


class RequestHead(Protocol):
    """A request's head as it came over the wire: path and query undecoded, header names in lower case."""

    @property
    def method(self) -> str: ...
    @property
    def raw_path(self) -> bytes: ...
    @property
    def query(self) -> bytes: ...
    @property
    def headers(self) -> Iterable[tuple[bytes, bytes]]: ...


@dataclass(slots=True)  # not frozen, which would cost a request a microsecond
class UnverifiedCaller:
    """The claimed caller of a request. Everything in the request's head was checked except the signature."""

    caller: Caller
    region: str
    service: str
    access_key_id: str
    secret: str = field(repr=False)
    method: str
    path: str
    claim: Claim
    headers: Headers


class SigV4:
    """Authenticates requests to AWS's services, in two steps: the first needs only the head, not the body.

    Every refusal is an Unauthenticated.
    """

    def __init__(self, directory: Directory, clock: Callable[[], datetime]) -> None:
        self._directory = directory
        self._clock = clock

    async def authenticate_head(
        self, head: RequestHead, services: Sequence[str] = ("iot",), *, dots: bool = False
    ) -> UnverifiedCaller:
        """Checks everything except the signature.

        ``services`` are the names that the service may be signed for. ``dots``: the path may have dot segments, which
        are names.
        """
        headers = Headers(head.headers)
        claim = read_claim(headers, ascii_text(head.query, "query"))
        path = _path(head.raw_path, dots=dots)
        access_key_id, date, region, service = credential_scope(claim.credential)
        check_signed_headers(claim, headers)
        _check_payload_hash(headers)

        caller, secret = await self._directory.find_access_key(access_key_id, claim.session_token)
        if date != claim.timestamp[:8]:
            wrong("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.")
        if service not in services:
            wrong(f"Credential should be scoped to correct service: '{services[0]}'.")
        if region not in caller.regions:
            message = "Credential should be scoped to a valid region."
            raise Unauthenticated("wrong", message, _region_advice(caller.account, region))
        self._check_time(claim)
        return UnverifiedCaller(caller, region, service, access_key_id, secret, head.method, path, claim, headers)

    def verify(self, unverified: UnverifiedCaller, body: bytes) -> tuple[Caller, Scope]:
        """The caller that signed the request with this body, and the account and region that it is for."""
        claim, headers = unverified.claim, unverified.headers
        _check_payload(headers, body)
        recomputation = _Recomputation(
            unverified.access_key_id, unverified.secret, unverified.region, unverified.service
        )
        expected = recomputation.of(unverified.method, unverified.path, claim, headers, body)
        if not any(hmac.compare_digest(each, claim.signature) for each in expected):
            wrong(
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
            )
        self._directory.used(unverified.access_key_id)
        return unverified.caller, unverified.caller.scope(unverified.region)

    def _check_time(self, claim: Claim) -> None:
        now = self._clock()
        try:
            signed_at = datetime.fromisoformat(claim.timestamp)
        except ValueError:
            raise Unauthenticated("malformed", "X-Amz-Date must be a time in the form YYYYMMDD'T'HHMMSS'Z'.") from None
        lifetime = claim.lifetime if claim.lifetime is not None else _SKEW
        allowance = "" if claim.lifetime is not None else " - 15 min."
        if signed_at - now > _SKEW:
            wrong(f"Signature not yet current: {claim.timestamp} is still later than {_stamp(now + _SKEW)}")
        if now - signed_at > lifetime:
            wrong(
                f"Signature expired: {claim.timestamp} is now earlier than {_stamp(now - lifetime)} "
                f"({_stamp(now)}{allowance})"
            )


class _SignedHeaders(dict[str, str]):
    """The part of email.message's interface that botocore's signer uses of headers."""

    def get_all(self, name: str) -> list[str]:
        return [self[name]]


@dataclass(slots=True)
class _Request:
    """The part of botocore's AWSRequest that its signer reads. ``headers`` is empty, so that the body is hashed."""

    method: str
    url: str
    body: bytes
    context: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)


class _Recomputation(SigV4Auth):
    """botocore's signer, given the signed headers instead of choosing them."""

    def __init__(self, access_key_id: str, secret: str, region: str, service: str) -> None:
        super().__init__(Credentials(access_key_id, secret), service, region)
        self._signed = _SignedHeaders()
        self._as_sent = True

    def _sign(self, key: bytes, msg: str, hex: bool = False) -> Any:
        return super()._sign(key, msg, hex) if hex else _derived_key(key, msg)  # type: ignore[misc]

    def headers_to_sign(self, request: Any) -> Any:
        return self._signed

    def _normalize_url_path(self, path: str) -> str:
        return quote(path, safe="/~") if self._as_sent else super()._normalize_url_path(path)  # type: ignore[misc]

    def of(self, method: str, path: str, claim: Claim, headers: Headers, body: bytes) -> list[str]:
        """The signatures, in hex, that are valid for the request."""
        for name in claim.signed_headers.split(";"):
            self._signed[name] = headers[name.encode()]
        # With https, botocore could leave out payload signing. The host is signed as a header.
        url = f"http://host{path}?{claim.query}"
        request: Any = _Request(method, url, body, {"timestamp": claim.timestamp})
        made = []
        for self._as_sent in (True,) if _DOTS.isdisjoint(path.split("/")) else (True, False):
            made.append(self.signature(self.string_to_sign(request, self.canonical_request(request)), request))
        return made


@lru_cache(maxsize=1024)
def _derived_key(key: bytes, message: str) -> bytes:
    """One step of the derivation from a secret to the key of a day, region and service. It changes once a day."""
    return hmac.digest(key, message.encode(), "sha256")


def _check_payload_hash(headers: Headers) -> None:
    claimed = headers.get(_PAYLOAD_HASH)
    if claimed is not None and not _SHA256.fullmatch(claimed):
        wrong(_WRONG_PAYLOAD)


def _check_payload(headers: Headers, body: bytes) -> None:
    claimed = headers.get(_PAYLOAD_HASH)
    if claimed is not None and claimed != sha256(body).hexdigest():
        wrong(_WRONG_PAYLOAD)


def _region_advice(account: str, region: str) -> str | None:
    if not is_region(region):
        return None
    return f"the account lacks the region {region}; to add it: thingmint access region add {region} --account {account}"


def _path(raw_path: bytes, *, dots: bool) -> str:
    path = ascii_text(raw_path, "path")
    segments = path.split("/")
    # Some signers remove these segments, so a signature for one path would be valid for another.
    if segments[0] or (not dots and not _DOTS.isdisjoint(segments)) or "" in segments[1:-1]:
        wrong("The path must begin with a slash and must not contain empty, '.' or '..' segments.")
    return path


def _stamp(time: datetime) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ")
