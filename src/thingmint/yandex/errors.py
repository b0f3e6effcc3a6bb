"""Domain errors as the Yandex API returns them: one google.rpc.Status each, the same over gRPC and REST."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.domain import errors
from thingmint.yandex.contract.answers import Code
from thingmint.yandex.contract.validation import FieldViolation, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

    from thingmint.yandex.contract import Contract


# Clients of gRPC take 8 KiB of metadata, in which a refusal is written twice. It may quote an id of any length.
_LONG_TEXT = 1000  # bytes
_CUT_TEXT = 300  # characters


class Unimplemented(errors.Unsupported):
    """A part of the contract that is not served yet."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not served by Thingmint yet")


def code_of(error: errors.DomainError) -> Code:
    match error:
        case errors.Invalid() | InvalidRequest():
            return Code.INVALID_ARGUMENT
        case errors.Unauthenticated():
            return Code.UNAUTHENTICATED
        case errors.Denied():
            return Code.PERMISSION_DENIED
        case errors.NotFound():
            return Code.NOT_FOUND
        case errors.AlreadyExists():
            return Code.ALREADY_EXISTS
        case errors.Ambiguous() | errors.Conflict() | errors.Disallowed() | errors.InvalidState():
            return Code.FAILED_PRECONDITION
        case errors.VersionConflict():
            return Code.ABORTED
        case errors.LimitExceeded() | errors.Throttled():
            return Code.RESOURCE_EXHAUSTED
        case errors.Failed():
            return Code.INTERNAL
        case errors.Unavailable():
            return Code.UNAVAILABLE
        case errors.Unsupported():
            return Code.UNIMPLEMENTED
        case _:
            raise AssertionError(f"{type(error).__name__} is not mapped to a status code")


def status_of(contract: Contract, error: errors.DomainError, request_id: str) -> Message:
    """A google.rpc.Status."""
    text = str(error)
    if len(text.encode()) > _LONG_TEXT:
        text = f"{text[:_CUT_TEXT]}…"
    return contract.statuses.build(code_of(error), text, violations=_violations_of(error), request_id=request_id)


def _violations_of(error: errors.DomainError) -> Sequence[FieldViolation]:
    """The violations for the details of a BadRequest."""
    match error:
        case InvalidRequest():
            return error.violations
        case errors.Invalid():
            return (FieldViolation(error.field, error.reason),)
        case _:
            return ()
