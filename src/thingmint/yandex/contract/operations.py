"""``yandex.cloud.operation.Operation`` messages, with exactly the types that a method's options name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from thingmint.yandex.contract.descriptors import Descriptors

__all__ = ["OperationFactory", "OperationTypes"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class OperationTypes:
    """What the method's Operation carries, from the option ``yandex.cloud.api.operation``."""

    metadata_class: type[Message]
    response_class: type[Message]

    @property
    def metadata(self) -> str:
        """The full name of the metadata's type."""
        return self.metadata_class.DESCRIPTOR.full_name

    @property
    def response(self) -> str:
        """The full name of the response's type."""
        return self.response_class.DESCRIPTOR.full_name


class OperationFactory:
    """Builds Operation and Timestamp messages of the private pool."""

    def __init__(self, descriptors: Descriptors) -> None:
        self._operation: Any = descriptors.messages["yandex.cloud.operation.Operation"]
        self._timestamp: Any = descriptors.messages["google.protobuf.Timestamp"]

    def timestamp(self, time: datetime) -> Message:
        """``time`` is aware; its microseconds are kept."""
        since = time - _EPOCH
        message: Message = self._timestamp(seconds=since // timedelta(seconds=1), nanos=since.microseconds * 1000)
        return message

    def build(
        self,
        types: OperationTypes | None,
        *,
        id: str,
        description: str,
        created_at: datetime,
        created_by: str,
        modified_at: datetime,
        metadata: Message,
        response: Message | None = None,
        error: Message | None = None,
    ) -> Message:
        """An operation, done if it has a response or an error; times are cut to milliseconds.

        Clients assert the types of metadata and response, so any other than the method's is a TypeError.
        ``error`` is a ``google.rpc.Status``.
        """
        if types is None:
            raise TypeError("this method answers no operation")
        if response is not None and error is not None:
            raise TypeError("an operation has a response or an error")
        operation = self._operation(
            id=id,
            description=description,
            created_at=self.timestamp(_milliseconds(created_at)),
            created_by=created_by,
            modified_at=self.timestamp(_milliseconds(modified_at)),
            done=response is not None or error is not None,
        )
        operation.metadata.Pack(_of_type(metadata, types.metadata_class))
        if response is not None:
            operation.response.Pack(_of_type(response, types.response_class))
        if error is not None:
            operation.error.CopyFrom(error)
        built: Message = operation
        return built


def _of_type(message: Message, cls: type[Message]) -> Message:
    if not isinstance(message, cls):
        raise TypeError(f"a {cls.DESCRIPTOR.full_name} belongs here, not a {message.DESCRIPTOR.full_name}")
    return message


def _milliseconds(time: datetime) -> datetime:
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
