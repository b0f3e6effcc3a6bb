"""The endpoints that tell about a fleet: counts of certificates, sessions, refusals, health."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.native import fleet_schemas as schemas
from thingmint.native.declaring import Endpoints
from thingmint.services.certificate_counts import count_certificates

if TYPE_CHECKING:
    from thingmint.native.declaring import Call
    from thingmint.services.change import Query
    from thingmint.store.engine import Transaction

FLEET = Endpoints()


@FLEET.serves(
    "GET",
    "/v1/certificate-counts",
    "CountCertificates",
    "Count certificates by status, by week of expiry, and by day of addition",
    action=lambda _call: "iot:ListCertificates",
    query=schemas.CountsQuery,
    result=schemas.CertificateCounts,
)
async def _count_certificates(tx: Transaction, query: Query, call: Call) -> schemas.CertificateCounts:
    wanted: schemas.CountsQuery = call.query
    counts = await count_certificates(tx, query.scope, query.now, weeks=wanted.weeks, days=wanted.days)
    return schemas.CertificateCounts.of(counts)
