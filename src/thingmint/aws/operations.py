"""What the served operations of AWS IoT mean: one small function each, from members to members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thingmint.identity.certificates import parse_fingerprint
from thingmint.identity.errors import Invalid
from thingmint.identity.status import Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from thingmint.identity.registration import Registration, Scope
    from thingmint.registry.certificates import CertificateRegistry, RegisteredCertificate
    from thingmint.registry.names import NameRegistry

__all__ = ["SERVED", "Call"]

# AWS's guide: pages hold 25 items unless pageSize says otherwise.
_PAGE_SIZE = 25

# DescribeEndpoint's documented endpoint types, and what is meant without one.
_ENDPOINT_TYPES = frozenset({"iot:Data", "iot:Data-ATS", "iot:CredentialProvider", "iot:Jobs"})
_DEFAULT_ENDPOINT_TYPE = "iot:Data"


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose caller was found to be allowed, and whose members the model's rules."""

    scope: Scope
    members: dict[str, Any]
    certificates: CertificateRegistry
    names: NameRegistry

    def flag(self, member: str) -> bool:
        value: bool = self.members.get(member, False)
        return value

    def certificate_id(self) -> str:
        return parse_fingerprint(self.members["certificateId"], "certificateId")


async def _create_keys_and_certificate(call: Call) -> dict[str, Any]:
    registered, keys = await call.certificates.create_keys_and_certificate(call.scope, active=call.flag("setAsActive"))
    return {
        **_identified(registered.registration),
        "certificatePem": registered.certificate.pem,
        "keyPair": {"PublicKey": keys.public_pem, "PrivateKey": keys.private_pem},
    }


async def _create_certificate_from_csr(call: Call) -> dict[str, Any]:
    registered = await call.certificates.create_from_csr(
        call.scope,
        call.members["certificateSigningRequest"],
        active=call.flag("setAsActive"),
        field="certificateSigningRequest",
    )
    return {**_identified(registered.registration), "certificatePem": registered.certificate.pem}


async def _register_certificate_without_ca(call: Call) -> dict[str, Any]:
    registered = await call.certificates.register(
        call.scope,
        call.members["certificatePem"],
        status=Status(call.members.get("status", Status.INACTIVE)),
        field="certificatePem",
    )
    return _identified(registered.registration)


async def _describe_certificate(call: Call) -> dict[str, Any]:
    return {"certificateDescription": _description(await call.certificates.describe(call.scope, call.certificate_id()))}


async def _list_certificates(call: Call) -> dict[str, Any]:
    page = await call.certificates.list(
        call.scope,
        limit=call.members.get("pageSize", _PAGE_SIZE),
        ascending=call.flag("ascendingOrder"),
        marker=call.members.get("marker"),
    )
    return {
        "certificates": [
            {
                **_identified(registration),
                "status": registration.status.value,
                "certificateMode": registration.mode,
                "creationDate": registration.created_at,
            }
            for registration in page.registrations
        ],
        "nextMarker": page.next_marker,
    }


async def _update_certificate(call: Call) -> dict[str, Any]:
    await call.certificates.set_status(call.scope, call.certificate_id(), Status(call.members["newStatus"]))
    return {}


async def _delete_certificate(call: Call) -> dict[str, Any]:
    # forceDelete detaches policies first; there are none to detach yet.
    await call.certificates.delete(call.scope, call.certificate_id())
    return {}


async def _describe_endpoint(call: Call) -> dict[str, Any]:
    if call.members.get("endpointType", _DEFAULT_ENDPOINT_TYPE) not in _ENDPOINT_TYPES:
        raise Invalid("endpointType", f"must be one of {', '.join(sorted(_ENDPOINT_TYPES))}")
    hostnames = await call.names.hostnames()
    return {"endpointAddress": hostnames[0]}


def _identified(registration: Registration) -> dict[str, Any]:
    return {"certificateArn": registration.arn, "certificateId": registration.fingerprint}


def _description(registered: RegisteredCertificate) -> dict[str, Any]:
    registration, certificate = registered.registration, registered.certificate
    return {
        **_identified(registration),
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


SERVED: Mapping[str, Callable[[Call], Awaitable[dict[str, Any]]]] = {
    "CreateKeysAndCertificate": _create_keys_and_certificate,
    "CreateCertificateFromCsr": _create_certificate_from_csr,
    "RegisterCertificateWithoutCA": _register_certificate_without_ca,
    "DescribeCertificate": _describe_certificate,
    "ListCertificates": _list_certificates,
    "UpdateCertificate": _update_certificate,
    "DeleteCertificate": _delete_certificate,
    "DescribeEndpoint": _describe_endpoint,
}
