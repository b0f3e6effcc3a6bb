"""Certificates: issuing, registering, looking after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.aws.operations.call import PAGE_SIZE, identified
from thingmint.domain.status import Status

if TYPE_CHECKING:
    from thingmint.aws.operations.call import Call, Operations
    from thingmint.domain.registration import Registration
    from thingmint.services.certificates import RegisteredCertificate

__all__ = ["CERTIFICATES", "summary"]


async def _create_keys_and_certificate(call: Call) -> dict[str, Any]:
    certificates = call.registries.certificates
    registered, keys = await certificates.create_keys_and_certificate(call.scope, active=call.flag("setAsActive"))
    return {
        **identified(registered.registration),
        "certificatePem": registered.certificate.pem,
        "keyPair": {"PublicKey": keys.public_pem, "PrivateKey": keys.private_pem},
    }


async def _create_certificate_from_csr(call: Call) -> dict[str, Any]:
    registered = await call.registries.certificates.create_from_csr(
        call.scope,
        call.members["certificateSigningRequest"],
        active=call.flag("setAsActive"),
        field="certificateSigningRequest",
    )
    return {**identified(registered.registration), "certificatePem": registered.certificate.pem}


async def _register_certificate_without_ca(call: Call) -> dict[str, Any]:
    registered = await call.registries.certificates.register(
        call.scope,
        call.members["certificatePem"],
        status=Status(call.members.get("status", Status.INACTIVE)),
        field="certificatePem",
    )
    return identified(registered.registration)


async def _describe_certificate(call: Call) -> dict[str, Any]:
    registered = await call.registries.certificates.describe(call.scope, call.certificate_id())
    return {"certificateDescription": _description(registered)}


async def _list_certificates(call: Call) -> dict[str, Any]:
    page = await call.registries.certificates.list(
        call.scope,
        limit=call.members.get("pageSize", PAGE_SIZE),
        ascending=call.flag("ascendingOrder"),
        marker=call.members.get("marker"),
    )
    return {
        "certificates": [summary(registration) for registration in page.registrations],
        "nextMarker": page.next_marker,
    }


async def _update_certificate(call: Call) -> dict[str, Any]:
    await call.registries.certificates.set_status(call.scope, call.certificate_id(), Status(call.members["newStatus"]))
    return {}


async def _delete_certificate(call: Call) -> dict[str, Any]:
    await call.registries.certificates.delete(call.scope, call.certificate_id(), force=call.flag("forceDelete"))
    return {}


def summary(registration: Registration) -> dict[str, Any]:
    """As lists have it."""
    return {
        **identified(registration),
        "status": registration.status.value,
        "certificateMode": registration.mode,
        "creationDate": registration.created_at,
    }


def _description(registered: RegisteredCertificate) -> dict[str, Any]:
    registration, certificate = registered.registration, registered.certificate
    return {
        **identified(registration),
        "caCertificateId": registration.ca,
        "status": registration.status.value,
        "certificatePem": certificate.pem,
        "ownedBy": registration.scope.account,
        "creationDate": registration.created_at,
        "lastModifiedDate": registration.modified_at,
        "customerVersion": registration.version,
        "generationId": registration.generation,
        "validity": {"notBefore": certificate.not_before, "notAfter": certificate.not_after},
        "certificateMode": registration.mode,
    }


CERTIFICATES: Operations = {
    "CreateKeysAndCertificate": _create_keys_and_certificate,
    "CreateCertificateFromCsr": _create_certificate_from_csr,
    "RegisterCertificateWithoutCA": _register_certificate_without_ca,
    "DescribeCertificate": _describe_certificate,
    "ListCertificates": _list_certificates,
    "UpdateCertificate": _update_certificate,
    "DeleteCertificate": _delete_certificate,
}
