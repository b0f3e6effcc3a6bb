"""Certificates (14 operations)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import Members, Result, marker_cursor, reads, writes
from thingmint.domain.certificates import parse_fingerprint
from thingmint.domain.status import Status, check_initial
from thingmint.services.certificates import NewCertificate, delete_certificate, register_new, update_status
from thingmint.services.certificates_under_ca import parse_issued, register_under_ca
from thingmint.services.issuing import discard, issue_for_csr, issue_with_keys, prepare_own
from thingmint.services.transfers import (
    Transfer,
    accept_transfer,
    cancel_transfer,
    get_visible,
    list_certificates,
    list_outgoing,
    owner_of,
    reject_transfer,
    transfer_certificate,
)

if TYPE_CHECKING:
    from thingmint.domain.ca_certificates import CaCertificate
    from thingmint.domain.certificates import IssuedCertificate
    from thingmint.services.certificates import Registration
    from thingmint.services.change import Change, Query
    from thingmint.services.pages import Page
    from thingmint.store.engine import Transaction

DEVIATIONS = {
    "CreateKeysAndCertificate": (
        "This server's own CA signs: devices trust `ca.pem` of this server, and AWS does not know the certificates."
    ),
    "CreateCertificateFromCsr": (
        "This server's own CA signs. A CSR with a weak key, or with a signature over MD5 or SHA-1, is refused "
        "with the reason."
    ),
    "UpdateCertificate": (
        "Connected devices are disconnected before the answer; AWS takes some minutes. A REVOKED certificate stays so, "
        "unless the setting `reinstate_revoked` is set: AWS's guide says that it cannot be used again."
    ),
    "TransferCertificate": (
        "AWS does not document some errors: the own account is an InvalidRequestException, an account that is not "
        "here a ResourceNotFoundException, and a target that has the certificate a TransferConflictException. An "
        "offer does not expire."
    ),
    "AcceptCertificateTransfer": (
        "A certificate that another CA signed becomes SNI_ONLY and has no CA certificate here: a CA proves whose "
        "a device is in the account that registered it only."
    ),
}


async def _with_keys(change: Change, _members: Members) -> NewCertificate:
    return await issue_with_keys(change)


@writes("CreateKeysAndCertificate", prepare=_with_keys, discard=discard, secret=True)
async def create_keys_and_certificate(tx: Transaction, change: Change, members: Members, new: NewCertificate) -> Result:
    registered = await register_new(tx, change, new, _issued_status(members))
    assert new.keys is not None, "it was made with keys"
    return {
        **_identified(registered.registration),
        "certificatePem": registered.certificate.pem,
        "keyPair": {"PublicKey": new.keys.public_pem, "PrivateKey": new.keys.private_pem},
    }


async def _for_csr(change: Change, members: Members) -> NewCertificate:
    return issue_for_csr(change, members["certificateSigningRequest"], "certificateSigningRequest")


@writes("CreateCertificateFromCsr", prepare=_for_csr, discard=discard)
async def create_certificate_from_csr(tx: Transaction, change: Change, members: Members, new: NewCertificate) -> Result:
    registered = await register_new(tx, change, new, _issued_status(members))
    return {**_identified(registered.registration), "certificatePem": registered.certificate.pem}


async def _own(change: Change, members: Members) -> NewCertificate:
    return prepare_own(change, members["certificatePem"], _registered_status(members), "certificatePem")


@writes("RegisterCertificateWithoutCA", prepare=_own)
async def register_without_ca(tx: Transaction, change: Change, members: Members, new: NewCertificate) -> Result:
    return _identified((await register_new(tx, change, new, _registered_status(members))).registration)


async def _issued(change: Change, members: Members) -> tuple[IssuedCertificate, CaCertificate | None]:
    check_initial(_registered_status(members))
    ca = members.get("caCertificatePem")
    return parse_issued(change, members["certificatePem"], "certificatePem", ca, "caCertificatePem")


@writes("RegisterCertificate", prepare=_issued)
async def register(
    tx: Transaction, change: Change, members: Members, new: tuple[IssuedCertificate, CaCertificate | None]
) -> Result:
    return _identified(await register_under_ca(tx, change, *new, _registered_status(members)))


@reads("DescribeCertificate")
async def describe(tx: Transaction, query: Query, members: Members) -> Result:
    registration, certificate = await get_visible(tx, query.scope, _id(members))
    return {
        "certificateDescription": {
            **_identified(registration),
            "caCertificateId": registration.ca,
            "status": registration.status.value,
            "certificatePem": certificate.pem,
            "ownedBy": owner_of(registration),
            "previousOwnedBy": registration.previous_owner,
            "creationDate": registration.created_at,
            "lastModifiedDate": registration.modified_at,
            "customerVersion": registration.version,
            "transferData": _transferred(registration),
            "generationId": registration.generation,
            "validity": {"notBefore": certificate.not_before, "notAfter": certificate.not_after},
            "certificateMode": registration.mode,
        }
    }


@reads("ListCertificates")
async def list_(tx: Transaction, query: Query, members: Members) -> Result:
    ascending = members.get("ascendingOrder", False)
    return _page(await list_certificates(tx, query, marker_cursor(members), ascending=ascending))


@reads("ListCertificatesByCA")
async def list_by_ca(tx: Transaction, query: Query, members: Members) -> Result:
    ca = parse_fingerprint(members["caCertificateId"], "caCertificateId")
    ascending = members.get("ascendingOrder", False)
    return _page(await list_certificates(tx, query, marker_cursor(members), ascending=ascending, ca=ca))


@writes("UpdateCertificate")
async def update(tx: Transaction, change: Change, members: Members) -> Result:
    await update_status(tx, change, _id(members), Status(members["newStatus"]))
    return {}


@writes("DeleteCertificate")
async def delete(tx: Transaction, change: Change, members: Members) -> Result:
    await delete_certificate(tx, change, _id(members), force=members.get("forceDelete", False))
    return {}


@writes("TransferCertificate")
async def transfer(tx: Transaction, change: Change, members: Members) -> Result:
    target, message = members["targetAwsAccount"], members.get("transferMessage")
    transferred = await transfer_certificate(tx, change, _id(members), target, message)
    return {"transferredCertificateArn": transferred.arn}


@writes("AcceptCertificateTransfer")
async def accept(tx: Transaction, change: Change, members: Members) -> Result:
    await accept_transfer(tx, change, _id(members), _issued_status(members))
    return {}


@writes("RejectCertificateTransfer")
async def reject(tx: Transaction, change: Change, members: Members) -> Result:
    await reject_transfer(tx, change, _id(members), members.get("rejectReason"))
    return {}


@writes("CancelCertificateTransfer")
async def cancel(tx: Transaction, change: Change, members: Members) -> Result:
    await cancel_transfer(tx, change, _id(members))
    return {}


@reads("ListOutgoingCertificates")
async def list_outgoing_(tx: Transaction, query: Query, members: Members) -> Result:
    ascending = members.get("ascendingOrder", False)
    page = await list_outgoing(tx, query, marker_cursor(members), ascending=ascending)
    return {
        "outgoingCertificates": [
            {
                **_identified(registration),
                "transferredTo": transfer.target,
                "transferDate": transfer.started_at,
                "transferMessage": transfer.message,
                "creationDate": registration.created_at,
            }
            for registration in page.items
            if (transfer := Transfer.of(registration)) is not None
        ],
        "nextMarker": page.next_token,
    }


def _id(members: Members) -> str:
    return parse_fingerprint(members["certificateId"], "certificateId")


def _issued_status(members: Members) -> Status:
    return Status.ACTIVE if members.get("setAsActive", False) else Status.INACTIVE


def _registered_status(members: Members) -> Status:
    # AWS's guide calls setAsActive deprecated, and does not say which of the two counts. Here it is status.
    return Status(members.get("status", _issued_status(members)))


def _identified(registration: Registration) -> Result:
    return {"certificateArn": registration.arn, "certificateId": registration.fingerprint}


def _transferred(registration: Registration) -> Result | None:
    transfer = Transfer.of(registration)
    if transfer is None or transfer.cancelled_at is not None:
        return None
    return {
        "transferMessage": transfer.message,
        "rejectReason": transfer.reason,
        "transferDate": transfer.started_at,
        "acceptDate": transfer.accepted_at,
        "rejectDate": transfer.rejected_at,
    }


def _page(page: Page[Registration]) -> Result:
    return {
        "certificates": [
            {
                **_identified(registration),
                "status": registration.status.value,
                "certificateMode": registration.mode,
                "creationDate": registration.created_at,
            }
            for registration in page.items
        ],
        "nextMarker": page.next_token,
    }
