"""Both APIs use the same certificates: a change over one API is visible over the other immediately."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.yandex.certificates import certificate, der_of, pem_of, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.yandex.clients import Cloud

pytestmark = pytest.mark.both_engines


def created_by_aws(iot: Any, *, active: bool) -> tuple[str, str]:
    """The certificate id and PEM of a certificate that the AWS API created."""
    created = iot.create_keys_and_certificate(setAsActive=active)
    return created["certificateId"], created["certificatePem"]


def registered(iot: Any, status: str) -> tuple[str, str]:
    pem = certificate()
    return iot.register_certificate_without_ca(certificatePem=pem, status=status)["certificateId"], pem


def status_of(iot: Any, id: str) -> str | None:
    """The status of the registration, or None if there is none."""
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


@pytest.mark.parametrize("status", ["ACTIVE", "REVOKED"])
def test_binding_a_certificate_of_aws_keeps_its_status(cloud: Cloud, iot: Any, wire_name: str, status: str) -> None:
    id, pem = registered(iot, status) if status == "REVOKED" else created_by_aws(iot, active=True)
    before = iot.describe_certificate(certificateId=id)["certificateDescription"]
    assert before["status"] == status
    device = cloud.device()
    assert cloud.add(device, pem, wire_name).done
    assert [each.fingerprint for each in cloud.certificates(device)] == [id]
    assert iot.describe_certificate(certificateId=id)["certificateDescription"] == before
    cloud.remove(device, id, wire_name)
    assert status_of(iot, id) == ("INACTIVE" if status == "ACTIVE" else status)
    cloud.add(cloud.device(), pem, wire_name)
    assert status_of(iot, id) == status, "on another device"


def test_the_aws_api_lists_describes_and_deactivates_a_bound_certificate(
    cloud: Cloud, iot: Any, wire_name: str
) -> None:
    device, pem = cloud.device(), certificate() + "\r\n"
    id = sha256_of(pem)
    cloud.add(device, pem, wire_name)
    assert id in all_ids(iot)
    described = iot.describe_certificate(certificateId=id)["certificateDescription"]
    assert (described["status"], described["certificatePem"]) == ("ACTIVE", pem_of(der_of(pem)))
    for status in ("INACTIVE", "ACTIVE", "REVOKED"):
        iot.update_certificate(certificateId=id, newStatus=status)
        assert status_of(iot, id) == status
        assert [each.certificate_data for each in cloud.certificates(device)] == [pem], "the certificate is still bound"
    code = code_of(lambda: iot.register_certificate_without_ca(certificatePem=pem))
    assert code == "ResourceAlreadyExistsException"


@pytest.mark.parametrize("origin", ["aws", "yandex"])
def test_the_aws_api_refuses_to_delete_a_bound_certificate(cloud: Cloud, iot: Any, wire_name: str, origin: str) -> None:
    device, pem = cloud.device(), certificate()
    if origin == "aws":
        iot.register_certificate_without_ca(certificatePem=pem, status="ACTIVE")
    cloud.add(device, pem, wire_name)
    id = sha256_of(pem)

    def delete() -> None:
        iot.delete_certificate(certificateId=id, forceDelete=True)

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


def test_unbinding_deletes_a_registration_made_by_binding(cloud: Cloud, iot: Any, wire_name: str) -> None:
    device, pem = cloud.device(), certificate()
    cloud.add(device, pem, wire_name)
    iot.update_certificate(certificateId=sha256_of(pem), newStatus="REVOKED")
    cloud.remove(device, sha256_of(pem), wire_name)
    assert status_of(iot, sha256_of(pem)) is None
    assert sha256_of(pem) not in all_ids(iot)
    iot.register_certificate_without_ca(certificatePem=pem)
    assert status_of(iot, sha256_of(pem)) == "INACTIVE"
