"""Where clients find the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from thingmint.aws.operations.call import Call, Operations

__all__ = ["ENDPOINT"]

# DescribeEndpoint's documented endpoint types, and what is meant without one.
_ENDPOINT_TYPES = frozenset({"iot:Data", "iot:Data-ATS", "iot:CredentialProvider", "iot:Jobs"})
_DEFAULT_ENDPOINT_TYPE = "iot:Data"


async def _describe_endpoint(call: Call) -> dict[str, Any]:
    if call.members.get("endpointType", _DEFAULT_ENDPOINT_TYPE) not in _ENDPOINT_TYPES:
        raise Invalid("endpointType", f"must be one of {', '.join(sorted(_ENDPOINT_TYPES))}")
    return {"endpointAddress": await call.registries.names.endpoint(call.scope)}


ENDPOINT: Operations = {"DescribeEndpoint": _describe_endpoint}
