"""The template parameters from a certificate's subject."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.unit.domain.templates.helpers import CERTIFICATE
from thingmint.domain.certificate_parts import CertificateParts
from thingmint.domain.errors import InvalidParameters
from thingmint.domain.templates import Kind, parse_template, subject_parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "AWS::IoT::Certificate::"
ALL = {
    "Country": (NameOID.COUNTRY_NAME, "DE"),
    "Organization": (NameOID.ORGANIZATION_NAME, "Lamps"),
    "OrganizationalUnit": (NameOID.ORGANIZATIONAL_UNIT_NAME, "Desk"),
    "DistinguishedNameQualifier": (NameOID.DN_QUALIFIER, "q"),
    "StateName": (NameOID.STATE_OR_PROVINCE_NAME, "Bayern"),
    "CommonName": (NameOID.COMMON_NAME, "lamp-7"),
    "SerialNumber": (NameOID.SERIAL_NUMBER, "0007"),
}


def certificate(attributes: Sequence[x509.NameAttribute[str]]) -> CertificateParts:
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a maker")]))
        .public_key(key.public_key())
        .serial_number(99)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
        .sign(key, SHA256())
    )
    return CertificateParts.of(made.public_bytes(Encoding.DER))


def test_all_attributes_of_a_subject() -> None:
    made = certificate([x509.NameAttribute(oid, value) for oid, value in ALL.values()])
    assert subject_parameters(made) == {
        f"{PREFIX}Id": hashlib.sha256(made.der).hexdigest(),
        **{f"{PREFIX}{name}": value for name, (_, value) in ALL.items()},
    }


def test_an_empty_subject_gives_only_the_id() -> None:
    assert list(subject_parameters(certificate([]))) == [f"{PREFIX}Id"]


def test_the_first_of_several_values_counts() -> None:
    made = certificate([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in ("one", "two")])
    assert subject_parameters(made)[f"{PREFIX}OrganizationalUnit"] == "one"


def test_an_invalid_country_is_passed_on() -> None:
    with pytest.warns(UserWarning, match="length"):
        made = certificate([x509.NameAttribute(NameOID.COUNTRY_NAME, "Bavaria", _validate=False)])
    assert subject_parameters(made)[f"{PREFIX}Country"] == "Bavaria"


@pytest.mark.parametrize("missing", ALL)
def test_every_declared_attribute_is_required(missing: str) -> None:
    """Even if no resource refers to it, and even if it has a default."""
    body = {
        "Parameters": {f"{PREFIX}{name}": {"Type": "String", "Default": "x"} for name in ("Id", *ALL)},
        "Resources": {"certificate": CERTIFICATE},
    }
    made = parse_template(json.dumps(body), Kind.JITP)
    given = subject_parameters(certificate([x509.NameAttribute(oid, value) for oid, value in ALL.values()]))
    made.resolve({}, given)
    del given[f"{PREFIX}{missing}"]
    with pytest.raises(InvalidParameters) as caught:
        made.resolve({f"{PREFIX}{missing}": "chosen"}, given)
    assert str(caught.value) == f"Cannot resolve reference value: {PREFIX}{missing}"
