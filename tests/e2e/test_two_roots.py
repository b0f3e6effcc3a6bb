"""A device certificate cannot impersonate the server: clients that trust ca.pem refuse it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.material import csr_pem, key, key_pem
from tests.e2e.wire import connected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thingmint.testing import RunningServer


@contextlib.contextmanager
def impostor(certificate: Path, private_key: Path) -> Iterator[int]:
    """Runs a TLS server on loopback with that certificate. Returns its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private_key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def answer_once() -> None:
            with (
                contextlib.suppress(OSError),
                listener.accept()[0] as accepted,
                context.wrap_socket(accepted, server_side=True) as tls,
            ):
                tls.recv(1)

        thread = threading.Thread(target=answer_once)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(params=["secp256r1", "rsa2048"])
def device(request: pytest.FixtureRequest, iot: Any, tmp_path: Path) -> tuple[Path, Path]:
    """The certificate and key of a device whose CSR has the name localhost."""
    answer = iot.create_certificate_from_csr(
        certificateSigningRequest=csr_pem(request.param, "localhost"), setAsActive=True
    )
    certificate, private_key = tmp_path / "device.pem", tmp_path / "device.key"
    certificate.write_text(answer["certificatePem"])
    private_key.write_text(key_pem(key(request.param)))
    return certificate, private_key


def handshake(port: int, context: ssl.SSLContext) -> None:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as sock,
        context.wrap_socket(sock, server_hostname="localhost" if context.check_hostname else None) as tls,
    ):
        tls.sendall(b"x")


@pytest.mark.parametrize("check_hostname", [True, False])
def test_a_client_that_trusts_ca_pem_refuses_a_device_as_its_server(
    server: RunningServer, device: tuple[Path, Path], check_hostname: bool
) -> None:
    context = ssl.create_default_context(cafile=str(server.ca))
    context.check_hostname = check_hostname
    with impostor(*device) as port, pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(port, context)
    # The chain fails, not only the name, so a client that does not check names is safe too.
    assert "unable to get local issuer certificate" in caught.value.verify_message


def test_a_client_that_trusts_the_device_root_accepts_the_impostor(
    server: RunningServer, device: tuple[Path, Path]
) -> None:
    """Shows that the test above fails only because of the root."""
    context = ssl.create_default_context(cafile=str(server.device_ca))
    context.check_hostname = False
    with impostor(*device) as port:
        handshake(port, context)


def test_a_client_that_trusts_ca_pem_accepts_the_listener(server: RunningServer) -> None:
    with connected(server, tls=True) as sock:
        assert isinstance(sock, ssl.SSLSocket)
        assert sock.getpeercert()


def test_a_client_that_trusts_only_the_device_root_refuses_the_listener(server: RunningServer) -> None:
    context = ssl.create_default_context(cafile=str(server.device_ca))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server.ports["api"], context)
