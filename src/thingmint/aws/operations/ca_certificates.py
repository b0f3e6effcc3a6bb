"""CA certificates that accounts register, and the codes that verify them (seven operations)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import Members, Result, marker_cursor, new_tags, reads, writes
from thingmint.domain.ca_certificates import RegistrationConfig
from thingmint.domain.certificates import parse_fingerprint
from thingmint.domain.errors import Invalid
from thingmint.services.ca_certificates import (
    CaChanges,
    CaStatus,
    NewCa,
    check_config,
    delete_ca_certificate,
    delete_code,
    get_code,
    get_registered_ca,
    list_ca_certificates,
    parse_new_ca,
    register_ca_certificate,
    update_ca_certificate,
)

if TYPE_CHECKING:
    from thingmint.services.ca_certificates import CaRegistration
    from thingmint.services.change import Change, Query
    from thingmint.store.engine import Transaction

DEVIATIONS = {
    "RegisterCACertificate": (
        "In DEFAULT mode a CA belongs to one account of the whole server; at AWS, of one region. The regions "
        "share a gateway, which finds a device's account by its CA."
    ),
}


@writes("GetRegistrationCode")
async def get_registration_code(tx: Transaction, change: Change, _members: Members) -> Result:
    return {"registrationCode": await get_code(tx, change)}


@writes("DeleteRegistrationCode")
async def delete_registration_code(tx: Transaction, change: Change, _members: Members) -> Result:
    await delete_code(tx, change)
    return {}


async def _new(change: Change, members: Members) -> NewCa:
    config, tags, mode = _config(members), new_tags(members), members.get("certificateMode", "DEFAULT")
    ca, code = parse_new_ca(change, members["caCertificate"], members.get("verificationCertificate"), mode)
    check_config(config)
    status = CaStatus.ACTIVE if members.get("setAsActive", False) else CaStatus.INACTIVE
    return NewCa(ca, code, status, mode, members.get("allowAutoRegistration", False), config, tags)


@writes("RegisterCACertificate", prepare=_new)
async def register(tx: Transaction, change: Change, _members: Members, new: NewCa) -> Result:
    ca = await register_ca_certificate(tx, change, new)
    return {"certificateArn": ca.arn, "certificateId": ca.fingerprint}


@reads("DescribeCACertificate")
async def describe(tx: Transaction, query: Query, members: Members) -> Result:
    ca, certificate = await get_registered_ca(tx, query.scope, _id(members))
    config = ca.config
    return {
        "certificateDescription": {
            **_summary(ca),
            "certificatePem": certificate.pem,
            "ownedBy": ca.scope.account,
            "autoRegistrationStatus": "ENABLE" if ca.auto_registration else "DISABLE",
            "lastModifiedDate": ca.modified_at,
            "customerVersion": ca.version,
            "generationId": ca.generation,
            "validity": {"notBefore": certificate.not_before, "notAfter": certificate.not_after},
            "certificateMode": ca.mode,
        },
        "registrationConfig": config
        and {"templateBody": config.template_body, "templateName": config.template_name, "roleArn": config.role_arn},
    }


@reads("ListCACertificates")
async def list_(tx: Transaction, query: Query, members: Members) -> Result:
    ascending, template = members.get("ascendingOrder", False), members.get("templateName")
    page = await list_ca_certificates(tx, query, marker_cursor(members), ascending=ascending, template=template)
    return {"certificates": [_summary(ca) for ca in page.items], "nextMarker": page.next_token}


async def _changes(_change: Change, members: Members) -> CaChanges:
    config, status, automatic = _config(members), members.get("newStatus"), members.get("newAutoRegistrationStatus")
    changes = CaChanges(
        _id(members),
        None if status is None else CaStatus(status),
        None if automatic is None else automatic == "ENABLE",
        config,
        members.get("removeAutoRegistration", False),
    )
    if changes.remove_registration and (config is not None or changes.auto_registration):
        reason = "must not be given together with registrationConfig or newAutoRegistrationStatus ENABLE"
        raise Invalid("removeAutoRegistration", reason)
    check_config(config)
    return changes


@writes("UpdateCACertificate", prepare=_changes)
async def update(tx: Transaction, change: Change, _members: Members, changes: CaChanges) -> Result:
    await update_ca_certificate(tx, change, changes)
    return {}


@writes("DeleteCACertificate")
async def delete(tx: Transaction, change: Change, members: Members) -> Result:
    await delete_ca_certificate(tx, change, _id(members))
    return {}


def _id(members: Members) -> str:
    return parse_fingerprint(members["certificateId"], "certificateId")


def _config(members: Members) -> RegistrationConfig | None:
    config = members.get("registrationConfig")
    if config is None:
        return None
    return RegistrationConfig(config.get("templateBody"), config.get("templateName"), config.get("roleArn"))


def _summary(ca: CaRegistration) -> Result:
    return {
        "certificateArn": ca.arn,
        "certificateId": ca.fingerprint,
        "status": ca.status.value,
        "creationDate": ca.created_at,
    }
