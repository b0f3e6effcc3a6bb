"""The TLS versions and cipher suites that a listener can offer."""

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
    """``tls12`` is the cipher list for TLS 1.2 in OpenSSL's syntax; if it is None, only TLS 1.3 is offered.

    ``static_rsa`` is true if some of the suites need a server certificate with an RSA key.
    """

    tls12: str | None
    static_rsa: bool = False


TLS_PROFILES: Final[dict[TlsProfileName, TlsProfile]] = {
    # AWS IoT's IoTSecurityPolicy_TLS13_1_3_2022_10.
    "tls13": TlsProfile(None),
    # Suites with forward secrecy and AEAD (RFC 9325 4.2). Those with finite-field DH are left out: they cost a server
    # too much. AES-128 comes first: it is the cheapest on both sides, and small devices have hardware for it. None of
    # AWS's security policies has exactly this list.
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

# All profiles have these suites.
TLS13_SUITES: Final = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
