"""One call of a method, on its way from either wire to what the method means."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from thingmint.access.authorization import authorizer
from thingmint.domain.errors import DomainError, Invalid
from thingmint.domain.ids import IOT, new_id
from thingmint.services.operations import IdempotencyKey, Receipt
from thingmint.yandex.errors import code_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime, timedelta

    from google.protobuf.message import Message

    from thingmint.access.callers import Caller
    from thingmint.access.context import Outcome, RequestContext
    from thingmint.access.iam import IamTokens
    from thingmint.domain.registration import Scope
    from thingmint.services.bindings import BindingRegistry
    from thingmint.services.fleet import FleetRegistry
    from thingmint.services.hostnames import ListHostnames
    from thingmint.services.operations import OperationRegistry, RecordedOperation
    from thingmint.yandex.contract import Contract, Method

__all__ = ["Call", "Parts"]

T = TypeVar("T")

_MAX_KEY_LENGTH = 256


@dataclass(frozen=True, slots=True)
class Parts:
    """What the methods work with. ``pending`` keeps operations unfinished for that long, for tests of clients."""

    contract: Contract
    fleet: FleetRegistry
    bindings: BindingRegistry
    operations: OperationRegistry
    hostnames: ListHostnames
    tokens: IamTokens
    pending: timedelta
    sha1_fingerprints: bool
    status_of: Callable[[DomainError, str], Message]


@dataclass(frozen=True, slots=True)
class Call:
    """``request`` keeps the contract's rules. There is no caller where the method is open to everybody.

    ``port`` is that of the listener which took the call, ``idempotency_key`` the header of that name.
    """

    parts: Parts
    method: Method
    request: Any
    context: RequestContext
    outcome: Outcome
    port: int
    request_id: str
    idempotency_key: str | None
    now: datetime

    @property
    def caller(self) -> Caller:
        assert self.context.caller is not None, "only methods that are open to everybody have no caller"
        return self.context.caller

    @property
    def account(self) -> str:
        return self.caller.account

    @property
    def scope(self) -> Scope:
        """Where Yandex registrations lie: the account's home region."""
        return self.caller.scope()

    def authorize(self, *, folder: str | None = None, registry: str | None = None, device: str | None = None) -> None:
        """Whether the caller may, on the thing itself or on any that contains it. Raises Denied."""
        named = (("device", device), ("registry", registry), ("folder", folder))
        resources = [f"yandex:{kind}/{id}" for kind, id in named if id is not None]
        authorize = authorizer(self.context, self.outcome)
        authorize(f"yandex:{self.context.operation}", [*resources, f"yandex:cloud/{self.account}"], {})

    async def authorize_registry(self, id: str) -> str | None:
        """The same for a registry that may not exist, which who may not see it does not learn; its folder."""
        registry = await self.parts.fleet.find_registry(self.account, id)
        folder = registry.folder if registry else None
        self.authorize(folder=folder, registry=id)
        return folder

    async def authorize_device(self, id: str) -> str | None:
        """The same for a device."""
        device = await self.parts.fleet.find_device(self.account, id)
        folder, registry = (device.folder, device.registry) if device else (None, None)
        self.authorize(folder=folder, registry=registry, device=id)
        return folder

    def message(self, name: str) -> type[Any]:
        """A message class of the contract by its full name."""
        return self.parts.contract.messages[name]

    def timestamp(self, time: datetime) -> Message:
        return self.parts.contract.operations.timestamp(time)

    def fingerprint(self, sha256: str, sha1: str) -> str:
        """The form that this instance shows."""
        return sha1 if self.parts.sha1_fingerprints else sha256

    def empty(self, nothing: None) -> Message:
        """The response of what answers google.protobuf.Empty."""
        del nothing
        message: Message = self.message("google.protobuf.Empty")()
        return message

    async def change(
        self,
        description: str,
        folder: str | None,
        metadata: Message,
        respond: Callable[[T], Message],
        make: Callable[[Receipt[T]], Awaitable[RecordedOperation]],
    ) -> Message:
        """The operation that ``make`` records; ``respond`` tells its response from what was changed.

        While operations are kept pending, a refusal by the registry ends up in an operation too.
        """
        id = new_id(IOT)

        def encode(response: Message | None = None, error: Message | None = None) -> bytes:
            operation = self.parts.contract.operations.build(
                self.method.operation,
                id=id,
                description=description,
                created_at=self.now,
                created_by=self.caller.principal,
                modified_at=self.now,
                metadata=metadata,
                response=response,
                error=error,
            )
            return operation.SerializeToString()

        try:
            recorded = await make(self._receipt(id, folder, lambda result: encode(response=respond(result))))
        except DomainError as refusal:
            if not self.parts.pending:
                raise
            status = self.parts.status_of(refusal, self.request_id)
            self.outcome.code = code_of(refusal).name
            recorded = await self.parts.operations.record_refusal(
                self._receipt(id, folder, lambda _: encode(error=status))
            )
        return self.as_of_now(recorded)

    def as_of_now(self, recorded: RecordedOperation) -> Message:
        """A recorded operation as its caller may see it at this time."""
        operation: Any = self.message("yandex.cloud.operation.Operation").FromString(recorded.answer)
        if recorded.finishes_at > self.now:
            operation.done = False
            operation.ClearField("response")
            operation.ClearField("error")
        built: Message = operation
        return built

    def _receipt(self, id: str, folder: str | None, encode: Callable[[T], bytes]) -> Receipt[T]:
        return Receipt(
            id=id,
            account=self.account,
            created_at=self.now,
            finishes_at=self.now + self.parts.pending,
            encode=encode,
            idempotency=self._idempotency(folder),
        )

    def _idempotency(self, folder: str | None) -> IdempotencyKey | None:
        if self.idempotency_key is None:
            return None
        if not 0 < len(self.idempotency_key) <= _MAX_KEY_LENGTH:
            raise Invalid("idempotency_key", f"must have 1 to {_MAX_KEY_LENGTH} characters")
        request = self.request.SerializeToString(deterministic=True)
        return IdempotencyKey(
            caller=self.caller.principal,
            folder=folder,
            method=self.method.path,
            key=self.idempotency_key,
            request_sha256=hashlib.sha256(request).digest(),
        )
