"""How the AWS API words the domain's errors: code and message, and the few that carry more."""

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

# What is invalid in a way that has a code of its own.
_INVALID: Mapping[type[errors.Invalid], str] = {
    errors.InvalidCertificate: "CertificateValidationException",
    errors.MalformedPolicy: "MalformedPolicyException",
    errors.UnverifiedCertificate: "CertificateValidationException",
    errors.WrongRegistrationCode: "RegistrationCodeValidationException",
}

# What the caller could do nothing about.
_UNSERVED: Mapping[type[errors.DomainError], str] = {
    errors.Throttled: "ThrottlingException",
    errors.Unavailable: "ServiceUnavailableException",
    errors.Unsupported: "NotImplementedException",
}

# Those whose reason is the whole message.
_REASONED: Mapping[type[errors.DomainError], str] = {
    errors.Ambiguous: "CertificateConflictException",
    errors.Conflict: "DeleteConflictException",
    errors.Disallowed: "InvalidRequestException",
    errors.InvalidState: "CertificateStateException",
    errors.ProvisioningFailed: "ResourceRegistrationFailureException",
}


# Kinds of which too many is a code of its own.
_LIMITS: Mapping[str, str] = {
    "policy version": "VersionsLimitExceededException",
    "provisioning template version": "VersionsLimitExceededException",
}

# AWS's own wording, by kind, where it is known.
_NOT_FOUND: Mapping[str, Callable[[str], str]] = {
    "policy": lambda _: "Policy not found",
    "provisioning template": "Unable to find template named {}".format,
}


@dataclass(frozen=True, slots=True)
class AwsError:
    """``members`` are what the code's shape in the model has besides its message."""

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
        case errors.InvalidCertificate() | errors.WrongRegistrationCode():
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
            assert scope is not None, "only a caller who is known can meet what exists"
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
        case errors.Throttled() | errors.Unsupported() | errors.Unavailable():
            return AwsError(_UNSERVED[type(error)], message)
        case _:
            raise AssertionError(f"{type(error).__name__} has no place in the table")


def _denial(error: errors.Denied) -> str:
    refused = f"User: {error.principal} is not authorized to perform: {error.action} on resource: {error.resource}"
    if error.explicit:
        return f"{refused} with an explicit deny in an identity-based policy"
    return f"{refused} because no identity-based policy allows the {error.action} action"
