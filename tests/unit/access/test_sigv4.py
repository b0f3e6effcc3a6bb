"""Requests that botocore signs as clients do, and each way in which a request can be wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from tests.tables import each_row
from tests.unit.vectors import NOW, FakeClock
from thingmint.access.context import Caller
from thingmint.access.sigv4 import SigV4
from thingmint.domain.arns import Scope
from thingmint.domain.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable

KEY_ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
CALLER = Caller(
    "123456789012", ("us-east-1", "eu-central-1"), "aje0", "x", "arn:aws:iam::123456789012:user/x", KEY_ID, ()
)
SESSION = Credentials("ASIAIOSFODNN7EXAMPLE", SECRET, "tms_a/b+c=")
OTHER = Credentials("AKIAI44QH8DHBEXAMPLE", "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY")
URL = "https://localhost:8443/keys-and-certificate?setAsActive=true"
ARN_URL = "https://localhost:8443/attached-policies/arn%3Aaws%3Aiot%3Aus-east-1%3A123456789012%3Acert%2F" + "a" * 64


class Keys:
    """A directory with one key, which notes the key's use."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    async def find_access_key(self, access_key_id: str, session_token: str | None) -> tuple[Caller, str]:
        if (access_key_id, session_token) not in ((KEY_ID, None), (SESSION.access_key, SESSION.token)):
            raise Unauthenticated("unknown", "The security token included in the request is invalid.")
        return CALLER, SECRET

    def used(self, access_key_id: str) -> None:
        self.noted.append(access_key_id)


@dataclass
class Sent:
    """A request as it arrives."""

    method: str
    raw_path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""

    def header(self, name: str, value: str | None) -> Sent:
        """The request with that header replaced, added or, for None, left out."""
        headers = [pair for pair in self.headers if pair[0] != name.encode()]
        if value is not None:
            headers.append((name.encode(), value.encode("latin-1")))
        return replace(self, headers=headers)

    def value(self, name: str) -> str:
        return dict(self.headers)[name.encode()].decode()

    def part(self, old: str, new: str) -> Sent:
        """The request with a part of the Authorization header replaced."""
        before = self.value("authorization")
        assert old in before
        return self.header("authorization", before.replace(old, new))


class AtTime:
    """A mixin for botocore's signers, which use the current time: this one uses the test's time."""

    def __init__(self, time: datetime) -> None:
        self._time = time

    def __call__(self, remove_tzinfo: bool = True) -> datetime:
        return self._time.replace(tzinfo=None) if remove_tzinfo else self._time


def signed(
    method: str = "POST",
    url: str = URL,
    *,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    credentials: Credentials | None = None,
    region: str = "us-east-1",
    service: str = "iot",
    at: datetime = NOW,
    presigned: int | None = None,
    signer: type[Any] | None = None,
) -> Sent:
    """A request signed by botocore, in a header, or ``presigned`` for that many seconds."""
    request = AWSRequest(method, url, headers={"Host": urlsplit(url).netloc, **(headers or {})}, data=body)
    credentials = credentials or Credentials(KEY_ID, SECRET)
    chosen: Any
    if presigned is not None:
        chosen = auth.SigV4QueryAuth(credentials, service, region, expires=presigned)
    else:
        chosen = (signer or auth.SigV4Auth)(credentials, service, region)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", AtTime(at))
        chosen.add_auth(request)
    prepared = request.prepare()
    parts = urlsplit(prepared.url)
    pairs = [(name.lower().encode(), _bytes(value)) for name, value in prepared.headers.items()]
    return Sent(method, parts.path.encode(), parts.query.encode(), pairs, body)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")


async def authenticate(sent: Sent, now: datetime = NOW) -> tuple[Caller, Scope]:
    directory: Any = Keys()
    return await verified(SigV4(directory, FakeClock(now)), sent)


async def verified(sigv4: SigV4, sent: Sent, service: str = "iot") -> tuple[Caller, Scope]:
    return sigv4.verify(await sigv4.authenticate_head(sent, (service,)), sent.body)


async def refused(sent: Sent, now: datetime = NOW) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        await authenticate(sent, now)
    return caught.value


class TestUse:
    async def test_use_of_a_key_is_noted_after_verification(self) -> None:
        directory: Any = Keys()
        await verified(SigV4(directory, FakeClock(NOW)), signed())
        assert directory.noted == [KEY_ID]

    async def test_a_wrong_signature_does_not_count_as_use(self) -> None:
        directory: Any = Keys()
        wrong = signed(credentials=Credentials(KEY_ID, "another secret"))
        with pytest.raises(Unauthenticated):
            await verified(SigV4(directory, FakeClock(NOW)), wrong)
        assert directory.noted == []


class TestValidRequests:
    @pytest.mark.parametrize("presigned", [None, 60])
    async def test_a_session_needs_its_token(self, presigned: int | None) -> None:
        assert (await authenticate(signed(credentials=SESSION, presigned=presigned)))[0] is CALLER
        for token in (None, "", "tms_a/b+c", "tms_a/b+d="):
            wrong = Credentials(SESSION.access_key, SECRET, token)
            assert (await refused(signed(credentials=wrong, presigned=presigned))).flaw == "unknown"

    @each_row("presigned", [None, 60])
    @each_row(
        ("method", "url", "body"),
        [
            ("POST", URL, b""),
            ("POST", "http://127.0.0.1:8080/keys-and-certificate", b""),
            ("POST", "https://localhost/certificates", b'{"certificateSigningRequest": "x"}'),
            ("GET", "https://localhost/certificates?pageSize=2&marker=ab%2Bc%2F%3D%3D&isAscendingOrder=true", b""),
            ("GET", "https://localhost/certificates?isAscendingOrder=true&marker=ab%2Bc%2F%3D%3D&pageSize=2", b""),
            ("GET", "https://localhost/certificates?b=2&a=2&a=1&a=&flag", b""),
            ("GET", "https://localhost/a?q=%E2%82%AC%20%2A~", b""),
            ("PUT", ARN_URL, b'{"policyName": "\xe2\x82\xac"}'),
            ("GET", "https://localhost/authorizers/", b""),
            ("GET", "https://localhost/", b""),
            ("GET", "https://localhost/things/a%2Fb%20c%25~_-.d", b""),
            ("GET", "https://localhost/things/%2e%2e", b""),
            ("GET", "https://localhost/things/...", b""),
            ("DELETE", "https://localhost/certificates/" + "a" * 64, b""),
        ],
    )
    async def test_valid_signatures_are_accepted(
        self, method: str, url: str, body: bytes, presigned: int | None
    ) -> None:
        if presigned and body:
            return  # botocore would move a body's members into the query
        assert await authenticate(signed(method, url, body=body, presigned=presigned)) == (
            CALLER,
            Scope("123456789012", "us-east-1"),
        )

    @pytest.mark.parametrize("region", CALLER.regions)
    async def test_the_region_is_that_of_the_credential_scope(self, region: str) -> None:
        assert (await authenticate(signed(region=region)))[1] == Scope("123456789012", region)

    @pytest.mark.parametrize(
        "headers",
        [
            {"X-Amzn-Principal": "arn:aws:iot:us-east-1:123456789012:cert/" + "a" * 64},
            {"Content-Type": "application/json"},
            {"amz-sdk-invocation-id": "x", "amz-sdk-request": "attempt=1"},
            {"X-Amz-Content-SHA256": sha256(b"").hexdigest()},
            {"X-Amz-Meta": "  several   blanks \t and\ttabs  "},
        ],
    )
    async def test_further_signed_headers_are_accepted(self, headers: dict[str, str]) -> None:
        assert (await authenticate(signed(headers=headers)))[0] is CALLER

    @pytest.mark.parametrize("name", ["x-amzn-trace-id", "user-agent", "content-type", "x-forwarded-for", "accept"])
    async def test_headers_that_proxies_add_need_no_signature(self, name: str) -> None:
        assert (await authenticate(signed().header(name, "added")))[0] is CALLER

    async def test_the_order_of_the_query_does_not_matter(self) -> None:
        sent = signed("GET", "https://localhost/a?b=2&a=1")
        assert (await authenticate(replace(sent, query=b"a=1&b=2")))[0] is CALLER

    async def test_a_presigned_request_is_valid_until_it_expires(self) -> None:
        sent = signed(presigned=3600)
        await authenticate(sent, NOW + timedelta(seconds=3599))
        assert (await refused(sent, NOW + timedelta(seconds=3601))).flaw == "wrong"

    async def test_the_signature_of_awss_published_example(self) -> None:
        """AWS's own example (the General Reference's "Signature Version 4 signing process"), of another service."""
        signature = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        headers = {
            "host": "iam.amazonaws.com",
            "content-type": "application/x-www-form-urlencoded; charset=utf-8",
            "x-amz-date": "20150830T123600Z",
            "authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
            f"SignedHeaders=content-type;host;x-amz-date, Signature={signature}",
        }
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        sent = Sent("GET", b"/", b"Action=ListUsers&Version=2010-05-08", pairs)

        class Published:
            async def find_access_key(self, access_key_id: str, session_token: str | None) -> tuple[Caller, str]:
                assert (access_key_id, session_token) == ("AKIDEXAMPLE", None)
                return CALLER, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

            def used(self, access_key_id: str) -> None:
                assert access_key_id == "AKIDEXAMPLE"

        directory: Any = Published()
        clock = FakeClock(datetime(2015, 8, 30, 12, 36, tzinfo=UTC))
        assert (await verified(SigV4(directory, clock), sent, "iam"))[0] is CALLER
        with pytest.raises(Unauthenticated):
            await verified(SigV4(directory, clock), sent.part(signature, "0" * 64), "iam")
        with pytest.raises(Unauthenticated, match="correct service: 'iotdata'"):
            await verified(SigV4(directory, clock), sent, "iotdata")


DIFFERS = "The request signature we calculated does not match the signature you provided."
UNKNOWN = "The security token included in the request is invalid."
PAYLOAD = "The X-Amz-Content-SHA256 header must be the SHA-256 of the body"
NOT_SIGNED = "There were headers present in the request which were not signed"
PATH = "The path must begin with a slash and must not contain empty, '.' or '..' segments."
SKEW = timedelta(minutes=15)


class UnsignedPayload(auth.SigV4Auth):
    """A signer with an unsigned payload, which some SDKs use over TLS."""

    def payload(self, request: Any) -> str:
        request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
        return "UNSIGNED-PAYLOAD"


def folding(method: str, url: str, folded: str) -> Sent:
    """A request that is signed without dot segments and sent with them: botocore's signer alone would accept it."""
    return replace(signed(method, url), raw_path=folded.encode())


class AsSent(auth.SigV4Auth):
    """A signer that keeps dot segments."""

    def _normalize_url_path(self, path: str) -> str:
        return quote(path, safe="/~")


@pytest.mark.parametrize("signer", [auth.SigV4Auth, AsSent])
@pytest.mark.parametrize("path", ["/policies/.", "/policies/..", "/policies/../version/1"])
async def test_dot_segments_may_be_signed_as_sent_or_removed(path: str, signer: type[Any]) -> None:
    sent = signed("GET", f"https://localhost{path}", signer=signer)
    assert sent.raw_path == path.encode()
    directory: Any = Keys()
    sigv4 = SigV4(directory, FakeClock(NOW))
    assert sigv4.verify(await sigv4.authenticate_head(sent, dots=True), sent.body)[0] is CALLER
    assert str(await refused(sent)) == PATH


@each_row(("region", "advised"), [("us-west-2", True), ("x" * 64, False), ("US", False)])
async def test_the_log_names_the_command_that_adds_a_missing_region(region: str, advised: bool) -> None:
    command = f"thingmint access region add {region} --account {CALLER.account}"
    advice = (await refused(signed(region=region))).advice
    assert advice == (f"the account lacks the region {region}; to add it: {command}" if advised else None)


class TestRefusals:
    @each_row(
        ("sent", "flaw", "message"),
        [
            (lambda: signed().header("authorization", None), "missing", "Missing Authentication Token"),
            # The caller.
            (lambda: signed(credentials=OTHER), "unknown", UNKNOWN),
            (lambda: signed(credentials=Credentials(KEY_ID, SECRET, "token")), "unknown", UNKNOWN),
            (lambda: signed(credentials=Credentials(KEY_ID, SECRET, "token"), presigned=60), "unknown", UNKNOWN),
            (lambda: signed(credentials=Credentials(KEY_ID, SECRET + "x")), "wrong", DIFFERS),
            (lambda: signed(credentials=Credentials(KEY_ID, OTHER.secret_key)), "wrong", DIFFERS),
            # The service and region.
            (lambda: signed(region="us-west-2"), "wrong", "Credential should be scoped to a valid region."),
            (lambda: signed(region=""), "wrong", "Credential should be scoped to a valid region."),
            (lambda: signed(service="iotdata"), "wrong", "Credential should be scoped to correct service: 'iot'."),
            (lambda: signed().part("us-east-1", "eu-central-1"), "wrong", DIFFERS),
            (lambda: signed().part("/20261121/", "/20261120/"), "wrong", "Date in Credential scope does not match"),
            # The time.
            (lambda: signed(at=NOW - SKEW - timedelta(seconds=1)), "wrong", "Signature expired: 20261121T114459Z"),
            (lambda: signed(at=NOW + SKEW + timedelta(seconds=1)), "wrong", "Signature not yet current: 2026"),
            (lambda: signed(at=NOW + SKEW + timedelta(seconds=1), presigned=9), "wrong", "Signature not yet current"),
            (lambda: signed(at=NOW - timedelta(seconds=61), presigned=60), "wrong", "Signature expired: 20261121T1158"),
            (lambda: signed(at=NOW - timedelta(days=365)), "wrong", "Signature expired: 20251121T120000Z"),
            (lambda: signed().header("x-amz-date", "20261121T120001Z"), "wrong", DIFFERS),
            # The signed content.
            (lambda: replace(signed(), method="DELETE"), "wrong", DIFFERS),
            (lambda: replace(signed(), raw_path=b"/certificates"), "wrong", DIFFERS),
            (lambda: replace(signed(), query=b"setAsActive=false"), "wrong", DIFFERS),
            (lambda: replace(signed(), query=b""), "wrong", DIFFERS),
            (lambda: replace(signed(body=b"{}"), body=b"{ }"), "wrong", DIFFERS),
            (lambda: replace(signed(), body=b"{}"), "wrong", DIFFERS),
            (lambda: replace(signed(body=b"{}"), body=b""), "wrong", DIFFERS),
            (lambda: signed().header("host", "127.0.0.1:8443"), "wrong", DIFFERS),
            (lambda: replace(signed(presigned=60), method="DELETE"), "wrong", DIFFERS),
            (lambda: replace(signed(presigned=60), raw_path=b"/certificates"), "wrong", DIFFERS),
            (lambda: replace(signed(presigned=60), body=b"{}"), "wrong", DIFFERS),
            (lambda: in_query(b"setAsActive=true", b"setAsActive=false"), "wrong", DIFFERS),
            (lambda: in_query(b"setAsActive=true&", b""), "wrong", DIFFERS),
            (lambda: in_query(b"X-Amz-Expires=60", b"X-Amz-Expires=61"), "wrong", DIFFERS),
            (
                lambda: signed("PUT", ARN_URL, body=b"{}").header("x-amz-date", None),
                "malformed",
                "Authorization header",
            ),
            (lambda: replace(signed(url=ARN_URL), raw_path=unescaped(ARN_URL)), "wrong", DIFFERS),
            # The hash of the body.
            (lambda: signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}), "wrong", PAYLOAD),
            (lambda: signed(body=b"{}", signer=UnsignedPayload), "wrong", PAYLOAD),
            (lambda: streaming("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), "wrong", PAYLOAD),
            (lambda: streaming("STREAMING-UNSIGNED-PAYLOAD-TRAILER"), "wrong", PAYLOAD),
            (lambda: streaming(sha256(b"other").hexdigest()), "wrong", PAYLOAD),
            (lambda: streaming(sha256(b"").hexdigest().upper()), "wrong", PAYLOAD),
            (lambda: streaming(""), "wrong", PAYLOAD),
            # The signed headers.
            (lambda: signed().header("x-amzn-principal", "arn:aws:iot"), "wrong", NOT_SIGNED),
            (lambda: signed(presigned=60).header("x-amzn-principal", "arn:aws:iot"), "wrong", NOT_SIGNED),
            (lambda: signed().header("x-amz-security-token", "x"), "wrong", NOT_SIGNED),
            (lambda: signed().header("x-amz-tagging", "a=b"), "wrong", NOT_SIGNED),
            (lambda: signed().header("x-amzn-iot-policy", "p"), "wrong", NOT_SIGNED),
            (lambda: signed(headers={"X-Amzn-Principal": "a"}).header("x-amzn-principal", "b"), "wrong", DIFFERS),
            (lambda: twice("host", "localhost:8443"), "wrong", "A signed header was sent more than once."),
            (lambda: twice("x-amz-date", "20261121T120000Z"), "wrong", "A signed header was sent more than once."),
            (
                lambda: signed().part("SignedHeaders=host;", "SignedHeaders="),
                "wrong",
                "'Host' must be a 'SignedHeader'",
            ),
            (lambda: signed().part("host;x-amz-date", "host"), "wrong", NOT_SIGNED),
            (
                lambda: signed().part("host;", "accept;host;"),
                "wrong",
                "A header that SignedHeaders names was not sent.",
            ),
            (lambda: signed().header("host", None), "wrong", "A header that SignedHeaders names was not sent."),
            (lambda: signed().part("host;", "host;host;"), "malformed", "SignedHeaders must name each header once"),
            (lambda: signed().part("host;", "Host;"), "malformed", "SignedHeaders must name each header once"),
            (lambda: signed().part("host;", "host;;"), "malformed", "SignedHeaders must name each header once"),
            # The path.
            (lambda: folding("GET", "https://localhost/things/b", "/things/a/../b"), "wrong", PATH),
            (lambda: folding("GET", "https://localhost/things/b", "/things/./b"), "wrong", PATH),
            (lambda: folding("GET", "https://localhost/things/b", "/things//b"), "wrong", PATH),
            (lambda: folding("GET", "https://localhost/things/b", "//things/b"), "wrong", PATH),
            (lambda: folding("GET", "https://localhost/things/", "/things//"), "wrong", PATH),
            (lambda: folding("GET", "https://localhost/things/", "/things/."), "wrong", PATH),
            (lambda: folding("GET", "https://localhost/", "/.."), "wrong", PATH),
            (lambda: folding("GET", "https://localhost/a", "/a#b"), "wrong", "The path must be percent-encoded."),
            (lambda: folding("GET", "https://localhost/a", "/a?b"), "wrong", "The path must be percent-encoded."),
            (lambda: folding("GET", "https://localhost/ab", "/a\tb"), "wrong", "The path must be percent-encoded."),
            (lambda: folding("GET", "https://localhost/a", "/a\u00e9"), "wrong", "The path must be percent-encoded."),
            (lambda: replace(signed(), query=b"a=\xff"), "wrong", "The query must be percent-encoded."),
            (lambda: replace(signed(), query=b"setAsActive=true#"), "wrong", "The query must be percent-encoded."),
        ],
    )
    async def test_wrong_requests_are_refused(self, sent: Callable[[], Sent], flaw: str, message: str) -> None:
        refusal = await refused(sent())
        assert refusal.flaw == flaw
        assert refusal.message.startswith(message)
        assert SECRET not in refusal.message

    @pytest.mark.parametrize("beyond", [timedelta(0), timedelta(microseconds=1)])
    @pytest.mark.parametrize("direction", [1, -1])
    async def test_the_allowed_clock_skew_is_15_minutes_to_the_microsecond(
        self, beyond: timedelta, direction: int
    ) -> None:
        signed_at = NOW.replace(microsecond=0)
        now = signed_at + direction * (SKEW + beyond)
        if beyond:
            assert (await refused(signed(at=signed_at), now)).flaw == "wrong"
        else:
            await authenticate(signed(at=signed_at), now)

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256", "Authorization header must begin with 'AWS4-HMAC-SHA256'."),
            ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1", "Authorization header must begin with 'AWS4-HMAC-SHA256'."),
            ("AWS4-HMAC-SHA256", "Bearer", "Authorization header must begin with 'AWS4-HMAC-SHA256'."),
            ("Credential=", "credential=", "Authorization header requires 'Credential' parameter."),
            ("Signature=", "Signatur=", "Authorization header requires 'Signature' parameter."),
            ("SignedHeaders=host;x-amz-date", "SignedHeaders=", "Authorization header requires 'SignedHeaders'"),
            ("/aws4_request", "", "Credential must have exactly 5 slash-delimited elements"),
            ("/aws4_request", "/aws4", "Credential must have exactly 5 slash-delimited elements"),
            ("/iot/", "/iot/iot/", "Credential must have exactly 5 slash-delimited elements"),
            ("Signature=", "Signature=0", "Signature must be 64 lower-case hexadecimal digits."),
            ("Signature=", "Signature= ", "Signature must be 64 lower-case hexadecimal digits."),
            (",", ";", "Authorization header requires 'Signature' parameter."),
        ],
    )
    async def test_malformed_authorization_headers_are_refused(self, old: str, new: str, message: str) -> None:
        refusal = await refused(signed().part(old, new))
        assert refusal.flaw == "malformed"
        assert refusal.message.startswith(message)

    @pytest.mark.parametrize(
        "timestamp",
        [
            "",
            "20261121",
            "20261121T120000",
            "2026-11-21T12:00:00Z",
            "20261321T120000Z",
            "20261121T120061Z",
            "x",
            "0" * 16,
        ],
    )
    async def test_malformed_dates_are_refused(self, timestamp: str) -> None:
        sent = signed().header("x-amz-date", timestamp)
        assert (await refused(sent.part("/20261121/", f"/{timestamp[:8]}/"))).flaw == "malformed"

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (b"X-Amz-Algorithm=AWS4-HMAC-SHA256", b"", "AWS query-string parameters must include 'X-Amz-Algorithm'."),
            (b"X-Amz-Algorithm=AWS4-HMAC-SHA256", b"X-Amz-Algorithm=x", "X-Amz-Algorithm must be 'AWS4-HMAC-SHA256'."),
            (b"X-Amz-Credential", b"Y-Amz-Credential", "AWS query-string parameters must include 'X-Amz-Credential'."),
            (b"X-Amz-Date=20261121T120000Z", b"X-Amz-Date=", "AWS query-string parameters must include 'X-Amz-Date'."),
            (b"X-Amz-Date=2026", b"X-Amz-Date=%32%30-6", "X-Amz-Date must be in the form"),
            (b"X-Amz-Expires=60", b"X-Amz-Expires=", "AWS query-string parameters must include 'X-Amz-Expires'."),
            (b"X-Amz-Expires=60", b"X-Amz-Expires=-1", "X-Amz-Expires must be a number of seconds"),
            (
                b"X-Amz-Expires=60",
                b"X-Amz-Expires=604801",
                "X-Amz-Expires must be a number of seconds, at most 604800.",
            ),
            (b"X-Amz-Expires=60", b"X-Amz-Expires=" + b"9" * 5000, "X-Amz-Expires must be a number of seconds"),
            (b"X-Amz-Expires=60", b"X-Amz-Expires=%D9%A1", "X-Amz-Expires must be a number of seconds"),
            (b"X-Amz-Expires=60", b"X-Amz-Expires=60&X-Amz-Expires=60", "An X-Amz-* query parameter was given more"),
            (b"X-Amz-SignedHeaders=host", b"X-Amz-SignedHeaders=", "AWS query-string parameters must include"),
            (b"X-Amz-Signature=", b"X-Amz-Signature=0", "Signature must be 64 lower-case hexadecimal digits."),
            (b"X-Amz-Signature=", b"X-Amz-Signature=&X-Amz-Signature=", "An X-Amz-* query parameter was given more"),
        ],
    )
    async def test_malformed_presigned_queries_are_refused(self, old: bytes, new: bytes, message: str) -> None:
        refusal = await refused(in_query(old, new))
        assert refusal.flaw == "malformed"
        assert refusal.message.startswith(message)

    async def test_a_parameter_whose_name_ends_like_the_signatures_is_not_one(self) -> None:
        assert (await refused(in_query(b"X-Amz-Signature=", b"not-X-Amz-Signature="))).flaw == "malformed"

    async def test_a_header_and_a_query_signature_together_are_refused(self) -> None:
        sent = signed(presigned=60)
        refusal = await refused(sent.header("authorization", signed().value("authorization")))
        assert refusal.flaw == "malformed"
        assert refusal.message.startswith("Only one of an Authorization header and an X-Amz-Signature")

    async def test_two_authorization_headers_are_refused(self) -> None:
        sent = signed()
        sent.headers.append((b"authorization", sent.value("authorization").encode()))
        refusal = await refused(sent)
        assert (refusal.flaw, refusal.message) == ("malformed", "Authorization must be sent once.")

    async def test_a_signature_is_valid_for_one_request_only(self) -> None:
        assert signed().value("authorization") != signed(url=URL + "&a").value("authorization")
        stolen = signed().value("authorization")
        assert (await refused(signed(url=URL + "&a").header("authorization", stolen))).message.startswith(DIFFERS)


def in_query(old: bytes, new: bytes) -> Sent:
    """A presigned request whose query was changed afterwards."""
    sent = signed(presigned=60)
    assert old in sent.query
    return replace(sent, query=sent.query.replace(old, new, 1))


def streaming(content_sha256: str) -> Sent:
    """A request that claims another hash of its body, and is signed with that claim."""
    return signed(headers={"X-Amz-Content-SHA256": content_sha256})


def twice(name: str, value: str) -> Sent:
    sent = signed()
    assert sent.value(name) == value
    return replace(sent, headers=[*sent.headers, (name.encode(), value.encode())])


def unescaped(url: str) -> bytes:
    """A path as a proxy might rewrite it."""
    return urlsplit(url).path.replace("%3A", ":").encode()


HEADER_BYTES = st.binary(max_size=200).map(lambda value: bytes(byte for byte in value if byte not in b"\r\n\0"))
WORDS = st.sampled_from(
    [
        "AWS4-HMAC-SHA256",
        " ",
        ",",
        "=",
        ";",
        "/",
        "&",
        "Credential=",
        f"{KEY_ID}/20261121/us-east-1/iot/aws4_request",
        "SignedHeaders=",
        "host;x-amz-date",
        "Signature=",
        "0" * 64,
        "X-Amz-Signature=",
        "X-Amz-Credential=",
        "X-Amz-Algorithm=",
        "X-Amz-Date=",
        "20261121T120000Z",
        "X-Amz-Expires=",
        "60",
        "X-Amz-SignedHeaders=",
        "%",
        "%ff",
        "\u00e9",
    ]
)
SENTENCES = st.lists(WORDS, max_size=20).map(lambda words: "".join(words).encode("latin-1"))


class TestNothingButUnauthenticated:
    @given(st.one_of(HEADER_BYTES, SENTENCES, SENTENCES.map(lambda sentence: b"AWS4-HMAC-SHA256 " + sentence)))
    async def test_any_authorization_header(self, value: bytes) -> None:
        await refused(signed().header("authorization", value.decode("latin-1")))

    @given(st.one_of(HEADER_BYTES, SENTENCES))
    async def test_any_query(self, query: bytes) -> None:
        await refused(replace(signed("GET", "https://localhost/a"), query=query + b"&"))
        await refused(replace(signed(presigned=60), query=b"X-Amz-Signature=&" + query))

    @given(HEADER_BYTES, st.lists(st.tuples(st.sampled_from([b"host", b"x-amz-date", b"x-amz-x"]), HEADER_BYTES)))
    async def test_any_path_and_headers(self, path: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        sent = signed()
        await refused(replace(sent, raw_path=b"/" + path, headers=[*sent.headers, *headers]))
