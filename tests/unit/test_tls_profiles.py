"""The suites of each profile, over MQTT and HTTPS, in handshakes with clients that offer a single suite."""

from __future__ import annotations

import contextlib
import ssl
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from OpenSSL import SSL

from tests.unit import vectors
from thingmint.domain.certificate_profiles import listener_profile
from thingmint.domain.server_certificates import ServerCertificate
from thingmint.domain.tls_profiles import TLS_PROFILES, TlsProfileName
from thingmint.mqtt.tls.contexts import Contexts, Negotiation, build_context
from thingmint.settings import ConfigError, load
from thingmint.settings.tables import TlsProfileSettings
from thingmint.tls import ListenerTLS

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

# AWS IoT's guide, "Security policies": IoTSecurityPolicy_TLS13_1_2_2022_10.
FORWARD_SECRET = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
]
OLD = [
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES128-SHA256",
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "AES256-SHA256",
    "AES256-SHA",
]
OURS = ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-CCM"]
NO_ONES = [
    "DHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES256-SHA",
    "ECDHE-ECDSA-CAMELLIA128-SHA256",
    "ECDHE-ECDSA-ARIA128-GCM-SHA256",
    "CAMELLIA128-SHA",
    "AES128-CCM",
]
TLS13 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]

TAKEN: dict[TlsProfileName, list[str]] = {
    "tls13": TLS13,
    "default": [*TLS13, *FORWARD_SECRET, *OURS],
    "compatible": [*TLS13, *FORWARD_SECRET, *OLD],
}
ALL = [*TLS13, *FORWARD_SECRET, *OLD, *OURS, *NO_ONES]


def client(suite: str) -> SSL.Connection:
    """A client that offers only this suite."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if suite in TLS13:
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_tls13_ciphersuites(suite.encode())
    else:
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(f"{suite}:@SECLEVEL=0".encode())
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    return connection


class OnDevicesPort:
    def __init__(self, profile: TlsProfileName) -> None:
        identities = [self._identity(key) for key in (vectors.ec_key(), vectors.rsa_key())]
        self._context = build_context(*identities, profile=TLS_PROFILES[profile])

    @staticmethod
    def _identity(key: CertificateIssuerPrivateKeyTypes) -> ServerCertificate:
        return ServerCertificate(vectors.certificate(key.public_key()), key)  # type: ignore[arg-type]  # EC or RSA

    def takes(self, suite: str) -> bool:
        server = SSL.Connection(self._context, None)
        server.set_app_data(Negotiation(Contexts(self._context), (), False))
        server.set_accept_state()
        asking = client(suite)
        try:
            for _ in range(4):
                for one, other in ((asking, server), (server, asking)):
                    with contextlib.suppress(SSL.WantReadError):
                        one.do_handshake()
                    with contextlib.suppress(SSL.WantReadError):
                        other.bio_write(one.bio_read(65536))
        except SSL.Error:
            return False
        assert asking.get_cipher_name() == suite
        return True


class OnHttpsPort:
    def __init__(self, profile: TlsProfileName, scratch: Path) -> None:
        authority = vectors.authority(profile=listener_profile(timedelta(days=90)))
        self._tls = ListenerTLS(authority, scratch, vectors.FakeClock(), TLS_PROFILES[profile])
        self._tls.renew(["localhost"])

    def takes(self, suite: str) -> bool:
        upwards, downwards = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = self._tls.context().wrap_bio(upwards, downwards, server_side=True)
        asking = client(suite)
        try:
            for _ in range(4):
                with contextlib.suppress(SSL.WantReadError):
                    asking.do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    upwards.write(asking.bio_read(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    server.do_handshake()
                if downwards.pending:
                    asking.bio_write(downwards.read())
        except (ssl.SSLError, SSL.Error):
            return False
        assert asking.get_cipher_name() == suite
        return True


@pytest.mark.parametrize("profile", TAKEN)
def test_suites_of_the_mqtt_port(profile: TlsProfileName) -> None:
    port = OnDevicesPort(profile)
    assert [suite for suite in ALL if port.takes(suite)] == [suite for suite in ALL if suite in TAKEN[profile]]


@pytest.mark.parametrize("profile", TAKEN)
def test_suites_of_the_https_port(profile: TlsProfileName, tmp_path: Path) -> None:
    """Only profiles for old clients have a certificate with an RSA key too."""
    port = OnHttpsPort(profile, tmp_path)
    expected = [suite for suite in TAKEN[profile] if profile == "compatible" or "-RSA-" not in suite]
    assert [suite for suite in ALL if port.takes(suite)] == [suite for suite in ALL if suite in expected]


def test_the_rsa_certificate_allows_key_encipherment(tmp_path: Path) -> None:
    """mbedTLS and GnuTLS require that key usage for static RSA."""
    authority = vectors.authority(profile=listener_profile(timedelta(days=90)))
    tls = ListenerTLS(authority, tmp_path, vectors.FakeClock())
    tls.renew(["localhost"])
    shown = tls.follow("mqtt")()
    assert shown is not None
    usages = [each.certificate.extensions.get_extension_for_class(x509.KeyUsage).value for each in shown.default]
    assert [usage.key_encipherment for usage in usages] == [False, True]
    assert all(usage.digital_signature for usage in usages)


class TestSettings:
    def test_each_listener_has_its_own_profile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "thingmint.toml").write_text('[tls_profile]\napi = "tls13"\nmqtt = "tls13"\n')
        monkeypatch.setenv("THINGMINT_TLS_PROFILE__MQTT", "compatible")
        assert load({}).tls_profile == TlsProfileSettings(api="tls13", mqtt="compatible")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('[tls_profile]\nmqtt = "tls12"', "tls-profile.mqtt: must be tls13, default or compatible"),
            ("[tls_profile]\nmqtt = 3", "tls-profile.mqtt: "),
            ("[tls_profile]\napi = true", "tls-profile.api: "),
            ('[tls_profile]\ngrpc = "tls13"', "tls_profile.grpc: is not a setting"),
            ('[tls_profile]\nmqt = "tls13"', "tls_profile.mqt: is not a setting; did you mean mqtt?"),
            ('tls_profile = "tls13"', "tls-profile: "),
        ],
    )
    def test_wrong_profiles_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "thingmint.toml").write_text(text)
        with pytest.raises(ConfigError) as refused:
            load({})
        assert str(refused.value).startswith(message)

    def test_a_wrong_variable_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("THINGMINT_TLS_PROFILE__MQTT", "tls12")
        with pytest.raises(ConfigError, match=r"tls-profile\.mqtt: must be"):
            load({})
