"""AWS Signature Version 4, from the server's side.

The signature is recomputed with botocore's own signer, so canonicalization is not written twice. That signer trusts
its input, such as a supplied X-Amz-Content-SHA256, so the input is checked here first. A name in a path can be a dot
segment. Some clients sign dot segments as they are sent, others remove them first: both signatures are accepted.
"""

from __future__ import annotations

import hmac
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol
from urllib.parse import quote, unquote

from botocore.auth import SigV4Auth
from botocore.credentials import Credentials

from thingmint.domain.errors import Unauthenticated
from thingmint.domain.names import is_region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from thingmint.access.context import Caller
    from thingmint.access.directory import Directory
    from thingmint.domain.arns import Scope


ALGORITHM = "AWS4-HMAC-SHA256"

_DOTS = frozenset({".", ".."})
_UNKNOWN_KEY = "The security token included in the request is invalid."
_PAYLOAD_HASH = b"x-amz-content-sha256"
_WRONG_PAYLOAD = "The X-Amz-Content-SHA256 header must be the SHA-256 of the body; unsigned bodies are not accepted."
_SKEW = timedelta(minutes=15)
_LONGEST_PRESIGNED = 7 * 24 * 3600  # seconds, AWS's own limit
# Added on the way by load balancers and tracing libraries, after signing.
_MAY_BE_UNSIGNED = frozenset({b"x-amzn-trace-id"})

_QUERY_PARAMETERS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
)

_ACCESS_KEY_ID = re.compile(r"[A-Za-z0-9_]{1,128}")
_TIMESTAMP = re.compile(r"\d{8}T\d{6}Z")
_SHA256 = _SIGNATURE = re.compile(r"[0-9a-f]{64}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")


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


class _Claim(NamedTuple):
    """What a request states about its signature, before verification."""

    credential: str
    timestamp: str
    signed_headers: str
    signature: str
    session_token: str | None
    lifetime: timedelta | None  # of a presigned URL
    query: str  # without the signature: the part that was signed


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
    claim: _Claim
    headers: _Headers


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
        headers = _Headers(head.headers)
        claim = _claim(headers, _ascii(head.query, "query"))
        path = _path(head.raw_path, dots=dots)
        access_key_id, date, region, service = _credential_scope(claim.credential)
        _check_signed_headers(claim, headers)
        _check_payload_hash(headers)

        caller, secret = await self._directory.find_access_key(access_key_id, claim.session_token)
        if date != claim.timestamp[:8]:
            _wrong("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.")
        if service not in services:
            _wrong(f"Credential should be scoped to correct service: '{services[0]}'.")
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
            _wrong(
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
            )
        self._directory.used(unverified.access_key_id)
        return unverified.caller, unverified.caller.scope(unverified.region)

    def _check_time(self, claim: _Claim) -> None:
        now = self._clock()
        try:
            signed_at = datetime.fromisoformat(claim.timestamp)
        except ValueError:
            raise Unauthenticated("malformed", "X-Amz-Date must be a time in the form YYYYMMDD'T'HHMMSS'Z'.") from None
        lifetime = claim.lifetime if claim.lifetime is not None else _SKEW
        allowance = "" if claim.lifetime is not None else " - 15 min."
        if signed_at - now > _SKEW:
            _wrong(f"Signature not yet current: {claim.timestamp} is still later than {_stamp(now + _SKEW)}")
        if now - signed_at > lifetime:
            _wrong(
                f"Signature expired: {claim.timestamp} is now earlier than {_stamp(now - lifetime)} "
                f"({_stamp(now)}{allowance})"
            )


class _Headers:
    """Header values by name, and the names that were sent more than once. Values are decoded when they are read."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        pairs = list(headers)
        self._values = dict(pairs)
        self.names = self._values.keys()
        self.repeated = (
            {name for name, count in Counter(name for name, _ in pairs).items() if count > 1}
            if len(self._values) != len(pairs)
            else set()
        )

    def get(self, name: bytes) -> str | None:
        value = self._values.get(name)
        return value.decode("latin-1") if value is not None else None

    def __getitem__(self, name: bytes) -> str:
        return self._values[name].decode("latin-1")


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

    def of(self, method: str, path: str, claim: _Claim, headers: _Headers, body: bytes) -> list[str]:
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


def _claim(headers: _Headers, query: str) -> _Claim:
    authorization = headers.get(b"authorization")
    presigned = "X-Amz-Signature=" in query
    if authorization is None and not presigned:
        raise Unauthenticated("missing", "Missing Authentication Token")
    if presigned:
        if authorization is not None:
            _malformed("Only one of an Authorization header and an X-Amz-Signature query parameter may be given.")
        return _claim_of_query(query)
    if b"authorization" in headers.repeated:
        _malformed("Authorization must be sent once.")
    return _claim_of_header(authorization or "", headers, query)


def _claim_of_header(authorization: str, headers: _Headers, query: str) -> _Claim:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        _malformed(f"Authorization header must begin with '{ALGORITHM}'.")
    parts = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        parts[name] = value
    for name in ("Credential", "Signature", "SignedHeaders"):
        if not parts.get(name):
            _malformed(f"Authorization header requires '{name}' parameter.")
    timestamp = headers.get(b"x-amz-date")
    if timestamp is None:
        _malformed("Authorization header requires existence of a 'X-Amz-Date' header.")
    return _checked(
        _Claim(
            credential=parts["Credential"],
            timestamp=timestamp,
            signed_headers=parts["SignedHeaders"],
            signature=parts["Signature"],
            session_token=headers.get(b"x-amz-security-token"),
            lifetime=None,
            query=query,
        )
    )


def _claim_of_query(query: str) -> _Claim:
    parameters: dict[str, str] = {}
    signed = []
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name.startswith("X-Amz-"):
            if name in parameters:
                _malformed("An X-Amz-* query parameter was given more than once.")
            parameters[name] = unquote(value)
        if name != "X-Amz-Signature":
            signed.append(pair)
    for name in _QUERY_PARAMETERS:
        if not parameters.get(name):
            _malformed(f"AWS query-string parameters must include '{name}'.")
    if parameters["X-Amz-Algorithm"] != ALGORITHM:
        _malformed(f"X-Amz-Algorithm must be '{ALGORITHM}'.")
    expires = parameters["X-Amz-Expires"]
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 6 and int(expires) <= _LONGEST_PRESIGNED):
        _malformed(f"X-Amz-Expires must be a number of seconds, at most {_LONGEST_PRESIGNED}.")
    return _checked(
        _Claim(
            credential=parameters["X-Amz-Credential"],
            timestamp=parameters["X-Amz-Date"],
            signed_headers=parameters["X-Amz-SignedHeaders"],
            signature=parameters["X-Amz-Signature"],
            session_token=parameters.get("X-Amz-Security-Token"),
            lifetime=timedelta(seconds=int(expires)),
            query="&".join(signed),
        )
    )


def _checked(claim: _Claim) -> _Claim:
    if not _TIMESTAMP.fullmatch(claim.timestamp):
        _malformed("X-Amz-Date must be in the form YYYYMMDD'T'HHMMSS'Z'.")
    if not _SIGNATURE.fullmatch(claim.signature):
        _malformed("Signature must be 64 lower-case hexadecimal digits.")
    return claim


def _credential_scope(credential: str) -> tuple[str, str, str, str]:
    parts = credential.split("/")
    if len(parts) != 5 or parts[4] != "aws4_request":
        _malformed(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/aws4_request."
        )
    if not _ACCESS_KEY_ID.fullmatch(parts[0]):
        raise Unauthenticated("unknown", _UNKNOWN_KEY)
    return parts[0], parts[1], parts[2], parts[3]


def _check_signed_headers(claim: _Claim, headers: _Headers) -> None:
    names = claim.signed_headers.split(";")
    if len(set(names)) != len(names) or not all(map(_HEADER_NAME.fullmatch, names)):
        _malformed("SignedHeaders must name each header once, in lower case.")
    if "host" not in names:
        _wrong("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    signed = [name.encode() for name in names]
    for name in signed:
        if name not in headers.names:
            _wrong("A header that SignedHeaders names was not sent.")
        if name in headers.repeated:
            _wrong("A signed header was sent more than once.")
    for name in headers.names:
        if name.startswith((b"x-amz-", b"x-amzn-")) and name not in signed and name not in _MAY_BE_UNSIGNED:
            _wrong("There were headers present in the request which were not signed: every x-amz* header must be.")


def _check_payload_hash(headers: _Headers) -> None:
    claimed = headers.get(_PAYLOAD_HASH)
    if claimed is not None and not _SHA256.fullmatch(claimed):
        _wrong(_WRONG_PAYLOAD)


def _check_payload(headers: _Headers, body: bytes) -> None:
    claimed = headers.get(_PAYLOAD_HASH)
    if claimed is not None and claimed != sha256(body).hexdigest():
        _wrong(_WRONG_PAYLOAD)


def _region_advice(account: str, region: str) -> str | None:
    if not is_region(region):
        return None
    return f"the account lacks the region {region}; to add it: thingmint access region add {region} --account {account}"


def _path(raw_path: bytes, *, dots: bool) -> str:
    path = _ascii(raw_path, "path")
    segments = path.split("/")
    # Some signers remove these segments, so a signature for one path would be valid for another.
    if segments[0] or (not dots and not _DOTS.isdisjoint(segments)) or "" in segments[1:-1]:
        _wrong("The path must begin with a slash and must not contain empty, '.' or '..' segments.")
    return path


def _ascii(raw: bytes, noun: str) -> str:
    text = raw.decode("latin-1")
    # urlsplit() drops line ends and tabs, and ends a path at # and ?.
    if not text.isascii() or not text.isprintable() or "#" in text or (noun == "path" and "?" in text):
        _wrong(f"The {noun} must be percent-encoded.")
    return text


def _stamp(time: datetime) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ")


def _malformed(message: str) -> NoReturn:
    raise Unauthenticated("malformed", message)


def _wrong(message: str) -> NoReturn:
    raise Unauthenticated("wrong", message)
