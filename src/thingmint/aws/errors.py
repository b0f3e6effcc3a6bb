"""Domain errors as the AWS API returns them: code, message and, for one of them, further members."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thingmint.domain import errors
from thingmint.domain.arns import arn_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from thingmint.domain.arns import Scope


# Codes that every AWS service has, so no service model lists them. 501 is ours: SDKs do not retry it.
COMMON_STATUS: Mapping[str, int] = {
    "AccessDeniedException": 403,
    "ExpiredTokenException": 403,
    "IncompleteSignatureException": 403,
    "InternalFailureException": 500,
    "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403,
    "NotImplementedException": 501,
    "UnknownOperationException": 404,
    "UnrecognizedClientException": 403,
}

_FLAWS: Mapping[errors.Unauthenticated.Flaw, str] = {
    "missing": "MissingAuthenticationTokenException",
    "malformed": "IncompleteSignatureException",
    "unknown": "UnrecognizedClientException",
    "wrong": "InvalidSignatureException",
    "expired": "ExpiredTokenException",
}

# Invalid input that has a more specific code than InvalidRequestException.
_INVALID: Mapping[type[errors.Invalid], str] = {
    errors.InvalidCertificate: "CertificateValidationException",
    errors.InvalidQuery: "InvalidQueryException",
    errors.MalformedPolicy: "MalformedPolicyException",
    errors.UnverifiedCertificate: "CertificateValidationException",
    errors.WrongRegistrationCode: "RegistrationCodeValidationException",
}

# Errors that the caller cannot correct.
_UNSERVED: Mapping[type[errors.DomainError], str] = {
    errors.Failed: "InternalFailureException",
    errors.Throttled: "ThrottlingException",
    errors.Unavailable: "ServiceUnavailableException",
    errors.Unsupported: "NotImplementedException",
}

# Errors whose message is the reason alone.
_REASONED: Mapping[type[errors.DomainError], str] = {
    errors.Ambiguous: "CertificateConflictException",
    errors.Conflict: "DeleteConflictException",
    errors.Disallowed: "InvalidRequestException",
    errors.InvalidState: "CertificateStateException",
    errors.ProvisioningFailed: "ResourceRegistrationFailureException",
    errors.TransferCompleted: "TransferAlreadyCompletedException",
    errors.TransferConflict: "TransferConflictException",
}


# Kinds of resources whose limit has a more specific code than LimitExceededException.
_LIMITS: Mapping[str, str] = {
    "policy version": "VersionsLimitExceededException",
    "provisioning template version": "VersionsLimitExceededException",
}

# AWS's own wording by kind of resource, as far as we know it.
_NOT_FOUND: Mapping[str, Callable[[str], str]] = {
    "policy": lambda _: "Policy not found",
    "provisioning template": "Unable to find template named {}".format,
}


@dataclass(frozen=True, slots=True)
class AwsError:
    """``members`` are the members of the error's shape in the model, other than ``message``."""

    code: str
    message: str
    members: Mapping[str, str] = field(default_factory=dict)


def aws_error_of(error: errors.DomainError, scope: Scope | None) -> AwsError:
    message = str(error)
    match error:
        case errors.InvalidSigningRequest():
            return AwsError("InvalidRequestException", f"CSR violates constraints: {message}")
        case errors.MalformedPolicy():
            return AwsError(_INVALID[type(error)], f"Policy document is Malformed: {message}")
        case errors.InvalidCertificate() | errors.InvalidQuery() | errors.WrongRegistrationCode():
            return AwsError(_INVALID[type(error)], message)
        case errors.Invalid():
            return AwsError("InvalidRequestException", message)
        case errors.Unauthenticated():
            return AwsError(_FLAWS[error.flaw], message)
        case errors.CrossAccountRole():
            return AwsError("AccessDeniedException", "Cross-account pass role is not allowed.")  # in AWS's words
        case errors.Denied():
            return AwsError("AccessDeniedException", _denial(error))
        case errors.NotFound():
            text = _NOT_FOUND[error.kind](error.id) if error.kind in _NOT_FOUND else message
            return AwsError("ResourceNotFoundException", text)
        case errors.AlreadyExists():
            assert scope is not None, "callers are authenticated before anything is looked up"
            members = {"resourceId": error.id, "resourceArn": error.arn or arn_of(scope, error.id)}
            reason = error.reason or f"The {error.kind} already exists."
            return AwsError("ResourceAlreadyExistsException", reason, members)
        case errors.VersionConflict():
            return AwsError("VersionConflictException", message)
        case errors.LimitExceeded():
            return AwsError(_LIMITS.get(error.kind, "LimitExceededException"), error.reason)
        case (
            errors.Ambiguous()
            | errors.Conflict()
            | errors.Disallowed()
            | errors.InvalidState()
            | errors.ProvisioningFailed()
        ):
            return AwsError(_REASONED[type(error)], error.reason)
        case errors.Failed() | errors.Throttled() | errors.Unsupported() | errors.Unavailable():
            return AwsError(_UNSERVED[type(error)], message)
        case _:
            raise AssertionError(f"{type(error).__name__} is not mapped to an error of AWS")


def _denial(error: errors.Denied) -> str:
    refused = f"User: {error.principal} is not authorized to perform: {error.action} on resource: {error.resource}"
    if error.explicit:
        return f"{refused} with an explicit deny in an identity-based policy"
    return f"{refused} because no identity-based policy allows the {error.action} action"
