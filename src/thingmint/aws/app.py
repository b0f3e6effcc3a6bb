"""The APIs of AWS IoT: what both planes do alike, and the control plane."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from thingmint.access.authorization import authorizer
from thingmint.access.operations import run
from thingmint.aws.authorization import is_own_role, passed_role, request_context, resource_arns
from thingmint.aws.errors import COMMON_STATUS, AwsError, aws_error_of
from thingmint.aws.operations import OPERATIONS
from thingmint.domain.errors import CrossAccountRole, DomainError, Invalid, Throttled
from thingmint.domain.policies.actions import CONTROL_PLANE_ACTIONS
from thingmint.http.messages import Answer
from thingmint.services.change import Change

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.access.audit import AuditedStore
    from thingmint.access.context import Caller, Outcome, RequestContext
    from thingmint.access.operations import Operation as Served
    from thingmint.access.sigv4 import SigV4
    from thingmint.access.throttle import Throttle
    from thingmint.aws.contract import Contract, Operation
    from thingmint.domain.arns import Scope
    from thingmint.http.messages import Incoming
    from thingmint.services.change import Authorize, Environment

    _Route = tuple[Operation, tuple[str, ...]]


_JSON = (b"content-type", b"application/json")


class Unserved(DomainError):
    """An error that only the APIs of AWS return."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.error = AwsError(code, message)


class AwsApi:
    """A SignedApi. A route is an operation with its path labels, the error of an invalid label, or None (no match)."""

    signing_names: Sequence[str] = ("iot",)
    served: Mapping[str, Served] = OPERATIONS

    def __init__(
        self,
        contract: Contract,
        sigv4: SigV4,
        throttle: Throttle,
        store: AuditedStore,
        environment: Environment,
    ) -> None:
        self._contract = contract
        self._status = {**contract.error_status, **COMMON_STATUS}
        self._sigv4 = sigv4
        self._throttle = throttle
        self._store = store
        self._environment = environment

    def is_route(self, method: str, raw_path: bytes) -> bool:
        """True if AWS has an operation at this method and path, even when a label in the path is invalid."""
        try:
            return self._contract.match(method, raw_path) is not None
        except Invalid:
            return True

    def route(self, context: RequestContext, incoming: Incoming) -> tuple[RequestContext, _Route | Invalid | None]:
        try:
            route = self._contract.match(incoming.method, incoming.raw_path)
        except Invalid as error:
            return context.of("-", api="aws"), error
        return context.of(route[0].name if route is not None else "-", api="aws"), route

    async def authenticate(
        self, context: RequestContext, route: _Route | Invalid | None, incoming: Incoming
    ) -> RequestContext:
        dots = _has_dots_as_names(route, incoming.raw_path)
        claim = await self._sigv4.authenticate_head(incoming, self.signing_names, dots=dots)
        return context.by(*self._sigv4.verify(claim, (await incoming.whole()).body))

    def is_route_of(self, route: _Route | Invalid | None, operation: str) -> bool:
        """True if the route is the one of the operation in the OpenAPI document."""
        return isinstance(route, tuple) and route[0].name == operation

    def act_as(
        self, context: RequestContext, route: _Route | Invalid | None, caller: Caller, scope: Scope
    ) -> RequestContext:
        """The context of a request that ``caller`` makes in the console, without a signature."""
        del route
        return context.by(caller, scope)

    async def decode(
        self, context: RequestContext, route: _Route | Invalid | None, incoming: Incoming
    ) -> tuple[RequestContext, Any]:
        if isinstance(route, Invalid):
            raise route
        if route is None:
            raise self._unknown(incoming)
        operation, labels = route
        assert context.scope is not None, "callers are authenticated first"
        self._throttle.take(context.scope.account, operation.name)
        request = await incoming.whole()
        try:
            return context, operation.parse(labels, request.query, dict(request.headers), request.body)
        except Invalid as error:
            if operation.name in self.served:
                raise
            return context, error  # serve() refuses the operation, whatever its input is

    async def serve(self, context: RequestContext, outcome: Outcome, route: _Route, given: Any) -> Answer:
        operation, scope = route[0], context.scope
        assert scope is not None, "callers are authenticated first"
        authorize = authorizer(context, outcome, scope)
        served = self.served.get(operation.name)
        if served is None:
            self._refuse_unserved(authorize, scope, operation.name, given)
        self._authorize(authorize, scope, operation.name, given)
        change = Change(scope, context.now, self._environment, authorize)
        result = await run(served, self._store.of(context, outcome), change, given)
        return Answer(200, [_JSON, _request_id(context)], self._encode(context, operation, result))

    def _encode(self, context: RequestContext, operation: Operation, result: Mapping[str, Any]) -> bytes:
        del context
        return operation.encode(result)

    def _unknown(self, incoming: Incoming) -> DomainError:
        """The error for a method and path that no operation has."""
        del incoming
        return Unserved("UnknownOperationException", "AWS IoT has no operation at this method and path.")

    def _authorize(self, authorize: Authorize, scope: Scope, operation: str, members: Mapping[str, Any]) -> None:
        """Authorizes the operation on each resource that the input names, and iam:PassRole on the role it passes."""
        conditions = request_context(operation, members, scope)
        for resource in resource_arns(operation, members, scope):
            authorize(f"iot:{operation}", (resource,), conditions)
        if (role := passed_role(operation, members)) is not None:
            authorize("iam:PassRole", (role,), conditions)
            if not is_own_role(role, scope):
                raise CrossAccountRole(role)

    def _refuse_unserved(
        self, authorize: Authorize, scope: Scope, operation: str, given: Mapping[str, Any] | Invalid
    ) -> NoReturn:
        """Raises NotImplementedException, or Denied if the caller is not allowed to perform the operation anyway."""
        if isinstance(given, Invalid) or not self._names_resources(operation):
            authorize(f"iot:{operation}", ("*",), {})
        else:
            try:
                self._authorize(authorize, scope, operation, given)
            except Invalid:
                authorize(f"iot:{operation}", ("*",), {})
        raise self._not_served(operation)

    @staticmethod
    def _not_served(operation: str) -> DomainError:
        text = f"{operation} is not served by Thingmint yet."
        if operation.endswith("DynamicThingGroup"):
            text += f" Thing groups without a query are: {operation.replace('Dynamic', '')}, AddThingToThingGroup."
        return Unserved("NotImplementedException", text)

    def _names_resources(self, operation: str) -> bool:
        """True if it is known on which resources the operation is authorized."""
        return operation in CONTROL_PLANE_ACTIONS

    def refuse(self, context: RequestContext, error: DomainError) -> Answer:
        refused = self._error_of(error, context.scope)
        headers = [_JSON, _request_id(context)]
        if isinstance(error, Throttled):
            headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
        headers.append((b"x-amzn-errortype", refused.code.encode()))
        body = orjson.dumps({"message": refused.message, **refused.members, **self._trace(context)})
        return Answer(self._status[refused.code], headers, body, refused.code)

    def _error_of(self, error: DomainError, scope: Scope | None) -> AwsError:
        return error.error if isinstance(error, Unserved) else aws_error_of(error, scope)

    def _trace(self, context: RequestContext) -> Mapping[str, str]:
        """Further members of every error."""
        del context
        return {}


def _has_dots_as_names(route: _Route | Invalid | None, raw_path: bytes) -> bool:
    """True if every dot segment of the path is a label: a policy can be named ``.`` or ``..``."""
    if b"/." not in raw_path or not isinstance(route, tuple):
        return False
    labels = sum(label in (".", "..") for label in route[1])
    return labels == sum(segment in (b".", b"..") for segment in raw_path.split(b"/"))


def _request_id(context: RequestContext) -> tuple[bytes, bytes]:
    return (b"x-amzn-requestid", context.id.encode())
