"""The profiles of the certificates that we issue: their contents and lifetimes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from thingmint.domain.keys import CSR_KEYS, KeyPolicy


def _key_usage(*, signs_certificates: bool, key_encipherment: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


_DIGITAL_SIGNATURE = _key_usage(signs_certificates=False)
_ENCIPHERMENT_TOO = _key_usage(signs_certificates=False, key_encipherment=True)
_SIGNS_CERTIFICATES = _key_usage(signs_certificates=True)
_NO_CA = x509.BasicConstraints(ca=False, path_length=None)
_CA_OF_END_ENTITIES = x509.BasicConstraints(ca=True, path_length=0)
_SERVER_AUTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


@dataclass(frozen=True, slots=True)
class Profile:
    """The contents of one kind of certificate, and its validity: until ``not_after``, or for ``lifetime`` from now.

    Only certificates with ``server_auth`` have a subjectAltName.
    """

    keys: KeyPolicy
    backdate: timedelta
    not_after: datetime | None = None
    lifetime: timedelta = timedelta(0)
    server_auth: bool = False
    ca: bool = False
    key_encipherment: bool = False

    def end(self, now: datetime) -> datetime:
        return self.not_after or now + self.lifetime

    @property
    def basic_constraints(self) -> x509.BasicConstraints:
        return _CA_OF_END_ENTITIES if self.ca else _NO_CA

    @property
    def key_usage(self) -> x509.KeyUsage:
        if self.ca:
            return _SIGNS_CERTIFICATES
        return _ENCIPHERMENT_TOO if self.key_encipherment else _DIGITAL_SIGNATURE

    @property
    def extended_key_usage(self) -> x509.ExtendedKeyUsage | None:
        return _SERVER_AUTH if self.server_auth else None


# The shape of the device certificates that AWS IoT has issued since 2019: no extended key usage, no SAN, and an end
# that is the last second which UTCTime can express (RFC 5280 4.1.2.5).
DEVICE = Profile(keys=CSR_KEYS, backdate=timedelta(minutes=2), not_after=datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC))


# Claim certificates that trusted users request for devices: those of AWS's CreateProvisioningClaim last five minutes.
CLAIM = Profile(keys=CSR_KEYS, backdate=timedelta(minutes=2), lifetime=timedelta(minutes=5))


# A root is valid for longer than every device certificate, and must not sign CA certificates (pathLenConstraint 0).
ROOT = Profile(
    keys=CSR_KEYS, backdate=timedelta(hours=1), not_after=datetime(2059, 12, 31, 23, 59, 59, tzinfo=UTC), ca=True
)


def listener_profile(lifetime: timedelta) -> Profile:
    """Return the profile of the TLS server certificates for our own listeners."""
    return Profile(keys=CSR_KEYS, backdate=timedelta(minutes=2), lifetime=lifetime, server_auth=True)
