"""What the codes of AWS IoT mean, for the OpenAPI document. docs/errors.md also says what to do about each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MEANINGS: Final[Mapping[str, str]] = {
    "AccessDeniedException": "no policy allows the action to the caller, or a policy denies it",
    "CertificateConflictException": "several registered CA certificates could be the issuer; name one",
    "CertificateStateException": "the certificate's status does not allow this",
    "CertificateValidationException": "the PEM has no certificate, more than one, or one that is not accepted",
    "ConflictException": "another change of the resource is in progress, or the resource is in use",
    "ConflictingResourceUpdateException": "another call changes the resource at the same time",
    "DeleteConflictException": "the resource is in use; the message names by what",
    "ExpiredTokenException": "the temporary credentials have expired",
    "IncompleteSignatureException": "the Authorization header cannot be read, or the date is missing",
    "IndexNotReadyException": "the index is not complete yet",
    "InternalException": "the server failed; its log has the details",
    "InternalFailureException": "the server failed; its log has the details under the id in the message",
    "InternalServerException": "the server failed; its log has the details",
    "InvalidAggregationException": "the aggregation is not possible for this field",
    "InvalidQueryException": "the query breaks a rule of the query language",
    "InvalidRequestException": "the input breaks a rule, or the present state does not allow it",
    "InvalidResponseException": "the authorizer's answer cannot be read",
    "InvalidSignatureException": "the signature does not match, or the request's time is too far off",
    "InvalidStateTransitionException": "the job's status does not allow this",
    "LimitExceededException": "a quota or a fixed limit is reached",
    "MalformedPolicyException": "the policy document is not valid",
    "MissingAuthenticationTokenException": "the request is not signed",
    "NotConfiguredException": "this is not configured in the account",
    "NotImplementedException": "this server does not serve the operation",
    "RegistrationCodeValidationException": "the verification certificate has another registration code",
    "ResourceAlreadyExistsException": "the name or the certificate exists already",
    "ResourceNotFoundException": "the resource does not exist in this account and region",
    "ResourceRegistrationFailureException": "a resource of the template cannot be created or attached",
    "ServiceQuotaExceededException": "a quota is reached",
    "ServiceUnavailableException": "the store or the broker does not answer",
    "SqlParseException": "the SQL of the rule cannot be read",
    "TaskAlreadyExistsException": "a task with this id exists already",
    "ThrottlingException": "the account makes too many calls",
    "TransferAlreadyCompletedException": "the transfer was accepted, rejected or cancelled before",
    "TransferConflictException": "the certificate is in use, or the target account has it already",
    "UnauthorizedException": "the caller may not do this",
    "UnrecognizedClientException": "the access key or session token is unknown, disabled or deleted",
    "ValidationException": "the input breaks a rule",
    "VersionConflictException": "the expected version is not the present one",
    "VersionsLimitExceededException": "the policy or template has as many versions as it can have",
}
"""The meaning of each code that the document names."""
