"""Builds google.rpc.Status messages, and Operations with exactly the types that a method's options name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

    from thingmint.yandex.contract.descriptors import Descriptors
    from thingmint.yandex.contract.validation import FieldViolation


class Code(IntEnum):
    """google.rpc.Code: the status codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS: Final[Mapping[Code, int]] = MappingProxyType(
    {
        Code.OK: 200,
        Code.CANCELLED: 499,
        Code.UNKNOWN: 500,
        Code.INVALID_ARGUMENT: 400,
        Code.DEADLINE_EXCEEDED: 504,
        Code.NOT_FOUND: 404,
        Code.ALREADY_EXISTS: 409,
        Code.PERMISSION_DENIED: 403,
        Code.RESOURCE_EXHAUSTED: 429,
        Code.FAILED_PRECONDITION: 400,
        Code.ABORTED: 409,
        Code.OUT_OF_RANGE: 400,
        Code.UNIMPLEMENTED: 501,
        Code.INTERNAL: 500,
        Code.UNAVAILABLE: 503,
        Code.DATA_LOSS: 500,
        Code.UNAUTHENTICATED: 401,
    }
)


class StatusFactory:
    """Builds Status messages of the private pool. Serialized, one is the metadata ``grpc-status-details-bin``."""

    def __init__(self, descriptors: Descriptors) -> None:
        classes: Mapping[str, Any] = descriptors.messages
        self._status = classes["google.rpc.Status"]
        self._bad_request = classes["google.rpc.BadRequest"]
        self._violation = classes["google.rpc.BadRequest.FieldViolation"]
        self._error_info = classes["google.rpc.ErrorInfo"]
        self._request_info = classes["google.rpc.RequestInfo"]

    def build(
        self,
        code: Code,
        message: str,
        *,
        violations: Iterable[FieldViolation] = (),
        reason: str | None = None,
        domain: str = "",
        metadata: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> Message:
        """A Status. Its details, in this order and if given: BadRequest, ErrorInfo (for a ``reason``), RequestInfo."""
        status = self._status(code=int(code), message=message)
        found = [self._violation(field=v.field, description=v.description) for v in violations]
        if found:
            status.details.add().Pack(self._bad_request(field_violations=found))
        if reason is not None:
            status.details.add().Pack(self._error_info(reason=reason, domain=domain, metadata=metadata or {}))
        if request_id is not None:
            status.details.add().Pack(self._request_info(request_id=request_id))
        built: Message = status
        return built


Fields = Mapping[str, Any]
"""The fields of a message, by their names in the contract. The value of a nested message is its Fields."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class OperationTypes:
    """The types of metadata and response in a method's Operation, from the option ``yandex.cloud.api.operation``."""

    metadata_class: type[Message]
    response_class: type[Message]


class OperationFactory:
    """Builds Operation messages of the private pool."""

    def __init__(self, descriptors: Descriptors) -> None:
        self.message_class: Any = descriptors.messages["yandex.cloud.operation.Operation"]

    def build(
        self,
        types: OperationTypes,
        *,
        id: str,
        description: str,
        created_at: datetime,
        created_by: str,
        metadata: Fields,
        response: Fields | None = None,
        error: Message | None = None,
    ) -> Any:
        """A finished Operation with a response or an error (a ``google.rpc.Status``).

        Its times are rounded down to milliseconds.
        """
        time = timestamp(created_at.replace(microsecond=created_at.microsecond // 1000 * 1000))
        operation = self.message_class(
            id=id, description=description, created_at=time, created_by=created_by, modified_at=time, done=True
        )
        operation.metadata.Pack(types.metadata_class(**metadata))
        if error is not None:
            operation.error.CopyFrom(error)
        else:
            operation.response.Pack(types.response_class(**(response or {})))
        return operation


def timestamp(time: datetime) -> Fields:
    """The fields of a google.protobuf.Timestamp, to the microsecond. ``time`` must be aware."""
    since = time - _EPOCH
    return {"seconds": since // _SECOND, "nanos": since.microseconds * 1000}
