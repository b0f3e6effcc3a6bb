"""The endpoints that tell about a fleet: counts of certificates, sessions, refusals, health."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from thingmint.domain.errors import Unsupported
from thingmint.native import fleet_schemas as schemas
from thingmint.native.declaring import Endpoint, Endpoints
from thingmint.services.certificate_counts import count_certificates
from thingmint.services.certificate_finding import find_certificates
from thingmint.services.certificate_search import search_certificates
from thingmint.services.pages import Cursor
from thingmint.services.refusals import count_refusals, list_refusals

if TYPE_CHECKING:
    from thingmint.native.declaring import Call
    from thingmint.services.change import Query
    from thingmint.store.engine import Transaction

FLEET = Endpoints()


def _cursor(call: Call) -> Cursor:
    wanted: schemas.Paged = call.query
    return Cursor(wanted.page_size, wanted.marker, "marker")


@FLEET.serves(
    "GET",
    "/v1/certificate-counts",
    "CountCertificates",
    "Count certificates by status, by week of expiry, and by day of addition",
    actions=("iot:ListCertificates",),
    query=schemas.CountsQuery,
    result=schemas.CertificateCounts,
)
async def _count_certificates(tx: Transaction, query: Query, call: Call) -> schemas.CertificateCounts:
    wanted: schemas.CountsQuery = call.query
    counts = await count_certificates(tx, query.scope, query.now, weeks=wanted.weeks, days=wanted.days)
    return schemas.CertificateCounts.of(counts)


@FLEET.serves(
    "GET",
    "/v1/certificate-search",
    "SearchCertificates",
    "List the certificates that satisfy a filter",
    actions=("iot:ListCertificates",),
    query=schemas.SearchQuery,
    result=schemas.SearchedPage,
)
async def _search_certificates(tx: Transaction, query: Query, call: Call) -> schemas.SearchedPage:
    wanted: schemas.SearchQuery = call.query
    is_ascending = wanted.order == "ascending"
    page = await search_certificates(tx, query, _cursor(call), wanted.filter(), ascending=is_ascending)
    return schemas.SearchedPage.of(page)


@FLEET.serves(
    "GET",
    "/v1/certificate-find",
    "FindCertificates",
    "Find certificates by what a person knows of them",
    actions=("iot:ListCertificates",),
    query=schemas.FindQuery,
    result=schemas.FoundCertificates,
)
async def _find_certificates(tx: Transaction, query: Query, call: Call) -> schemas.FoundCertificates:
    found = await find_certificates(tx, query, call.query.text, call.query.limit)
    return schemas.FoundCertificates(
        certificates=[schemas.SearchedCertificate.of_found(each, by) for by, each in found.certificates]
    )


@FLEET.serves(
    "GET",
    "/v1/refusals",
    "ListRefusals",
    "List what devices were refused, in groups, the last refused first",
    actions=("thingmint:ListRefusals",),
    query=schemas.RefusalsQuery,
    result=schemas.RefusalPage,
)
async def _list_refusals(tx: Transaction, query: Query, call: Call) -> schemas.RefusalPage:
    wanted = call.query.model_dump(exclude={"page_size", "marker"})
    return schemas.RefusalPage.of(await list_refusals(tx, query, _cursor(call), **wanted))


@FLEET.serves(
    "GET",
    "/v1/refusal-counts",
    "CountRefusals",
    "Count the refusals of the last hour by reason",
    actions=("thingmint:ListRefusals",),
    query=schemas.RefusalCountsQuery,
    result=schemas.RefusalCounts,
)
async def _count_refusals(tx: Transaction, query: Query, call: Call) -> schemas.RefusalCounts:
    counts = await count_refusals(tx, query.scope, query.now, timedelta(minutes=call.query.minutes))
    return schemas.RefusalCounts(total=sum(counts.values()), by_reason=counts)


async def _health(call: Call) -> schemas.Health:
    call.change.may("thingmint:GetHealth")
    report = call.change.environment.health
    if report is None:
        raise Unsupported("This server does not tell its health")
    return schemas.Health.of(await report())


FLEET.append(
    Endpoint(
        "GET",
        "/v1/health",
        "GetHealth",
        "Report on the health of the server",
        _health,
        ("thingmint:GetHealth",),
        result=schemas.Health,
    )
)
