"""Transfers of certificates between accounts over boto3: each outcome, a device's connection, audit logs, a restart."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.access.local_admin import LocalAdmin, allow, document, keys_of, refusal
from tests.e2e.conftest import iot_client
from tests.e2e.mqtt.devices import Closed, Credential, Device
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.signing import Signer
    from thingmint.testing import RunningServer

pytestmark = pytest.mark.both_engines

_MESSAGE = "sold with the building"


@pytest.fixture(scope="module")
def two(server: RunningServer) -> Iterator[tuple[Any, Any, str]]:
    """Clients of two accounts, and the id of the second account."""
    other = LocalAdmin(server).ask("account.create", name="buyer")
    with (
        contextlib.closing(iot_client(server)) as seller,
        contextlib.closing(iot_client(server, **keys_of(other))) as buyer,
    ):
        yield seller, buyer, other["account"]


def _issued(iot: Any, folder: Path) -> Credential:
    made = iot.create_keys_and_certificate()
    file = folder / "device.pem"
    file.write_text(made["keyPair"]["PrivateKey"] + made["certificatePem"])
    return Credential(made["certificateId"], made["certificatePem"], file)


def _status(iot: Any, id: str) -> str:
    return str(iot.describe_certificate(certificateId=id)["certificateDescription"]["status"])


def test_an_accepted_certificate_connects_in_its_new_account(
    server: RunningServer, two: tuple[Any, Any, str], tmp_path: Path
) -> None:
    seller, buyer, account = two
    made = _issued(seller, tmp_path)
    id = made.fingerprint
    seller.update_certificate(certificateId=id, newStatus="ACTIVE")
    seller_arn = seller.describe_certificate(certificateId=id)["certificateDescription"]["certificateArn"]
    for iot in (seller, buyer):
        iot.create_policy(policyName=f"all-{id[:8]}", policyDocument=document(allow("iot:*")))
    seller.attach_policy(policyName=f"all-{id[:8]}", target=seller_arn)
    with Device(server, made) as device:
        device.connect("lamp")
        wanted = {"certificateId": id, "targetAwsAccount": account, "transferMessage": _MESSAGE}
        assert refusal(seller.transfer_certificate, **wanted)[:2] == (406, "CertificateStateException")
        seller.update_certificate(certificateId=id, newStatus="INACTIVE")
        device.until_closed(5)
    assert refusal(seller.transfer_certificate, **wanted)[:2] == (409, "TransferConflictException")
    seller.detach_policy(policyName=f"all-{id[:8]}", target=seller_arn)
    assert seller.transfer_certificate(**wanted)["transferredCertificateArn"] == seller_arn

    (outgoing,) = [
        each
        for page in seller.get_paginator("list_outgoing_certificates").paginate(PaginationConfig={"PageSize": 1})
        for each in page["outgoingCertificates"]
        if each["certificateId"] == id
    ]
    assert (outgoing["transferredTo"], outgoing["transferMessage"]) == (account, _MESSAGE)
    for iot in (seller, buyer):
        described = iot.describe_certificate(certificateId=id)["certificateDescription"]
        assert described["status"] == "PENDING_TRANSFER"
        assert described["transferData"] == {"transferMessage": _MESSAGE, "transferDate": outgoing["transferDate"]}
        for call, more in ((iot.update_certificate, {"newStatus": "ACTIVE"}), (iot.delete_certificate, {})):
            assert refusal(call, certificateId=id, **more)[:2] == (406, "CertificateStateException")
        attached = {"policyName": f"all-{id[:8]}", "target": described["certificateArn"]}
        assert refusal(iot.attach_policy, **attached)[1] in ("CertificateStateException", "InvalidRequestException")
    with Device(server, made) as device, pytest.raises(Closed):
        device.connect("lamp")

    buyer.accept_certificate_transfer(certificateId=id, setAsActive=True)
    described = buyer.describe_certificate(certificateId=id)["certificateDescription"]
    assert (described["status"], described["ownedBy"]) == ("ACTIVE", account)
    assert described["previousOwnedBy"] == seller_arn.split(":")[4]
    assert described["transferData"]["acceptDate"] >= described["transferData"]["transferDate"]
    assert refusal(seller.describe_certificate, certificateId=id)[:2] == (404, "ResourceNotFoundException")
    assert refusal(seller.cancel_certificate_transfer, certificateId=id)[:2] == (
        410,
        "TransferAlreadyCompletedException",
    )
    buyer.attach_policy(policyName=f"all-{id[:8]}", target=described["certificateArn"])
    with Device(server, made) as device:
        device.connect("lamp")
        assert device.is_open
    buyer.update_certificate(certificateId=id, newStatus="INACTIVE")


def test_a_rejected_or_cancelled_certificate_returns(two: tuple[Any, Any, str], tmp_path: Path) -> None:
    seller, buyer, account = two
    made = _issued(seller, tmp_path).fingerprint
    seller.transfer_certificate(certificateId=made, targetAwsAccount=account)
    buyer.reject_certificate_transfer(certificateId=made, rejectReason="not ours")
    described = seller.describe_certificate(certificateId=made)["certificateDescription"]
    assert (described["status"], described["transferData"]["rejectReason"]) == ("INACTIVE", "not ours")
    assert refusal(buyer.describe_certificate, certificateId=made)[0] == 404
    assert refusal(buyer.accept_certificate_transfer, certificateId=made)[0] == 410
    seller.transfer_certificate(certificateId=made, targetAwsAccount=account)
    seller.cancel_certificate_transfer(certificateId=made)
    assert _status(seller, made) == "INACTIVE"
    assert refusal(buyer.reject_certificate_transfer, certificateId=made)[0] == 410
    seller.delete_certificate(certificateId=made)
    for call in (buyer.accept_certificate_transfer, seller.cancel_certificate_transfer):
        assert refusal(call, certificateId=made)[:2] == (404, "ResourceNotFoundException")


def test_both_audit_logs_have_the_transfer(server: RunningServer, two: tuple[Any, Any, str], tmp_path: Path) -> None:
    seller, buyer, account = two
    made = _issued(seller, tmp_path).fingerprint
    seller.transfer_certificate(certificateId=made, targetAwsAccount=account)
    buyer.reject_certificate_transfer(certificateId=made)
    local_admin = LocalAdmin(server)
    from_seller = seller.describe_certificate(certificateId=made)["certificateDescription"]["certificateArn"]
    from_buyer = from_seller.replace(from_seller.split(":")[4], account)
    for event in ("TransferCertificate", "RejectCertificateTransfer"):
        for of, arn in ((from_seller.split(":")[4], from_seller), (account, from_buyer)):
            records = [each for each in _records(local_admin, of, event) if arn in (each["resources"] or ())]
            assert len(records) == 1, (event, of, records)
            assert records[0]["resources"] == [arn]
            assert records[0]["transfer"] == {"from": from_seller.split(":")[4], "to": account}
            is_copy = (event == "TransferCertificate") == (of == account)
            assert (records[0]["address"] is None) is is_copy
    seller.delete_certificate(certificateId=made)


def _records(local_admin: LocalAdmin, account: str, event: str) -> list[dict[str, Any]]:
    local_admin = LocalAdmin(local_admin.server, account)
    with local_admin.native(local_admin.user(allow("thingmint:ListAudit"))) as client:
        answer = client.get("/v1/audit", params={"event": event})
        answer.raise_for_status()
        records: list[dict[str, Any]] = answer.json()["data"]["records"]
        return records


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/transfer-certificate/{id}", None),
        ("/transfer-certificate/{id}?targetAwsAccount=12345678901", None),
        ("/transfer-certificate/{id}?targetAwsAccount=12345678901x", None),
        ("/transfer-certificate/{id}?targetAwsAccount=999999999999", {"transferMessage": "x" * 129}),
        ("/transfer-certificate/ffff?targetAwsAccount=999999999999", None),
        ("/accept-certificate-transfer/ffff", None),
        ("/accept-certificate-transfer/{id}?setAsActive=perhaps", None),
        ("/reject-certificate-transfer/{id}", {"rejectReason": "x" * 129}),
        ("/cancel-certificate-transfer/ffff", None),
    ],
)
def test_inputs_that_the_model_forbids_are_refused(signer: Signer, target: str, body: dict[str, Any] | None) -> None:
    content = b"" if body is None else json.dumps(body).encode()
    answer = signer.send("PATCH", target.format(id="f" * 64), body=content)
    assert (answer.status, answer.aws_code) == (400, "InvalidRequestException")


def test_a_pending_transfer_survives_a_restart(tmp_path: Path, new_store: Callable[[], dict[str, str]]) -> None:
    store = new_store()
    with running_server(tmp_path / "data", environment=store) as server, contextlib.ExitStack() as stack:
        local_admin = LocalAdmin(server)
        others = [local_admin.ask("account.create", name=name) for name in ("buyer", "third")]
        iot = stack.enter_context(contextlib.closing(iot_client(server)))
        made = iot.create_keys_and_certificate()["certificateId"]
        iot.transfer_certificate(certificateId=made, targetAwsAccount=others[0]["account"])
        third = stack.enter_context(contextlib.closing(iot_client(server, **keys_of(others[1]))))
        assert third.list_certificates()["certificates"] == []
        for name in ("describe_certificate", "accept_certificate_transfer", "cancel_certificate_transfer"):
            assert refusal(getattr(third, name), certificateId=made)[:2] == (404, "ResourceNotFoundException")
    with (
        running_server(tmp_path / "data", environment=store) as server,
        contextlib.closing(iot_client(server, **keys_of(others[0]))) as buyer,
    ):
        assert _status(buyer, made) == "PENDING_TRANSFER"
        buyer.accept_certificate_transfer(certificateId=made)
        assert _status(buyer, made) == "INACTIVE"
