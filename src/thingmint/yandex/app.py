"""The Yandex API for both gRPC and REST: authenticates, validates, authorizes, executes and answers each call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.access.authorization import authorizer
from thingmint.access.directory import bearer_token
from thingmint.domain.errors import DomainError, Unauthenticated
from thingmint.services.change import Change
from thingmint.yandex.errors import Unimplemented, code_of
from thingmint.yandex.operations import OPEN, OPERATIONS, WITHOUT_TRANSACTION
from thingmint.yandex.operations.answering import answer
from thingmint.yandex.operations.declaring import YandexCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from google.protobuf.message import Message

    from thingmint.access.audit import AuditedStore
    from thingmint.access.context import Caller, Outcome, RequestContext
    from thingmint.access.throttle import FailureThrottle, Throttle
    from thingmint.services.change import Environment
    from thingmint.yandex.contract import Method
    from thingmint.yandex.operations.declaring import YandexParts


_ENDPOINT_SERVICE = "yandex.cloud.endpoint.ApiEndpointService"


class YandexApi:
    """Serves the calls of both protocols, which differ only in how a request is read and an answer written."""

    def __init__(
        self,
        parts: YandexParts,
        throttle: Throttle,
        failures: FailureThrottle,
        store: AuditedStore,
        environment: Environment,
        clock: Callable[[], datetime],
    ) -> None:
        self.contract = parts.contract
        self.clock = clock
        self._parts = parts
        self._throttle = throttle
        self._failures = failures
        self._store = store
        self._environment = environment

    async def authenticate(
        self, context: RequestContext, method: Method, headers: Iterable[tuple[bytes, bytes]]
    ) -> RequestContext:
        """The context, with the caller if the method needs one. Raises Unauthenticated."""
        if method.path in OPEN:
            return context
        token = bearer_token(headers)
        if token is None:
            raise Unauthenticated("missing", "An IAM token is needed, as: Authorization: Bearer <token>")
        return self.act_as(context, method, await self._parts.tokens.authenticate(token))

    def act_as(self, context: RequestContext, method: Method, caller: Caller) -> RequestContext:
        """The context of a call of an authenticated caller. Methods in OPEN have none."""
        return context if method.path in OPEN else context.by(caller, caller.scope())

    async def serve(
        self,
        context: RequestContext,
        outcome: Outcome,
        method: Method,
        request: Message,
        *,
        port: int,
        idempotency_key: str | None,
    ) -> Message:
        """The answer to a request with the context that ``authenticate`` returned. Raises DomainErrors."""
        caller, scope = context.caller, context.scope
        if caller is not None:
            self._throttle.take(caller.account, context.operation)
        elif method.service == _ENDPOINT_SERVICE:
            self._failures.take(context)
        operation = OPERATIONS.get(method.path)
        plain = OPEN.get(method.path) or WITHOUT_TRANSACTION.get(method.path)
        if operation is None and plain is None:
            raise Unimplemented(context.operation)
        method.validate(request)
        principal = caller.principal if caller is not None else ""
        call = YandexCall(
            parts=self._parts, method=method, request=request, principal=principal, port=port, request_id=context.id
        )
        if plain is not None:
            return method.response_class(**await plain(call, context, outcome))
        assert operation is not None
        assert scope is not None, "only methods in OPEN have no caller"

        def note_refusal(error: DomainError) -> None:
            outcome.code = code_of(error).name

        change = Change(scope, context.now, self._environment, authorizer(context, outcome))
        store = self._store.of(context, outcome)
        return await answer(operation, store, change, call, idempotency_key, note_refusal)
