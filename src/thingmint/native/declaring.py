"""The declaration of the native API's endpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thingmint.access.operations import Operation, run
from thingmint.domain.arns import arn_of
from thingmint.domain.certificates import parse_fingerprint
from thingmint.native import schemas

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pydantic import BaseModel

    from thingmint.access.audit_records import AuditRecords
    from thingmint.access.context import RequestContext
    from thingmint.services.change import Change
    from thingmint.store.engine import Store


@dataclass(frozen=True, slots=True)
class Call:
    """A request with an authenticated caller, whose input was checked against the endpoint's models.

    ``allows`` is for what to show: True if the caller may perform an action on a resource. It records no refusal.
    """

    change: Change
    allows: Callable[[str, str], bool]
    store: Store
    administer: Callable[..., Awaitable[Any]]
    audit: AuditRecords
    path: dict[str, str]
    query: Any
    body: Any

    @property
    def certificate(self) -> str:
        """The id in the path. Raises Invalid."""
        return parse_fingerprint(self.path["id"], "id")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``result`` is the model of "data" in the envelope; with None, "data" is null.

    ``operation`` is the name in log, metrics and audit record. ``id`` is the name in OpenAPI, if several endpoints have
    the same ``operation``. ``actions`` are those that policies must allow: all of them, or with ``one_of`` one of them,
    which depends on the body. ``named`` completes the context of endpoints whose operation depends on their body.
    """

    method: str
    path: str
    operation: str
    summary: str
    handler: Callable[[Call], Awaitable[BaseModel | None]]
    actions: tuple[str, ...]
    query: type[BaseModel] = schemas.NoQuery
    body: type[BaseModel] = schemas.NoBody
    result: type[BaseModel] | None = None
    id: str | None = None
    one_of: bool = False
    named: Callable[[RequestContext, Any], RequestContext] = lambda context, body: context


class Endpoints(list[Endpoint]):
    """The endpoints of one module, in the order of their declaration."""

    def serves(
        self,
        method: str,
        path: str,
        name: str,
        summary: str,
        *,
        actions: tuple[str, ...] = (),
        action: Callable[[Call], str] | None = None,
        query: type[BaseModel] = schemas.NoQuery,
        body: type[BaseModel] = schemas.NoBody,
        result: type[BaseModel] | None = None,
        **parts: Any,
    ) -> Callable[[Callable[..., Awaitable[Any]]], None]:
        """Declares an operation, whose input is the Call, and its endpoint.

        An id in the path is that of the certificate that is the resource. ``actions`` has the action to authorize, if
        it is not ``iot:`` and ``name``, or several of which ``action`` returns one; ``parts`` are the Operation's.
        """
        possible = actions or (f"iot:{name}",)

        def declare(apply: Callable[..., Awaitable[Any]]) -> None:
            operation = Operation(name=name, apply=apply, writes=method != "GET", **parts)

            async def handler(call: Call) -> BaseModel | None:
                resource = arn_of(call.change.scope, call.certificate) if call.path else "*"
                wanted = possible[0] if action is None else action(call)
                assert wanted in possible, "the OpenAPI document lists the actions"
                call.change.may(wanted, resource)
                data: BaseModel | None = await run(operation, call.store, call.change, call)
                return data

            one_of = action is not None
            self.append(Endpoint(method, path, name, summary, handler, possible, query, body, result, one_of=one_of))

        return declare
