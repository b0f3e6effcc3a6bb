"""DescribeEndpoint: the host name that devices connect to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.aws.operations.declaring import Members, Result, reads
from thingmint.domain.errors import Invalid
from thingmint.services.hostnames import endpoint_of

if TYPE_CHECKING:
    from thingmint.services.change import Query
    from thingmint.store.engine import Transaction

# The documented endpoint types, and the default.
_ENDPOINT_TYPES = frozenset({"iot:Data", "iot:Data-ATS", "iot:CredentialProvider", "iot:Jobs"})
_DEFAULT_ENDPOINT_TYPE = "iot:Data"

DEVIATIONS = {
    "DescribeEndpoint": (
        "The name is one of this server's for all types of endpoint, without an account's prefix. The clients' "
        "files have the ports."
    ),
}


@reads("DescribeEndpoint")
async def describe_endpoint(tx: Transaction, query: Query, members: Members) -> Result:
    if members.get("endpointType", _DEFAULT_ENDPOINT_TYPE) not in _ENDPOINT_TYPES:
        raise Invalid("endpointType", f"must be one of {', '.join(sorted(_ENDPOINT_TYPES))}")
    return {"endpointAddress": await endpoint_of(tx, query)}
