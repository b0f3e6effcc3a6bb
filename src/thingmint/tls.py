"""The certificate of the instance's listeners: issued at start, renewed while they run. Its key is never stored."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from thingmint.domain.errors import Invalid
from thingmint.domain.issuing_ca import CertificateRequest
from thingmint.domain.tls_profiles import TLS_PROFILES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from thingmint.domain.certificate_profiles import Profile
    from thingmint.domain.certificates import Certificate
    from thingmint.domain.issuing_ca import CertificateAuthority
    from thingmint.domain.tls_profiles import TlsProfile


_LONGEST_SLEEP = 3600.0  # seconds; not longer, as the system clock may be set meanwhile
_RETRY_AFTER = 30.0  # seconds

_log = structlog.get_logger("thingmint.tls")


class ListenerTLS:
    """``context`` is the listeners' TLS context. A renewal changes it in place and leaves connections open."""

    def __init__(
        self,
        authority: CertificateAuthority,
        scratch: Path,
        clock: Callable[[], datetime],
        profile: TlsProfile = TLS_PROFILES["default"],
    ) -> None:
        self._authority, self._rsa_authority = _authorities(authority, authority.profile)
        self._profile = profile
        self._scratch = scratch
        self._clock = clock
        self._certificate: Certificate | None = None
        self._material: list[tuple[bytes, bytes]] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if profile.tls12 is None:
            self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        else:
            self.context.minimum_version = ssl.TLSVersion.TLSv1_2
            self.context.set_ciphers(profile.tls12)
        self.context.set_alpn_protocols(["http/1.1"])

    def renew(self, hostnames: Sequence[str], profile: Profile | None = None) -> None:
        """Issues and loads a new key and certificate for ``hostnames``. A ``profile`` replaces the current one."""
        if profile is not None:
            self._authority, self._rsa_authority = _authorities(self._authority, profile)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._issue(self._authority, hostnames, key.public_key())
        # For clients without elliptic curves.
        rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        rsa_certificate = self._issue(self._rsa_authority, hostnames, rsa_key.public_key())
        if self._profile.static_rsa:
            self._load(rsa_key, rsa_certificate)
        self._load(key, certificate)
        self._certificate = certificate
        # A new list: follow() compares its identity.
        self._material = [(_pem_of(key), certificate.pem.encode()), (_pem_of(rsa_key), rsa_certificate.pem.encode())]
        _log.info("listener_certificate_issued", names=list(hostnames), ends=certificate.not_after.isoformat())

    def _load(self, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, certificate: Certificate) -> None:
        """ssl loads keys from files only, so the file is encrypted with a password that is never stored."""
        password = secrets.token_bytes(32).hex()
        encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode()))
        with tempfile.NamedTemporaryFile(dir=self._scratch, prefix=".listener-") as file:
            file.write(encrypted + certificate.pem.encode())
            file.flush()
            self.context.load_cert_chain(file.name, password=password)

    def follow(self) -> Callable[[], Sequence[tuple[bytes, bytes]] | None]:
        """A function for listeners that do not use ``context``: it returns keys and certificates in PEM.

        The first pair is P-256, the second RSA-2048. Later calls return None until the next renewal.
        """
        given: list[tuple[bytes, bytes]] | None = None

        def changed() -> Sequence[tuple[bytes, bytes]] | None:
            nonlocal given
            if self._material is given:
                return None
            given = self._material
            return given

        return changed

    def seconds_until_due(self) -> float:
        """Seconds until the last third of the certificate's lifetime begins."""
        assert self._certificate is not None, "renew() comes first"
        reserve = self._authority.profile.lifetime / 3
        return (self._certificate.not_after - reserve - self._clock()).total_seconds()

    async def keep_renewed(self, hostnames: Callable[[], Sequence[str]]) -> None:
        """Renews the certificate whenever it is due, for the ``hostnames`` of that moment. Never returns."""
        while True:
            wait = self.seconds_until_due()
            if wait > 0:
                await asyncio.sleep(min(wait, _LONGEST_SLEEP))
                continue
            try:
                self.renew(hostnames())
            except Invalid as error:  # the clock is outside of the root's validity
                _log.error("listener_certificate_not_renewed", why=str(error), clock=self._clock().isoformat())
                await asyncio.sleep(_RETRY_AFTER)
            except Exception:  # noqa: BLE001 - a third of the lifetime is left to try again
                _log.exception("listener_certificate_not_renewed")
                await asyncio.sleep(_RETRY_AFTER)

    def _issue(self, authority: CertificateAuthority, hostnames: Sequence[str], key: PublicKeyTypes) -> Certificate:
        # RFC 5280 limits the common name to 64 characters. It is for people: clients check the SAN.
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostnames[0][:64])])
        request = CertificateRequest(subject, key, hostnames)
        return authority.sign(authority.prepare(request, self._clock()))


def _authorities(authority: CertificateAuthority, profile: Profile) -> tuple[CertificateAuthority, ...]:
    """The authority for the P-256 key's certificate, and the authority for the RSA key's."""
    # With static RSA clients encrypt with the key (RFC 5246 7.4.2), and some check its certificate for that key usage.
    return authority.with_profile(profile), authority.with_profile(replace(profile, key_encipherment=True))


def _pem_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
