"""The AWS API, with boto3."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from tour import CheckFailed, require

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.testing import RunningServer
    from tour import Tour

__all__ = ["certificates", "client", "refused"]


def certificates(tour: Tour) -> None:
    tour.stage("The AWS API, with boto3")
    iot = client(tour.server)
    device_ca = x509.load_pem_x509_certificate(tour.server.device_ca.read_bytes())

    with tour.step("CreateKeysAndCertificate(setAsActive=True)") as step:
        created = iot.create_keys_and_certificate(setAsActive=True)
        id_ = created["certificateId"]
        private_pem = created["keyPair"]["PrivateKey"]
        tour.private_keys.append(private_pem)
        step.result = f"created the certificate {created['certificateArn']}"
    with tour.step("The private key") as step:
        certificate = x509.load_pem_x509_certificate(created["certificatePem"].encode())
        private_key = load_pem_private_key(private_pem.encode(), None)
        require(private_key.public_key() == certificate.public_key(), "does not belong to the certificate")
        step.result = "belongs to the certificate"
    with tour.step("The certificate") as step:
        certificate.verify_directly_issued_by(device_ca)
        digest = certificate.fingerprint(hashes.SHA256()).hex()
        require(id_ == digest, f"has the id {id_} and the SHA-256 {digest}")
        step.result = "is issued by device-ca.pem, and its SHA-256 is the certificateId"
    with tour.step("DescribeCertificate") as step:
        described = iot.describe_certificate(certificateId=id_)["certificateDescription"]
        require(described["status"] == "ACTIVE", f"returned the status {described['status']}")
        require(described["certificatePem"] == created["certificatePem"], "returned another certificate")
        ends = described["validity"]["notAfter"].date()
        step.result = f"the certificate is {described['status']}, and valid until {ends}"
    with tour.step("ListCertificates") as step:
        listed = _listed(iot)
        require(listed == [id_], f"returned {listed}")
        step.result = "returned this certificate and no other"

    with tour.step("DeleteCertificate of an active certificate") as step:
        step.result = refused("CertificateStateException", lambda: iot.delete_certificate(certificateId=id_))
    with tour.step("UpdateCertificate(newStatus=INACTIVE)") as step:
        iot.update_certificate(certificateId=id_, newStatus="INACTIVE")
        status = iot.describe_certificate(certificateId=id_)["certificateDescription"]["status"]
        require(status == "INACTIVE", f"the status is {status}")
        step.result = "deactivated the certificate"
    with tour.step("DeleteCertificate") as step:
        iot.delete_certificate(certificateId=id_)
        after = refused("ResourceNotFoundException", lambda: iot.describe_certificate(certificateId=id_))
        step.result = f"deleted the certificate; DescribeCertificate is now {after}"

    with tour.step("CreateCertificateFromCsr (P-256)") as step:
        own_key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sensor-1")])
        csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(own_key, hashes.SHA256())
        signed = iot.create_certificate_from_csr(certificateSigningRequest=csr.public_bytes(Encoding.PEM).decode())
        certificate = x509.load_pem_x509_certificate(signed["certificatePem"].encode())
        certificate.verify_directly_issued_by(device_ca)
        require(certificate.public_key() == own_key.public_key(), "issued a certificate for another key")
        require(certificate.subject == subject, f"issued it for {certificate.subject.rfc4514_string()}")
        step.result = "issued a certificate with the CSR's key and subject; the private key never left the client"

    with tour.step("CreateKeysAndCertificate with a wrong secret access key") as step:
        impostor = client(tour.server, aws_secret_access_key="x" * 40)
        refusal = refused("InvalidSignatureException", impostor.create_keys_and_certificate)
        require(_listed(iot) == [signed["certificateId"]], "was refused, but the list of certificates changed")
        step.result = f"{refusal}, and created nothing"


def client(server: RunningServer, **overrides: Any) -> Any:
    # The user's own profile, proxy or endpoint must not lead the tour to a real cloud.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    config = Config(proxies={}, retries={"total_max_attempts": 1})
    arguments = server.boto3_arguments() | {"config": config} | overrides
    return boto3.session.Session().client("iot", **arguments)


def _listed(iot: Any) -> list[str]:
    pages = iot.get_paginator("list_certificates").paginate()
    return [certificate["certificateId"] for page in pages for certificate in page["certificates"]]


def refused(code: str, call: Callable[[], object]) -> str:
    """A text that says how ``call`` was refused. Raises CheckFailed unless it was refused with ``code``."""
    try:
        call()
    except ClientError as error:
        got, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        require(got == code, f"was refused with {got} ({status}), not {code}: {error}")
        return f"refused with {got} ({status})"
    raise CheckFailed(f"was not refused with {code}")
