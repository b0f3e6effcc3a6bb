"""Signature Version 4 over the network: wrong signatures are refused, change nothing and reveal nothing."""

from __future__ import annotations

import dataclasses
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import registered
from tests.e2e.wire import Answer, answers, exchange, one_request

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tests.e2e.signing import Signer
    from thingmint.testing import RunningServer

_MINT = "/keys-and-certificate"
_BODY = b'{"certificateSigningRequest": "x"}'
_ID = "a" * 64

_UNKNOWN = "The security token included in the request is invalid."
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)


def refused(answer: Answer, signer: Signer, code: str, message: str) -> None:
    """Checks that the answer is a 403 in AWS's form with that message, and does not help to forge a signature."""
    assert (answer.status, answer.aws_code) == (403, code), answer.body
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert set(document) == {"message"}
    assert document["message"].startswith(message), document
    # AWS's own answer quotes the canonical request, which contains the caller's input.
    assert signer.secret.encode() not in answer.body
    assert signer.access_key_id.encode() not in answer.body
    assert _ID.encode() not in answer.body
    assert b"Canonical" not in answer.body


# -- the header form ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"secret": "A" * 40}, "InvalidSignatureException", _MISMATCH),
        ({"access_key_id": "AKIAAAAAAAAAAAAAAAAA"}, "UnrecognizedClientException", _UNKNOWN),
        ({"access_key_id": "' OR 1=1 --"}, "UnrecognizedClientException", _UNKNOWN),
        ({"session_token": "FwoGZXIvYXdzEAAa"}, "UnrecognizedClientException", _UNKNOWN),
        ({"region": "eu-west-1"}, "InvalidSignatureException", "Credential should be scoped to a valid region."),
        (
            {"service": "s3"},
            "InvalidSignatureException",
            "Credential should be scoped to correct service: 'iot'.",
        ),
    ],
)
@pytest.mark.parametrize("presigned", [False, True])
def test_wrong_signers_are_refused(
    signer: Signer,
    unchanged: Callable[[], None],
    change: dict[str, str],
    code: str,
    message: str,
    presigned: bool,
) -> None:
    wrong = dataclasses.replace(signer, **change)  # type: ignore[arg-type]  # all of these are strings
    target, headers = (wrong.presigned("POST", _MINT), {}) if presigned else (_MINT, wrong.headers("POST", _MINT))
    answer = exchange(signer.server, "POST", target, headers)
    refused(answer, signer, code, message)


@pytest.mark.parametrize("minutes", [-16, -60, -60 * 24, 16, 60])
def test_old_and_early_signatures_are_refused(signer: Signer, unchanged: Callable[[], None], minutes: int) -> None:
    at = datetime.now(UTC) + timedelta(minutes=minutes)
    headers = signer.headers("POST", _MINT, at=at)
    for _ in range(2):  # a replay is refused too
        answer = exchange(signer.server, "POST", _MINT, headers)
        signed = f"{at:%Y%m%dT%H%M%SZ}"
        expected = f"Signature expired: {signed} is now earlier than " if minutes < 0 else "Signature not yet current: "
        refused(answer, signer, "InvalidSignatureException", expected)
        assert ("- 15 min.)" in answer.json()["message"]) == (minutes < 0)


@pytest.mark.parametrize("minutes", [-14, 14])
def test_clocks_may_differ_by_less_than_15_minutes(signer: Signer, minutes: int) -> None:
    assert signer.send("GET", "/endpoint", at=datetime.now(UTC) + timedelta(minutes=minutes)).status == 200


def test_the_date_of_the_scope_must_be_that_of_the_signature(signer: Signer, unchanged: Callable[[], None]) -> None:
    headers = signer.headers("POST", _MINT)
    headers["X-Amz-Date"] = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y%m%dT%H%M%SZ")
    answer = exchange(signer.server, "POST", _MINT, headers)
    refused(answer, signer, "InvalidSignatureException", "Date in Credential scope does not match")


Alteration = tuple[str, str, dict[str, str], bytes]


@pytest.mark.parametrize(
    "alter",
    [
        lambda m, t, h, b: (m, t, h, b.replace(b"x", b"y")),
        lambda m, t, h, b: (m, t, h, b + b" "),
        lambda m, t, h, b: (m, t, h, b""),
        lambda m, t, h, b: ("PUT", t, h, b),
        lambda m, t, h, b: (m, t + "?setAsActive=true", h, b),
        lambda m, t, h, b: (m, "/certificate/register-no-ca", h, b),
        lambda m, t, h, b: (m, t, h | {"x-amzn-tag": "other"}, b),
        lambda m, t, h, b: (m, t, h | {"host": "iot.us-east-1.amazonaws.com"}, b),
    ],
    ids=["body", "body grown", "no body", "method", "query", "path", "header", "host"],
)
def test_requests_altered_after_signing_are_refused(
    signer: Signer, unchanged: Callable[[], None], alter: Callable[[str, str, dict[str, str], bytes], Alteration]
) -> None:
    headers = signer.headers("POST", "/certificates", {"x-amzn-tag": "one"}, _BODY)
    whole = exchange(signer.server, "POST", "/certificates", headers, _BODY)
    assert whole.aws_code == "InvalidRequestException", "unaltered, only the CSR is wrong"
    answer = exchange(signer.server, *alter("POST", "/certificates", headers, _BODY))
    refused(answer, signer, "InvalidSignatureException", _MISMATCH)


@pytest.mark.parametrize(
    "name", ["x-amzn-principal", "x-amzn-iot-principal", "x-amz-tagging", "X-AMZN-Principal", "x-amz-content-sha256"]
)
def test_unsigned_amz_headers_are_refused(signer: Signer, unchanged: Callable[[], None], name: str) -> None:
    target = "/things/thermometer/principals"
    headers = signer.headers("PUT", target) | {name: "arn:aws:iot:us-east-1:123456789012:cert/" + _ID}
    answer = exchange(signer.server, "PUT", target, headers)
    refused(answer, signer, "InvalidSignatureException", "There were headers present in the request which were not ")


def test_other_headers_need_no_signature(signer: Signer) -> None:
    added = {"x-amzn-trace-id": "Root=1-2", "accept": "*/*", "user-agent": "thing", "connection": "keep-alive"}
    assert exchange(signer.server, "GET", "/endpoint", signer.headers("GET", "/endpoint") | added).status == 200


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}, "The X-Amz-Content-SHA256 header must be"),
        ({"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, "The X-Amz-Content-SHA256 header must be"),
        ({"x-amz-content-sha256": "e3b0c44298fc1c149afbf4c8996fb924"}, "The X-Amz-Content-SHA256 header must be"),
    ],
)
def test_unsigned_bodies_are_refused(
    signer: Signer, unchanged: Callable[[], None], headers: dict[str, str], message: str
) -> None:
    signed = signer.headers("POST", "/certificates", headers, _BODY)
    answer = exchange(signer.server, "POST", "/certificates", signed, b'{"certificateSigningRequest": "swapped"}')
    refused(answer, signer, "InvalidSignatureException", message)


@pytest.mark.parametrize(
    "target",
    [
        "/certificates/../keys-and-certificate",
        "/./keys-and-certificate",
        "//keys-and-certificate",
        "/certificates//keys-and-certificate",
        "/certificates/..",
    ],
)
def test_paths_that_botocores_signer_would_change_are_refused(
    signer: Signer, unchanged: Callable[[], None], target: str
) -> None:
    # botocore's signer removes these segments, so the signature is valid for a path that was not sent.
    answer = exchange(signer.server, "POST", target, signer.headers("POST", _MINT))
    refused(answer, signer, "InvalidSignatureException", "The path must ")


def test_signed_headers_sent_twice_are_refused(signer: Signer, unchanged: Callable[[], None]) -> None:
    headers = signer.headers("POST", _MINT, {"x-amzn-tag": "one"})
    raw = one_request("POST", _MINT, headers).replace(b"x-amzn-tag: one\r\n", b"x-amzn-tag: one\r\nx-amzn-tag: two\r\n")
    assert raw.count(b"x-amzn-tag: ") == 2
    (answer,) = answers(signer.server, raw)
    refused(answer, signer, "InvalidSignatureException", "A signed header was sent more than once.")


@pytest.mark.parametrize(
    ("authorization", "code", "message"),
    [
        ("AWS4-HMAC-SHA256", "IncompleteSignatureException", "Authorization header requires 'Credential' parameter."),
        ("AWS4-ECDSA-P256-SHA256 Credential=x", "IncompleteSignatureException", "Authorization header must begin"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request", "IncompleteSignatureException", "Authorization header "),
        (
            f"AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature={'0' * 64}",
            "IncompleteSignatureException",
            "Authorization header requires existence of a 'X-Amz-Date' header.",
        ),
    ],
)
def test_malformed_authorization_headers_are_refused(
    signer: Signer, unchanged: Callable[[], None], authorization: str, code: str, message: str
) -> None:
    answer = exchange(signer.server, "POST", _MINT, {"authorization": authorization})
    refused(answer, signer, code, message)


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("/aws4_request", "", "IncompleteSignatureException", "Credential must have exactly 5 slash-delimited"),
        ("SignedHeaders=host;x-amz-date", "SignedHeaders=x-amz-date", "InvalidSignatureException", "'Host' must be a "),
        ("SignedHeaders=host;x-amz-date", "SignedHeaders=host", "InvalidSignatureException", "There were headers "),
        (";x-amz-date", ";x-amz-date;x-gone", "InvalidSignatureException", "A header that SignedHeaders names was"),
        ("SignedHeaders=host;", "SignedHeaders=Host;", "IncompleteSignatureException", "SignedHeaders must name each"),
        ("Signature=", "Signature=0", "IncompleteSignatureException", "Signature must be 64 lower-case hexadecimal"),
    ],
)
def test_altered_authorization_headers_are_refused(
    signer: Signer, unchanged: Callable[[], None], old: str, new: str, code: str, message: str
) -> None:
    headers = signer.headers("POST", _MINT)
    assert old in headers["Authorization"]
    headers["Authorization"] = headers["Authorization"].replace(old, new)
    refused(exchange(signer.server, "POST", _MINT, headers), signer, code, message)


# -- no signature at all ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/certificates"),
        ("POST", "/certificates"),
        ("GET", f"/certificates/{_ID}"),
        ("GET", "/certificates/%00"),
        ("PUT", f"/certificates/{_ID}?newStatus=ACTIVE"),
        ("DELETE", f"/certificates/{_ID}"),
        ("POST", "/certificate/register-no-ca"),
        ("GET", "/endpoint"),
        ("GET", "/things"),
    ],
)
def test_unsigned_requests_to_awss_paths_are_refused(
    signer: Signer, unchanged: Callable[[], None], method: str, target: str
) -> None:
    answer = exchange(signer.server, method, target, {"host": f"localhost:{signer.server.ports['http']}"})
    refused(answer, signer, "MissingAuthenticationTokenException", "Missing Authentication Token")


@pytest.mark.parametrize("tls", [False, True])
def test_answers_to_unsigned_requests_do_not_reveal_which_certificates_exist(
    signer: Signer, iot: Any, tls: bool
) -> None:
    known = iot.create_keys_and_certificate()["certificateId"]
    texts = [exchange(signer.server, "GET", f"/certificates/{cert_id}", tls=tls).body for cert_id in (known, _ID)]
    assert texts[0] == texts[1]


# -- presigned URLs -----------------------------------------------------------------------------------------------


def test_presigned_urls_work_with_plain_clients(iot: Any, server: RunningServer, signer: Signer) -> None:
    before = len(registered(iot))
    with urllib.request.urlopen(server.http_url + signer.presigned("GET", "/endpoint"), timeout=20) as answer:
        assert b"localhost" in answer.read()
    made = exchange(server, "POST", signer.presigned("POST", f"{_MINT}?setAsActive=true"))
    assert made.status == 200
    assert registered(iot)[0] == (made.json()["certificateId"], "ACTIVE")
    assert len(registered(iot)) == before + 1


def test_boto3s_own_presigned_url_works(iot: Any, server: RunningServer) -> None:
    url = iot.generate_presigned_url("describe_endpoint", ExpiresIn=60, HttpMethod="GET")
    assert exchange(server, "GET", url.removeprefix(server.api_url), _api_host(server), tls=True).status == 200


def _api_host(server: RunningServer) -> dict[str, str]:
    return {"host": f"localhost:{server.ports['api']}"}


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("setAsActive=false", "setAsActive=true", "InvalidSignatureException", _MISMATCH),
        ("/keys-and-certificate?", "/endpoint?", "InvalidSignatureException", _MISMATCH),
        ("X-Amz-Expires=300", "X-Amz-Expires=3000", "InvalidSignatureException", _MISMATCH),
        ("X-Amz-Expires=300", "X-Amz-Expires=700000", "IncompleteSignatureException", "X-Amz-Expires must be a number"),
        ("X-Amz-Expires=300", "X-Amz-Expires=-1", "IncompleteSignatureException", "X-Amz-Expires must be a number"),
        ("X-Amz-Expires=300", "X-Amz-Expired=1", "IncompleteSignatureException", "AWS query-string parameters must"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=", "IncompleteSignatureException", "AWS query-string "),
        ("HMAC-SHA256", "HMAC-SHA1", "IncompleteSignatureException", "X-Amz-Algorithm must be 'AWS4-HMAC-SHA256'."),
        ("X-Amz-Date=", "X-Amz-Date=2026&X-Amz-Date=", "IncompleteSignatureException", "An X-Amz-* query parameter "),
        ("&X-Amz-Signature=", "&extra=1&X-Amz-Signature=", "InvalidSignatureException", _MISMATCH),
    ],
)
def test_altered_presigned_urls_are_refused(
    signer: Signer, unchanged: Callable[[], None], old: str, new: str, code: str, message: str
) -> None:
    target = signer.presigned("POST", f"{_MINT}?setAsActive=false")
    assert old in target
    refused(exchange(signer.server, "POST", target.replace(old, new)), signer, code, message)


@pytest.mark.parametrize(
    ("age", "expires", "message"),
    [
        (timedelta(seconds=90), 60, "Signature expired"),
        (timedelta(days=8), 604800, "Signature expired"),
        (-timedelta(minutes=16), 300, "Signature not yet current"),
    ],
)
def test_presigned_urls_are_refused_before_and_after_their_time(
    signer: Signer, unchanged: Callable[[], None], age: timedelta, expires: int, message: str
) -> None:
    target = signer.presigned("POST", _MINT, expires=expires, at=datetime.now(UTC) - age)
    refused(exchange(signer.server, "POST", target), signer, "InvalidSignatureException", message)


def test_a_presigned_url_is_valid_until_it_expires(signer: Signer) -> None:
    target = signer.presigned("GET", "/endpoint", expires=3600, at=datetime.now(UTC) - timedelta(minutes=50))
    assert exchange(signer.server, "GET", target).status == 200


def test_a_presigned_url_with_another_body_is_refused(signer: Signer, unchanged: Callable[[], None]) -> None:
    target = signer.presigned("POST", "/certificates")
    assert exchange(signer.server, "POST", target).aws_code == "InvalidRequestException"
    refused(exchange(signer.server, "POST", target, body=_BODY), signer, "InvalidSignatureException", _MISMATCH)


def test_header_and_query_form_exclude_each_other(signer: Signer, unchanged: Callable[[], None]) -> None:
    target = signer.presigned("POST", _MINT)
    answer = exchange(signer.server, "POST", target, signer.headers("POST", target))
    refused(answer, signer, "IncompleteSignatureException", "Only one of an Authorization header and an X-Amz-Sig")


def test_a_bearer_token_is_not_a_signature(signer: Signer, unchanged: Callable[[], None]) -> None:
    token = {"authorization": f"Bearer {signer.server.token}"}
    assert exchange(signer.server, "GET", "/certificates", token).status == 404  # the native API has no such path
    answer = exchange(signer.server, "POST", signer.presigned("POST", _MINT) + "0", token)
    refused(answer, signer, "IncompleteSignatureException", "Only one of an Authorization header")
