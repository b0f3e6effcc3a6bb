"""The parameters that a certificate itself gives to the template it is provisioned by."""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from thingmint.domain.errors import InvalidCertificate

if TYPE_CHECKING:
    from cryptography import x509


PSEUDO_PREFIX: Final = "AWS::"
_PREFIX: Final = "AWS::IoT::Certificate::"
CERTIFICATE_ID: Final = f"{_PREFIX}Id"

_ATTRIBUTES: Final = {
    "Country": NameOID.COUNTRY_NAME,
    "Organization": NameOID.ORGANIZATION_NAME,
    "OrganizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "DistinguishedNameQualifier": NameOID.DN_QUALIFIER,
    "StateName": NameOID.STATE_OR_PROVINCE_NAME,
    "CommonName": NameOID.COMMON_NAME,
    "SerialNumber": NameOID.SERIAL_NUMBER,
}


def subject_parameters(certificate: x509.Certificate) -> dict[str, str]:
    """The id, and what there is of the subject: of several values the first. Raises InvalidCertificate."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a country of three letters is still the device's
            subject = certificate.subject
    except ValueError:
        raise InvalidCertificate("certificate", "has a subject that cannot be read") from None
    found = {CERTIFICATE_ID: hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()}
    for name, oid in _ATTRIBUTES.items():
        values = subject.get_attributes_for_oid(oid)
        if values and isinstance(values[0].value, str):
            found[f"{_PREFIX}{name}"] = values[0].value
    return found
