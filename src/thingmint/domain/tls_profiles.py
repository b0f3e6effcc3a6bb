"""Which versions and cipher suites of TLS a listener offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

TlsProfileName = Literal["tls13", "default", "compatible"]

_ECDHE: Final = (
    "AES128-GCM-SHA256",
    "AES128-SHA256",
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "AES256-SHA384",
    "AES256-SHA",
)
_STATIC_RSA: Final = (
    "AES128-GCM-SHA256",
    "AES128-SHA256",
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "AES256-SHA256",
    "AES256-SHA",
)


@dataclass(frozen=True, slots=True)
class TlsProfile:
    """``tls12`` is the list of suites for TLS 1.2, as OpenSSL has it; without one TLS 1.3 is all there is.

    ``static_rsa``: some of them need a certificate with an RSA key.
    """

    tls12: str | None
    static_rsa: bool = False


TLS_PROFILES: Final[dict[TlsProfileName, TlsProfile]] = {
    # AWS IoT's IoTSecurityPolicy_TLS13_1_3_2022_10.
    "tls13": TlsProfile(None),
    # Suites with forward secrecy and AEAD (RFC 9325 4.2); the finite-field ones cost a server too much. AES-128 first:
    # it is the cheapest on both sides, and what small devices have hardware for. No policy of AWS's has just these.
    "default": TlsProfile("ECDHE+AES128+AESGCM:ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AESCCM:!aNULL"),
    # AWS IoT's own default, IoTSecurityPolicy_TLS13_1_2_2022_10, suite for suite: CBC and static RSA too.
    "compatible": TlsProfile(
        ":".join(
            [
                *(f"ECDHE-ECDSA-{suite}" for suite in _ECDHE),
                *(f"ECDHE-RSA-{suite}" for suite in _ECDHE),
                *_STATIC_RSA,
            ]
        ),
        static_rsa=True,
    ),
}

# The same in each profile.
TLS13_SUITES: Final = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
