"""How the provisioning topics word refusals: as AWS documents them, and as the service was seen to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.domain import errors
from thingmint.mqtt.payloads import Unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping


_STEPS: Mapping[errors.ProvisioningRefused.Step, tuple[int, str]] = {
    "key": (403, "AccessDenied"),
    "template": (400, "InvalidTemplate"),
    "token": (400, "InvalidCertificateOwnershipToken"),
    "denied": (403, "AccessDenied"),
    "invocation": (400, "InvocationError"),
    "result": (400, "InvalidResult"),
}


@dataclass(frozen=True, slots=True)
class Rejection:
    status: int
    code: str
    message: str

    def document(self) -> dict[str, object]:
        return {"statusCode": self.status, "errorCode": self.code, "errorMessage": self.message}


def rejection_of(error: Exception, request_id: str) -> Rejection:
    """Of what nobody foresaw the device learns nothing but the request's id, by which the log can be searched."""
    match error:
        case Unreadable():
            return Rejection(400, "InvalidPayload", "Message cannot be parsed")
        case errors.ProvisioningRefused():
            status, code = _STEPS[error.step]
            return Rejection(status, code, error.reason)
        case errors.ProvisioningFailed():
            return Rejection(400, "ProvisioningFailed", _failure(error, request_id))
        case errors.InvalidParameters():
            return Rejection(400, "InvalidParameters", str(error))
        case errors.InvalidSigningRequest():
            return Rejection(400, "InvalidCertificateSigningRequest", f"CSR violates constraints: {error}")
        case errors.Invalid():
            return Rejection(400, "InvalidRequest", str(error))
        case errors.LimitExceeded():
            # AWS has no such quota, so neither words for it: the control plane's LimitExceededException, as they name
            # errors here.
            return Rejection(410, "LimitExceeded", error.reason)
        case errors.Throttled():
            return Rejection(429, "Throttling", "Rate exceeded")
        case errors.Unavailable():
            return Rejection(503, "ServiceUnavailable", "The service is temporarily unavailable")
        case _:
            return Rejection(500, "InternalFailure", f"An internal failure occurred (Request ID: {request_id})")


def why(error: Exception) -> str:
    """For the audit trail."""
    if isinstance(error, Unreadable):
        return "the payload cannot be parsed"
    return str(error) if isinstance(error, errors.DomainError) else type(error).__name__


def _failure(failed: errors.ProvisioningFailed, request_id: str) -> str:
    """In the form of AWS's own. What a role lacks is the operator's business, and in the log."""
    status, code, message = 400, "ResourceRegistrationFailureException", failed.reason
    if isinstance(failed.cause, errors.Denied):
        status, code = 403, "AccessDeniedException"
        message = "The provisioning role is not authorized to perform an action of the template"
    return (
        f"Register thing workflow execution terminates due to: {message} "
        f"(Service: AWSIot; Status Code: {status}; Error Code: {code}; Request ID: {request_id}; Proxy: null)"
    )
