"""What a device's certificate gives to policies: the variables ``iot:Certificate.*``.

From AWS IoT's guide, "X.509 certificate AWS IoT Core policy variables". Where a field occurs several times, the bare
name is its first value, ``.1`` the second, and ``.List`` stands for all of them; there are five at most.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import defaultdict
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thingmint.domain.policies.decisions import ContextValue


_PREFIX = "iot:Certificate."
_MAX_VALUES = 5  # of one field, in AWS's guide: "Additional items are ignored"

FIELDS = {
    "DistinguishedNameQualifier": NameOID.DN_QUALIFIER,
    "Country": NameOID.COUNTRY_NAME,
    "Organization": NameOID.ORGANIZATION_NAME,
    "OrganizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "State": NameOID.STATE_OR_PROVINCE_NAME,
    "CommonName": NameOID.COMMON_NAME,
    "SerialNumber": NameOID.SERIAL_NUMBER,
    "Title": NameOID.TITLE,
    "Surname": NameOID.SURNAME,
    "GivenName": NameOID.GIVEN_NAME,
    "Initials": NameOID.INITIALS,
    "Pseudonym": NameOID.PSEUDONYM,
    "GenerationQualifier": NameOID.GENERATION_QUALIFIER,
}


def certificate_context(der: bytes) -> Mapping[str, ContextValue]:
    """Condition keys and policy variables; what cannot be read in the certificate has no value, so selects nothing."""
    context: dict[str, ContextValue] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fleets have serial numbers and names that break RFC 5280
            certificate = x509.load_der_x509_certificate(der)
            context["iot:CertificateId"] = context[f"{_PREFIX}CertificateId"] = hashlib.sha256(der).hexdigest()
            context[f"{_PREFIX}SerialNumber"] = f"{certificate.serial_number:x}"
            for name, values in _fields(certificate):
                _put(context, name, values[:_MAX_VALUES])
    except (ValueError, x509.InvalidVersion):
        pass
    if context:
        context[f"{_PREFIX}AvailableKeys"] = sorted(name.removeprefix("iot:") for name in context)
    return context


def _put(context: dict[str, ContextValue], name: str, values: list[str]) -> None:
    if not values:
        return
    key = f"{_PREFIX}{name}"
    context[key] = values[0]
    context[f"{key}.List"] = values
    for position, value in enumerate(values[1:], start=1):
        context[f"{key}.{position}"] = value


def _fields(certificate: x509.Certificate) -> Iterator[tuple[str, list[str]]]:
    for whose, name in (("Subject", certificate.subject), ("Issuer", certificate.issuer)):
        values = defaultdict(list)  # in one pass, as a name can have thousands
        for attribute in name:
            if isinstance(attribute.value, str):
                values[attribute.oid].append(attribute.value)
        for field, oid in FIELDS.items():
            yield f"{whose}.{field}", values[oid]
    extensions = certificate.extensions
    for whose, oid in (
        ("Subject", ExtensionOID.SUBJECT_ALTERNATIVE_NAME),
        ("Issuer", ExtensionOID.ISSUER_ALTERNATIVE_NAME),
    ):
        try:
            names = extensions.get_extension_for_oid(oid).value
        except x509.ExtensionNotFound:
            continue
        if not isinstance(names, x509.SubjectAlternativeName | x509.IssuerAlternativeName):
            continue
        prefix = f"{whose}.AlternativeName"
        yield f"{prefix}.RFC822Name", names.get_values_for_type(x509.RFC822Name)
        yield f"{prefix}.DNSName", names.get_values_for_type(x509.DNSName)
        yield f"{prefix}.UniformResourceIdentifier", names.get_values_for_type(x509.UniformResourceIdentifier)
        yield f"{prefix}.IPAddress", [str(address) for address in names.get_values_for_type(x509.IPAddress)]
        directory = names.get_values_for_type(x509.DirectoryName)
        yield f"{prefix}.DirectoryName", [name.rfc4514_string() for name in directory]
