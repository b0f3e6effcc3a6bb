"""The TLS of the instance's listeners: their own certificate, which is issued at start and renewed, and other ones.

The key of the own certificate is never stored.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from thingmint.domain.errors import Invalid
from thingmint.domain.issuing_ca import CertificateRequest
from thingmint.domain.names import is_loopback
from thingmint.domain.server_certificates import (
    TLS_LISTENERS,
    ServerCertificate,
    ShownCertificates,
    at_name,
    choose_shown,
    name_in,
)
from thingmint.domain.tls_profiles import TLS_PROFILES
from thingmint.mqtt.tls.contexts import build_context
from thingmint.tls.contexts import server_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from thingmint.domain.certificate_profiles import Profile
    from thingmint.domain.certificates import Certificate
    from thingmint.domain.issuing_ca import CertificateAuthority
    from thingmint.domain.keys import SigningKey
    from thingmint.domain.server_certificates import PlacedCertificate, TlsListenerName
    from thingmint.domain.tls_profiles import TlsProfile


_Keys = tuple[ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey]

_LONGEST_SLEEP = 3600.0  # seconds; not longer, as the system clock may be set meanwhile
_RETRY_AFTER = 30.0  # seconds

_log = structlog.get_logger("thingmint.tls")


class ListenerTLS:
    """Makes HTTPS's TLS contexts, and gives other listeners their certificates. Open connections stay as they are."""

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
        self._hostnames: Sequence[str] = ()
        self._own: tuple[ServerCertificate, ...] = ()
        self._placed: Sequence[PlacedCertificate] = ()
        self._shown: Mapping[TlsListenerName, ShownCertificates] = {}
        # HTTPS's contexts, by host name.
        self._by_name: dict[str, ssl.SSLContext] = {}
        self._default = server_context(profile)
        self._api_names: frozenset[str] = frozenset()
        self._uncovered: dict[str, list[str]] = {}

    async def renew_without_blocking(
        self, hostnames: Callable[[], Sequence[str]], profile: Profile | None = None
    ) -> None:
        """Does as ``renew`` does, for the ``hostnames`` at the end. An RSA key takes up to 0.3 s: a thread makes it."""
        keys = await asyncio.to_thread(_new_keys)
        self.renew(hostnames(), profile, keys)

    def renew(self, hostnames: Sequence[str], profile: Profile | None = None, keys: _Keys | None = None) -> None:
        """Issues and loads certificates for ``hostnames`` and new keys. A ``profile`` replaces the current one."""
        if profile is not None:
            self._authority, self._rsa_authority = _authorities(self._authority, profile)
        key, rsa_key = keys or _new_keys()
        certificate = self._issue(self._authority, hostnames, key.public_key())
        rsa_certificate = self._issue(self._rsa_authority, hostnames, rsa_key.public_key())
        own = (_server_certificate(certificate, key), _server_certificate(rsa_certificate, rsa_key))
        self._show(own, hostnames, self._placed)
        self._certificate = certificate
        _log.info("listener_certificate_issued", names=list(hostnames), ends=certificate.not_after.isoformat())

    def context(self, name: str | None = None) -> ssl.SSLContext:
        """HTTPS's context for clients that ask for this host name, in lower case."""
        return at_name(self._by_name, name) or self._default

    def check(self, placed: Sequence[PlacedCertificate]) -> None:
        """Raises Invalid if the certificates cannot be shown together, or OpenSSL refuses one of them."""
        _shown(placed, self._own, self._hostnames)
        for each in placed:
            try:
                server_context(self._profile, (each.certificate,), self._scratch)
                build_context(each.certificate)
            except (ssl.SSLError, ValueError) as error:
                raise Invalid(each.setting, f"is refused by OpenSSL: {error}") from None

    def place(self, placed: Sequence[PlacedCertificate]) -> None:
        """Shows the certificates, which check() has accepted, to new connections."""
        self._show(self._own, self._hostnames, placed)

    def follow(self, listener: TlsListenerName) -> Callable[[], ShownCertificates | None]:
        """A function for listeners that do not use ``context``: it returns the certificates that they show.

        Later calls return None until the next change.
        """
        given: ShownCertificates | None = None

        def changed() -> ShownCertificates | None:
            nonlocal given
            shown = self._shown[listener]
            if shown is given:
                return None
            given = shown
            return given

        return changed

    def ends(self) -> Iterator[tuple[TlsListenerName, str, datetime]]:
        """When certificates end, by listener and host name; * is for all other host names."""
        for listener, name, certificates in self.certificates():
            yield listener, name, min(each.not_after for each in certificates)

    def certificates(self) -> Iterator[tuple[TlsListenerName, str, Sequence[ServerCertificate]]]:
        """The certificates by listener and host name; * is for all other host names."""
        for listener, shown in self._shown.items():
            for name, certificates in {"*": shown.default, **shown.by_name}.items():
                yield listener, name, certificates

    def shows_own(self, listener: TlsListenerName, hostname: str) -> bool:
        """True if clients that ask for the host name have to trust the instance's own root."""
        return self._shown[listener].of(hostname.lower()) is self._own

    def api_names(self) -> frozenset[str]:
        """The host names and wildcards, in lower case, that HTTPS's certificates are for."""
        return self._api_names

    def _show(
        self, own: tuple[ServerCertificate, ...], hostnames: Sequence[str], placed: Sequence[PlacedCertificate]
    ) -> None:
        shown = _shown(placed, own, hostnames)
        api, made = shown["api"], {}
        for certificates in (api.default, *api.by_name.values()):
            if id(certificates) not in made:
                # Without static RSA all of HTTPS's clients can use the P-256 certificate.
                loaded = own[:1] if certificates is own and not self._profile.static_rsa else certificates
                made[id(certificates)] = server_context(self._profile, loaded, self._scratch)
        self._default = made[id(api.default)]
        self._by_name = {name: made[id(certificates)] for name, certificates in api.by_name.items()}
        kept = [*api.default, *(each for certificates in api.by_name.values() for each in certificates)]
        self._api_names = frozenset(name.lower() for each in kept for name in each.names)
        self._own, self._hostnames, self._placed, self._shown = own, hostnames, placed, shown
        self._warn_of_names()

    def _warn_of_names(self) -> None:
        """Logs the host names that a default certificate does not cover, if they changed."""
        others = {name for each in self._placed for name in each.names}
        names = [name for name in self._hostnames if name_in(others, name.lower()) is None]
        for each in self._placed:
            if each.names:
                continue
            covered = [name for name in names if each.certificate.covers(name.lower())]
            # Certificates from elsewhere do not cover this machine's own addresses.
            missing = [name for name in names if name not in covered and not (covered and is_loopback(name))]
            if missing and missing != self._uncovered.get(each.setting):
                _log.warning("server_certificate_not_for_all_names", setting=each.setting, names=missing)
            self._uncovered[each.setting] = missing

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
                await self.renew_without_blocking(hostnames)
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


def _new_keys() -> _Keys:
    """The keys of the own certificates: P-256, and RSA for clients without elliptic curves."""
    return ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _authorities(authority: CertificateAuthority, profile: Profile) -> tuple[CertificateAuthority, ...]:
    """The authority for the P-256 key's certificate, and the authority for the RSA key's."""
    # With static RSA clients encrypt with the key (RFC 5246 7.4.2), and some check its certificate for that key usage.
    return authority.with_profile(profile), authority.with_profile(replace(profile, key_encipherment=True))


def _shown(
    placed: Sequence[PlacedCertificate], own: tuple[ServerCertificate, ...], hostnames: Sequence[str]
) -> Mapping[TlsListenerName, ShownCertificates]:
    """Raises Invalid."""
    return {listener: choose_shown(placed, listener, own, hostnames) for listener in TLS_LISTENERS}


def _server_certificate(certificate: Certificate, key: SigningKey) -> ServerCertificate:
    return ServerCertificate(x509.load_der_x509_certificate(certificate.der), key)
