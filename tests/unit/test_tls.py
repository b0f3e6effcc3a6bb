"""The listeners' certificate: when it is due, and that new connections get the new one."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import threading
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.unit import vectors
from thingmint.domain.certificate_profiles import listener_profile
from thingmint.server.served_names import ServedNames
from thingmint.tls import ListenerTLS
from thingmint.tls import listener as tls_listener

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["localhost", "127.0.0.1"]


class Listener:
    """A ListenerTLS on a fake clock, and a client that trusts its root."""

    def __init__(self, scratch: Path, lifetime: timedelta = timedelta(days=90)) -> None:
        self.clock = vectors.FakeClock()
        self.authority = vectors.authority(profile=listener_profile(lifetime))
        self.tls = ListenerTLS(self.authority, scratch, self.clock)

    def served(self, hostname: str = "localhost") -> x509.Certificate:
        """The certificate that a new client gets, after the server has proved the key."""
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(cadata=self.authority.certificate.public_bytes(Encoding.PEM).decode())
        client.verify_flags |= 0x200000  # X509_V_FLAG_NO_CHECK_TIME: the certificates live in the fake clock's time
        upwards, downwards = ssl.MemoryBIO(), ssl.MemoryBIO()
        asking = client.wrap_bio(downwards, upwards, server_hostname=hostname)
        serving = self.tls.context().wrap_bio(upwards, downwards, server_side=True)
        for _ in range(4):
            for side in (asking, serving):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        der = asking.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)


def test_a_renewal_reaches_new_connections(tmp_path: Path) -> None:
    listener = Listener(tmp_path)
    listener.tls.renew(NAMES)
    first = listener.served()
    assert listener.served() == first
    listener.clock.advance(days=80)
    listener.tls.renew([*NAMES, "iot.example.org"])
    second = listener.served("iot.example.org")
    assert second.serial_number != first.serial_number
    assert second.public_key() != first.public_key()
    assert second.not_valid_before_utc - first.not_valid_before_utc == timedelta(days=80)


@pytest.mark.parametrize("hostname", NAMES)
def test_every_name_is_served(tmp_path: Path, hostname: str) -> None:
    listener = Listener(tmp_path)
    listener.tls.renew(NAMES)
    assert listener.served(hostname).subject.rfc4514_string() == "CN=localhost"


def test_other_names_are_not_served(tmp_path: Path) -> None:
    listener = Listener(tmp_path)
    listener.tls.renew(NAMES)
    with pytest.raises(ssl.SSLCertVerificationError):
        listener.served("iot.example.org")


def test_a_long_name_is_cut_in_the_common_name(tmp_path: Path) -> None:
    listener = Listener(tmp_path)
    hostname = ".".join(["a" * 60] * 3)
    listener.tls.renew([hostname])
    assert listener.served(hostname).subject == vectors.name(hostname[:64])


def test_no_key_is_left_on_disk(tmp_path: Path) -> None:
    Listener(tmp_path).tls.renew(NAMES)
    assert not list(tmp_path.iterdir())


def test_old_protocols_are_refused(tmp_path: Path) -> None:
    assert Listener(tmp_path).tls.context().minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("lifetime", "elapsed", "due"),
    [
        (timedelta(days=90), timedelta(0), timedelta(days=60)),
        (timedelta(days=90), timedelta(days=59), timedelta(days=1)),
        (timedelta(days=90), timedelta(days=60), timedelta(0)),
        (timedelta(days=90), timedelta(days=91), timedelta(days=-31)),
        (timedelta(seconds=6), timedelta(0), timedelta(seconds=4)),
    ],
)
def test_a_certificate_is_due_in_the_last_third_of_its_lifetime(
    tmp_path: Path, lifetime: timedelta, elapsed: timedelta, due: timedelta
) -> None:
    listener = Listener(tmp_path, lifetime)
    listener.tls.renew(NAMES)
    listener.clock.now += elapsed
    # X.509 has no fractions of a second, so the end is up to one second earlier.
    assert timedelta(0) <= due - timedelta(seconds=listener.tls.seconds_until_due()) < timedelta(seconds=1)


class Nap:
    """Replaces asyncio.sleep(): advances the clock, and ends the test after a number of calls."""

    def __init__(self, clock: vectors.FakeClock, count: int) -> None:
        self._clock, self._count = clock, count
        self.lengths: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.lengths.append(seconds)
        self._clock.advance(seconds=seconds)
        if len(self.lengths) == self._count:
            raise asyncio.CancelledError


async def keep_renewed(listener: Listener, monkeypatch: pytest.MonkeyPatch, naps: int, names: list[str]) -> Nap:
    nap = Nap(listener.clock, naps)
    monkeypatch.setattr(asyncio, "sleep", nap.sleep)

    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await listener.tls.keep_renewed(lambda: names)
    return nap


async def test_the_certificate_is_renewed_when_it_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener(tmp_path, timedelta(hours=3))
    names = list(NAMES)
    listener.tls.renew(names)
    first = listener.served()
    names.append("iot.example.org")
    nap = await keep_renewed(listener, monkeypatch, 6, names)
    second = listener.served("iot.example.org")
    assert second.serial_number != first.serial_number
    assert second.not_valid_after_utc > listener.clock.now
    # Two hours until it is due, slept in pieces, because the clock may be set in the meantime.
    assert max(nap.lengths) <= 3600
    assert sum(nap.lengths[:2]) == pytest.approx(7200, abs=1)


async def test_keys_are_made_in_a_thread_while_the_server_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An RSA key takes up to 0.3 seconds, in which the event loop would do nothing else."""
    threads: list[bool] = []

    def new_keys() -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return made()

    made = tls_listener._new_keys
    monkeypatch.setattr(tls_listener, "_new_keys", new_keys)
    listener = Listener(tmp_path)
    settings = SimpleNamespace(listener_certificate_lifetime=timedelta(days=90), endpoints={})
    names = ServedNames(cast("Any", Names()), cast("Any", None), listener.tls, cast("Any", settings))
    monkeypatch.setattr(ServedNames, "write_endpoints", lambda self, ports: None)
    await names.refresh({})
    assert listener.served().subject.rfc4514_string() == "CN=localhost"
    listener.clock.advance(days=89)
    await keep_renewed(listener, monkeypatch, 1, NAMES)
    assert threads == [False, False]


class Names:
    """A store with one host name."""

    async def read(self, body: Any) -> Any:
        return ["localhost"], []


async def test_a_changed_system_clock_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener(tmp_path)
    listener.tls.renew(NAMES)
    first = listener.served()
    listener.clock.advance(days=89)
    await keep_renewed(listener, monkeypatch, 1, NAMES)
    assert listener.served().serial_number != first.serial_number


async def test_a_renewal_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener(tmp_path)
    listener.tls.renew(NAMES)
    first = listener.served()
    listener.clock.advance(days=70)
    attempts: list[int] = []
    make = tempfile.NamedTemporaryFile

    def full_at_first(**arguments: Any) -> Any:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError(28, "No space left on device")
        return make(**arguments)

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full_at_first)
    await keep_renewed(listener, monkeypatch, 4, NAMES)
    assert listener.served().serial_number != first.serial_number


def test_a_renewal_that_failed_is_still_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener(tmp_path)
    listener.tls.renew(NAMES)
    listener.clock.advance(days=70)

    def full(**arguments: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    with pytest.raises(OSError, match="No space left"):
        listener.tls.renew(NAMES)
    assert listener.tls.seconds_until_due() <= 0
