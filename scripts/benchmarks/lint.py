"""The cost of linting a certificate before the CA's key signs it: signs with and without lint, in this process."""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from thingmint.domain.certificate_profiles import DEVICE
from thingmint.domain.certificates import Certificate
from thingmint.domain.issuing_ca import DEVICE_SUBJECT, CertificateAuthority, CertificateRequest, make_root

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["lint_cost"]

_ROUND = 50  # certificates each way, in turn, so that other load affects both alike


def lint_cost(count: int) -> float:
    """CPU seconds for one device certificate (P-256, with a P-256 CA): the median of ``count`` certificates.

    This is the time of `prepare` and `sign` minus the time to build and sign a certificate with the same content. It
    covers the throw-away signature, the checks, and a few microseconds for checking the request.
    """
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    authority = CertificateAuthority(make_root("Benchmark", key, now), key, DEVICE)
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    request = CertificateRequest(DEVICE_SUBJECT, public_key)
    issued = x509.load_der_x509_certificate(authority.sign(authority.prepare(request, now)).der)
    extensions = list(issued.extensions)
    issuer, begins, ends = issued.issuer, issued.not_valid_before_utc, issued.not_valid_after_utc

    def linted() -> None:
        authority.sign(authority.prepare(request, now))

    def unchecked() -> None:
        builder = (
            x509.CertificateBuilder()
            .serial_number(x509.random_serial_number())
            .issuer_name(issuer)
            .subject_name(DEVICE_SUBJECT)
            .public_key(public_key)
            .not_valid_before(begins)
            .not_valid_after(ends)
        )
        for extension in extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        Certificate.of(builder.sign(key, hashes.SHA256()))

    _cpu(linted)
    _cpu(unchecked)
    return statistics.median(_cpu(linted) - _cpu(unchecked) for _ in range(max(1, count // _ROUND)))


def _cpu(call: Callable[[], None]) -> float:
    start = time.process_time()
    for _ in range(_ROUND):
        call()
    return (time.process_time() - start) / _ROUND
