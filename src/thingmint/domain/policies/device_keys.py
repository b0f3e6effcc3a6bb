"""The condition keys and policy variables that have values for devices (AWS IoT's guide, "Policy variables").

The keys from a device's certificate, ``iot:Certificate.*``, are described in the same guide ("X.509 certificate AWS IoT
Core policy variables"). If a field occurs several times, the name alone is its first value, ``.1`` the second, and
``.List`` all of them, at most five.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import warnings
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from thingmint.domain.ber import Malformed
from thingmint.domain.certificate_parts import CertificateParts
from thingmint.domain.distinguished_names import texts_in, texts_of
from thingmint.domain.policies.decisions import Request
from thingmint.domain.x509_pieces import UNREADABLE_EXTENSIONS, read_extensions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thingmint.domain.distinguished_names import Texts
    from thingmint.domain.policies.decisions import ContextValue
    from thingmint.domain.policies.statements import Policy, Statement


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


class _Content(NamedTuple):
    """The parts of a certificate that keys are made from.

    ``extensions`` is None if an extension occurs twice or cannot be read.
    """

    serial: int
    subject: Texts
    issuer: Texts
    extensions: x509.Extensions | None


def certificate_context(der: bytes) -> Mapping[str, ContextValue]:
    """Return the condition keys of a certificate. A field that cannot be read has no value, so it matches nothing."""
    try:
        content = _read(der)
    except Malformed:
        return {}
    fingerprint = hashlib.sha256(der).hexdigest()
    context: dict[str, ContextValue] = {
        "iot:CertificateId": fingerprint,
        f"{_PREFIX}CertificateId": fingerprint,
        f"{_PREFIX}SerialNumber": f"{content.serial:x}",
    }
    for name, values in _fields(content):
        _put(context, name, values[:_MAX_VALUES])
    context[f"{_PREFIX}AvailableKeys"] = sorted(name.removeprefix("iot:") for name in context)
    return context


def _read(der: bytes) -> _Content:
    """Parse a certificate, leniently if the strict reader refuses it. Raises Malformed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fleets have serial numbers and names that RFC 5280 forbids
        try:
            certificate = x509.load_der_x509_certificate(der)
            names = texts_in(certificate.subject), texts_in(certificate.issuer)
            return _Content(certificate.serial_number, *names, certificate.extensions)
        except (ValueError, TypeError, *UNREADABLE_EXTENSIONS, x509.InvalidVersion):
            parts = CertificateParts.of(der)
    extensions = None
    if parts.extensions is not None:
        with contextlib.suppress(ValueError):
            extensions = read_extensions(parts.extensions)
    return _Content(parts.serial, texts_of(parts.subject), texts_of(parts.issuer), extensions)


def _put(context: dict[str, ContextValue], name: str, values: list[str]) -> None:
    if not values:
        return
    key = f"{_PREFIX}{name}"
    context[key] = values[0]
    context[f"{key}.List"] = values
    for position, value in enumerate(values[1:], start=1):
        context[f"{key}.{position}"] = value


def _fields(content: _Content) -> Iterator[tuple[str, list[str]]]:
    for whose, texts in (("Subject", content.subject), ("Issuer", content.issuer)):
        values = defaultdict(list)  # in one pass, as a name can have thousands
        for attribute, text in texts:
            values[attribute].append(text)
        for field, attribute in FIELDS.items():
            yield f"{whose}.{field}", values[attribute]
    for whose, oid in (
        ("Subject", ExtensionOID.SUBJECT_ALTERNATIVE_NAME),
        ("Issuer", ExtensionOID.ISSUER_ALTERNATIVE_NAME),
    ):
        try:
            names = content.extensions.get_extension_for_oid(oid).value if content.extensions is not None else None
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


_ALTERNATIVE_NAMES = "RFC822Name|DNSName|DirectoryName|UniformResourceIdentifier|IPAddress"
KNOWN_KEYS = re.compile(
    "aws:(SourceIp|CurrentTime|EpochTime)"
    "|iot:(ClientId|ConnectAttributes|LastWillTopic|DomainName|CertificateId)"
    r"|iot:Connection\.Thing\.(ThingName|ThingTypeName|IsAttached|Attributes\[.+\])"
    r"|iot:Certificate\.(CertificateId|SerialNumber|AvailableKeys"
    rf"|(Subject|Issuer)\.({'|'.join(FIELDS)}|AlternativeName\.({_ALTERNATIVE_NAMES}))(\.([0-9]+|List))?)",
    re.ASCII | re.IGNORECASE,
)


def unknown_keys(policy: Policy) -> list[str]:
    """Return the keys and variables of a device policy that never have a value.

    Conditions and resources that depend on them never match. AWS accepts such policies: they can be meant for AWS
    features that this server does not have.
    """
    named = dict.fromkeys(name for statement in policy.statements for name in named_keys(statement))
    return [name for name in named if not KNOWN_KEYS.fullmatch(name)]


def named_keys(statement: Statement) -> Iterator[str]:
    """Yield the condition keys of a statement, and the variables that have no default, as they are written."""
    nothing = Request("", "")
    if statement.resources is not None:
        yield from statement.resources.patterns.unresolved(nothing)
    for condition in statement.conditions:
        yield condition.key
        yield from condition.unresolved(nothing)
