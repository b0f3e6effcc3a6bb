"""New certificates: issued for a CSR or for a new key pair, or one that the device already has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from cryptography import x509

from thingmint.domain.certificates import find_obstacle, parse_certificate, parse_csr
from thingmint.domain.issuing_ca import DEVICE_SUBJECT, CertificateRequest
from thingmint.domain.keys import CSR_KEYS, OWN_KEYS
from thingmint.domain.status import check_initial
from thingmint.services.certificates import NewCertificate

if TYPE_CHECKING:
    from thingmint.domain.certificates import Certificate, SigningRequest
    from thingmint.domain.issuing_ca import CertificateAuthority
    from thingmint.domain.status import Status
    from thingmint.services.change import Change

_log = structlog.get_logger("thingmint.certificates")


def issue_for_csr(change: Change, csr: str, field: str) -> NewCertificate:
    """Issue a certificate for the key and the subject in ``csr`` (PEM). The same CSR twice gives two certificates.

    Raises InvalidSigningRequest, which names ``field``, and Invalid.
    """
    return issue_for_request(change, parse_csr(csr, field, CSR_KEYS), field)


def issue_for_request(change: Change, csr: SigningRequest, field: str) -> NewCertificate:
    """Issue a certificate for a parsed CSR. Raises InvalidSigningRequest, which names ``field``, and Invalid."""
    change.environment.own_authorities.check_request(csr.subject, csr.public_key, field)
    return NewCertificate(_sign(change, CertificateRequest(csr.subject, csr.public_key)), "csr")


async def issue_with_keys(change: Change, ca: CertificateAuthority | None = None) -> NewCertificate:
    """Issue a certificate for a new key pair. Raises Throttled if too many callers wait for keys."""
    keys = await change.environment.keys.take(change.account)
    return NewCertificate(_sign(change, CertificateRequest(DEVICE_SUBJECT, keys.public_key), ca), "keys", keys)


def prepare_own(change: Change, pem: str, status: Status, field: str) -> NewCertificate:
    """Return the certificate in ``pem``, which the device already has, for registration.

    Raises InvalidState and InvalidCertificate, which names ``field``.
    """
    check_initial(status)
    certificate, public_key = parse_certificate(pem, field, OWN_KEYS)
    change.environment.own_authorities.check(public_key, field)
    return NewCertificate(certificate, "registered", obstacle=find_obstacle(certificate, public_key))


def _sign(change: Change, request: CertificateRequest, ca: CertificateAuthority | None = None) -> Certificate:
    ca = ca or change.environment.device_ca
    return ca.sign(ca.prepare(request, change.now))


def discard(change: Change, new: NewCertificate, error: BaseException | None) -> None:
    """Log and count a certificate that was signed but neither registered nor returned to the caller.

    If ``error`` is Unavailable or CancelledError, it may have been registered.
    """
    if new.origin == "registered":
        return
    change.environment.counts["certificates_discarded"] += 1
    certificate = new.certificate
    _log.warning(
        "certificate_discarded",
        account=change.account,
        fingerprint=certificate.fingerprint,
        serial=f"{x509.load_der_x509_certificate(certificate.der).serial_number:x}",
        reason="repeated call" if error is None else type(error).__name__,
    )
