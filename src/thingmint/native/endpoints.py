"""What the native face serves: one function each, and the table that routes to them and documents them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from thingmint.access.audit_records import AuditFilter
from thingmint.access.commands import COMMANDS
from thingmint.access.inputs import InAccount
from thingmint.domain.certificates import parse_fingerprint
from thingmint.domain.errors import NotFound
from thingmint.domain.registration import arn_of
from thingmint.domain.status import Status
from thingmint.native import schemas

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pydantic import BaseModel

    from thingmint.access.administration import Administration
    from thingmint.access.audit_records import AuditRecords
    from thingmint.access.commands import Command
    from thingmint.access.context import RequestContext
    from thingmint.domain.registration import Scope
    from thingmint.services.certificates import CertificateRegistry
    from thingmint.services.change import Authorize

__all__ = ["ENDPOINTS", "Call", "Endpoint"]


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose caller is known and whose input was checked against the endpoint's models."""

    scope: Scope
    may: Authorize
    certificates: CertificateRegistry
    administration: Administration
    audit: AuditRecords
    path: dict[str, str]
    query: Any
    body: Any

    def authorize(self, action: str, resource: str = "*") -> None:
        """Raises Denied."""
        self.may(action, (resource,), {})

    def certificate(self, action: str) -> str:
        """The id in the path, once the caller may do ``action`` to that certificate."""
        fingerprint = parse_fingerprint(self.path["id"], "id")
        self.authorize(action, arn_of(self.scope, fingerprint))
        return fingerprint


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``result`` is what "data" holds in the envelope; without one it is null.

    ``operation`` names it in log, metrics and audit record, and ``id`` in OpenAPI where several share that name.
    ``named`` completes the context of endpoints whose operation depends on their body.
    """

    method: str
    path: str
    operation: str
    summary: str
    handler: Callable[[Call], Awaitable[BaseModel | None]]
    query: type[BaseModel] = schemas.NoQuery
    body: type[BaseModel] = schemas.NoBody
    result: type[BaseModel] | None = None
    id: str | None = None
    named: Callable[[RequestContext, Any], RequestContext] = lambda context, body: context


async def _create_keys_and_certificate(call: Call) -> schemas.IssuedKeys:
    call.authorize("iot:CreateKeysAndCertificate")
    active = call.query.set_as_active == "true"
    registered, keys = await call.certificates.create_keys_and_certificate(call.scope, active=active)
    return schemas.IssuedKeys.of(registered, keys)


async def _add_certificate(call: Call) -> schemas.Certificate:
    body: schemas.NewCertificate = call.body
    if body.csr is not None:
        call.authorize("iot:CreateCertificateFromCsr")
        active = body.status == "ACTIVE"
        registered = await call.certificates.create_from_csr(call.scope, body.csr, active=active, field="csr")
    else:
        call.authorize("iot:RegisterCertificateWithoutCA")
        pem = body.certificate_pem or ""
        registered = await call.certificates.register(
            call.scope, pem, status=Status(body.status), field="certificate_pem"
        )
    return schemas.Certificate.of_registered(registered)


async def _list_certificates(call: Call) -> schemas.Listing:
    call.authorize("iot:ListCertificates")
    query: schemas.ListQuery = call.query
    page = await call.certificates.list(
        call.scope, limit=query.page_size, ascending=query.order == "ascending", marker=query.marker
    )
    return schemas.Listing.of(page.registrations, page.next_marker)


async def _describe_certificate(call: Call) -> schemas.Certificate:
    fingerprint = call.certificate("iot:DescribeCertificate")
    return schemas.Certificate.of_registered(await call.certificates.describe(call.scope, fingerprint))


async def _change_status(call: Call) -> schemas.CertificateSummary:
    fingerprint = call.certificate("iot:UpdateCertificate")
    return schemas.CertificateSummary.of(
        await call.certificates.set_status(call.scope, fingerprint, Status(call.body.status))
    )


async def _delete_certificate(call: Call) -> None:
    await call.certificates.delete(call.scope, call.certificate("iot:DeleteCertificate"))


async def _list_audit(call: Call) -> schemas.AuditListing:
    call.authorize("thingmint:ListAudit")
    query: schemas.AuditQuery = call.query
    wanted = AuditFilter(query.since, query.until, query.event, query.principal)
    page = await call.audit.list(call.scope.account, wanted, limit=query.page_size, marker=query.marker)
    return schemas.AuditListing.of(page.records, page.next_marker)


def _access_endpoint(command: Command) -> Endpoint:
    """The same command as `thingmint access`, within the caller's own account."""

    def named(context: RequestContext, given: Any) -> RequestContext:
        return replace(context, operation=command.event(given), parameters=command.parameters(given))

    async def handler(call: Call) -> BaseModel:
        given = call.body
        call.authorize(f"thingmint:{command.event(given)}")
        if isinstance(given, InAccount):
            if given.account not in ("", call.scope.account):
                raise NotFound("account", given.account)
            given = given.model_copy(update={"account": call.scope.account})
        return schemas.Result(await command.run(call.administration, given))

    return Endpoint(
        "POST",
        f"/v1/access/{command.noun}/{command.verb}",
        command.usual_event,
        command.summary,
        handler,
        body=command.input,
        result=schemas.Result,
        id=f"{command.noun}-{command.verb}",
        named=named,
    )


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
    Endpoint(
        "GET",
        "/v1/audit",
        "ListAudit",
        "List the account's audit records, newest first",
        _list_audit,
        query=schemas.AuditQuery,
        result=schemas.AuditListing,
    ),
    *(_access_endpoint(command) for command in COMMANDS.values() if not command.instance_wide),
)
