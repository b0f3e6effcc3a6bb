"""The endpoints of provisioning and imports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.arns import arn
from thingmint.native import provisioning_schemas as schemas
from thingmint.native.declaring import Endpoint
from thingmint.services.claims import live_claims
from thingmint.services.imports import findings_after, get_import_of, list_imports_of
from thingmint.services.provisioning_dry_run import dry_run
from thingmint.services.provisioning_samples import SampleDevice
from thingmint.services.templates import TEMPLATES, get_template

if TYPE_CHECKING:
    from thingmint.native.declaring import Call
    from thingmint.services.claims import Claim
    from thingmint.services.imports import Result
    from thingmint.store.engine import Transaction

_MOST = 1000


async def _test(call: Call) -> schemas.DryRunResult:
    given: schemas.SampleParameters = call.body
    call.change.may("thingmint:TestProvisioning", _resource(call, given.template))
    template, version = await call.store.read(
        lambda tx: get_template(tx, call.change.scope, given.template, given.version)
    )
    sample = SampleDevice(
        parameters=given.parameters,
        certificate=given.certificate.lower() if given.certificate is not None else None,
        pem=given.certificate_pem,
        client_id=given.client_id,
        address=str(given.address) if given.address is not None else None,
    )
    document = version.body if given.document is None else given.document
    run = await dry_run(call.store, call.change, template, document, sample, call.allows)
    return schemas.DryRunResult.of(run, version.version if given.document is None else None)


async def _list_claims(call: Call) -> schemas.ClaimList:
    name = call.query.template
    call.change.may("thingmint:ListProvisioningClaims", _resource(call, name))

    async def body(tx: Transaction) -> list[Claim]:
        template = await TEMPLATES.get(tx, *call.change.scope, name)
        return await live_claims(tx, template, call.change.now)

    return schemas.ClaimList.of(await call.store.read(body))


async def _list_imports(call: Call) -> schemas.ImportList:
    call.change.may("thingmint:ListImports")
    found = await call.store.read(lambda tx: list_imports_of(tx, call.change.account, _MOST))
    return schemas.ImportList(imports=[schemas.Import.of(each, each.state(call.change.now)) for each in found])


async def _list_findings(call: Call) -> schemas.FindingList:
    call.change.may("thingmint:ListImports")
    wanted: schemas.FindingsQuery = call.query

    async def body(tx: Transaction) -> list[tuple[int, Result]]:
        await get_import_of(tx, call.change.account, wanted.id)
        return await findings_after(tx, wanted.id, wanted.after, wanted.limit)

    found = await call.store.read(body)
    return schemas.FindingList(
        findings=[schemas.Finding.model_validate({"number": number, **each._asdict()}) for number, each in found]
    )


def _resource(call: Call, template: str) -> str:
    return arn(call.change.scope, f"provisioningtemplate/{template}")


PROVISIONING = [
    Endpoint(
        "POST",
        "/v1/provisioning/dry-run",
        "TestProvisioning",
        "Run a provisioning template for a sample device, without changing anything",
        _test,
        ("thingmint:TestProvisioning",),
        body=schemas.SampleParameters,
        result=schemas.DryRunResult,
    ),
    Endpoint(
        "GET",
        "/v1/provisioning/claims",
        "ListProvisioningClaims",
        "List the claims of a provisioning template that are valid now",
        _list_claims,
        ("thingmint:ListProvisioningClaims",),
        query=schemas.ClaimsQuery,
        result=schemas.ClaimList,
    ),
    Endpoint(
        "GET",
        "/v1/imports",
        "ListImports",
        "List the account's imports of fleets, with their progress",
        _list_imports,
        ("thingmint:ListImports",),
        result=schemas.ImportList,
    ),
    Endpoint(
        "GET",
        "/v1/import-findings",
        "ListImportFindings",
        "List what did not come as it was in an import",
        _list_findings,
        ("thingmint:ListImports",),
        query=schemas.FindingsQuery,
        result=schemas.FindingList,
    ),
]
