"""Rules of the devices' door that hang on nothing but facts: who is let in, whatever the policies say."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping


# Policies put a client id into patterns of ARNs, and topics are made of them. AWS does not substitute a value with one
# of these, which turns a plain Deny on ${iot:ClientId} into nothing: nobody comes in under such a name.
_UNUSABLE = frozenset("*$+?#")

_WEAK_RSA = 2048  # bits
_BROKEN_RSA = 1024


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """An account's switches. AWS IoT's behaviour is the default where AWS has one."""

    check_validity: bool = True
    """Refuse certificates outside their validity; those bound to a Yandex device or registry are pins, never asked."""
    weak_keys: bool = False
    """Let RSA keys of 1024 to 2047 bits in."""
    keys_over_mqtt: bool = True
    """Make key pairs for devices that ask over MQTT; without it they have to send a signing request."""
    ca_status_gates_devices: bool = False
    """Refuse devices whose CA certificate is INACTIVE, deleted or not valid now, where AWS goes by their own alone."""
    suback_refusals: bool = False
    """MQTT 3.1.1: answer a refused subscription with 0x80, where AWS closes the connection."""
    retained_on_wildcards: bool = False
    """Send retained messages to filters with a wildcard, as MQTT says; AWS sends them to exact filters only."""

    @classmethod
    def of(cls, stored: Mapping[str, str]) -> DoorSettings:
        return cls(**{name: value == "true" for name, value in stored.items() if name in SETTINGS})


SETTINGS: Mapping[str, bool] = {field: getattr(DoorSettings(), field) for field in DoorSettings.__slots__}
"""Names and defaults."""


def client_id_flaw(client_id: str) -> str | None:
    """What is wrong with it, as a phrase, or None."""
    if not client_id.isprintable():
        return "has characters that cannot be printed"
    if not _UNUSABLE.isdisjoint(client_id):
        return "has one of * $ + ? #, which policy variables cannot hold"
    return None


def key_flaw(der: bytes, *, weak_keys: bool) -> str | None:
    """What is wrong with a certificate's key, as a phrase that fits after "has", or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            key = x509.load_der_x509_certificate(der).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        return "a key that cannot be read"
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size >= _WEAK_RSA:
        return None
    if key.key_size < _BROKEN_RSA:
        return f"an RSA key of {key.key_size} bits, which anybody can break"
    return None if weak_keys else f"an RSA key of {key.key_size} bits; the account's setting weak_keys would let it in"


def parse_switch(name: str, value: str) -> bool:
    """A setting's value as somebody wrote it. Raises Invalid."""
    if name not in SETTINGS:
        raise Invalid("name", f"must be one of {', '.join(SETTINGS)}")
    if value not in ("true", "false"):
        raise Invalid("value", "must be true or false")
    return value == "true"
