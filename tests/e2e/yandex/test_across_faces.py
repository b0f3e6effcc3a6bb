"""One registry behind two faces: what one does with a certificate, the other sees at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from yandex.cloud.iot.devices.v1 import device_service_pb2, registry_service_pb2

from tests.e2e.yandex.certificates import certificate, der_of, pem_of, sha256_of
from tests.e2e.yandex.clients import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.yandex.clients import Cloud


def minted(iot: Any, *, active: bool) -> tuple[str, str]:
    """(certificate id, PEM) of a certificate that the AWS face made."""
    created = iot.create_keys_and_certificate(setAsActive=active)
    return created["certificateId"], created["certificatePem"]


def registered(iot: Any, status: str) -> tuple[str, str]:
    pem = certificate()
    return iot.register_certificate_without_ca(certificatePem=pem, status=status)["certificateId"], pem


def status_of(iot: Any, id: str) -> str | None:
    """None where there is no registration."""
    try:
        status: str = iot.describe_certificate(certificateId=id)["certificateDescription"]["status"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return None
        raise
    return status


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as refused:
        call()
    code: str = refused.value.response["Error"]["Code"]
    return code


def all_ids(iot: Any) -> set[str]:
    pages = iot.get_paginator("list_certificates").paginate(PaginationConfig={"PageSize": 250})
    return {each["certificateId"] for page in pages for each in page["certificates"]}


@pytest.mark.parametrize("status", ["ACTIVE", "INACTIVE", "REVOKED"])
def test_one_of_aws_is_added_and_keeps_its_status(cloud: Cloud, iot: Any, wire_name: str, status: str) -> None:
    id, pem = registered(iot, status) if status == "REVOKED" else minted(iot, active=status == "ACTIVE")
    before = iot.describe_certificate(certificateId=id)["certificateDescription"]
    assert before["status"] == status
    device = cloud.device()
    assert cloud.add(device, pem, wire_name).done
    assert [each.fingerprint for each in cloud.certificates(device)] == [id]
    assert iot.describe_certificate(certificateId=id)["certificateDescription"] == before
    cloud.remove(device, id, wire_name)
    assert iot.describe_certificate(certificateId=id)["certificateDescription"] == before, "only unbound"


def test_one_of_yandex_is_listed_described_and_deactivated(cloud: Cloud, iot: Any, wire_name: str) -> None:
    device, pem = cloud.device(), certificate() + "\r\n"
    id = sha256_of(pem)
    cloud.add(device, pem, wire_name)
    assert id in all_ids(iot)
    described = iot.describe_certificate(certificateId=id)["certificateDescription"]
    assert (described["status"], described["certificatePem"]) == ("ACTIVE", pem_of(der_of(pem)))
    for status in ("INACTIVE", "ACTIVE", "REVOKED"):
        iot.update_certificate(certificateId=id, newStatus=status)
        assert status_of(iot, id) == status
        assert [each.certificate_data for each in cloud.certificates(device)] == [pem], "it is bound all the same"
    code = code_of(lambda: iot.register_certificate_without_ca(certificatePem=pem))
    assert code == "ResourceAlreadyExistsException"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("origin", ["aws", "yandex"])
def test_aws_deletes_none_that_is_bound(cloud: Cloud, iot: Any, wire_name: str, origin: str, force: bool) -> None:
    device, pem = cloud.device(), certificate()
    if origin == "aws":
        iot.register_certificate_without_ca(certificatePem=pem, status="ACTIVE")
    cloud.add(device, pem, wire_name)
    id = sha256_of(pem)

    def delete() -> None:
        iot.delete_certificate(certificateId=id, forceDelete=force)

    assert code_of(delete) == "CertificateStateException"
    for status in ("INACTIVE", "REVOKED"):
        iot.update_certificate(certificateId=id, newStatus=status)
        assert code_of(delete) == "DeleteConflictException"
        assert status_of(iot, id) == status
    assert [each.fingerprint for each in cloud.certificates(device)] == [id]
    cloud.remove(device, id, wire_name)
    if origin == "aws":
        delete()
    assert status_of(iot, id) is None


def test_yandex_deletes_the_registration_that_it_made(cloud: Cloud, iot: Any, wire_name: str) -> None:
    device, pem = cloud.device(), certificate()
    cloud.add(device, pem, wire_name)
    iot.update_certificate(certificateId=sha256_of(pem), newStatus="REVOKED")
    cloud.remove(device, sha256_of(pem), wire_name)
    assert status_of(iot, sha256_of(pem)) is None
    assert sha256_of(pem) not in all_ids(iot)
    iot.register_certificate_without_ca(certificatePem=pem)
    assert status_of(iot, sha256_of(pem)) == "INACTIVE"


@pytest.mark.parametrize("owner", ["device", "registry"])
def test_deleting_the_owner_unbinds(cloud: Cloud, iot: Any, wire_name: str, owner: str) -> None:
    wire = cloud.wire(wire_name)
    id, of_aws = registered(iot, "ACTIVE")
    of_yandex = certificate()
    registry = cloud.registry()
    request: Any
    deletion: Any
    if owner == "device":
        request = device_service_pb2.CreateDeviceRequest(registry_id=registry)
        metadata: Any = device_service_pb2.CreateDeviceMetadata()
    else:
        request = registry_service_pb2.CreateRegistryRequest(folder_id=cloud.folder)
        metadata = registry_service_pb2.CreateRegistryMetadata()
    for pem in (of_aws, of_yandex):
        request.certificates.add(certificate_data=pem)
    service = "DeviceService" if owner == "device" else "RegistryService"
    wire.call(f"{service}/Create", request).metadata.Unpack(metadata)
    assert status_of(iot, sha256_of(of_yandex)) == "ACTIVE"
    if owner == "device":
        deletion = device_service_pb2.DeleteDeviceRequest(device_id=metadata.device_id)
    else:
        deletion = registry_service_pb2.DeleteRegistryRequest(registry_id=metadata.registry_id)
    wire.call(f"{service}/Delete", deletion)
    assert status_of(iot, id) == "ACTIVE"
    assert status_of(iot, sha256_of(of_yandex)) is None
    device = cloud.device(registry)
    for pem in (of_aws, of_yandex):
        assert cloud.add(device, pem, wire_name).done


def test_what_aws_deleted_can_be_added(cloud: Cloud, iot: Any, wire_name: str) -> None:
    id, pem = registered(iot, "INACTIVE")
    iot.delete_certificate(certificateId=id)
    cloud.add(cloud.device(), pem, wire_name)
    assert status_of(iot, id) == "ACTIVE", "a new registration, made by AddCertificate"


def test_a_refused_addition_registers_nothing(cloud: Cloud, iot: Any, wire_name: str) -> None:
    pem = certificate()
    with pytest.raises(Refused):
        cloud.add("are00000000000000000", pem, wire_name)
    assert status_of(iot, sha256_of(pem)) is None


def test_what_yandex_made_stays_while_a_policy_is_attached(cloud: Cloud, iot: Any, wire_name: str) -> None:
    device, pem, name = cloud.device(), certificate(), f"held-{wire_name}"
    id = sha256_of(pem)
    cloud.add(device, pem, wire_name)
    arn = iot.describe_certificate(certificateId=id)["certificateDescription"]["certificateArn"]
    statement = {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}
    iot.create_policy(policyName=name, policyDocument=json.dumps({"Version": "2012-10-17", "Statement": statement}))
    iot.attach_policy(policyName=name, target=arn)
    cloud.remove(device, id, wire_name)
    assert cloud.certificates(device) == []
    assert status_of(iot, id) == "ACTIVE"
    iot.detach_policy(policyName=name, target=arn)
    cloud.add(device, pem, wire_name)
    cloud.remove(device, id, wire_name)
    assert status_of(iot, id) == "ACTIVE", "it was there before it was bound again"
