"""Certificate providers (five operations)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import Members, Result, cursor, new_tags, reads, writes
from thingmint.services.certificate_providers import (
    create_provider,
    delete_provider,
    get_provider,
    list_providers,
    update_provider,
)

if TYPE_CHECKING:
    from thingmint.services.certificate_providers import CertificateProvider
    from thingmint.services.change import Change, Query
    from thingmint.store.engine import Transaction

_NAME = "certificateProviderName"
_FUNCTION = "lambdaFunctionArn"

DEVIATIONS = {
    "CreateCertificateProvider": (
        "The function is one of the operator's table, as there is no Lambda here; it is looked up at each call, so it "
        "may be set later. The certificate must have the CSR's key, and is registered as SNI_ONLY."
    ),
}


@writes("CreateCertificateProvider")
async def create(tx: Transaction, change: Change, members: Members) -> Result:
    # The model allows one value of accountDefaultForOperations, CreateCertificateFromCsr.
    tags = new_tags(members)
    return _identified(
        await create_provider(tx, change, members[_NAME], members[_FUNCTION], members.get("clientToken"), tags)
    )


@reads("DescribeCertificateProvider")
async def describe(tx: Transaction, query: Query, members: Members) -> Result:
    provider = await get_provider(tx, query.scope, members[_NAME])
    return {
        **_identified(provider),
        _FUNCTION: provider.function_arn,
        "accountDefaultForOperations": ["CreateCertificateFromCsr"],
        "creationDate": provider.created_at,
        "lastModifiedDate": provider.modified_at,
    }


@reads("ListCertificateProviders")
async def list_(tx: Transaction, query: Query, members: Members) -> Result:
    page = await list_providers(tx, query, cursor(members))
    return {"certificateProviders": [_identified(each) for each in page.items], "nextToken": page.next_token}


@writes("UpdateCertificateProvider")
async def update(tx: Transaction, change: Change, members: Members) -> Result:
    return _identified(await update_provider(tx, change, members[_NAME], members.get(_FUNCTION)))


@writes("DeleteCertificateProvider")
async def delete(tx: Transaction, change: Change, members: Members) -> Result:
    await delete_provider(tx, change, members[_NAME])
    return {}


def _identified(provider: CertificateProvider) -> Result:
    return {_NAME: provider.name, "certificateProviderArn": provider.arn}
