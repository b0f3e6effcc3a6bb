"""Operations, endpoints and IAM tokens: services that clients of every Yandex Cloud service need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.access.authorization import authorizer
from thingmint.domain.errors import NotFound
from thingmint.domain.names import authority_of
from thingmint.services.operations import RECORDED_OPERATIONS
from thingmint.yandex.contract.answers import timestamp
from thingmint.yandex.operations.answering import as_of
from thingmint.yandex.operations.declaring import authorize, open_to_all, reads, without_transaction

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from thingmint.access.context import Outcome, RequestContext
    from thingmint.services.change import Query
    from thingmint.store.engine import Transaction
    from thingmint.yandex.contract.answers import Fields
    from thingmint.yandex.operations.declaring import YandexCall

_OPERATIONS = "yandex.cloud.operation.OperationService"
_ENDPOINTS = "yandex.cloud.endpoint.ApiEndpointService"
_TOKENS = "yandex.cloud.iam.v1.IamTokenService"

# Clients look for different ids, depending on their language. All services have the same address.
_ENDPOINT_IDS = ("broker-data", "endpoint", "iam", "iot-broker", "iot-data", "iot-devices", "iotbroker", "operation")


async def _operation(tx: Transaction, query: Query, call: YandexCall) -> Any:
    recorded = await RECORDED_OPERATIONS.get(tx, query.account, call.request.operation_id)
    operation = as_of(query.now, recorded, call.parts.contract)
    # The caller that started the operation needs no further permission.
    if operation.created_by != call.principal:
        authorize(query, call)
    return operation


@reads(f"{_OPERATIONS}/Get", find=_operation)
@reads(f"{_OPERATIONS}/Cancel", find=_operation)
async def get_operation(tx: Transaction, query: Query, call: YandexCall, operation: Message) -> Message:
    """Get and Cancel. Cancel changes nothing: the operation's change was made before the operation was returned."""
    return operation


@open_to_all(f"{_ENDPOINTS}/Get")
async def get_endpoint(call: YandexCall, context: RequestContext, outcome: Outcome) -> Fields:
    id = call.request.api_endpoint_id
    if id not in _ENDPOINT_IDS:
        raise NotFound("endpoint", id)
    return {"id": id, "address": await _address(call)}


@open_to_all(f"{_ENDPOINTS}/List")
async def list_endpoints(call: YandexCall, context: RequestContext, outcome: Outcome) -> Fields:
    address = await _address(call)
    return {"endpoints": [{"id": id, "address": address} for id in _ENDPOINT_IDS]}


@open_to_all(f"{_TOKENS}/Create")
async def create_iam_token(call: YandexCall, context: RequestContext, outcome: Outcome) -> Fields:
    request, tokens = call.request, call.parts.tokens
    if request.WhichOneof("identity") == "jwt":
        new = await tokens.for_jwt(request.jwt, await call.parts.hostnames())
    else:
        new = await tokens.for_api_token(request.yandex_passport_oauth_token)
    outcome.caller = new.caller
    return {"iam_token": new.token, "expires_at": timestamp(new.ends)}


@without_transaction(f"{_TOKENS}/CreateForServiceAccount")
async def create_iam_token_for_service_account(call: YandexCall, context: RequestContext, outcome: Outcome) -> Fields:
    """The refusal does not depend on whether the service account exists."""
    caller, id = context.caller, call.request.service_account_id
    assert caller is not None, "only callers in OPEN are not authenticated"
    resources = (f"yandex:service-account/{id}", f"yandex:cloud/{caller.account}")
    authorizer(context, outcome)(f"yandex:{call.method.label}", resources, {})
    await call.parts.tokens.check_bearer(caller)
    new = await call.parts.tokens.for_service_account(caller, id)
    return {"iam_token": new.token, "expires_at": timestamp(new.ends)}


@open_to_all(f"{_TOKENS}/Revoke")
async def revoke_iam_token(call: YandexCall, context: RequestContext, outcome: Outcome) -> Fields:
    await call.parts.tokens.revoke(call.request.iam_token, context, outcome)
    return {}


async def _address(call: YandexCall) -> str:
    hostnames = await call.parts.hostnames()
    return authority_of(hostnames[0], call.port)
