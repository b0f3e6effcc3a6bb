"""Bad input, to both APIs: refused in the API's own form, with the cause named and the input not quoted.

After each of these the server still answers, and nothing was stored (the fixture ``unchanged``).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat

from tests.e2e.material import (
    csr_pem,
    forged_csr_pem,
    key,
    key_pem,
    pem_of,
    rsa_public_key,
    self_signed,
    self_signed_pem,
)
from tests.e2e.wire import (
    Answer,
    NoAnswer,
    answers,
    check_common_refusal,
    connected,
    exchange,
    one_request,
    read_answer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.signing import Signer
    from thingmint.testing import RunningServer

_MIB = 1024 * 1024
_MARK = "Zq7MarkOfTheInput"  # in inputs that an answer might quote

# Words of libraries' messages, which no answer may contain.
_PARSER_TALK = re.compile(
    r"Traceback|asn1|ASN\.1|ParseError|ValueError|InvalidData|openssl|column \d|char \d|pydantic|\.py\b|0x[0-9a-f]{6}",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Api:
    """An API, used with valid credentials."""

    name: str
    server: RunningServer
    signer: Signer

    def send(self, method: str, target: str, body: bytes = b"") -> Answer:
        if self.name == "aws":
            return self.signer.send(method, target, body=body)
        return exchange(self.server, method, target, {"authorization": f"Bearer {self.server.token}"}, body)

    def certificates(self, id: str) -> str:
        return f"{'' if self.name == 'aws' else '/v1'}/certificates/{id}"

    def submit_csr(self, pem: str) -> Answer:
        if self.name == "aws":
            return self.send("POST", "/certificates", json.dumps({"certificateSigningRequest": pem}).encode())
        return self.send("POST", "/v1/certificates", json.dumps({"csr": pem}).encode())

    def submit_certificate(self, pem: str) -> Answer:
        target = "/certificate/register-no-ca" if self.name == "aws" else "/v1/certificates"
        name = "certificatePem" if self.name == "aws" else "certificate_pem"
        return self.send("POST", target, json.dumps({name: pem}).encode())

    def refusal(self, answer: Answer, status: int = 400, aws_code: str = "InvalidRequestException") -> str:
        """Checks that the refusal has the API's own form, quotes no input and names no parser. Returns its message."""
        assert answer.status == status, answer
        assert answer.headers["content-type"] == "application/json"
        assert _MARK.encode() not in answer.body
        document = answer.json()
        if self.name == "aws":
            assert answer.aws_code == aws_code
            assert set(document) == {"message"}
            message: str = document["message"]
        else:
            assert set(document) == {"success", "error"}
            assert document["success"] is False
            code = {400: "VALIDATION_ERROR", 404: "NOT_FOUND"}[status]
            assert document["error"]["code"] == code
            message = document["error"]["message"]
        assert not _PARSER_TALK.search(message), message
        return message


@pytest.fixture(params=["aws", "native"])
def api(request: pytest.FixtureRequest, server: RunningServer, signer: Signer) -> Api:
    return Api(request.param, server, signer)


# -- parameters and ids -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["maybe", "1", "", "yes", "true%00", "%ff", _MARK, "a" * 5000])
def test_set_as_active_is_true_or_false(api: Api, unchanged: Callable[[], None], value: str) -> None:
    message = api.refusal(api.send("POST", f"/keys-and-certificate?setAsActive={value}"))
    assert "setAsActive" in message or "query" in message


_BAD_IDS = {
    "short": "abc",
    "one less": "a" * 63,
    "one more": "a" * 65,
    "not hex": "g" * 64,
    "NUL": "a" * 63 + "%00",
    "only NUL": "%00",
    "not UTF-8": "a" * 63 + "%ff",
    "broken escape": "a" * 63 + "%zz",
    "wide digits": "%EF%BC%91" * 64,
    "line end": "a" * 64 + "%0a",
    "mark": _MARK,
    "SQL": "'%20OR%20'1'='1",
    "long": "a" * 20000,
}


@pytest.mark.parametrize("id", _BAD_IDS.values(), ids=_BAD_IDS.keys())
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_malformed_ids_are_refused(api: Api, unchanged: Callable[[], None], method: str, id: str) -> None:
    message = api.refusal(api.send(method, api.certificates(id)))
    told = re.sub(r"^[12] validation errors? detected: Value at 'certificateId' ", "certificateId ", message)
    assert told.startswith("certificateId " if api.name == "aws" else "id "), message


@pytest.mark.parametrize("id", ["a" * 32 + "%2F" + "a" * 31, "..%2Fcertificates", "%2e%2e%2fetc%2fpasswd"])
def test_ids_with_an_encoded_slash_are_refused(api: Api, unchanged: Callable[[], None], id: str) -> None:
    # AWS's labels may contain a slash, as ARNs do. In the native API it makes another path.
    api.refusal(api.send("GET", api.certificates(id)), 400 if api.name == "aws" else 404)


# -- JSON ---------------------------------------------------------------------------------------------------------

_NOT_JSON = {
    "truncated": b'{"csr": "' + _MARK.encode(),
    "two": b"{}{}",
    "single quotes": b"{'csr': 1}",
    "trailing comma": b'{"a": 1,}',
    "not UTF-8": b'{"csr": "\xff\xfe"}',
    "lone surrogate": b'{"csr": "\\ud800"}',
    "UTF-16": '{"csr": 1}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "not a number": b'{"csr": NaN}',
    "control character": b'{"csr": "\x01"}',
    "form": b"csr=abc&status=ACTIVE",
    "XML": b"<csr>abc</csr>",
    "very deep": b'{"a":' * 9000,
    "deep": b'{"a":' * 5000 + b"1" + b"}" * 5000,
}


@pytest.mark.parametrize("body", _NOT_JSON.values(), ids=_NOT_JSON.keys())
def test_bodies_other_than_json_are_refused(api: Api, unchanged: Callable[[], None], body: bytes) -> None:
    for target in ("/keys-and-certificate", "/certificates" if api.name == "aws" else "/v1/certificates"):
        assert api.refusal(api.send("POST", target, body)) == "body is not valid JSON"


@pytest.mark.parametrize("body", [b"[]", b'[{"csr": "x"}]', b'"text"', b"7", b"null", b"true"])
def test_bodies_other_than_objects_are_refused(api: Api, unchanged: Callable[[], None], body: bytes) -> None:
    for target in ("/keys-and-certificate", "/certificates" if api.name == "aws" else "/v1/certificates"):
        assert api.refusal(api.send("POST", target, body)) == "body must be a JSON object"


@pytest.mark.parametrize("value", [7, 1.5, True, ["x"], {"pem": "x"}, [[[]]]])
def test_values_of_wrong_types_are_refused(api: Api, unchanged: Callable[[], None], value: object) -> None:
    name = "certificateSigningRequest" if api.name == "aws" else "csr"
    target = "/certificates" if api.name == "aws" else "/v1/certificates"
    message = api.refusal(api.send("POST", target, json.dumps({name: value, "x": _MARK}).encode()))
    # The native API refuses unknown members too, and may name them first.
    assert message.startswith((name, "request has a parameter"))
    exact = api.refusal(api.send("POST", target, json.dumps({name: value}).encode()))
    assert exact.startswith(name)


@pytest.mark.parametrize(
    ("method", "target", "body", "message"),
    [
        ("POST", "/keys-and-certificate?setAsActive=true&setAsActive=true", None, "query must not name a parameter"),
        ("POST", "/keys-and-certificate?active=true", None, "request has an unknown parameter: active"),
        ("POST", "/keys-and-certificate?x%1b%0ay=1", None, "request has an unknown parameter: x??y"),
        ("POST", "/keys-and-certificate", {"SetIt": 1}, "request has an unknown parameter: SetIt"),
        ("POST", "/keys-and-certificate?" + "&".join(f"p{n}=1" for n in range(40)), None, "query must be"),
        ("POST", "/keys-and-certificate?setAsActive=%ff", None, "query must be percent-encoded UTF-8"),
        ("POST", "/v1/certificates", {}, "request is not valid: exactly one of csr and certificate_pem must be given"),
        ("POST", "/v1/certificates", {"csr": "x", "certificate_pem": "x"}, "request is not valid: exactly one of"),
        ("POST", "/v1/certificates", {"csr": "x", "status": "REVOKED"}, "request is not valid: a certificate cannot"),
        ("POST", "/v1/certificates", {"csr": "x", "status": _MARK}, "status must be"),
        ("POST", "/v1/certificates", {"csr": "x", "status": "PENDING_TRANSFER"}, "status must be"),
        ("POST", "/v1/certificates", {"csr": "x" * 70000}, "csr must have at most"),
        ("POST", "/v1/certificates", {"csr": ""}, "csr must not be empty"),
        ("PATCH", "/v1/certificates/" + "0" * 64, {}, "status is missing"),
        ("PATCH", "/v1/certificates/" + "0" * 64, {"status": ["ACTIVE"]}, "status must be"),
        ("PATCH", "/v1/certificates/" + "0" * 64, {"status": "active"}, "status must be"),
        ("GET", "/v1/certificates?page_size=0", None, "page_size must be"),
        ("GET", "/v1/certificates?page_size=251", None, "page_size must be"),
        ("GET", f"/v1/certificates?page_size={_MARK}", None, "page_size must be"),
        ("GET", f"/v1/certificates?page_size={'9' * 5000}", None, "page_size must be"),
        ("GET", f"/v1/certificates?marker={_MARK}", None, "marker is not one that this list returned"),
        ("GET", "/v1/certificates?marker=%C3%A9", None, "marker is not one that this list returned"),
        ("GET", f"/v1/certificates?order={_MARK}", None, "order must be"),
    ],
)
def test_the_native_api_names_the_wrong_parameter(
    server: RunningServer,
    signer: Signer,
    unchanged: Callable[[], None],
    method: str,
    target: str,
    body: object,
    message: str,
) -> None:
    native = Api("native", server, signer)
    raw = b"" if body is None else json.dumps(body).encode()
    assert native.refusal(native.send(method, target, raw)).startswith(message)


# -- PEM ----------------------------------------------------------------------------------------------------------


def _damaged(pem: str) -> str:
    """Damages the PEM: it is still base64, but no longer DER."""
    lines = pem.splitlines()
    lines[1] = "A" * len(lines[1])
    return "\n".join(lines)


def _altered(pem: str) -> str:
    """Flips the last bit of the signature."""
    import base64

    label = pem.split("-----")[1].removeprefix("BEGIN ")
    der = bytearray(base64.b64decode("".join(pem.splitlines()[1:-1])))
    der[-1] ^= 1
    return pem_of(label, bytes(der))


def _csr_of(kind: str) -> str:
    return csr_pem(kind, _MARK)


_SECRET = key_pem(key("secp256r1"))

_BAD_CSRS: dict[str, tuple[str, str]] = {
    "empty": (" \n", "must not be empty"),
    "no PEM": (_MARK, "is not a PEM certificate signing request: it has no line -----BEGIN CERTIFICATE REQUEST-----"),
    "truncated": (_csr_of("secp256r1")[:200], "is not a well-formed PEM certificate signing request: it is truncated"),
    "no end line": (
        _csr_of("secp256r1").rsplit("-----END", 1)[0],
        "is not a well-formed PEM certificate signing request: it is truncated",
    ),
    "damaged": (_damaged(_csr_of("secp256r1")), "is not a well-formed PEM certificate signing request"),
    "not base64": (pem_of("CERTIFICATE REQUEST", b"").replace("\n\n", "\n!!!\n"), "is not a well-formed PEM"),
    "empty block": (pem_of("CERTIFICATE REQUEST", b""), "is not a well-formed PEM certificate signing request"),
    "two": (_csr_of("secp256r1") * 2, "must contain exactly one PEM block, not 2"),
    "a certificate": (self_signed_pem(), "is not a PEM certificate signing request: its block has another label"),
    "a public key": (pem_of("PUBLIC KEY", b"x" * 90), "is not a PEM certificate signing request: its block has"),
    "with a private key": (_csr_of("secp256r1") + _SECRET, "contains a private key: send only the"),
    "only a private key": (_SECRET, "contains a private key: send only the"),
    "a mangled private key": ("---BEGIN EC PRIVATE KEY---\nAAAA", "contains a private key: send only the"),
    "an encrypted private key": (pem_of("ENCRYPTED PRIVATE KEY", b"x" * 90), "contains a private key: send only the"),
    "bad signature": (_altered(_csr_of("rsa2048")), "has a signature that its own public key does not verify"),
    "nonsense signature": (forged_csr_pem(key("secp256r1").public_key()), "has a signature that its own public key"),
    "RSA-1024": (_csr_of("rsa1024"), "has an RSA key of 1024 bits; 2048 to 4096 are accepted"),
    "RSA-4104": (forged_csr_pem(rsa_public_key(4104)), "has an RSA key of 4104 bits; 2048 to 4096 are accepted"),
    "RSA-8192": (forged_csr_pem(rsa_public_key(8192)), "has an RSA key of 8192 bits; 2048 to 4096 are accepted"),
    "Ed25519": (_csr_of("ed25519"), "has a key of a type that is not accepted; use RSA or ECDSA"),
    "another curve": (_csr_of("secp256k1"), "has an EC key on another curve than secp256r1, secp384r1, secp521r1"),
}


@pytest.mark.parametrize(("pem", "reason"), _BAD_CSRS.values(), ids=_BAD_CSRS.keys())
def test_malformed_signing_requests_are_refused(api: Api, unchanged: Callable[[], None], pem: str, reason: str) -> None:
    name = "CSR violates constraints: certificateSigningRequest" if api.name == "aws" else "csr"
    assert api.refusal(api.submit_csr(pem)).startswith(f"{name} {reason}")


def _certificate_pem(public_key: Any) -> str:
    return self_signed(common_name=_MARK, public_key=public_key).public_bytes(Encoding.PEM).decode()


_BAD_CERTIFICATES: dict[str, tuple[str, str]] = {
    "empty": ("\n", "must not be empty"),
    "no PEM": (_MARK, "is not a PEM certificate: it has no line -----BEGIN CERTIFICATE-----"),
    "truncated": (self_signed_pem()[:200], "is not a well-formed PEM certificate: it is truncated or damaged"),
    "damaged": (_damaged(self_signed_pem()), "is not a well-formed PEM certificate: it is truncated or damaged"),
    "a chain": (self_signed_pem() + self_signed_pem(), "must contain exactly one PEM block, not 2"),
    "a request": (_csr_of("secp256r1"), "is not a PEM certificate: its block has another label than CERTIFICATE"),
    "with a private key": (_SECRET + self_signed_pem(), "contains a private key: send only the certificate."),
    "RSA-1024": (_certificate_pem(rsa_public_key(1024)), "has an RSA key of 1024 bits; 2048 to 8192 are accepted"),
    "RSA-8200": (_certificate_pem(rsa_public_key(8200)), "has an RSA key of 8200 bits; 2048 to 8192 are accepted"),
    "Ed25519": (_certificate_pem(key("ed25519").public_key()), "has a key of a type that is not accepted"),
    "another curve": (_certificate_pem(key("secp256k1").public_key()), "has an EC key on another curve than"),
    "DER in base64": (pem_of("CERTIFICATE", b"\x30\x82\xff\xff" + os.urandom(300)), "is not a well-formed PEM cert"),
}


@pytest.mark.parametrize(("pem", "reason"), _BAD_CERTIFICATES.values(), ids=_BAD_CERTIFICATES.keys())
def test_malformed_certificates_are_refused(api: Api, unchanged: Callable[[], None], pem: str, reason: str) -> None:
    message = api.refusal(api.submit_certificate(pem), aws_code="CertificateValidationException")
    name = "certificatePem " if api.name == "aws" else "certificate_pem "
    assert message.startswith(name + reason)


def test_pem_with_a_nul_is_refused(api: Api, unchanged: Callable[[], None]) -> None:
    message = api.refusal(api.submit_certificate(self_signed_pem() + "\0"))
    assert message.endswith((" must not contain NUL", " must not contain the NUL character"))


def test_a_submitted_private_key_is_neither_logged_nor_quoted(api: Api, unchanged: Callable[[], None]) -> None:
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        for private_key in (key("rsa2048"), key("secp256r1")):
            secret = key_pem(private_key, form)
            message = api.refusal(api.submit_csr(secret + csr_pem()))
            assert "replace it" in message
            line = secret.splitlines()[2]
            assert line not in message
            assert line not in api.server.output.read_text()


# -- sizes --------------------------------------------------------------------------------------------------------


def _chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("size", [_MIB + 1, 3 * _MIB])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_over_one_mib_are_refused(
    api: Api, unchanged: Callable[[], None], size: int, chunked: bool, tls: bool
) -> None:
    body = b"{" + b" " * (size - 2) + b"}"
    target = "/keys-and-certificate"
    if api.name == "aws":
        headers = api.signer.headers("POST", target, body=body)
    else:
        headers = {"authorization": f"Bearer {api.server.token}", "host": "localhost"}
    if chunked:
        raw = one_request("POST", target, headers | {"transfer-encoding": "chunked"}) + _chunked(body)
    else:
        raw = one_request("POST", target, headers, body)
    (answer,) = answers(api.server, raw, tls=tls)
    assert api.refusal(answer) == "body must be at most 1048576 bytes"


def test_bodies_of_one_mib_are_read(api: Api) -> None:
    assert api.send("POST", "/keys-and-certificate", b"{" + b" " * (_MIB - 2) + b"}").status == 200


@pytest.mark.parametrize("body", [b'{"a":[' + b"[]," * 300_000 + b"[]]}", b"[" * 100_000])
def test_bodies_of_too_many_values_are_not_parsed(api: Api, unchanged: Callable[[], None], body: bytes) -> None:
    for target in ("/keys-and-certificate", "/certificates" if api.name == "aws" else "/v1/certificates"):
        assert api.refusal(api.send("POST", target, body)) == "body must hold at most 10000 values"


def test_ordinary_clients_can_read_why_a_large_body_was_refused(
    server: RunningServer, unchanged: Callable[[], None]
) -> None:
    headers = {"authorization": f"Bearer {server.token}"}
    answer = httpx.post(f"{server.http_url}/v1/certificates", content=b" " * (8 * _MIB), headers=headers)
    assert answer.json()["error"]["message"] == "body must be at most 1048576 bytes"
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        [
            curl,
            "-sS",
            *("--noproxy", "*"),
            *("--header", f"authorization: Bearer {server.token}"),
            *("--data-binary", "@-"),
            f"{server.http_url}/v1/certificates",
        ],
        input=b" " * (8 * _MIB),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)["error"]["message"] == "body must be at most 1048576 bytes"


_LARGE_HEADS = {
    "one header": "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-pad: " + "a" * 66000 + "\r\n\r\n",
    "many headers": "GET /healthz HTTP/1.1\r\nhost: localhost\r\n" + "x-pad: aaaaaaaa\r\n" * 6000 + "\r\n",
    "the target": "GET /healthz?" + "a" * 66000 + " HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a token": "GET /v1/certificates HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer " + "a" * 66000 + "\r\n\r\n",
    "without an end": "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-pad: " + "a" * 70000,
    "a header's name": "GET /healthz HTTP/1.1\r\nhost: localhost\r\n" + "a" * 70000 + ": 1\r\n\r\n",
    "the method": "A" * 70000,
}


@pytest.mark.parametrize("raw", _LARGE_HEADS.values(), ids=_LARGE_HEADS.keys())
@pytest.mark.parametrize("tls", [False, True])
def test_header_blocks_over_64_kib_are_refused(
    server: RunningServer, unchanged: Callable[[], None], raw: str, tls: bool
) -> None:
    with connected(server, tls=tls) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(raw.encode())
        buffered = bytearray()
        answer = read_answer(sock, buffered)
        check_common_refusal(answer, 400 if raw.startswith("AA") else 431)
        with pytest.raises(NoAnswer):
            read_answer(sock, buffered)


def test_header_blocks_below_64_kib_are_accepted(server: RunningServer) -> None:
    headers = {f"x-pad-{n}": "a" * 1000 for n in range(60)}
    assert exchange(server, "GET", "/healthz", headers).status == 200
    # The limit is for each request, not for all requests of a connection.
    raw = one_request("GET", "/healthz", {"host": "localhost", **headers})
    assert [answer.status for answer in answers(server, raw * 4, count=4)] == [200] * 4
