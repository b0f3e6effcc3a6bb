"""What the native face serves: one function each, and the table that routes to them and documents them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thingmint.identity.certificates import parse_fingerprint
from thingmint.identity.status import Status
from thingmint.native import schemas

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pydantic import BaseModel

    from thingmint.access.callers import Caller
    from thingmint.identity.registration import Scope
    from thingmint.registry.certificates import CertificateRegistry

__all__ = ["ENDPOINTS", "Call", "Endpoint"]


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose caller is known and whose input was checked against the endpoint's models."""

    caller: Caller
    scope: Scope
    certificates: CertificateRegistry
    path: dict[str, str]
    query: Any
    body: Any


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``result`` is what "data" holds in the envelope; without one it is null."""

    method: str
    path: str
    operation: str
    summary: str
    handler: Callable[[Call], Awaitable[BaseModel | None]]
    query: type[BaseModel] = schemas.NoQuery
    body: type[BaseModel] = schemas.NoBody
    result: type[BaseModel] | None = None


async def _create_keys_and_certificate(call: Call) -> schemas.IssuedKeys:
    call.caller.require("iot:CreateKeysAndCertificate")
    active = call.query.set_as_active == "true"
    registered, keys = await call.certificates.create_keys_and_certificate(call.scope, active=active)
    return schemas.IssuedKeys.of(registered, keys)


async def _add_certificate(call: Call) -> schemas.Certificate:
    body: schemas.NewCertificate = call.body
    if body.csr is not None:
        call.caller.require("iot:CreateCertificateFromCsr")
        active = body.status == "ACTIVE"
        registered = await call.certificates.create_from_csr(call.scope, body.csr, active=active, field="csr")
    else:
        call.caller.require("iot:RegisterCertificateWithoutCA")
        pem = body.certificate_pem or ""
        registered = await call.certificates.register(
            call.scope, pem, status=Status(body.status), field="certificate_pem"
        )
    return schemas.Certificate.of_registered(registered)


async def _list_certificates(call: Call) -> schemas.Listing:
    call.caller.require("iot:ListCertificates")
    query: schemas.ListQuery = call.query
    page = await call.certificates.list(
        call.scope, limit=query.page_size, ascending=query.order == "ascending", marker=query.marker
    )
    return schemas.Listing.of(page.registrations, page.next_marker)


async def _describe_certificate(call: Call) -> schemas.Certificate:
    call.caller.require("iot:DescribeCertificate")
    return schemas.Certificate.of_registered(await call.certificates.describe(call.scope, _id(call)))


async def _change_status(call: Call) -> schemas.CertificateSummary:
    call.caller.require("iot:UpdateCertificate")
    return schemas.CertificateSummary.of(
        await call.certificates.set_status(call.scope, _id(call), Status(call.body.status))
    )


async def _delete_certificate(call: Call) -> None:
    call.caller.require("iot:DeleteCertificate")
    await call.certificates.delete(call.scope, _id(call))


def _id(call: Call) -> str:
    return parse_fingerprint(call.path["id"], "id")


ENDPOINTS = (
    Endpoint(
        "POST",
        "/keys-and-certificate",
        "CreateKeysAndCertificate",
        "Make a key pair and a certificate for it",
        _create_keys_and_certificate,
        query=schemas.IssueQuery,
        result=schemas.IssuedKeys,
    ),
    Endpoint(
        "POST",
        "/v1/certificates",
        "AddCertificate",
        "Have a signing request signed, or register a certificate that exists",
        _add_certificate,
        body=schemas.NewCertificate,
        result=schemas.Certificate,
    ),
    Endpoint(
        "GET",
        "/v1/certificates",
        "ListCertificates",
        "List certificates by age",
        _list_certificates,
        query=schemas.ListQuery,
        result=schemas.Listing,
    ),
    Endpoint(
        "GET",
        "/v1/certificates/{id}",
        "DescribeCertificate",
        "Show one certificate",
        _describe_certificate,
        result=schemas.Certificate,
    ),
    Endpoint(
        "PATCH",
        "/v1/certificates/{id}",
        "UpdateCertificate",
        "Activate, deactivate or revoke a certificate",
        _change_status,
        body=schemas.ChangeStatus,
        result=schemas.CertificateSummary,
    ),
    Endpoint(
        "DELETE",
        "/v1/certificates/{id}",
        "DeleteCertificate",
        "Delete a certificate that is not active",
        _delete_certificate,
    ),
)
