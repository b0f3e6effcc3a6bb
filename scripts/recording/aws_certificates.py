"""Examples of AWS IoT: certificates, CA certificates, policies, and transfers to another account."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from recording.certificates import Key, fingerprint, pem
from recording.stand_ins import UNKNOWN

if TYPE_CHECKING:
    from cryptography import x509

    from recording.recorder import Json, Recorder

ACCOUNT, OTHER_ACCOUNT = "123456789012", "210987654321"
_ARN = f"arn:aws:iot:us-east-1:{ACCOUNT}"


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


CONNECT = {
    "Effect": "Allow",
    "Action": "iot:Connect",
    "Resource": f"{_ARN}:client/${{iot:Connection.Thing.ThingName}}",
}
PUBLISH = {
    "Effect": "Allow",
    "Action": "iot:Publish",
    "Resource": f"{_ARN}:topic/lamps/${{iot:Connection.Thing.ThingName}}/*",
}

SUBSCRIBE = {
    "Effect": "Allow",
    "Action": "iot:Subscribe",
    "Resource": f"{_ARN}:topicfilter/lamps/${{iot:Connection.Thing.ThingName}}/*",
}


def record(aws: Recorder) -> Json:
    """Returns the answer with the certificate and the key that the thing lamp-17 gets."""
    made = certificates(aws)
    policies(aws, made["certificateArn"])
    ca_certificates(aws)
    transfers(aws)
    return made


def certificates(aws: Recorder) -> Json:
    made: Json = aws("CreateKeysAndCertificate", "A certificate that devices can use at once", setAsActive=True)
    aws("CreateKeysAndCertificate", "An inactive certificate")
    aws("CreateKeysAndCertificate", "A value that is not true or false", 400, setAsActive="maybe")
    aws("CreateKeysAndCertificate", "A caller without permission", 403, caller="viewer")
    csr = Key("lamp-18").csr()
    issued = aws("CreateCertificateFromCsr", "For the key of a device", certificateSigningRequest=csr, setAsActive=True)
    own = own_certificate(aws, Key("lamp-19").certificate())
    given = {"certificatePem": pem(own), "status": "ACTIVE"}
    aws("RegisterCertificateWithoutCA", "A certificate that the device made itself", **given)
    aws("RegisterCertificateWithoutCA", "A second time", 409, **given)
    id = made["certificateId"]
    aws("DescribeCertificate", "One certificate", certificateId=id)
    aws("DescribeCertificate", "An id that the account does not have", 404, certificateId=UNKNOWN[0])
    page = aws("ListCertificates", "The first page", pageSize=2)
    aws("ListCertificates", "The next page", pageSize=2, marker=page["nextMarker"])
    old = issued["certificateId"]
    aws("UpdateCertificate", "Deactivate", certificateId=old, newStatus="INACTIVE")
    aws("DeleteCertificate", "A certificate that is INACTIVE", certificateId=old)
    aws("DeleteCertificate", "A certificate that is ACTIVE", 406, certificateId=id)
    return made


def own_certificate(aws: Recorder, certificate: x509.Certificate) -> x509.Certificate:
    aws.stand_ins.keep(certificate)
    return certificate


def policies(aws: Recorder, arn: str) -> None:
    first, second = document(CONNECT), document(CONNECT, PUBLISH, SUBSCRIBE)
    aws("CreatePolicy", "Devices may connect under the name of their thing", policyName="lamp", policyDocument=first)
    aws("CreatePolicy", "A document that is no policy", 400, policyName="lamp-2", policyDocument="{}")
    aws(
        "CreatePolicyVersion",
        "A version that allows more",
        policyName="lamp",
        policyDocument=second,
        setAsDefault=True,
    )
    aws("GetPolicy", "The version that is in force", policyName="lamp")
    aws("GetPolicyVersion", "The first version", policyName="lamp", policyVersionId="1")
    aws("ListPolicyVersions", "Both versions", policyName="lamp")
    aws("SetDefaultPolicyVersion", "Back to the first version", policyName="lamp", policyVersionId="1")
    aws("SetDefaultPolicyVersion", policyName="lamp", policyVersionId="2")
    aws("DeletePolicyVersion", "A version that is not in force", policyName="lamp", policyVersionId="1")
    aws("ListPolicies", "All policies")
    aws("AttachPolicy", "To a certificate", policyName="lamp", target=arn)
    aws("ListAttachedPolicies", "Of a certificate", target=arn)
    aws("ListTargetsForPolicy", "What has the policy", policyName="lamp")
    aws("CreatePolicy", policyName="update", policyDocument=document({**PUBLISH, "Action": "iot:Receive"}))
    principal = {"x-amzn-iot-principal": arn}
    aws("AttachPrincipalPolicy", "To a certificate", policyName="update", **{"x-amzn-iot-principal": arn})
    aws("ListPolicyPrincipals", "The certificates of a policy", **{"x-amzn-iot-policy": "update"})
    aws("ListPrincipalPolicies", "The policies of a certificate", **principal)
    aws("DetachPrincipalPolicy", "From a certificate", policyName="update", **principal)
    aws("DeletePolicy", "A policy that is attached to nothing", policyName="update")
    aws("DeletePolicy", "A policy that is attached", 409, policyName="lamp")
    aws("GetEffectivePolicies", "Of a device", principal=arn)


def ca_certificates(aws: Recorder) -> None:
    code = aws("GetRegistrationCode", "The code for the verification certificate")["registrationCode"]
    authority = Key("Example Corp root")
    ca = own_certificate(aws, authority.certificate(ca=True))
    proof = Key("verification").certificate(authority, subject=code)
    registered = aws(
        "RegisterCACertificate",
        "A CA certificate, with the proof that its key is yours",
        caCertificate=pem(ca),
        verificationCertificate=pem(proof),
        setAsActive=True,
    )
    edge = own_certificate(aws, Key("Example Corp edge").certificate(ca=True))
    aws(
        "RegisterCACertificate",
        "A CA certificate without a proof, for devices that name the server",
        caCertificate=pem(edge),
        certificateMode="SNI_ONLY",
    )
    device = own_certificate(aws, Key("lamp-20").certificate(authority))
    aws("RegisterCertificate", "A certificate that the CA signed", certificatePem=pem(device), status="ACTIVE")
    id = registered["certificateId"]
    aws("ListCertificatesByCA", "The certificates of a CA", caCertificateId=id)
    aws("DescribeCACertificate", "One CA certificate", caCertificateId=id)
    aws("ListCACertificates", "All CA certificates")
    aws("UpdateCACertificate", "Deactivate", caCertificateId=id, newStatus="INACTIVE")
    aws("UpdateCACertificate", "Register devices when they connect", caCertificateId=fingerprint(edge),
        newStatus="ACTIVE", newAutoRegistrationStatus="ENABLE")  # fmt: skip
    aws("DeleteCACertificate", "A CA certificate that is INACTIVE", caCertificateId=id)
    aws("DeleteRegistrationCode", "The code of the account")


def transfers(aws: Recorder) -> None:
    ids = {}
    for name in ("lamp-31", "lamp-32", "lamp-33"):
        certificate = own_certificate(aws, Key(name).certificate())
        aws("RegisterCertificateWithoutCA", certificatePem=pem(certificate))
        ids[name] = fingerprint(certificate)
    offered = {"targetAwsAccount": OTHER_ACCOUNT, "transferMessage": "Sold with the building"}
    aws("TransferCertificate", "Offer a certificate to another account", certificateId=ids["lamp-31"], **offered)
    aws("ListOutgoingCertificates", "What the account offers")
    aws(
        "AcceptCertificateTransfer",
        "Take the certificate",
        caller="other",
        certificateId=ids["lamp-31"],
        setAsActive=True,
    )
    aws("TransferCertificate", certificateId=ids["lamp-32"], **offered)
    refused = {"certificateId": ids["lamp-32"], "rejectReason": "Not ordered"}
    aws("RejectCertificateTransfer", "Refuse the certificate", caller="other", **refused)
    aws("TransferCertificate", certificateId=ids["lamp-33"], **offered)
    aws("CancelCertificateTransfer", "Take the offer back", certificateId=ids["lamp-33"])
