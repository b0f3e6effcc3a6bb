"""The template parameters that come from the provisioned certificate."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from cryptography.x509.oid import NameOID

from thingmint.domain.distinguished_names import texts_of

if TYPE_CHECKING:
    from cryptography import x509

    from thingmint.domain.certificate_parts import CertificateParts


PSEUDO_PREFIX: Final = "AWS::"
CERTIFICATE_PREFIX: Final = "AWS::IoT::Certificate::"
CERTIFICATE_ID: Final = f"{CERTIFICATE_PREFIX}Id"

_ATTRIBUTES: Final = {
    "Country": NameOID.COUNTRY_NAME,
    "Organization": NameOID.ORGANIZATION_NAME,
    "OrganizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "DistinguishedNameQualifier": NameOID.DN_QUALIFIER,
    "StateName": NameOID.STATE_OR_PROVINCE_NAME,
    "CommonName": NameOID.COMMON_NAME,
    "SerialNumber": NameOID.SERIAL_NUMBER,
}


def subject_parameters(certificate: CertificateParts) -> dict[str, str]:
    """Return the certificate's id and the attributes of its subject. The first of several values counts."""
    texts: dict[x509.ObjectIdentifier, str] = {}
    for oid, text in texts_of(certificate.subject):
        texts.setdefault(oid, text)
    found = {CERTIFICATE_ID: hashlib.sha256(certificate.der).hexdigest()}
    return found | {f"{CERTIFICATE_PREFIX}{name}": texts[oid] for name, oid in _ATTRIBUTES.items() if oid in texts}
