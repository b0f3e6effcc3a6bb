"""Every operation on CA certificates with boto3, and every error in AWS's words."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import allow, deny, refusal
from tests.e2e.material import new_issuer
from tests.issuers import fingerprint, pem, rewritten
from tests.unit.services.test_ca_certificates import JITP_BODY

if TYPE_CHECKING:
    from cryptography import x509

    from tests.e2e.ca_certificates.conftest import Owner

UNKNOWN = "0" * 64
DAY = timedelta(days=1)


def test_a_ca_certificate_is_registered_updated_and_deleted(owner: Owner) -> None:
    iot, issuer = owner.iot, new_issuer()
    ca = owner.prove(issuer, setAsActive=False, allowAutoRegistration=False, tags=[{"Key": "plant", "Value": "7"}])
    arn = f"arn:aws:iot:us-east-1:{owner.number}:cacert/{ca}"
    answer = iot.describe_ca_certificate(certificateId=ca)
    assert "registrationConfig" not in answer
    description = answer["certificateDescription"]
    facts = {
        "certificateArn": arn,
        "certificateId": ca,
        "status": "INACTIVE",
        "certificatePem": issuer.pem,
        "ownedBy": owner.number,
        "autoRegistrationStatus": "DISABLE",
        "customerVersion": 1,
        "certificateMode": "DEFAULT",
        "validity": {
            "notBefore": issuer.certificate.not_valid_before_utc,
            "notAfter": issuer.certificate.not_valid_after_utc,
        },
    }
    assert {name: description[name] for name in facts} == facts
    assert description["creationDate"] == description["lastModifiedDate"]
    assert description["generationId"]
    assert iot.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "plant", "Value": "7"}]
    assert ca in [found["certificateId"] for found in iot.list_ca_certificates()["certificates"]]

    iot.update_ca_certificate(certificateId=ca, newStatus="ACTIVE", newAutoRegistrationStatus="ENABLE")
    description = iot.describe_ca_certificate(certificateId=ca.upper())["certificateDescription"]
    assert (description["status"], description["autoRegistrationStatus"], description["customerVersion"]) == (
        "ACTIVE",
        "ENABLE",
        2,
    )
    assert refusal(iot.delete_ca_certificate, certificateId=ca) == (
        406,
        "CertificateStateException",
        f"CA Certificate must be deactivated (not ACTIVE) before deletion. Id: {ca}",
    )
    iot.update_ca_certificate(certificateId=ca, newStatus="INACTIVE")
    iot.delete_ca_certificate(certificateId=ca)
    for call in (iot.describe_ca_certificate, iot.update_ca_certificate, iot.delete_ca_certificate):
        assert refusal(call, certificateId=ca)[:2] == (404, "ResourceNotFoundException")


def test_the_mode_requires_or_forbids_a_verification_certificate(owner: Owner, other: Owner) -> None:
    issuer = new_issuer()
    register = owner.iot.register_ca_certificate
    assert refusal(register, caCertificate=issuer.pem) == (
        400,
        "InvalidRequestException",
        "Need to provide verification certificate for registering CA Certificates in DEFAULT mode",
    )
    code = owner.iot.get_registration_code()["registrationCode"]
    proof = pem(issuer.sign(code))
    assert refusal(register, caCertificate=issuer.pem, verificationCertificate=proof, certificateMode="SNI_ONLY") == (
        400,
        "InvalidRequestException",
        "Cannot provide verification certificate for registering CA Certificates in SNI_ONLY mode",
    )
    wrong = "Registration code provided in the CN field of verification certificate is invalid."
    for subject in (other.iot.get_registration_code()["registrationCode"], "f" * 64, code.upper()):
        assert refusal(register, caCertificate=issuer.pem, verificationCertificate=pem(issuer.sign(subject))) == (
            400,
            "RegistrationCodeValidationException",
            wrong,
        )
    assert refusal(register, caCertificate=issuer.pem, verificationCertificate=pem(new_issuer().sign(code))) == (
        400,
        "CertificateValidationException",
        "Contents of the Verification Certificate are not correct",
    )
    answer = register(caCertificate=issuer.pem, certificateMode="SNI_ONLY")
    description = owner.iot.describe_ca_certificate(certificateId=answer["certificateId"])["certificateDescription"]
    assert (description["certificateMode"], description["status"]) == ("SNI_ONLY", "INACTIVE")


@pytest.mark.parametrize(
    "text",
    [
        new_issuer().pem[:300],
        new_issuer(ends=datetime.now(UTC) - DAY).pem,
        "-----BEGIN CERTIFICATE-----\n" + "A" * 60_000 + "\n-----END CERTIFICATE-----\n",
    ],
    ids=["truncated", "expired", "huge"],
)
def test_invalid_ca_certificates_are_refused(owner: Owner, text: str) -> None:
    status, kind, message = refusal(owner.iot.register_ca_certificate, caCertificate=text, certificateMode="SNI_ONLY")
    assert (status, kind) == (400, "CertificateValidationException")
    assert message.startswith("caCertificate "), message


def test_registering_twice_conflicts(owner: Owner) -> None:
    issuer = new_issuer()
    ca = owner.prove(issuer)
    code = owner.iot.get_registration_code()["registrationCode"]
    with pytest.raises(owner.iot.exceptions.ResourceAlreadyExistsException) as refused:
        owner.iot.register_ca_certificate(caCertificate=issuer.pem, verificationCertificate=pem(issuer.sign(code)))
    arn = f"arn:aws:iot:us-east-1:{owner.number}:cacert/{ca}"
    assert (refused.value.response["resourceId"], refused.value.response["resourceArn"]) == (ca, arn)


def test_registration_configs_are_set_and_removed(owner: Owner) -> None:
    iot, role = owner.iot, f"arn:aws:iam::{owner.number}:role/provisions"
    names = {kind: f"t-{secrets.token_hex(4)}" for kind in ("JITP", "FLEET_PROVISIONING")}
    for kind, name in names.items():
        iot.create_provisioning_template(
            templateName=name, templateBody=JITP_BODY, provisioningRoleArn=role, type=kind, enabled=True
        )
    given = {"caCertificate": new_issuer().pem, "certificateMode": "SNI_ONLY"}
    refused = {
        name: refusal(iot.register_ca_certificate, **given, registrationConfig=config)[:2]
        for name, config in {
            "unknown": {"templateName": "missing"},
            "fleet": {"templateName": names["FLEET_PROVISIONING"]},
            "both": {"templateName": names["JITP"], "templateBody": JITP_BODY, "roleArn": role},
            "neither": {},
            "body": {"templateBody": "{}", "roleArn": role},
            "no role": {"templateBody": JITP_BODY},
            "odd role": {"templateBody": JITP_BODY, "roleArn": "arn:aws:iam::1:user/elf"},
        }.items()
    }
    assert refused.pop("unknown") == (404, "ResourceNotFoundException")
    assert set(refused.values()) == {(400, "InvalidRequestException")}

    config = {"templateName": names["JITP"]}
    ca = iot.register_ca_certificate(**given, registrationConfig=config)["certificateId"]
    assert iot.describe_ca_certificate(certificateId=ca)["registrationConfig"] == config
    listed = iot.list_ca_certificates(templateName=names["JITP"])["certificates"]
    assert [found["certificateId"] for found in listed] == [ca]
    assert refusal(iot.delete_provisioning_template, templateName=names["JITP"])[0] == 409
    by_body = {"templateBody": JITP_BODY, "roleArn": role}
    iot.update_ca_certificate(certificateId=ca, newAutoRegistrationStatus="ENABLE", registrationConfig=by_body)
    assert iot.describe_ca_certificate(certificateId=ca)["registrationConfig"] == by_body
    assert iot.list_ca_certificates(templateName=names["JITP"])["certificates"] == []
    iot.delete_provisioning_template(templateName=names["JITP"])
    assert refusal(
        iot.update_ca_certificate, certificateId=ca, removeAutoRegistration=True, newAutoRegistrationStatus="ENABLE"
    )[:2] == (400, "InvalidRequestException")
    iot.update_ca_certificate(certificateId=ca, removeAutoRegistration=True)
    answer = iot.describe_ca_certificate(certificateId=ca)
    assert "registrationConfig" not in answer
    assert answer["certificateDescription"]["autoRegistrationStatus"] == "DISABLE"


def test_passing_a_role_requires_permission(owner: Owner) -> None:
    role = f"arn:aws:iam::{owner.number}:role/provisions"
    config = {"templateBody": JITP_BODY, "roleArn": role}
    given = {"caCertificate": new_issuer().pem, "certificateMode": "SNI_ONLY"}
    with owner.local_admin.iot_of(allow("iot:*")) as iot:
        status, kind, message = refusal(iot.register_ca_certificate, **given, registrationConfig=config)
        assert (status, kind) == (403, "AccessDeniedException")
        assert "iam:PassRole" in message
        ca = iot.register_ca_certificate(**given)["certificateId"]
        assert refusal(iot.update_ca_certificate, certificateId=ca, registrationConfig=config)[0] == 403
    with owner.local_admin.iot_of(allow("iot:*"), allow("iam:PassRole", role)) as iot:
        iot.update_ca_certificate(certificateId=ca, registrationConfig=config)


def test_roles_of_another_account_cannot_be_passed(owner: Owner, other: Owner) -> None:
    """In every call that takes a role, whatever the caller's policies allow."""
    iot, role = owner.iot, f"arn:aws:iam::{other.number}:role/provisions"
    own = f"arn:aws:iam::{owner.number}:role/provisions"
    name = f"t-{secrets.token_hex(4)}"
    iot.create_provisioning_template(templateName=name, templateBody=JITP_BODY, provisioningRoleArn=own)
    given = {"caCertificate": new_issuer().pem, "certificateMode": "SNI_ONLY"}
    ca = iot.register_ca_certificate(**given)["certificateId"]
    config = {"registrationConfig": {"templateBody": JITP_BODY, "roleArn": role}}
    task = {"templateBody": JITP_BODY, "inputFileBucket": "bucket", "inputFileKey": "key", "roleArn": role}
    for call, arguments in (
        (
            iot.create_provisioning_template,
            {"templateName": "x", "templateBody": JITP_BODY, "provisioningRoleArn": role},
        ),
        (iot.update_provisioning_template, {"templateName": name, "provisioningRoleArn": role}),
        (iot.register_ca_certificate, {"caCertificate": new_issuer().pem, "certificateMode": "SNI_ONLY", **config}),
        (iot.update_ca_certificate, {"certificateId": ca, **config}),
        (iot.create_role_alias, {"roleAlias": "alias", "roleArn": role}),
        (iot.update_role_alias, {"roleAlias": "alias", "roleArn": role}),
        (iot.start_thing_registration_task, task),
    ):
        assert refusal(call, **arguments) == (
            403,
            "AccessDeniedException",
            "Cross-account pass role is not allowed.",
        )
    description = iot.describe_provisioning_template(templateName=name)
    assert description["provisioningRoleArn"] == own


def test_certificates_are_registered_under_their_ca(owner: Owner) -> None:
    iot, issuer = owner.iot, new_issuer(f"Root {secrets.token_hex(4)}")
    ca = owner.prove(issuer, setAsActive=False)
    certificate = issuer.sign()
    id = fingerprint(certificate)
    state, validation = (406, "CertificateStateException"), (400, "CertificateValidationException")
    assert refusal(iot.register_certificate, certificatePem=pem(new_issuer("Unknown").sign())) == (
        *state,
        "No CA certificate exists for the given certificate",
    )
    assert refusal(iot.register_certificate, certificatePem=pem(certificate)) == (
        *state,
        "The CA certificate is not active",
    )
    iot.update_ca_certificate(certificateId=ca, newStatus="ACTIVE")
    assert refusal(iot.register_certificate, certificatePem=pem(certificate), status="PENDING_ACTIVATION") == (
        *state,
        "Not allowed to register certificate with PENDING_ACTIVATION status",
    )
    assert refusal(iot.register_certificate, certificatePem=pem(certificate), caCertificatePem=new_issuer("B").pem) == (
        *validation,
        "The issuer of the certificate did not match the subject of the provided CA certificate.",
    )
    namesake = new_issuer(issuer.certificate.subject.rfc4514_string().removeprefix("CN="))
    for given in (
        {"certificatePem": pem(certificate), "caCertificatePem": namesake.pem},
        {"certificatePem": pem(namesake.sign())},
    ):
        assert refusal(iot.register_certificate, **given) == (
            *validation,
            "The signature of the certificate failed verification against the provided CA certificate.",
        )
    answer = iot.register_certificate(certificatePem=pem(certificate))
    assert answer["certificateId"] == id
    description = iot.describe_certificate(certificateId=id)["certificateDescription"]
    assert (description["caCertificateId"], description["status"], description["certificateMode"]) == (
        ca,
        "INACTIVE",
        "DEFAULT",
    )
    with pytest.raises(iot.exceptions.ResourceAlreadyExistsException) as refused:
        iot.register_certificate(certificatePem=pem(certificate))
    assert refused.value.response["resourceId"] == id
    assert refused.value.response["resourceArn"] == answer["certificateArn"]
    # With a second CA of the same subject, the certificate's issuer is ambiguous.
    owner.prove(namesake)
    another = pem(issuer.sign())
    assert refusal(iot.register_certificate, certificatePem=another)[:2] == (409, "CertificateConflictException")
    iot.register_certificate(certificatePem=another, caCertificatePem=issuer.pem, setAsActive=True)
    assert owner.status(fingerprint(_read(another))) == "ACTIVE"
    third = pem(issuer.sign())
    iot.register_certificate(certificatePem=third, caCertificatePem=issuer.pem, setAsActive=True, status="INACTIVE")
    assert owner.status(fingerprint(_read(third))) == "INACTIVE"


@pytest.mark.parametrize("with_ca", [True, False])
def test_register_thing_registers_certificates_under_their_ca(owner: Owner, with_ca: bool) -> None:
    issuer, name = owner.issuer(allowAutoRegistration=False), f"lamp-{secrets.token_hex(4)}"
    ca, certificate = issuer.fingerprint, issuer.sign(name)
    given = {"CertificatePem": {"Ref": "Pem"}, **({"CACertificatePem": {"Ref": "Ca"}} if with_ca else {})}
    body = json.dumps(
        {
            "Parameters": {name: {"Type": "String"} for name in ("Name", "Pem", "Ca")},
            "Resources": {
                "certificate": {"Type": "AWS::IoT::Certificate", "Properties": given},
                "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Name"}}},
            },
        }
    )

    def ask(certificate: x509.Certificate) -> dict[str, Any]:
        return {"templateBody": body, "parameters": {"Name": name, "Pem": pem(certificate), "Ca": issuer.pem}}

    made = owner.iot.register_thing(**ask(certificate))
    description = owner.iot.describe_certificate(certificateId=fingerprint(certificate))["certificateDescription"]
    assert (description["caCertificateId"], description["status"], description["certificateMode"]) == (
        ca,
        "ACTIVE",
        "DEFAULT",
    )
    assert made["resourceArns"]["certificate"] == description["certificateArn"]
    assert owner.iot.list_thing_principals(thingName=name)["principals"] == [description["certificateArn"]]
    listed = owner.iot.list_certificates_by_ca(caCertificateId=ca)["certificates"]
    assert [each["certificateId"] for each in listed] == [fingerprint(certificate)]
    again = owner.iot.register_thing(**ask(certificate))
    assert (again["resourceArns"], again["certificatePem"]) == (made["resourceArns"], pem(certificate))
    assert refusal(owner.iot.register_thing, **ask(rewritten(certificate))) == (
        400,
        "ResourceRegistrationFailureException",
        f"A certificate of that CA and serial number is registered already. Id: {fingerprint(certificate)}",
    )
    with owner.local_admin.iot_of(allow("iot:*"), deny("iot:RegisterCertificate")) as iot:
        status, kind, message = refusal(iot.register_thing, **ask(issuer.sign()))
        assert (status, kind) == (403, "AccessDeniedException")
        assert "iot:RegisterCertificate on" in message


def _read(text: str) -> Any:
    from cryptography import x509

    return x509.load_pem_x509_certificate(text.encode())


def test_certificates_of_a_ca_are_listed(owner: Owner) -> None:
    iot, issuer = owner.iot, owner.issuer()
    made = [iot.register_certificate(certificatePem=pem(issuer.sign()), caCertificatePem=issuer.pem) for _ in range(3)]
    iot.register_certificate_without_ca(certificatePem=pem(issuer.sign()))
    ids = [answer["certificateId"] for answer in made]
    pages = iot.get_paginator("list_certificates_by_ca").paginate(
        caCertificateId=issuer.fingerprint, PaginationConfig={"PageSize": 2}
    )
    listed = [found for page in pages for found in page["certificates"]]
    assert [found["certificateId"] for found in listed] == ids[::-1]
    assert {"certificateArn", "certificateId", "status", "certificateMode", "creationDate"} == set(listed[0])
    ascending = iot.list_certificates_by_ca(caCertificateId=issuer.fingerprint, ascendingOrder=True)
    assert [found["certificateId"] for found in ascending["certificates"]] == ids
    assert iot.list_certificates_by_ca(caCertificateId=UNKNOWN)["certificates"] == []
