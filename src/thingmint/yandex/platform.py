"""Operations, endpoints and IAM tokens: what a client of Yandex Cloud needs beside the service that it is after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain.errors import NotFound
from thingmint.domain.names import authority_of

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from thingmint.yandex.call import Call

__all__ = ["create_iam_token", "get_endpoint", "get_operation", "list_endpoints", "revoke_iam_token"]

# The SDKs of several languages know the services by different ids. All of them are served at one address.
_ENDPOINT_IDS = (
    "broker-data",
    "endpoint",
    "iam",
    "iot-broker",
    "iot-data",
    "iot-devices",
    "iotbroker",
    "operation",
)


async def get_operation(call: Call) -> Message:
    """Get; and Cancel, which changes nothing: an operation is either finished or about to be."""
    operation = call.as_of_now(await call.parts.operations.get(call.account, call.request.operation_id))
    # Whoever was allowed to begin it may see how it ends.
    if operation.created_by != call.caller.principal:  # type: ignore[attr-defined]  # a message of a private pool
        call.authorize()
    return operation


async def get_endpoint(call: Call) -> Message:
    id = call.request.api_endpoint_id
    if id not in _ENDPOINT_IDS:
        raise NotFound("endpoint", id)
    return _endpoint(call, id, await _address(call))


async def list_endpoints(call: Call) -> Message:
    address = await _address(call)
    response: Message = call.method.response_class(endpoints=[_endpoint(call, id, address) for id in _ENDPOINT_IDS])
    return response


async def create_iam_token(call: Call) -> Message:
    request, tokens = call.request, call.parts.tokens
    if request.WhichOneof("identity") == "jwt":
        new = await tokens.for_jwt(request.jwt, await call.parts.hostnames())
    else:
        new = await tokens.for_api_token(request.yandex_passport_oauth_token)
    call.outcome.caller = new.caller
    response: Message = call.method.response_class(iam_token=new.token, expires_at=call.timestamp(new.ends))
    return response


async def revoke_iam_token(call: Call) -> Message:
    await call.parts.tokens.revoke(call.request.iam_token, call.context, call.outcome)
    response: Message = call.method.response_class()
    return response


async def _address(call: Call) -> str:
    hostnames = await call.parts.hostnames()
    return authority_of(hostnames[0], call.port)


def _endpoint(call: Call, id: str, address: str) -> Message:
    endpoint: Message = call.message("yandex.cloud.endpoint.ApiEndpoint")(id=id, address=address)
    return endpoint
