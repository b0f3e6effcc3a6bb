"""The endpoints of the native API: one function each, whose declaration has its route and its documentation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from thingmint.access.administration import COMMANDS
from thingmint.access.administration.inputs import InAccount
from thingmint.access.audit_records import AuditFilter
from thingmint.domain.certificates import find_obstacle, read_public_key
from thingmint.domain.errors import NotFound
from thingmint.domain.status import Status
from thingmint.native import schemas
from thingmint.native.declaring import Endpoint, Endpoints
from thingmint.native.fleet import FLEET
from thingmint.native.provisioning import PROVISIONING
from thingmint.native.sessions import SESSIONS
from thingmint.services.accounts import get_settings
from thingmint.services.ca_certificates import find_ca_state
from thingmint.services.certificates import (
    NewCertificate,
    delete_certificate,
    register_new,
    remaining_obstacle,
    update_status,
)
from thingmint.services.issuing import discard, issue_for_csr, issue_with_keys, prepare_own
from thingmint.services.pages import Cursor
from thingmint.services.transfers import get_visible, list_certificates

if TYPE_CHECKING:
    from pydantic import BaseModel

    from thingmint.access.administration import Command
    from thingmint.access.context import RequestContext
    from thingmint.native.declaring import Call
    from thingmint.services.change import Change, Query
    from thingmint.store.engine import Transaction


_OWN = Endpoints()
_serves = _OWN.serves


async def _with_keys(change: Change, _call: Call) -> NewCertificate:
    return await issue_with_keys(change)


@_serves(
    "POST",
    "/keys-and-certificate",
    "CreateKeysAndCertificate",
    "Make a key pair and a certificate for it",
    query=schemas.IssueQuery,
    result=schemas.IssuedKeys,
    prepare=_with_keys,
    discard=discard,
    secret=True,
)
async def _create_keys_and_certificate(
    tx: Transaction, change: Change, call: Call, new: NewCertificate
) -> schemas.IssuedKeys:
    status = Status.ACTIVE if call.query.set_as_active == "true" else Status.INACTIVE
    return schemas.IssuedKeys.of(await register_new(tx, change, new, status), new.keys)


async def _new(change: Change, call: Call) -> NewCertificate:
    body: schemas.NewCertificate = call.body
    if body.csr is not None:
        return issue_for_csr(change, body.csr, "csr")
    return prepare_own(change, body.certificate_pem or "", Status(body.status), "certificate_pem")


@_serves(
    "POST",
    "/v1/certificates",
    "AddCertificate",
    "Issue a certificate for a CSR, or register an existing certificate",
    actions=("iot:CreateCertificateFromCsr", "iot:RegisterCertificateWithoutCA"),
    action=lambda call: (
        f"iot:{'RegisterCertificateWithoutCA' if call.body.csr is None else 'CreateCertificateFromCsr'}"
    ),
    body=schemas.NewCertificate,
    result=schemas.Certificate,
    prepare=_new,
    discard=discard,
)
async def _add_certificate(tx: Transaction, change: Change, call: Call, new: NewCertificate) -> schemas.Certificate:
    registered = await register_new(tx, change, new, Status(call.body.status))
    cannot_connect = await remaining_obstacle(tx, change.account, new.obstacle)
    return schemas.Certificate.of_registered(registered, cannot_connect=cannot_connect)


@_serves(
    "GET",
    "/v1/certificates",
    "ListCertificates",
    "List certificates by age",
    query=schemas.ListQuery,
    result=schemas.CertificatePage,
)
async def _list_certificates(tx: Transaction, query: Query, call: Call) -> schemas.CertificatePage:
    wanted: schemas.ListQuery = call.query
    cursor = Cursor(wanted.page_size, wanted.marker, "marker")
    return schemas.CertificatePage.of(await list_certificates(tx, query, cursor, ascending=wanted.order == "ascending"))


@_serves(
    "GET",
    "/v1/certificates/{id}",
    "DescribeCertificate",
    "Show one certificate",
    result=schemas.Certificate,
)
async def _describe_certificate(tx: Transaction, query: Query, call: Call) -> schemas.Certificate:
    registered = await get_visible(tx, query.scope, call.certificate)
    certificate = registered.certificate
    obstacle = find_obstacle(certificate, read_public_key(certificate.der))
    return schemas.Certificate.of_registered(
        registered,
        await _ca_of(tx, query, registered.registration.ca),
        cannot_connect=await remaining_obstacle(tx, query.account, obstacle),
    )


async def _ca_of(tx: Transaction, query: Query, ca: str | None) -> schemas.CaOfCertificate | None:
    if ca is None:
        return None
    settings = await get_settings(tx, query.account)
    return schemas.CaOfCertificate.of(ca, await find_ca_state(tx, query.scope, ca), settings)


@_serves(
    "PATCH",
    "/v1/certificates/{id}",
    "UpdateCertificate",
    "Activate, deactivate or revoke a certificate",
    body=schemas.ChangeStatus,
    result=schemas.CertificateSummary,
)
async def _change_status(tx: Transaction, change: Change, call: Call) -> schemas.CertificateSummary:
    return schemas.CertificateSummary.of(await update_status(tx, change, call.certificate, Status(call.body.status)))


@_serves("DELETE", "/v1/certificates/{id}", "DeleteCertificate", "Delete a certificate that is not active")
async def _delete_certificate(tx: Transaction, change: Change, call: Call) -> None:
    await delete_certificate(tx, change, call.certificate)


async def _list_audit(call: Call) -> schemas.AuditPage:
    call.change.may("thingmint:ListAudit")
    query: schemas.AuditQuery = call.query
    wanted = AuditFilter(**query.model_dump(exclude={"page_size", "marker"}))
    page = await call.audit.list(call.change.account, wanted, limit=query.page_size, marker=query.marker)
    return schemas.AuditPage.of(page)


def _access_endpoint(command: Command) -> Endpoint:
    """The endpoint of a command of `thingmint access`, which works on the caller's own account only."""

    def named(context: RequestContext, given: Any) -> RequestContext:
        return replace(context, operation=command.event(given), parameters=command.parameters(given))

    async def handler(call: Call) -> BaseModel:
        given = call.body
        call.change.may(f"thingmint:{command.event(given)}")
        if isinstance(given, InAccount):
            if given.account not in ("", call.change.account):
                raise NotFound("account", given.account)
            given = given.model_copy(update={"account": call.change.account})
        return schemas.Result(await call.administer(command, given=given))

    return Endpoint(
        "POST",
        f"/v1/access/{command.noun}/{command.verb}",
        command.event(),
        command.summary,
        handler,
        tuple(f"thingmint:{event}" for event in command.events),
        body=command.input,
        result=schemas.Result,
        id=f"{command.noun}-{command.verb}",
        one_of=len(command.events) > 1,
        named=named,
    )


_AUDIT = Endpoint(
    "GET",
    "/v1/audit",
    "ListAudit",
    "List the account's audit records, newest first",
    _list_audit,
    ("thingmint:ListAudit",),
    query=schemas.AuditQuery,
    result=schemas.AuditPage,
)

ENDPOINTS: list[Endpoint] = [
    *_OWN,
    *FLEET,
    *SESSIONS,
    *PROVISIONING,
    _AUDIT,
    *(_access_endpoint(command) for command in COMMANDS.values() if not command.instance_wide),
]
