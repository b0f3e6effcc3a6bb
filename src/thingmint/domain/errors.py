"""The errors that a request can end with, independent of any API.

The code that implements a rule raises the error, with the facts as attributes. Each API has one table that turns these
errors into its codes, statuses and texts. The texts here are safe to show to callers: they never quote the caller's
input or a parser's message.
"""

from __future__ import annotations

from typing import Literal


class DomainError(Exception):
    """Base class of all errors that are reported to callers."""


class Invalid(DomainError):
    """An input breaks a rule. ``field`` is its name in the domain; ``reason`` is a phrase that fits after the name."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}")
        self.field = field
        self.reason = reason


class InvalidCertificate(Invalid):
    """The input is not an acceptable certificate."""


class UnverifiedCertificate(InvalidCertificate):
    """The certificate is well formed, but the required CA did not sign it. ``reason`` is the whole sentence."""

    def __str__(self) -> str:
        return self.reason


class WrongRegistrationCode(Invalid):
    """The verification certificate was not made for this account. ``reason`` is the whole sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__("verificationCertificate", reason)

    def __str__(self) -> str:
        return self.reason


class InvalidSigningRequest(Invalid):
    """The input is not an acceptable certificate signing request."""


class MalformedPolicy(Invalid):
    """The input is not a valid policy document. ``field`` is a path in it, such as ``Statement[0].Action``."""


class InvalidQuery(Invalid):
    """The input is not a valid search query. ``place`` is the number of the character at fault, from 1."""

    def __init__(self, place: int, flaw: str) -> None:
        super().__init__("queryString", f"is invalid at character {place}: {flaw}")
        self.place = place


class InvalidTemplate(Invalid):
    """The input is not a valid provisioning template. ``flaw`` uses AWS's words where they are known."""

    def __init__(self, flaw: str) -> None:
        super().__init__("The template body", f"is invalid: {flaw}")
        self.flaw = flaw


class InvalidParameters(Invalid):
    """A template cannot be resolved with the given parameters. ``reason`` is the whole sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__("parameters", reason)

    def __str__(self) -> str:
        return self.reason


class NotFound(DomainError):
    """No ``kind`` with that ``id`` is visible to this account and region."""

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(f"{kind} {id} does not exist")
        self.kind = kind
        self.id = id


class AlreadyExists(DomainError):
    """A ``kind`` with that ``id`` already exists in this account and region.

    ``arn`` is its ARN, if it has one. ``reason`` explains the refusal if existing alone does not.
    """

    def __init__(self, kind: str, id: str, *, arn: str | None = None, reason: str | None = None) -> None:
        super().__init__(reason or f"{kind} {id} already exists")
        self.kind = kind
        self.id = id
        self.arn = arn
        self.reason = reason


class Ambiguous(DomainError):
    """The request matches several of a ``kind``; ``reason`` says how to select one of them."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class Conflict(DomainError):
    """``id`` is still in use; ``reason`` says by what, and that must be removed first."""

    def __init__(self, kind: str, id: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.id = id
        self.reason = reason


class TransferConflict(Conflict):
    """A certificate cannot be transferred; ``reason`` says what uses it, or that the target account has it."""


class Disallowed(DomainError):
    """Another resource than ``id`` prevents this; ``reason`` says which, and what must be removed first."""

    def __init__(self, kind: str, id: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.id = id
        self.reason = reason


class VersionConflict(DomainError):
    """The caller expects another version of ``id`` than the current one."""

    def __init__(self, kind: str, id: str, *, expected: int, version: int) -> None:
        super().__init__(f"{kind} {id} has version {version}, not {expected}")
        self.kind = kind
        self.id = id
        self.expected = expected
        self.version = version


class InvalidState(DomainError):
    """The current or the requested status of ``id`` does not allow this."""

    def __init__(self, kind: str, id: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.id = id
        self.reason = reason


class TransferCompleted(InvalidState):
    """The transfer of a certificate was accepted, rejected or cancelled."""


class Unauthenticated(DomainError):
    """The caller could not be authenticated. ``flaw`` is the kind of fault in the credentials.

    ``advice`` is for the operator's log: what to do if the caller should have access.
    """

    Flaw = Literal["missing", "malformed", "unknown", "wrong", "expired"]

    def __init__(self, flaw: Flaw, message: str, advice: str | None = None) -> None:
        super().__init__(message)
        self.flaw = flaw
        self.message = message
        self.advice = advice


class Denied(DomainError):
    """The caller is authenticated but not authorized.

    ``principal`` is the caller's ARN. ``explicit`` is true if a policy forbids the action.
    """

    def __init__(self, principal: str, action: str, resource: str, *, explicit: bool) -> None:
        super().__init__(f"{principal} is not authorized to perform {action} on {resource}")
        self.principal = principal
        self.action = action
        self.resource = resource
        self.explicit = explicit


class CrossAccountRole(Denied):
    """The caller passes a role of another account, which no policy can allow."""

    def __init__(self, role: str) -> None:
        super().__init__("The caller", "iam:PassRole", role, explicit=True)


class TopicDenied(Denied):
    """A device, registry or broker of Yandex IoT Core may not publish to the topic, whatever the caller may do."""

    def __init__(self, owner: str, why: str) -> None:
        super().__init__(owner, "publish", "the topic", explicit=True)
        self.args = (f"{owner} may not publish to the topic: {why}",)


class LimitExceeded(DomainError):
    """A quota of the ``kind`` is used up; ``reason`` says which."""

    def __init__(self, kind: str, id: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.id = id
        self.reason = reason


class Throttled(DomainError):
    """Too many requests. ``retry_after`` is in seconds."""

    def __init__(self, reason: str, retry_after: float = 1.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class ProvisioningRefused(DomainError):
    """A device is not provisioned, and nothing was changed. ``reason`` uses AWS's words where they are known.

    ``step`` is the step that failed: ``key`` (the account does not allow keys to be made over MQTT), ``template``,
    ``token`` (the ownership token), or the pre-provisioning hook: it refused the device (``denied``), could not be
    called (``invocation``), or gave no usable answer (``result``).
    """

    Step = Literal["key", "template", "token", "denied", "invocation", "result"]

    def __init__(self, step: Step, reason: str) -> None:
        super().__init__(reason)
        self.step = step
        self.reason = reason


class ProvisioningFailed(DomainError):
    """A change that a template asks for failed because of ``cause``; its other changes were rolled back."""

    def __init__(self, cause: DomainError) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.reason = str(cause)
        match cause:
            case NotFound(kind="policy"):
                self.reason = "Policy default version not found"  # in AWS's words
            case Conflict() | Disallowed() | InvalidState() | LimitExceeded():
                self.reason = cause.reason


class Unsupported(DomainError):
    """This server's configuration does not support the operation. The text says what to do instead."""


class Unavailable(DomainError):
    """The store or the broker cannot answer now.

    A change may have taken effect or not. Reads can be retried safely.
    """


class Failed(DomainError):
    """The server failed, by a defect. ``request`` is the id under which its log has the details."""

    def __init__(self, request: str) -> None:
        super().__init__(f"The server failed to answer; its log has the details under {request}")
        self.request = request
