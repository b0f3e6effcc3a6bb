"""Requests made and signed by boto3, to be sent many times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.testing import RunningServer

__all__ = ["Signer", "bearer_get", "new_csr", "plain_get"]


class Signer:
    """Captures requests before boto3 sends them. A signature is valid for 15 minutes, and can be used many times."""

    def __init__(self, server: RunningServer, *, tls: bool = True) -> None:
        arguments = server.boto3_arguments()
        if not tls:
            arguments |= {"endpoint_url": f"http://localhost:{server.ports['http']}"}
        self._client: Any = boto3.session.Session().client("iot", **arguments)
        self._client.meta.events.register("before-send.iot", self._capture)
        self._captured = b""

    def create_keys(self) -> bytes:
        return self._of(lambda: self._client.create_keys_and_certificate(setAsActive=True))

    def create_from_csr(self, csr: str) -> bytes:
        return self._of(lambda: self._client.create_certificate_from_csr(certificateSigningRequest=csr))

    def describe(self, certificate_id: str) -> bytes:
        return self._of(lambda: self._client.describe_certificate(certificateId=certificate_id))

    def create_thing(self, name: str) -> bytes:
        return self._of(lambda: self._client.create_thing(thingName=name))

    def _of(self, call: Callable[[], object]) -> bytes:
        call()
        return self._captured

    def _capture(self, request: Any, **_: object) -> AWSResponse:
        url = urlsplit(request.url)
        target = f"{url.path}?{url.query}" if url.query else url.path
        # http.client adds these two after signing; the host only if the signer did not (awscrt's signer does).
        lines = [f"{request.method} {target} HTTP/1.1", "Accept-Encoding: identity"]
        if "host" not in request.headers:
            lines.append(f"Host: {url.netloc}")
        for name, value in request.headers.items():
            lines.append(f"{name}: {value.decode() if isinstance(value, bytes) else value}")
        self._captured = "\r\n".join([*lines, "", ""]).encode() + (request.body or b"")
        return AWSResponse(request.url, 200, HTTPHeaders(), _EmptyAnswer())


class _EmptyAnswer:
    def stream(self) -> list[bytes]:
        return [b"{}"]


def bearer_get(path: str, host: str, token: str) -> bytes:
    """A GET of the native API."""
    return f"GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\nauthorization: Bearer {token}\r\n\r\n".encode()


def plain_get(path: str, host: str) -> bytes:
    """A GET without credentials."""
    return f"GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\n\r\n".encode()


def new_csr() -> str:
    """A signing request for a P-256 key, as PEM."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return csr.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM).decode()
