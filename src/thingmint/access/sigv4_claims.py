"""What the head of a request claims about its AWS signature, in a header or in the query, and the faults in that."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, NoReturn
from urllib.parse import unquote

from thingmint.domain.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Iterable


ALGORITHM = "AWS4-HMAC-SHA256"

_UNKNOWN_KEY = "The security token included in the request is invalid."
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
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")


class Claim(NamedTuple):
    """What a request states about its signature, before verification."""

    credential: str
    timestamp: str
    signed_headers: str
    signature: str
    session_token: str | None
    lifetime: timedelta | None  # of a presigned URL
    query: str  # without the signature: the part that was signed


class Headers:
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


def read_claim(headers: Headers, query: str) -> Claim:
    """Return the claim of a request. Raises Unauthenticated."""
    authorization = headers.get(b"authorization")
    presigned = "X-Amz-Signature=" in query
    if authorization is None and not presigned:
        raise Unauthenticated("missing", "Missing Authentication Token")
    if presigned:
        if authorization is not None:
            malformed("Only one of an Authorization header and an X-Amz-Signature query parameter may be given.")
        return _claim_of_query(query)
    if b"authorization" in headers.repeated:
        malformed("Authorization must be sent once.")
    return _claim_of_header(authorization or "", headers, query)


def _claim_of_header(authorization: str, headers: Headers, query: str) -> Claim:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        malformed(f"Authorization header must begin with '{ALGORITHM}'.")
    parts = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        parts[name] = value
    for name in ("Credential", "Signature", "SignedHeaders"):
        if not parts.get(name):
            malformed(f"Authorization header requires '{name}' parameter.")
    timestamp = headers.get(b"x-amz-date")
    if timestamp is None:
        malformed("Authorization header requires existence of a 'X-Amz-Date' header.")
    return _checked(
        Claim(
            credential=parts["Credential"],
            timestamp=timestamp,
            signed_headers=parts["SignedHeaders"],
            signature=parts["Signature"],
            session_token=headers.get(b"x-amz-security-token"),
            lifetime=None,
            query=query,
        )
    )


def _claim_of_query(query: str) -> Claim:
    parameters: dict[str, str] = {}
    signed = []
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name.startswith("X-Amz-"):
            if name in parameters:
                malformed("An X-Amz-* query parameter was given more than once.")
            parameters[name] = unquote(value)
        if name != "X-Amz-Signature":
            signed.append(pair)
    for name in _QUERY_PARAMETERS:
        if not parameters.get(name):
            malformed(f"AWS query-string parameters must include '{name}'.")
    if parameters["X-Amz-Algorithm"] != ALGORITHM:
        malformed(f"X-Amz-Algorithm must be '{ALGORITHM}'.")
    expires = parameters["X-Amz-Expires"]
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 6 and int(expires) <= _LONGEST_PRESIGNED):
        malformed(f"X-Amz-Expires must be a number of seconds, at most {_LONGEST_PRESIGNED}.")
    return _checked(
        Claim(
            credential=parameters["X-Amz-Credential"],
            timestamp=parameters["X-Amz-Date"],
            signed_headers=parameters["X-Amz-SignedHeaders"],
            signature=parameters["X-Amz-Signature"],
            session_token=parameters.get("X-Amz-Security-Token"),
            lifetime=timedelta(seconds=int(expires)),
            query="&".join(signed),
        )
    )


def _checked(claim: Claim) -> Claim:
    if not _TIMESTAMP.fullmatch(claim.timestamp):
        malformed("X-Amz-Date must be in the form YYYYMMDD'T'HHMMSS'Z'.")
    if not _SIGNATURE.fullmatch(claim.signature):
        malformed("Signature must be 64 lower-case hexadecimal digits.")
    return claim


def credential_scope(credential: str) -> tuple[str, str, str, str]:
    parts = credential.split("/")
    if len(parts) != 5 or parts[4] != "aws4_request":
        malformed(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/aws4_request."
        )
    if not _ACCESS_KEY_ID.fullmatch(parts[0]):
        raise Unauthenticated("unknown", _UNKNOWN_KEY)
    return parts[0], parts[1], parts[2], parts[3]


def check_signed_headers(claim: Claim, headers: Headers) -> None:
    names = claim.signed_headers.split(";")
    if len(set(names)) != len(names) or not all(map(_HEADER_NAME.fullmatch, names)):
        malformed("SignedHeaders must name each header once, in lower case.")
    if "host" not in names:
        wrong("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    signed = [name.encode() for name in names]
    for name in signed:
        if name not in headers.names:
            wrong("A header that SignedHeaders names was not sent.")
        if name in headers.repeated:
            wrong("A signed header was sent more than once.")
    for name in headers.names:
        if name.startswith((b"x-amz-", b"x-amzn-")) and name not in signed and name not in _MAY_BE_UNSIGNED:
            wrong("There were headers present in the request which were not signed: every x-amz* header must be.")


def ascii_text(raw: bytes, noun: str) -> str:
    text = raw.decode("latin-1")
    # urlsplit() drops line ends and tabs, and ends a path at # and ?.
    if not text.isascii() or not text.isprintable() or "#" in text or (noun == "path" and "?" in text):
        wrong(f"The {noun} must be percent-encoded.")
    return text


def malformed(message: str) -> NoReturn:
    raise Unauthenticated("malformed", message)


def wrong(message: str) -> NoReturn:
    raise Unauthenticated("wrong", message)
