"""What can be wrong with a request, in the domain's own terms.

An error is raised once, where the rule lives, and carries facts as attributes. It knows no API: each API has one
table that turns these into its own codes, statuses and wording. Texts here are safe to show: they never quote what a
caller sent, nor what a parser said of it.
"""

from __future__ import annotations

from typing import Literal


class DomainError(Exception):
    """The root of all refusals that a caller can be told about."""


class Invalid(DomainError):
    """An input breaks a rule. ``field`` is the domain's name of it, ``reason`` a phrase that fits after it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}")
        self.field = field
        self.reason = reason


class InvalidCertificate(Invalid):
    """What was sent as a certificate is none that is taken."""


class UnverifiedCertificate(InvalidCertificate):
    """A certificate is good in itself, and not what it has to be to another. ``reason`` is the whole sentence."""

    def __str__(self) -> str:
        return self.reason


class WrongRegistrationCode(Invalid):
    """A verification certificate is not made for this account. ``reason`` is the whole sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__("verificationCertificate", reason)

    def __str__(self) -> str:
        return self.reason


class InvalidSigningRequest(Invalid):
    """What was sent as a certificate signing request is none that is taken."""


class MalformedPolicy(Invalid):
    """What was sent as a policy is no policy document. ``field`` is a path in it, such as ``Statement[0].Action``."""


class InvalidTemplate(Invalid):
    """What was sent as a provisioning template is none. ``flaw`` is worded as AWS words it where that is known."""

    def __init__(self, flaw: str) -> None:
        super().__init__("The template body", f"is invalid: {flaw}")
        self.flaw = flaw


class InvalidParameters(Invalid):
    """A template has no meaning with the parameters that were given. ``reason`` is the whole sentence."""

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
    """A ``kind`` with that ``id`` is there already, in this account and region.

    ``arn`` is its ARN if it has one, and ``reason`` says more where being there alone would be no reason.
    """

    def __init__(self, kind: str, id: str, *, arn: str | None = None, reason: str | None = None) -> None:
        super().__init__(reason or f"{kind} {id} already exists")
        self.kind = kind
        self.id = id
        self.arn = arn
        self.reason = reason


class Ambiguous(DomainError):
    """Several of a ``kind`` could be meant; ``reason`` says how to tell which."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class Conflict(DomainError):
    """``id`` is still in use by something that has to go first; ``reason`` says by what."""

    def __init__(self, kind: str, id: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.id = id
        self.reason = reason


class Disallowed(DomainError):
    """What there is besides ``id`` does not allow this: ``reason`` says what, and what would have to go first."""

    def __init__(self, kind: str, id: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.id = id
        self.reason = reason


class VersionConflict(DomainError):
    """The caller knows another version of ``id`` than the one that there is."""

    def __init__(self, kind: str, id: str, *, expected: int, version: int) -> None:
        super().__init__(f"{kind} {id} has version {version}, not {expected}")
        self.kind = kind
        self.id = id
        self.expected = expected
        self.version = version


class InvalidState(DomainError):
    """The status that ``id`` is in, or is asked to take, does not allow this."""

    def __init__(self, kind: str, id: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.id = id
        self.reason = reason


class Unauthenticated(DomainError):
    """Who is calling could not be established. ``flaw`` says what of the credentials is wrong, in kind.

    ``advice`` is for the operator's log: what to do if the caller is right.
    """

    Flaw = Literal["missing", "malformed", "unknown", "wrong", "expired"]

    def __init__(self, flaw: Flaw, message: str, advice: str | None = None) -> None:
        super().__init__(message)
        self.flaw = flaw
        self.message = message
        self.advice = advice


class Denied(DomainError):
    """The caller is known, and may not. ``principal`` is who asked (an ARN); ``explicit``: a policy forbids it."""

    def __init__(self, principal: str, action: str, resource: str, *, explicit: bool) -> None:
        super().__init__(f"{principal} is not authorized to perform {action} on {resource}")
        self.principal = principal
        self.action = action
        self.resource = resource
        self.explicit = explicit


class CrossAccountRole(Denied):
    """A role of another account than the caller's was to be handed over, which no policy can allow."""

    def __init__(self, role: str) -> None:
        super().__init__("The caller", "iam:PassRole", role, explicit=True)


class LimitExceeded(DomainError):
    """A ``kind`` holds as many as it may; ``reason`` says of what."""

    def __init__(self, kind: str, id: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.id = id
        self.reason = reason


class Throttled(DomainError):
    """Too much at once. ``retry_after`` is in seconds."""

    def __init__(self, reason: str, retry_after: float = 1.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class ProvisioningRefused(DomainError):
    """A device is not provisioned, and nothing was done. ``reason`` is in AWS's words where those are known.

    ``step`` is where it ended: at the key (the account has none made over MQTT), at the template, at the ownership
    token, or at the pre-provisioning hook, which said no, could not be asked, or gave no usable answer.
    """

    Step = Literal["key", "template", "token", "denied", "invocation", "result"]

    def __init__(self, step: Step, reason: str) -> None:
        super().__init__(reason)
        self.step = step
        self.reason = reason


class ProvisioningFailed(DomainError):
    """An effect of a template cannot be had, for ``cause``; the others were taken back."""

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
    """This server, as it is set up, cannot do it. The text says what to do instead."""


class Unavailable(DomainError):
    """The store or the broker cannot answer now.

    Whether a change took effect may be unknown; asking again is safe for reads.
    """
