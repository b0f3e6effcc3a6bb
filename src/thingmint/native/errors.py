"""The status, code and message with which the native API answers each of the domain's errors."""

from __future__ import annotations

from typing import NamedTuple

from thingmint.domain import errors


class Problem(NamedTuple):
    status: int
    code: str
    message: str


def problem_of(error: errors.DomainError) -> Problem:
    message = str(error)
    match error:
        case errors.Invalid():
            return Problem(400, "VALIDATION_ERROR", message)
        case errors.Unauthenticated():
            return Problem(401, "UNAUTHENTICATED", message)
        case errors.Denied():
            return Problem(403, "PERMISSION_DENIED", message)
        case errors.NotFound():
            return Problem(404, "NOT_FOUND", message)
        case errors.AlreadyExists() | errors.VersionConflict():
            return Problem(409, "CONFLICT", message)
        case (
            errors.Ambiguous()
            | errors.Conflict()
            | errors.Disallowed()
            | errors.InvalidState()
            | errors.LimitExceeded()
        ):
            return Problem(409, "CONFLICT", error.reason)
        case errors.Throttled():
            return Problem(429, "RATE_LIMITED", message)
        case errors.Failed():
            return Problem(500, "INTERNAL", message)
        case errors.Unsupported():
            return Problem(501, "NOT_IMPLEMENTED", message)
        case errors.Unavailable():
            return Problem(503, "UNAVAILABLE", message)
        case _:
            raise AssertionError(f"{type(error).__name__} has no place in the table")
