"""An API that answers every request, for tests of the code that all APIs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.http.messages import Answer

if TYPE_CHECKING:
    from thingmint.access.context import Caller, Outcome, RequestContext
    from thingmint.domain.errors import DomainError
    from thingmint.http.messages import Incoming

__all__ = ["Answering"]


class Answering:
    """Answers with its own name, or raises ``error``."""

    def __init__(
        self,
        name: str,
        operation: str = "Operation",
        caller: Caller | None = None,
        error: BaseException | None = None,
    ) -> None:
        self._name = name
        self._operation = operation
        self._caller = caller
        self._error = error

    def route(self, context: RequestContext, incoming: Incoming) -> tuple[RequestContext, Any]:
        del incoming
        return context.of(self._operation, api=self._name), None

    async def authenticate(self, context: RequestContext, route: Any, incoming: Incoming) -> RequestContext:
        del route, incoming
        return context if self._caller is None else context.by(self._caller)

    async def decode(self, context: RequestContext, route: Any, incoming: Incoming) -> tuple[RequestContext, Any]:
        del route, incoming
        return context, None

    async def serve(self, context: RequestContext, outcome: Outcome, route: Any, given: Any) -> Answer:
        del context, outcome, route, given
        if self._error is not None:
            raise self._error
        return Answer(200, [], self._name.encode())

    def refuse(self, context: RequestContext, error: DomainError) -> Answer:
        del context
        return Answer(400, [], str(error).encode(), type(error).__name__)
