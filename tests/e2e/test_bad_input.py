"""Bad input, to both APIs: refused in the API's own form, with the cause named and the input not quoted.

After each of these the server still answers, and nothing was stored (the fixture ``unchanged``).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
from tests.e2e.wire import Answer, NoAnswer, answers, connected, exchange, one_request, read_answer, until

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


def check_common_refusal(answer: Answer, status: int) -> None:
    """Checks a refusal before the API is known, which clients of every API can read."""
    assert answer.status == status
    document = answer.json()
    assert set(document) == {"success", "error", "message"}
    assert document["error"] == {"code": "VALIDATION_ERROR", "message": document["message"]}
    assert answer.aws_code == "InvalidRequestException"
    assert answer.headers["connection"] == "close"


def test_header_blocks_below_64_kib_are_accepted(server: RunningServer) -> None:
    headers = {f"x-pad-{n}": "a" * 1000 for n in range(60)}
    assert exchange(server, "GET", "/healthz", headers).status == 200
    # The limit is for each request, not for all requests of a connection.
    raw = one_request("GET", "/healthz", {"host": "localhost", **headers})
    assert [answer.status for answer in answers(server, raw * 4, count=4)] == [200] * 4


# -- slow and rude clients ----------------------------------------------------------------------------------------


def _open_files(server: RunningServer) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "said",
    [b"", b"POST /keys-and-certificate HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{", os.urandom(100)],
    ids=["nothing", "half a request", "garbage"],
)
def test_a_thousand_dropped_connections_leave_the_server_responsive(
    server: RunningServer, unchanged: Callable[[], None], said: bytes, tls: bool
) -> None:
    before = _open_files(server)
    address = ("127.0.0.1", server.ports["api" if tls else "http"])
    with contextlib.ExitStack() as stack:
        for n in range(1000):
            sock = stack.enter_context(socket.create_connection(address, timeout=20))
            if said:
                sock.sendall(said)
            if n % 2:  # half of the connections are reset instead of closed
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert exchange(server, "GET", "/healthz", tls=tls).status == 200
    until(lambda: _open_files(server) <= before + 2, seconds=15, what="the server lets dropped connections go")


def test_a_client_that_disconnects_within_a_body_changes_nothing(
    server: RunningServer, unchanged: Callable[[], None]
) -> None:
    head = f"POST /keys-and-certificate HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {server.token}\r\n"
    for body in (b"content-length: 20\r\n\r\n{}", b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"):
        with connected(server) as sock:
            sock.sendall(head.encode() + body)
    assert exchange(server, "GET", "/healthz").status == 200


# -- what is not HTTP ---------------------------------------------------------------------------------------------

_H = "host: localhost\r\n"

_MALFORMED = {
    "garbage": b"\x00\x01\x02\xff\xfe garbage\r\n\r\n",
    "random": b"\x99" + os.urandom(400),
    "TLS to the plain port": bytes.fromhex("16030100c8010000c40303") + os.urandom(200),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "another version": f"GET /healthz HTTP/3.7\r\n{_H}\r\n".encode(),
    "unknown method": f"MINT /healthz HTTP/1.1\r\n{_H}\r\n".encode(),
    "NUL in a header": f"GET /healthz HTTP/1.1\r\n{_H}x: a\0b\r\n\r\n".encode(),
    "NUL in the target": f"GET /health\0z HTTP/1.1\r\n{_H}\r\n".encode(),
    "CR in a header": f"GET /healthz HTTP/1.1\r\n{_H}x: a\rb\r\n\r\n".encode(),
    "CR in the target": f"GET /health\rz HTTP/1.1\r\n{_H}\r\n".encode(),
    "folded header": f"GET /healthz HTTP/1.1\r\n{_H}x: a\r\n b\r\n\r\n".encode(),
    "space before a colon": f"GET /healthz HTTP/1.1\r\n{_H}content-length : 2\r\n\r\n{{}}".encode(),
    "header without a name": f"GET /healthz HTTP/1.1\r\n{_H}: x\r\n\r\n".encode(),
    "header without a colon": f"GET /healthz HTTP/1.1\r\n{_H}nothing\r\n\r\n".encode(),
    "octets in the target": b"GET /v1/\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "CONNECT": f"CONNECT example.org:443 HTTP/1.1\r\n{_H}\r\n".encode(),
    "bare LF": b"GET /healthz HTTP/1.1\nhost: localhost\n\n",
}

_POST = f"POST /keys-and-certificate HTTP/1.1\r\n{_H}authorization: Bearer TOKEN\r\n"

_SMUGGLING = {
    "length and chunks": "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": "transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": "content-length: 0\r\ncontent-length: 2\r\n\r\n{}",
    "a list of lengths": "content-length: 0, 2\r\n\r\n{}",
    "negative length": "content-length: -1\r\n\r\n",
    "signed length": "content-length: +2\r\n\r\n{}",
    "hexadecimal length": "content-length: 0x2\r\n\r\n{}",
    "huge length": "content-length: 99999999999999999999999\r\n\r\n",
    "unknown coding": "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked not last": "transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    "bad chunk size": "transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "negative chunk": "transfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    "huge chunk": "transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "chunk longer than said": "transfer-encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("raw", _MALFORMED.values(), ids=_MALFORMED.keys())
@pytest.mark.parametrize("tls", [False, True])
def test_malformed_requests_are_refused(
    server: RunningServer, unchanged: Callable[[], None], raw: bytes, tls: bool
) -> None:
    (answer,) = answers(server, raw, tls=tls)
    check_common_refusal(answer, 400)
    assert answer.json()["message"] == "The request is not well-formed HTTP/1.1"


@pytest.mark.parametrize("raw", _SMUGGLING.values(), ids=_SMUGGLING.keys())
def test_ambiguous_lengths_are_refused(server: RunningServer, unchanged: Callable[[], None], raw: str) -> None:
    smuggled = _POST.replace("TOKEN", server.token)
    with connected(server) as sock:
        sock.sendall((smuggled + raw + smuggled + "\r\n").encode())
        buffered = bytearray()
        assert read_answer(sock, buffered).status == 400
        with pytest.raises(NoAnswer):
            read_answer(sock, buffered)


def test_garbage_instead_of_tls_ends_the_connection(server: RunningServer, unchanged: Callable[[], None]) -> None:
    for said in (
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        os.urandom(3000),
        b"\x16\x03\x01\xff\xff" + b"a" * 70000,
    ):
        address = ("127.0.0.1", server.ports["api"])
        with socket.create_connection(address, timeout=20) as sock, contextlib.suppress(ConnectionError):
            sock.sendall(said)
            with contextlib.suppress(OSError):  # it may be closed already
                sock.shutdown(socket.SHUT_WR)
            received = bytearray()
            while piece := sock.recv(4096):
                received += piece
            assert b"HTTP" not in received
    assert exchange(server, "GET", "/healthz", tls=True).status == 200


@pytest.mark.parametrize("tls", [False, True])
def test_pipelined_requests_are_answered_in_their_order(server: RunningServer, tls: bool) -> None:
    authorization = {"authorization": f"Bearer {server.token}", "host": "localhost"}
    raw = b"".join(
        [
            one_request("GET", "/healthz", {"host": "localhost"}),
            one_request("POST", "/keys-and-certificate", authorization, b"{}"),
            one_request("GET", "/nothing", authorization),
            one_request("POST", "/keys-and-certificate", authorization),
            one_request("GET", "/certificates", {"host": "localhost"}),
        ]
    )
    found = answers(server, raw, tls=tls, count=5)
    assert [answer.status for answer in found] == [200, 200, 404, 200, 403]
    assert found[1].json()["data"]["id"] != found[3].json()["data"]["id"]


def test_an_absolute_target_is_read_as_its_path(server: RunningServer, unchanged: Callable[[], None]) -> None:
    raw = f"GET http://localhost/v1/certificates?page_size=1 HTTP/1.1\r\n{_H}authorization: Bearer {server.token}\r\n"
    (answer,) = answers(server, f"{raw}\r\n".encode())
    assert answer.status == 200
    (answer,) = answers(server, f"GET http://localhost/certificates HTTP/1.1\r\n{_H}\r\n".encode())
    assert (answer.status, answer.aws_code) == (403, "MissingAuthenticationTokenException")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PROPFIND"])
def test_unknown_methods_are_refused(server: RunningServer, unchanged: Callable[[], None], method: str) -> None:
    with connected(server) as sock:
        sock.sendall(one_request(method, "/keys-and-certificate", {"host": "localhost", "x-mark": _MARK}))
        assert sock.recv(12) == b"HTTP/1.1 401"
    answer = exchange(server, "OPTIONS", "*")
    assert (answer.status, answer.json()["error"]["code"]) == (401, "UNAUTHENTICATED")


# -- hosts, trailers, upgrades ------------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", ["", "host: localhost\r\nhost: iot.us-east-1.amazonaws.com\r\n"])
def test_exactly_one_host_is_needed(server: RunningServer, hosts: str) -> None:
    raw = f"GET /v1/certificates HTTP/1.1\r\nauthorization: Bearer {server.token}\r\n{hosts}\r\n"
    check_common_refusal(answers(server, raw.encode())[0], 400)


def test_trailers_are_not_headers(server: RunningServer) -> None:
    head = f"GET /v1/certificates HTTP/1.1\r\n{_H}transfer-encoding: chunked\r\n\r\n"
    (answer,) = answers(server, f"{head}0\r\nauthorization: Bearer {server.token}\r\n\r\n".encode())
    assert answer.status == 401


def test_trailers_have_a_limit(server: RunningServer) -> None:
    with connected(server) as sock:
        sock.settimeout(2)
        head = f"GET /v1/certificates HTTP/1.1\r\n{_H}authorization: Bearer {server.token}\r\n"
        sock.sendall(f"{head}transfer-encoding: chunked\r\n\r\n0\r\n".encode())
        with contextlib.suppress(ConnectionError):
            sock.sendall((b"x-pad: " + b"a" * 1000 + b"\r\n") * 300)
        check_common_refusal(read_answer(sock, bytearray()), 431)


def test_an_offered_upgrade_is_ignored(server: RunningServer) -> None:
    """java.net.http offers one by default over plain HTTP, and so does `curl --http2`."""
    body = json.dumps({"csr": csr_pem()}).encode()
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABkAAQAAP__"}
    headers = {"host": "localhost", "authorization": f"Bearer {server.token}", **offer}
    assert exchange(server, "POST", "/v1/certificates", headers, body).status == 200


def test_garbage_after_a_request_does_not_prevent_its_answer(server: RunningServer) -> None:
    good = one_request("POST", "/keys-and-certificate", {"host": "x", "authorization": f"Bearer {server.token}"})
    # The server may answer the garbage with 400, or only close the connection.
    assert answers(server, good + b"\0garbage\r\n\r\n")[0].status == 200


# -- arbitrary bytes ----------------------------------------------------------------------------------------------

_METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS", b"get", b"\xff"])
_TARGETS = st.one_of(
    st.sampled_from([b"/keys-and-certificate", b"/certificates", b"/v1/certificates", b"/healthz", b"/things/a"]),
    st.binary(max_size=60).map(lambda raw: b"/" + raw),
    st.text("/.%?&=;#+\\ \t0aA:@[]", max_size=40).map(str.encode),
)
_HEADERS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"authorization: Bearer tma_x_y",
                b"authorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/iot/aws4_request, "
                b"SignedHeaders=host;x-amz-date, Signature=" + b"0" * 64,
                b"x-amz-date: 20260101T000000Z",
                b"host: iot.us-east-1.amazonaws.com",
                b"content-length: 5",
                b"transfer-encoding: chunked",
                b"expect: 100-continue",
                b"connection: close",
                b"x-amz-content-sha256: UNSIGNED-PAYLOAD",
            ]
        ),
        st.binary(max_size=40),
        st.tuples(st.text("abc-_:", max_size=8), st.binary(max_size=30)).map(lambda p: p[0].encode() + b":" + p[1]),
    ),
    max_size=6,
)
_REQUESTS = st.tuples(_METHODS, _TARGETS, _HEADERS, st.binary(max_size=80)).map(
    lambda p: b"%b %b HTTP/1.1\r\nhost: localhost\r\n%b\r\n%b" % (p[0], p[1], b"".join(h + b"\r\n" for h in p[2]), p[3])
)


@settings(
    max_examples=300,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(raw=st.one_of(_REQUESTS, st.binary(min_size=1, max_size=200)))
def _fuzz(server: RunningServer, raw: bytes) -> None:
    with connected(server) as sock:
        sock.sendall(raw)
        sock.settimeout(0.03)  # an incomplete request rightly gets no answer
        received = bytearray()
        try:
            while piece := sock.recv(65536):
                received += piece
        except (TimeoutError, ConnectionError):
            pass
    for head in re.findall(rb"HTTP/1\.1 (\d{3}) [^\r]*\r\n(?=date|content|x-)(?:[^\r]+\r\n)+", bytes(received)):
        assert int(head) < 500
    if received and not received.startswith(b"HTTP/1.1 100 "):
        assert received.startswith(b"HTTP/1.1 ")
        assert b"content-type: application/json\r\n" in received or b"text/plain; version" in received
    assert server.process.poll() is None


def test_arbitrary_bytes_are_answered_or_closed(server: RunningServer, unchanged: Callable[[], None]) -> None:
    _fuzz(server)
    assert exchange(server, "GET", "/healthz").status == 200
