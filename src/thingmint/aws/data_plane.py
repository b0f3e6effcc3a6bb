"""The API of AWS IoT's data plane, for backends: messages and connections. Shadows and jobs are not served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from thingmint.aws.app import AwsApi, Unserved
from thingmint.aws.authorization import DATA_TARGETS, resource_arns
from thingmint.aws.errors import AwsError
from thingmint.aws.operations import DATA_OPERATIONS
from thingmint.domain.errors import Denied

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.access.context import RequestContext
    from thingmint.access.operations import Operation as Served
    from thingmint.aws.contract import Operation
    from thingmint.domain.arns import Scope
    from thingmint.domain.errors import DomainError, Invalid
    from thingmint.http.messages import Incoming
    from thingmint.services.change import Authorize


class DataPlaneApi(AwsApi):
    """SDKs sign with the first name; AWS's guides, for requests without an SDK, also use the second."""

    signing_names: Sequence[str] = ("iotdata", "iotdevicegateway")
    served: Mapping[str, Served] = DATA_OPERATIONS

    def _authorize(self, authorize: Authorize, scope: Scope, operation: str, members: Mapping[str, Any]) -> None:
        for resource in resource_arns(operation, members, scope, DATA_TARGETS):
            authorize(f"iot:{operation}", (resource,), {})
            if operation == "Publish" and members.get("retain"):
                authorize("iot:RetainPublish", (resource,), {})

    def _names_resources(self, operation: str) -> bool:
        return operation in DATA_TARGETS

    def _unknown(self, incoming: Incoming) -> DomainError:
        if self._contract.methods(incoming.raw_path):
            return Unserved("MethodNotAllowedException", "AWS IoT has no operation with this method at this path.")
        return super()._unknown(incoming)

    def _encode(self, context: RequestContext, operation: Operation, result: Mapping[str, Any]) -> bytes:
        if operation.name == "Publish":  # clients without an SDK get this body; the model has none
            return orjson.dumps({"message": "OK", "traceId": context.id})
        return super()._encode(context, operation, result)

    def _error_of(self, error: DomainError, scope: Scope | None) -> AwsError:
        if isinstance(error, Denied):
            return AwsError("ForbiddenException", "Forbidden")  # in AWS's words; the log has the reason
        return super()._error_of(error, scope)

    def _trace(self, context: RequestContext) -> Mapping[str, str]:
        return {"traceId": context.id}


class JobsApi(DataPlaneApi):
    """The jobs of devices: no operation is served, and the answers say so."""

    signing_names = ("iot-jobs-data",)
    served: Mapping[str, Served] = {}

    def _refuse_unserved(
        self, authorize: Authorize, scope: Scope, operation: str, given: Mapping[str, Any] | Invalid
    ) -> NoReturn:
        del scope, given
        authorize(f"iotjobsdata:{operation}", ("*",), {})
        raise self._not_served(operation)
