"""Certificate authorities that accounts bring along, and registering what they signed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.aws.operations.attributes import new_tags
from thingmint.aws.operations.call import PAGE_SIZE, identified
from thingmint.aws.operations.certificates import summary
from thingmint.domain.authorities import AuthorityStatus, RegistrationConfig
from thingmint.domain.certificates import parse_fingerprint
from thingmint.domain.status import Status
from thingmint.services.authorities import AuthorityChange, NewAuthority

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.aws.operations.call import Call, Operations
    from thingmint.domain.authorities import RegisteredAuthority

__all__ = ["AUTHORITIES"]


async def _get_registration_code(call: Call) -> dict[str, Any]:
    return {"registrationCode": await call.registries.authorities.code(call.scope)}


async def _delete_registration_code(call: Call) -> dict[str, Any]:
    await call.registries.authorities.delete_code(call.scope)
    return {}


async def _register_ca_certificate(call: Call) -> dict[str, Any]:
    given = call.members
    authority = await call.registries.authorities.register(
        call.scope,
        NewAuthority(
            certificate=given["caCertificate"],
            verification=given.get("verificationCertificate"),
            mode=given.get("certificateMode", "DEFAULT"),
            active=call.flag("setAsActive"),
            auto_registration=call.flag("allowAutoRegistration"),
            config=_config(given),
            tags=new_tags(given),
        ),
    )
    return {"certificateArn": authority.arn, "certificateId": authority.fingerprint}


async def _describe_ca_certificate(call: Call) -> dict[str, Any]:
    authority = await call.registries.authorities.describe(call.scope, call.certificate_id())
    certificate, config = authority.certificate, authority.config
    return {
        "certificateDescription": {
            **_summary(authority),
            "certificatePem": certificate.pem,
            "ownedBy": authority.scope.account,
            "autoRegistrationStatus": "ENABLE" if authority.auto_registration else "DISABLE",
            "lastModifiedDate": authority.modified_at,
            "customerVersion": authority.version,
            "generationId": authority.generation,
            "validity": {"notBefore": certificate.not_before, "notAfter": certificate.not_after},
            "certificateMode": authority.mode,
        },
        "registrationConfig": config
        and {"templateBody": config.template_body, "templateName": config.template_name, "roleArn": config.role_arn},
    }


async def _update_ca_certificate(call: Call) -> dict[str, Any]:
    given = call.members
    status, automatic = given.get("newStatus"), given.get("newAutoRegistrationStatus")
    change = AuthorityChange(
        status=None if status is None else AuthorityStatus(status),
        auto_registration=None if automatic is None else automatic == "ENABLE",
        config=_config(given),
        remove_registration=call.flag("removeAutoRegistration"),
    )
    await call.registries.authorities.update(call.scope, call.certificate_id(), change)
    return {}


async def _list_ca_certificates(call: Call) -> dict[str, Any]:
    page, next_marker = await call.registries.authorities.list(
        call.scope,
        template=call.members.get("templateName"),
        limit=call.members.get("pageSize", PAGE_SIZE),
        ascending=call.flag("ascendingOrder"),
        marker=call.members.get("marker"),
    )
    return {"certificates": [_summary(authority) for authority in page], "nextMarker": next_marker}


async def _delete_ca_certificate(call: Call) -> dict[str, Any]:
    await call.registries.authorities.delete(call.scope, call.certificate_id())
    return {}


async def _register_certificate(call: Call) -> dict[str, Any]:
    given = call.members
    # AWS's guide calls setAsActive deprecated, and does not say which counts: the one that is more to the point.
    default = Status.ACTIVE if call.flag("setAsActive") else Status.INACTIVE
    registration = await call.registries.issued.register(
        call.scope,
        given["certificatePem"],
        given.get("caCertificatePem"),
        status=Status(given.get("status", default)),
    )
    return identified(registration)


async def _list_certificates_by_ca(call: Call) -> dict[str, Any]:
    page = await call.registries.issued.list(
        call.scope,
        parse_fingerprint(call.members["caCertificateId"], "caCertificateId"),
        limit=call.members.get("pageSize", PAGE_SIZE),
        ascending=call.flag("ascendingOrder"),
        marker=call.members.get("marker"),
    )
    return {"certificates": [summary(item) for item in page.registrations], "nextMarker": page.next_marker}


def _config(given: Mapping[str, Any]) -> RegistrationConfig | None:
    config = given.get("registrationConfig")
    if config is None:
        return None
    return RegistrationConfig(config.get("templateBody"), config.get("templateName"), config.get("roleArn"))


def _summary(authority: RegisteredAuthority) -> dict[str, Any]:
    return {
        "certificateArn": authority.arn,
        "certificateId": authority.fingerprint,
        "status": authority.status.value,
        "creationDate": authority.created_at,
    }


AUTHORITIES: Operations = {
    "GetRegistrationCode": _get_registration_code,
    "DeleteRegistrationCode": _delete_registration_code,
    "RegisterCACertificate": _register_ca_certificate,
    "DescribeCACertificate": _describe_ca_certificate,
    "UpdateCACertificate": _update_ca_certificate,
    "ListCACertificates": _list_ca_certificates,
    "DeleteCACertificate": _delete_ca_certificate,
    "RegisterCertificate": _register_certificate,
    "ListCertificatesByCA": _list_certificates_by_ca,
}
