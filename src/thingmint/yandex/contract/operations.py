"""``yandex.cloud.operation.Operation`` messages, with exactly the types that a method's options name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from thingmint.yandex.contract.descriptors import Descriptors


Fields = Mapping[str, Any]
"""Of a message, by the contract's names; messages within are fields too."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class OperationTypes:
    """What the method's Operation carries, from the option ``yandex.cloud.api.operation``."""

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
        """An operation that is done, with a response or an error (a ``google.rpc.Status``).

        Its times are cut to milliseconds.
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
    """A google.protobuf.Timestamp. ``time`` is aware; its microseconds are kept."""
    since = time - _EPOCH
    return {"seconds": since // _SECOND, "nanos": since.microseconds * 1000}
